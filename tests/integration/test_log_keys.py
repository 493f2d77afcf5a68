"""The log's keys: an old log goes on with its key, a new one signs beside it, and who lacks a secret signs nothing."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.auditing.files import open_export
from gateway.auditing.fsck import check_export
from gateway.database import Database
from gateway.log_export import export_log
from gateway.settings import Settings, SettingsInvalid, read_settings
from partners.actors import SYSTEM
from partners.errors import Conflict, NotFound, Unavailable
from partners.keys import Keys, derive_keys
from partners.laws.log import check_log
from partners.log_keys import list_keys, read_verifiers, retire_key, rotate_key
from partners.notes import Verifier, open_checkpoint, signatures_in, verifier_of
from tests.commands import Perks
from tests.conftest import SECRET
from tests.sequencing import ORIGIN, sequencer_on, write

LOG_SECRET = b"a secret of the log's own, 32 bytes or more"


async def signed(database: Database, keys: Keys, now: datetime) -> str:
    """One more entry is in the log; the checkpoint as a note."""
    await write(database, now)
    await sequencer_on(database, keys).carry_over()
    async with database.connection() as connection:
        return str(await connection.fetchval("SELECT checkpoint FROM log_head"))


async def rotated(database: Database, keys: Keys) -> Verifier:
    async with database.sessions.begin() as session:
        return Verifier.parse((await rotate_key(session, keys, SYSTEM, datetime.now(UTC))).verifier)


async def test_a_new_log_is_signed_with_the_key_that_the_secret_decides(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    assert open_checkpoint(await signed(empty_database, keys, now), verifier_of(ORIGIN, keys.log)).size == 1
    async with empty_database.sessions() as session:
        [key] = await list_keys(session)
    assert (key.origin, key.verifier, key.retired_at) == (ORIGIN, str(verifier_of(ORIGIN, keys.log)), None)
    assert keys.log not in key.sealed


async def test_a_log_from_before_keys_were_stored_goes_on_and_shows_its_key_at_once(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    await signed(empty_database, keys, now)
    sequencer = sequencer_on(empty_database, keys)
    async with empty_database.connection() as connection:
        await connection.execute("DELETE FROM log_key")
        assert await check_log(connection, keys, now) == []
        await sequencer.examine(connection)
        assert await read_verifiers(connection, ORIGIN) == [verifier_of(ORIGIN, keys.log)]
        await connection.execute("DELETE FROM log_key")
        other = derive_keys(b"another secret of thirty-two bytes")
        with pytest.raises(Unavailable, match="signed with the key of another secret"):
            await sequencer_on(empty_database, other).examine(connection)
        [finding] = await check_log(connection, other, now)
        assert "signed with the key of another secret" in finding.sentence
    await write(empty_database, now)
    with pytest.raises(Unavailable):
        await sequencer_on(empty_database, other).carry_over()
    assert open_checkpoint(await signed(empty_database, keys, now), verifier_of(ORIGIN, keys.log)).size == 3


async def test_while_a_key_takes_over_both_sign_and_either_verifies(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    before = await signed(empty_database, keys, now)
    old, new = verifier_of(ORIGIN, keys.log), await rotated(empty_database, keys)
    assert len(signatures_in(before)) == 1
    both = await signed(empty_database, keys, now)
    assert [label for label, *_ in signatures_in(both)] == [old.label, new.label]
    for verifier in (old, new):
        assert open_checkpoint(both, verifier).size == 3
    exported = await export_log(empty_database, folder)
    for verifier in (old, new):
        assert check_export(open_export(exported.file), [verifier]).fault is None
    async with empty_database.sessions.begin() as session:
        await retire_key(session, old.label, SYSTEM, now)
    after = await signed(empty_database, keys, now)
    assert [label for label, *_ in signatures_in(after)] == [new.label]
    async with empty_database.connection() as connection:
        assert await read_verifiers(connection, ORIGIN) == [new, old]
        assert await read_verifiers(connection, ORIGIN, signing=True) == [new]
        assert await check_log(connection, keys, now) == []
        actions = await connection.fetch("SELECT action FROM audit_entry WHERE action LIKE 'log_key.%' ORDER BY id")
    assert [row["action"] for row in actions] == ["log_key.rotated", "log_key.retired"]


async def test_only_a_key_that_signs_is_retired_and_never_the_last(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    with pytest.raises(Conflict, match="the log is empty"):
        await rotated(empty_database, keys)
    await signed(empty_database, keys, now)
    old = verifier_of(ORIGIN, keys.log)
    with pytest.raises(NotFound):
        async with empty_database.sessions.begin() as session:
            await retire_key(session, "perks.example/log+00000000", SYSTEM, now)
    with pytest.raises(Conflict, match="the only key"):
        async with empty_database.sessions.begin() as session:
            await retire_key(session, old.label, SYSTEM, now)
    await rotated(empty_database, keys)
    async with empty_database.sessions.begin() as session:
        await retire_key(session, old.label, SYSTEM, now)
    with pytest.raises(NotFound, match="no key"):
        async with empty_database.sessions.begin() as session:
            await retire_key(session, old.label, SYSTEM, now)


async def test_with_a_secret_of_its_own_the_log_is_signed_only_where_that_is_known(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    """An operator sets PERKS_LOG_SECRET where the workers run, rotates, and retires the key of before."""
    await signed(empty_database, keys, now)
    knowing = derive_keys(SECRET, LOG_SECRET)
    assert len(signatures_in(await signed(empty_database, knowing, now))) == 1
    new = await rotated(empty_database, knowing)
    await write(empty_database, now)
    with pytest.raises(Unavailable, match=f"the log's key .*{new.key_id.hex()} was sealed with another secret"):
        await sequencer_on(empty_database, keys).carry_over()
    with pytest.raises(Unavailable):
        await rotated(empty_database, keys)
    async with empty_database.sessions.begin() as session:
        await retire_key(session, verifier_of(ORIGIN, keys.log).label, SYSTEM, now)
    assert open_checkpoint(await signed(empty_database, knowing, now), new)
    await write(empty_database, now)
    with pytest.raises(Unavailable):
        await sequencer_on(empty_database, keys).carry_over()


async def test_a_new_log_with_a_secret_of_its_own_needs_it_from_the_start(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    knowing = derive_keys(SECRET, LOG_SECRET)
    note = await signed(empty_database, knowing, now)
    assert open_checkpoint(note, verifier_of(ORIGIN, knowing.log)).size == 1
    assert knowing.log != keys.log
    await write(empty_database, now)
    with pytest.raises(Unavailable):
        await sequencer_on(empty_database, keys).carry_over()


def test_a_short_secret_of_the_log_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERKS_LOG_SECRET", "short")
    with pytest.raises(SettingsInvalid, match="PERKS_LOG_SECRET: at least 32 bytes"):
        read_settings()
    with pytest.raises(SettingsInvalid, match="PERKS_SECRET is needed"):
        _ = Settings(secret=None).keys


def test_an_operator_replaces_the_key_by_commands(perks: Perks, folder: Path) -> None:
    assert perks("keys", "log", "list").out == ""
    to_be = perks("audit", "key").out
    assert perks("keys", "log", "rotate").faults == [
        "perks: the log is empty: nothing has been recorded, or no sequencer has run"
    ]
    perks("partners", "add", "velo", "--name", "velo")
    assert perks("audit", "export", folder / "log.jsonl").code in (0, 1)
    assert perks("audit", "key").out == to_be
    new = perks("keys", "log", "rotate", "--json").json
    assert new["state"] == "signs"
    assert perks("audit", "key").out == f"{to_be}{new['verifier']}\n"
    listed = perks("keys", "log", "list", "--json").json
    assert [key["state"] for key in listed] == ["signs", "signs"]
    retired = perks("keys", "log", "retire", listed[0]["label"])
    assert retired.out == f"{listed[0]['label']} retired: {to_be}"
    assert perks("audit", "key").out == f"{new['verifier']}\n"
    assert perks("keys", "log", "retire", new["label"]).faults == [
        "perks: this is the only key that signs the log: `perks keys log rotate` first"
    ]
    assert perks("doctor").code == 0
