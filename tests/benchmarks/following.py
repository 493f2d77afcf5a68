"""How long after a claim in one process those who follow its perk in another know what is left."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from secrets import token_hex

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.app import Service
from partners.tables.columns import new_id
from tests.benchmarks.club import Brand, offer
from tests.benchmarks.drop import ONCE_EVER
from tests.benchmarks.load import WrongAnswer, http_request
from tests.benchmarks.measuring import Figures
from tests.benchmarks.processes import Server
from tests.benchmarks.revocation import Line

SOCKETS, EACH = 20, 10
CHANGES = 60
PAUSE_S = 0.137  # out of step with the sequencer's tenth of a second
FOLLOW = "subscription($perk: PerkBy!) { perkAvailability(perk: $perk) { capacityRemaining } }"
CLAIM = (
    "mutation($perk: PerkBy!, $member: MemberBy!, $key: String!) {"
    " claimPerk(input: {perk: $perk, member: $member, idempotencyKey: $key}) { hold { id } userErrors { code } } }"
)


@dataclass(frozen=True, slots=True)
class Told:
    """One change, in ms: until its claim was answered, and until each follower knew, from its sending."""

    answered_ms: float
    known_ms: Sequence[float]


async def prepare_following(service: Service, brand: Brand) -> str:
    """The handle of a new perk of the partner."""
    async with service.database.connection() as connection:
        perks, now = [new_id()], service.clock()
        await offer(
            connection, brand.id, brand.handle, perks, now, units=10 * CHANGES, policies=[ONCE_EVER], name="followed"
        )
    return f"{brand.handle}/followed-0"


def measure_following(here: Server, elsewhere: Server, brand: Brand, handle: str, token: str) -> Figures:
    """So many claims one after the other, each known to all followers before the next."""
    told = asyncio.run(follow_changes(here, elsewhere, brand.aliases, handle, token))
    known = sorted(one for change in told for one in change.known_ms)
    after = sorted(max(0.0, one - change.answered_ms) for change in told for one in change.known_ms)
    return {
        "followers": SOCKETS * EACH,
        "changes": len(told),
        "p50_ms": at(known, 0.5),
        "p99_ms": at(known, 0.99),
        "max_ms": at(known, 1),
        "after_answer_p50_ms": at(after, 0.5),
        "after_answer_p99_ms": at(after, 0.99),
    }


def at(times: Sequence[float], share: float) -> float:
    """The time within which this share of them lies."""
    return round(times[min(len(times) - 1, int(share * len(times)))], 1)


async def follow_changes(
    here: Server, elsewhere: Server, aliases: Sequence[str], handle: str, token: str
) -> list[Told]:
    """Opens the followers' WebSockets in one process and claims in the other."""
    async with AsyncExitStack() as opened:
        followers = []
        for _ in range(SOCKETS):
            followers.append(await opened.enter_async_context(socket(elsewhere, token)))
            await begin(followers[-1], handle)
        left = await first(followers)
        line = await Line.open(here.port)
        told = []
        for alias in aliases[:CHANGES]:
            await asyncio.sleep(PAUSE_S)
            left -= 1
            told.append(await change(line, followers, handle, alias, token, left))
        line.writer.close()
        return told


def socket(server: Server, token: str) -> connect:
    """A WebSocket of a few followers."""
    address = f"ws://127.0.0.1:{server.port}/graphql"
    headers = {"Authorization": f"Bearer {token}"}
    return connect(address, subprotocols=[Subprotocol("graphql-transport-ws")], additional_headers=headers)


async def begin(socket: ClientConnection, handle: str) -> None:
    """Their subscriptions."""
    await socket.send('{"type":"connection_init"}')
    await socket.recv()
    payload = {"query": FOLLOW, "variables": {"perk": {"handle": handle}}}
    for number in range(EACH):
        await socket.send(json.dumps({"id": str(number), "type": "subscribe", "payload": payload}))


async def first(followers: Sequence[ClientConnection]) -> int:
    """What all of them are told first."""
    states = {await left_of(one) for one in followers for _ in range(EACH)}
    if len(states) != 1:
        raise WrongAnswer(f"followers were told different states: {states}")
    return states.pop()


async def left_of(socket: ClientConnection) -> int:
    """The next state that a follower is told."""
    message = orjson.loads(await socket.recv())
    try:
        left: int = message["payload"]["data"]["perkAvailability"]["capacityRemaining"]
    except (KeyError, TypeError):
        raise WrongAnswer(f"a follower was told {message}") from None
    return left


async def change(
    line: Line, followers: Sequence[ClientConnection], handle: str, alias: str, token: str, expected: int
) -> Told:
    """One claim, until everybody knows."""
    variables = {"perk": {"handle": handle}, "member": {"alias": alias}, "key": token_hex(16)}
    request = http_request("POST", "/graphql", line.port, orjson.dumps({"query": CLAIM, "variables": variables}), token)
    began = time.perf_counter()

    async def answered() -> float:
        status, body = await line.ask(request)
        if status != 200 or b'"userErrors":[]' not in body:
            raise WrongAnswer(f"a claim was answered {status}: {body.decode()[:500]}")
        return 1000 * (time.perf_counter() - began)

    async def known(socket: ClientConnection) -> list[float]:
        times = []
        for _ in range(EACH):
            if (left := await left_of(socket)) != expected:
                raise WrongAnswer(f"a follower was told {left}, where {expected} are left")
            times.append(1000 * (time.perf_counter() - began))
        return times

    answered_ms, known_ms = await asyncio.gather(answered(), asyncio.gather(*map(known, followers)))
    return Told(answered_ms, [one for times in known_ms for one in times])
