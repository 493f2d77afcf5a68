"""Partners that pry, guess and send what nobody should: they learn nothing more and get nothing more."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from partners import tables
from partners.codes import hold_code
from partners.tables import PerkKind
from schema.ids import HOLD, WAIT, show_id
from tests.api import Api, Voice
from tests.factories import Club, partner_actor
from tests.waiting import Queue

ENTRIES = "{ waitlistEntries { nodes { state endedAt joinedAt hold { state } } } }"
LEAVE = (
    "mutation($entry: ID!) { leaveWaitlist(input: {entry: $entry}) { entry { state endedAt } userErrors { code } } }"
)
HELD = "query($id: ID!) { node(id: $id) { ... on Hold { state endedAt } } }"


async def departed(api: Api, club: Club, *, by: str) -> list[tuple[Voice, UUID, UUID]]:
    """One member waits at two brands and has an offer of each; then all of it ends in one moment."""
    member = await club.member()
    found: list[tuple[Voice, Queue, UUID]] = []
    for _ in range(2):
        queue = await Queue.at(club)
        queue.now = club.now - timedelta(days=3)
        await club.consent(member, queue.partner)
        held = await queue.fill()
        entry = await queue.join(member)
        await queue.release(*held)
        assert await queue.promote() == 1
        found.append((api.partner(queue.partner), queue, entry))
    await club.sql("UPDATE hold SET expires_at = $2 WHERE member_id = $1", member.id, club.now + timedelta(days=1))
    if by == "suspension":
        await club.sql("UPDATE member SET state = 'SUSPENDED', version = version + 1 WHERE id = $1", member.id)
    else:
        for _, queue, _ in found:
            await club.withdraw(member, queue.partner)
    assert await found[0][1].__class__(club, found[0][1].perk, club.now).sweep() >= 2
    return [(voice, entry, (await queue.offered(entry))["id"]) for voice, queue, entry in found]


@pytest.mark.parametrize("by", ["suspension", "withdrawal"])
async def test_what_ends_at_every_partner_in_one_moment_shows_them_the_day_alone(api: Api, club: Club, by: str) -> None:
    midnight = club.now.replace(hour=0, minute=0, second=0, microsecond=0)
    told: list[datetime] = []
    for voice, entry, hold in await departed(api, club, by=by):
        left = (await voice(LEAVE, entry=show_id(WAIT, entry))).data["leaveWaitlist"]
        nodes: list[dict[str, Any]] = (await voice(ENTRIES)).data["waitlistEntries"]["nodes"]
        assert bool(nodes) is (by == "suspension")
        assert bool(left["entry"]) is (by == "withdrawal")
        shown = (await voice(HELD, id=show_id(HOLD, hold))).data["node"]
        assert shown["state"] == "RELEASED"
        instants = [one["endedAt"] for one in (*nodes, left["entry"], shown) if one is not None]
        assert len(instants) == 2
        told += [datetime.fromisoformat(one) for one in instants]
    assert set(told) == {midnight}


async def test_its_member_sees_when_a_wait_ended_to_the_microsecond(api: Api, club: Club) -> None:
    queue = await Queue.at(club)
    queue.now = club.now - timedelta(days=3)
    member = await queue.member()
    await queue.fill()
    entry = await queue.join(member)
    left = await api.member(member)(LEAVE, entry=show_id(WAIT, entry))
    assert datetime.fromisoformat(left.data["leaveWaitlist"]["entry"]["endedAt"]) == club.now


@pytest.mark.parametrize("field", ["waitlistEntries", "accessGrants"])
async def test_a_number_alone_is_told_on_record(api: Api, club: Club, field: str) -> None:
    """Beyond the last page no row is shown, and how many there are still tells of the member."""
    queue = await Queue.at(club)
    member = await queue.member()
    alias = await club.consent(member, queue.partner)
    await queue.fill()
    await queue.join(member)
    await club.redeemed(await club.hold(member, await club.perk(queue.partner, kind=PerkKind.ACCESS)))
    voice = api.partner(queue.partner)
    page = (
        f"query($by: MemberBy, $after: String) {{ {field}(filter: {{member: $by}}, after: $after)"
        " { totalCount pageInfo { endCursor } } }"
    )
    first = (await voice(page, by={"alias": alias})).data[field]
    before = await told_about(club, member)
    beyond = (await voice(page, by={"alias": alias}, after=first["pageInfo"]["endCursor"])).data[field]
    assert (beyond["totalCount"], beyond["pageInfo"]["endCursor"]) == (1, None)
    assert await told_about(club, member) == before + 1


async def told_about(club: Club, member: tables.Member) -> int:
    [row] = await club.sql("SELECT count(*) FROM disclosure WHERE member_id = $1", member.id)
    return int(row["count"])


DOORS = {
    "confirmHold": "hold",
    "checkIn": "redemption",
    "useAccess": "access",
}


async def test_codes_are_guessed_at_no_door_and_all_doors_count_together(api: Api, club: Club) -> None:
    """A code of nobody, of another brand and of a right that was taken away: one answer, and one budget."""
    mine, other = await club.partner(), await club.partner()
    codes = ["0000-0000-0000-00", "", "é" * 300]
    for partner in (mine, other):
        perk = await club.perk(partner, kind=PerkKind.ACCESS)
        hold = await club.hold(await club.member(partner), perk)
        redemption = await club.redeemed(hold)
        await club.reverse(redemption, partner_actor(partner))
        codes.append(hold_code(club.keys.codes, hold.id))
    voice = api.partner(mine)

    async def guess(door: str, code: str) -> str:
        kind = f"{door[0].upper()}{door[1:]}Input"
        query = f"mutation($input: {kind}!) {{ {door}(input: $input) {{ userErrors {{ code message path }} }} }}"
        answer = await voice(query, input={DOORS[door]: {"code": code}, "idempotencyKey": uuid4().hex})
        return str(answer.body["errors"][0]["extensions"]["code"] if "errors" in answer.body else answer.data[door])

    for door in ("confirmHold", "useAccess"):
        assert len({await guess(door, code) for code in codes}) == 1
    assert len({await guess("checkIn", code) for code in (*codes[:3], codes[4])}) == 1
    answers = [await guess([*DOORS][number % 3], codes[0]) for number in range(60)]
    assert answers[-1] == "THROTTLED"
    assert {await guess(door, codes[0]) for door in DOORS} == {"THROTTLED"}


@pytest.mark.parametrize("lost", ["refused", "died"])
async def test_a_grant_that_was_refused_or_died_midway_does_not_use_up_its_key(api: Api, club: Club, lost: str) -> None:
    perk = await club.perk(kind=PerkKind.ACCESS, units=1)
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner, scopes=["holds:write", "redemptions:read"])
    grant = "mutation($input: GrantAccessInput!) { grantAccess(input: $input) { access { id } userErrors { code } } }"
    input = {"perk": {"handle": perk.handle}, "member": {"alias": alias}, "idempotencyKey": "one"}
    for _ in range(3):
        refused = (await api.partner(partner)(grant, input=input)).data["grantAccess"]
        assert [one["code"] for one in refused["userErrors"]] == ["CONSENT_MISSING"]
        if lost == "died":
            expired = "UPDATE hold SET state = 'EXPIRED' WHERE perk_id = $1 AND state = 'RELEASED'"
            await club.sql(expired, perk.id)
    await club.consent(member, partner)
    granted = [(await api.partner(partner)(grant, input=input)).data["grantAccess"] for _ in range(2)]
    assert granted[0]["access"] is not None, granted[0]
    assert granted[0] == granted[1]
    assert await club.taken(perk) == 1
