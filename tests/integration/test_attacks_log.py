"""A log that is restored, continued, tampered with and asked at the wrong moment: it tells nobody two stories."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway import embedded
from gateway.database import Database
from gateway.high_water import vouch
from gateway.new_log import begin_new_log
from gateway.sequencer import Sequencer, keep_sequencing
from gateway.settings import Settings
from gateway.witness.addresses import WitnessAddress
from gateway.witnesses import Witnesses
from partners import export_rows
from partners.actors import SYSTEM
from partners.entries import EntryFilter, Extent, next_entries
from partners.errors import BadInput, Conflict, TryAgain
from partners.export_making import take_export
from partners.keys import Keys
from partners.laws.log import check_log
from partners.log_forks import LogForked, continued_logs
from partners.log_keys import read_verifiers, rotate_key
from partners.merkle import CompactRange
from partners.notes import COSIGNATURE, Checkpoint, open_checkpoint, sign_checkpoint, verifier_of
from partners.tables import ExportKind
from tests.api import Api
from tests.commands import Perks
from tests.exporting import JSONL, Time, content, exporter, requested, row
from tests.factories import STAFF, Club
from tests.followers import following
from tests.matrix_samples import Rows
from tests.sequencing import ORIGIN, log_of, sequencer_on, write
from tests.serving import serving

NAME = "club"
CHECKPOINT = "{ auditCheckpoint { note } }"
PROOF = "query($id: ID!) { auditProof(redemptionId: $id) { checkpoint } }"
ENTRIES = "{ auditEntries(first: 1) { nodes { proof { checkpoint } } } }"
ENTRY = "query($id: ID!) { node(id: $id) { ... on AuditEntry { proof { checkpoint } } } }"
FOLLOWED = "subscription($fromIndex: Int) { auditEntry(fromIndex: $fromIndex) { index action leafHash } }"


def of_host(database: Database, keys: Keys, folder: Path) -> Sequencer:
    return sequencer_on(database, keys, folder, name=NAME)


async def signed(sequencer: Sequencer) -> Checkpoint:
    """Everything is carried over; the checkpoint of it."""
    await sequencer.carry_over()
    known = await sequencer.high_water.known()
    assert known is not None
    return known


async def cut_back(database: Database, size: int) -> None:
    """What a restore does: the log as it was at a size."""
    async with database.connection() as connection:
        hashes = await connection.fetch("SELECT leaf_hash FROM log_leaf WHERE index < $1 ORDER BY index", size)
        gone = "SELECT entry_id FROM log_leaf WHERE index >= $1"
        entries = [row["entry_id"] for row in await connection.fetch(gone, size)]
        await connection.execute("DELETE FROM log_leaf WHERE index >= $1", size)
        await connection.execute("DELETE FROM audit_entry WHERE id = ANY ($1)", entries)
        tree = CompactRange().append(row["leaf_hash"] for row in hashes)
        await connection.execute("UPDATE log_head SET size = $1, frontier = $2", size, tree.frontier)


# What anybody is told goes through the mark


async def tellings(api: Api, club: Club) -> list[tuple[str, dict[str, Any]]]:
    """Every way in which the API tells a checkpoint."""
    rows = await Rows.made(club)
    redeemed = await club.redeemed(await club.hold(rows.member, rows.perk))
    await sequencer_on(club.database, club.keys).carry_over()
    async with club.database.connection() as connection:
        entry = await connection.fetchval("SELECT entry_id FROM log_leaf ORDER BY index LIMIT 1")
    return [
        (CHECKPOINT, {}),
        (PROOF, {"id": f"redemption_{redeemed.hex}"}),
        (ENTRIES, {}),
        (ENTRY, {"id": f"entry_{entry.hex}"}),
    ]


async def test_a_checkpoint_that_the_api_tells_is_in_the_mark_before(api: Api, club: Club) -> None:
    mark = api.service.high_water
    for query, variables in await tellings(api, club):
        mark.file.unlink()
        answer = await api.staff()(query, **variables)
        assert "errors" not in answer.body
        note = mark.read()
        assert note is not None
        assert json.dumps(note, ensure_ascii=False) in json.dumps(answer.body, ensure_ascii=False)


async def test_a_forked_log_tells_no_checkpoint_by_the_api_either(api: Api, club: Club) -> None:
    mark, asked = api.service.high_water, await tellings(api, club)
    known = await mark.known()
    assert known is not None
    await mark.keep(sign_checkpoint(Checkpoint(known.origin, known.size + 1, bytes(32)), club.keys.log))
    try:
        answers = [await api.staff()(query, **variables) for query, variables in asked]
        plain = await api.staff()("{ auditEntries(first: 1) { nodes { leafHash index } } }")
    finally:
        mark.file.unlink()
    codes = [[error["extensions"]["code"] for error in answer.body["errors"]] for answer in answers]
    assert codes == [["LOG_FORKED"]] * 4
    assert "errors" not in plain.body


async def test_a_checkpoint_is_in_the_mark_before_a_witness_sees_it(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 3)
    await signed(of_host(empty_database, keys, folder / "elsewhere"))
    mark, seen = of_host(empty_database, keys, folder / "here").high_water, []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((mark.read() or "none") in request.content.decode())
        return httpx.Response(500)

    verifier = verifier_of("witness.example/w", bytes(32), COSIGNATURE)
    asking = Witnesses([WitnessAddress(verifier, "https://w.example")], empty_database, mark, lambda: now, every_s=60)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as web:
        await asking.ask_all(web)
    assert seen == [True]


def test_a_log_that_was_cut_back_is_exported_to_nobody(perks: Perks, folder: Path) -> None:
    """Also while nothing waits for its place, when no sequencer would notice."""
    file = folder / "log.jsonl"
    perks("partners", "add", "velo", "--name", "velo")
    assert perks("audit", "export", file).code == 0
    [(size, frontier, checkpoint)] = perks.query("SELECT size, frontier, checkpoint FROM log_head")
    perks("partners", "add", "rose", "--name", "rose")
    assert perks("audit", "export", file).code == 0
    perks.query("DELETE FROM audit_entry WHERE id IN (SELECT entry_id FROM log_leaf WHERE index >= $1)", size)
    perks.query("DELETE FROM log_leaf WHERE index >= $1", size)
    perks.query("UPDATE log_head SET size = $1, frontier = $2, checkpoint = $3", size, frontier, checkpoint)
    before = file.read_bytes()
    for options in ((file,), ("--tiles", folder / "tiles")):
        done = perks("audit", "export", *options)
        assert (done.code, f"has {size} entries of the log" in done.err) == (1, True)
    assert (file.read_bytes(), (folder / "tiles").exists()) == (before, False)


@pytest.mark.parametrize("kind", ["text/x.tlog.size", "text/x.tlog.size; charset=utf-8", "text/plain"])
async def test_a_witness_that_signed_another_tree_of_this_size_is_understood_however_it_says_so(
    empty_database: Database, keys: Keys, now: datetime, folder: Path, kind: str
) -> None:
    """C2SP wants 409, and leaves open whether the size comes with it: some witnesses tell it, too."""
    host = of_host(empty_database, keys, folder)
    await write(empty_database, now, 3)
    await signed(host)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404, stream=httpx.ByteStream(b""))
        asks = not request.content.startswith(b"old 3\n")
        headers = {"content-type": "text/x.tlog.size" if asks else kind}
        return httpx.Response(409, headers=headers, stream=httpx.ByteStream(b"3\n"))

    verifier = verifier_of("witness.example/w", bytes(32), COSIGNATURE)
    address = WitnessAddress(verifier, "https://w.example")
    asking = Witnesses([address], empty_database, host.high_water, lambda: now, every_s=60)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as web:
        await asking.ask_all(web)
    await write(empty_database, now)
    with pytest.raises(LogForked):
        await host.carry_over()


async def test_metrics_tell_that_nothing_is_signed(api: Api) -> None:
    mark, line = api.service.high_water, "\nperks_log_can_not_sign {}\n"
    assert line.format(0) in (await api.client.get("/metrics")).text
    for fault in (LogForked("as a sequencer says"), ValueError("a head that was edited")):
        mark.fault = fault
        try:
            text, ready = (await api.client.get("/metrics")).text, (await api.client.get("/readyz")).json()
        finally:
            mark.fault = None
        assert line.format(1) in text  # at once, whatever is kept for five seconds
        assert ready["log"] == ("forked" if isinstance(fault, LogForked) else "can't sign")


# Continued logs


async def test_a_host_that_signed_more_than_a_new_log_tells_says_so_and_both_go_on(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    """The other host's mark was lost with its entries: what this one signed would else vanish without a word."""
    here, there = (of_host(empty_database, keys, folder / name) for name in ("here", "there"))
    await write(empty_database, now, 5)
    await signed(there)
    await write(empty_database, now, 3)
    lost = await signed(here)
    await cut_back(empty_database, 5)
    async with empty_database.connection() as connection:
        await connection.execute("UPDATE log_head SET checkpoint = $1", there.high_water.read())
    await begin_new_log(there, "second.example/log", SYSTEM)
    await write(empty_database, now)
    told = await signed(there)
    await write(empty_database, now)
    with pytest.raises(LogForked, match=rf"goes on from 5 entries of {ORIGIN}, and 8 were signed here"):
        await here.carry_over()
    done = await begin_new_log(here, None, SYSTEM)
    assert (done.continued, done.signed) == (ORIGIN, lost.size)
    async with empty_database.connection() as connection:
        logs = await continued_logs(connection)
        assert await check_log(connection, keys, now) == []
    assert logs == {ORIGIN: lost, "second.example/log": told}
    await write(empty_database, now)
    assert (await signed(here)).origin == done.origin
    await write(empty_database, now)
    assert (await signed(there)).origin == done.origin


@pytest.mark.parametrize("origin", [None, "named.example/log"])
async def test_a_database_from_before_a_new_log_goes_on_from_both(
    empty_database: Database, keys: Keys, now: datetime, folder: Path, origin: str | None
) -> None:
    host, other = of_host(empty_database, keys, folder / "a"), of_host(empty_database, keys, folder / "b")
    await write(empty_database, now, 4)
    before = await signed(host)
    lost = sign_checkpoint(Checkpoint(f"{ORIGIN}/2", 9, bytes(32)), keys.log)
    await host.high_water.keep(lost)  # as a new log would have left it, which the database has forgotten
    await write(empty_database, now)
    with pytest.raises(LogForked):
        await host.carry_over()
    done = await begin_new_log(host, origin, SYSTEM)
    assert (done.continued, done.signed, done.size) == (f"{ORIGIN}/2", 9, 6)
    assert done.origin == (origin or f"{ORIGIN}/4")
    async with empty_database.connection() as connection:
        assert {name: one.size for name, one in (await continued_logs(connection)).items()} == {
            ORIGIN: 4,
            f"{ORIGIN}/2": 9,
        }
        assert await check_log(connection, keys, now) == []
    await other.high_water.keep(sign_checkpoint(before, keys.log))
    assert (await signed(other)).size == 7


async def test_a_new_log_is_signed_by_every_key_that_signed_the_old_one(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    host = of_host(empty_database, keys, folder)
    await write(empty_database, now, 2)
    await signed(host)
    async with empty_database.sessions.begin() as session:
        await rotate_key(session, keys, SYSTEM, now)
    await signed(host)
    done = await begin_new_log(host, "second.example/log", SYSTEM)
    await write(empty_database, now)
    await signed(host)
    async with empty_database.connection() as connection:
        verifiers = await read_verifiers(connection, done.origin, signing=True)
        assert await read_verifiers(connection, ORIGIN, signing=True) == []
        note = await connection.fetchval("SELECT checkpoint FROM log_head")
    assert len(verifiers) == 2
    for verifier in verifiers:
        assert open_checkpoint(note, verifier).size == 5


async def test_a_new_log_that_is_killed_half_way_leaves_all_as_it_was(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    host = of_host(empty_database, keys, folder)
    await write(empty_database, now, 300)
    known, before = await signed(host), await log_of(empty_database)
    async with (
        empty_database.connection() as killing,
        empty_database.connection() as blocking,
        blocking.transaction(),
    ):
        await blocking.execute("LOCK TABLE log_node IN EXCLUSIVE MODE")  # the last of what moves
        moving = asyncio.create_task(begin_new_log(host, "second.example/log", SYSTEM))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(20):
            while not (pid := await killing.fetchval(waits)):  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.02)
        await killing.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await moving
    assert (await log_of(empty_database), await host.high_water.known()) == (before, known)
    await write(empty_database, now)
    assert (await signed(host)).size == 301


async def test_of_two_new_logs_at_once_one_goes_through_and_writers_and_sequencers_wait(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    host = of_host(empty_database, keys, folder)
    await write(empty_database, now, 600)
    await signed(host)
    lost = Checkpoint(ORIGIN, 700, bytes(32))
    await host.high_water.keep(sign_checkpoint(lost, keys.log))
    stop = asyncio.Event()
    working = asyncio.create_task(keep_sequencing(of_host(empty_database, keys, folder), stop, pause_s=0.01))
    results = await asyncio.gather(
        begin_new_log(host, None, SYSTEM),
        begin_new_log(of_host(empty_database, keys, folder), None, SYSTEM),
        write(empty_database, now, 50),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in results[:2]) == ["Conflict", "NewLog"], results
    assert any(isinstance(one, Conflict) for one in results)
    async with asyncio.timeout(20):
        while (await log_of(empty_database))[0] != 651:  # noqa: ASYNC110  another task's work
            await asyncio.sleep(0.05)
    stop.set()
    await working
    async with empty_database.connection() as connection:
        assert await check_log(connection, keys, now) == []


async def test_a_checkpoint_that_was_read_before_a_new_log_is_told_to_nobody_after_it(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    host = of_host(empty_database, keys, folder)
    await write(empty_database, now, 2)
    await signed(host)
    stale = host.high_water.read()
    assert stale is not None
    await begin_new_log(host, "second.example/log", SYSTEM)
    mark = host.high_water.read()
    with pytest.raises(TryAgain):
        await vouch(empty_database.connection, host.high_water, stale)
    assert host.high_water.read() == mark


# Who follows


async def test_nobody_who_follows_is_told_an_entry_twice_when_the_log_goes_on_under_a_new_name(
    servers: embedded.Servers, empty_database: Database, keys: Keys, secret: bytes
) -> None:
    settings = Settings(
        database_url=empty_database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    async with serving(settings, work=True) as api:
        await write(empty_database, datetime.now(UTC), 3)
        async with following(api, api.staff(), FOLLOWED, fromIndex=0) as followed:
            told = [(await followed.next())["auditEntry"] for _ in range(3)]
            await begin_new_log(sequencer_on(empty_database, keys), "second.example/log", SYSTEM)
            await write(empty_database, datetime.now(UTC), 2)
            told += [(await followed.next())["auditEntry"] for _ in range(3)]
            assert await followed.silent()
    assert [(one["index"], one["action"]) for one in told[3:]] == [
        (0, "log.continued"),
        (4, "test.written"),
        (5, "test.written"),
    ]
    assert len({one["leafHash"] for one in told}) == 6


async def test_how_far_the_log_is_read_is_understood_after_new_logs(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    host = of_host(empty_database, keys, folder)
    await write(empty_database, now, 700)
    await signed(host)
    async with empty_database.connection() as connection:
        rows, read = await next_entries(connection, EntryFilter(), Extent(1, 0))
        assert (len(rows), read) == (500, Extent(1, 500))
        for origin in ("second.example/log", "third.example/log"):
            await begin_new_log(host, origin, SYSTEM)
        more, read = await next_entries(connection, EntryFilter(), read)
        assert [row.index for row in more] == [0, 1, *range(502, 702)]
        assert read == Extent(3, 702)
        assert len({row.id for row in rows} | {row.id for row in more}) == 702
        assert await next_entries(connection, EntryFilter(), read) == ([], read)
        for beyond in (Extent(3, 703), Extent(2, 702), Extent(1, 701), Extent(4, 0), Extent(3, -1)):
            with pytest.raises(BadInput, match="the size of the log"):
                await next_entries(connection, EntryFilter(), beyond)


async def test_an_export_that_is_half_made_begins_anew_when_the_log_goes_on_under_a_new_name(
    empty_database: Database, keys: Keys, now: datetime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rows, "BATCH", 10)
    host, clock = of_host(empty_database, keys, folder), Time(now)
    await write(empty_database, now, 25)
    await signed(host)
    export_id = await requested(empty_database, STAFF, now, kind=ExportKind.ENTRIES, format=JSONL)
    async with empty_database.connection() as connection:
        making = await take_export(connection, now)
        assert making is not None
        async with connection.transaction():
            await making.make_part(connection, now)
    await begin_new_log(host, "second.example/log", SYSTEM)
    await exporter(empty_database, clock).work()
    done = await row(empty_database, export_id)
    told = [json.loads(line) for line in (await content(empty_database, export_id)).splitlines()]
    assert [one["log_index"] for one in told] == list(range(26))
    assert len({one["leaf_hash"] for one in told}) == (done.rows or 0) == (done.total or 0) == 26


# A worker outlives what it finds


@pytest.fixture
async def worker(
    empty_database: Database, keys: Keys, folder: Path, now: datetime
) -> AsyncIterator[tuple[Sequencer, asyncio.Task[None]]]:
    await write(empty_database, now, 3)
    host, stop = of_host(empty_database, keys, folder), asyncio.Event()
    await signed(host)
    working = asyncio.create_task(keep_sequencing(host, stop, pause_s=0.01))
    yield host, working
    stop.set()
    await working


@pytest.mark.parametrize("damage", ["frontier = ''", "size = 4", "size = -1"])
async def test_a_head_that_was_edited_is_told_and_put_right_without_a_restart(
    worker: tuple[Sequencer, asyncio.Task[None]], empty_database: Database, now: datetime, damage: str
) -> None:
    host, working = worker
    async with empty_database.connection() as connection:
        size, frontier = await connection.fetchrow("SELECT size, frontier FROM log_head") or (0, b"")
        with capture_logs() as logged:
            await connection.execute(f"UPDATE log_head SET {damage}")
            await write(empty_database, now)
            async with asyncio.timeout(10):
                while host.high_water.state == "ok" and not working.done():  # noqa: ASYNC110  a task of this loop
                    await asyncio.sleep(0.02)
            assert not working.done()
            assert [line["event"] for line in logged if line["log_level"] == "error"]
            await connection.execute("UPDATE log_head SET size = $1, frontier = $2", size, frontier)
            async with asyncio.timeout(10):
                while host.high_water.state != "ok":  # noqa: ASYNC110  a task of this loop
                    await asyncio.sleep(0.02)
    assert (await signed(host)).size == 4
