"""`kill -9` of sequencers while everything is written: no gap, nothing twice, and no mark of what was not committed."""

import asyncio
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from gateway.database import Database
from partners.keys import Keys
from partners.laws.log import check_log
from partners.log import read_ranges
from partners.notes import Checkpoint, note_text
from tests.benchmarks.processes import own_environment
from tests.sequencing import log_of, sequencer_on, write
from tests.storms import sequencing
from tests.storms.faults import FAILPOINTS, HELD_UP

NAME = "killed"
HELD_UP_SECONDS = 0.4
REACHED_SECONDS_MAX = 60.0
# In the middle of the step's transaction, at "commit" when it is done and nothing is committed yet.
IN_DATABASE = {
    "taken": "AFTER DELETE ON outbox",
    "placed": "AFTER INSERT ON log_leaf",
    "node kept": "AFTER INSERT ON log_node",
    "head kept": "AFTER UPDATE ON log_head",
}
IN_PROCESS = [*sequencing.POINTS, *sequencing.AFTER]
ANYWHERE = "any moment"


@dataclass
class Killed:
    """Two sequencers on one database and one folder, of which one after the other dies."""

    database: Database
    keys: Keys
    folder: Path
    secret: bytes
    dice: Random
    written: int = 0
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    async def lay_failpoints(self) -> None:
        async with self.database.connection() as connection:
            await connection.execute(FAILPOINTS.format(seconds=HELD_UP_SECONDS).replace("ON outbox", "ON log_leaf"))
            for number, (point, event) in enumerate(IN_DATABASE.items()):
                await connection.execute(
                    f"CREATE TRIGGER fail_{number} {event} FOR EACH STATEMENT EXECUTE FUNCTION fail_here('{point}')"
                )

    def start(self, *points: str) -> subprocess.Popen[bytes]:
        environment = own_environment() | {
            "DATABASE_URL": self.database.engine.url.render_as_string(hide_password=False),
            "PERKS_SECRET": self.secret.decode(),
        }
        command = [sys.executable, "-m", "tests.storms.sequencing", str(self.folder), NAME, *points]
        self.running.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        return self.running[-1]

    async def keep_writing(self, now: datetime, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await write(self.database, now, count := self.dice.randrange(1, 120))
            self.written += count
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.dice.random() / 20)

    async def die_at(self, point: str) -> None:
        """One of the two ends at the point; what is then there is consistent, whatever became of its last step."""
        if point in IN_PROCESS:
            await self.gone(self.start(point))
        elif point == ANYWHERE:
            victim = self.dice.choice(self.running)
            await asyncio.sleep(self.dice.random() / 2)
            victim.kill()
            await self.gone(victim)
        else:
            await self.reach(point)
            for victim in list(self.running):  # one of them is held up there
                victim.kill()
                await self.gone(victim)
        await self.check_mark()
        while len(self.running) < 2:
            self.start()

    async def reach(self, point: str) -> None:
        async with self.database.connection() as connection, asyncio.timeout(REACHED_SECONDS_MAX):
            await connection.execute("INSERT INTO failpoint VALUES ($1)", point)
            while await connection.fetchval(HELD_UP) is None:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.005)
            await connection.execute("DELETE FROM failpoint")

    async def gone(self, process: subprocess.Popen[bytes]) -> None:
        assert await asyncio.to_thread(process.wait, REACHED_SECONDS_MAX) == -9
        self.running.remove(process)

    async def check_mark(self) -> None:
        """The mark, written after the commit, is a state that the committed log went through."""
        mark = sequencer_on(self.database, self.keys, self.folder, name=NAME).high_water.read()
        if mark is not None:
            known = Checkpoint.parse(note_text(mark))
            async with self.database.connection() as connection:
                assert await connection.fetchval("SELECT size FROM log_head") >= known.size
                assert await read_ranges(connection, [(0, known.size)]) == [known.root]

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


async def crash(killed: Killed, points: list[str], now: datetime) -> Counter[str]:
    await killed.lay_failpoints()
    stop, struck = asyncio.Event(), Counter[str]()
    writing = [asyncio.create_task(killed.keep_writing(now, stop)) for _ in range(2)]
    try:
        killed.start()
        killed.start()
        for point in points:
            await killed.die_at(point)
            struck[point] += 1
    finally:
        stop.set()
        await asyncio.gather(*writing)
        killed.stop()
    sequencer = sequencer_on(killed.database, killed.keys, killed.folder, name=NAME)
    await sequencer.carry_over()
    size, root, leaves = await log_of(killed.database)
    assert size == len(leaves) == len({entry for _, entry in leaves}) == killed.written
    known = await sequencer.high_water.known()
    assert known is not None
    assert (known.size, known.root) == (size, root)
    async with killed.database.connection() as connection:
        assert await check_log(connection, killed.keys, now) == []
    return struck


async def test_three_deaths_of_sequencers_leave_one_whole_log(
    empty_database: Database, keys: Keys, secret: bytes, now: datetime, folder: Path
) -> None:
    killed = Killed(empty_database, keys, folder, secret, Random(3))
    assert (await crash(killed, ["placed", "committed", ANYWHERE], now)).total() == 3


@pytest.mark.long
async def test_a_hundred_deaths_of_sequencers_leave_one_whole_log(
    empty_database: Database, keys: Keys, secret: bytes, now: datetime, folder: Path
) -> None:
    killed = Killed(empty_database, keys, folder, secret, dice := Random(4))
    every = [*IN_DATABASE, "commit", *IN_PROCESS, ANYWHERE, ANYWHERE]
    points = [*every, *(dice.choice(every) for _ in range(100 - len(every)))]
    struck = await crash(killed, points, now)
    assert struck.total() == 100
    assert struck.keys() == set(every)
