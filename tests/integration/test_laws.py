"""The laws of a live database: a clean history breaks none, and every seeded fault is found by its name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from asyncpg import Connection

from gateway.database import open_database
from partners import catalogue
from partners.actors import SYSTEM
from partners.keys import Keys
from partners.laws import CHECKS, Finding, check_laws
from partners.log import sequence
from partners.log_laws import CHECKS as LOG_CHECKS
from partners.log_laws import check_log
from partners.programme import Programme
from partners.references import PerkRef
from partners.tables import Stock
from tests.factories import STAFF, Club

ORIGIN = "perks.example/log"
ALLOWANCE = {"kind": "allowance", "period": "EVER", "units": {"gold": 8}, "otherwise": 1}
A_LIVE_HOLD = "slot = 1 AND tier = 'gold' AND policy_version = 1"
A_REDEMPTION = "NOT EXISTS (SELECT FROM reversal v WHERE v.redemption_id = redemption.id)"

FAULTS = {
    "ALTER TABLE capacity DROP CONSTRAINT ck_capacity_never_oversold; UPDATE capacity SET units = taken - 1": {
        "capacity_exceeded"
    },
    "UPDATE capacity SET taken = taken + 1": {"capacity_not_conserved"},
    "UPDATE reversal SET stock = 'RESTOCK' WHERE stock = 'BURN'": {"capacity_not_conserved"},
    f"UPDATE hold SET slot = 9 WHERE {A_LIVE_HOLD}": {"allowance_exceeded"},
    """UPDATE policy SET rules = jsonb_set(rules, '{0,units,gold}', '1')""": {"allowance_exceeded"},
    "DROP INDEX uq_hold_allowance; UPDATE hold SET slot = 1 WHERE slot = 2": {"allowance_slot_shared"},
    f"UPDATE hold SET slot = NULL, period = NULL WHERE {A_LIVE_HOLD}": {"allowance_without_period"},
    f"UPDATE hold SET slot = NULL WHERE {A_LIVE_HOLD}": {"allowance_miscounted"},
    "UPDATE hold SET slot = 8 WHERE state = 'RELEASED'": {"allowance_miscounted"},
    "UPDATE idempotency_key SET result_id = new_id() WHERE result_id IN (SELECT id FROM hold)": {"key_without_result"},
    """INSERT INTO idempotency_key SELECT owner, key || '!', fingerprint, result_id, created_at
      FROM idempotency_key""": {"result_of_two_keys"},
    "UPDATE hold SET ended_at = NULL WHERE state = 'RELEASED'": {"hold_end_unclear"},
    "UPDATE hold SET ended_at = held_at WHERE state = 'HELD'": {"hold_end_unclear"},
    f"DELETE FROM redemption WHERE {A_REDEMPTION}": {
        "confirmed_without_redemption",
        "entry_without_change",
        "key_without_result",
    },
    f"UPDATE hold SET state = 'RELEASED' WHERE id = (SELECT hold_id FROM redemption WHERE {A_REDEMPTION})": {
        "allowance_miscounted",
        "capacity_not_conserved",
        "change_without_entry",
        "redemption_without_confirmed_hold",
    },
    "UPDATE redemption SET tier = NULL": {"redemption_without_confirmed_hold"},
    "UPDATE reversal SET perk_id = new_id() WHERE stock = 'BURN'": {"reversal_without_redemption"},
    "DELETE FROM audit_entry WHERE action = 'hold.released'": {"change_without_entry"},
    "UPDATE audit_entry SET outcome = 'DONE' WHERE action = 'perk.claimed'": {"entry_without_change"},
    """INSERT INTO audit_entry SELECT new_id(), at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id,
      member_id, subject_id, leaf, leaf_hash FROM audit_entry WHERE action = 'redemption.reversed'""": {
        "entry_without_change"
    },
    "UPDATE hold SET leaf_hash = ''": {"answered_leaf_differs"},
    "UPDATE redemption SET leaf_hash = ''": {"answered_leaf_differs"},
    "UPDATE reversal SET leaf_hash = ''": {"answered_leaf_differs"},
    "UPDATE hold SET member_id = new_id() WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE hold SET partner_id = new_id() WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE hold SET policy_version = 9 WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE audit_entry SET partner_id = new_id()": {"entry_refers_to_nothing"},
    "UPDATE audit_entry SET perk_id = new_id()": {"entry_refers_to_nothing"},
    "UPDATE audit_entry SET member_id = new_id()": {"entry_refers_to_nothing"},
}
LOG_FAULTS = {
    "DELETE FROM outbox": {"entry_not_on_its_way"},
    "INSERT INTO outbox SELECT entry_id, leaf_hash FROM log_leaf WHERE index = 0": {"entry_not_on_its_way"},
    "DELETE FROM audit_entry WHERE action = 'hold.released'": {"leaf_without_entry"},
    "UPDATE outbox SET leaf_hash = ''": {"leaf_without_entry"},
    """UPDATE audit_entry SET leaf = replace(leaf, '"v":1', '"v":2')""": {"leaf_changed"},
    "UPDATE audit_entry SET leaf = 'no JSON'": {"leaf_changed", "entry_not_as_its_leaf"},
    "UPDATE audit_entry SET outcome = 'REFUSED'": {"entry_not_as_its_leaf"},
    "UPDATE audit_entry SET partner_id = NULL, perk_id = NULL": {"entry_not_as_its_leaf"},
    "UPDATE audit_entry SET subject_id = new_id()": {"entry_not_as_its_leaf"},
    "DELETE FROM log_leaf WHERE index = 2": {"log_gap", "entry_not_on_its_way", "head_differs"},
    "DELETE FROM log_leaf WHERE index = (SELECT max(index) FROM log_leaf)": {"entry_not_on_its_way", "head_differs"},
    """UPDATE log_leaf SET index = -1 WHERE index = 1; UPDATE log_leaf SET index = 1 WHERE index = 2;
      UPDATE log_leaf SET index = 2 WHERE index = -1""": {"head_differs"},
    "DELETE FROM log_head": {"head_differs"},
    "UPDATE log_head SET size = size - 1": {"head_differs"},
    "UPDATE log_head SET frontier = reverse(frontier)": {"head_differs"},
    "UPDATE log_head SET checkpoint = ''": {"head_differs"},
    """UPDATE log_head SET checkpoint = replace(checkpoint, 'A', 'B')""": {"head_differs"},
}


@pytest.fixture(scope="module")
async def history(
    new_database: Callable[[], Awaitable[str]], programme: Programme, keys: Keys, now: datetime
) -> AsyncIterator[Club]:
    """A club to which everything has happened once; tests change it only in transactions that they roll back."""
    opened = open_database(await new_database(), connections=2)
    club = Club(opened, programme, keys, now)
    perk = await club.perk(units=20, rules=[ALLOWANCE])
    partner = club.partners[perk.partner_id]
    gold, silver = await club.member(partner), await club.member(partner, tier="silver")
    await club.hold(gold, perk, now=now - timedelta(hours=1))  # expires with the next claim
    _, kept, released, *reversed_ = [await club.hold(gold, perk) for _ in range(3 + len(Stock))]
    await club.redeemed(kept)
    await club.release(released)
    for hold, stock in zip(reversed_, Stock, strict=True):
        assert (await club.reverse(await club.redeemed(hold), STAFF, stock=stock)).code == "REVERSED"
    await club.hold(silver, perk)
    assert (await club.claim(silver, perk)).outcome == "REFUSED"
    # A tier that falls and a policy that becomes stricter break nothing of what was claimed before.
    free = await club.perk(partner, units=20)
    await club.hold(gold, free)
    async with opened.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=free.id), SYSTEM)
        stricter = catalogue.PerkSettings("A perk", "UTC", units=20, rules=[ALLOWANCE])
        await catalogue.update_perk(session, offer, stricter, programme=programme, actor=SYSTEM, now=now)
    for _ in range(2):
        await club.hold(gold, free)
    await club.assign(gold, "silver")
    async with opened.connection() as connection:
        assert await sequence(connection, keys.log, ORIGIN) > 20
    assert (await club.claim(gold, free)).outcome == "REFUSED"  # and its entry waits in the outbox
    yield club
    await opened.engine.dispose()


@asynccontextmanager
async def broken(club: Club, fault: str) -> AsyncIterator["Connection[Any]"]:
    """The history with a fault in it, which goes away again."""
    async with club.database.connection() as connection:
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            await connection.execute(fault)
            yield connection
        finally:
            await transaction.rollback()


def names(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings}


async def test_a_clean_history_breaks_no_law(history: Club, keys: Keys) -> None:
    async with history.database.connection() as connection:
        assert await check_laws(connection, history.now) == []
        assert await check_log(connection, keys.log, history.now) == []
        states = await connection.fetch("SELECT DISTINCT state FROM hold")
    assert len(states) == 4


async def test_an_empty_database_breaks_no_law(
    new_database: Callable[[], Awaitable[str]], keys: Keys, now: datetime
) -> None:
    opened = open_database(await new_database(), connections=1)
    async with opened.connection() as connection:
        assert await check_laws(connection, now) == []
        assert await check_log(connection, keys.log, now) == []
    await opened.engine.dispose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found_by_name(history: Club, fault: str) -> None:
    async with broken(history, fault) as connection:
        assert names(await check_laws(connection, history.now)) == FAULTS[fault]


@pytest.mark.parametrize("fault", LOG_FAULTS)
async def test_a_fault_of_the_log_is_found_by_name(history: Club, keys: Keys, fault: str) -> None:
    async with broken(history, fault) as connection:
        assert names(await check_log(connection, keys.log, history.now)) == LOG_FAULTS[fault]


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert set().union(*FAULTS.values()) == {check.name for check in CHECKS if check.broken}
    assert set().union(*LOG_FAULTS.values()) == {check.name for check in LOG_CHECKS} | {"head_differs"}


async def test_a_checkpoint_of_another_key_is_found(history: Club, keys: Keys) -> None:
    async with history.database.connection() as connection:
        [finding] = await check_log(connection, keys.codes, history.now)
    assert finding.name == "head_differs"
    assert "not signed by" in finding.sentence


async def test_an_overdue_hold_is_told_of_but_breaks_no_law(history: Club) -> None:
    async with history.database.connection() as connection:
        held = await connection.fetch("SELECT id::text FROM hold WHERE state = 'HELD' ORDER BY id")
        assert await check_laws(connection, history.now + timedelta(minutes=16)) == []
        [finding] = await check_laws(connection, history.now + timedelta(minutes=17))
    assert not finding.broken
    assert (finding.law, finding.name, finding.count) == (4, "hold_overdue", len(held))
    assert finding.rows == tuple(row["id"] for row in held)


async def test_a_finding_counts_all_and_names_ten(history: Club) -> None:
    async with broken(history, "UPDATE audit_entry SET partner_id = new_id()") as connection:
        [finding] = await check_laws(connection, history.now)
        total = await connection.fetchval("SELECT count(*) FROM audit_entry")
    assert finding == replace(finding, law=0, name="entry_refers_to_nothing", count=total)
    assert len(set(finding.rows)) == 10
