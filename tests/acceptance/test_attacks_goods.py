"""Partners that pry, guess and send what nobody should: they learn nothing more and get nothing more."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from partners import tables
from partners.tables import PerkKind
from schema.ids import HOLD, WAIT, show_id
from tests.api import Api, Voice
from tests.factories import Club
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
