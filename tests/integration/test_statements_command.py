"""`perks statements`: a partner's month as two files."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.commands import Perks

MONTH = f"{datetime.now(UTC).astimezone(ZoneInfo('Europe/Zurich')):%Y-%m}"


def test_a_month_is_written_as_a_page_and_as_a_table(perks: Perks, tmp_path: Path) -> None:
    assert perks("partners", "add", "aurore", "--name", "Maison Aurore").code == 0
    ended = perks("statements", "aurore", MONTH, "--out", tmp_path / "new" / "folder")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("not final: the month is not over\n")
    page, table = (tmp_path / "new" / "folder" / f"statement-aurore-{MONTH}.{kind}" for kind in ("html", "csv"))
    assert "<h1>Maison Aurore, " in page.read_text(encoding="utf-8")
    assert "Nothing was redeemed or reversed." in page.read_text(encoding="utf-8")
    assert len(list(csv.reader(table.read_text(encoding="utf-8").splitlines()))) == 1
    assert perks("statements", "aurore", MONTH, "--out", tmp_path, "--json").json["final"] is False


def test_what_can_not_be_is_told_in_one_line(perks: Perks, tmp_path: Path) -> None:
    assert perks("partners", "add", "aurore", "--name", "Maison Aurore").code == 0
    wrong = perks("statements", "aurore", "2026-13", "--out", tmp_path)
    assert (wrong.code, wrong.err) == (2, "perks: month: a year and a month, as 2026-11\n")
    early = perks("statements", "aurore", "2001-01", "--out", tmp_path)
    assert (early.code, "the partner came in" in early.err) == (2, True)
    nobody = perks("statements", "nobody", MONTH, "--out", tmp_path)
    assert (nobody.code, nobody.err) == (1, "perks: no such partner\n")
    assert list(tmp_path.iterdir()) == []
