"""`kill -9` of a gateway and of PostgreSQL in the middle of a storm: what was acknowledged is kept, nothing is sold
twice, and nothing is lost that could be sold."""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import asyncpg
import pytest

from gateway import embedded
from gateway.app import Service
from gateway.running import bring_up_to_date
from partners.keys import Keys
from tests.history import LOST
from tests.storms.arena import Arena
from tests.storms.faults import Killer, address_of, lay_failpoints
from tests.storms.judging import arena_on, judge_all, settings_of
from tests.storms.processes import gateways
from tests.storms.storm import Storm

CALLS_A_ROUND = 300
MORE_ROUNDS_MAX = 4
SEEN = {"HELD", "CONFIRMED", "RELEASED", "REPLAYED"}


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder whose path is short, so that the servers come back at the same address."""
    folder = Path(tempfile.mkdtemp(prefix="perks-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def sell_the_rest(service: Service, arena: Arena) -> None:
    """Whatever is free can be claimed, to the last unit, and not one more."""
    await arena.club.sql("UPDATE perk SET hold_seconds = 900")
    for perk in arena.perks[:4]:
        partner, now = arena.partner_of(perk), service.clock()
        await arena.club.sql("SELECT expire_holds($1, $2)", perk.id, now + timedelta(hours=1))
        [row] = await arena.club.sql("SELECT units, taken + kept AS used FROM capacity WHERE perk_id = $1", perk.id)
        for _ in range(row["units"] - row["used"]):
            await arena.club.hold(await arena.club.member(partner), perk, now=now)
        refused = await arena.club.claim(await arena.club.member(partner), perk, now=now)
        assert (refused.outcome, refused.reasons) == ("REFUSED", ("CAPACITY_EXHAUSTED",))


async def crash(folder: Path, secret: bytes, keys: Keys, *, seed: int, rounds: int) -> Counter[str]:
    """So many rounds of a storm with one death in each; how often each way to die was struck."""
    dice = Random(seed)
    servers = embedded.start(folder)
    settings = settings_of(servers, str(servers.database_url), secret).model_copy(update={"data_folder": folder})
    await bring_up_to_date(settings)
    connection = await asyncpg.connect(address_of(settings.database_url))
    await lay_failpoints(connection)
    await connection.close()
    struck: Counter[str] = Counter()
    async with arena_on(settings, keys, dice, people=60, cold=12) as (service, arena):
        with gateways(settings, 2) as running:
            killer = Killer(folder, servers, running, dice)
            storm = Storm(service, arena, running.ports, dice, disturbed_share=0)
            try:
                for _ in range(rounds):
                    raging = asyncio.create_task(storm.rage(clients=24, calls=CALLS_A_ROUND))
                    struck[await killer.strike()] += 1
                    await raging
                for _ in range(MORE_ROUNDS_MAX):  # a busy machine may have seen little of some steps
                    if {call.outcome for call in storm.calls} >= SEEN:
                        break
                    await storm.rage(clients=24, calls=CALLS_A_ROUND)
                await service.database.engine.dispose()
                await judge_all(service, storm, keys)
                await sell_the_rest(service, arena)
            finally:
                killer.servers.stop()
    assert sum(struck.values()) == rounds
    assert {call.outcome for call in storm.calls} >= SEEN | {LOST}
    return struck


async def test_what_was_acknowledged_survives_three_deaths(data: Path, secret: bytes, keys: Keys) -> None:
    struck = await crash(data, secret, keys, seed=7, rounds=3)
    assert struck.total() == 3


@pytest.mark.long
async def test_what_was_acknowledged_survives_fifty_deaths(data: Path, secret: bytes, keys: Keys) -> None:
    struck = await crash(data, secret, keys, seed=8, rounds=50)
    ways = {way for way in struck if not way.endswith("(not reached)")}
    assert {way.split()[0] for way in ways} == {"gateway", "frozen_gateway", "connection", "postgres"}
    assert len(ways) > 12
