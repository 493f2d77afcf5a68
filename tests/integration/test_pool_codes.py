"""Pools of codes on the real database: filled once, given out once each, and never emptied below what is held."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import make_url

from partners import tables
from partners.actors import SYSTEM
from partners.errors import BadInput, NotFound
from partners.holds import expire_overdue
from partners.idempotency import fingerprint
from partners.pool_codes import (
    FAULTS_TOLD_MAX,
    Batch,
    Report,
    Stocked,
    Withdrawn,
    add_codes,
    count_codes,
    find_pool,
    pause_empty,
    read_codes,
    withdraw_codes,
)
from partners.redemptions import Outcome, confirm_hold
from partners.references import PerkRef
from partners.tables import PerkKind, PerkState, Stock
from tests.factories import Club, member_actor, partner_actor
from tests.waiting import Queue


async def code_perk(club: Club, **settings: Any) -> tables.Perk:
    """A perk that gives codes, with none yet."""
    waitlist: dict[str, Any] | None = {} if settings.get("when_empty") == "WAITLIST" else None
    return await club.perk(kind=PerkKind.CODE, settings=settings, waitlist=waitlist)


async def add(club: Club, perk: tables.Perk, *codes: str) -> Report:
    async with club.database.connection() as connection:
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
        batch = Batch(pool, club.keys.sealing)
        await batch.take(list(enumerate(codes, 1)))
        async with connection.transaction():
            return await add_codes(connection, batch, SYSTEM, club.now)


async def withdraw(club: Club, perk: tables.Perk, codes: Sequence[str] | None) -> Withdrawn:
    async with club.database.connection() as connection:
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
        return await withdraw_codes(connection, pool, codes, club.keys.sealing, SYSTEM, club.now)


async def stock(club: Club, perk: tables.Perk) -> Stocked:
    async with club.database.connection() as connection:
        return (await count_codes(connection, [perk.id], club.now))[perk.id]


async def codes_of(club: Club, *redemptions: UUID | None) -> list[str | None]:
    async with club.database.connection() as connection:
        found = await read_codes(connection, [one for one in redemptions if one], club.keys.sealing)
    return [None if one is None else found.get(one) for one in redemptions]


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"CODE-{number:06}" for number in range(start, start + count)]


async def test_a_new_pool_is_empty_and_refuses(club: Club) -> None:
    perk = await code_perk(club)
    assert await stock(club, perk) == Stocked(0, 0, 0, None)
    claimed = await club.claim(await club.member(club.partners[perk.partner_id]), perk)
    assert (claimed.outcome, claimed.reasons) == ("REFUSED", ("CODE_POOL_EMPTY",))


async def test_codes_are_given_in_the_order_they_were_added_each_once(club: Club) -> None:
    perk = await code_perk(club)
    assert await add(club, perk, "A1", "B2", "C3") == Report(added=3)
    partner = club.partners[perk.partner_id]
    redemptions = [await club.redeemed(await club.hold(await club.member(partner), perk)) for _ in range(3)]
    assert await codes_of(club, *redemptions) == ["A1", "B2", "C3"]
    assert (await club.claim(await club.member(partner), perk)).outcome in ("REFUSED", "CODE_POOL_EMPTY")
    assert await stock(club, perk) == Stocked(total=3, assigned=3, held=0, low_at=None)


async def test_a_held_code_is_counted_and_given_back(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1", "B2")
    held = await club.hold(await club.member(club.partners[perk.partner_id]), perk)
    found = await stock(club, perk)
    assert (found.held, found.free, found.assigned) == (1, 1, 0)
    await club.release(held)
    assert (await stock(club, perk)).free == 2


async def test_duplicates_are_named_within_the_list_and_against_the_pool(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1", "B2")
    assert await add(club, perk, "C3", "B2", "D4", "C3", "A1") == Report(
        added=2,
        duplicates=3,
        faults=[
            (2, "a code that the pool has already"),
            (4, "the same code as in line 1"),
            (5, "a code that the pool has already"),
        ],
    )
    assert (await stock(club, perk)).total == 4


async def test_a_code_that_was_given_out_stays_a_duplicate(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    await club.redeemed(await club.hold(await club.member(club.partners[perk.partner_id]), perk))
    assert (await add(club, perk, "A1")).duplicates == 1


async def test_the_same_code_may_be_in_the_pools_of_two_perks(club: Club) -> None:
    one, other = await code_perk(club), await code_perk(club)
    assert (await add(club, one, "A1")).added == (await add(club, other, "A1")).added == 1
    hashes = await club.sql("SELECT hash FROM perk_code WHERE perk_id = ANY ($1::uuid[])", [one.id, other.id])
    assert len({row["hash"] for row in hashes}) == 2


async def test_malformed_codes_are_named_and_the_rest_is_taken(club: Club) -> None:
    perk = await code_perk(club, format={"characters": "ABC123", "length_min": 2, "length_max": 3})
    assert await add(club, perk, "A1", "A", "ABC1", "X1", "B2") == Report(
        added=2,
        malformed=3,
        faults=[
            (2, "1 characters: a code has 2 to 3"),
            (3, "4 characters: a code has 2 to 3"),
            (4, "U+0058 is no character of a code"),
        ],
    )


async def test_only_the_first_hundred_faults_are_told_and_all_are_counted(club: Club) -> None:
    perk = await code_perk(club)
    report = await add(club, perk, *["é"] * 150)
    assert (report.malformed, len(report.faults)) == (150, FAULTS_TOLD_MAX)


async def test_codes_have_at_most_200_characters(club: Club) -> None:
    perk = await code_perk(club)
    report = await add(club, perk, "x" * 200, "y" * 201)
    assert (report.added, report.malformed) == (1, 1)


async def test_codes_are_sealed_at_rest_and_open_for_their_redemption_alone(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A-VERY-SECRET-CODE")
    [row] = await club.sql("SELECT * FROM perk_code WHERE perk_id = $1", perk.id)
    assert all(b"SECRET" not in value for value in row.values() if isinstance(value, bytes))
    dumped = await club.sql("SELECT leaf FROM audit_entry WHERE perk_id = $1", perk.id)
    assert not any("SECRET" in entry["leaf"] for entry in dumped)


async def test_adding_is_in_the_audit_log_with_its_number_and_nothing_added_is_not(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1", "B2")
    await add(club, perk, "A1")
    entries = await club.sql("SELECT leaf FROM audit_entry WHERE perk_id = $1 AND action = 'codes.added'", perk.id)
    assert len(entries) == 1
    assert '"units":2' in entries[0]["leaf"]


async def test_what_fails_midway_leaves_nothing(club: Club) -> None:
    perk = await code_perk(club)
    async with club.database.connection() as connection:
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
        batch = Batch(pool, club.keys.sealing)
        await batch.take(list(enumerate(numbered(20), 1)))
        transaction = connection.transaction()
        await transaction.start()
        assert (await add_codes(connection, batch, SYSTEM, club.now)).added == 20
        await transaction.rollback()
    assert await stock(club, perk) == Stocked(0, 0, 0, None)
    assert await club.sql("SELECT FROM perk_code WHERE perk_id = $1", perk.id) == []
    assert await club.entries(perk, "codes.added") == []


async def test_a_hundred_thousand_codes_are_added_by_few_statements(club: Club) -> None:
    perk = await code_perk(club)
    statements: list[str] = []
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with club.database.connection() as connection:
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
        batch = Batch(pool, club.keys.sealing)
        await batch.take(list(enumerate(numbered(100_000), 1)))
        prepared = loop.time()
        with connection.query_logger(lambda record: statements.append(record.query)):
            async with connection.transaction():
                report = await add_codes(connection, batch, SYSTEM, club.now)
    stored = loop.time()
    sys.stdout.write(f"100,000 codes: sealed in {prepared - begun:.2f} s, stored in {stored - prepared:.2f} s\n")
    assert report == Report(added=100_000)
    words = ("pg_advisory_xact_lock", "INSERT INTO perk_code", "UPDATE capacity")
    assert [sum(word in one for one in statements) for word in words] == [1, 10, 1]
    assert (await stock(club, perk)).free == 100_000


async def test_others_have_their_turn_while_codes_are_sealed(club: Club) -> None:
    perk = await code_perk(club)
    async with club.database.connection() as connection:
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await Batch(pool, club.keys.sealing).take(list(enumerate(numbered(5_000), 1)))
    other.cancel()
    assert turns >= 5_000 / 250


async def test_equal_uploads_at_once_add_each_code_once(club: Club) -> None:
    perk = await code_perk(club)
    codes = numbered(3_000)
    reports = await asyncio.gather(*(add(club, perk, *some) for some in (codes, codes[::-1], codes[1_500:], codes)))
    assert sum(report.added for report in reports) == 3_000
    assert sum(report.duplicates for report in reports) == 3 * 3_000 + 1_500 - 3_000
    assert (await stock(club, perk)).total == 3_000


async def test_new_codes_go_to_those_who_wait_first_and_the_rest_to_everybody(club: Club) -> None:
    queue = await Queue.at(club, kind=PerkKind.CODE, units=None, settings={"when_empty": "WAITLIST"})
    perk, entries = queue.perk, [await queue.join() for _ in range(2)]
    await add(club, perk, "A1", "B2", "C3")
    assert await queue.counts() == (0, 3, 2)  # taken, kept, waiting
    claimed = await club.claim(await queue.member(), perk)
    assert claimed.reasons == ("CODE_POOL_EMPTY",)
    assert await queue.promote() == 2
    assert await queue.state(*entries) == ["OFFERED", "OFFERED"]
    assert await queue.counts() == (2, 0, 0)
    third = await club.redeemed(await club.hold(await queue.member(), perk))
    offers = [(await queue.offered(entry))["id"] for entry in entries]
    taken = await asyncio.gather(*(confirmed_by_id(club, offer, perk) for offer in offers))
    assert sorted(await codes_of(club, third, *taken), key=str) == ["A1", "B2", "C3"]


async def confirmed_by_id(club: Club, hold_id: UUID, perk: tables.Perk) -> UUID | None:
    async with club.database.connection() as connection:
        return (await confirm_on(connection, club, hold_id, perk)).id


async def test_another_partners_pool_is_not_found(club: Club) -> None:
    perk, stranger = await code_perk(club), await club.partner()
    for reference in (PerkRef(id=perk.id), PerkRef(handle=perk.handle), PerkRef(handle="no/such")):
        with pytest.raises(NotFound):
            async with club.database.connection() as connection:
                await find_pool(connection, reference, partner_actor(stranger))
    async with club.database.connection() as connection:
        owner = partner_actor(club.partners[perk.partner_id])
        assert (await find_pool(connection, PerkRef(handle=perk.handle), owner)).perk_id == perk.id


async def test_a_perk_of_another_kind_has_no_pool(club: Club) -> None:
    perk = await club.perk()
    with pytest.raises(BadInput, match="is of kind SAMPLE and has no codes"):
        await add(club, perk, "A1")


async def confirm_on(connection: "asyncpg.Connection[Any]", club: Club, hold_id: UUID, perk: tables.Perk) -> Outcome:
    return await confirm_hold(
        connection,
        hold_id=hold_id,
        code=None,
        actor=partner_actor(club.partners[perk.partner_id]),
        key=uuid4().hex,
        fingerprint=fingerprint("confirmHold", {"hold": str(hold_id)}),
        now=club.now,
    )


async def bare(club: Club) -> "asyncpg.Connection[Any]":
    """A connection of its own, as another process has."""
    url = make_url(club.database.engine.url).set(drivername="postgresql")
    return await asyncpg.connect(url.render_as_string(hide_password=False))


async def test_64_confirmations_at_once_give_64_different_codes(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, *numbered(64))
    members = [await club.member(club.partners[perk.partner_id]) for _ in range(64)]
    holds = [await club.hold(member, perk) for member in members]
    connections = [await bare(club) for _ in range(16)]

    async def work(mine: "asyncpg.Connection[Any]", number: int) -> list[Outcome]:
        return [await confirm_on(mine, club, hold.id, perk) for hold in holds[number::16]]

    try:
        outcomes = await asyncio.gather(*(work(one, number) for number, one in enumerate(connections)))
    finally:
        for one in connections:
            await one.close()
    confirmed = [outcome for some in outcomes for outcome in some]
    assert {outcome.code for outcome in confirmed} == {"CONFIRMED"}
    given = await codes_of(club, *(outcome.id for outcome in confirmed))
    assert sorted(given, key=str) == numbered(64)
    assert await stock(club, perk) == Stocked(total=64, assigned=64, held=0, low_at=None)


async def test_a_confirmation_that_dies_gives_no_code_and_the_next_one_gets_it(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1", "B2")
    partner = club.partners[perk.partner_id]
    one, other = [await club.hold(await club.member(partner), perk) for _ in range(2)]
    dying = await bare(club)
    transaction = dying.transaction()
    await transaction.start()
    assert (await confirm_on(dying, club, one.id, perk)).code == "CONFIRMED"
    assert await codes_of(club, await club.redeemed(other)) == ["B2"]  # the first is locked, and nobody waits
    dying.terminate()
    for _ in range(100):  # until the server has noticed
        if (again := await club.confirm(one)).code == "CONFIRMED":
            break
        await asyncio.sleep(0.02)
    assert await codes_of(club, again.id) == ["A1"]
    assert (await stock(club, perk)).assigned == 2


async def test_where_codes_are_missing_the_refusal_is_on_record_and_the_hold_stays(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    held = await club.hold(await club.member(club.partners[perk.partner_id]), perk)
    await club.sql("DELETE FROM perk_code WHERE perk_id = $1", perk.id)  # behind the product's back
    assert (await club.confirm(held)).code == "CODE_POOL_EMPTY"
    assert await club.entries(perk, "hold.confirmed") == [("REFUSED", ["CODE_POOL_EMPTY"])]
    assert (await stock(club, perk)).held == 1


async def test_a_member_confirms_by_itself_and_only_its_own(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    member, stranger = await club.member(club.partners[perk.partner_id]), await club.member()
    held = await club.hold(member, perk)
    assert (await club.confirm(held, actor=member_actor(stranger))).code == "NOT_AVAILABLE"
    assert (await club.confirm(held, actor=member_actor(member))).code == "CONFIRMED"


async def test_a_code_that_was_seen_is_burnt_and_never_given_again(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    partner = partner_actor(club.partners[perk.partner_id])
    redemption = await club.redeemed(await club.hold(await club.member(club.partners[perk.partner_id]), perk))
    for stock_of in (Stock.RESTOCK, Stock.WAITLIST):
        assert (await club.reverse(redemption, partner, stock=stock_of)).code == "NOT_RESTOCKABLE"
    assert (await club.reverse(redemption, partner, stock=Stock.BURN)).code == "REVERSED"
    assert await codes_of(club, redemption) == ["A1"]
    assert (await stock(club, perk)).free == 0
    assert (await add(club, perk, "A1")).duplicates == 1


async def test_all_that_nobody_has_is_withdrawn_but_for_what_is_held(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, *numbered(10))
    partner = club.partners[perk.partner_id]
    given = await club.redeemed(await club.hold(await club.member(partner), perk))
    held = [await club.hold(await club.member(partner), perk) for _ in range(3)]
    assert await withdraw(club, perk, None) == Withdrawn(withdrawn=6, given=0, held=3, unknown=0)
    assert await stock(club, perk) == Stocked(total=4, assigned=1, held=3, low_at=None)
    later = [await club.redeemed(one) for one in held]
    assert await codes_of(club, given, *later) == numbered(4)
    assert await club.entries(perk, "codes.withdrawn") == [("DONE", [])]


async def test_some_are_withdrawn_by_name_and_the_report_says_what_was_not(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1", "B2", "C3", "D4")
    partner = club.partners[perk.partner_id]
    await club.redeemed(await club.hold(await club.member(partner), perk))
    await club.hold(await club.member(partner), perk)
    found = await withdraw(club, perk, ["A1", "B2", "C3", "D4", " D4 ", "Z9"])
    assert found == Withdrawn(withdrawn=2, given=1, held=1, unknown=1)
    assert await withdraw(club, perk, ["C3"]) == Withdrawn(withdrawn=0, given=0, held=0, unknown=1)
    assert (await add(club, perk, "C3")).added == 1


async def test_an_overdue_hold_does_not_keep_a_code_from_being_withdrawn(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    await club.hold(await club.member(club.partners[perk.partner_id]), perk, now=club.now - timedelta(hours=1))
    assert (await stock(club, perk)).free == 1
    assert (await withdraw(club, perk, None)).withdrawn == 1


async def test_withdrawing_while_confirming_leaves_a_code_for_every_hold(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, *numbered(40))
    partner = club.partners[perk.partner_id]
    holds = [await club.hold(await club.member(partner), perk) for _ in range(20)]
    withdrawing = asyncio.create_task(withdraw(club, perk, None))
    outcomes = await asyncio.gather(*(club.confirm(hold) for hold in holds))
    gone = await withdrawing
    assert {outcome.code for outcome in outcomes} == {"CONFIRMED"}
    assert gone.withdrawn == 20
    found = await codes_of(club, *(outcome.id for outcome in outcomes))
    assert len({*found}) == 20
    assert await stock(club, perk) == Stocked(total=20, assigned=20, held=0, low_at=None)


async def state_of(club: Club, perk: tables.Perk) -> str:
    [row] = await club.sql("SELECT state FROM perk WHERE id = $1", perk.id)
    return str(row["state"])


async def pause(club: Club) -> int:
    async with club.database.connection() as connection:
        return await pause_empty(connection, club.now)


async def test_an_empty_pool_pauses_its_perk_once_every_code_is_given_out(club: Club) -> None:
    perk = await code_perk(club, when_empty="PAUSE")
    await pause(club)
    assert await state_of(club, perk) == PerkState.PUBLISHED  # it was not filled yet
    await add(club, perk, "A1")
    held = await club.hold(await club.member(club.partners[perk.partner_id]), perk)
    await pause(club)
    assert await state_of(club, perk) == PerkState.PUBLISHED  # what is held may come back
    await club.redeemed(held)
    assert await pause(club) >= 1
    assert await state_of(club, perk) == PerkState.PAUSED
    assert await club.entries(perk, "perk.paused") == [("DONE", ["CODE_POOL_EMPTY"])]
    claimed = await club.claim(await club.member(club.partners[perk.partner_id]), perk)
    assert set(claimed.reasons) == {"PERK_PAUSED", "CODE_POOL_EMPTY"}
    await add(club, perk, "B2")
    await club.set_state(perk.id, PerkState.PUBLISHED)
    await pause(club)
    assert await state_of(club, perk) == PerkState.PUBLISHED


async def test_an_empty_pool_that_only_refuses_pauses_nothing(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    await club.redeemed(await club.hold(await club.member(club.partners[perk.partner_id]), perk))
    await pause(club)
    assert await state_of(club, perk) == PerkState.PUBLISHED


async def test_the_alarm_rings_when_few_codes_are_left(club: Club) -> None:
    perk = await club.perk(kind=PerkKind.CODE, low_at=1)
    await add(club, perk, "A1", "B2", "C3")
    partner = club.partners[perk.partner_id]
    await club.hold(await club.member(partner), perk)
    assert await club.entries(perk, "capacity.low") == []
    await club.hold(await club.member(partner), perk)
    assert await club.entries(perk, "capacity.low") == [("DONE", [])]
    assert (await stock(club, perk)).low_at == 1


async def test_an_expired_hold_gives_its_code_to_the_next(club: Club) -> None:
    perk = await code_perk(club)
    await add(club, perk, "A1")
    partner = club.partners[perk.partner_id]
    late = await club.hold(await club.member(partner), perk, now=club.now - timedelta(hours=1))
    async with club.database.connection() as connection:
        await expire_overdue(connection, club.now)
    assert (await club.confirm(late)).code == "HOLD_EXPIRED"
    assert await codes_of(club, await club.redeemed(await club.hold(await club.member(partner), perk))) == ["A1"]
