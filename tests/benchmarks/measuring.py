"""Measures one server under one kind of request: how many, how late, and at what cost of CPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx

from auth.server import TOKEN_PATH
from tests.benchmarks.club import Brand
from tests.benchmarks.load import KEY, Load, drive, http_request
from tests.benchmarks.processes import Server, Spending, bare_command, own_environment, serving
from tests.benchmarks.scenarios import Scenario

CONNECTIONS = 32
WARM_UP_SECONDS = 1
BARE_BODY = b'{"query":"query Check($member: MemberBy!) { eligibility }","variables":{"member":{"alias":"a"}}}'
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each scenario is driven with all connections and with one, the server's core, a throw-away folder."""

    seconds: int
    alone_seconds: int
    core: int
    folder: Path


def measure(scenario: Scenario, plan: Plan, server: Server, brands: Sequence[Brand]) -> Figures:
    """A scenario's figures, after one answer was looked at closely."""
    tokens = [access_token(server, brand) for brand in brands]
    requests = scenario.requests(brands, tokens, server.port)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        [body] = scenario.bodies(brands[0], 1)
        headers = {"authorization": f"Bearer {tokens[0]}", "content-type": "application/json"}
        fresh = body.replace(KEY.encode(), token_hex(len(KEY) // 2).encode())
        answer = client.post("/graphql", content=fresh, headers=headers)
    scenario.check(answer.json())
    drive(requests, server.port, plan.folder, expect=scenario.expect, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
    return {"asks": scenario.sentence, "answer_bytes": len(answer.content)} | figures(
        requests, plan, server, expect=scenario.expect, data=plan.folder / "data"
    )


def figures(requests: Sequence[bytes], plan: Plan, server: Server, *, expect: str, data: Path | None = None) -> Figures:
    """Figures of one kind of request; with PostgreSQL's CPU time when `data` tells where it runs."""
    alone = drive(requests, server.port, plan.folder, expect=expect, connections=1, seconds=plan.alone_seconds)
    spending = Spending(server, plan.core, data)
    load = drive(requests, server.port, plan.folder, expect=expect, connections=CONNECTIONS, seconds=plan.seconds)
    return shown(load, alone) | spending.figures(load.requests, load.seconds)


def shown(load: Load, alone: Load) -> Figures:
    """Requests per second and latencies in ms."""
    return {
        "requests": load.requests,
        "per_second": round(load.per_second, 1),
        "p50_ms": round(load.p50_ms, 2),
        "p99_ms": round(load.p99_ms, 2),
        "alone_p50_ms": round(alone.p50_ms, 2),
        "alone_p99_ms": round(alone.p99_ms, 2),
    }


def measure_bare(plan: Plan) -> Figures:
    """The bare endpoint, asked by GET and by POST."""
    with serving(bare_command(), plan.core, "/", own_environment()) as server:
        asked = {
            "get": http_request("GET", "/", server.port),
            "post": http_request("POST", "/", server.port, BARE_BODY),
        }
        return {how: figures([request], plan, server, expect='"ok"') for how, request in asked.items()}


def averaged(one: Figures, other: Figures) -> Figures:
    """The mean of two runs of the bare endpoint, and how far apart they were: that is how noisy the machine is."""
    return {
        how: {name: round((value + other[how][name]) / 2, 3) for name, value in one[how].items()}
        | {"both_per_second": [one[how]["per_second"], other[how]["per_second"]]}
        for how in one
    }


def access_token(server: Server, brand: Brand) -> str:
    """A token of the partner's client, as a partner gets it."""
    answer = httpx.post(
        f"http://127.0.0.1:{server.port}{TOKEN_PATH}",
        data={"grant_type": "client_credentials"},
        auth=(brand.client_id, brand.secret),
    )
    return str(answer.raise_for_status().json()["access_token"])
