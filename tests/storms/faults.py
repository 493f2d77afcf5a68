"""Ways to die: `kill -9` of a gateway, of one connection's server process or of all of PostgreSQL, at any moment or at
a named point, where a trigger holds a transaction up until it is hit."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import asyncpg
import psutil  # type: ignore[import-untyped]
from sqlalchemy import make_url

from gateway import embedded
from tests.benchmarks.processes import wait_for
from tests.storms.processes import Gateways

HELD_UP_SECONDS = 1.0
REACHED_SECONDS_MAX = 3.0
# Each stops in the middle of a transaction; "commit" when all of it is done and nothing is committed yet.
POINTS = {
    "claimed": "AFTER INSERT ON hold",
    "claim counted": "AFTER UPDATE ON capacity",
    "confirmed": "AFTER INSERT ON redemption",
    "reversed": "AFTER INSERT ON reversal",
    "ended": "AFTER UPDATE OF state ON hold",
    "recorded": "AFTER INSERT ON outbox",
    "key bound": "AFTER INSERT ON idempotency_key",
}
FAILPOINTS = """
CREATE TABLE failpoint (name text PRIMARY KEY);
CREATE FUNCTION fail_here() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM failpoint WHERE name = TG_ARGV[0]) THEN
    PERFORM pg_sleep({seconds});
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION fail_here('commit');
"""
HELD_UP = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database() LIMIT 1"


async def lay_failpoints(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Triggers that do nothing until their name is in the table `failpoint`."""
    await connection.execute(FAILPOINTS.format(seconds=HELD_UP_SECONDS))
    for place, (name, event) in enumerate(POINTS.items()):
        await connection.execute(
            f"CREATE TRIGGER fail_{place} {event} FOR EACH STATEMENT EXECUTE FUNCTION fail_here('{name}')"
        )


@dataclass
class Killer:
    """Kills what it started: gateways, or the servers in `folder`, which start again at the same address."""

    folder: Path
    servers: embedded.Servers
    gateways: Gateways
    dice: Random

    async def strike(self) -> str:
        """One way to die, chosen by the dice, and everything up again; says which it was."""
        point = self.dice.choice([None, None, *POINTS, "commit"])
        victim = self.dice.choice([self.gateway, self.frozen_gateway, self.connection, self.postgres])
        pid = None if point is None else await self.reach(point)
        if point is None:
            await asyncio.sleep(self.dice.uniform(0.05, 0.6))
        await victim(pid)
        return f"{victim.__name__} at {point or 'any moment'}{'' if pid or point is None else ' (not reached)'}"

    async def reach(self, point: str) -> int | None:
        """Waits until a transaction is held up at the point; the id of its server process."""
        async with self.connected() as connection:
            await connection.execute("INSERT INTO failpoint VALUES ($1)", point)
            deadline, pid = time.monotonic() + REACHED_SECONDS_MAX, None
            while pid is None and time.monotonic() < deadline:
                pid = await connection.fetchval(HELD_UP)
                await asyncio.sleep(0.01)
            await connection.execute("DELETE FROM failpoint")
        return pid

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection of its own, beside every pool."""
        connection = await asyncpg.connect(address_of(self.gateways.settings.database_url))
        try:
            yield connection
        finally:
            await connection.close()

    async def gateway(self, _: int | None) -> None:
        """A process of the gateway."""
        place = self.dice.randrange(len(self.gateways.processes))
        self.gateways.kill(place)
        await asyncio.to_thread(self.gateways.again, place)

    async def frozen_gateway(self, _: int | None) -> None:
        """A process that hears no answer before it dies: what it asked for may be committed."""
        place = self.dice.randrange(len(self.gateways.processes))
        self.gateways.processes[place].send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.01, 0.3))
        self.gateways.kill(place)
        await asyncio.to_thread(self.gateways.again, place)

    async def connection(self, pid: int | None) -> None:
        """The server process of one connection: PostgreSQL ends all others, recovers and goes on by itself."""
        if pid is None:
            pid = self.dice.choice(
                [one.pid for one in self.postmaster().children() if "perks" in "".join(one.cmdline())]
            )
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await self.up_again()

    async def postgres(self, _: int | None) -> None:
        """All of PostgreSQL, and the cache with it; they start again as an operator would start them."""
        self.postmaster().kill()
        await asyncio.to_thread(self.servers.stop)
        self.servers = await asyncio.to_thread(embedded.start, self.folder)
        await self.up_again()

    def postmaster(self) -> psutil.Process:
        """The first process of PostgreSQL."""
        return psutil.Process(int((self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0]))

    async def up_again(self) -> None:
        """Waits until every gateway reaches its servers."""
        for process, port in zip(self.gateways.processes, self.gateways.ports, strict=True):
            await asyncio.to_thread(wait_for, process, port, "/readyz")


def address_of(database_url: str | None) -> str:
    """As asyncpg itself wants it."""
    assert database_url is not None
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
