"""Processes of the webhook storm, each of which may die at any moment. Run as `python -m tests.storms.telling`:

`worker DATABASE PORT POINT SEED` makes and delivers messages, and kills itself now and then at the named point;
`receiver PORT FILE` writes down what it is told before it answers.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson

from gateway import webhooks
from gateway.database import open_database
from gateway.outside_posts import open_outside_world
from partners.keys import derive_keys
from partners.outside_addresses import read_private_targets
from partners.webhooks import messages, schedule
from tests.conftest import SECRET

POINTS = ("made", "leased", "answered", "finished")
DEATHS_SHARE = 0.1
LEASE_SECONDS = 1.0


def hasten() -> None:
    """Leases and delays of seconds and minutes become parts of a second."""
    messages.LEASE = timedelta(seconds=LEASE_SECONDS)
    webhooks.STARTED_WITHIN_SECONDS = LEASE_SECONDS / 2
    schedule.DELAYS_S = (0.1,) * 10_000  # type: ignore[assignment]
    schedule.ATTEMPTS_MAX = 10_000
    schedule.REST_S_MIN = schedule.REST_S_MAX = 0.2  # type: ignore[assignment]


def die_at(point: str, dice: Random) -> None:
    """Wraps the statement that the point is about: `answered` is just before what ended is written down."""

    def deadly(do: Callable[..., Awaitable[Any]], *, before: bool = False) -> Callable[..., Awaitable[Any]]:
        async def done(*given: Any, **named: Any) -> Any:
            doomed = dice.random() < DEATHS_SHARE
            if doomed and before:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await do(*given, **named)
            if doomed and (answer or point == "finished"):
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return done

    if point == "made":
        webhooks.make_messages = deadly(webhooks.make_messages)  # type: ignore[assignment]
    elif point == "leased":
        webhooks.lease_messages = deadly(webhooks.lease_messages)  # type: ignore[assignment]
    elif point in ("answered", "finished"):
        webhooks.finish_attempts = deadly(webhooks.finish_attempts, before=point == "answered")  # type: ignore[assignment]


async def work(database_url: str, port: str, point: str, seed: str) -> None:
    """The two loops of one process, until it dies."""
    hasten()
    die_at(point, Random(seed))
    database, keys, stop = open_database(database_url, connections=5), derive_keys(SECRET), asyncio.Event()

    def clock() -> datetime:
        return datetime.now(UTC)

    async with open_outside_world(read_private_targets(f"127.0.0.1:{port}")) as post, asyncio.TaskGroup() as tasks:
        courier = webhooks.Courier(database, keys, post, clock)
        grown = asyncio.Event()
        tasks.create_task(webhooks.keep_making(database, keys, clock, stop, grown=grown, made=courier.wake))
        tasks.create_task(courier.keep_delivering(stop))


async def receive(port: str, file: str) -> None:
    """One line for each message, in the order of its arrival."""
    written = Path(file).open("ab", buffering=0)  # noqa: SIM115, ASYNC230 - for as long as the process lives

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                headers = {name.lower().decode(): text.decode() for name, text in fields.items()}
                body = await reader.readexactly(int(headers["content-length"]))
                line = {"id": headers["webhook-id"], "headers": headers, "body": body.decode()}
                written.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run({"worker": work, "receiver": receive}[sys.argv[1]](*sys.argv[2:]))
