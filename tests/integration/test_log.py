"""The log on the real database: nothing lost or twice under concurrency, and files that show every tampering."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson
import pytest
import rfc8785
from structlog.testing import capture_logs

from gateway.auditing.verify import verify_log
from gateway.database import Database, open_database
from gateway.log_export import Exported, checkpoint_of, export_log
from gateway.sequencer import keep_sequencing
from partners.errors import Conflict, NotFound
from partners.keys import Keys
from partners.laws.log import check_log
from partners.merkle import root_of
from partners.notes import Checkpoint, open_checkpoint, sign_checkpoint, verifier_of
from partners.sequencing import Grown, sequence
from tests.sequencing import ORIGIN, WRITE, log_of, sequencer_on, write

AWKWARD = 'client "é" \\ \b\f\n\r\t\x01\x1f\x7f \u2028 😀 </script>'


@asynccontextmanager
async def sequencing(database: Database, keys: Keys, workers: int = 1) -> AsyncIterator[None]:
    """Sequencers that run meanwhile, and stop within a second."""
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(keep_sequencing(sequencer, stop, pause_s=0.01))
        for sequencer in [sequencer_on(database, keys)] * workers
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 1)


async def until_sequenced(database: Database, count: int) -> None:
    async with asyncio.timeout(5):
        while (await log_of(database))[0] != count:  # noqa: ASYNC110 - another process might be sequencing
            await asyncio.sleep(0.02)


async def test_eight_writers_and_two_sequencers_leave_no_gap_and_nothing_twice(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    dice = random.Random(2)

    async def writer() -> None:
        for _ in range(25):
            async with empty_database.connection() as connection, connection.transaction():
                await connection.execute(WRITE, now, "a client", 3, "gold")
                # Who commits late has an older id than what the sequencer has taken already.
                await asyncio.sleep(dice.random() / 100)

    await write(empty_database, now)
    async with sequencing(empty_database, keys, workers=2):
        await until_sequenced(empty_database, 1)
        async with asyncio.TaskGroup() as running:
            writers = [running.create_task(writer()) for _ in range(8)]
            while not all(task.done() for task in writers):
                exported = await export_log(empty_database, folder)
                assert verify_log(exported.file, exported.checkpoint, str(verifier_of(ORIGIN, keys.log))).sound
        await until_sequenced(empty_database, 201)
    _, _, leaves = await log_of(empty_database)
    assert [index for index, _ in leaves] == list(range(201))
    assert len({entry for _, entry in leaves}) == 201
    assert leaves != sorted(leaves, key=lambda leaf: leaf[1])
    async with empty_database.connection() as connection:
        assert await check_log(connection, keys, now) == []


async def test_sequencers_that_start_at_once_make_one_tree(empty_database: Database, keys: Keys, now: datetime) -> None:
    await write(empty_database, now, 50)

    async def once() -> Grown | None:
        async with empty_database.connection() as connection:
            return await sequence(connection, keys, ORIGIN, now)

    assert [one.count for one in await asyncio.gather(*(once() for _ in range(8))) if one is not None] == [50]
    size, root, leaves = await log_of(empty_database)
    assert (size, len(leaves)) == (50, 50)
    async with empty_database.connection() as connection:
        note = await connection.fetchval("SELECT checkpoint FROM log_head")
    assert open_checkpoint(note, verifier_of(ORIGIN, keys.log)) == Checkpoint(ORIGIN, 50, root)


async def test_a_batch_is_bounded_and_nothing_to_do_writes_nothing(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    async with empty_database.connection() as connection:
        assert await sequence(connection, keys, ORIGIN, now) is None
        assert await connection.fetchval("SELECT count(*) FROM log_head") == 0
        await connection.execute(
            "SELECT record_audit($1, 'test.written', 'DONE', '{}', 'system', '', NULL, NULL, NULL, NULL, NULL, NULL)"
            " FROM generate_series(1, 4100)",
            now,
        )
        steps = [await sequence(connection, keys, ORIGIN, now) for _ in range(2)]
        assert [step.count for step in steps if step is not None] == [4096, 4]
        version = await connection.fetchrow("SELECT xmin, xmax, ctid FROM log_head")
        assert await sequence(connection, keys, ORIGIN, now) is None
        assert await connection.fetchrow("SELECT xmin, xmax, ctid FROM log_head") == version
        assert await check_log(connection, keys, now) == []


async def test_the_sequencer_outlives_an_outage_and_says_so_once(
    empty_database: Database, database: Database, keys: Keys, now: datetime
) -> None:
    name = empty_database.engine.url.database
    await write(empty_database, now)
    with capture_logs() as logged:
        async with sequencing(empty_database, keys):
            await until_sequenced(empty_database, 1)
            async with database.connection() as other:
                await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
                await asyncio.sleep(0.3)
                await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            after = open_database(empty_database.engine.url.render_as_string(hide_password=False), connections=1)
            await write(after, now)
            await until_sequenced(after, 2)
            await after.engine.dispose()
    events = [(line["event"], line["log_level"]) for line in logged]
    assert events.count(("sequencer.resumed", "info")) == 1
    assert 1 <= events.count(("sequencer.waiting", "warning")) <= 3


@dataclass
class Files:
    """An exported log of six leaves, its checkpoint, and the keys that sign and open it."""

    exported: Exported
    seed: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.exported.file.read_bytes().splitlines(keepends=True)

    def fault(self, lines: list[bytes] | None = None, *, checkpoint: str | None = None) -> str:
        """What verifying says is wrong after a change of the file or its checkpoint; nothing when all is well."""
        if lines is not None:
            self.exported.file.write_bytes(b"".join(lines))
        if checkpoint is not None:
            self.exported.checkpoint.write_text(checkpoint)
        verifier = str(verifier_of(ORIGIN, self.seed))
        return verify_log(self.exported.file, self.exported.checkpoint, verifier).fault or ""


@pytest.fixture(scope="module")
async def small_log(new_database: Callable[[], Awaitable[str]], keys: Keys, now: datetime) -> AsyncIterator[Database]:
    """A log of six awkward leaves, which these tests only read."""
    opened = open_database(await new_database(), connections=2)
    await write(opened, now, 6, actor=AWKWARD)
    async with opened.connection() as connection:
        assert await sequence(connection, keys, ORIGIN, now) is not None
    yield opened
    await opened.engine.dispose()


@pytest.fixture
async def files(small_log: Database, keys: Keys, folder: Path) -> Files:
    return Files(await export_log(small_log, folder / "audit.jsonl"), keys.log)


async def test_an_export_is_the_stored_bytes_in_log_order_and_verifies(files: Files, small_log: Database) -> None:
    async with small_log.connection() as connection:
        stored = await connection.fetch(
            "SELECT convert_to(leaf, 'UTF8') AS leaf FROM audit_entry JOIN log_leaf ON entry_id = id ORDER BY index"
        )
        assert files.exported.checkpoint.read_text() == await connection.fetchval("SELECT checkpoint FROM log_head")
    assert files.lines == [row["leaf"] + b"\n" for row in stored]
    assert files.exported.leaves == 6
    assert files.exported.checkpoint == checkpoint_of(files.exported.file)
    assert files.fault() == ""


async def test_a_leaf_is_its_own_canonical_json(files: Files) -> None:
    """RFC 8785, whatever stands in a name."""
    for line in files.lines:
        leaf = orjson.loads(line)
        assert rfc8785.dumps(leaf) + b"\n" == line
        assert leaf["actor"] == f"partner:{AWKWARD}"


async def test_every_flipped_byte_is_noticed(files: Files) -> None:
    [whole] = [b"".join(files.lines)]
    for at in range(len(whole)):
        assert files.fault([whole[:at], bytes([whole[at] ^ 1]), whole[at + 1 :]]), at


@pytest.mark.parametrize("at", range(6))
async def test_a_line_that_is_dropped_swapped_or_repeated_is_noticed(files: Files, at: int) -> None:
    whole = files.lines
    after = (at + 1) % 6
    swapped = whole.copy()
    swapped[at], swapped[after] = whole[after], whole[at]
    entry = orjson.loads(whole[at])["id"]
    assert (
        files.fault(whole[:at] + whole[at + 1 :]) == "audit.jsonl: it ends after line 5, the checkpoint is of 6 leaves"
    )
    assert "a leaf was changed or moved" in files.fault(swapped)
    assert files.fault(whole[: at + 1] + whole[at:]).endswith(f"repeats entry {entry}")
    assert files.fault(whole) == ""


async def test_a_fault_is_named_with_its_line(files: Files) -> None:
    whole = files.lines
    stranger = whole[5].replace(orjson.loads(whole[5])["id"].encode(), b"01890000-0000-7000-8000-000000000000")
    assert "line 7 is one too many, the checkpoint is of 6 leaves" in files.fault([*whole, stranger])
    assert "line 6 is cut off" in files.fault([*whole[:5], whole[5][:-20]])
    assert "line 6 is cut off" in files.fault([*whole[:5], whole[5][:-1]])
    assert "it ends after line 0" in files.fault([])
    assert "line 3 is too long" in files.fault([*whole[:2], b"{" * 70_000 + b"\n", *whole[3:]])
    for odd in (
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"id":1}\n',
        whole[2][:-1] + b"\r\n",
        b"\xef\xbb\xbf" + whole[2],
        b"\xff\n",
    ):
        assert "line 3 is not a leaf" in files.fault([*whole[:2], odd, *whole[3:]])
    assert "a leaf was changed or moved" in files.fault([*whole[:5], stranger])


async def test_a_checkpoint_that_is_not_this_logs_is_named(files: Files, keys: Keys) -> None:
    ours = open_checkpoint(files.exported.checkpoint.read_text(), verifier_of(ORIGIN, keys.log))
    elsewhere = Checkpoint("other.example/log", ours.size, ours.root)
    assert "a checkpoint of another log: other.example/log" in files.fault(
        checkpoint=sign_checkpoint(elsewhere, keys.log)
    )
    assert f"not signed by {verifier_of(ORIGIN, keys.log).label} but by" in files.fault(
        checkpoint=sign_checkpoint(ours, keys.codes)
    )
    assert "not a signed note" in files.fault(checkpoint="")
    older = Checkpoint(ORIGIN, 5, root_of([]))
    assert "line 6 is one too many" in files.fault(checkpoint=sign_checkpoint(older, keys.log))
    stolen = Checkpoint(ORIGIN, 6, root_of([]))
    assert "the checkpoint says 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" in files.fault(
        checkpoint=sign_checkpoint(stolen, keys.log)
    )
    report = verify_log(files.exported.file, files.exported.checkpoint, "no key")
    assert report.fault == "audit.jsonl.checkpoint: not a verifier key: name+id+base64 of an Ed25519 key"
    assert report.checkpoint is None


async def test_an_export_that_fails_leaves_the_older_files(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    with pytest.raises(NotFound, match="the log is empty"):
        await export_log(empty_database, folder)
    await write(empty_database, now, 3)
    async with empty_database.connection() as connection:
        await sequence(connection, keys, ORIGIN, now)
        exported = await export_log(empty_database, folder)
        before = exported.file.read_bytes()
        await connection.execute("DELETE FROM audit_entry WHERE id = (SELECT entry_id FROM log_leaf WHERE index = 1)")
    with pytest.raises(Conflict, match="the log has 2 of its 3 entries"):
        await export_log(empty_database, folder)
    assert exported.file.read_bytes() == before
    assert sorted(os.listdir(folder)) == ["log.jsonl", "log.jsonl.checkpoint"]
