"""Who comes to an event: each guest is counted once, inside the doors' times, and who never came is a no-show."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway import housekeeping
from gateway.database import Database
from partners.check_ins import DOORS_CLOSE_AFTER, DOORS_CLOSE_AFTER_START, DOORS_OPEN_BEFORE, mark_no_shows
from partners.errors import BadInput
from partners.keys import Keys
from partners.programme import Programme
from tests.factories import STAFF, Club
from tests.fulfilling import a_party, a_sample, an_event, redeemed

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def own(empty_database: Database, programme: Programme, keys: Keys, now: object) -> Club:
    """A club in a database of the test's own: the sweeper takes everybody's."""
    return Club(empty_database, programme, keys, now)  # type: ignore[arg-type]


async def sweep(club: Club, *, later: timedelta) -> int:
    async with club.database.connection() as connection:
        return await mark_no_shows(connection, club.now + later)


async def test_a_guest_is_checked_in_by_the_code_of_the_hold(club: Club) -> None:
    party = await a_party(club)
    assert await party.check_in(code=party.code.lower().replace("-", " ")) == "CHECKED_IN"
    row = await party.row()
    assert (row["state"], row["checked_in"], row["fulfilled_at"]) == ("FULFILLED", 1, club.now)
    assert await club.entries(party.perk, "redemption.checked_in") == [("DONE", ["FULFILLED"])]


async def test_a_party_comes_in_parts_and_never_more_than_it_has_places(club: Club) -> None:
    party = await a_party(club, 4)
    assert await party.check_in(5) == "UNITS_EXCEEDED"
    assert await party.check_in(1) == "CHECKED_IN"
    assert await party.check_in(2, now=club.now + HOUR, by_id=True) == "CHECKED_IN"
    assert await party.check_in(2) == "UNITS_EXCEEDED"
    assert await party.check_in() == "CHECKED_IN"
    assert await party.check_in() == "UNITS_EXCEEDED"
    row = await party.row()
    assert (row["checked_in"], row["fulfilled_at"]) == (4, club.now)
    entries = await club.sql(
        "SELECT leaf::json ->> 'units' AS units FROM audit_entry WHERE subject_id = $1"
        " AND action = 'redemption.checked_in' AND outcome = 'DONE' ORDER BY id",
        party.id,
    )
    assert [one["units"] for one in entries] == ["1", "2", "1"]


async def test_places_that_were_taken_back_are_not_entered(club: Club) -> None:
    party = await a_party(club, 3)
    assert (await club.reverse(party.id, party.partner_actor, units=2)).code == "REVERSED"
    assert await party.check_in(2) == "UNITS_EXCEEDED"
    assert await party.check_in() == "CHECKED_IN"
    whole = await a_party(club, 2)
    assert (await club.reverse(whole.id, whole.partner_actor)).code == "REVERSED"
    assert await whole.check_in() == "ALREADY_REVERSED"


async def test_a_key_counts_once_and_not_for_something_else(club: Club) -> None:
    party, other = await a_party(club, 4), await a_party(club)
    assert await party.check_in(1, key="one") == "CHECKED_IN"
    assert await party.check_in(1, key="one", now=club.now + 90 * DAY) == "REPLAYED"
    assert await party.check_in(2, key="one") == "KEY_REUSED"
    assert await other.check_in(key="one", actor=party.partner_actor) == "KEY_REUSED"
    assert (await party.row())["checked_in"] == 1


async def test_a_refusal_does_not_use_up_the_key(club: Club) -> None:
    party = await a_party(club, begins=DAY)
    assert await party.check_in(key="one") == "OUTSIDE_WINDOW"
    assert await party.check_in(key="one", now=club.now + DAY) == "CHECKED_IN"


@pytest.mark.parametrize("lasts", [3 * HOUR, None])
async def test_the_doors_open_before_the_session_and_close_after_it(club: Club, lasts: timedelta | None) -> None:
    opens = club.now.replace(microsecond=0) + 9 * HOUR
    closes = opens + (DOORS_CLOSE_AFTER_START if lasts is None else lasts + DOORS_CLOSE_AFTER)
    moments = {
        opens - DOORS_OPEN_BEFORE - TICK: "OUTSIDE_WINDOW",
        opens - DOORS_OPEN_BEFORE: "CHECKED_IN",
        closes - TICK: "CHECKED_IN",
        closes: "OUTSIDE_WINDOW",
    }
    party = await a_party(club, 2, begins=9 * HOUR, lasts=lasts)
    assert {moment: await party.check_in(1, now=moment) for moment in moments} == moments


async def test_only_a_guest_of_an_event_is_checked_in(club: Club) -> None:
    assert await (await a_sample(club)).check_in() == "WRONG_STATE"
    party = await a_party(club)
    assert await party.update("FAILED", reason="cancelled") == "UPDATED"
    assert await party.check_in() == "WRONG_STATE"


@pytest.mark.parametrize("units", [0, -1, 2**31])
async def test_impossible_numbers_are_named(club: Club, units: int) -> None:
    party = await a_party(club)
    with pytest.raises(BadInput, match="units: 1 to"):
        await party.check_in(units)


async def test_one_code_at_fifty_doors_lets_one_in(club: Club) -> None:
    party = await a_party(club)
    calls = (party.check_in() for _ in range(50))
    answers = await club.at_once(f"redemption WHERE id = '{party.id}'", calls)
    assert Counter(answers) == {"CHECKED_IN": 1, "UNITS_EXCEEDED": 49}
    assert (await party.row())["checked_in"] == 1


async def test_a_party_of_seven_at_fifty_doors_is_seven(club: Club) -> None:
    party = await a_party(club, 7)
    calls = (party.check_in(1) for _ in range(50))
    answers = await club.at_once(f"redemption WHERE id = '{party.id}'", calls)
    assert Counter(answers) == {"CHECKED_IN": 7, "UNITS_EXCEEDED": 43}
    assert (await party.row())["checked_in"] == 7


async def test_fifty_tries_with_one_key_count_once(club: Club) -> None:
    party = await a_party(club, 3)
    calls = (party.check_in(1, key="one") for _ in range(50))
    answers = await club.at_once(f"redemption WHERE id = '{party.id}'", calls)
    assert Counter(answers) == {"CHECKED_IN": 1, "REPLAYED": 49}
    assert (await party.row())["checked_in"] == 1


async def test_one_key_at_many_parties_at_once_lets_one_in(club: Club) -> None:
    perk = await an_event(club)
    parties = [await redeemed(club, perk, option="tonight") for _ in range(8)]
    calls = (one.check_in(key="one") for one in parties)
    answers = await club.at_once(f"redemption WHERE perk_id = '{perk.id}'", calls)
    assert Counter(answers) == {"CHECKED_IN": 1, "KEY_REUSED": 7}
    assert sum([(await one.row())["checked_in"] or 0 for one in parties]) == 1


async def test_a_consent_that_is_withdrawn_does_not_keep_a_guest_out(club: Club) -> None:
    """The place is redeemed, and it is the guest who shows the code."""
    party = await a_party(club)
    await club.withdraw(party.member, party.partner)
    assert await party.check_in() == "CHECKED_IN"


async def test_who_never_came_is_a_no_show_once_the_doors_are_closed(own: Club) -> None:
    perk = await an_event(own)
    came, missed, booked, half, gone = [
        await redeemed(own, perk, units=units, option="tonight") for units in (1, 1, 2, 2, 1)
    ]
    sample = await a_sample(own)
    assert await came.check_in() == await half.check_in(1) == "CHECKED_IN"
    assert await booked.update("SCHEDULED", scheduled_at=own.now) == "UPDATED"
    assert (await own.reverse(booked.id, booked.partner_actor, units=1)).code == "REVERSED"
    assert (await own.reverse(gone.id, gone.partner_actor)).code == "REVERSED"
    closes = 3 * HOUR + DOORS_CLOSE_AFTER
    assert await sweep(own, later=closes - timedelta(seconds=1)) == 0
    assert await sweep(own, later=closes) == 2
    assert await sweep(own, later=closes + DAY) == 0
    states = [(await one.row())["state"] for one in (came, missed, booked, half, gone, sample)]
    assert states == ["FULFILLED", "NO_SHOW", "NO_SHOW", "FULFILLED", "PENDING", "PENDING"]
    [entry] = await own.sql(
        "SELECT action, outcome, reasons, actor_kind, partner_id, member_id, leaf::json ->> 'units' AS units"
        " FROM audit_entry WHERE subject_id = $1 AND action = 'fulfilment.updated' AND reasons = '{NO_SHOW}'",
        booked.id,
    )
    assert tuple(entry) == (
        "fulfilment.updated", "DONE", ["NO_SHOW"], "system", booked.partner.id, booked.member.id, "1",
    )  # fmt: skip


async def test_a_session_without_an_end_is_over_a_day_after_it_began(own: Club) -> None:
    party = await a_party(own, lasts=None)
    assert await sweep(own, later=DOORS_CLOSE_AFTER_START - timedelta(seconds=1)) == 0
    assert await sweep(own, later=DOORS_CLOSE_AFTER_START) == 1
    assert (await party.row())["state"] == "NO_SHOW"


async def test_a_no_show_who_came_after_all_is_corrected_by_the_partner_or_staff(own: Club) -> None:
    party, other, none = await a_party(own, 3), await a_party(own, 3), await a_party(own, 3)
    assert await sweep(own, later=DAY) == 3
    assert await party.check_in(now=own.now + DAY) == "OUTSIDE_WINDOW"
    assert await party.update("FULFILLED", units=4) == "UNITS_EXCEEDED"
    assert await party.update("FULFILLED", units=2) == "UPDATED"
    assert await other.update("FULFILLED", actor=STAFF) == "UPDATED"
    assert await none.update("FAILED", reason="late") == "WRONG_STATE"
    assert [(await one.row())["checked_in"] for one in (party, other, none)] == [2, 3, None]


async def test_whoever_is_at_the_door_is_passed_over(own: Club) -> None:
    party, other = await a_party(own), await a_party(own)
    async with own.database.sessions() as session:
        await session.execute(sa.text("SELECT FROM redemption WHERE id = :id FOR UPDATE"), {"id": party.id})
        assert await sweep(own, later=DAY) == 1
    assert await sweep(own, later=DAY) == 1
    assert [(await one.row())["state"] for one in (party, other)] == ["NO_SHOW"] * 2


async def test_two_sweepers_at_once_close_each_once(own: Club) -> None:
    perk = await an_event(own)
    for _ in range(20):
        await redeemed(own, perk, option="tonight")
    counts = await asyncio.gather(*(sweep(own, later=DAY) for _ in range(4)))
    assert sum(counts) == 20
    entries = await own.entries(perk, "fulfilment.updated")
    assert entries == [("DONE", ["NO_SHOW"])] * 20


async def test_the_worker_closes_all_batches_and_erases_addresses(own: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    parties = [await a_party(own) for _ in range(3)]
    stop = asyncio.Event()
    monkeypatch.setattr(housekeeping, "CLOSE_SECONDS", 0.01)
    working = asyncio.create_task(housekeeping.keep_closing(own.database, lambda: own.now + DAY, stop))
    for _ in range(500):
        await asyncio.sleep(0.01)
        states = [(await one.row())["state"] for one in parties]
        if states == ["NO_SHOW"] * 3:
            break
    stop.set()
    await working
    assert states == ["NO_SHOW"] * 3
