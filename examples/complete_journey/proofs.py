"""What must hold when the replay is over: the books of all sides agree, the laws hold, and the log proves itself."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from examples.complete_journey.attempts import Outcome
from examples.complete_journey.club import Club
from gateway.app import Service
from gateway.auditing.verify import verify_log
from gateway.log_export import export_log
from partners.laws import check_laws
from partners.laws.log import check_log
from partners.notes import origin_of, verifier_of

LIST = """query ($after: String) {
  redemptions(first: 100, after: $after) { nodes { id tier perk { handle } } pageInfo { hasNextPage endCursor } }
}"""
SEQUENCED_SECONDS_MAX = 30


@dataclass(frozen=True, slots=True)
class Books:
    """The redemptions that the partners list over the API, as id → (perk, tier)."""

    listed: dict[str, tuple[str, str]]

    def differ_from(self, outcomes: list[Outcome]) -> set[str]:
        """Redemptions that only one side has: the partners or who made them."""
        return self.listed.keys() ^ {one.redemption for one in outcomes if one.redemption is not None}


async def read_books(club: Club) -> Books:
    """Every page of every partner's redemptions."""
    listed: dict[str, tuple[str, str]] = {}
    for partner in club.partners.values():
        after, more = None, True
        while more:
            page = (await partner(LIST, after=after))["redemptions"]
            listed |= {one["id"]: (one["perk"]["handle"], one["tier"]) for one in page["nodes"]}
            after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    return Books(listed)


async def broken_laws(service: Service) -> list[str]:
    """The findings of `perks doctor` that break a law."""
    async with service.database.connection() as connection:
        findings = [
            *await check_laws(connection, service.clock()),
            *await check_log(connection, service.keys, service.clock()),
        ]
    return [f"law {one.law}: {one.sentence} ({one.count})" for one in findings if one.broken]


@dataclass(frozen=True, slots=True)
class Logged:
    """The exported log: its leaves, the redemptions among them, and what is wrong with it, if anything."""

    file: Path
    verifier_key: str
    leaves: int
    redemptions: frozenset[UUID]
    fault: str | None


async def prove_log(service: Service, folder: Path) -> Logged:
    """Exports the log once everything is in it, and verifies the files alone, as `perks audit verify` does."""
    async with asyncio.timeout(SEQUENCED_SECONDS_MAX), service.database.sessions() as session:
        while await session.scalar(text("SELECT EXISTS (SELECT FROM outbox)")):  # noqa: ASYNC110 (by another process)
            await asyncio.sleep(0.1)
    exported = await export_log(service.database, folder)
    key = str(verifier_of(origin_of(service.settings.address), service.keys.log))
    report = await asyncio.to_thread(verify_log, exported.file, exported.checkpoint, key)
    leaves = map(json.loads, exported.file.read_text(encoding="utf-8").splitlines())
    redemptions = frozenset(
        UUID(leaf["subject"]) for leaf in leaves if (leaf["action"], leaf["outcome"]) == ("hold.confirmed", "DONE")
    )
    return Logged(exported.file, key, exported.leaves, redemptions, report.fault)
