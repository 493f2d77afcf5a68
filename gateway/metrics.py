"""What is behind, in figures that a monitoring system collects (/metrics)."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from time import monotonic

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.database import Database
from gateway.high_water import HighWater

KEPT_SECONDS = 5.0
COUNTED_MAX = 100_000
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What is staggered is not counted before it is told: the count alone would tell when something happened.
READ = f"""
SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT {COUNTED_MAX}) AS o) AS perks_log_waiting,
  (SELECT greatest(h.size - c.index, 0) FROM log_head h, webhook_cursor c) AS perks_webhook_log_behind,
  (SELECT count(*) FROM (SELECT FROM webhook_message WHERE state = 'PARKED' LIMIT {COUNTED_MAX}) AS m)
    AS perks_webhook_parked,
  w.pending AS perks_webhook_pending, w.oldest AS perks_webhook_oldest_pending_seconds
FROM (SELECT count(*) AS pending, coalesce(extract(epoch FROM $1 - min(pending_since))::bigint, 0) AS oldest FROM (
  SELECT pending_since FROM webhook_message WHERE state = 'PENDING' AND told_at <= $1 LIMIT {COUNTED_MAX}) AS m) AS w
"""  # noqa: S608  constants
HELP = {
    "perks_log_can_not_sign": "1 while this process signs nothing: the log is forked, or its keys can't be opened.",
    "perks_log_waiting": "Audit entries that are not in the log yet.",
    "perks_webhook_log_behind": "Entries of the log of which no messages are made yet.",
    "perks_webhook_parked": "Messages that were given up and can be replayed.",
    "perks_webhook_pending": "Messages that are to be sent.",
    "perks_webhook_oldest_pending_seconds": "For how long the oldest of them has been due.",
}


def routes(database: Database, mark: HighWater, clock: Callable[[], datetime]) -> list[Route]:
    """Prometheus' text format, to anybody: sums over all partners, up to 100,000, read every 5 seconds at most."""
    read, read_at, reading = dict[str, int | None](), -KEPT_SECONDS, asyncio.Lock()

    async def metrics(_: Request) -> PlainTextResponse:
        nonlocal read, read_at
        async with reading:
            if monotonic() - read_at >= KEPT_SECONDS:
                async with database.connection() as connection:
                    row = await connection.fetchrow(READ, clock())
                assert row is not None
                read, read_at = dict(row), monotonic()
        figures = read | {"perks_log_can_not_sign": mark.fault is not None}
        return PlainTextResponse(as_text(figures), media_type=CONTENT_TYPE)

    return [Route("/metrics", metrics)]


def as_text(figures: dict[str, int | None]) -> str:
    """Each with what it is."""
    return "".join(
        f"# HELP {name} {sentence}\n# TYPE {name} gauge\n{name} {int(figures[name] or 0)}\n"
        for name, sentence in HELP.items()
    )
