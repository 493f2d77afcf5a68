"""The drop: a thousand units and a hundred thousand people who want one at the same moment."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httptools
import orjson
import uvloop

from gateway.app import Service
from partners.tables.columns import new_id
from tests.benchmarks.club import Brand, enrol, introduce, offer
from tests.benchmarks.load import WrongAnswer, http_request
from tests.benchmarks.scenarios import CLAIM

UNITS = 1_000
CLAIMANTS = 100_000
CONNECTIONS = 512
ONCE_EVER = [{"kind": "allowance", "period": "EVER", "otherwise": 1}]


@dataclass(frozen=True, slots=True)
class Drop:
    """The answers by outcome; when it was sold out and all were answered, in seconds since the first claim was sent."""

    outcomes: dict[str, int]
    sold_out_s: float
    answered_s: float
    p50_ms: float
    p99_ms: float
    client_share: float  # of one core that the client itself used


async def prepare_drop(service: Service, brand: Brand) -> tuple[list[str], str]:
    """New members and one new perk; returns the partner's aliases of them and the perk's handle."""
    now = service.clock()
    members = await enrol(service, CLAIMANTS, "drop", now)
    aliases = await introduce(service, brand.id, members, now)
    async with service.database.connection() as connection:
        await offer(connection, brand.id, brand.handle, [new_id()], now, units=UNITS, policies=[ONCE_EVER], name="drop")
        await connection.execute("VACUUM ANALYZE")
    return aliases, f"{brand.handle}/drop-0"


def run_drop(aliases: Sequence[str], handle: str, token: str, port: int) -> Drop:
    """Everybody claims once over 512 connections, each the next as soon as its last is answered."""
    return uvloop.run(storm([claim(alias, handle, token, port) for alias in aliases], port))


def claim(alias: str, handle: str, token: str, port: int) -> bytes:
    """One member's claim."""
    given = {"member": {"alias": alias}, "perk": {"handle": handle}, "idempotencyKey": f"drop-{alias}"}
    return http_request("POST", "/graphql", port, orjson.dumps({"query": CLAIM, "variables": {"input": given}}), token)


class Claimant(asyncio.Protocol):
    """One connection: sends the next request when the last is answered, and notes each answer and its latency."""

    def __init__(self, requests: Iterator[bytes], answers: list[tuple[float, float, bytes]]) -> None:
        self._requests, self._answers = requests, answers
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._body: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(WrongAnswer("the gateway closed a connection in the middle of the drop"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._answers.append((now, now - self._sent, b"".join(self._body)))
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.finished.set_result(None)
            self._transport.close()
            return
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self._sent = time.perf_counter()
        self._transport.write(request)


async def storm(requests: Sequence[bytes], port: int) -> Drop:
    """Sends everything and reads the answers afterwards, so that the client costs little while it matters."""
    loop, waiting = asyncio.get_running_loop(), iter(requests)
    answers: list[tuple[float, float, bytes]] = []
    began, busy = time.perf_counter(), time.process_time()
    made = await asyncio.gather(
        *(loop.create_connection(lambda: Claimant(waiting, answers), "127.0.0.1", port) for _ in range(CONNECTIONS))
    )
    await asyncio.gather(*(protocol.finished for _, protocol in made))
    wall, busy = time.perf_counter() - began, time.process_time() - busy
    outcomes = [(at, outcome_of(body)) for at, _, body in answers]
    held = [at for at, outcome in outcomes if outcome == "HELD"]
    latencies = sorted(taken for _, taken, _ in answers)
    return Drop(
        outcomes=dict(Counter(outcome for _, outcome in outcomes)),
        sold_out_s=round(max(held, default=began) - began, 3),
        answered_s=round(max(at for at, _ in outcomes) - began, 3),
        p50_ms=round(1000 * latencies[len(latencies) // 2], 2),
        p99_ms=round(1000 * latencies[int(0.99 * len(latencies))], 2),
        client_share=round(busy / wall, 2),
    )


def outcome_of(body: bytes) -> str:
    """HELD, or the refusals' codes, or what went wrong."""
    answer = orjson.loads(body)
    if "errors" in answer:
        return str(answer["errors"][0]["extensions"]["code"])
    claimed = answer["data"]["claimPerk"]
    return "HELD" if claimed["hold"] else ",".join(error["code"] for error in claimed["userErrors"])


async def check_drop(service: Service, handle: str, drop: Drop) -> None:
    """WrongAnswer unless exactly the units there were are held, and everybody else was told why not."""
    async with service.database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT (SELECT count(DISTINCT member_id) FROM hold h WHERE h.perk_id = p.id AND h.state = 'HELD'), c.taken"
            " FROM perk p JOIN capacity c ON c.perk_id = p.id WHERE p.handle = $1",
            handle,
        )
    assert row is not None
    held, taken = row
    expected = {"HELD": UNITS, "CAPACITY_EXHAUSTED": CLAIMANTS - UNITS}
    if (held, taken) != (UNITS, UNITS) or drop.outcomes != expected:
        raise WrongAnswer(f"the drop held {held} and took {taken} of {UNITS}; answers: {drop.outcomes}")
