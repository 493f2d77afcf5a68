"""The processes under test: each pinned to its core, started when they answer, and their CPU time."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from gateway.settings import Settings
from tests.benchmarks.machine import Unfit

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process on a port of this machine."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu_seconds(self) -> float:
        """CPU time since its start, in user and kernel mode; to 10 ms."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20


@contextmanager
def serving(command: Sequence[str], core: int, path: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """Runs a server on one core until the block ends; `command` gets its port as the last argument."""
    port = free_port()
    process = subprocess.Popen([*command, str(port)], env=dict(environment))
    os.sched_setaffinity(process.pid, {core})
    try:
        wait_for(process, port, path)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Spending:
    """CPU time from its making on: of the server, of PostgreSQL, and of others on the server's core.

    Where others take much, requests per second say little about the gateway; CPU time per request still does.
    """

    def __init__(self, server: Server, core: int, data: Path | None) -> None:
        self._server, self._core, self._data = server, core, data
        self._began = self._read()

    def _read(self) -> tuple[float, float, float]:
        core = psutil.cpu_times(percpu=True)[self._core]
        busy = sum(core) - core.idle - core.iowait - core.guest - core.guest_nice  # guests are in user as well
        return self._server.cpu_seconds, busy, 0.0 if self._data is None else postgres_cpu_seconds(self._data)

    def figures(self, requests: int, seconds: float) -> dict[str, float]:
        """In ms per request, and as shares of a core."""
        server, busy, postgres = (now - then for now, then in zip(self._read(), self._began, strict=True))
        return {
            "server_ms": round(1000 * server / requests, 3),
            "server_core": round(server / seconds, 2),
            "others_core": round(max(0.0, busy - server) / seconds, 2),
            "postgres_ms": round(1000 * postgres / requests, 3),
            "postgres_core": round(postgres / seconds, 2),
        }


def bare_command() -> list[str]:
    """The bare Starlette endpoint."""
    return [sys.executable, "-m", "tests.benchmarks.bare"]


def gateway_command() -> list[str]:
    """The gateway as an operator starts it."""
    return [str(Path(sys.executable).with_name("perks")), "serve", "--port"]


def own_environment() -> dict[str, str]:
    """This process's environment without what an operator may have set for a gateway."""
    ours = ("PERKS_", "DATABASE_URL", "REDIS_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def environment(settings: Settings) -> dict[str, str]:
    """What a gateway on these servers is told: everything else is as it comes."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.secret is not None
    return own_environment() | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PERKS_SECRET": settings.secret.get_secret_value(),
        "PERKS_BASE_URL": settings.address,
        "PERKS_DATA_FOLDER": str(settings.data_folder),
        "PERKS_LOG_LEVEL": "WARNING",
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Returns when a GET of `path` is answered with 200; Unfit when the process ends or takes too long."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(request)
                if b" 200 " in connection.recv(64):
                    return
        except OSError:
            time.sleep(0.05)
    raise Unfit(f"the server under test did not start: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]


def postgres_cpu_seconds(data: Path) -> float:
    """CPU time of PostgreSQL with all its backends, also of those that have ended."""
    postmaster = psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    own = postmaster.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in postmaster.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return float(total)
