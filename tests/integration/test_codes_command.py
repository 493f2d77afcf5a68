"""`perks codes`: pools filled from files, and counted."""

import codecs
import io
import sys
from pathlib import Path

import pytest

from tests.commands import Perks


def code_perk(perks: Perks, folder: Path, settings: str = "{}") -> str:
    """A partner with a perk that gives codes."""
    assert perks("partners", "add", "velo", "--name", "Velo Club").code == 0
    file = folder / "perks.csv"
    file.write_text('partner,handle,kind,title\nvelo,codes,CODE,"Ten off"\n', encoding="utf-8")
    assert perks("import", "perks", file).code == 0
    perks.query("UPDATE perk SET settings = $1::text::jsonb RETURNING id", settings)
    return "velo/codes"


def test_a_file_of_codes_is_added_and_counted(perks: Perks, folder: Path) -> None:
    perk, file = code_perk(perks, folder), folder / "codes.txt"
    file.write_bytes(codecs.BOM_UTF8 + b"A1\r\nB2\r\nC3\r\n")
    added = perks("codes", "add", perk, file)
    assert (added.code, added.out) == (0, "codes: 3 added, 0 duplicates, 0 malformed; 3 are free\n")
    assert perks("codes", "status", perk).out == "velo/codes: 3 total, 3 free, 0 held, 0 assigned\n"
    assert ("codes.added", 1) in perks.entries()
    stored = perks.query("SELECT sealed FROM perk_code ORDER BY number")
    assert len(stored) == 3
    assert all(b"A1" not in row[0] for row in stored)


def test_bad_lines_are_named_and_the_exit_code_is_3(perks: Perks, folder: Path) -> None:
    perk, file = code_perk(perks, folder), folder / "codes.csv"
    file.write_bytes(b"id,code\n1,A1\n2,A1\n3,caf\xe9\n4,B2\n")
    added = perks("codes", "add", perk, file, "--json")
    assert (added.code, added.json) == (
        3,
        {
            "added": 2,
            "duplicates": 1,
            "malformed": 1,
            "total": 2,
            "free": 2,
            "held": 0,
            "assigned": 0,
            "lowAt": None,
        },
    )
    assert added.faults == [
        "line 3: the same code as in line 2",
        "line 4: not in the encoding of the file's beginning",
    ]
    again = perks("codes", "add", perk, file)
    assert (again.code, again.out) == (3, "codes: 0 added, 3 duplicates, 1 malformed; 2 are free\n")


def test_codes_come_from_standard_input_too(perks: Perks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perk = code_perk(perks, folder)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"code,x\nA1,1\n")))
    assert perks("codes", "add", perk, "-", "--csv").out.startswith("codes: 1 added")


def test_what_can_not_be_is_told_in_one_line(perks: Perks, folder: Path) -> None:
    perk, file = code_perk(perks, folder), folder / "codes.csv"
    file.write_bytes(b"id,voucher\n1,A1\n")
    for arguments, code, words in (
        ((perk, file), 2, "none of them is 'code'"),
        ((perk, folder / "none.txt"), 2, "No such file"),
        (("velo/none", file), 1, "no such perk"),
    ):
        ended = perks("codes", "add", *arguments)
        assert ended.code == code
        [fault] = ended.faults
        assert words in fault
    assert perks("codes", "status", "velo/none").code == 1
    assert perks("codes", "status", perk, "--json").json["total"] == 0


def test_a_file_that_fails_midway_adds_nothing(perks: Perks, folder: Path) -> None:
    perk, file = code_perk(perks, folder), folder / "codes.txt"
    file.write_bytes(b"".join(b"%d\n" % number for number in range(200_001)))
    ended = perks("codes", "add", perk, file)
    assert (ended.code, ended.faults) == (2, ["perks: a file of codes may have 200000 lines"])
    assert perks.query("SELECT count(*) FROM perk_code") == [(0,)]
