"""A database that lost entries of the log is noticed, nothing is signed on it, and it goes on only under a new name."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import orjson
import pytest
import rfc8785
from sqlalchemy import make_url
from structlog.testing import capture_logs

from gateway.database import Database, open_database
from gateway.high_water import HighWater
from gateway.new_log import begin_new_log
from gateway.sequencer import Sequencer, keep_sequencing
from partners.actors import SYSTEM
from partners.errors import BadInput, Conflict, Unavailable
from partners.keys import Keys, derive_keys
from partners.laws.log import check_log
from partners.log import read_ranges
from partners.log_continuing import next_name
from partners.log_forks import LogForked
from partners.log_keys import read_verifiers
from partners.merkle import inclusion_ranges, is_included
from partners.notes import Checkpoint, NoteInvalid, open_checkpoint, sign_checkpoint, verifier_of
from tests.commands import Perks
from tests.sequencing import ORIGIN, log_of, sequencer_on, write

NAME = "club"  # what the host calls the database, whichever copy stands behind it


@asynccontextmanager
async def copied(database: Database) -> AsyncIterator[Database]:
    """A copy of a database as it is now: a backup, or the standby before it lost touch."""
    url = make_url(database.engine.url).set(drivername="postgresql")
    name = f"{url.database}_copy"
    await database.engine.dispose()
    server = await asyncpg.connect(url.set(database="postgres").render_as_string(hide_password=False))
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {url.database}")
    await server.close()
    copy = open_database(url.set(database=name).render_as_string(hide_password=False), connections=5)
    try:
        yield copy
    finally:
        await copy.engine.dispose()


def of_host(database: Database, keys: Keys, folder: Path) -> Sequencer:
    return sequencer_on(database, keys, folder, name=NAME)


async def signed(sequencer: Sequencer) -> Checkpoint:
    """Everything is carried over; the checkpoint of it."""
    await sequencer.carry_over()
    known = await sequencer.high_water.known()
    assert known is not None
    return known


async def test_an_older_backup_is_refused_and_nothing_is_changed_on_it(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 5)
    await signed(of_host(empty_database, keys, folder))
    async with copied(empty_database) as backup:
        await write(empty_database, now, 3)
        assert (await signed(of_host(empty_database, keys, folder))).size == 8
        await write(backup, now, 2)
        before = await log_of(backup)
        with pytest.raises(LogForked, match=r"has 5 entries of the log perks.example/log, and 8 were signed.*new-log"):
            await of_host(backup, keys, folder).carry_over()
        assert await log_of(backup) == before
        await write(backup, now, 3)  # claims go on, and soon there are as many and more
        with pytest.raises(LogForked):
            await of_host(backup, keys, folder).carry_over()
        async with backup.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 5


@pytest.mark.parametrize("others", [3, 4])
async def test_a_failover_that_lost_entries_and_signed_others_elsewhere_is_refused(
    empty_database: Database, keys: Keys, now: datetime, folder: Path, others: int
) -> None:
    """On another host, without this one's mark, the standby grew as large and larger: now it comes back here."""
    await write(empty_database, now, 5)
    await signed(of_host(empty_database, keys, folder / "here"))
    async with copied(empty_database) as standby:
        await write(empty_database, now, 3)
        await signed(of_host(empty_database, keys, folder / "here"))
        await write(standby, now, others)
        assert (await signed(of_host(standby, keys, folder / "elsewhere"))).size == 5 + others
        await write(standby, now)
        with pytest.raises(LogForked, match=r"the first 8 entries of the log perks.example/log are not those"):
            await of_host(standby, keys, folder / "here").carry_over()


async def test_hosts_that_take_turns_trust_each_others_entries(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    hosts = [of_host(empty_database, keys, folder / str(host)) for host in range(2)]
    for turn in range(1, 7):
        await write(empty_database, now, 50)
        assert (await signed(hosts[turn % 2])).size == 50 * turn


async def test_an_empty_or_another_database_is_refused(
    empty_database: Database, new_database: Callable[[], Awaitable[str]], keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 2)
    await signed(of_host(empty_database, keys, folder))
    other = open_database(await new_database(), connections=2)
    await write(other, now)
    with pytest.raises(LogForked, match=r"the database has no log yet, and perks.example/log was signed here last"):
        await of_host(other, keys, folder).carry_over()
    await signed(sequencer_on(other, keys, folder / "its own"))
    async with other.connection() as connection:
        await connection.execute("UPDATE log_head SET origin = 'other.example/log'")
    with pytest.raises(LogForked, match=r"the database has the log other.example/log"):
        async with other.connection() as connection:
            await of_host(other, keys, folder).examine(connection)
    await other.engine.dispose()


async def test_the_worker_says_once_that_the_log_is_forked_and_goes_on_after_a_new_log(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 5)
    await signed(of_host(empty_database, keys, folder))
    async with copied(empty_database) as backup:
        await write(empty_database, now)
        await signed(of_host(empty_database, keys, folder))
        sequencer, stop = of_host(backup, keys, folder), asyncio.Event()
        with capture_logs() as logged:
            working = asyncio.create_task(keep_sequencing(sequencer, stop, pause_s=0.01))
            async with asyncio.timeout(20):
                while sequencer.high_water.state == "ok":  # noqa: ASYNC110 - a task of this loop changes it
                    await asyncio.sleep(0.02)
                assert sequencer.high_water.state == "forked"
                await asyncio.sleep(0.2)
                await begin_new_log(of_host(backup, keys, folder), None, SYSTEM)
                await write(backup, now)
                while (await log_of(backup))[0] != 7:  # noqa: ASYNC110 - another process might be sequencing
                    await asyncio.sleep(0.02)
            stop.set()
            await working
        assert sequencer.high_water.state == "ok"
        events = [line["event"] for line in logged]
        assert (events.count("log.forked"), events.count("sequencer.resumed")) == (1, 1)


async def test_a_new_log_begins_with_the_old_ones_checkpoint_and_keeps_all_that_is_left_in_order(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 600)
    await signed(of_host(empty_database, keys, folder))
    async with copied(empty_database) as backup:
        await write(empty_database, now, 3)
        lost = await signed(of_host(empty_database, keys, folder))
        note = of_host(empty_database, keys, folder).high_water.read()
        _, _, before = await log_of(backup)
        sequencer = of_host(backup, keys, folder)
        done = await begin_new_log(sequencer, None, SYSTEM)
        assert (done.origin, done.size, done.continued, done.signed) == (f"{ORIGIN}/2", 601, ORIGIN, 603)
        size, root, after = await log_of(backup)
        assert [(index - 1, entry) for index, entry in after[1:]] == before
        assert await signed(sequencer) == Checkpoint(f"{ORIGIN}/2", size, root)
        async with backup.connection() as connection:
            assert await check_log(connection, keys, now) == []
            leaf = await connection.fetchval("SELECT leaf FROM audit_entry WHERE id = $1", after[0][1])
            [verifier] = await read_verifiers(connection, f"{ORIGIN}/2")
            path = await read_ranges(connection, inclusion_ranges(0, size))
            first = await connection.fetchval("SELECT leaf_hash FROM log_leaf WHERE index = 0")
        told = orjson.loads(leaf)
        assert rfc8785.dumps(told).decode() == leaf
        assert (told["action"], told["checkpoint"]) == ("log.continued", note)
        assert open_checkpoint(told["checkpoint"], verifier_of(ORIGIN, keys.log)) == lost
        assert verifier.public == verifier_of(ORIGIN, keys.log).public  # who knows the old key knows the new one
        assert is_included(0, size, first, path, root)
        await write(backup, now, 2)
        assert (await signed(sequencer)).size == 603


async def test_what_counts_by_places_of_the_log_moves_with_it(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 4)
    sequencer = of_host(empty_database, keys, folder)
    await signed(sequencer)
    async with empty_database.connection() as connection:
        await connection.execute("INSERT INTO webhook_cursor VALUES (1, 3) ON CONFLICT (id) DO UPDATE SET index = 3")
        told = await connection.fetchval("SELECT entry_id FROM log_leaf WHERE index = 3")
        await begin_new_log(sequencer, "club.example/audit", SYSTEM)
        index = await connection.fetchval("SELECT index FROM webhook_cursor")
        assert await connection.fetchval("SELECT entry_id FROM log_leaf WHERE index = $1", index) == told


async def test_a_new_log_is_refused_where_nothing_forces_it_and_under_a_name_that_was_used(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    sequencer = of_host(empty_database, keys, folder)
    with pytest.raises(Conflict, match="the log is empty"):
        await begin_new_log(sequencer, None, SYSTEM)
    await write(empty_database, now)
    await signed(sequencer)
    with pytest.raises(Conflict, match="nothing forces a new one: give --origin"):
        await begin_new_log(sequencer, None, SYSTEM)
    for impossible in (ORIGIN, "two words", "a+b", ""):
        with pytest.raises((BadInput, Conflict)):
            await begin_new_log(sequencer, impossible, SYSTEM)
    await begin_new_log(sequencer, "moved.example/log", SYSTEM)
    with pytest.raises(BadInput, match="was the name of a log already"):
        await begin_new_log(sequencer, ORIGIN, SYSTEM)
    assert (await begin_new_log(sequencer, "moved.example/log/2", SYSTEM)).continued == "moved.example/log"
    async with empty_database.connection() as connection:
        assert await check_log(connection, keys, now) == []


async def test_a_host_that_slept_through_two_new_logs_goes_on(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    asleep = of_host(empty_database, keys, folder / "asleep")
    await write(empty_database, now, 2)
    await signed(asleep)
    awake = of_host(empty_database, keys, folder / "awake")
    for origin in ("second.example/log", "third.example/log"):
        await begin_new_log(awake, origin, SYSTEM)
    await write(empty_database, now)
    assert await signed(asleep) == Checkpoint("third.example/log", 5, (await log_of(empty_database))[1])


async def test_a_larger_checkpoint_that_a_witness_shows_stops_the_log(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 3)
    sequencer = of_host(empty_database, keys, folder)
    known = await signed(sequencer)
    own, mark = verifier_of(ORIGIN, keys.log), sequencer.high_water
    with pytest.raises(NoteInvalid):
        await mark.raise_to(sign_checkpoint(Checkpoint(ORIGIN, 9, bytes(32)), keys.codes), [own])
    assert not await mark.raise_to(sign_checkpoint(Checkpoint(ORIGIN, 2, bytes(32)), keys.log), [own])
    assert await mark.known() == known
    assert await mark.raise_to(sign_checkpoint(Checkpoint(ORIGIN, 9, bytes(32)), keys.log), [own])
    await write(empty_database, now)
    with pytest.raises(LogForked, match=r"3 entries of the log perks.example/log, and 9 were signed"):
        await sequencer.carry_over()


async def test_two_checkpoints_of_one_size_stop_the_log(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write(empty_database, now, 3)
    sequencer = of_host(empty_database, keys, folder)
    await signed(sequencer)
    other = sign_checkpoint(Checkpoint(ORIGIN, 3, bytes(32)), keys.log)
    assert await sequencer.high_water.raise_to(other, [verifier_of(ORIGIN, keys.log)])
    await write(empty_database, now)
    with pytest.raises(LogForked, match="are not those that were signed"):
        await sequencer.carry_over()


def note_of(size: int, origin: str = ORIGIN) -> str:
    return sign_checkpoint(Checkpoint(origin, size, bytes(32)), bytes(32))


async def test_the_mark_never_sinks_whoever_of_the_host_keeps_it(folder: Path) -> None:
    marks = [HighWater(folder, "a database/with ünusual name") for _ in range(8)]
    await asyncio.gather(*(mark.keep(note_of(size)) for size in range(1, 40) for mark in marks[size % 8 :]))
    for mark in marks:
        known = await mark.known()
        assert known is not None
        assert known.size == 39
    assert [file.suffix for file in sorted((folder / "log").iterdir())] == [".checkpoint", ".lock"]
    await marks[0].keep(note_of(7))
    assert (await marks[1].known()) == known


async def test_a_damaged_mark_is_no_mark_to_rely_on(folder: Path) -> None:
    mark = HighWater(folder, NAME)
    assert await mark.known() is None
    await mark.keep(note_of(3))
    for damaged in (b"", b"\xff\xfe", b"perks.example/log\n3\n"):
        mark.file.write_bytes(damaged)
        with pytest.raises(LogForked, match=r"club\.checkpoint can't be read"):
            await HighWater(folder, NAME).known()


async def test_a_mark_that_can_not_be_written_is_told_once_and_remembered_by_the_process(folder: Path) -> None:
    (folder / "log").write_text("a file where the folder should be")
    mark = HighWater(folder, NAME)
    with capture_logs() as logged:
        for size in (3, 4, 2):
            await mark.keep(note_of(size))
    assert [line["event"] for line in logged] == ["log.mark_not_kept"]
    known = await mark.known()
    assert known is not None
    assert known.size == 4
    assert "can't be kept in" in mark.warning


async def test_another_secret_signs_nothing(empty_database: Database, keys: Keys, now: datetime, folder: Path) -> None:
    await write(empty_database, now, 2)
    await signed(of_host(empty_database, keys, folder))
    await write(empty_database, now)
    other = of_host(empty_database, derive_keys(b"another secret of thirty-two bytes"), folder)
    with pytest.raises(Unavailable, match="was sealed with another secret"):
        await other.carry_over()
    assert (await log_of(empty_database))[0] == 2


def test_the_next_name_counts() -> None:
    assert next_name(ORIGIN) == f"{ORIGIN}/2"
    assert next_name(f"{ORIGIN}/9") == f"{ORIGIN}/10"


def test_an_operator_is_told_what_was_lost_and_goes_on_by_a_command(perks: Perks, folder: Path) -> None:
    file = folder / "log.jsonl"
    perks("partners", "add", "velo", "--name", "velo")
    assert perks("audit", "export", file).code == 0
    old_key = perks("audit", "key").out
    [(frontier, checkpoint)] = perks.query("SELECT frontier, checkpoint FROM log_head")
    perks("partners", "add", "rose", "--name", "rose")
    assert perks("audit", "export", file).code == 0
    perks.query("DELETE FROM audit_entry WHERE id = (SELECT entry_id FROM log_leaf WHERE index = 1)")
    perks.query("DELETE FROM log_leaf WHERE index = 1")
    perks.query("UPDATE log_head SET size = 1, frontier = $1, checkpoint = $2", frontier, checkpoint)
    assert perks("partners", "add", "iris", "--name", "iris").code == 0
    lost = "the database has 1 entries of the log 127.0.0.1:8000/log, and 2 were signed"
    for command in (("audit", "export", file), ("audit", "key")):
        refused = perks(*command)
        assert (refused.code, lost in refused.err) == (1, True)
    examined = perks("doctor")
    assert examined.code == 1
    assert f"broken  log: {lost}" in examined.out
    assert perks("audit", "new-log", "--origin", "no name").code == 2
    begun = perks("audit", "new-log", "--json").json
    assert begun == {
        "origin": "127.0.0.1:8000/log/2",
        "entries": 2,
        "continued": "127.0.0.1:8000/log",
        "continuedSize": 2,
    }
    assert perks("audit", "export", file, "--json").json["entries"] == 3
    assert perks("doctor").code == 0
    new_key = perks("audit", "key").out
    assert new_key.startswith("127.0.0.1:8000/log/2+")
    assert new_key.partition("+")[2][9:] == old_key.partition("+")[2][9:]  # the same public key
    again = perks("audit", "new-log")
    assert (again.code, "nothing forces a new one" in again.err) == (1, True)
