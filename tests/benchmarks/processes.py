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

import psutil

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
    assert settings.database_url and settings.redis_url and settings.secret
    return own_environment() | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PERKS_SECRET": settings.secret.get_secret_value(),
        "PERKS_BASE_URL": settings.address,
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
