"""What ends a hold: confirmed, released or expired, and exactly one of them (law 4)."""

import random
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest

from gateway.database import Database
from partners import catalogue
from partners.actors import SYSTEM, Actor
from partners.codes import hold_code
from partners.holds import Held, expire_overdue
from partners.tables import PartnerState, PerkState
from tests.factories import STAFF, Club, member_actor, partner_actor

TICK = timedelta(microseconds=1)


async def a_hold(club: Club) -> Held:
    perk = await club.perk(units=5)
    return await club.hold(await club.member(club.partners[perk.partner_id]), perk)


async def state_of(club: Club, hold: Held) -> str:
    [row] = await club.sql("SELECT state FROM hold WHERE id = $1", hold.id)
    return str(row["state"])


async def test_a_hold_is_confirmed_by_id_or_by_code_however_it_is_typed(club: Club) -> None:
    first, second = await a_hold(club), await a_hold(club)
    assert (await club.confirm(first)).code == "CONFIRMED"
    typed = hold_code(club.keys.codes, second.id).lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert (await club.confirm(second, code=typed)).code == "CONFIRMED"
    assert await state_of(club, first) == await state_of(club, second) == "CONFIRMED"
    assert await club.taken(club.perks[first.perk_id]) == 1
    assert await club.entries(club.perks[first.perk_id], "hold.confirmed") == [("DONE", [f"HOLD:{first.id}"])]


async def test_who_guesses_gets_one_answer(club: Club) -> None:
    hold, other = await a_hold(club), await a_hold(club)
    stranger = club.partner_of(other)
    code = hold_code(club.keys.codes, hold.id)
    ended = await a_hold(club)
    await club.release(ended)
    guesses = [
        await club.confirm(hold, code=hold_code(club.keys.codes, uuid4())),
        await club.confirm(hold, code="not a code"),
        await club.confirm(hold, code=code, actor=stranger),
        await club.confirm(hold, actor=stranger),
        await club.confirm(ended),
        await club.confirm(ended, code=hold_code(club.keys.codes, ended.id)),
    ]
    assert [(guess.code, guess.id) for guess in guesses] == [("NOT_AVAILABLE", None)] * 6
    assert await state_of(club, hold) == "HELD"
    assert (await club.confirm(hold, code=code, actor=STAFF)).code == "CONFIRMED"


async def test_a_guess_at_another_partners_hold_says_nothing_in_the_guessers_log(club: Club) -> None:
    hold, other = await a_hold(club), await a_hold(club)
    await club.confirm(hold, actor=club.partner_of(other))
    [entry] = await club.sql(
        "SELECT partner_id, perk_id, member_id, subject_id, reasons FROM audit_entry"
        " WHERE action = 'hold.confirmed' AND actor_id = $1",
        club.partner_of(other).id,
    )
    assert entry["reasons"] == ["NOT_AVAILABLE"]
    assert entry["partner_id"] == club.partner_of(other).partner_id
    assert (entry["perk_id"], entry["member_id"], entry["subject_id"]) == (None, None, None)


@pytest.mark.parametrize(("early", "code"), [(TICK, "CONFIRMED"), (timedelta(0), "HOLD_EXPIRED")])
async def test_a_hold_can_be_confirmed_until_it_expires_and_not_at_that_instant(
    club: Club, early: timedelta, code: str
) -> None:
    hold = await a_hold(club)
    assert (await club.confirm(hold, now=hold.expires_at - early)).code == code


@pytest.mark.parametrize(("early", "answer"), [(TICK, "RELEASED"), (timedelta(0), "HOLD_EXPIRED")])
async def test_a_hold_can_be_released_until_it_expires_and_not_at_that_instant(
    club: Club, early: timedelta, answer: str
) -> None:
    hold = await a_hold(club)
    assert await club.release(hold, now=hold.expires_at - early) == answer
    assert await club.taken(club.perks[hold.perk_id]) == 0


async def test_the_same_key_confirms_again_and_another_one_does_not(club: Club) -> None:
    hold = await a_hold(club)
    first = await club.confirm(hold, key="one")
    again = await club.confirm(hold, key="one", now=hold.expires_at + timedelta(days=1))
    assert (again.code, again.id, again.replayed) == ("REPLAYED", first.id, True)
    assert (await club.confirm(hold, key="two")).code == "NOT_AVAILABLE"
    other = await a_hold(club)
    assert (await club.confirm(other, key="one", actor=club.partner_of(hold))).code == "KEY_REUSED"
    [row] = await club.sql("SELECT count(*) AS redemptions FROM redemption WHERE hold_id = $1", hold.id)
    assert row["redemptions"] == 1


async def test_a_refused_confirmation_does_not_use_up_the_key(club: Club) -> None:
    hold = await a_hold(club)
    partner = club.partners[club.perks[hold.perk_id].partner_id]
    await club.sql("UPDATE partner SET state = 'SUSPENDED' WHERE id = $1", partner.id)
    assert (await club.confirm(hold, key="one")).code == "PARTNER_SUSPENDED"
    await club.sql("UPDATE partner SET state = 'ACTIVE' WHERE id = $1", partner.id)
    assert (await club.confirm(hold, key="one")).code == "CONFIRMED"
    assert sorted(await club.entries(club.perks[hold.perk_id], "hold.confirmed")) == [
        ("DONE", [f"HOLD:{hold.id}"]),
        ("REFUSED", ["PARTNER_SUSPENDED"]),
    ]


async def test_fifty_confirmations_of_one_hold_make_one_redemption(club: Club) -> None:
    hold = await a_hold(club)
    calls = (club.confirm(hold, key=f"key {number}") for number in range(50))
    answers = await club.at_once(f"hold WHERE id = '{hold.id}'", calls)
    assert Counter(answer.code for answer in answers) == {"CONFIRMED": 1, "NOT_AVAILABLE": 49}
    assert len(await club.entries(club.perks[hold.perk_id], "hold.confirmed")) == 50


async def test_fifty_confirmations_with_one_key_get_one_answer(club: Club) -> None:
    hold = await a_hold(club)
    answers = await club.at_once(f"hold WHERE id = '{hold.id}'", (club.confirm(hold, key="one") for _ in range(50)))
    assert Counter(answer.code for answer in answers) == {"CONFIRMED": 1, "REPLAYED": 49}
    assert len({answer.id for answer in answers}) == 1


async def test_one_key_on_many_holds_at_once_confirms_one(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    holds = [await club.hold(await club.member(partner), perk) for _ in range(10)]
    answers = await club.at_once(f"hold WHERE perk_id = '{perk.id}'", (club.confirm(hold, key="one") for hold in holds))
    assert Counter(answer.code for answer in answers) == {"CONFIRMED": 1, "KEY_REUSED": 9}
    assert [row["count"] for row in await club.sql("SELECT count(*) FROM redemption WHERE perk_id = $1", perk.id)] == [
        1
    ]


async def test_what_changed_since_the_claim_counts_at_the_counter(club: Club, database: Database) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member, suspended, faithful = [await club.member(partner) for _ in range(3)]
    holds = [await club.hold(one, perk) for one in (member, suspended, faithful)]
    await club.withdraw(member, partner)
    await club.sql("UPDATE member SET state = 'SUSPENDED', version = version + 1 WHERE id = $1", suspended.id)
    await club.set_state(perk.id, PerkState.PAUSED)
    await club.assign(faithful, "member")
    answers = [(await club.confirm(hold)).code for hold in holds]
    assert answers == ["CONSENT_MISSING", "MEMBERSHIP_SUSPENDED", "CONFIRMED"]
    async with database.sessions.begin() as session:
        await catalogue.set_partner_state(session, partner.id, PartnerState.SUSPENDED, actor=SYSTEM, now=club.now)
    await club.consent(member, partner)
    assert (await club.confirm(holds[0], actor=STAFF)).code == "PARTNER_SUSPENDED"


async def test_a_consent_that_ends_by_time_is_missing_from_that_instant(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member()
    ends = club.now + timedelta(minutes=1)
    await club.consent(member, partner, expires_at=ends)
    hold = await club.hold(member, perk)
    assert (await club.confirm(hold, now=ends)).code == "CONSENT_MISSING"
    assert (await club.confirm(hold, now=ends - TICK)).code == "CONFIRMED"


async def test_a_clock_that_runs_behind_does_not_refuse_what_is_held(club: Club) -> None:
    hold = await a_hold(club)
    await club.sql("UPDATE consent SET granted_at = $2 WHERE member_id = $1", hold.member_id, club.now + TICK)
    assert (await club.confirm(hold)).code == "CONFIRMED"


async def test_releasing_is_for_its_member_its_partner_and_staff(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member, other = await club.member(partner), await club.member(partner)
    strangers = [member_actor(other), partner_actor(await club.partner())]
    for actor in (member_actor(member), partner_actor(partner), STAFF):
        hold = await club.hold(member, perk)
        for stranger in strangers:
            assert await club.release(hold, actor=stranger) == "NOT_AVAILABLE"
        assert await club.release(hold, actor=actor) == "RELEASED"
    assert await club.taken(perk) == 0


async def test_releasing_twice_is_releasing_once_and_what_is_confirmed_stays(club: Club) -> None:
    hold, confirmed = await a_hold(club), await a_hold(club)
    assert [await club.release(hold) for _ in range(2)] == ["RELEASED", "RELEASED"]
    assert await club.entries(club.perks[hold.perk_id], "hold.released") == [("DONE", [])]
    await club.confirm(confirmed)
    assert await club.release(confirmed) == "NOT_AVAILABLE"
    assert await club.taken(club.perks[confirmed.perk_id]) == 1
    assert await club.entries(club.perks[confirmed.perk_id], "hold.released") == [("REFUSED", ["NOT_AVAILABLE"])]


async def test_the_sweeper_ends_what_is_overdue_and_nothing_else(club: Club, database: Database) -> None:
    perk = await club.perk(hold_seconds=60, rules=[{"kind": "allowance", "period": "EVER", "otherwise": 1}])
    partner = club.partners[perk.partner_id]
    overdue, kept = await club.member(partner), await club.member(partner)
    await club.hold(overdue, perk)
    await club.hold(kept, perk, now=club.now + TICK)
    async with database.connection() as connection:
        assert await expire_overdue(connection, club.now + timedelta(seconds=60)) >= 1
        await expire_overdue(connection, club.now + timedelta(seconds=60))
    assert await club.taken(perk) == 1
    assert await club.entries(perk, "hold.expired") == [("DONE", [])]
    assert (await club.decision(overdue, perk)).eligible
    assert not (await club.decision(kept, perk)).eligible


async def test_what_is_foreseen_before_the_sweeper_comes_is_what_a_claim_finds(club: Club) -> None:
    perk = await club.perk(units=1, rules=[{"kind": "allowance", "period": "EVER", "otherwise": 1}])
    member = await club.member(club.partners[perk.partner_id])
    hold = await club.hold(member, perk)
    before = await club.decision(member, perk, now=hold.expires_at - TICK)
    after = await club.decision(member, perk, now=hold.expires_at)
    assert (before.eligible, before.capacity_remaining) == (False, 0)
    assert (after.eligible, after.capacity_remaining) == (True, 1)
    assert (await club.claim(member, perk, now=hold.expires_at)).outcome == "HELD"


async def end(club: Club, hold: Held, way: str, actor: Actor) -> str:
    if way == "confirm":
        return (await club.confirm(hold, actor=actor, now=hold.expires_at - TICK)).code
    if way == "release":
        return await club.release(hold, now=hold.expires_at - TICK)
    return str((await club.sql("SELECT expire_holds($1, $2)", hold.perk_id, hold.expires_at))[0][0])


async def test_of_confirming_releasing_and_expiring_at_once_one_wins(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    for number in range(8):
        hold = await club.hold(await club.member(partner), perk)
        ways = random.Random(number).sample(["confirm", "release", "expire"] * 3, 9)
        answers = await club.at_once(f"hold WHERE id = '{hold.id}'", (end(club, hold, way, STAFF) for way in ways))
        won = Counter(zip(ways, answers, strict=True))
        state = await state_of(club, hold)
        assert (won["confirm", "CONFIRMED"] == 1) == (state == "CONFIRMED")
        assert (won["release", "RELEASED"] >= 1) == (state == "RELEASED")
        assert (won["expire", "1"] == 1) == (state == "EXPIRED")
        endings = await club.sql(
            "SELECT action FROM audit_entry WHERE perk_id = $1 AND outcome = 'DONE' AND action LIKE 'hold.%'"
            " AND (subject_id = $2 OR subject_id = (SELECT id FROM redemption WHERE hold_id = $2))",
            perk.id,
            hold.id,
        )
        assert [row["action"] for row in endings] == [f"hold.{state.lower()}"]
    [row] = await club.sql("SELECT count(*) AS left FROM hold WHERE perk_id = $1 AND state = 'CONFIRMED'", perk.id)
    assert await club.taken(perk) == row["left"]
