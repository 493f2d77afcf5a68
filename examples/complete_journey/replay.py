"""Replays a year of coupon redemptions through the running API and proves what came of it; see README.md."""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import uvloop

from examples.complete_journey.attempts import Purpose, attempts_of, move_windows, replay, replay_again
from examples.complete_journey.club import Club, Unanswered, create_partners, sign_in_partners
from examples.complete_journey.files import Files, write_files
from examples.complete_journey.journey import Journey, read_journey
from examples.complete_journey.proofs import broken_laws, prove_log, read_books
from examples.complete_journey.report import Result, told
from gateway.embedded import EmbeddedError
from gateway.running import addressed, served
from gateway.serving import environment
from gateway.settings import Settings
from partners.errors import PerksError

PERKS = Path(sys.executable).with_name("perks")
FOLDER = Path("build/complete_journey")
START_SECONDS_MAX = 30


async def run(club: Club, journey: Journey, folder: Path, credentials: Path | None = None) -> Result:
    """Imports, replays, replays again, and looks at what is there afterwards."""
    now, began = club.service.clock(), time.monotonic()
    shift = journey.shift(now)
    await create_partners(club, journey.partners)
    await import_files(club.service.settings, write_files(journey, shift, folder))
    await sign_in_partners(club, journey.partners, credentials)
    await club.learn_members()
    imported = time.monotonic()
    outcomes = await replay(club, journey, attempts_of(journey))
    replayed = time.monotonic()
    await move_windows(club, journey.campaigns.values(), journey.ends.date())
    again = await replay_again(club, journey, [one.attempt for one in outcomes if one.attempt.purpose is Purpose.USE])
    books, broken = await read_books(club), await broken_laws(club.service)
    log = await prove_log(club.service, folder)
    return Result(journey, outcomes, again, books, broken, log, imported - began, replayed - imported)


async def import_files(settings: Settings, files: Files) -> None:
    """`perks import` for each file; activity is of members, so they come first."""
    await asyncio.gather(
        perks_import(settings, "members", files.members),
        perks_import(settings, "perks", files.perks),
    )
    await perks_import(settings, "activity", files.activity)


async def perks_import(settings: Settings, noun: str, file: Path) -> None:
    """The command in a process; Unanswered with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        PERKS,
        *("import", noun, str(file)),
        env=os.environ | environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise Unanswered(f"perks import {noun}: {output.decode().strip()}")


@contextmanager
def service(base_url: str | None) -> Iterator[Settings]:
    """The running service of this environment at an address, or one of our own that leaves nothing behind."""
    if base_url is not None:
        with addressed(join=True, base_url=base_url) as settings:
            yield settings
        return
    if taken := [name for name in ("DATABASE_URL", "REDIS_URL") if name in os.environ]:
        raise Unanswered(f"{' and '.join(taken)} set: say --base-url to replay on that service, or unset")
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="complete-journey-") as folder,
        addressed(
            data_folder=Path(folder),
            host="127.0.0.1",
            port=port,
            base_url=f"http://127.0.0.1:{port}",
            log_level="WARNING",
        ) as settings,
        serving(settings),
    ):
        yield settings


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """`perks serve` in a process of its own, so that it has a core of its own."""
    process = subprocess.Popen([PERKS, "serve", "--port", str(settings.port)], env=os.environ | environment(settings))
    deadline = time.monotonic() + START_SECONDS_MAX
    try:
        while not listening(settings.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unanswered("the service did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def listening(port: int) -> bool:
    """Whether anybody listens on the port; the first request then waits until the service is ready."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def replay_over_http(settings: Settings, journey: Journey, folder: Path, credentials: Path | None) -> Result:
    """The whole over HTTP; files go to the folder."""
    async with served(settings) as operator, aiohttp.ClientSession(settings.address) as http:
        try:
            return await run(Club(operator, http), journey, folder, credentials)
        except aiohttp.ClientError as fault:
            raise Unanswered(str(fault)) from fault


def main() -> int:
    """The command; 0 when nothing is at fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", help="a service that runs in this environment, instead of one of our own")
    parser.add_argument("--credentials", type=Path, default=FOLDER / "credentials.json", help="its partners' clients")
    parser.add_argument("--households", type=int, help="only so many, those that used the most coupons")
    arguments = parser.parse_args()
    if arguments.households is not None and arguments.households < 1:
        parser.error("--households: at least 1")
    journey = read_journey()
    if arguments.households is not None:
        journey = journey.part(arguments.households)
    try:
        with service(arguments.base_url) as settings:
            credentials = arguments.credentials if arguments.base_url is not None else None
            result = uvloop.run(replay_over_http(settings, journey, FOLDER, credentials))
    except (PerksError, EmbeddedError, Unanswered) as fault:
        print(f"replay: {fault}", file=sys.stderr)
        return 1
    print("\n".join(told(result)))
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
