"""ADD A LAW'S CHECK HERE, to the list of its law: what must hold of a live database.

All run in one read-only snapshot, so that claims may go on meanwhile. The laws have the numbers of
docs/architecture.md; law 7 is in partners/laws/log.py.
"""

from datetime import datetime
from typing import Any

from asyncpg import Connection

from partners.laws import counts, fulfilments, people, records, steps, webhooks
from partners.laws.checks import Check, Finding, find, snapshot

__all__ = ["CHECKS", "Check", "Finding", "check_laws"]

CHECKS = (*counts.CHECKS, *steps.CHECKS, *records.CHECKS, *fulfilments.CHECKS, *people.CHECKS, *webhooks.CHECKS)


async def check_laws(connection: "Connection[Any]", now: datetime) -> list[Finding]:
    """Laws 1 to 6, 11 and 12 and the references, over everything at one moment; no finding is the good answer."""
    async with snapshot(connection):
        return await find(connection, CHECKS, now)
