"""How many events a second reach 1, 10 and 100 endpoints while one of them hangs, and how soon after the commit."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from gateway import webhooks
from gateway.app import Service
from gateway.outside_posts import open_outside_world
from gateway.sequencer import sequencer_of
from partners.actors import SYSTEM
from partners.catalogue import create_partner
from partners.outside_addresses import read_private_targets
from partners.tables import PartnerKind
from partners.webhooks.endpoints import EndpointSettings, create_endpoint
from partners.webhooks.events import names_of
from partners.webhooks.messages import make_messages
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.measuring import Figures, Plan
from tests.benchmarks.processes import free_port

ENDPOINTS = (1, 10, 100)
EVENTS = 10_000  # in all; a fifth in a quick run
MEMBERS = 500
SECONDS_OF_A_FULL_RUN = 10
SECONDS_MAX = 300
WRITE = """
SELECT count(record_audit($1, 'perk.claimed', 'DONE', '{}', 'partner', 'bench', ($2::uuid[])[1 + n % cardinality($2)],
  NULL,
  ($3::uuid[])[1 + n / cardinality($2) % cardinality($3)], gen_random_uuid(), 1, 'gold', 1, 0))
FROM generate_series(0, $4::int - 1) AS n
"""
LEFT = """
SELECT count(*) FROM webhook_message m JOIN webhook_endpoint p ON p.id = m.endpoint_id
WHERE m.state = 'PENDING' AND p.url NOT LIKE '%/hangs'
"""


async def measure_webhooks(service: Service, *, plan: Plan) -> Figures:
    """Figures by the number of endpoints. This process has the gateway's core meanwhile; the receivers share the other
    with the database."""
    events = EVENTS if plan.seconds >= SECONDS_OF_A_FULL_RUN else EVENTS // 5
    port, cores = free_port(), os.sched_getaffinity(0)
    command = [sys.executable, "-m", "tests.benchmarks.webhooks", str(port)]
    with subprocess.Popen(command) as receiver:  # noqa: ASYNC220 - it is started once
        os.sched_setaffinity(0, {plan.core})
        try:
            await listening(port)
            return {str(count): await measure_endpoints(service, count, events, port) for count in ENDPOINTS}
        finally:
            os.sched_setaffinity(0, cores)
            receiver.kill()


async def listening(port: int) -> None:
    """Returns once somebody takes connections there."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def measure_endpoints(service: Service, count: int, events: int, port: int) -> Figures:
    """So many endpoints, each of a partner of its own, with an equal share of the events waiting; where there are
    several, one hangs. WrongAnswer when an event is left."""
    database, keys = service.database, service.keys
    await database_without(service)
    partners = await found_brands(service, count, port)
    async with database.connection() as connection:
        members = [row["id"] for row in await connection.fetch("SELECT id FROM member ORDER BY id LIMIT $1", MEMBERS)]
        await connection.execute(WRITE, service.clock(), partners, members, events)
        await sequencer_of(service).carry_over()
        began = time.perf_counter()
        while await make_messages(connection, names_of(keys).delays, service.clock()):
            pass
        made_s = time.perf_counter() - began
        await connection.execute("ANALYZE webhook_message, webhook_endpoint")
    expected = events - (events // count if count > 1 else 0)
    began, worked = time.perf_counter(), time.process_time()
    async with delivering(service, port):
        async with asyncio.timeout(SECONDS_MAX), database.connection() as connection:
            while await connection.fetchval(LEFT):  # noqa: ASYNC110 - the database knows
                await asyncio.sleep(0.05)
        spent_s, worked_s = time.perf_counter() - began, time.process_time() - worked
    async with database.connection() as connection:
        delivered = await connection.fetchval("SELECT count(*) FROM webhook_message WHERE state = 'DELIVERED'")
    if delivered != expected:
        raise WrongAnswer(f"{delivered:,} events of {expected:,} were delivered")
    return {
        "delivered_per_second": round(expected / spent_s),
        "worker_ms": round(1_000 * worked_s / expected, 2),
        "made_per_second": round(events / made_s),
    }


@asynccontextmanager
async def delivering(service: Service, port: int) -> AsyncIterator[None]:
    """The worker's delivering half, until the block ends."""
    stop = asyncio.Event()
    async with open_outside_world(read_private_targets(f"127.0.0.1:{port}")) as post:
        courier = webhooks.Courier(service.database, service.keys, post, service.clock)
        running = asyncio.create_task(courier.keep_delivering(stop))
        try:
            yield
        finally:
            stop.set()
            await running


async def database_without(service: Service) -> None:
    """Nothing is left of the run before."""
    async with service.database.connection() as connection:
        await connection.execute("TRUNCATE webhook_message, webhook_delivery, webhook_secret, webhook_endpoint")


async def found_brands(service: Service, count: int, port: int) -> list[UUID]:
    """New partners, each with an endpoint; the first of several hangs."""
    made = []
    for place in range(count):
        path = "hangs" if place == 0 and count > 1 else f"answers/{place}"
        async with service.database.sessions.begin() as session:
            partner = await create_partner(
                session,
                handle=f"told-{count}-{place}",
                name="Told",
                kind=PartnerKind.OTHER,
                actor=SYSTEM,
                now=service.clock(),
            )
            await create_endpoint(
                session,
                partner.id,
                EndpointSettings(f"http://127.0.0.1:{port}/{path}", events=["perk.claimed"]),
                keys=service.keys,
                actor=SYSTEM,
                now=service.clock(),
                private=read_private_targets(f"127.0.0.1:{port}"),
            )
            made.append(partner.id)
    return made


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A receiver that says yes to everything at once, and nothing at all where it hangs."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            if b"/hangs " in head:
                await asyncio.sleep(SECONDS_MAX)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def receive(port: int) -> None:
    """Until it is killed."""
    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(receive(int(sys.argv[1])))
