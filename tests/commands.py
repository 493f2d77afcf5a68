"""The `perks` command in this process and in others, as its user sees it: an exit code and two streams."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from gateway.cli import run


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def faults(self) -> list[str]:
        return self.err.splitlines()


@dataclass(frozen=True)
class Perks:
    """The command on one database, whose address is in the environment."""

    database_url: str
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Ended:
        self.capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Ended(code, *self.capsys.readouterr())

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of the database, read or changed behind the product's back."""

        async def fetch() -> list[tuple[Any, ...]]:
            url = make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
            connection = await asyncpg.connect(url)
            try:
                return [tuple(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def entries(self) -> list[tuple[str, int]]:
        """How many audit entries there are of each action."""
        found = self.query("SELECT action, count(*) FROM audit_entry GROUP BY 1 ORDER BY 1")
        return [(str(action), int(count)) for action, count in found]


def start(*arguments: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """The command in a process of its own, with no other setting than those given."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli import main; main()", *arguments],
        cwd=Path(__file__).parents[1],
        env=kept | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 60) -> Ended:
    out, err = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, err)
