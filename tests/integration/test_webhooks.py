"""From a change to the partner that is told of it, on the real database: once made, in order, whatever fails."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.database import Database
from gateway.outside_posts import Answer
from partners import catalogue, tables, transfers
from partners.keys import Keys
from partners.laws import check_laws
from partners.programme import Programme
from partners.promotion import end_departed
from partners.tables import EndpointState, PartnerState
from partners.webhooks.endpoints import change_endpoint, delete_endpoint, set_endpoint_state, test_endpoint
from partners.webhooks.events import entry_of
from partners.webhooks.messages import LEASE, lease_messages, prune_messages
from partners.webhooks.schedule import ATTEMPTS_MAX
from tests.factories import STAFF, Club, member_actor, partner_actor
from tests.telling import Received, Telling, hangs_up, status

test_endpoint.__test__ = False  # type: ignore[attr-defined]  # it is a function of the product


@pytest.fixture
def telling(empty_database: Database, programme: Programme, keys: Keys, now: object) -> Telling:
    return Telling(Club(empty_database, programme, keys, now), now)  # type: ignore[arg-type]


async def brand(telling: Telling) -> tuple[tables.Partner, tables.Perk]:
    """A partner with a perk without limits."""
    perk = await telling.club.perk()
    return telling.club.partners[perk.partner_id], perk


async def test_a_claim_and_what_follows_reach_the_partner_signed_and_in_order(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    member = await club.member()
    alias = await club.consent(member, partner)
    endpoint = await telling.endpoint(partner)
    hold = await club.hold(member, perk)
    redemption = await club.redeemed(hold)
    assert await telling.tell() == 2
    claimed, confirmed = telling.told(endpoint.url)
    assert [claimed["type"], confirmed["type"]] == ["perk.claimed", "hold.confirmed"]
    assert claimed["data"]["hold"] == f"hold_{hold.id.hex}"
    assert claimed["data"]["leafHash"] == hold.leaf_hash.hex()
    assert confirmed["data"]["redemption"] == f"redemption_{redemption.hex}"
    assert {claimed["data"]["member"], confirmed["data"]["member"]} == {alias}
    assert all(telling.verify(one) for one in telling.received)
    assert await telling.states(endpoint.id) == {"DELIVERED": 2}
    assert await telling.tell() == 0


async def test_every_endpoint_is_told_what_it_wants_of_its_own_partner_alone(telling: Telling) -> None:
    club = telling.club
    (one, perk), (other, _) = await brand(telling), await brand(telling)
    everything, confirmations = await telling.endpoint(one), await telling.endpoint(one, "hold.confirmed")
    stranger = await telling.endpoint(other)
    await club.redeemed(await club.hold(await club.member(one), perk))
    await telling.tell()
    assert len(telling.told(everything.url)) == 3  # with the consent that the claim brought forward
    assert [event["type"] for event in telling.told(confirmations.url)] == ["hold.confirmed"]
    assert telling.told(stranger.url) == []


async def test_what_was_logged_before_an_endpoint_was_made_is_not_told_and_refusals_never_are(telling: Telling) -> None:
    club = telling.club
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    early, late = await club.member(partner), await club.member(partner)
    await club.hold(early, perk)
    endpoint = await telling.endpoint(partner)
    assert (await club.claim(late, perk)).hold is None
    await telling.tell()
    assert telling.told(endpoint.url) == []


async def test_what_happens_at_several_partners_at_once_is_told_by_the_day_at_moments_of_no_meaning(
    telling: Telling,
) -> None:
    club, began = telling.club, telling.now
    brands = [await brand(telling) for _ in range(6)]
    member = await club.member(*(partner for partner, _ in brands))
    endpoints = [await telling.endpoint(partner) for partner, _ in brands]
    for partner, _ in brands:
        await club.withdraw(member, partner)
    assert await telling.tell() == 0
    moments: dict[str, object] = {}
    while telling.now < began + timedelta(hours=24, minutes=10):
        telling.now += timedelta(minutes=10)
        await telling.tell()
        moments |= {one.url: telling.now for one in telling.received if one.url not in moments}
    assert len(set(moments.values())) > 3
    for endpoint in endpoints:
        [event] = telling.told(endpoint.url)
        assert event["timestamp"] == began.date().isoformat()
        assert event["data"]["member"] is not None
        assert (event["data"]["leafHash"], event["data"]["reasons"]) == (None, [])


async def test_no_name_of_a_message_tells_when_it_happened(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    await telling.endpoint(partner)
    await club.hold(await club.member(partner), perk)
    await telling.tell()
    [entry] = await club.sql("SELECT id FROM audit_entry WHERE action = 'perk.claimed'")
    shown = UUID(telling.received[-1].id.removeprefix("evt_"))
    assert shown != entry["id"]
    assert abs(shown.int - entry["id"].int) >> 80, "the first 48 bits of an entry's id are its millisecond"
    assert entry_of(club.keys, shown) == entry["id"]


async def test_a_staggered_event_is_told_before_what_came_after_it_of_the_same_member(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    member = await club.member(partner)
    hold = await club.hold(member, perk)
    endpoint = await telling.endpoint(partner)
    await club.withdraw(member, partner)
    assert await telling.tell() == 0
    await club.release(hold, actor=member_actor(member))
    await telling.tell()
    assert [event["type"] for event in telling.told(endpoint.url)] == ["consent.withdrawn", "hold.released"]


async def test_waits_that_end_by_a_suspension_say_neither_when_nor_why(telling: Telling) -> None:
    club = telling.club
    perk = await club.perk(units=1, waitlist={})
    partner = club.partners[perk.partner_id]
    endpoint = await telling.endpoint(partner)
    waiting = await club.member(partner)
    await club.sql(
        "INSERT INTO waitlist_entry (id, perk_id, partner_id, member_id, units, amount, state, weight, offers,"
        " joined_by, joined_at) VALUES ($1, $2, $3, $4, 1, 0, 'WAITING', 0, 0, '', $5)",
        *(uuid4(), perk.id, partner.id, waiting.id, telling.now),
    )
    await club.sql("UPDATE capacity SET waiting = 1 WHERE perk_id = $1", perk.id)
    await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", waiting.id)
    async with club.database.connection() as connection:
        assert await end_departed(connection, telling.now) == 1
    await telling.tell()
    assert not [event for event in telling.told(endpoint.url) if event["type"].startswith("waitlist")]
    await telling.pass_time(timedelta(hours=24), timedelta(hours=2))
    [event] = [event for event in telling.told(endpoint.url) if event["type"].startswith("waitlist")]
    assert (event["timestamp"], event["data"]["reasons"]) == (telling.club.now.date().isoformat(), [])


async def test_a_member_who_withdrew_is_named_no_more_also_in_what_is_tried_again(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    member = await club.member(partner)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    telling.answers[endpoint.url] = status(500)
    await club.hold(member, perk)
    await telling.tell()
    telling.now += timedelta(minutes=1)
    await telling.tell()
    first, second = telling.received
    assert first.body == second.body
    assert first.id == second.id
    assert first.event["data"]["member"] is not None
    await club.withdraw(member, partner)
    telling.now += timedelta(minutes=5)
    await telling.tell()
    assert telling.received[-1].event["data"]["member"] is None


async def test_what_a_partner_is_told_of_a_member_is_kept_for_the_member_to_read(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    member = await club.member(partner)
    endpoint = await telling.endpoint(partner)
    await club.hold(member, perk)
    await telling.tell()
    rows = await club.sql("SELECT partner_id, perk_id, client_id FROM disclosure WHERE member_id = $1", member.id)
    assert [tuple(row.values()) for row in rows] == [(partner.id, perk.id, f"endpoint_{endpoint.id.hex}")]


@pytest.mark.parametrize("answer", [status(301), hangs_up], ids=["redirects", "hangs up"])
async def test_a_dead_endpoint_is_tried_for_three_days_then_all_is_parked_and_nothing_is_lost(
    telling: Telling, answer: object
) -> None:
    club, began = telling.club, telling.now
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    members = [await club.member(partner) for _ in range(5)]
    telling.answers[endpoint.url] = answer  # type: ignore[assignment]
    for member in members:
        await club.hold(member, perk)
    await telling.pass_time(timedelta(hours=70), timedelta(minutes=30))
    assert await telling.states(endpoint.id) == {"PENDING": 5}
    await club.hold(members[0], perk, now=began)
    await telling.pass_time(timedelta(hours=4), timedelta(minutes=30))
    assert await telling.states(endpoint.id) == {"PARKED": 5, "PENDING": 1}
    assert len(telling.received) < 5 * ATTEMPTS_MAX + 74 * 6
    del telling.answers[endpoint.url]
    telling.received.clear()
    telling.now += timedelta(hours=1)
    await telling.tell()
    assert await telling.states(endpoint.id) == {"PARKED": 5, "DELIVERED": 1}


async def test_one_message_that_nobody_takes_is_given_up_after_its_attempts_and_holds_up_its_member_alone(
    telling: Telling,
) -> None:
    club, began = telling.club, telling.now
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed", "hold.released")
    cursed, blessed = await club.member(partner), await club.member(partner)
    hold = await club.hold(cursed, perk)
    curse = f"hold_{hold.id.hex}"
    telling.answers[endpoint.url] = lambda told: Answer(
        400 if curse in told.body.decode() and told.event["type"] == "perk.claimed" else 200, None, 1
    )
    await club.release(hold)
    await club.release(await club.hold(blessed, perk))
    await telling.tell()
    assert await telling.states(endpoint.id) == {"PENDING": 2, "DELIVERED": 2}
    while (await telling.states(endpoint.id)).get("PENDING"):
        telling.now += timedelta(minutes=20)
        await telling.tell()
    assert timedelta(days=2) < telling.now - began < timedelta(days=4)
    assert await telling.states(endpoint.id) == {"PARKED": 1, "DELIVERED": 3}
    assert len([one for one in telling.received if curse in one.body.decode()]) == ATTEMPTS_MAX + 1
    assert telling.received[-1].event["type"] == "hold.released"


async def test_what_waits_is_sent_as_soon_as_the_endpoint_is_back(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    telling.answers[endpoint.url] = status(503)
    for member in [await club.member(partner) for _ in range(8)]:
        await club.hold(member, perk)
    await telling.pass_time(timedelta(hours=10), timedelta(minutes=10))
    del telling.answers[endpoint.url]
    await telling.pass_time(timedelta(minutes=40), timedelta(minutes=20))
    assert await telling.states(endpoint.id) == {"DELIVERED": 8}


async def test_an_endpoint_that_fails_is_left_in_peace_and_then_tried_with_one_message(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    telling.answers[endpoint.url] = status(500)
    for member in [await club.member(partner) for _ in range(20)]:
        await club.hold(member, perk)
    await telling.tell()
    tried = len(telling.received)
    assert tried <= 16 + 4
    [row] = await club.sql("SELECT failures, retry_at FROM webhook_endpoint WHERE id = $1", endpoint.id)
    assert row["failures"] == 5
    assert timedelta(seconds=20) < row["retry_at"] - telling.now < timedelta(seconds=40)
    assert await telling.tell() == 0
    telling.now += timedelta(minutes=1)
    assert await telling.tell() == 1


async def test_retry_after_of_429_and_503_is_honoured_within_six_hours(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed")
    for asked, waits in ((3_600, timedelta(hours=1)), (86_400, timedelta(hours=6))):
        telling.answers[endpoint.url] = status(429, asked)
        await club.hold(await club.member(partner), perk)
        await telling.tell()
        [row] = await club.sql("SELECT retry_at FROM webhook_endpoint WHERE id = $1", endpoint.id)
        assert row["retry_at"] - telling.now == waits
        telling.now += waits
        telling.answers[endpoint.url] = status(200)
        await telling.tell()
        assert set(await telling.states(endpoint.id)) == {"DELIVERED"}


async def test_410_disables_the_endpoint_on_record_and_enabling_it_sends_what_waits(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner)
    telling.answers[endpoint.url] = status(410)
    await club.hold(await club.member(partner), perk)
    await telling.tell()
    [row] = await club.sql("SELECT state, reason FROM webhook_endpoint WHERE id = $1", endpoint.id)
    assert tuple(row.values()) == ("DISABLED", "GONE")
    [entry] = await club.sql("SELECT reasons, actor_kind FROM audit_entry WHERE action = 'webhook.endpoint_disabled'")
    assert tuple(entry.values()) == (["GONE"], "system")
    telling.now += timedelta(days=5)
    assert await telling.tell() == 0
    del telling.answers[endpoint.url]
    async with club.database.sessions.begin() as session:
        await set_endpoint_state(
            session, endpoint.id, EndpointState.ENABLED, actor=partner_actor(partner), now=telling.now
        )
    await telling.tell()
    assert set(await telling.states(endpoint.id)) == {"DELIVERED"}


async def test_a_suspended_partner_is_told_nothing_until_it_is_reinstated(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner)
    hold = await club.hold(await club.member(partner), perk)
    for state, told in ((PartnerState.SUSPENDED, 0), (PartnerState.ACTIVE, 5)):
        async with club.database.sessions.begin() as session:
            await catalogue.set_partner_state(session, partner.id, state, actor=STAFF, now=telling.now)
        if state is PartnerState.SUSPENDED:
            await club.release(hold)
            telling.now += timedelta(days=4)
        await telling.tell()
        assert len(telling.told(endpoint.url)) == told
    assert [event["type"] for event in telling.told(endpoint.url) if event["data"]["perk"] is None] == [
        "consent.granted",
        "partner.suspended",
        "partner.reinstated",
    ]


async def test_a_test_event_reaches_its_endpoint_alone_whatever_that_wants(telling: Telling) -> None:
    club = telling.club
    partner, _ = await brand(telling)
    endpoint, other = await telling.endpoint(partner, "perk.claimed"), await telling.endpoint(partner)
    async with club.database.sessions.begin() as session:
        shown = await test_endpoint(session, endpoint.id, keys=club.keys, actor=partner_actor(partner), now=telling.now)
    await telling.tell()
    [received] = telling.received
    assert (received.url, received.id) == (endpoint.url, f"evt_{shown.hex}")
    assert telling.verify(received)["type"] == "webhook.tested"
    assert telling.told(other.url) == []


async def test_both_partners_of_a_sale_and_a_member_who_moved_are_told_without_a_common_moment(
    telling: Telling,
) -> None:
    club = telling.club
    (seller, _), (buyer, _) = await brand(telling), await brand(telling)
    member = await club.member()
    alias = await club.consent(member, seller)
    endpoints = [await telling.endpoint(seller), await telling.endpoint(buyer)]
    async with club.database.sessions.begin() as session:
        await transfers.open_transfer(session, seller, buyer, reason="sold", actor=STAFF, now=telling.now)
    async with club.database.sessions.begin() as session:
        moved = await transfers.move_member(
            session,
            alias,
            buyer.id,
            client_id="c",
            pairwise_key=club.keys.pairwise,
            actor=partner_actor(buyer),
            now=telling.now,
        )
    await telling.tell()
    assert [telling.told(one.url)[0]["type"] for one in endpoints] == ["partner.transferred"] * 2
    await telling.pass_time(timedelta(hours=24), timedelta(hours=1))
    assert [telling.told(one.url)[-1]["data"]["member"] for one in endpoints] == [alias, moved.alias]
    assert {telling.told(one.url)[-1]["type"] for one in endpoints} == {"consent.moved"}


async def test_what_is_told_of_an_erased_member_names_nobody_and_breaks_nothing(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    member = await club.member(partner)
    endpoint = await telling.endpoint(partner)
    telling.answers[endpoint.url] = status(500)
    await club.hold(member, perk)
    await telling.tell()
    for statement in (
        "DELETE FROM consent WHERE member_id = $1",
        "DELETE FROM member_alias WHERE member_id = $1",
        "UPDATE audit_entry SET member_id = NULL WHERE member_id = $1",
        "UPDATE webhook_message SET lane = entry_id WHERE lane = $1",
        "UPDATE member SET state = 'ERASED', audit_salt = '', erased_at = now() WHERE id = $1",
    ):
        await club.sql(statement, member.id)
    del telling.answers[endpoint.url]
    telling.now += timedelta(hours=1)
    await telling.tell()
    assert telling.received[-1].event["data"]["member"] is None
    assert set(await telling.states(endpoint.id)) == {"DELIVERED"}


async def test_one_endpoint_that_hangs_holds_nobody_up(telling: Telling) -> None:
    club = telling.club
    brands = [await brand(telling) for _ in range(4)]
    endpoints = [await telling.endpoint(partner, "perk.claimed") for partner, _ in brands]
    for partner, perk in brands:
        for member in [await club.member(partner) for _ in range(40)]:
            await club.hold(member, perk)
    hanging, released = endpoints[0].url, asyncio.Event()
    answer = telling.post

    async def post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
        if url == hanging:
            await released.wait()
        return await answer(url, body, headers)

    telling.post = post  # type: ignore[method-assign,assignment]
    await telling.make()
    courier, stop = telling.courier(), asyncio.Event()
    running = asyncio.create_task(courier.keep_delivering(stop))
    await telling.until_received(120)
    assert telling.told(hanging) == []
    assert (await telling.states(endpoints[0].id)) == {"PENDING": 40}
    released.set()
    await telling.until_received(160)
    stop.set()
    await running
    assert (await telling.states(endpoints[0].id)) == {"DELIVERED": 40}


async def test_of_two_processes_each_message_is_one_s_and_the_order_is_kept(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner)
    members = [await club.member(partner) for _ in range(6)]
    for _ in range(4):
        for member in members:
            await club.release(await club.hold(member, perk))
    await asyncio.gather(telling.make(), telling.make())
    await asyncio.gather(*(telling.courier().deliver_due() for _ in range(2)))
    while await telling.courier().deliver_due():
        pass
    assert len({one.id for one in telling.received}) == len(telling.received) == 6 + 6 * 8
    assert await telling.states(endpoint.id) == {"DELIVERED": 54}
    assert await in_order(telling, endpoint.id)


async def in_order(telling: Telling, endpoint: UUID) -> bool:
    """Whether what was first received of each member came in the log's order, and all of it."""
    rows = await telling.club.sql(
        "SELECT entry_id, lane FROM webhook_message WHERE endpoint_id = $1 ORDER BY index", endpoint
    )
    lanes: dict[UUID, list[UUID]] = {}
    for row in rows:
        lanes.setdefault(row["lane"], []).append(row["entry_id"])
    came = {
        entry_of(telling.club.keys, UUID(one.id.removeprefix("evt_"))): place
        for place, one in reversed(list(enumerate(telling.received)))
    }
    return all([came[id] for id in lane] == sorted(came[id] for id in lane) for lane in lanes.values())


async def test_what_a_dead_process_had_in_hand_is_another_s_after_the_lease_and_before_what_follows(
    telling: Telling,
) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner)
    await club.release(await club.hold(await club.member(partner), perk))
    await telling.make()
    async with club.database.connection() as connection:
        assert await lease_messages(connection, {}, each=16, all=256, now=telling.now)
    assert await telling.courier().deliver_due() == 0
    telling.now += LEASE + timedelta(seconds=1)
    assert await telling.courier().deliver_due() == 3
    assert await in_order(telling, endpoint.id)


async def test_a_deleted_endpoint_is_told_nothing_and_its_messages_are_pruned(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner)
    await club.hold(await club.member(partner), perk)
    await telling.make()
    async with club.database.sessions.begin() as session:
        await delete_endpoint(session, endpoint.id, actor=partner_actor(partner), now=telling.now)
    assert await telling.courier().deliver_due() == 0
    async with club.database.connection() as connection:
        assert await prune_messages(connection, telling.now) == 2
    assert await telling.states(endpoint.id) == {}


async def test_old_messages_and_attempts_are_pruned_and_parked_ones_kept_longer(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "perk.claimed", "hold.released")
    await club.release(await club.hold(await club.member(partner), perk))
    await telling.tell()
    await club.sql("UPDATE webhook_message SET state = 'PARKED' WHERE action = 'hold.released'")
    for days, left in ((29, {"DELIVERED": 1, "PARKED": 1}), (31, {"PARKED": 1}), (91, {})):
        async with club.database.connection() as connection:
            await prune_messages(connection, telling.now + timedelta(days=days))
        assert await telling.states(endpoint.id) == left
    assert await club.sql("SELECT FROM webhook_delivery") == []


async def test_other_events_are_told_from_the_change_on_and_none_is_missed(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner, "hold.released")
    member = await club.member(partner)
    hold = await club.hold(member, perk)
    await telling.tell()
    async with club.database.sessions.begin() as session:
        await change_endpoint(
            session, endpoint.id, {"events": ["perk.claimed"]}, actor=partner_actor(partner), now=telling.now
        )
    await club.release(hold)
    await club.hold(member, perk)
    await telling.tell()
    assert [event["type"] for event in telling.told(endpoint.url)] == ["perk.claimed"]


async def test_law_11_finds_a_message_that_is_missing(telling: Telling) -> None:
    club = telling.club
    partner, perk = await brand(telling)
    await telling.endpoint(partner)
    await club.hold(await club.member(partner), perk)
    await telling.tell()
    async with club.database.connection() as connection:
        assert [one for one in await check_laws(connection, telling.now) if one.law == 11] == []
        await connection.execute("DELETE FROM webhook_message WHERE action = 'perk.claimed'")
        [finding] = [one for one in await check_laws(connection, telling.now) if one.law == 11]
    assert (finding.name, finding.count) == ("event_without_message", 1)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outcomes=st.lists(st.sampled_from([200, 500, 429, 404, 0]), min_size=1, max_size=60), steps=st.data())
async def test_whatever_receivers_answer_all_of_a_member_arrives_in_order(
    telling: Telling, outcomes: list[int], steps: st.DataObject
) -> None:
    club = telling.club
    telling.received.clear()
    partner, perk = await brand(telling)
    endpoint = await telling.endpoint(partner)
    members = [await club.member(partner) for _ in range(3)]
    script = iter(outcomes)

    def answer(told: Received) -> Answer:
        code = next(script, 200)
        return hangs_up(told) if code == 0 else Answer(code, None, 1)

    telling.answers[endpoint.url] = answer
    for _ in range(steps.draw(st.integers(1, 4))):
        await club.release(await club.hold(steps.draw(st.sampled_from(members)), perk))
        await telling.tell()
        telling.now += timedelta(seconds=steps.draw(st.integers(1, 4_000)))
    while (await telling.states(endpoint.id)).get("PENDING"):
        telling.now += timedelta(hours=1)
        await telling.tell()
    assert set(await telling.states(endpoint.id)) == {"DELIVERED"}
    assert await in_order(telling, endpoint.id)
