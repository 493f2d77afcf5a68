"""Consent that bites: what no scope covers looks as if there were nobody, to the last byte (laws 8 and 9)."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from partners import consents, tables
from tests.api import Answer, Api, Voice
from tests.factories import Club

ASK = {
    "eligibility:read": """
      query($by: MemberBy!, $perk: PerkBy!) {
        eligibility(member: $by, perk: $perk) { eligible allowance { used } refusals { code current } validUntil }
        eligibilities(checks: [{member: $by, perk: $perk}]) { error decision { eligible refusals { code } } }
        perks(member: $by) { nodes { handle eligibility { eligible refusals { code } } } }
      }""",
    "member.tier:read": "query($by: MemberBy!) { member(by: $by) { id alias state tier { handle } tierSince } }",
    "holds:write": """
      mutation($by: MemberBy!, $perk: PerkBy!, $key: String!) {
        claimPerk(input: {member: $by, perk: $perk, idempotencyKey: $key}) {
          hold { id } userErrors { code message path } } }""",
    "redemptions:read": """
      query($by: MemberBy!) {
        redemptions(filter: {member: $by}) {
          totalCount pageInfo { endCursor } nodes { id tier member { alias } } } }""",
}


@pytest.fixture
async def perk(club: Club) -> tables.Perk:
    return await club.perk(rules=[{"kind": "tier_at_least", "tier": "silver"}])


@pytest.fixture
async def voice(api: Api, club: Club, perk: tables.Perk) -> Voice:
    return api.partner(club.partners[perk.partner_id])


async def ask(voice: Voice, scope: str, alias: str, perk: tables.Perk) -> Answer:
    variables: dict[str, Any] = {"by": {"alias": alias}}
    if "$perk" in ASK[scope]:
        variables["perk"] = {"handle": perk.handle}
    if "$key" in ASK[scope]:
        variables["key"] = uuid4().hex
    return await voice(ASK[scope], **variables)


async def redeemed(club: Club, perk: tables.Perk) -> tables.Member:
    """A member with all consent who has used the perk once."""
    member = await club.member(club.partners[perk.partner_id])
    await club.redeemed(await club.hold(member, perk))
    return member


@pytest.mark.parametrize("scope", sorted(ASK))
async def test_unknown_unconsented_expired_and_out_of_scope_are_one_answer(
    voice: Voice, club: Club, perk: tables.Perk, scope: str
) -> None:
    partner = club.partners[perk.partner_id]
    others = consents.SCOPES.keys() - {scope}
    people = [await redeemed(club, perk) for _ in range(3)]
    aliases = [await club.consent(one, partner) for one in people]
    told = [(await ask(voice, scope, alias, perk)).body for alias in aliases]
    await club.withdraw(people[0], partner)
    await club.consent(people[1], partner, expires_at=club.now)
    await club.consent(people[2], partner, scopes=others)
    bodies = [(await ask(voice, scope, alias, perk)).body for alias in [*aliases, "a" * 26, ""]]
    assert bodies == [bodies[-1]] * 5
    assert "errors" not in bodies[0]
    assert all(body != bodies[0] for body in told)


@pytest.mark.parametrize("scope", sorted(ASK))
async def test_the_scope_alone_is_enough(voice: Voice, club: Club, perk: tables.Perk, scope: str) -> None:
    partner = club.partners[perk.partner_id]
    alias = await club.consent(await redeemed(club, perk), partner, scopes=[scope])
    data = (await ask(voice, scope, alias, perk)).data
    if scope == "eligibility:read":
        assert data["eligibility"]["eligible"] is True
        assert data["eligibilities"][0]["decision"]["eligible"] is True
        assert data["perks"]["nodes"][0]["eligibility"]["eligible"] is True
    if scope == "member.tier:read":
        assert data["member"]["tier"] == {"handle": "gold"}
    if scope == "holds:write":
        assert data["claimPerk"]["userErrors"] == []
    if scope == "redemptions:read":
        [node] = data["redemptions"]["nodes"]
        assert (node["member"], node["tier"], data["redemptions"]["totalCount"]) == ({"alias": alias}, None, 1)


async def test_a_node_by_alias_obeys_the_same_scope(voice: Voice, club: Club, perk: tables.Perk) -> None:
    partner, member = club.partners[perk.partner_id], await club.member()
    query = "query($id: ID!) { node(id: $id) { id } }"
    alias = await club.consent(member, partner, scopes=["member.tier:read"])
    seen = await voice(query, id=f"alias_{alias}")
    await club.consent(member, partner, scopes=consents.SCOPES.keys() - {"member.tier:read"})
    unseen = await voice(query, id=f"alias_{alias}")
    assert seen.data["node"] == {"id": f"alias_{alias}"}
    assert unseen.body == (await voice(query, id="alias_" + "a" * 26)).body == {"data": {"node": None}}


async def test_a_page_of_redemptions_names_those_who_let_it_and_tells_tiers_of_those_who_let_it(
    voice: Voice, club: Club, perk: tables.Perk
) -> None:
    partner = club.partners[perk.partner_id]
    people = [await redeemed(club, perk) for _ in range(4)]
    given = [["redemptions:read"], ["member.tier:read"], ["redemptions:read", "member.tier:read"], ["holds:write"]]
    aliases = [await club.consent(one, partner, scopes=scopes) for one, scopes in zip(people, given, strict=True)]
    query = "{ redemptions { totalCount nodes { tier member { alias tier { handle } tierSince } } } }"
    page = (await voice(query)).data["redemptions"]
    [fourth, third, second, first] = page["nodes"]
    assert page["totalCount"] == 4
    assert first == {"tier": None, "member": {"alias": aliases[0], "tier": None, "tierSince": None}}
    assert second == {"tier": "gold", "member": None}
    assert (third["tier"], third["member"]["alias"]) == ("gold", aliases[2])
    assert third["member"]["tier"] == {"handle": "gold"}
    assert fourth == {"tier": None, "member": None}


async def test_withdrawn_consent_does_not_keep_a_reversal_from_the_member(
    voice: Voice, club: Club, perk: tables.Perk
) -> None:
    partner, member = club.partners[perk.partner_id], await club.member(club.partners[perk.partner_id])
    redemption = await club.redeemed(await club.hold(member, perk))
    await club.withdraw(member, partner)
    reverse = """
      mutation($id: ID!) { reverseRedemption(input: {redemption: $id, reason: "spoiled", idempotencyKey: "one"}) {
        redemption { member { alias } } reversal { reason } userErrors { code } } }"""
    answer = (await voice(reverse, id=f"redemption_{redemption.hex}")).data["reverseRedemption"]
    assert answer == {"redemption": {"member": None}, "reversal": {"reason": "spoiled"}, "userErrors": []}


GRANT = """
mutation($input: GrantConsentInput!) {
  grantConsent(input: $input) { consent { id state scopes version expiresAt purpose } } }
"""


async def test_a_member_says_what_for_and_renews_it(api: Api, club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    voice, by = api.member(member), {"handle": partner.handle}
    first = (await voice(GRANT, input={"partner": by})).data["grantConsent"]["consent"]
    assert (first["scopes"], first["version"], first["state"]) == (sorted(consents.USUAL), 1, "GRANTED")
    ends = club.now + timedelta(days=30)
    narrower = {"partner": by, "scopes": ["holds:write", "eligibility:read"], "expiresAt": ends.isoformat()}
    second = (await voice(GRANT, input=narrower)).data["grantConsent"]["consent"]
    assert (second["id"], second["version"]) == (first["id"], 2)
    assert second["scopes"] == ["eligibility:read", "holds:write"]
    assert second["expiresAt"] is not None
    listed = (await voice("{ consents { scopes version } }")).data["consents"]
    assert listed == [{"scopes": second["scopes"], "version": 2}]


@pytest.mark.parametrize(("scopes", "unknown"), [(["perks:write", "holds:write", "x"], ["perks:write", "x"]), ([], [])])
async def test_an_impossible_scope_is_named(api: Api, club: Club, scopes: list[str], unknown: list[str]) -> None:
    partner, member = await club.partner(), await club.member()
    answer = await api.member(member)(GRANT, input={"partner": {"handle": partner.handle}, "scopes": scopes})
    assert answer.code == "BAD_INPUT"
    assert answer.error["extensions"].get("unknownScopes", []) == unknown
