"""Other people's clients and servers from npm: installed by their lock into the virtual environment, and run there."""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from socket import socket
from typing import Any

import pytest

SOURCES = Path(__file__).parent / "outside"
INSTALL = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]


def installed() -> Path:
    """A folder with the scripts of tests/outside and what they import; the test is skipped where there is no npm."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    folder = Path(sys.prefix) / ".outside"
    folder.mkdir(exist_ok=True)
    locked = sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for source in SOURCES.iterdir():
            if source.is_file():
                shutil.copy(source, folder)
        if not done.exists() or done.read_text() != locked:
            subprocess.run(INSTALL, cwd=folder, check=True, timeout=300)
            done.write_text(locked)
    return folder


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port


@contextmanager
def running(script: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """A script that prints one line of JSON when it is ready, and ends with its input."""
    command = ["node", script, *arguments]
    with subprocess.Popen(
        command, cwd=installed(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
