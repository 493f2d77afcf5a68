"""The workers that end what is overdue, so that nothing is held while somebody waits, and forget what is long over."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from gateway.database import Database
from partners.actors import SYSTEM
from partners.check_ins import mark_no_shows
from partners.deliveries import erase_addresses
from partners.holds import expire_overdue
from partners.programme import Programme
from partners.promotion import end_departed
from partners.scoring import score_everybody

if TYPE_CHECKING:
    from asyncpg import Connection

log = structlog.get_logger()

SWEEP_SECONDS = 0.5
PRUNE_SECONDS = 60.0
CLOSE_SECONDS = 60.0
SCORE_SECONDS = 86_400.0
PAUSE_FACTOR_MAX = 32
BATCH_MAX = 1_000
FIRST_ID = UUID(int=0)
KEPT_AFTER_EXPIRY = {
    # For a day a code or token that is used again still gives its thief away.
    "authorization_request": timedelta(days=1),
    "device_authorization": timedelta(days=1),
    "refresh_token": timedelta(days=1),
    # After all that hangs from it. Every pass at a counter makes one; what stays for good is its audit entry.
    "approval": timedelta(days=2),
    "browser_session": timedelta(0),
    "pass": timedelta(0),
    "revocation": timedelta(0),
}
# Nobody has said yes to these, and whoever knows the name of a client can make as many as the server takes.
UNANSWERED = ("authorization_request", "device_authorization")
UNANSWERED_KEPT = timedelta(minutes=10)
# Whoever else does the same at this moment takes other rows; the ids of a batch are found by the index on the time.
DELETE = f"""DELETE FROM {{table}} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {{table}}
    WHERE expires_at <= $1 {{and_which}} ORDER BY expires_at LIMIT {BATCH_MAX} FOR UPDATE SKIP LOCKED))"""  # noqa: S608 (the names above)
EXPIRED = {table: DELETE.format(table=table, and_which="") for table in KEPT_AFTER_EXPIRY}
EXPIRED_UNANSWERED = [DELETE.format(table=table, and_which="AND approval_id IS NULL") for table in UNANSWERED]
DISCLOSURES_OF_SOME = """
WITH few AS MATERIALIZED (SELECT id FROM member WHERE id > $1 ORDER BY id LIMIT 1000),
gone AS (
  DELETE FROM disclosure WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM few CROSS JOIN LATERAL (
      SELECT ctid FROM disclosure WHERE member_id = few.id AND id < $2 ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
    ) AS d
  )) RETURNING 1
)
SELECT (SELECT id FROM few ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM gone) AS gone
"""


async def keep_sweeping(
    database: Database, clock: Callable[[], datetime], stop: asyncio.Event, freed: asyncio.Event
) -> None:
    """Expires overdue holds and ends the waits of those who may not wait on, twice a second until told to stop; then
    something is `freed`. An outage is waited out, longer each time."""

    async def sweep() -> None:
        async with database.connection() as connection:
            expired = await expire_overdue(connection, clock())
            departed = await end_departed(connection, clock())
        if expired or departed:
            freed.set()
            log.info("swept", holds_expired=expired, waits_ended=departed)

    await keep_doing("sweep", sweep, SWEEP_SECONDS, stop)


async def keep_pruning(
    database: Database, disclosures_kept: timedelta, clock: Callable[[], datetime], stop: asyncio.Event
) -> None:
    """Deletes what expired, and disclosures older than they are kept, every minute and a little at a time."""
    member = FIRST_ID

    async def prune() -> None:
        nonlocal member
        async with database.connection() as connection:
            gone = await prune_expired(connection, clock(), stop)
            member, told = await prune_disclosures(connection, member, clock() - disclosures_kept)
        if gone or told:
            log.info("pruned", rows=gone, disclosures=told)

    await keep_doing("prune", prune, PRUNE_SECONDS, stop)


async def keep_closing(database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
    """Marks who never came to an event, and erases addresses that were kept for long enough, every minute."""

    async def close() -> None:
        async with database.connection() as connection:
            missed = await all_batches(mark_no_shows, connection, clock(), stop)
            erased = await all_batches(erase_addresses, connection, clock(), stop)
        if missed or erased:
            log.info("fulfilments_closed", no_shows=missed, addresses=erased)

    await keep_doing("close", close, CLOSE_SECONDS, stop)


async def keep_scoring(
    database: Database, programme: Programme, clock: Callable[[], datetime], stop: asyncio.Event
) -> None:
    """Works every score out anew, every day: what is older than the window no longer counts."""

    async def score() -> None:
        async with database.connection() as connection:
            changed = await score_everybody(connection, programme, SYSTEM, clock())
        if changed:
            log.info("scored", changed=changed)

    await keep_doing("score", score, SCORE_SECONDS, stop)


async def all_batches(
    do: Callable[["Connection[Any]", datetime], Awaitable[int]],
    connection: "Connection[Any]",
    now: datetime,
    stop: asyncio.Event,
) -> int:
    """Does it until there is nothing left to do, or until told to stop; how many."""
    done = 0
    while not stop.is_set() and (some := await do(connection, now)):
        done += some
    return done


async def keep_doing(
    name: str,
    do: Callable[[], Awaitable[None]],
    seconds: float,
    stop: asyncio.Event,
    *,
    wake: asyncio.Event | None = None,
) -> None:
    """Does it every so many seconds, and at once when told to `wake`; after a failure later, and later each time."""
    factor = 1
    while not stop.is_set():
        try:
            await do()
            factor = 1
        except Exception as fault:
            factor = min(2 * factor, PAUSE_FACTOR_MAX)
            log.warning(f"{name}_failed", fault=type(fault).__name__, next_try_s=factor * seconds)
        await first_of((stop,) if wake is None or factor > 1 else (stop, wake), factor * seconds)


async def first_of(events: Collection[asyncio.Event], seconds: float) -> None:
    """Waits for one of the events, or for so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def prune_expired(connection: "Connection[Any]", now: datetime, stop: asyncio.Event | None = None) -> int:
    """Deletes requests, codes, tokens, sessions, passes and revocations that are over, batch by batch; how many."""
    gone = 0
    over = [(statement, KEPT_AFTER_EXPIRY[table]) for table, statement in EXPIRED.items()]
    for statement, kept in [*over, *((statement, UNANSWERED_KEPT) for statement in EXPIRED_UNANSWERED)]:
        deleted = BATCH_MAX
        while deleted == BATCH_MAX and not (stop is not None and stop.is_set()):
            deleted = int((await connection.execute(statement, now - kept)).removeprefix("DELETE "))
            gone += deleted
    return gone


async def prune_disclosures(connection: "Connection[Any]", member: UUID, before: datetime) -> tuple[UUID, int]:
    """Deletes old disclosures of the next thousand members after `member`, at most a hundred each.

    Returns where to go on, the beginning again after the last member, and how many are gone. Disclosures are found by
    their key alone, whose UUIDv7 begins with the time in ms: an index on the time would have to be kept by every
    answer to a partner.
    """
    oldest_kept = UUID(int=int(before.timestamp() * 1000) << 80)
    row = await connection.fetchrow(DISCLOSURES_OF_SOME, member, oldest_kept)
    assert row is not None
    return row["last"] or FIRST_ID, row["gone"]
