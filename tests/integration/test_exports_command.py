"""`perks exports` as its user sees it: a file that is whole or not there, and goes on where it was interrupted."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet
import pytest

from gateway import export_file
from gateway.database import open_database
from partners import export_rows
from partners.keys import Keys
from partners.programme import Programme
from tests.commands import Perks
from tests.exporting import seeded
from tests.factories import Club


@pytest.fixture
def handle(perks: Perks, programme: Programme, keys: Keys, now: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A partner with 95 redemptions, exported ten at a time; another has five."""

    async def seed() -> str:
        database = open_database(perks.database_url, connections=5)
        club = Club(database, programme, keys, now)
        partner = await seeded(club, 95, members=2)
        await seeded(club, 5, members=1)
        await database.engine.dispose()
        return partner.handle

    monkeypatch.setattr(export_rows, "BATCH", 10)
    return asyncio.run(seed())


def amounts(file: Path) -> list[int]:
    return [orjson.loads(line)["amount_minor"] for line in file.read_bytes().splitlines()]


def test_a_file_has_everybodys_redemptions_and_nothing_is_left_beside_it(
    perks: Perks, handle: str, folder: Path
) -> None:
    out = folder / "all.csv"
    done = perks("exports", "redemptions", "--out", out, "--json")
    assert done.json == {"file": str(out), "rows": 100, "bytes": out.stat().st_size}
    assert out.read_bytes().count(b"\r\n") == 101
    assert [file.name for file in folder.iterdir() if file.name.startswith(".all")] == []
    assert ("export.requested", 1) in perks.entries()


def test_one_partners_in_order_as_json_lines_and_as_parquet(perks: Perks, handle: str, folder: Path) -> None:
    assert "95 rows" in perks("exports", "redemptions", "--partner", handle, "--out", folder / "one.jsonl").out
    assert amounts(folder / "one.jsonl") == [*range(1, 96)]
    assert perks("exports", "redemptions", "--partner", handle, "--out", folder / "one.parquet").code == 0
    table = pyarrow.parquet.read_table(folder / "one.parquet")
    assert table.column("amount_minor").to_pylist() == [*range(1, 96)]


@pytest.fixture
def interrupted(perks: Perks, handle: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose making ended after four steps, in the middle of the fifth."""
    out, steps, keep = folder / "cut.jsonl", [0], export_file.Draft.keep

    def failing(draft: export_file.Draft, body: Any, piece: bytes, progress: export_file.Progress) -> None:
        steps[0] += 1
        if steps[0] == 5:
            body.write(piece[: len(piece) // 2])
            body.flush()
            raise KeyboardInterrupt
        keep(draft, body, piece, progress)

    with monkeypatch.context() as patched:
        patched.setattr(export_file.Draft, "keep", failing)
        assert perks("exports", "redemptions", "--partner", handle, "--out", out).code == 130
    assert not out.exists()
    return out


def test_an_interrupted_file_goes_on_where_it_was_without_a_repeat(
    perks: Perks, handle: str, interrupted: Path
) -> None:
    done = perks("exports", "redemptions", "--partner", handle, "--out", interrupted, "--resume")
    assert (done.code, amounts(interrupted)) == (0, [*range(1, 96)])
    assert [file.name for file in interrupted.parent.iterdir() if file.name.startswith(".cut")] == []


def test_another_export_does_not_go_on_with_it(perks: Perks, interrupted: Path) -> None:
    done = perks("exports", "redemptions", "--out", interrupted, "--resume")
    assert (done.code, interrupted.exists()) == (2, False)
    assert done.faults[0].startswith("perks: --resume: what was begun there was another export")


def test_without_resume_it_begins_anew(perks: Perks, handle: str, interrupted: Path) -> None:
    assert perks("exports", "redemptions", "--partner", handle, "--out", interrupted).code == 0
    assert amounts(interrupted) == [*range(1, 96)]


def test_entries_are_those_of_the_log(perks: Perks, handle: str, folder: Path) -> None:
    perks("audit", "export", folder / "log.jsonl")
    assert perks("exports", "entries", "--out", folder / "entries.jsonl").code == 0
    leaves = (folder / "log.jsonl").read_text().splitlines()
    exported = [orjson.loads(line) for line in (folder / "entries.jsonl").read_bytes().splitlines()]
    assert [one["leaf"] for one in exported] == leaves
    assert [one["log_index"] for one in exported] == [*range(len(leaves))]


@pytest.mark.parametrize(
    ("options", "code", "fault"),
    [
        (["--out", "x.txt"], 2, "--format: csv, jsonl or parquet"),
        (["--out", "x.csv", "--since", "yesterday"], 2, "--since: a DateTime is RFC 3339"),
        (["--out", "x.csv", "--partner", "nobody"], 1, "--partner: there is none called nobody"),
        (["--out", "/no/such/folder/x.csv"], 1, "/no/such/folder/.x.csv.part: No such file or directory"),
    ],
)
def test_what_can_not_be_is_told_in_one_line(perks: Perks, options: list[str], code: int, fault: str) -> None:
    done = perks("exports", "redemptions", *options)
    assert (done.code, len(done.faults)) == (code, 1)
    assert done.faults[0].startswith(f"perks: {fault}")
