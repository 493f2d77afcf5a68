"""How long a token that one process revokes is still good in another, idle and under load."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

import orjson

from auth.introspection import REVOCATION_PATH
from auth.server import TOKEN_PATH
from tests.benchmarks.club import Brand
from tests.benchmarks.load import WrongAnswer, drive, http_request
from tests.benchmarks.measuring import Figures, Plan, access_token
from tests.benchmarks.processes import Server
from tests.benchmarks.scenarios import SCENARIOS

REVOCATIONS_PER_SECOND = 30  # of a scenario's time
LOADING_CONNECTIONS = 8
LOADING_SECONDS = 2
REFUSED_SECONDS_MAX = 10.0
QUESTION = orjson.dumps({"query": "{ __typename }"})


@dataclass(frozen=True, slots=True)
class Revoked:
    """One revocation, in ms: until it was answered, and until the other process refused the token, from its sending."""

    answered_ms: float
    refused_ms: float


@dataclass(frozen=True, slots=True)
class Line:
    """One connection to one process, which answers one request after the other."""

    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> "Line":
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of its answer."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        [length] = [line[15:] for line in head.split("\r\n") if line.startswith("content-length:")]
        return int(head.split()[1]), await self.reader.readexactly(int(length))

    async def post(self, brand: Brand, path: str, form: Mapping[str, str]) -> bytes:
        """What the authorization server answers to the partner's client; WrongAnswer unless it is a yes."""
        body, who = urlencode(form).encode(), b64encode(f"{brand.client_id}:{brand.secret}".encode()).decode()
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Basic {who}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
        ]
        status, answer = await self.ask("\r\n".join([*lines, "", ""]).encode() + body)
        if status != 200:
            raise WrongAnswer(f"{path} answered {status}: {answer.decode()[:500]}")
        return answer


def measure_revocations(plan: Plan, here: Server, elsewhere: Server, brands: Sequence[Brand]) -> Figures:
    """A few hundred, first with nothing else to do and then with checks going on in the other process."""
    count = REVOCATIONS_PER_SECOND * plan.seconds
    idle = asyncio.run(revoke_many(count, here, elsewhere, brands[0]))
    return {"idle": shown(idle), "loaded": asyncio.run(revoke_under_load(count, plan, here, elsewhere, brands))}


async def revoke_under_load(
    count: int, plan: Plan, here: Server, elsewhere: Server, brands: Sequence[Brand]
) -> Figures:
    """The same while the other process answers as many checks as it can."""
    [check] = [scenario for scenario in SCENARIOS if scenario.name == "check"]
    requests = check.requests(brands, [access_token(elsewhere, brand) for brand in brands], elsewhere.port)
    load = partial(drive, requests, elsewhere.port, plan.folder, expect=check.expect, connections=LOADING_CONNECTIONS)
    revoking = asyncio.create_task(revoke_many(count, here, elsewhere, brands[0]))
    rates = []
    while not revoking.done():
        rates.append((await asyncio.to_thread(load, seconds=LOADING_SECONDS)).per_second)
    return shown(await revoking) | {"checks_per_second": round(sum(rates) / len(rates))}


async def revoke_many(count: int, here: Server, elsewhere: Server, brand: Brand) -> list[Revoked]:
    """Revokes so many tokens one after the other."""
    ours, theirs = await Line.open(here.port), await Line.open(elsewhere.port)
    revoked = []
    for _ in range(count):
        answer = await ours.post(brand, TOKEN_PATH, {"grant_type": "client_credentials"})
        revoked.append(await revoke(ours, theirs, brand, orjson.loads(answer)["access_token"]))
    for line in (ours, theirs):
        line.writer.close()
        await line.writer.wait_closed()
    return revoked


async def revoke(ours: Line, theirs: Line, brand: Brand, token: str) -> Revoked:
    """Revokes a token in one process while another, which has remembered its caller, is asked with it all the time."""
    question = http_request("POST", "/graphql", theirs.port, QUESTION, token)
    if (status := (await theirs.ask(question))[0]) != 200:
        raise WrongAnswer(f"a live token was answered with {status}")
    began = time.perf_counter()

    async def answered() -> float:
        await ours.post(brand, REVOCATION_PATH, {"token": token})
        return time.perf_counter() - began

    async def refused() -> float:
        while (await theirs.ask(question))[0] != 401:
            if time.perf_counter() - began > REFUSED_SECONDS_MAX:
                raise WrongAnswer(f"a revoked token was good for more than {REFUSED_SECONDS_MAX} s")
        return time.perf_counter() - began

    both = await asyncio.gather(answered(), refused())
    return Revoked(*(1000 * seconds for seconds in both))


def shown(revoked: Sequence[Revoked]) -> Figures:
    """How many, and the latencies in ms."""
    later = sorted(max(0.0, one.refused_ms - one.answered_ms) for one in revoked)
    answered, refused = (
        sorted(times) for times in zip(*((one.answered_ms, one.refused_ms) for one in revoked), strict=True)
    )
    return {
        "revocations": len(revoked),
        "answered_p50_ms": round(answered[len(answered) // 2], 2),
        "p50_ms": round(refused[len(refused) // 2], 2),
        "p99_ms": round(refused[int(0.99 * len(refused))], 2),
        "max_ms": round(refused[-1], 2),
        "after_answer_p50_ms": round(later[len(later) // 2], 2),
        "after_answer_p99_ms": round(later[int(0.99 * len(later))], 2),
    }
