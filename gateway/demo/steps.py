"""The three users' way, step by step: what a partner, a member and staff do on a good day, and what they are told."""

from gateway.demo.club import HARD_PERK, PARTNER, USUAL_PERK
from gateway.demo.evidence import a_partner_is_told, a_partner_proves_a_redemption, a_partner_wants_to_be_told
from gateway.demo.walk import NOBODY, Step, Voice, Walk
from partners.tables.columns import new_id

OTHER_PERK, PARTY_PERK = "silverline/paddock-lounge", "silverline/winter-gala"
CLAIM = "claimPerk(input: {perk: {handle: $perk}, idempotencyKey: $key}) { "
HOLD = "replayed hold { id code state expiresAt leafHash } userErrors { code message } }"
CONFIRM = "confirmHold(input: {hold: {code: $code}, idempotencyKey: $key}) { "
RELEASE = "releaseHold(input: {hold: $hold}) { hold { state endedAt } userErrors { code } }"
PARTY = "claimPerk(input: {perk: {handle: $perk}, details: {units: $units, option: $option}, idempotencyKey: $key}) { "
HELD = "hold { id units option expiresAt } userErrors { code message } }"
REDEMPTION = "replayed redemption { id tier confirmedAt leafHash member { alias } } userErrors { code } }"
REVERSE = 'reverseRedemption(input: {redemption: $redemption, reason: "never came", idempotencyKey: $key}) { '
REVERSAL = "reversal { reason borneBy stock leafHash } userErrors { code message } }"
CHECK = "eligibility(member: {alias: $alias}, perk: {handle: $perk}) { "
DECISION = "eligible refusals { code required current } eligibleAgainAt"


def a_partner_gets_a_token(walk: Walk) -> None:
    """The partner's server gets an access token with its client id and secret"""
    member = walk.handout.member_named(walk.handout.member)
    walk.found |= {"alias": member.aliases[PARTNER], "member": member.id, "run": f"walk-{new_id().hex[-8:]}"}
    walk.voices |= {
        "member": Voice("member", walk.handout.tokens.member),
        "staff": Voice("staff", walk.handout.tokens.staff),
        "nobody": NOBODY,
    }
    reply = walk.voice(PARTNER)
    walk.expect(
        "a bearer token for ten minutes", (reply.body["token_type"], reply.body["expires_in"]) == ("Bearer", 600)
    )
    walk.expect(
        "with every scope of the client", reply.body["scope"].split() == sorted(walk.handout.client(PARTNER).scopes)
    )


def it_asks_who_it_is(walk: Walk) -> None:
    """The partner asks whom its token speaks for"""
    viewer = walk.ask(PARTNER, "viewer { kind partner { handle name } expiresAt limits { checks page } }").value
    walk.expect("a partner, by its handle", (viewer["kind"], viewer["partner"]["handle"]) == ("PARTNER", PARTNER))


def it_asks_for_a_tier(walk: Walk) -> None:
    """The partner asks of what tier a member is"""
    alias = walk.found["alias"]
    member = walk.ask(
        PARTNER, "member(by: {alias: $alias}) { id alias state tier { handle name rank } tierSince }", alias=alias
    ).value
    walk.expect("an active gold member", (member["state"], member["tier"]["handle"]) == ("ACTIVE", "gold"))
    walk.expect("known by the partner's own name for it alone", member["id"] == f"alias_{alias}")


def it_checks_eligibility(walk: Walk) -> None:
    """The partner asks whether two members may have two perks: yes, and no with every reason"""
    other = walk.handout.newcomer.aliases[PARTNER]
    reply = walk.ask(
        PARTNER, CHECK + DECISION + " allowance { limit used remaining } }", alias=walk.found["alias"], perk=USUAL_PERK
    )
    walk.found["remaining"] = reply.value["allowance"]["remaining"]
    walk.expect("yes, and how often still", reply.value["eligible"] and walk.found["remaining"] >= 2)
    reply = walk.ask(PARTNER, CHECK + DECISION + " }", alias=other, perk=HARD_PERK)
    walk.expect(
        "no, and every reason at once",
        not reply.value["eligible"] and {"TIER_TOO_LOW", "ALLOWANCE_EXHAUSTED"} <= {*reply.refusals},
    )


def a_member_sees_the_catalogue(walk: Walk) -> None:
    """The member sees every perk, and of each whether it is open, or why not"""
    reply = walk.ask("member", "perks(first: 50) { nodes { handle kind eligibility { eligible refusals { code } } } }")
    perks = reply.value["nodes"]
    for perk in perks:
        codes = ", ".join(refusal["code"] for refusal in perk["eligibility"]["refusals"])
        walk.say(f"      {perk['handle']:<34}{perk['kind']:<9}{f'no: {codes}' if codes else 'yes'}")
    reasons = {refusal["code"] for perk in perks for refusal in perk["eligibility"]["refusals"]}
    walk.expect("perks of all five kinds", len({perk["kind"] for perk in perks}) == 5)
    walk.expect("some are open", any(perk["eligibility"]["eligible"] for perk in perks))
    expected = {"CAPACITY_EXHAUSTED", "PERK_PAUSED", "NOT_STARTED", "ENDED", "CONSENT_MISSING", "TIER_TOO_LOW"}
    walk.expect(
        "others are sold out, paused, to come, over, unseen by their partner, or for higher tiers", reasons >= expected
    )


def a_member_claims(walk: Walk) -> None:
    """The member claims a perk; the same key gets the same hold, and a key can't be used for something else"""
    key = f"{walk.found['run']}-claim"
    reply = walk.do("member", CLAIM + HOLD, perk=USUAL_PERK, key=key)
    hold = walk.found["hold"] = reply.value["hold"]
    walk.expect("held, with a code to show", hold["state"] == "HELD" and len(hold["code"]) == 17)
    again = walk.do("member", CLAIM + HOLD, perk=USUAL_PERK, key=key).value
    walk.expect("the same key: the same hold, replayed", again["replayed"] and again["hold"] == hold)
    reply = walk.do("member", CLAIM + HOLD, perk=OTHER_PERK, key=key)
    walk.expect("the same key for another perk: refused", reply.codes == ["IDEMPOTENCY_KEY_REUSED"])
    reply = walk.do("member", CLAIM + HOLD, perk="silverline/prototype-drive", key=f"{walk.found['run']}-no")
    walk.expect("a claim that may not be: every reason", {*reply.refusals} == {"TIER_TOO_LOW", "CAPACITY_EXHAUSTED"})


def a_partner_claims(walk: Walk) -> None:
    """The partner claims for the member, by its own name for it"""
    key = f"{walk.found['run']}-desk"
    fields = CLAIM.replace("perk:", "member: {alias: $alias}, perk:", 1) + HOLD
    reply = walk.do(PARTNER, fields, alias=walk.found["alias"], perk=USUAL_PERK, key=key)
    walk.found["second"] = reply.value["hold"]
    reply = walk.ask(PARTNER, CHECK + "allowance { remaining } }", alias=walk.found["alias"], perk=USUAL_PERK)
    left = reply.value["allowance"]["remaining"]
    walk.expect("held, and the allowance counts both holds", left == walk.found["remaining"] - 2)


def a_partner_confirms(walk: Walk) -> None:
    """The member shows the code and the partner confirms; once is all it ever counts"""
    key, code = f"{walk.found['run']}-confirm", walk.found["hold"]["code"]
    redemption = walk.do(PARTNER, CONFIRM + REDEMPTION, code=code, key=key).value["redemption"]
    walk.found["redemption"] = redemption
    walk.expect("redeemed, by the member the partner knows", redemption["member"]["alias"] == walk.found["alias"])
    again = walk.do(PARTNER, CONFIRM + REDEMPTION, code=code, key=key).value
    walk.expect("the same key: the same redemption, replayed", again["replayed"] and again["redemption"] == redemption)
    reply = walk.do(PARTNER, CONFIRM + REDEMPTION, code=walk.found["second"]["code"], key=key)
    walk.expect("the same key for another hold: refused", reply.codes == ["IDEMPOTENCY_KEY_REUSED"])
    reply = walk.do(PARTNER, CONFIRM + REDEMPTION, code=code, key=f"{key}-2")
    walk.expect("the same code with a new key: not available any more", reply.refusals == ["NOT_AVAILABLE"])
    reply = walk.do(PARTNER, CONFIRM + REDEMPTION, code="0000-0000-0000-00", key=f"{key}-3")
    walk.expect("a code that never was: the same answer", reply.refusals == ["NOT_AVAILABLE"])


def a_member_takes_a_party(walk: Walk) -> None:
    """The member sees evenings with places kept for higher tiers, and takes two places of one, all or nothing"""
    run = walk.found["run"]
    fields = "perk(by: {handle: $perk}) { options { handle startsAt capacity capacityRemaining } }"
    options = walk.ask("member", fields, perk=PARTY_PERK).value["options"]
    kept = [one["capacity"] - one["capacityRemaining"] for one in options]
    walk.expect("two, and of each four places are out of a gold member's reach", len(kept) == 2 and min(kept) >= 4)
    evening = options[0]["handle"]
    reply = walk.do("member", PARTY + HELD, perk=PARTY_PERK, units=2, option=evening, key=f"{run}-party")
    hold = reply.value["hold"]
    walk.expect("both places are held", (hold["units"], hold["option"]) == (2, evening))
    reply = walk.do("member", PARTY + HELD, perk=PARTY_PERK, units=5, option=evening, key=f"{run}-crowd")
    walk.expect("a party that is too large: none at all", "UNITS_NOT_ALLOWED" in reply.refusals)
    reply = walk.do(
        "member", "releaseHold(input: {hold: $hold}) { hold { state } userErrors { code } }", hold=hold["id"]
    )
    walk.expect("given back", reply.value["hold"]["state"] == "RELEASED")


def a_partner_gives_back(walk: Walk) -> None:
    """The partner releases the one hold and reverses the other's redemption"""
    run, redemption = walk.found["run"], walk.found["redemption"]["id"]
    reply = walk.do(PARTNER, RELEASE, hold=walk.found["second"]["id"])
    walk.expect("released", reply.value["hold"]["state"] == "RELEASED")
    reply = walk.do(PARTNER, REVERSE + REVERSAL, redemption=redemption, key=f"{run}-back")
    walk.expect("reversed, with who bears it", reply.value["reversal"]["borneBy"] == "PARTNER")
    reply = walk.do(PARTNER, REVERSE + REVERSAL, redemption=redemption, key=f"{run}-back-2")
    walk.expect("a second time: refused", reply.refusals == ["ALREADY_REVERSED"])
    reply = walk.ask(PARTNER, CHECK + "allowance { remaining } }", alias=walk.found["alias"], perk=USUAL_PERK)
    walk.expect("the allowance is whole again", reply.value["allowance"]["remaining"] == walk.found["remaining"])


def staff_audit(walk: Walk) -> None:
    """Staff look up what was recorded"""
    fields = (
        "auditEntries(filter: {member: $member}, first: 20) { nodes { action outcome reasons actorKind leafHash } }"
    )
    entries = walk.ask("staff", fields, member=walk.found["member"]).value["nodes"]
    told = {(entry["action"], entry["outcome"]) for entry in entries}
    done = ("perk.claimed", "hold.confirmed", "hold.released", "redemption.reversed", "consent.withdrawn")
    walk.expect("every change of this walk", told >= {(action, "DONE") for action in done})
    walk.expect("what was refused, too", ("perk.claimed", "REFUSED") in told)
    leaves = {entry["leafHash"] for entry in entries}
    shown = {walk.found["hold"]["leafHash"], walk.found["redemption"]["leafHash"]}
    walk.expect("under the leaves that member and partner were given", leaves >= shown)


GOOD_DAY: tuple[Step, ...] = (
    a_partner_gets_a_token,
    it_asks_who_it_is,
    it_asks_for_a_tier,
    it_checks_eligibility,
    a_member_sees_the_catalogue,
    a_partner_wants_to_be_told,
    a_member_claims,
    a_partner_claims,
    a_partner_confirms,
    a_partner_is_told,
    a_partner_proves_a_redemption,
    a_member_takes_a_party,
)
