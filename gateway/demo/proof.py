"""The end of the walk: the laws on the database, and the audit log exported and verified with its files alone."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gateway.app import authority_of, utc_now
from gateway.auditing.verify import verify_log
from gateway.database import open_database
from gateway.demo.walk import Step, Walk, wrapped
from gateway.log_export import Exported, checkpoint_of, export_log
from gateway.settings import Settings
from partners.laws import Finding, check_laws
from partners.laws.log import check_log
from partners.notes import origin_of, verifier_of

SEQUENCER_TRIES_MAX = 200  # ten seconds: the log follows within one, but the machine may be busy


def proof(settings: Settings) -> Step:
    """The step for a service with these settings, whose database is within reach."""

    def the_books_are_right(walk: Walk) -> None:
        """The laws hold on the database, and the exported log proves itself without it"""
        with tempfile.TemporaryDirectory() as folder:
            books = asyncio.run(close_books(settings, Path(folder)))
            walk.say(f"    {books.holds:,} holds and {books.entries:,} audit entries against laws 1 to 7")
            for finding in books.findings:
                walk.say(f"    → law {finding.law}, {finding.name}: {finding.count} rows, as {', '.join(finding.rows)}")
            walk.expect("no law is broken", not books.findings)
            file, key = books.exported.file, key_of(settings)
            report = verify_log(file, checkpoint_of(file), key)
            walk.say(f"    {books.exported.leaves:,} leaves exported to {file.name}; the auditor's key is {key}")
            walk.expect("file and checkpoint fit, offline", report.sound and books.exported.leaves == books.entries)
            file.write_bytes(file.read_bytes().replace(b'"outcome":"REFUSED"', b'"outcome":"DONE"', 1))
            report = verify_log(file, checkpoint_of(file), key)
            walk.say(wrapped(str(report.fault), "    → ", "      "))
            walk.expect("one refusal made into a yes: found", not report.sound)

    return the_books_are_right


@dataclass(frozen=True)
class Books:
    """What the database holds at the end: how much, what breaks a law, and the log as a file."""

    holds: int
    entries: int
    findings: list[Finding]
    exported: Exported


async def close_books(settings: Settings, folder: Path) -> Books:
    """Waits until every entry is in the log, checks all laws and exports the log."""
    assert settings.database_url is not None
    now = utc_now()
    database = open_database(settings.database_url, connections=2)
    try:
        async with database.connection() as connection:
            for _ in range(SEQUENCER_TRIES_MAX):
                if not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
                    break
                await asyncio.sleep(0.05)
            findings = [*await check_laws(connection, now), *await check_log(connection, settings.keys, now)]
            [(holds, entries)] = await connection.fetch(
                "SELECT (SELECT count(*) FROM hold), (SELECT count(*) FROM audit_entry)"
            )
        return Books(holds, entries, findings, await export_log(database, folder))
    finally:
        await database.engine.dispose()


def key_of(settings: Settings) -> str:
    """The verifier key of the log, which is all that an auditor needs besides the files."""
    return str(verifier_of(origin_of(authority_of(settings).issuer), settings.keys.log))
