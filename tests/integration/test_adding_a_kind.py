"""docs/adding-a-kind.md, done step by step on a copy of the code, and docs/kinds.md, whose examples are taken."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from gateway.database import Database
from partners.perk_settings import PerkSettings, check_settings
from partners.programme import Programme
from partners.tables import PerkKind

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python (\S+)(?: (\S+))?\n(.*?)```", re.S)
BLOCKS = BLOCK.findall((ROOT / "docs" / "adding-a-kind.md").read_text(encoding="utf-8"))
SHOWN = """
from schema.root import SCHEMA
assert "DRAW" in SCHEMA.as_str().split("enum PerkKind")[1].split("}")[0]
"""


def block(name: str) -> str:
    [found] = [text for path, _, text in BLOCKS if path == name]
    return str(found)


def added(text: str, place: str, lines: str) -> str:
    """A file's text with lines at the end of what `place` names: a class, a table, or nothing for the imports."""
    if not place:
        return re.sub(r"(\nfrom partners\.kinds\.event)", f"\n{lines.strip()}\\1", text, count=1)
    end = r"\n}" if place.isupper() else r"\n\n\n"
    return re.sub(rf"({place}\b[^\n]*[=:][^\n]*\n.*?)({end})", rf"\1\n{lines.rstrip()}\2", text, count=1, flags=re.S)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code with the page's new file and lines."""
    for layer in ("partners", "auth", "schema", "gateway"):
        shutil.copytree(ROOT / layer, tmp_path / layer, ignore=shutil.ignore_patterns("__pycache__"))
    for path, place, text in BLOCKS:
        file = tmp_path / path
        if file.exists():
            before = file.read_text(encoding="utf-8")
            file.write_text(added(before, place, text), encoding="utf-8")
            assert file.read_text(encoding="utf-8") != before, f"nothing was added to {path}"
        elif path.endswith(".py"):
            file.write_text(text, encoding="utf-8")
    return tmp_path


async def faults(folder: Path, code: str) -> str:
    """What Python has to say against code on the copy."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], cwd=folder, env={}, capture_output=True, text=True, timeout=60
    )
    return done.stderr or ("" if done.returncode == 0 else "it failed")


async def test_a_kind_is_added_as_the_page_says(copy: Path) -> None:
    assert await faults(copy, block("check")) == ""
    assert "AttributeError" in await faults(ROOT, block("check"))


async def test_the_api_knows_the_new_kind(copy: Path) -> None:
    assert await faults(copy, SHOWN) == ""


async def test_the_database_takes_the_new_name_after_the_migration(empty_database: Database) -> None:
    insert = sa.text(
        "INSERT INTO perk (id, partner_id, handle, kind, state, title, description, time_zone, hold_seconds,"
        " reversal_days, policy_version, version, created_at, settings, units_max, self_service, returns_allowance,"
        " pooled) VALUES (:id, :id, 'a/draw', 'DRAW', 'DRAFT', 'A draw', '', 'UTC', 900, 90, 1, 1, :now, '{}', 1,"
        " false, true, false)"
    )
    partner = sa.text("INSERT INTO partner VALUES (:id, 'a', 'A', 'OTHER', 'ACTIVE', :now)")
    given = {"id": uuid4(), "now": datetime.now(UTC)}

    def migrated(connection: sa.Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)) as op:
            names: dict[str, object] = {"op": op}
            exec(block("migration"), names)
            names["upgrade"]()  # type: ignore[operator]

    async with empty_database.engine.begin() as connection:
        await connection.execute(partner, given)
    with pytest.raises(sa.exc.IntegrityError, match="ck_perk_kind"):
        async with empty_database.engine.begin() as connection:
            await connection.execute(insert, given)
    async with empty_database.engine.begin() as connection:
        await connection.run_sync(migrated)
        await connection.execute(insert, given)


@pytest.mark.parametrize("kind", [PerkKind.SAMPLE, PerkKind.EVENT])
def test_the_examples_of_settings_are_taken(kind: PerkKind, programme: Programme) -> None:
    page = (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8")
    [example] = re.findall(rf"## {kind}\n```json\n(.*?)```", page, re.S)
    terms = check_settings(PerkSettings("A perk", "Europe/Paris", settings=json.loads(example)), kind, programme)
    assert terms.options != ()
    assert any(pool.schedule for option in terms.options for pool in option.pools)
