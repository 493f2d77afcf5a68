"""Claims where they are decided: batcher and database without HTTP, on one hot perk and on a thousand cold ones.

The rules have answered already, as the service asks them before a claim joins its batch. The plain version has the same
facts and writes the same rows.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, cycle
from random import Random
from typing import Any
from uuid import UUID

import asyncpg

from gateway.app import Service
from partners.actors import Actor, ActorKind
from partners.batches import Batcher
from partners.eligibility import Question, decide, learn
from partners.holds import Claim, Claimed, claim_batch
from partners.references import MemberRef, PerkRef
from partners.tables.columns import new_id
from tests.benchmarks.club import Brand, enrol, introduce, offer
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.measuring import Plan
from tests.benchmarks.plain import ROUND_TRIPS, claim_plainly
from tests.benchmarks.stock import measure_stock

CLIENTS = (1, 16, 64, 256)
COLD_PERKS = 1_000
PEOPLE = 2_000
PLENTY = 10_000_000
PLAIN_CONNECTIONS = 64
DAILY = [{"kind": "allowance", "period": "DAY", "otherwise": 1000}]
SECONDS_OF_A_FULL_RUN = 10
KEYS = count()
Figures = dict[str, Any]
Submit = Callable[[Claim], Awaitable[str]]


async def measure_scarce(service: Service, *, brand: Brand, plan: Plan) -> Figures:
    """Claims per second and p99 by clients, batched and plain, hot and cold, and how fast holds expire.

    This process has the gateway's core meanwhile, and the databases the other.
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {plan.core})
    try:
        claims = await measure_claims(service, brand, plan)
        return {"claims": claims, "stock": await measure_stock(service, brand)}
    finally:
        os.sched_setaffinity(0, cores)


async def measure_claims(service: Service, brand: Brand, plan: Plan) -> Figures:
    """By what is hot, how it is written and how many clients there are."""
    seconds = 1 if plan.seconds < SECONDS_OF_A_FULL_RUN else 4
    members = await enrol(service, PEOPLE, "scarce", service.clock())
    await introduce(service, brand.id, members, service.clock())
    found: Figures = {}
    for name, perks in (("hot", 1), ("cold", COLD_PERKS)):
        for how in WAYS:
            claims = await asked(service, brand, members, perks, f"{name}-{how}")
            async with WAYS[how](service) as (submit, trips):
                for clients in CLIENTS:
                    found[f"{name} {how} {clients}"] = await drive(claims, submit, trips, clients, seconds)
    return found


async def asked(service: Service, brand: Brand, members: Sequence[UUID], perks: int, name: str) -> list[Claim]:
    """Claims that the rules have agreed to: each member on one of the perks, none of which sells out."""
    now, ids = service.clock(), [new_id() for _ in range(perks)]
    async with service.database.connection() as connection:
        await offer(connection, brand.id, brand.handle, ids, now, units=PLENTY, policies=[DAILY], name=name)
        await connection.execute("ANALYZE perk, capacity, policy, member, hold")
        claims = []
        for place, member in enumerate(members):
            [known] = await learn(connection, [Question(MemberRef(id=member), PerkRef(id=ids[place % perks]), now)])
            assert known is not None
            decision = decide(known, service.programme.ranks, now)
            if not decision.eligible:
                raise WrongAnswer(f"{decision.refusals} where everybody may")
            actor = Actor(ActorKind.MEMBER, str(member), member_id=member)
            claims.append(Claim(actor, "", b"f", now, known, decision))
    return claims


@asynccontextmanager
async def batched(service: Service) -> AsyncIterator[tuple[Submit, list[int]]]:
    """Claims as the service makes them; the list counts round trips."""
    trips = [0]

    async def run(perk_id: UUID, claims: Sequence[Claim]) -> Sequence[Claimed]:
        trips[0] += 1
        async with service.database.connection() as connection:
            return await claim_batch(connection, perk_id, claims, service.keys.codes, service.programme.ranks)

    batcher: Batcher[UUID, Claim, Claimed] = Batcher(run)

    async def submit(claim: Claim) -> str:
        return (await batcher.submit(claim.known.perk_id, claim)).outcome

    yield submit, trips
    await batcher.close()


@asynccontextmanager
async def plain(service: Service) -> AsyncIterator[tuple[Submit, list[int]]]:
    """A transaction each, over 64 connections."""
    trips = [0]
    address = service.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with asyncpg.create_pool(address, min_size=1, max_size=PLAIN_CONNECTIONS) as pool:

        async def submit(claim: Claim) -> str:
            trips[0] += ROUND_TRIPS
            async with pool.acquire() as connection:
                return await claim_plainly(connection, claim.known.perk_id, claim, service.keys.codes)

        yield submit, trips


WAYS = {"batched": batched, "plain": plain}


async def drive(claims: Sequence[Claim], submit: Submit, trips: list[int], clients: int, seconds: float) -> Figures:
    """So many clients that claim without a pause, each claim with its own key."""
    latencies: list[float] = []
    turns = cycle(Random(clients).sample(claims, len(claims)))  # nobody claims twice at once
    before, began = trips[0], time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - began < seconds:
            claim, sent = replace(next(turns), key=f"bench-{next(KEYS)}"), time.perf_counter()
            outcome = await submit(claim)
            latencies.append(time.perf_counter() - sent)
            if outcome != "HELD":
                raise WrongAnswer(f"{outcome} where everything is free")

    await asyncio.gather(*(client() for _ in range(clients)))
    wall = time.perf_counter() - began
    latencies.sort()
    return {
        "per_second": round(len(latencies) / wall),
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 2),
        "p99_ms": round(1000 * latencies[int(0.99 * len(latencies))], 2),
        "round_trips": round((trips[0] - before) / len(latencies), 3),
    }
