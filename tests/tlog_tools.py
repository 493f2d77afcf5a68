"""Other people's tools for transparency logs, Go's own and aics-tlog of PyPI, made ready and asked about many cases."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

SOURCES = Path(__file__).parent / "outside"
GO_SOURCES = SOURCES / "tlog_go"
GO_PATHS = (Path("/usr/share/gocode"),)  # where Debian's golang-golang-x-mod-dev puts what main.go imports
AICS_SOURCE, AICS_LOCK = SOURCES / "tlog_aics.py", SOURCES / "tlog_aics.lock"
IMPORTED = Path("src/golang.org/x/mod/sumdb/tlog")

Case = Mapping[str, Any]
Tool = Callable[[Iterable[Case]], list[str]]
"""Answers each case with `ok`, or with what is wrong."""


def asked(*command: str) -> Tool:
    """A tool that reads a JSON object a line and answers with a line."""

    def ask(cases: Iterable[Case]) -> list[str]:
        told = b"".join(orjson.dumps(case) + b"\n" for case in cases)
        done = subprocess.run(command, input=told, capture_output=True, check=True, timeout=300)
        return done.stdout.decode().splitlines()

    return ask


def made_once(name: str, sources: Iterable[Path], make: Callable[[Path], None]) -> Path:
    """A folder in the virtual environment, made from these sources by one process while others wait for it."""
    folder = Path(sys.prefix) / ".outside" / name
    folder.mkdir(parents=True, exist_ok=True)
    done, made_of = folder / "made", sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != made_of:
            make(folder)
            done.write_text(made_of)
    return folder


def go_tool() -> Tool:
    """The program in tests/outside/tlog_go; the test is skipped where Go or golang.org/x/mod is not."""
    if shutil.which("go") is None:
        pytest.skip("go is not here")
    return asked(str(made_once("tlog-go", sorted(GO_SOURCES.iterdir()), build_go) / "check"))


def build_go(folder: Path) -> None:
    """By the packages of the system where they are, else by those of the module proxy."""
    shutil.copytree(GO_SOURCES, folder / "source", dirs_exist_ok=True)
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "CGO_ENABLED": "0"}
    known = next((path for path in GO_PATHS if (path / IMPORTED).is_dir()), None)
    if known is None:
        environment |= {"GOPATH": str(folder / "modules"), "GOFLAGS": "-mod=mod -modcacherw"}
    else:
        environment |= {"GOPATH": str(known), "GO111MODULE": "off", "GOFLAGS": ""}
    command = ["go", "build", "-o", str(folder / "check"), "."]
    built = subprocess.run(command, cwd=folder / "source", env=environment, capture_output=True, text=True, timeout=300)
    if built.returncode:
        pytest.skip(f"golang.org/x/mod is not here, and can't be fetched: {built.stderr.splitlines()[-1]}")


def aics_tool() -> Tool:
    """The script tests/outside/tlog_aics.py; skipped where there is no Python that the library runs on, or no way to
    install it."""
    folder = made_once("tlog-aics", [AICS_LOCK], install_aics)
    return asked(str(folder / "environment" / "bin" / "python"), str(AICS_SOURCE))


def install_aics(folder: Path) -> None:
    """Into a virtual environment of its own."""
    python = next(filter(is_new_enough, pythons()), None)
    if python is None:
        pytest.skip("aics-tlog needs Python 3.12, and none is here")
    environment = folder / "environment"
    subprocess.run([python, "-m", "venv", "--clear", environment], check=True, capture_output=True, timeout=120)
    install = [environment / "bin" / "python", "-m", "pip", "install", "-qq", "--require-hashes", "-r", AICS_LOCK]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if installed.returncode:
        pytest.skip(f"aics-tlog can't be installed: {installed.stderr.splitlines()[-1]}")


def pythons() -> Iterator[str]:
    """Where a newer Python may be: on the path, or among those that pyenv keeps."""
    yield sys.executable
    for minor in range(20, 11, -1):
        if found := shutil.which(f"python3.{minor}"):
            yield found
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from map(str, sorted(kept.glob("3.*/bin/python3"), reverse=True))


def is_new_enough(python: str) -> bool:
    """Whether it runs, and is 3.12 at least."""
    command = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
