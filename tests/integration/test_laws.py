"""The laws of a live database: a clean history breaks none, and every seeded fault is found by its name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from asyncpg import Connection

from gateway.database import Database, open_database
from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.eligibility import decide
from partners.facts import Circumstances
from partners.holds import extend_hold
from partners.keys import Keys, derive_keys
from partners.laws import CHECKS, Finding, check_laws
from partners.laws.log import CHECKS as LOG_CHECKS
from partners.laws.log import check_log
from partners.perk_settings import PerkSettings
from partners.programme import Programme
from partners.references import PerkRef
from partners.sequencing import sequence
from partners.tables import Stock
from partners.waitlist import join_waitlist, leave_waitlist
from tests.factories import STAFF, Club, member_actor
from tests.fulfilling import SETTINGS, SHIPPING, redeemed

ORIGIN = "perks.example/log"
ALLOWANCE = {"kind": "allowance", "period": "EVER", "units": {"gold": 8}, "otherwise": 1}
ROLLING = {"kind": "allowance", "period": "ROLLING", "hours": 24, "otherwise": 2}
VALUE = {"kind": "allowance", "period": "WEEK", "measure": "amount", "otherwise": 5_000}
FOR_GOLD = [{"tier": "gold", "until": "2999-01-01T00:00:00+00:00"}]
A_LIVE_HOLD = "state = 'HELD' AND tier = 'gold' AND policy_version = 1 AND pools IS NULL AND amount = 0"
A_REDEMPTION = "reversals = 0 AND policy_version = 1 AND perk_id IN (SELECT id FROM perk WHERE kind = 'SAMPLE')"
POOLED = "perk_id IN (SELECT id FROM perk WHERE pooled)"

FAULTS = {
    "ALTER TABLE capacity DROP CONSTRAINT ck_capacity_never_oversold; UPDATE capacity SET units = taken - 1": {
        "capacity_exceeded",
        "pools_not_the_capacity",
    },
    f"""ALTER TABLE pool DROP CONSTRAINT ck_pool_never_oversold;
      UPDATE pool SET units = taken - 1, kept = 0 WHERE number = 1;
      UPDATE capacity SET units = (SELECT sum(units) FROM pool) WHERE {POOLED}""": {"pool_exceeded"},
    "UPDATE pool SET units = units + 1": {"pools_not_the_capacity"},
    "UPDATE perk SET pooled = NOT pooled": {"pools_not_the_capacity", "hold_drawn_otherwise"},
    "UPDATE capacity SET taken = taken + 1 WHERE units IS NULL OR units > taken + kept": {
        "capacity_not_conserved",
        "pools_not_the_capacity",
    },
    "UPDATE pool SET taken = 0": {"pool_not_conserved", "pools_not_the_capacity"},
    f"UPDATE hold SET pool_units = ARRAY[1, 1] WHERE {POOLED} AND state = 'HELD'": {
        "hold_drawn_otherwise",
        "pool_not_conserved",
    },
    "UPDATE reversal SET stock = 'RESTOCK' WHERE stock = 'BURN'": {"capacity_not_conserved"},
    "UPDATE capacity SET waiting = waiting + 1": {"waiting_miscounted"},
    """UPDATE policy SET rules = jsonb_set(rules, '{0,units,gold}', '1') WHERE rules -> 0 ? 'units'""": {
        "allowance_exceeded"
    },
    """UPDATE policy SET rules = jsonb_set(rules, '{0,otherwise}', '999') WHERE rules -> 0 ->> 'period' = 'WEEK'""": {
        "allowance_exceeded"
    },
    """UPDATE hold SET held_at = held_at + interval '1 us'
      WHERE held_at = (SELECT min(held_at) FROM hold WHERE policy_version = 7)""": {"rolling_allowance_exceeded"},
    f"UPDATE hold SET counted = 0 WHERE {A_LIVE_HOLD}": {"allowance_miscounted"},
    "UPDATE hold SET counted = 1 WHERE state = 'RELEASED'": {"allowance_miscounted"},
    "UPDATE hold SET counted_amount = 0 WHERE amount > 0": {"allowance_miscounted"},
    "UPDATE reversal SET returns_allowance = NOT returns_allowance": {"allowance_miscounted"},
    "UPDATE idempotency_key SET result_id = new_id() WHERE result_id IN (SELECT id FROM hold)": {"key_without_result"},
    """INSERT INTO idempotency_key SELECT owner, key || '!', fingerprint, result_id, created_at
      FROM idempotency_key""": {"result_of_two_keys"},
    "UPDATE hold SET ended_at = NULL WHERE state = 'RELEASED'": {"hold_end_unclear"},
    "UPDATE hold SET ended_at = held_at WHERE state = 'HELD'": {"hold_end_unclear"},
    "UPDATE hold SET extensions = 3 WHERE state = 'HELD'": {"hold_extended_too_often", "change_without_entry"},
    "UPDATE hold SET extensions = 0": {"entry_without_change"},
    f"DELETE FROM redemption WHERE {A_REDEMPTION}": {
        "allowance_miscounted",
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
    "UPDATE redemption SET option_id = new_id()": {"redemption_without_confirmed_hold"},
    "UPDATE reversal SET perk_id = new_id() WHERE stock = 'BURN'": {"reversal_without_redemption"},
    "UPDATE redemption SET reversed_units = 0": {"reversals_miscounted"},
    "UPDATE reversal SET number = number + 2": {"reversals_miscounted"},
    "UPDATE waitlist_entry SET state = 'ACCEPTED', ended_at = joined_at WHERE state = 'OFFERED'": {
        "offer_not_its_holds"
    },
    "UPDATE waitlist_entry SET hold_id = NULL": {"offer_not_its_holds"},
    "UPDATE waitlist_entry SET ended_at = joined_at": {"offer_not_its_holds"},
    "DELETE FROM waitlist_entry WHERE state = 'WITHDRAWN'": {"entry_without_change"},
    "DELETE FROM audit_entry WHERE action = 'waitlist.withdrawn'": {"change_without_entry"},
    "UPDATE perk_code SET redemption_id = NULL": {"redemption_without_code"},
    "UPDATE perk_code SET redemption_id = new_id() WHERE redemption_id IS NULL": {"redemption_without_code"},
    "UPDATE access_grant SET used = used + 1": {"access_miscounted"},
    "DELETE FROM audit_entry WHERE action = 'hold.released'": {"change_without_entry"},
    "UPDATE audit_entry SET outcome = 'DONE' WHERE action = 'perk.claimed'": {"entry_without_change"},
    """INSERT INTO audit_entry SELECT new_id(), at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id,
      member_id, subject_id, leaf, leaf_hash FROM audit_entry WHERE action = 'redemption.reversed'""": {
        "entry_without_change"
    },
    """DELETE FROM audit_entry WHERE id = (SELECT e.id FROM audit_entry e JOIN redemption r ON r.id = e.subject_id
      WHERE e.action = 'redemption.reversed' AND r.reversals = 2 LIMIT 1)""": {
        "change_without_entry",
        "answered_leaf_differs",
    },
    "DELETE FROM audit_entry WHERE action = 'fulfilment.updated'": {"fulfilment_without_entry"},
    "UPDATE redemption SET fulfilment = 'NO_SHOW'": {"fulfilment_without_entry", "address_kept"},
    "UPDATE fulfilment SET checked_in = checked_in + 2": {"guests_miscounted"},
    "UPDATE check_in SET units = units + 1": {"guests_miscounted"},
    "DELETE FROM fulfilment WHERE address IS NULL": {"guests_miscounted"},
    "UPDATE fulfilment SET address_until = address_until - interval '31 days'": {"address_kept"},
    "UPDATE fulfilment SET method = 'PICKUP'": {"address_kept"},
    "UPDATE member SET state = 'ERASED', erased_at = created_at": {"erased_member_known"},
    "UPDATE member SET audit_salt = ''": {"forgotten_member_named"},
    "UPDATE hold SET leaf_hash = ''": {"answered_leaf_differs"},
    "UPDATE redemption SET leaf_hash = ''": {"answered_leaf_differs"},
    "UPDATE reversal SET leaf_hash = ''": {"answered_leaf_differs"},
    "UPDATE hold SET member_id = new_id() WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE hold SET partner_id = new_id() WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE hold SET policy_version = 9 WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE hold SET option_id = new_id() WHERE state = 'EXPIRED'": {"hold_refers_to_nothing"},
    "UPDATE waitlist_entry SET option_id = new_id()": {"waiting_refers_to_nothing"},
    "UPDATE waitlist_entry SET member_id = new_id() WHERE state = 'WAITING'": {"waiting_refers_to_nothing"},
    "UPDATE audit_entry SET partner_id = new_id()": {"entry_refers_to_nothing"},
    "UPDATE audit_entry SET perk_id = new_id()": {"entry_refers_to_nothing"},
    "UPDATE audit_entry SET member_id = new_id()": {"entry_refers_to_nothing"},
    """INSERT INTO webhook_endpoint (id, partner_id, url, description, actions, state, since, version, failures,
        created_by, created_at) SELECT new_id(), id, '', '', '{}', 'ENABLED', 0, 1, 0, '', created_at FROM partner;
      UPDATE webhook_cursor SET index = (SELECT size FROM log_head)""": {"event_without_message"},
}
LOG_FAULTS = {
    "DELETE FROM outbox": {"entry_not_on_its_way"},
    "INSERT INTO outbox SELECT entry_id, leaf_hash FROM log_leaf WHERE index = 0": {"entry_not_on_its_way"},
    "DELETE FROM audit_entry WHERE action = 'hold.released'": {"leaf_without_entry"},
    "UPDATE outbox SET leaf_hash = ''": {"leaf_without_entry"},
    """UPDATE audit_entry SET leaf = replace(leaf, '"v":2', '"v":3')""": {"leaf_changed"},
    "UPDATE audit_entry SET leaf = 'no JSON'": {"leaf_changed", "entry_not_as_its_leaf"},
    "UPDATE audit_entry SET outcome = 'REFUSED'": {"entry_not_as_its_leaf"},
    "UPDATE audit_entry SET partner_id = NULL, perk_id = NULL": {"entry_not_as_its_leaf"},
    "UPDATE audit_entry SET subject_id = new_id()": {"entry_not_as_its_leaf"},
    "DELETE FROM log_leaf WHERE index = 2": {"log_gap", "entry_not_on_its_way", "head_differs"},
    "DELETE FROM log_leaf WHERE index = (SELECT max(index) FROM log_leaf)": {"entry_not_on_its_way", "head_differs"},
    """UPDATE log_leaf SET index = -1 WHERE index = 1; UPDATE log_leaf SET index = 1 WHERE index = 2;
      UPDATE log_leaf SET index = 2 WHERE index = -1""": {"head_differs"},
    "INSERT INTO log_node VALUES (1, 0, sha256(''))": {"node_differs"},
    "DELETE FROM log_head": {"head_differs"},
    "UPDATE log_head SET origin = 'other.example/log'": {"head_differs"},
    "UPDATE log_key SET sealed = reverse(sealed)": {"head_differs"},
    "UPDATE log_head SET size = size - 1": {"head_differs"},
    "UPDATE log_head SET frontier = reverse(frontier)": {"head_differs"},
    "UPDATE log_head SET checkpoint = ''": {"head_differs"},
    "UPDATE log_head SET checkpoint = translate(checkpoint, 'ABCDEFGHIJKLM', 'BCDEFGHIJKLMA')": {"head_differs"},
}


@pytest.fixture(scope="module")
async def history(
    new_database: Callable[[], Awaitable[str]], programme: Programme, keys: Keys, now: datetime
) -> AsyncIterator[Club]:
    """A club to which everything has happened once; tests change it only in transactions that they roll back."""
    opened = open_database(await new_database(), connections=4)
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
    assert (await club.claim(await club.member(), perk)).outcome == "REFUSED"
    await scarce_things(club, partner)
    await kept_promises(club, partner)
    # A tier that falls and a policy that becomes stricter break nothing of what was claimed before.
    free = await club.perk(partner, units=20)
    await club.hold(gold, free)
    async with opened.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=free.id), SYSTEM)
        stricter = PerkSettings("A perk", "UTC", units=20, rules=[ALLOWANCE])
        await catalogue.update_perk(session, offer, stricter, programme=programme, actor=SYSTEM, now=now)
    for _ in range(2):
        await club.hold(gold, free)
    await club.assign(gold, "silver")
    async with opened.connection() as connection:
        grown = await sequence(connection, keys, ORIGIN, now)
        assert grown is not None
        assert grown.count > 20
    assert (await club.claim(await club.member(), free)).outcome == "REFUSED"  # and its entry waits in the outbox
    yield club
    await opened.engine.dispose()


async def test_another_time_zone_makes_another_policy_and_breaks_no_law(
    empty_database: Database, programme: Programme, keys: Keys, now: datetime
) -> None:
    """What was claimed in the former zone's periods is judged by them."""
    club = Club(empty_database, programme, keys, now.replace(hour=11, minute=30))
    perk = await club.perk(rules=[{"kind": "allowance", "period": "DAY", "otherwise": 1}])
    member = await club.member(club.partners[perk.partner_id])
    late = club.now.replace(hour=23, minute=30)
    for at in (late, late + timedelta(hours=1)):  # two days in UTC, one in Los Angeles
        await club.redeemed(await club.hold(member, perk, now=at), now=at)
    async with empty_database.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=perk.id), SYSTEM)
        settings = offer.changed(time_zone="America/Los_Angeles")
        changed = await catalogue.update_perk(session, offer, settings, programme=programme, actor=SYSTEM, now=now)
    assert (changed.policy.version, changed.policy.time_zone) == (2, "America/Los_Angeles")
    async with empty_database.connection() as connection:
        assert await check_laws(connection, late) == []


async def scarce_things(club: Club, partner: tables.Partner) -> None:
    """Units, amounts, pools, parts, extensions, codes, rights and offers: each once."""
    gold, silver, now = await club.member(partner), await club.member(partner, tier="silver"), club.now
    pooled = await club.perk(partner, units=6, units_max=4, currency="CHF", rules=[VALUE])
    await club.sql("UPDATE perk SET pooled = true WHERE id = $1", pooled.id)
    for number, units, schedule in ((0, 3, FOR_GOLD), (1, 3, [])):
        await club.sql(
            "INSERT INTO pool (perk_id, number, name, units, taken, kept, schedule) VALUES ($1, $2, '', $3, 0, 0, $4)",
            *(pooled.id, number, units, orjson.dumps(schedule).decode()),
        )
    party = await club.hold(gold, pooled, said=Circumstances(units=4, amount=4_000))
    assert (await club.confirm(party, units=3, amount=3_000)).code == "CONFIRMED"
    [taken] = await club.sql("SELECT id FROM redemption WHERE hold_id = $1", party.id)
    for parts in ({"units": 1, "returns_allowance": False}, {"units": 1, "amount": 500}):
        assert (await club.reverse(taken["id"], STAFF, **parts)).code == "REVERSED"
    pair = await club.hold(silver, pooled, said=Circumstances(units=2, amount=5_000))
    async with club.database.connection() as connection:
        for _ in range(2):
            assert await extend_hold(connection, pair.id, member_actor(silver), now) == "EXTENDED"
    rolling = await club.perk(partner, rules=[ROLLING])
    for then in (now - timedelta(hours=24), now, now):
        await club.redeemed(await club.hold(gold, rolling, now=then), now=then)
    await club.sql("UPDATE perk SET policy_version = 7 WHERE id = $1", rolling.id)
    await club.sql("UPDATE policy SET version = 7 WHERE perk_id = $1", rolling.id)
    for table in ("hold", "redemption"):
        await club.sql(f"UPDATE {table} SET policy_version = 7 WHERE perk_id = $1", rolling.id)
    codes, access = await club.perk(partner, units=2), await club.perk(partner)
    await club.sql("UPDATE perk SET kind = 'CODE' WHERE id = $1", codes.id)
    await club.sql("UPDATE perk SET kind = 'ACCESS', settings = '{\"term_days\": 30}' WHERE id = $1", access.id)
    for code in (b"one", b"two"):
        await club.sql(
            "INSERT INTO perk_code (perk_id, hash, sealed, added_at) VALUES ($1, $2, $2, $3)", codes.id, code, now
        )
    for perk in (codes, access):
        await club.redeemed(await club.hold(gold, perk))
    waited = await club.perk(partner, units=1, waitlist={"offer_seconds": 300})
    blocking = await club.hold(await club.member(partner), waited)
    ranks = club.programme.ranks
    for member in (gold, silver, await club.member(partner)):
        known, actor = await club.known(member, waited), member_actor(member)
        async with club.database.connection() as connection:
            last = await join_waitlist(connection, known, decide(known, ranks, now), actor=actor, ranks=ranks, now=now)
    assert last.entry_id is not None
    async with club.database.connection() as connection:
        assert await leave_waitlist(connection, last.entry_id, actor, now) == "WITHDRAWN"
    await club.release(blocking)
    [entry] = await club.sql("SELECT id FROM waitlist_entry WHERE member_id = $1", gold.id)
    offer = replace(await club.claim_of(gold, waited), actor=SYSTEM, entry_id=entry["id"])
    [offered] = await club.claim_all([replace(offer, decision=replace(offer.decision, eligible=True, refusals=()))])
    assert offered.outcome == "HELD"


async def kept_promises(club: Club, partner: tables.Partner) -> None:
    """A sample that is on its way, and a guest who came."""
    settings: dict[str, Any] = {"units_max": 2, "settings": SETTINGS}
    sample, event = [await redeemed(club, await club.perk(partner, **settings), units=2) for _ in range(2)]
    assert (await club.reverse(sample.id, STAFF, units=1)).code == "REVERSED"
    assert (await sample.choose(SHIPPING)).code == "CHOSEN"
    assert await sample.update("SCHEDULED", carrier="Post") == "UPDATED"
    await club.sql("UPDATE perk SET kind = 'EVENT' WHERE id = $1", event.perk.id)
    assert await event.check_in(1) == "CHECKED_IN"


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
        assert await check_log(connection, keys, history.now) == []
        states = await connection.fetch("SELECT DISTINCT state FROM hold")
    assert len(states) == 4


async def test_an_empty_database_breaks_no_law(
    new_database: Callable[[], Awaitable[str]], keys: Keys, now: datetime
) -> None:
    opened = open_database(await new_database(), connections=1)
    async with opened.connection() as connection:
        assert await check_laws(connection, now) == []
        assert await check_log(connection, keys, now) == []
    await opened.engine.dispose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found_by_name(history: Club, fault: str) -> None:
    async with broken(history, fault) as connection:
        assert names(await check_laws(connection, history.now)) == FAULTS[fault]


@pytest.mark.parametrize("fault", LOG_FAULTS)
async def test_a_fault_of_the_log_is_found_by_name(history: Club, keys: Keys, fault: str) -> None:
    async with broken(history, fault) as connection:
        assert names(await check_log(connection, keys, history.now)) == LOG_FAULTS[fault]


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert set().union(*FAULTS.values()) == {check.name for check in CHECKS if check.broken}
    assert set().union(*LOG_FAULTS.values()) == {check.name for check in LOG_CHECKS} | {"head_differs", "node_differs"}


async def test_a_checkpoint_of_another_key_is_found(history: Club, keys: Keys) -> None:
    async with history.database.connection() as connection:
        [finding] = await check_log(connection, derive_keys(b"another secret of thirty-two bytes"), history.now)
    assert finding.name == "head_differs"
    assert "was sealed with another secret" in finding.sentence


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
