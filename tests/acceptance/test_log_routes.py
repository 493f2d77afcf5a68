"""The log under /log/, as a mirror, an auditor and somebody who should not read entries find it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from gateway import embedded, log_routes
from gateway.app import Gateway, Service
from gateway.database import Database
from gateway.new_log import begin_new_log
from gateway.sequencer import sequencer_of
from gateway.settings import Settings
from partners.actors import SYSTEM
from partners.keys import Keys
from partners.log_forks import LogForked
from partners.merkle import HASH_BYTES, CompactRange, leaf_hash, root_of
from partners.notes import Checkpoint, Verifier, open_checkpoint, sign_checkpoint, verifier_of
from partners.tables import Partner
from partners.tiles import hashes_of, tiles_of
from tests.api import Api
from tests.sequencing import write

ORIGIN = "perks.example/log"
SIZE = 600


@pytest.fixture(scope="module")
async def logged(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, secret: bytes, now: datetime
) -> AsyncIterator[Api]:
    """A service with a log of 600 entries, which these tests only read."""
    settings = Settings(
        database_url=await new_database(),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        base_url="https://perks.example",
    )
    gateway = Gateway(settings, clock=lambda: now, work=False)
    transport = httpx.ASGITransport(gateway)
    async with (
        gateway.living() as service,
        httpx.AsyncClient(transport=transport, base_url=settings.address) as client,
    ):
        await write(service.database, now, SIZE)
        await sequencer_of(service).carry_over()
        yield Api(service, client)


@asynccontextmanager
async def on(logged: Api, database: Database) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """The same service on another database."""
    address = database.engine.url.render_as_string(hide_password=False)
    settings = logged.service.settings.model_copy(update={"database_url": address})
    gateway = Gateway(settings, clock=lambda: datetime.now(UTC), work=False)
    transport = httpx.ASGITransport(gateway)
    async with (
        gateway.living() as service,
        httpx.AsyncClient(transport=transport, base_url=settings.address) as client,
    ):
        yield service, client


def staff(logged: Api, *scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {logged.staff(*scopes).token}"}


async def found(logged: Api, path: str, **headers: str) -> httpx.Response:
    return await logged.client.get(f"/log/{path}", headers=headers)


async def test_a_mirror_gets_the_tree_that_was_signed(logged: Api, keys: Keys) -> None:
    keys_line = (await found(logged, "keys")).text
    assert keys_line == f"{verifier_of(ORIGIN, keys.log)}\n"
    signed = open_checkpoint((await found(logged, "checkpoint")).text, Verifier.parse(keys_line))
    assert (signed.origin, signed.size) == (ORIGIN, SIZE)
    tiles = {tile: (await found(logged, f"tile/{tile.path}")).content for tile in tiles_of(SIZE)}
    assert {len(content) for content in tiles.values()} == {256 * HASH_BYTES, 88 * HASH_BYTES, 2 * HASH_BYTES}
    lowest = [one for tile, content in tiles.items() if tile.level == 0 for one in hashes_of(content)]
    assert root_of(lowest) == signed.root
    [upper] = [hashes_of(content) for tile, content in tiles.items() if tile.level == 1]
    assert upper == [CompactRange().append(lowest[at : at + 256]).root() for at in (0, 256)]


async def test_staff_get_the_entries_that_the_hashes_are_of(logged: Api) -> None:
    entries, at = [], 0
    raw = (await found(logged, "tile/entries/002.p/88", **staff(logged))).content
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 2], "big")
        entries.append(raw[at + 2 : at + 2 + length])
        at += 2 + length
    hashes = hashes_of((await found(logged, "tile/0/002.p/88")).content)
    assert [leaf_hash(entry) for entry in entries] == hashes
    assert len((await found(logged, "tile/entries/000", **staff(logged))).content) > 256 * 200


@pytest.mark.parametrize(
    "path", ["tile/0/001", "tile/0/002.p/88", "tile/0/002.p/7", "tile/0/000.p/255", "tile/1/000.p/1"]
)
async def test_a_tile_never_changes_and_says_so(logged: Api, path: str) -> None:
    first = await found(logged, path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
    assert first.headers["content-type"] == "application/octet-stream"
    again = await found(logged, path, **{"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert sha256((await found(logged, path)).content).hexdigest().startswith(first.headers["etag"].strip('"'))


async def test_what_may_change_is_kept_for_a_second_and_entries_by_nobody_between(logged: Api) -> None:
    for path in ("checkpoint", "keys"):
        answer = await found(logged, path)
        assert answer.headers["cache-control"] == "public, max-age=1"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    entries = await found(logged, "tile/entries/000", **staff(logged))
    assert entries.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert entries.headers["vary"] == "authorization"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/002",
        "tile/0/002.p/89",
        "tile/0/003.p/1",
        "tile/1/000.p/3",
        "tile/1/000",
        "tile/2/000.p/1",
        "tile/63/000.p/1",
        "tile/64/000.p/1",
        "tile/0/0",
        "tile/00/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000/",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/-01",
        "tile/",
        "tile/0/%30%30%31%00",
        "witnessed",
    ],
)
async def test_what_the_log_does_not_have_is_not_found(logged: Api, path: str) -> None:
    answer = await found(logged, path)
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert answer.json()["errors"][0]["extensions"]["code"] == "NOT_FOUND"


async def test_entries_are_for_staff_who_may_read_the_audit_log(logged: Api, now: datetime) -> None:
    partner = Partner(handle="velo", name="Velo", kind="car_club", created_at=now)
    tokens = {
        None: (401, "UNAUTHENTICATED"),
        "nonsense": (401, "UNAUTHENTICATED"),
        logged.staff("members:admin").token: (403, "INSUFFICIENT_SCOPE"),
        logged.partner(partner).token: (403, "FORBIDDEN"),
    }
    for token, expected in tokens.items():
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = await found(logged, "tile/entries/000", **headers)
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == expected
    beyond = await found(logged, "tile/entries/003", **staff(logged, "audit:read"))
    assert beyond.status_code == 404


async def test_head_tells_the_same_without_a_body_and_nothing_is_written(logged: Api) -> None:
    for path in ("checkpoint", "keys", "tile/0/000"):
        whole, head = await found(logged, path), await logged.client.head(f"/log/{path}")
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "etag", "content-type", "cache-control"):
            assert head.headers[name] == whole.headers[name]
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await logged.client.request(method, "/log/tile/0/000")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["errors"][0]["extensions"]["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("path", ["tile/0/002.p/9", "tile/1/000.p/2", "tile/entries/000", "checkpoint"])
async def test_each_answer_is_one_statement(logged: Api, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    execute = asyncpg.Connection._execute  # type: ignore[attr-defined]  # what every kind of fetching goes through

    async def counted(self: Any, query: str, *arguments: Any, **named: Any) -> Any:
        asked.append(query)
        return await execute(self, query, *arguments, **named)

    headers = staff(logged)
    await found(logged, path, **headers)
    monkeypatch.setattr(asyncpg.Connection, "_execute", counted)
    assert (await found(logged, path, **headers)).status_code == 200
    assert len(asked) == 1


async def test_too_many_readers_are_told_to_come_again(logged: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_routes, "WAITING_MAX", 0)
    answer = await found(logged, "tile/0/002.p/5")
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (503, "OVERLOADED")


async def test_a_new_log_has_addresses_of_its_own_since_tiles_are_kept_for_ever(
    logged: Api, empty_database: Database, now: datetime
) -> None:
    async with on(logged, empty_database) as (service, client):
        await write(service.database, now, 300)
        sequencer = sequencer_of(service)
        await sequencer.carry_over()
        old = (await client.get("/log/tile/0/000")).content
        assert (await client.get("/log/2/tile/0/000")).status_code == 404
        await begin_new_log(sequencer, "new.example/log", SYSTEM)
        for path in ("checkpoint", "keys", "tile/0/001.p/5"):
            ended = await client.get(f"/log/{path}")
            assert ended.status_code == 404
            assert "not the log of today, which is at /log/2/" in ended.text
        new = (await client.get("/log/2/tile/0/000")).content
        assert new[HASH_BYTES:] == old[:-HASH_BYTES]
        assert (await client.get("/log/2/checkpoint")).text.startswith("new.example/log\n301\n")
        for wrong in ("02", "1", "0", "3"):
            assert (await client.get(f"/log/{wrong}/checkpoint")).status_code == 404


async def test_a_checkpoint_is_in_the_mark_before_it_is_told(logged: Api) -> None:
    mark = logged.service.high_water
    mark.file.unlink()
    note = (await found(logged, "checkpoint")).text
    assert mark.read() == note


@pytest.mark.parametrize(
    "lost", [Checkpoint(ORIGIN, SIZE + 1, bytes(32)), Checkpoint("later.example/log", 9, bytes(32))]
)
async def test_a_forked_log_tells_no_checkpoint_and_the_process_stays_ready(
    logged: Api, keys: Keys, lost: Checkpoint
) -> None:
    mark = logged.service.high_water
    await mark.keep(sign_checkpoint(lost, keys.log))
    mark.fault = LogForked("as the sequencer would say")
    try:
        answer, ready = await found(logged, "checkpoint"), await logged.client.get("/readyz")
        assert await mark.known() == lost
    finally:
        mark.fault = None
        mark.file.unlink()
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (503, "LOG_FORKED")
    assert (ready.status_code, ready.json()["log"]) == (200, "forked")
    assert (await logged.client.get("/readyz")).json()["log"] == "ok"


async def test_an_empty_log_has_nothing_yet(logged: Api, empty_database: Database) -> None:
    async with on(logged, empty_database) as (_, client):
        for path in ("checkpoint", "keys", "witnessed", "tile/0/000", "tile/0/000.p/1"):
            assert (await client.get(f"/log/{path}")).status_code == 404
