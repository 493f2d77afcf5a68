"""Drives a server with wrk and tells what came of it."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from tests.benchmarks.machine import find_wrk

SCRIPT = Path(__file__).with_name("load.lua")
KEY = "KEY-KEY-KEY-KEY-"  # as long as a key, so that a request's length stays
SEPARATOR = b"\x1e"


class WrongAnswer(Exception):
    """The server answered something else than it should have: no figure is worth anything then."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run: how many were answered in how many seconds, and the latencies in ms."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds


def http_request(method: str, path: str, port: int, body: bytes = b"", token: str | None = None) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if token is not None:
        lines += [f"Authorization: Bearer {token}", "Accept: application/graphql-response+json"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def drive(requests: Sequence[bytes], port: int, folder: Path, *, expect: str, connections: int, seconds: float) -> Load:
    """Sends the requests in turn over so many connections for so long; WrongAnswer unless every answer is good."""
    file = folder / "requests"
    file.write_bytes(SEPARATOR.join(requests))
    keyed = KEY.encode() in requests[0]
    environment = os.environ | {
        "LOAD_REQUESTS": str(file),
        "LOAD_EXPECT": expect,
        "LOAD_KEY": token_hex(4) if keyed else "",
    }
    command = [find_wrk(), "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "--latency"]
    done = subprocess.run(
        [*command, "-s", str(SCRIPT), f"http://127.0.0.1:{port}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    _, found, tail = done.stdout.partition("\nLOAD ")
    if not found:
        raise WrongAnswer(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    figures, sample = tail.split("\n")[:2]
    answered, micros, wrong, lost, p50, p99, most = (int(one) for one in figures.split())
    if wrong or lost:
        raise WrongAnswer(f"{wrong} of {answered} answers were wrong and {lost} lost, for example: {sample}")
    return Load(answered, micros / 1e6, p50 / 1000, p99 / 1000, most / 1000)
