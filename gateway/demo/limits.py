"""What nobody gets: another partner's things, a member who withdrew, more than a token says, or anything without."""

from gateway.demo.club import HARD_PERK, PARTNER, STRANGER, USUAL_PERK
from gateway.demo.steps import CHECK, CONFIRM, DECISION, REDEMPTION, REVERSAL, REVERSE
from gateway.demo.walk import Step, Voice, Walk

UNKNOWN_ALIAS = "a" * 26


def another_partner_asks(walk: Walk) -> None:
    """Another partner asks for the first one's member, perk, hold and redemption, and finds nothing"""
    walk.voice(STRANGER)
    own = next(member.aliases[STRANGER] for member in walk.handout.members if STRANGER in member.aliases)
    alias, redemption = walk.found["alias"], walk.found["redemption"]["id"]
    perk = next(perk.id for perk in walk.handout.perks if perk.handle == USUAL_PERK)
    nothing = {
        "the member, by the first partner's alias": (
            "member(by: {alias: $alias}) { tier { handle } }",
            {"alias": alias},
        ),
        "the member, by id": ("node(id: $id) { id }", {"id": f"alias_{alias}"}),
        "the perk, by handle": ("perk(by: {handle: $perk}) { title }", {"perk": USUAL_PERK}),
        "the perk, by id": ("perk(by: {id: $id}) { title }", {"id": perk}),
        "the hold": ("node(id: $id) { id }", {"id": walk.found["second"]["id"]}),
        "the redemption": ("redemption(id: $id) { confirmedAt }", {"id": redemption}),
        "the redemption, as a node": ("node(id: $id) { id }", {"id": redemption}),
    }
    for what, (fields, values) in nothing.items():
        reply = walk.ask(STRANGER, fields, **values)
        walk.expect(f"{what}: null", reply.body == {"data": {fields.partition("(")[0]: None}})
    reply = walk.ask(STRANGER, CHECK + DECISION + " }", alias=alias, perk="wayfarer/airport-lounge")
    walk.expect("of whom it knows nothing", reply.refusals == ["NOT_A_MEMBER"])
    reply = walk.ask(STRANGER, CHECK + DECISION + " }", alias=own, perk=USUAL_PERK)
    walk.expect("a perk that is not there for it", reply.codes == ["NOT_FOUND"])


def another_partner_pages(walk: Walk) -> None:
    """Another partner goes on from the first one's cursor, or filters by its perk, and sees its own things only"""
    perk = next(perk.id for perk in walk.handout.perks if perk.handle == USUAL_PERK)
    pages = "pageInfo { endCursor } nodes { perk { handle } }"
    cursor = walk.ask(PARTNER, f"redemptions(first: 1) {{ {pages} }}").value["pageInfo"]["endCursor"]
    nodes = walk.ask(STRANGER, f"redemptions(after: $cursor) {{ {pages} }}", cursor=cursor).value["nodes"]
    walk.expect("redemptions: its own", all(node["perk"]["handle"].startswith(f"{STRANGER}/") for node in nodes))
    nodes = walk.ask(STRANGER, f"redemptions(filter: {{perk: $perk}}) {{ {pages} }}", perk=perk).value["nodes"]
    walk.expect("redemptions of the other's perk: none", nodes == [])
    pages = "pageInfo { endCursor } nodes { handle }"
    cursor = walk.ask(PARTNER, f"perks(first: 1) {{ {pages} }}").value["pageInfo"]["endCursor"]
    nodes = walk.ask(STRANGER, f"perks(after: $cursor) {{ {pages} }}", cursor=cursor).value["nodes"]
    walk.expect("perks: its own", all(node["handle"].startswith(f"{STRANGER}/") for node in nodes))


def another_partner_acts(walk: Walk) -> None:
    """Another partner tries to confirm, release, reverse and change what is not its own"""
    hold, run = walk.found["second"], walk.found["run"]
    reply = walk.do(STRANGER, CONFIRM + REDEMPTION, code=hold["code"], key=f"{run}-theft")
    walk.expect("confirm by code: not available", reply.refusals == ["NOT_AVAILABLE"])
    by_id = CONFIRM.replace("code: $code", "id: $id")
    reply = walk.do(STRANGER, by_id + REDEMPTION, id=hold["id"], key=f"{run}-theft")
    walk.expect("confirm by id: not available", reply.refusals == ["NOT_AVAILABLE"])
    reply = walk.do(STRANGER, "releaseHold(input: {hold: $hold}) { userErrors { code } }", hold=hold["id"])
    walk.expect("release: not available", reply.refusals == ["NOT_AVAILABLE"])
    reply = walk.do(STRANGER, REVERSE + REVERSAL, redemption=walk.found["redemption"]["id"], key=f"{run}-theft")
    walk.expect("reverse: not available", reply.refusals == ["NOT_AVAILABLE"])
    reply = walk.do(STRANGER, "pausePerk(input: {perk: {handle: $perk}}) { perk { state } }", perk=HARD_PERK)
    walk.expect("pause: not found", reply.codes == ["NOT_FOUND"])


def a_member_withdraws(walk: Walk) -> None:
    """The member withdraws consent: to the partner it is as if there were no such member; then gives it again"""
    alias = walk.found["alias"]
    fields = (
        "member(by: {alias: $alias}) { alias tier { handle } } node(id: $node) { id } "
        + CHECK
        + DECISION
        + " validUntil capacityRemaining allowance { remaining } policyVersion }"
    )

    def asked_for(name: str) -> dict[str, object]:
        return walk.ask(PARTNER, fields, alias=name, node=f"alias_{name}", perk=USUAL_PERK).body

    before = asked_for(alias)
    state = walk.do(
        "member", "withdrawConsent(input: {partner: {handle: $partner}}) { consent { state } }", partner=PARTNER
    )
    walk.expect("withdrawn", state.value["consent"]["state"] == "WITHDRAWN")
    after, stranger = asked_for(alias), asked_for(UNKNOWN_ALIAS)
    walk.expect("null, and NOT_A_MEMBER", '"NOT_A_MEMBER"' in str(after).replace("'", '"') and after != before)
    walk.expect("just what is said of somebody who never was", after == stranger)
    reply = walk.ask(PARTNER, "redemption(id: $id) { member { alias } }", id=walk.found["redemption"]["id"])
    walk.expect("the redemption stays, its member is not shown", reply.value == {"member": None})
    walk.do("member", "grantConsent(input: {partner: {handle: $partner}}) { consent { state } }", partner=PARTNER)
    walk.expect("given again, all is as before", asked_for(alias) == before)


def a_token_with_little_scope(walk: Walk) -> None:
    """A client with one scope is told of all that it lacks, and a partner is told that the log is not for it"""
    walk.voice(PARTNER, "perks:read")
    fields = "member(by: {alias: $alias}) { tier { handle } } " + CHECK + "eligible }"
    reply = walk.ask("a weak client", fields, alias=walk.found["alias"], perk=USUAL_PERK)
    missing = [error["extensions"]["missingScopes"] for error in reply.body["errors"]]
    walk.expect("403", reply.status == 403 and {*reply.codes} == {"INSUFFICIENT_SCOPE"})
    walk.expect("all missing scopes at once", all(one == ["eligibility:read", "member.tier:read"] for one in missing))
    reply = walk.ask(PARTNER, "auditEntries { nodes { action } }")
    walk.expect("forbidden, whatever the scopes", (reply.status, reply.codes) == (403, ["FORBIDDEN"]))


def tokens_that_do_not_hold(walk: Walk) -> None:
    """A token that is over, garbled or not one, no token, and a wrong secret"""
    good, client = walk.handout.tokens.member, walk.handout.client(PARTNER)
    head, body, signature = good.split(".")
    wrong = {
        "an expired token": walk.handout.tokens.expired,
        "a garbled token": f"{head}.{body}.{signature[:-8]}{signature[-8:].swapcase()}",
        "no token at all": "garbage",
    }
    for name, token in wrong.items():
        walk.voices[name] = Voice(name, token)
        reply = walk.ask(name, "viewer { kind }")
        walk.expect(f"{name}: 401", (reply.status, reply.codes) == (401, ["UNAUTHENTICATED"]))
    reply = walk.ask("nobody", "viewer { kind scopes }")
    walk.expect("without a header: anonymous, without a right", reply.value == {"kind": "ANONYMOUS", "scopes": []})
    reply = walk.ask("nobody", "perks { nodes { handle } }")
    walk.expect("and nothing to see", (reply.status, reply.codes) == (401, ["UNAUTHENTICATED"]))
    refused = walk.api.token(client.id, "not the secret", None)
    walk.show("somebody: POST /oauth/token with a wrong secret", refused)
    walk.expect("no token", (refused.status, refused.body["error"]) == (401, "invalid_client"))


def two_partners_compare(walk: Walk) -> None:
    """Two partners put together all the names they have for members"""
    known = [member.aliases for member in walk.handout.members]
    names = [alias for aliases in known for alias in aliases.values()]
    walk.say(f"    {len(names):,} aliases of {len(known):,} members, as {', '.join(sorted(known[0]))} know the first:")
    walk.say(f"    → {' · '.join(known[0][partner] for partner in sorted(known[0]))}")
    walk.expect("no two are alike", len(set(names)) == len(names))


ABUSE: tuple[Step, ...] = (another_partner_asks, another_partner_pages, another_partner_acts)
AFTERWARDS: tuple[Step, ...] = (
    a_member_withdraws,
    two_partners_compare,
    a_token_with_little_scope,
    tokens_that_do_not_hold,
)
