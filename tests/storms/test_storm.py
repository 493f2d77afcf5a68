"""Storms: everything at once over HTTP through several processes, judged from the outside and by the laws."""

import asyncio
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from gateway import embedded
from partners.keys import Keys
from tests.storms.judging import arena_on, judge_all, settings_of
from tests.storms.processes import gateways
from tests.storms.storm import Storm
from tests.storms.worker import Plan, plan_of

ROOT = Path(__file__).parents[2]
CLAIMS = int(os.environ.get("STORM_CLAIMS", 1_000_000))  # below HTTP, in all
HTTP_CALLS = CLAIMS // 25
WORKERS = 2

REACHED = {"HELD", "REPLAYED", "RESUMED", "KEY_REUSED", "LOST", "CONFIRMED", "RELEASED", "EXTENDED", "REVERSED"}
REACHED |= {"CAPACITY_EXHAUSTED", "NOT_AVAILABLE", "ALREADY_REVERSED"}


@pytest.mark.parametrize("seed", [4])
async def test_a_storm_over_http_breaks_no_law(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, secret: bytes, keys: Keys, seed: int
) -> None:
    dice = Random(seed)
    settings = settings_of(servers, await new_database(), secret)
    async with arena_on(settings, keys, dice, people=60, cold=12) as (service, arena):
        with gateways(settings, 2) as running:
            storm = Storm(service, arena, running.ports, dice)
            await storm.rage(clients=64, calls=2_000)
            await judge_all(service, storm, keys)
    reached = Counter(call.outcome for call in storm.calls)
    assert reached.keys() >= REACHED, reached


@pytest.mark.long
async def test_a_million_claims_break_no_law(
    new_database: Callable[[], Awaitable[str]],
    servers: embedded.Servers,
    secret: bytes,
    keys: Keys,
    folder: Path,
) -> None:
    """Two processes below HTTP and two gateways with 64 clients, all at once on one database."""
    dice = Random(5)
    settings = settings_of(servers, await new_database(), secret)
    async with arena_on(settings, keys, dice, people=500, cold=150) as (service, arena):
        plans = [
            plan_of(arena, settings, folder, seed, clients=256, claims=CLAIMS // WORKERS)
            for seed in range(1, WORKERS + 1)
        ]
        with gateways(settings, 2) as running:
            storm = Storm(service, arena, running.ports, dice)
            workers = [start_worker(plan, folder) for plan in plans]
            await storm.rage(clients=64, calls=HTTP_CALLS)
            for worker in workers:
                assert await asyncio.to_thread(worker.wait) == 0
            for plan in plans:
                storm.calls += pickle.loads(plan.history.read_bytes())
            await judge_all(service, storm, keys)
    assert sum(call.what == "claim" for call in storm.calls) >= CLAIMS
    assert Counter(call.outcome for call in storm.calls).keys() >= REACHED | {"HOLD_EXPIRED"}


def start_worker(plan: Plan, folder: Path) -> subprocess.Popen[bytes]:
    """A process that does what the plan says."""
    file = folder / f"plan-{plan.seed}"
    file.write_bytes(pickle.dumps(plan))
    return subprocess.Popen([sys.executable, "-m", "tests.storms.worker", str(file)], cwd=ROOT)
