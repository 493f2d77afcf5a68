"""How long a page of the log takes as the log grows, for every filter, at its beginning and deep in it; and a proof."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from time import perf_counter
from typing import Any
from uuid import UUID

from asyncpg import Connection

from gateway.database import Database
from partners.entries import Entry, EntryFilter, find_entry, search_entries
from partners.proofs import prove_entries
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.long_log import GONE, LARGEST, LAST_MS, STEP_US, client_of, number, write_log
from tests.benchmarks.measuring import Figures

FIRST = 20
ROUNDS = 40
PROOFS = 400


def filters(size: int) -> Mapping[str, EntryFilter]:
    """What staff look for, by name: each filter alone, combinations, and what is not there at all."""
    middle = datetime.fromtimestamp(LAST_MS / 1000, UTC) - timedelta(microseconds=STEP_US * (size // 2))
    day = {"since": middle - timedelta(hours=12), "until": middle + timedelta(hours=12)}
    partner, small, gone = number(1, LARGEST), number(1, 50), number(1, GONE)
    perk, member, quiet = number(2, 505), number(3, 77), ["perk.paused"]
    return {
        "all": EntryFilter(),
        "done": EntryFilter(outcome="DONE"),
        "refused": EntryFilter(outcome="REFUSED"),
        "a day": EntryFilter(**day),
        "partner, large": EntryFilter(partner_id=partner),
        "partner, small": EntryFilter(partner_id=small),
        "partner that left": EntryFilter(partner_id=gone),
        "perk": EntryFilter(perk_id=perk),
        "member": EntryFilter(member_id=member),
        "subject": EntryFilter(subject_id=number(4, size // 7)),
        "actor, client": EntryFilter(actor_id=client_of(50)),
        "actor, staff": EntryFilter(actor_id="staff-7"),
        "actor, system": EntryFilter(actor_id="system"),
        "action": EntryFilter(actions=["perk.claimed"]),
        "action, of old": EntryFilter(actions=quiet),
        "two actions": EntryFilter(actions=["redemption.reversed", "hold.expired"]),
        "partner, action": EntryFilter(partner_id=small, actions=["hold.confirmed"]),
        "partner, action of old": EntryFilter(partner_id=partner, actions=quiet),
        "partner, refused": EntryFilter(partner_id=small, outcome="REFUSED"),
        "partner, a day": EntryFilter(partner_id=small, **day),
        "perk, two actions, refused": EntryFilter(perk_id=perk, actions=["perk.claimed", *quiet], outcome="REFUSED"),
        "action, refused, a day": EntryFilter(actions=["perk.claimed"], outcome="REFUSED", **day),
        "partner, client of another": EntryFilter(partner_id=partner, actor_id=client_of(50)),
        "action that is never refused": EntryFilter(actions=["hold.expired"], outcome="REFUSED"),
        "system, partner, rare action": EntryFilter(
            actor_id="system", partner_id=partner, actions=["service.messaged"]
        ),
    }


async def measure_log(database: Database, sizes: Sequence[int], tell: Callable[[str], None]) -> Figures:
    """By size: p50 and p99 in ms of a page and of a proof, in this process and the database, without HTTP."""
    found: Figures = {}
    for size in sizes:
        tell(f"A log of {size:,} entries")
        async with database.connection() as connection:
            began = perf_counter()
            await write_log(connection, size)
            tell(f"was written in {perf_counter() - began:.0f} s")
            found[f"{size:,}"] = await measure_pages(connection, size) | {
                "a proof": timed(await prove_some(connection, size))
            }
    return found


async def measure_pages(connection: "Connection[Any]", size: int) -> Figures:
    """Each filter's first page, and the one after the middle of the log."""
    middle = await connection.fetchval("SELECT entry_id FROM log_leaf WHERE index = $1", size // 2)
    figures: Figures = {}
    for name, wanted in filters(size).items():
        for place, after in (("first", None), ("deep", middle)):
            figures[f"{name}: {place}"] = await measure_page(connection, wanted, after)
    return figures


async def measure_page(connection: "Connection[Any]", wanted: EntryFilter, after: UUID | None) -> Figures:
    """One page again and again; WrongAnswer unless its entries are in order and fit."""

    async def ask() -> None:
        page = await search_entries(connection, wanted, first=FIRST, after=after)
        ids = [row.id for row in page.rows]
        if ids != sorted(ids, reverse=True) or not all(fits(row, wanted) for row in page.rows):
            raise WrongAnswer(f"a page of entries that do not fit: {wanted}")

    page = await search_entries(connection, wanted, first=FIRST, after=after)
    return {"rows": len(page.rows[:FIRST]), "whole": page.looked_to is None} | timed(await repeat(ask, ROUNDS))


def fits(row: Entry, wanted: EntryFilter) -> bool:
    """Whether an entry is one of those that are wanted."""
    names = ("partner_id", "perk_id", "member_id", "subject_id", "actor_id", "outcome")
    return (
        all(getattr(wanted, name) in (None, getattr(row, name)) for name in names)
        and (wanted.actions is None or row.action in wanted.actions)
        and (wanted.since is None or row.at >= wanted.since)
        and (wanted.until is None or row.at < wanted.until)
    )


async def prove_some(connection: "Connection[Any]", size: int) -> list[float]:
    """The entry found and proven, for entries all over the log."""
    dice = Random(size)
    indexes = [dice.randrange(size) for _ in range(PROOFS)]
    ids = await connection.fetch("SELECT entry_id FROM log_leaf WHERE index = ANY($1::bigint[])", indexes)
    each = iter([row["entry_id"] for row in ids])

    async def ask() -> None:
        entry = await find_entry(connection, next(each))
        if entry is None or not await prove_entries(connection, [entry]):
            raise WrongAnswer("an entry of the log has no proof")

    return await repeat(ask, len(ids))


async def repeat(ask: Callable[[], Awaitable[None]], rounds: int) -> list[float]:
    """How long each took, in ms, after the first, which reads what was on the disk and prepares the statement."""
    taken = []
    for _ in range(rounds):
        began = perf_counter()
        await ask()
        taken.append(1000 * (perf_counter() - began))
    return taken[1:]


def timed(taken: Sequence[float]) -> Figures:
    """In ms: the best, which a busy machine leaves alone, p50, p99 and the worst."""
    ordered = sorted(taken)
    return {
        "least_ms": round(ordered[0], 2),
        "p50_ms": round(ordered[len(ordered) // 2], 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "max_ms": round(ordered[-1], 2),
    }
