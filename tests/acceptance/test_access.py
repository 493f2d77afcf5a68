"""Standing rights from end to end: granted, shown at a counter, used up, taken away, and read by who may."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from partners import tables
from partners.tables import PerkKind
from tests.api import Api, Voice
from tests.factories import Club

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
READ = """
query($filter: AccessFilter, $first: Int, $after: String) {
  accessGrants(filter: $filter, first: $first, after: $after) {
    totalCount nodes { id state tier member { alias } perk { handle } remaining } pageInfo { endCursor hasNextPage }
  }
}
"""
LIST = READ.replace(" tier member { alias }", "")
DOCUMENT = (OPERATIONS / "ListAccessGrants.graphql").read_text()


async def access_perk(club: Club, **settings: Any) -> tables.Perk:
    return await club.perk(kind=PerkKind.ACCESS, settings=settings, units=5)


def owner(api: Api, club: Club, perk: tables.Perk, *scopes: str) -> Voice:
    return api.partner(club.partners[perk.partner_id], *scopes)


async def do(voice: Voice, operation: str, **given: Any) -> dict[str, Any]:
    """The payload of a mutation, by its example document."""
    field = operation[0].lower() + operation[1:]
    found: dict[str, Any] = (await voice((OPERATIONS / f"{operation}.graphql").read_text(), input=given)).data[field]
    return found


async def grant(voice: Voice, perk: tables.Perk, key: str | None = None, **given: Any) -> dict[str, Any]:
    return await do(voice, "GrantAccess", perk={"handle": perk.handle}, idempotencyKey=key or uuid4().hex, **given)


async def use(voice: Voice, key: str | None = None, **by: str) -> dict[str, Any]:
    return await do(voice, "UseAccess", access=by, idempotencyKey=key or uuid4().hex)


async def listed(voice: Voice, query: str = DOCUMENT, **given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await voice(query, **given)).data["accessGrants"]["nodes"]
    return found


async def test_a_partner_grants_a_right_and_its_till_uses_it_up(api: Api, club: Club) -> None:
    perk = await access_perk(club, term_days=30, uses=2)
    alias = await club.consent(await club.member(), club.partners[perk.partner_id])
    voice = owner(api, club, perk)
    granted = await grant(voice, perk, member={"alias": alias})
    assert granted["userErrors"] == []
    right = granted["access"]
    assert (right["state"], right["usesMax"], right["remaining"]) == ("GRANTED", 2, 2)
    assert await club.taken(perk) == 1
    uses = [await use(voice, id=right["id"]) for _ in range(3)]
    assert [one["access"] and one["access"]["remaining"] for one in uses] == [1, 0, None]
    assert [one["code"] for one in uses[2]["userErrors"]] == ["ALLOWANCE_EXHAUSTED"]


async def test_the_member_shows_the_code_of_its_hold_again_and_again(api: Api, club: Club) -> None:
    perk = await access_perk(club, uses=2)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    claim = {"perk": {"handle": perk.handle}, "idempotencyKey": uuid4().hex}
    query = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { code } } }"
    code = (await api.member(member)(query, input=claim)).data["claimPerk"]["hold"]["code"]
    voice = owner(api, club, perk)
    confirmed = await do(voice, "ConfirmHold", hold={"code": code}, idempotencyKey=uuid4().hex)
    assert confirmed["redemption"]["id"]
    assert (await use(voice, code=code.lower()))["access"]["remaining"] == 1
    [mine] = await listed(api.member(member))
    assert (mine["state"], mine["remaining"]) == ("GRANTED", 1)


async def test_the_same_key_grants_once_whatever_happens_meanwhile(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    member = await club.member()
    alias = await club.consent(member, club.partners[perk.partner_id])
    voice = owner(api, club, perk)
    payloads = await asyncio.gather(*(grant(voice, perk, "one", member={"alias": alias}) for _ in range(6)))
    assert len({one["access"]["id"] for one in payloads}) == 1
    assert [one["replayed"] for one in payloads].count(False) == 1
    await club.assign(member, "member")
    again = await grant(voice, perk, "one", member={"alias": alias})
    assert (again["replayed"], again["access"]["id"]) == (True, payloads[0]["access"]["id"])
    other = await club.consent(await club.member(), club.partners[perk.partner_id])
    document = (OPERATIONS / "GrantAccess.graphql").read_text()
    given = {"perk": {"handle": perk.handle}, "member": {"alias": other}, "idempotencyKey": "one"}
    assert (await voice(document, input=given)).code == "IDEMPOTENCY_KEY_REUSED"
    assert await club.taken(perk) == 1


async def test_one_key_uses_once(api: Api, club: Club) -> None:
    perk = await access_perk(club, uses=5)
    alias = await club.consent(await club.member(), club.partners[perk.partner_id])
    voice = owner(api, club, perk)
    right = (await grant(voice, perk, member={"alias": alias}))["access"]
    uses = await asyncio.gather(*(use(voice, "one", id=right["id"]) for _ in range(5)))
    assert sorted(one["replayed"] for one in uses) == [False, True, True, True, True]
    assert {one["access"]["used"] for one in uses} == {1}


async def test_every_rule_is_asked_before_a_right_is_granted(api: Api, club: Club) -> None:
    rules = [{"kind": "tier_at_least", "tier": "black"}]
    perk = await club.perk(kind=PerkKind.ACCESS, rules=rules)
    alias = await club.consent(await club.member(), club.partners[perk.partner_id])
    refused = await grant(owner(api, club, perk), perk, member={"alias": alias})
    assert (refused["access"], [one["code"] for one in refused["userErrors"]]) == (None, ["TIER_TOO_LOW"])
    stranger = await grant(owner(api, club, perk), perk, member={"alias": "nobody"})
    assert [one["code"] for one in stranger["userErrors"]] == ["NOT_A_MEMBER"]


async def test_a_right_that_can_not_be_confirmed_leaves_nothing_held(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    partner = club.partners[perk.partner_id]
    alias = await club.consent(await club.member(), partner, scopes=["holds:write"])
    refused = await grant(owner(api, club, perk), perk, member={"alias": alias})
    assert (refused["access"], [one["code"] for one in refused["userErrors"]]) == (None, ["CONSENT_MISSING"])
    assert await club.taken(perk) == 0


async def test_staff_grant_by_id_and_a_perk_of_another_kind_gives_none(api: Api, club: Club) -> None:
    perk, sample = await access_perk(club), await club.perk()
    member = await club.member(club.partners[perk.partner_id], club.partners[sample.partner_id])
    named = {"id": f"member_{member.id.hex}"}
    assert (await grant(api.staff(), perk, member=named))["access"]["state"] == "GRANTED"
    document = (OPERATIONS / "GrantAccess.graphql").read_text()
    given = {"perk": {"handle": sample.handle}, "member": named, "idempotencyKey": "x"}
    answer = await api.staff()(document, input=given)
    assert (answer.code, "of kind SAMPLE" in answer.error["message"]) == ("BAD_INPUT", True)
    assert await club.taken(sample) == 0


async def test_a_right_is_taken_away_by_its_partner_and_the_member_reads_why(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    member = await club.member()
    alias = await club.consent(member, club.partners[perk.partner_id])
    voice = owner(api, club, perk)
    right = (await grant(voice, perk, member={"alias": alias}))["access"]["id"]
    revoked = await do(voice, "RevokeAccess", access=right, reason="the lounge is closed")
    assert (revoked["access"]["state"], revoked["userErrors"]) == ("REVOKED", [])
    query = "query($id: ID!) { node(id: $id) { ... on AccessGrant { state endedReason remaining } } }"
    answer = await api.member(member)(query, id=right)
    assert answer.data["node"] == {"state": "REVOKED", "endedReason": "the lounge is closed", "remaining": 0}
    again = await do(voice, "RevokeAccess", access=right, reason="again")
    assert [one["code"] for one in again["userErrors"]] == ["WRONG_STATE"]
    assert [one["code"] for one in (await use(voice, id=right))["userErrors"]] == ["NOT_AVAILABLE"]


async def test_strangers_neither_read_nor_use_nor_revoke(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    member = await club.member()
    alias = await club.consent(member, club.partners[perk.partner_id])
    right = (await grant(owner(api, club, perk), perk, member={"alias": alias}))["access"]["id"]
    stranger, other = api.partner(await club.partner()), api.member(await club.member())
    assert [one["code"] for one in (await use(stranger, id=right))["userErrors"]] == ["NOT_AVAILABLE"]
    revoked = await do(stranger, "RevokeAccess", access=right, reason="mine")
    assert [one["code"] for one in revoked["userErrors"]] == ["NOT_AVAILABLE"]
    for voice in (stranger, other):
        assert await listed(voice) == []
        assert (await voice("query($id: ID!) { node(id: $id) { id } }", id=right)).data["node"] is None
    [mine] = await listed(api.member(member))
    assert mine["state"] == "GRANTED"


async def test_a_partner_reads_its_rights_and_the_members_who_let_it(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    partner = club.partners[perk.partner_id]
    member = await club.member()
    alias = await club.consent(member, partner)
    voice = owner(api, club, perk)
    await grant(voice, perk, member={"alias": alias})
    [shown] = await listed(voice, READ, filter={"member": {"alias": alias}})
    assert (shown["tier"], shown["member"], shown["perk"]) == ("gold", {"alias": alias}, {"handle": perk.handle})
    told = "SELECT kind FROM disclosure WHERE member_id = $1 AND kind = 'REDEMPTIONS'"
    assert len(await club.sql(told, member.id)) > 0
    await club.withdraw(member, partner)
    [shown] = await listed(voice, READ)
    assert (shown["tier"], shown["member"]) == (None, None)
    assert await listed(voice, READ, filter={"member": {"alias": alias}}) == []
    assert [one["code"] for one in (await use(voice, id=shown["id"]))["userErrors"]] == ["CONSENT_MISSING"]


async def test_rights_are_listed_by_pages_by_perk_and_by_state(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    partner = club.partners[perk.partner_id]
    voice = owner(api, club, perk)
    ids = []
    for _ in range(3):
        alias = await club.consent(await club.member(), partner)
        ids.append((await grant(voice, perk, member={"alias": alias}))["access"]["id"])
    await do(voice, "RevokeAccess", access=ids[0], reason="over")
    first = (await voice(LIST, first=2)).data["accessGrants"]
    assert [one["id"] for one in first["nodes"]] == [ids[2], ids[1]]
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"]) == (3, True)
    rest = (await voice(LIST, first=2, after=first["pageInfo"]["endCursor"])).data["accessGrants"]
    assert ([one["id"] for one in rest["nodes"]], rest["pageInfo"]["hasNextPage"]) == ([ids[0]], False)
    assert [one["id"] for one in await listed(voice, filter={"state": "REVOKED"})] == [ids[0]]
    assert len(await listed(api.staff(), filter={"perk": f"perk_{perk.id.hex}", "state": "GRANTED"})) == 2
    assert (await voice(LIST, first=101)).code == "BAD_INPUT"


async def test_a_token_that_speaks_for_one_member_reaches_no_other(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    partner = club.partners[perk.partner_id]
    alias, other = [await club.consent(await club.member(), partner) for _ in range(2)]
    right = (await grant(api.bound(partner, alias), perk))["access"]["id"]
    assert [one["id"] for one in await listed(api.bound(partner, alias))] == [right]
    assert await listed(api.bound(partner, other)) == []
    used = await use(api.bound(partner, other), id=right)
    assert [one["code"] for one in used["userErrors"]] == ["NOT_AVAILABLE"]
    assert (await use(api.bound(partner, alias), id=right))["access"]["used"] == 1


async def test_members_grant_use_and_revoke_nothing_by_themselves(api: Api, club: Club) -> None:
    perk = await access_perk(club)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    inputs: dict[str, dict[str, Any]] = {
        "GrantAccess": {"perk": {"handle": perk.handle}, "idempotencyKey": "x"},
        "UseAccess": {"access": {"id": f"access_{uuid4().hex}"}, "idempotencyKey": "x"},
        "RevokeAccess": {"access": f"access_{uuid4().hex}", "reason": "x"},
    }
    for operation, given in inputs.items():
        assert (await voice((OPERATIONS / f"{operation}.graphql").read_text(), input=given)).code == "FORBIDDEN"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"term_days": 0}, "settings.term_days"),
        ({"term_days": 36_501}, "settings.term_days"),
        ({"uses": 0}, "settings.uses"),
        ({"on_tier_drop": "KEEP_UNTIL"}, "settings.keep_days"),
        ({"keep_days": 3}, "settings.keep_days"),
        ({"on_tier_drop": "EXPLODE"}, "settings.on_tier_drop"),
        ({"trem_days": 3}, "settings.trem_days"),
    ],
)
async def test_impossible_terms_are_refused_with_their_path(
    api: Api, club: Club, settings: dict[str, Any], fault: str
) -> None:
    create = "mutation($input: CreatePerkInput!) { createPerk(input: $input) { perk { id } } }"
    given = {"handle": f"perk-{uuid4().hex[:8]}", "kind": "ACCESS", "title": "Lounge", "timeZone": "UTC"}
    answer = await api.partner(await club.partner())(create, input=given | {"settings": settings})
    assert answer.code == "BAD_INPUT"
    assert fault in answer.error["message"]


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "TIER_DROP", " REVERSED ", "TERM_OVER"])
async def test_taking_a_right_away_needs_a_reason_that_is_not_the_systems_own(
    api: Api, club: Club, reason: str
) -> None:
    document = (OPERATIONS / "RevokeAccess.graphql").read_text()
    given = {"access": f"access_{uuid4().hex}", "reason": reason}
    assert (await api.staff()(document, input=given)).code == "BAD_INPUT"
