"""The demo's requests as a person would paste them into a terminal: one after the other, in sh or bash."""

import json
import shlex
from collections.abc import Iterator

from gateway.demo.club import HARD_PERK, PARTNER, USUAL_PERK
from gateway.demo.handout import Handout
from partners.tables.columns import new_id

CODE = "code of the hold"  # where the shell puts what the claim has answered
FIELD = """sed 's/.*"{}":"\\([^"]*\\)".*/\\1/'"""


def script(handout: Handout) -> Iterator[str]:
    """Comments and commands, which make a whole script; no comment has a sign that a shell would take for more."""
    key = f"demo-{new_id().hex[-8:]}"
    yield f"URL={handout.base_url}"
    yield "# 1. The partner: the car club gets a token for its client, good for ten minutes"
    yield from partner_asks(handout)
    yield "# 2. The member: a token as the member app has one, but for 12 hours, and the catalogue with what is locked"
    yield from member_claims(handout, key)
    yield "# 3. The partner again: confirms by the code that the member shows"
    yield from partner_confirms(key)
    yield "# 4. Staff: a token as after signing in, but for 12 hours, and what was recorded of this member"
    yield from staff_audit(handout)


def partner_asks(handout: Handout) -> Iterator[str]:
    """A token, a tier, and two questions of eligibility."""
    client, member = handout.client(PARTNER), handout.member_named(handout.member)
    alias, other = member.aliases[PARTNER], handout.newcomer.aliases[PARTNER]
    yield (
        f"PARTNER=$(curl -sS $URL/oauth/token -u {client.id}:{client.secret}"
        f" -d grant_type=client_credentials | {FIELD.format('access_token')})"
    )
    yield f"# ... asks of what tier a member is, {member.external_id} to the platform"
    yield ask(
        "PARTNER",
        "query($member: MemberBy!) { member(by: $member) { alias state tier { name rank } tierSince } }",
        {"member": {"alias": alias}},
    )
    yield "# ... and whether two members may have two perks: a yes, and a no with every reason"
    yield ask(
        "PARTNER",
        "query($checks: [EligibilityCheckInput!]!) { eligibilities(checks: $checks) { decision { eligible"
        " refusals { code required current } eligibleAgainAt allowance { remaining resetsAt } } } }",
        {
            "checks": [
                {"member": {"alias": alias}, "perk": {"handle": USUAL_PERK}},
                {"member": {"alias": other}, "perk": {"handle": HARD_PERK}},
            ]
        },
    )


def member_claims(handout: Handout, key: str) -> Iterator[str]:
    """The catalogue and a claim, whose answer is kept for the code in it."""
    yield f"MEMBER={handout.tokens.member}"
    yield ask(
        "MEMBER", "{ perks(first: 20) { nodes { handle title closesOn eligibility { eligible refusals { code } } } } }"
    )
    yield "# ... claims one and gets a code to show; paste it again and the same hold is answered, replayed"
    claim = ask(
        "MEMBER",
        "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { replayed hold { code expiresAt leafHash }"
        " userErrors { code message } } }",
        {"input": {"perk": {"handle": USUAL_PERK}, "idempotencyKey": key}},
    )
    yield f"HELD=$({claim}) && printf '%s\\n' \"$HELD\""


def partner_confirms(key: str) -> Iterator[str]:
    """The code, and what comes of it."""
    yield f"CODE=$(printf '%s\\n' \"$HELD\" | {FIELD.format('code')})"
    yield ask(
        "PARTNER",
        "mutation($input: ConfirmHoldInput!) { confirmHold(input: $input) { replayed redemption { id confirmedAt"
        " tier member { alias } } userErrors { code message } } }",
        {"input": {"hold": {"code": CODE}, "idempotencyKey": key}},
    )


def staff_audit(handout: Handout) -> Iterator[str]:
    """The last entries about the member."""
    yield f"STAFF={handout.tokens.staff}"
    yield ask(
        "STAFF",
        "query($filter: AuditFilter) { auditEntries(filter: $filter, first: 5) { nodes { at action outcome reasons"
        " actorKind leafHash } } }",
        {"filter": {"member": handout.member_named(handout.member).id}},
    )


def ask(token: str, query: str, variables: dict[str, object] | None = None) -> str:
    """One request to the GraphQL endpoint with the token of a shell variable."""
    parts = {"query": query} | ({"variables": variables} if variables else {})
    body = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(part, ensure_ascii=False)}" for name, part in parts.items())
    return (
        f"curl -sS $URL/graphql -w '\\n' -H \"Authorization: Bearer ${token}\" -H 'Content-Type: application/json' -d "
        + shlex.quote(f"{{\n  {body}}}").replace(CODE, "'\"$CODE\"'")
    )
