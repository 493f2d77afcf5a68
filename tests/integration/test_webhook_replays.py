"""Telling again: by id, by range, after a message, or what was given up; also what is left in the log alone."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.database import Database
from partners import tables
from partners.actors import Actor
from partners.errors import BadInput, NotFound
from partners.keys import Keys
from partners.programme import Programme
from partners.tables import EndpointState, MessageState
from partners.webhooks.endpoints import set_endpoint_state
from partners.webhooks.events import public_id
from partners.webhooks.reading import Message, MessageFilter, backlogs, list_attempts, list_messages
from partners.webhooks.replays import Replay, Replayed, replay
from tests.factories import STAFF, Club, partner_actor
from tests.telling import Telling, status


@pytest.fixture
def telling(empty_database: Database, programme: Programme, keys: Keys, now: object) -> Telling:
    return Telling(Club(empty_database, programme, keys, now), now)  # type: ignore[arg-type]


async def brand(telling: Telling) -> tuple[tables.Partner, tables.Perk]:
    perk = await telling.club.perk()
    return telling.club.partners[perk.partner_id], perk


async def again(telling: Telling, endpoint: tables.WebhookEndpoint, actor: Actor = STAFF, **asked: Any) -> Replayed:
    async with telling.club.database.sessions.begin() as session:
        return await replay(session, endpoint.id, Replay(**asked), keys=telling.club.keys, actor=actor, now=telling.now)


async def listed(
    telling: Telling,
    endpoint: tables.WebhookEndpoint,
    actor: Actor = STAFF,
    *,
    first: int = 100,
    after: UUID | None = None,
    **wanted: Any,
) -> list[Message]:
    async with telling.club.database.reading() as session:
        return await list_messages(
            session,
            actor,
            MessageFilter(endpoint.id, **wanted),
            keys=telling.club.keys,
            first=first,
            after=after,
            now=telling.now,
        )


def ids_of(telling: Telling) -> list[UUID]:
    return [UUID(one.id.removeprefix("evt_")) for one in telling.received]


async def claims(telling: Telling, perk: tables.Perk, partner: tables.Partner, count: int) -> None:
    """One a minute, each by a member of its own."""
    for _ in range(count):
        telling.now += timedelta(minutes=1)
        await telling.club.hold(await telling.club.member(partner), perk, now=telling.now)
    await telling.tell()


async def test_one_message_is_resent_as_it_was(telling: Telling) -> None:
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    await claims(telling, perk, partner, 3)
    _, wanted, _ = telling.received
    telling.received.clear()
    asked = UUID(wanted.id.removeprefix("evt_"))
    assert await again(telling, endpoint, ids=[asked]) == Replayed(1, None)
    await telling.tell()
    assert [(one.id, one.body) for one in telling.received] == [(wanted.id, wanted.body)]
    [message] = await listed(telling, endpoint, id=asked)
    assert (message.state, message.replays, message.attempts) == (MessageState.DELIVERED, 1, 1)


async def test_everything_after_a_message_is_told_again_in_order_also_what_was_pruned(telling: Telling) -> None:
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    await claims(telling, perk, partner, 5)
    received = ids_of(telling)
    telling.received.clear()
    await telling.club.sql("DELETE FROM webhook_message WHERE index % 2 = 0")
    assert (await again(telling, endpoint, after=received[1])).count == 3
    await telling.tell()
    assert ids_of(telling) == received[2:]


async def test_a_range_of_time_is_told_again(telling: Telling) -> None:
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    began = telling.now
    await claims(telling, perk, partner, 5)
    received = ids_of(telling)
    telling.received.clear()
    since, until = began + timedelta(minutes=2), began + timedelta(minutes=4)
    assert (await again(telling, endpoint, since=since, until=until)).count == 2
    await telling.tell()
    assert ids_of(telling) == received[1:3]


async def test_what_was_given_up_is_told_again_at_once_and_before_what_follows_of_its_member(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed", "hold.released")
    await club.release(await club.hold(await club.member(partner), perk))
    await telling.make()
    await club.sql(
        "UPDATE webhook_message SET state = 'PARKED', ended_at = $1 WHERE action = 'perk.claimed'", telling.now
    )
    assert await again(telling, endpoint, parked=True) == Replayed(1, None)
    await telling.tell()
    assert [event["type"] for event in telling.told(endpoint.url)] == ["perk.claimed", "hold.released"]


async def test_what_happened_while_an_endpoint_was_disabled_is_there_to_be_replayed(telling: Telling) -> None:
    partner, perk = await brand(telling)
    actor = partner_actor(partner)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    await claims(telling, perk, partner, 1)
    [seen] = ids_of(telling)
    for state in (EndpointState.DISABLED, EndpointState.ENABLED):
        async with telling.club.database.sessions.begin() as session:
            await set_endpoint_state(session, endpoint.id, state, actor=actor, now=telling.now)
        if state is EndpointState.DISABLED:
            await claims(telling, perk, partner, 2)
            await telling.make()
    await telling.tell()
    assert ids_of(telling) == [seen]
    assert (await again(telling, endpoint, actor, after=seen)).count == 2
    await telling.tell()
    assert len(telling.told(endpoint.url)) == 3


async def test_narrower_and_narrower_ranges_do_not_find_when_a_staggered_event_happened(telling: Telling) -> None:
    club, at = telling.club, telling.now
    partner, _ = await brand(telling)
    member = await club.member(partner)
    endpoint = await telling.endpoint(partner, "consent.withdrawn")
    await club.withdraw(member, partner)
    await telling.make()
    assert await listed(telling, endpoint) == []
    telling.now += timedelta(seconds=1)
    everything = {"since": at - timedelta(days=2)}
    assert (await again(telling, endpoint, **everything)).count == 0
    async with club.database.reading() as session:
        assert (await backlogs(session, [endpoint.id], telling.now))[endpoint.id].pending == 0
    while not telling.received:
        telling.now += timedelta(minutes=15)
        await telling.tell()
    [message] = await listed(telling, endpoint)
    assert message.staggered
    assert message.told_at - at > timedelta(seconds=10)
    around = {"since": at - timedelta(seconds=1), "until": at + timedelta(seconds=1)}
    assert (await again(telling, endpoint, **around)).count == 0
    await club.sql("DELETE FROM webhook_message")
    assert (await again(telling, endpoint, **around)).count == 0
    assert (
        await again(telling, endpoint, since=message.told_at, until=message.told_at + timedelta(seconds=1))
    ).count == 1


@pytest.mark.parametrize(
    "asked",
    [{}, {"parked": True, "ids": [uuid4()]}, {"ids": []}, {"ids": [uuid4() for _ in range(101)]}],
    ids=["nothing", "two things", "no ids", "too many"],
)
async def test_a_replay_says_one_thing(telling: Telling, asked: dict[str, Any]) -> None:
    partner, _ = await brand(telling)
    endpoint = await telling.endpoint(partner)
    with pytest.raises(BadInput):
        await again(telling, endpoint, **asked)


async def test_nobody_replays_what_is_another_s(telling: Telling) -> None:
    club = telling.club
    (one, perk), (other, _) = await brand(telling), await brand(telling)
    endpoint, foreign = await telling.endpoint(one, "perk.claimed"), await telling.endpoint(other)
    await claims(telling, perk, one, 1)
    [message] = ids_of(telling)
    for id in (message, uuid4(), public_id(club.keys, uuid4())):
        for asked in ({"ids": [id]}, {"after": id}):
            with pytest.raises(NotFound):
                await again(telling, foreign, partner_actor(other), **asked)
    with pytest.raises(NotFound, match="no such endpoint"):
        await again(telling, endpoint, partner_actor(other), parked=True)
    assert await listed(telling, endpoint, partner_actor(other)) == []


async def test_messages_and_attempts_are_listed_newest_first_page_by_page(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    telling.answers[endpoint.url] = status(500)
    await claims(telling, perk, partner, 4)
    seen: list[UUID] = []
    after = None
    while page := await listed(telling, endpoint, partner_actor(partner), first=3, after=after):
        seen += [message.id for message in page]
        after = seen[-1]
    assert len(seen) == len(set(seen)) == 4
    assert {message.state for message in await listed(telling, endpoint, state=MessageState.PENDING)} == {"PENDING"}
    assert await listed(telling, endpoint, state=MessageState.PARKED) == []
    assert await listed(telling, endpoint, event="hold.expired") == []
    async with club.database.reading() as session:
        attempts = await list_attempts(session, STAFF, endpoint.id, keys=club.keys, first=10)
        of_one = await list_attempts(session, STAFF, endpoint.id, seen[0], keys=club.keys, first=10)
        backlog = (await backlogs(session, [endpoint.id], telling.now))[endpoint.id]
    assert [(one.status, one.fault, one.number) for one in attempts] == [(500, None, 1)] * 4
    assert [one.message for one in of_one] == [seen[0]]
    assert (backlog.pending, backlog.parked) == (4, 0)


async def test_a_replay_that_is_too_large_says_where_to_go_on(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partners.webhooks.replays.AT_ONCE_MAX", 2)
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    began = telling.now
    await claims(telling, perk, partner, 5)
    received: Collection[UUID] = ids_of(telling)
    telling.received.clear()
    part = await again(telling, endpoint, since=began)
    while part.goes_on_after is not None:
        part = await again(telling, endpoint, after=part.goes_on_after)
    await telling.tell()
    assert ids_of(telling) == received
