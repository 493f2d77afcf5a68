"""Redemptions and audit entries: partners see their own, members theirs, staff all."""

import asyncio
from uuid import uuid4

from partners import tables
from partners.redemptions import Return, confirm_hold, reverse_redemption
from tests.api import Api
from tests.factories import Club, partner_actor

REDEMPTIONS = """
query($filter: RedemptionFilter, $first: Int, $after: String) {
  redemptions(filter: $filter, first: $first, after: $after) {
    totalCount
    nodes { id tier perk { handle } member { alias } reversal { reason } leafHash }
    pageInfo { hasNextPage endCursor }
  }
}
"""
ENTRIES = """
query($filter: AuditFilter, $first: Int) {
  auditEntries(filter: $filter, first: $first) { nodes { action outcome reasons actorKind leaf leafHash memberId } }
}
"""


async def redeem(club: Club, perk: tables.Perk, member: tables.Member) -> str:
    """A redemption, made through the domain."""
    claimed = await club.claim(member, perk)
    assert claimed.hold is not None
    async with club.database.connection() as connection:
        outcome = await confirm_hold(
            connection,
            hold_id=claimed.hold.id,
            code=None,
            actor=partner_actor(club.partners[perk.partner_id]),
            key=uuid4().hex,
            fingerprint=b"test",
            now=club.now,
        )
    assert outcome.id is not None
    return f"redemption_{outcome.id.hex}"


async def test_redemptions_within_sight(api: Api, club: Club) -> None:
    perk, foreign = await club.perk(), await club.perk()
    partner = club.partners[perk.partner_id]
    one, two = await club.member(club.partners[foreign.partner_id]), await club.member(partner)
    alias = await club.consent(one, partner)
    first, second = await redeem(club, perk, one), await redeem(club, perk, two)
    theirs = await redeem(club, foreign, one)
    seen = (await api.partner(partner)(REDEMPTIONS)).data["redemptions"]
    assert [node["id"] for node in seen["nodes"]] == [second, first]
    assert seen["totalCount"] == 2
    assert seen["nodes"][1]["member"] == {"alias": alias}
    by_member = (await api.partner(partner)(REDEMPTIONS, filter={"member": {"alias": alias}})).data["redemptions"]
    assert [node["id"] for node in by_member["nodes"]] == [first]
    mine = (await api.member(one)(REDEMPTIONS)).data["redemptions"]["nodes"]
    assert {node["id"] for node in mine} == {first, theirs}
    staff = (await api.staff()(REDEMPTIONS, filter={"perk": f"perk_{foreign.id.hex}"})).data["redemptions"]["nodes"]
    assert [node["id"] for node in staff] == [theirs]
    by_name = {"member": {"externalId": two.external_id}}
    assert len((await api.staff()(REDEMPTIONS, filter=by_name)).data["redemptions"]["nodes"]) == 1
    nobody = {"member": {"externalId": "nobody"}}
    assert (await api.staff()(REDEMPTIONS, filter=nobody)).data["redemptions"]["nodes"] == []
    query = "query($id: ID!) { redemption(id: $id) { id } }"
    assert (await api.partner(partner)(query, id=theirs)).data["redemption"] is None
    assert (await api.partner(partner)(query, id=first)).data["redemption"] == {"id": first}


async def test_pages_of_redemptions_and_their_filters(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    made = [await redeem(club, perk, member) for _ in range(3)]
    voice = api.partner(partner)
    page = (await voice(REDEMPTIONS, first=2)).data["redemptions"]
    assert [node["id"] for node in page["nodes"]] == [made[2], made[1]]
    rest = (await voice(REDEMPTIONS, first=2, after=page["pageInfo"]["endCursor"])).data["redemptions"]
    assert [node["id"] for node in rest["nodes"]] == [made[0]]
    async with club.database.connection() as connection:
        await reverse_redemption(
            connection,
            tables.columns.UUID(made[1].removeprefix("redemption_")),
            Return("broken"),
            actor=partner_actor(partner),
            key=uuid4().hex,
            fingerprint=b"test",
            now=club.now,
        )
    reversed_ = (await voice(REDEMPTIONS, filter={"reversed": True})).data["redemptions"]["nodes"]
    assert [(node["id"], node["reversal"]["reason"]) for node in reversed_] == [(made[1], "broken")]
    later = {"since": "2100-01-01T00:00:00Z"}
    assert (await voice(REDEMPTIONS, filter=later)).data["redemptions"]["nodes"] == []


async def test_consent_withdrawn_hides_the_member_and_not_the_redemption(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    await redeem(club, perk, member)
    await club.withdraw(member, partner)
    [node] = (await api.partner(partner)(REDEMPTIONS)).data["redemptions"]["nodes"]
    assert node["member"] is None


async def test_staff_find_every_step_and_every_refusal(api: Api, club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "tier_at_least", "tier": "gold"}])
    partner = club.partners[perk.partner_id]
    await redeem(club, perk, await club.member(partner))
    await club.claim(await club.member(partner, tier="member"), perk)
    found = (await api.staff()(ENTRIES, filter={"perk": f"perk_{perk.id.hex}"})).data["auditEntries"]["nodes"]
    [[hold_id]] = await club.sql("SELECT id FROM hold WHERE perk_id = $1", perk.id)
    assert [(entry["action"], entry["outcome"], entry["reasons"]) for entry in found] == [
        ("perk.claimed", "REFUSED", ["TIER_TOO_LOW"]),
        ("hold.confirmed", "DONE", [f"HOLD:{hold_id}"]),
        ("perk.claimed", "DONE", []),
        ("perk.published", "DONE", []),
        ("perk.created", "DONE", []),
    ]
    assert all("external" not in entry["leaf"] and entry["memberId"] not in entry["leaf"] for entry in found[:3])
    refused = {"perk": f"perk_{perk.id.hex}", "outcome": "REFUSED"}
    assert len((await api.staff()(ENTRIES, filter=refused)).data["auditEntries"]["nodes"]) == 1
    assert (await api.partner(partner)(ENTRIES)).code == "FORBIDDEN"
    assert (await api.anonymous()(ENTRIES)).status == 401


async def test_two_partners_leaves_share_no_hash_of_a_member(api: Api, club: Club) -> None:
    perks = [await club.perk(), await club.perk()]
    member = await club.member(*(club.partners[perk.partner_id] for perk in perks))
    for perk in perks:
        await redeem(club, perk, member)
    hashes = []
    for perk in perks:
        entries = (await api.staff()(ENTRIES, filter={"perk": f"perk_{perk.id.hex}"})).data["auditEntries"]["nodes"]
        hashes.append(entries[0]["leaf"].split('"member":"')[1][:64])
    assert hashes[0] != hashes[1]


async def test_more_pages_at_once_than_there_are_connections_are_all_answered(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    await redeem(club, perk, await club.member(partner))
    voice = api.partner(partner)
    answers = await asyncio.gather(*(voice(REDEMPTIONS) for _ in range(40)))
    assert [len(answer.data["redemptions"]["nodes"]) for answer in answers] == [1] * 40
