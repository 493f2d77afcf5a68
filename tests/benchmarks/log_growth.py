"""How fast the log takes up entries, and how long after its commit a change is under a signed checkpoint."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url

from gateway.app import Service
from gateway.sequencer import keep_sequencing, sequencer_of
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.measuring import Figures, Plan

WRITERS = 16
WAITING = 100_000  # entries; a twentieth in a quick run
LAG_MS_MAX = 1_000
SETTLED_SECONDS_MAX = 30
SECONDS_OF_A_FULL_RUN = 10
WRITE = "SELECT record_audit($1, 'bench.written', 'DONE', '{}', 'system', '', NULL, NULL, NULL, NULL, NULL, NULL)"
MANY = WRITE.replace("SELECT record_audit", "SELECT count(record_audit").replace(
    "NULL)", "NULL)) FROM generate_series(1, $2)"
)
NEW = "SELECT index, leaf_hash FROM log_leaf WHERE index >= $1"


async def measure_growth(service: Service, *, plan: Plan) -> Figures:
    """Leaves integrated per second with everything waiting, and the lag with 16 writers; WrongAnswer when its 99th
    percentile is over a second. This process has the gateway's core meanwhile, and the database the other."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {plan.core})
    try:
        waiting = WAITING if plan.seconds >= SECONDS_OF_A_FULL_RUN else WAITING // 20
        return await measure_integration(service, waiting) | await measure_lag(service, plan.seconds)
    finally:
        os.sched_setaffinity(0, cores)


async def measure_integration(service: Service, waiting: int) -> Figures:
    """One sequencer alone, batch after batch; the time is all of it, the mark's flushes included."""
    sequencer = sequencer_of(service)
    await sequencer.carry_over()
    async with service.database.connection() as connection:
        await connection.execute(MANY, service.clock(), waiting)
        began, slowest = time.perf_counter(), 0.0
        last = began
        while await sequencer.step(connection):
            now = time.perf_counter()
            last, slowest = now, max(slowest, now - last)
    return {"leaves_per_second": round(waiting / (last - began)), "slowest_batch_ms": round(1000 * slowest, 1)}


class Watch:
    """When each entry was committed, by its leaf hash, and how long after that a checkpoint was signed over it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.grown = asyncio.Event()
        self.committed: dict[bytes, float] = {}
        self.lags_ms: list[float] = []
        self._size = 0

    async def begin(self) -> None:
        """From what is in the log by now on."""
        async with self._service.database.connection() as connection:
            self._size = await connection.fetchval("SELECT size FROM log_head")

    async def keep_looking(self) -> None:
        """After every batch, until cancelled."""
        while True:
            await self.grown.wait()
            self.grown.clear()
            at = time.perf_counter()
            async with self._service.database.connection() as connection:
                rows = await connection.fetch(NEW, self._size)
            self._size += len(rows)
            # Who has not heard of its commit yet has waited for nothing.
            self.lags_ms += [1000 * max(0.0, at - self.committed.get(row["leaf_hash"], at)) for row in rows]


async def measure_lag(service: Service, seconds: int) -> Figures:
    """Writers as fast as they get their commits, and the worker as every gateway runs it."""
    watch, stop = Watch(service), asyncio.Event()
    await watch.begin()
    looking = asyncio.create_task(watch.keep_looking())
    worker = asyncio.create_task(keep_sequencing(sequencer_of(service), stop, grown=watch.grown.set))
    try:
        async with writers(service) as pool:
            until = time.perf_counter() + seconds
            await asyncio.gather(*(keep_writing(pool, service, watch, until) for _ in range(WRITERS)))
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            while len(watch.lags_ms) < len(watch.committed):  # noqa: ASYNC110 - the worker's pace
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        looking.cancel()
        await worker
    lags = sorted(watch.lags_ms)
    figures = {"lag_p50_ms": at(lags, 0.5), "lag_p99_ms": at(lags, 0.99), "lag_max_ms": at(lags, 1)}
    if figures["lag_p99_ms"] > LAG_MS_MAX:
        raise WrongAnswer(f"a checkpoint came {figures['lag_p99_ms']} ms after the commit: more than {LAG_MS_MAX}")
    return figures | {"writers": WRITERS, "written_per_second": round(len(lags) / seconds)}


def at(sorted_ms: list[float], share: float) -> float:
    """The lag within which this share of them lies."""
    return round(sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))], 1)


async def keep_writing(pool: "asyncpg.Pool[asyncpg.Record]", service: Service, watch: Watch, until: float) -> None:
    """One entry after the other, each a transaction."""
    async with pool.acquire() as connection:
        while time.perf_counter() < until:
            leaf_hash: bytes = await connection.fetchval(WRITE, service.clock())
            watch.committed[leaf_hash] = time.perf_counter()


@asynccontextmanager
async def writers(service: Service) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """Connections of their own."""
    url = make_url(str(service.settings.database_url)).set(drivername="postgresql")
    async with asyncpg.create_pool(
        url.render_as_string(hide_password=False), min_size=WRITERS, max_size=WRITERS
    ) as pool:
        yield pool
