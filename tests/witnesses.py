"""`perks witness serve` in a process of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from partners.notes import Verifier
from tests.commands import start


@contextmanager
def running_witness(folder: Path, name: str, log: Verifier) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, killed at the end, and its address."""
    command = ["witness", "serve", "--folder", str(folder), "--name", name, "--log", str(log), "--port", "0"]
    process = start(*command, environment={})
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()
