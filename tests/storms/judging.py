"""Sets the stage of a storm, and judges it by the laws of the database and by what its callers were told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from pydantic import SecretStr

from gateway import embedded
from gateway.app import Service, open_service
from gateway.settings import Settings
from partners.keys import Keys
from partners.laws import check_laws
from partners.laws.log import check_log
from tests.factories import Club
from tests.history import judge
from tests.storms.arena import Arena, lay_out
from tests.storms.ending import read_ending
from tests.storms.storm import Storm

SWEEP_SECONDS_MAX = 10.0


def settings_of(servers: embedded.Servers, database_url: str, secret: bytes) -> Settings:
    """What the processes of a storm are told; a token of one is good at all."""
    return Settings(
        database_url=database_url,
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        base_url="https://perks.example",
    )


async def judge_all(service: Service, storm: Storm, keys: Keys) -> None:
    """Nothing overdue, no law broken, nothing that anybody was told untrue."""
    async with service.database.connection() as connection:
        deadline = time.monotonic() + SWEEP_SECONDS_MAX
        while await connection.fetchval("SELECT count(*) FROM hold WHERE state = 'HELD' AND expires_at <= now()"):
            assert time.monotonic() < deadline, "the sweeper left overdue holds"
            await asyncio.sleep(0.2)
        findings = [
            *await check_laws(connection, service.clock()),
            *await check_log(connection, keys, service.clock()),
        ]
        faults = [str(one) for one in findings if one.broken]
        faults += judge(storm.calls, storm.arena.limits(), await read_ending(connection))
        assert not faults, "\n".join(faults[:20])


@asynccontextmanager
async def arena_on(
    settings: Settings, keys: Keys, dice: Random, *, people: int, cold: int
) -> AsyncIterator[tuple[Service, Arena]]:
    """A storm's club and a service beside the processes, to look into the database with."""
    async with open_service(settings, keeps_programme=False) as service:
        club = Club(service.database, service.programme, keys, service.clock())
        yield service, await lay_out(club, dice, people=people, cold=cold)
