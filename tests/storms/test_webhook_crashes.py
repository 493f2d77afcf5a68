"""`kill -9` of delivery workers and of the receiver, at named points and at any moment: no event is lost, those of one
member come in their order, and what comes twice comes under the same id."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import orjson
import pytest
from standardwebhooks import Webhook

from gateway.database import Database
from partners.keys import Keys
from partners.laws import check_laws
from partners.outside_addresses import read_private_targets
from partners.programme import Programme
from partners.webhooks.endpoints import EndpointSettings, create_endpoint
from partners.webhooks.events import entry_of
from tests.benchmarks.processes import free_port
from tests.factories import Club, partner_actor
from tests.sequencing import sequencer_on
from tests.storms.telling import POINTS

SECONDS_MAX = 120


class Mortals:
    """Processes that are started again whenever they died, by themselves or by us."""

    def __init__(self, commands: dict[str, list[str]]) -> None:
        self._commands = commands
        self._running = {name: self._start(name) for name in commands}
        self.deaths = dict.fromkeys(commands, 0)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        life = str(self.deaths[name]) if hasattr(self, "deaths") else "0"
        command = [part.replace("LIFE", life) for part in self._commands[name]]
        return subprocess.Popen([sys.executable, "-m", "tests.storms.telling", *command])

    def kill(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].wait()

    def revive(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                self.deaths[name] += 1
                self._running[name] = self._start(name)

    def end(self) -> None:
        for name in self._running:
            self.kill(name)


@contextmanager
def mortals(commands: dict[str, list[str]]) -> Iterator[Mortals]:
    running = Mortals(commands)
    try:
        yield running
    finally:
        running.end()


async def storm(club: Club, folder: Path, *, points: tuple[str, ...], entries: int, seed: int) -> Mortals:
    """Claims and releases while everything dies again and again; judges what the receiver was told."""
    dice, port, told = Random(seed), free_port(), folder / "told.jsonl"
    told.touch()
    sequencer = sequencer_on(club.database, club.keys, folder)
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner) for _ in range(5)]
    await sequencer.carry_over()
    async with club.database.sessions.begin() as session:
        endpoint, secret = await create_endpoint(
            session,
            partner.id,
            EndpointSettings(f"http://127.0.0.1:{port}/hooks"),
            keys=club.keys,
            actor=partner_actor(partner),
            now=datetime.now(UTC),
            private=read_private_targets(f"127.0.0.1:{port}"),
        )
    database_url = club.database.engine.url.render_as_string(hide_password=False)
    commands = {point: ["worker", database_url, str(port), point, f"{seed}-LIFE"] for point in points} | {
        "receiver": ["receiver", str(port), str(told)]
    }
    with mortals(commands) as running:
        for place in range(entries):
            club.now = datetime.now(UTC)
            await club.release(await club.hold(dice.choice(members), perk))
            await sequencer.carry_over()
            if place % 4 == 3:
                running.kill(dice.choice([*commands]))
            running.revive()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(SECONDS_MAX):
            while await club.sql("SELECT FROM webhook_cursor c, log_head h WHERE c.index < h.size") or await club.sql(
                "SELECT FROM webhook_message WHERE state = 'PENDING'"
            ):
                running.revive()
                await asyncio.sleep(0.1)
    await judge(club, endpoint.id, Webhook(secret.shown), told.read_bytes())
    return running


async def judge(club: Club, endpoint: UUID, verifier: Webhook, told: bytes) -> None:
    """All arrived, in order per member, and every copy of one is the same."""
    received: dict[UUID, str] = {}
    for line in map(orjson.loads, told.splitlines()):
        verifier.verify(line["body"], line["headers"])
        entry = entry_of(club.keys, UUID(line["id"].removeprefix("evt_")))
        assert received.setdefault(entry, line["body"]) == line["body"]
    rows = await club.sql(
        "SELECT entry_id, lane, state FROM webhook_message WHERE endpoint_id = $1 ORDER BY index", endpoint
    )
    assert {row["state"] for row in rows} == {"DELIVERED"}
    assert {row["entry_id"] for row in rows} == received.keys()
    places = {entry: place for place, entry in enumerate(received)}
    for lane in {row["lane"] for row in rows}:
        came = [places[row["entry_id"]] for row in rows if row["lane"] == lane]
        assert came == sorted(came)
    async with club.database.connection() as connection:
        assert [one for one in await check_laws(connection, club.now + timedelta(seconds=1)) if one.law == 11] == []


async def test_a_worker_and_a_receiver_that_die_lose_nothing_and_keep_the_order(
    empty_database: Database, programme: Programme, keys: Keys, now: datetime, folder: Path
) -> None:
    club = Club(empty_database, programme, keys, now)
    running = await storm(club, folder, points=("answered",), entries=12, seed=1)
    assert sum(running.deaths.values()) >= 3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
async def test_two_hundred_deaths_lose_nothing_and_keep_the_order(
    empty_database: Database, programme: Programme, keys: Keys, now: datetime, folder: Path, seed: int
) -> None:
    club = Club(empty_database, programme, keys, now)
    running = await storm(club, folder, points=POINTS, entries=400, seed=seed)
    assert sum(running.deaths.values()) >= 50
