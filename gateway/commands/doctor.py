"""`perks doctor`: is everything there that the service needs, and do the laws hold of what is stored?"""

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlmodel import select

from auth.keys import KeyRing
from gateway.commands import AsJson, show
from gateway.database import Database, open_database
from gateway.high_water import high_water_of
from gateway.migrations import newest, require_migrated
from gateway.running import addressed, reaching_database
from gateway.settings import Settings, SettingsInvalid
from partners import sequencing, tables
from partners.errors import PerksError
from partners.keys import Keys
from partners.laws import check_laws
from partners.laws.log import check_log
from partners.programme import ProgrammeInvalid, read_programme

POSTGRESQL_MIN = 15
OK, NOTE, BROKEN = "ok", "note", "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: `state` is ok, note (worth knowing) or broken."""

    state: str
    check: str
    detail: str


def doctor(as_json: AsJson = False) -> None:
    """Check database, cache, programme and keys, and the laws on what is stored. Exit code 1 when something is broken.

    Reads only, in one snapshot: run it beside a working service.
    """
    with addressed(join=True) as settings:
        findings = asyncio.run(examine(settings))
    sound = all(finding.state != BROKEN for finding in findings)
    if as_json:
        show({"sound": sound, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{finding.state:6}  {finding.check}: {finding.detail}")
    if not sound:
        raise typer.Exit(1)


async def examine(settings: Settings) -> list[Finding]:
    """All findings; what needs a database is left out when there is none in shape."""
    if settings.database_url is None or settings.redis_url is None or settings.secret is None:
        raise SettingsInvalid("DATABASE_URL, REDIS_URL and PERKS_SECRET are needed where nothing is embedded")
    secret, now = settings.secret.get_secret_value().encode(), datetime.now(UTC)
    database = open_database(settings.database_url, connections=2)
    try:
        findings = [
            await finding("cache", ping(settings.redis_url)),
            await finding("database", find_database(database)),
        ]
        if findings[-1].state == OK:
            findings += [
                await finding("programme", find_programme(database, settings)),
                await finding("keys", open_keys(database, secret, now)),
                await finding("log", look_at_log(database, settings, now)),
                *await find_broken_laws(database, settings.keys, now),
            ]
        return findings
    finally:
        await database.engine.dispose()


async def finding(check: str, looking: Awaitable[str]) -> Finding:
    """What a look at one thing says, which is broken when it raises."""
    try:
        with reaching_database():
            return Finding(OK, check, await looking)
    except PerksError as fault:
        return Finding(BROKEN, check, fault.message)


async def ping(address: str) -> str:
    """Whether the cache answers."""
    cache = Redis.from_url(address, socket_connect_timeout=2, socket_timeout=2)
    try:
        await cache.ping()
    except RedisError as fault:
        raise SettingsInvalid(f"can't reach the cache: {fault}") from None
    finally:
        await cache.aclose()
    return "answers"


async def find_database(database: Database) -> str:
    """Its version and revision, of which both must do."""
    async with database.connection() as connection:
        version = str(await connection.fetchval("SHOW server_version")).split()[0]
        if connection.get_server_version().major < POSTGRESQL_MIN:
            raise SettingsInvalid(f"PostgreSQL {version} is too old: {POSTGRESQL_MIN} or newer")
    await require_migrated(database.engine)
    return f"PostgreSQL {version}, revision {newest()}"


async def find_programme(database: Database, settings: Settings) -> str:
    """Its ladder, which must have every tier that members have or had."""
    programme = read_programme(settings.programme_file)
    async with database.sessions() as session:
        used = set(await session.scalars(select(tables.TierAssignment.tier).distinct()))
    if missing := sorted(used - programme.ranks.keys()):
        raise ProgrammeInvalid(f"{settings.programme_file} lacks tiers that members have or had: {', '.join(missing)}")
    return f"{programme.name}: {', '.join(programme.ranks)}"


async def open_keys(database: Database, secret: bytes, now: datetime) -> str:
    """The signing keys, which the secret must open."""
    ring = KeyRing(database.sessions, secret)
    await ring.load(now)
    return f"{len(ring.jwks['keys'])} for tokens, which the secret opens"


async def look_at_log(database: Database, settings: Settings, now: datetime) -> str:
    """Whether the log still begins with what was signed last on this host, and can be signed again."""
    mark = high_water_of(settings, database)
    known = await mark.known()
    async with database.connection() as connection:
        await sequencing.examine(connection, settings.keys, known)
    return "nothing was signed on this host yet" if known is None else f"goes on from the {known.size} signed here last"


async def find_broken_laws(database: Database, keys: Keys, now: datetime) -> list[Finding]:
    """Everything that the laws' checks found, or one line that says there is nothing."""
    async with database.connection() as connection:
        found = [*await check_laws(connection, now), *await check_log(connection, keys, now)]
    if not found:
        return [Finding(OK, "laws", "1 to 7 hold of all that is stored")]
    return [
        Finding(
            BROKEN if one.broken else NOTE,
            f"law {one.law} {one.name}",
            f"{one.sentence} ({one.count}: {', '.join(one.rows)}{', …' if one.count > len(one.rows) else ''})",
        )
        for one in found
    ]
