"""A partner's own list against the log: what is said of every kind of difference, and of lists that are odd."""

import csv
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.auditing.books import read_books
from gateway.auditing.files import open_export
from gateway.cli import run
from tests.commands import Ended
from tests.exported import PARTNER, PERK, Log, entry, redemption, small_log

OTHER = UUID(int=0xB9)
REVERSAL: dict[str, Any] = {
    "action": "redemption.reversed",
    "subject": str(redemption(3)),
    "reasons": ["BURN", "PARTNER"],
}
LOG = Log(
    [
        *small_log(10).leaves,
        entry(10, partner=str(OTHER)),
        entry(11, outcome="REFUSED", reasons=["NOT_AVAILABLE"]),
        entry(12, action="perk.claimed"),
        entry(13, units=1, amount=300, **REVERSAL),
    ]
)
"""Ten redemptions of the partner, number 3 taken back."""


@dataclass(frozen=True)
class Auditor:
    """Somebody with an export and a list."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def reconcile(self, text: str | bytes, *options: str | Path, partner: str = f"partner_{PARTNER.hex}") -> Ended:
        file = self.folder / "list.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        self.capsys.readouterr()
        export = self.folder / "log.jsonl"
        code = run(["audit", "reconcile", str(export), str(file), "--partner", partner, *map(str, options)])
        return Ended(code, *self.capsys.readouterr())


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Auditor:
    LOG.as_lines(tmp_path)
    return Auditor(tmp_path, capsys)


def row(number: int, **cells: object) -> dict[str, object]:
    """What the log has of a redemption, as a partner that agrees has it."""
    return {
        "redemption": f"redemption_{redemption(number).hex}",
        "units": 1 + number % 3,
        "amount": 100 * number,
        "at": f"2026-05-01T12:00:{number:02}Z",
    } | cells


def listed(*rows: dict[str, object], separator: str = ",") -> str:
    """A list of rows with the headings of the first."""
    lines = [separator.join(rows[0]), *(separator.join(map(str, one.values())) for one in rows)]
    return "\n".join(lines) + "\n"


ALL = [row(number) for number in range(10)]


def test_a_list_that_agrees_is_matched_with_its_totals(auditor: Auditor) -> None:
    done = auditor.reconcile(listed(*ALL))
    assert (done.code, done.err) == (0, "")
    assert done.out == "matched            10   log: 19 units, 4,500 minor units   list: 19 units, 4,500 minor units\n"
    assert auditor.reconcile(listed(*ALL), "--quiet").out == ""
    assert auditor.reconcile(listed(*ALL), partner=str(PARTNER)).code == 0


def test_each_kind_of_difference_is_told_with_its_line(auditor: Auditor, tmp_path: Path) -> None:
    rows = [
        *ALL[:5],
        row(5, units=4, amount=501),
        row(6, at="2026-05-01T13:00:06Z"),
        row(7, redemption=f"redemption_{redemption(99).hex}"),
        row(8, units="many"),
        row(0),
    ]
    done = auditor.reconcile(listed(*rows), "--csv", tmp_path / "out.csv")
    assert done.code == 1
    [matched, differing, only_us, only_them, repeated, unreadable, *told] = done.out.splitlines()
    assert matched.split()[:2] == ["matched", "5"]
    assert differing == "differing           2   log: 4 units, 1,100 minor units   list: 5 units, 1,101 minor units"
    assert only_us == "only us             2   log: 3 units, 1,600 minor units"
    assert only_them == "only them           1   list: 2 units, 700 minor units"
    assert (repeated, unreadable) == ("repeated            1", "unreadable          1")
    assert told == [
        f"line 7: differing, redemption_{redemption(5).hex}: units is 3 in the log, 4 in the list",
        f"line 7: differing, redemption_{redemption(5).hex}: amount is 500 in the log, 501 in the list",
        f"line 8: differing, redemption_{redemption(6).hex}: at is 2026-05-01T12:00:06.250000Z in the log,"
        " 2026-05-01T13:00:06Z in the list",
        f"line 9: only them, redemption_{redemption(99).hex}",
        "line 10: unreadable, column 'units': 'many': not a number",
        f"line 11: repeated, redemption_{redemption(0).hex}: line 2 has it already",
        f"the log: only us, redemption_{redemption(7).hex}",
        f"the log: only us, redemption_{redemption(9).hex}",
    ]
    with (tmp_path / "out.csv").open(newline="") as file:
        kinds = [one["kind"] for one in csv.DictReader(file)]
    assert kinds == ["differing"] * 3 + ["only them", "unreadable", "repeated"] + ["only us"] * 2
    told_json = auditor.reconcile(listed(*rows), "--json").json
    assert told_json["totals"]["only_us"] == {
        "redemptions": 2,
        "our_units": 3,
        "our_amount": 1600,
        "their_units": 0,
        "their_amount": 0,
    }
    assert (len(told_json["differences"]), told_json["differences_left_out"]) == (8, 0)


def test_the_gateways_own_export_is_understood_as_it_is(auditor: Auditor) -> None:
    """Its headings are found; what was taken back is compared; columns that the log does not have are named."""
    rows = [
        {
            "id": f"redemption_{redemption(number).hex}",
            "confirmed_at": f"2026-05-01T12:00:{number:02}.250000Z",
            "partner": "velo",
            "perk": "velo/tea",
            "perk_id": f"perk_{PERK.hex}",
            "tier": "" if number % 2 else "gold",
            "units": 1 + number % 3,
            "amount_minor": 100 * number,
            "reversed_units": 1 if number == 3 else 0,
            "reversed_amount_minor": 300 if number == 3 else 0,
            "leaf_hash": LOG.hashes[number].hex(),
        }
        for number in range(10)
    ]
    done = auditor.reconcile(listed(*rows), "--decimals", "2")
    assert (done.code, done.out.splitlines()[1]) == (0, "not compared: partner, perk")
    rows[4] |= {"tier": "silver", "perk_id": f"perk_{OTHER.hex}", "leaf_hash": LOG.hashes[5].hex()}
    rows[3] |= {"reversed_amount_minor": 299}
    told = auditor.reconcile(listed(*rows)).out
    for field in ("tier is gold in the log, silver", "perk is", "leafHash is", "reversedAmount is 300 in the log, 299"):
        assert field in told


def test_a_list_with_leaf_hashes_alone_is_matched_by_them(auditor: Auditor) -> None:
    rows = [{"leafHash": LOG.hashes[number].hex(), "units": 1 + number % 3} for number in range(10)]
    assert auditor.reconcile(listed(*rows)).code == 0
    done = auditor.reconcile(listed(*rows, {"leafHash": "ff" * 32, "units": 1}))
    assert f"line 12: only them, {'ff' * 32}" in done.out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators_are_found_out(auditor: Auditor, encoding: str, separator: str) -> None:
    rows = [one | {"Bemerkung": '"Käse\r\nund ""Wein"""'} for one in ALL]
    text = listed(*rows, separator=separator).replace("\n", "\r\n")
    done = auditor.reconcile(text.encode(encoding), "--json")
    assert (done.code, done.json["ignored"]) == (0, ["Bemerkung"])
    assert done.json["encoding"] in (encoding, "utf-16")


def test_a_list_from_a_spreadsheet_is_read_with_a_few_words_of_help(auditor: Auditor) -> None:
    rows = [
        {
            "Beleg": str(redemption(number)).upper(),
            "Datum": "01.05.2026",
            "Uhrzeit": "14:00",
            "Menge": 1 + number % 3,
            "Betrag": f"{number},00",
        }
        for number in range(10)
    ]
    text = listed(*rows, separator=";")
    assert "no column has the redemption's id or leaf hash, of Beleg, Datum, Uhrzeit" in auditor.reconcile(text).err
    options = ["--map", "Beleg=redemption", "--decimals", "2"]
    refused = auditor.reconcile(text, *options)
    assert (refused.code, len(refused.faults)) == (2, 1)
    assert "line 2, column 'Datum': '01.05.2026': a time of which zone? Say --zone" in refused.err
    assert auditor.reconcile(text, *options, "--zone", "Europe/Zurich").code == 0
    assert "differing" in auditor.reconcile(text, *options, "--zone", "Europe/London").out


def test_a_clock_that_is_a_little_off_is_forgiven_when_that_is_said(auditor: Auditor) -> None:
    rows = [row(number, at=f"2026-05-01T12:00:{number + 2:02}Z") for number in range(10)]
    assert auditor.reconcile(listed(*rows)).code == 1
    assert auditor.reconcile(listed(*rows), "--tolerance", "2").code == 0


def test_a_list_of_some_days_is_compared_with_those_days(auditor: Auditor) -> None:
    text = listed(*ALL[2:6])
    assert "only us             6" in auditor.reconcile(text).out
    some = ["--since", "2026-05-01T12:00:02Z", "--until", "2026-05-01T12:00:06Z"]
    assert auditor.reconcile(text, *some).code == 0
    assert auditor.reconcile(text, "--since", "2026-05-02").code == 2
    assert auditor.reconcile(text, "--since", "2026-05-02", "--zone", "UTC").code == 0
    assert "no date as 2026-05-01" in auditor.reconcile(text, "--since", "May").err


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", [], "line 1 is empty, it should name the columns"),
        ("\n\n", [], "line 1 is empty"),
        ("redemption\n", [], "line 1: nothing parts its columns, of comma, semicolon, tab and |: say --separator"),
        ("a,b\n1,2\n", [], "line 1: no column has the redemption's id or leaf hash, of a, b"),
        ("id,id\n", [], "line 1: two columns are redemption: say --map HEADING=redemption"),
        ("id,units\n", ["--map", "qty=units"], "list.csv has no column 'qty' of its own, but id, units"),
        ("id,units\n", ["--map", "units=quantity"], "there is no field 'quantity', but redemption"),
        ("id,units\n", ["--map", "units"], "--map is HEADING=FIELD"),
        ("id,units\n", ["--separator", "::"], "--separator is one character, or tab"),
        ("id,units\n", ["--encoding", "klingon"], "--encoding: no encoding 'klingon'"),
        ("id,units\n", ["--zone", "Mars/Olympus"], "--zone: no time zone 'Mars/Olympus'"),
        ("id,units\n", ["--dates", "ymd"], "--dates is dmy or mdy"),
        ("id,time\n", [], "a column of times needs one of dates beside it"),
        ("id,units\n1,\0\n", [], "line 2, column 3: a zero byte"),
        (f'id,units\n{redemption(1)},"1\n', [], "line 2: a quote is never closed: it may be cut off"),
        (f'id,units\n{redemption(1)},"1"1\n', [], "line 2: ',' expected after '\"'"),
        (f"id,at\n{redemption(1)},05/01/2026\n", [], "line 2, column 'at': '05/01/2026': which is the day"),
        (f"id;amount\n{redemption(1)};1,234\n", ["--decimals", "2"], "column 'amount': '1,234': ',' parts thousands"),
        ("id," + "x" * 1_000_001 + "\n", [], "line 1 is longer than 1,000,000 characters"),
        ("id,units\n" + "x" * 1_000_001, [], "line 2 is longer than 1,000,000 characters"),
        ('id,units\n"' + "x,\n" * 100_000, [], "line 2: field larger than field limit"),
    ],
)
def test_a_file_that_can_not_be_a_list_is_refused_with_its_line(
    auditor: Auditor, text: str, options: list[str], words: str
) -> None:
    done = auditor.reconcile(text, *options)
    assert (done.code, len(done.faults), done.out) == (2, 1, "")
    assert words in done.err


def test_a_list_in_another_encoding_than_is_said_is_refused(auditor: Auditor) -> None:
    done = auditor.reconcile("id,units,Käse\n".encode("cp1252"), "--encoding", "utf-8")
    assert (done.code, len(done.faults)) == (2, 1)
    assert "not in utf-8" in done.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x,1,100,2026-05-01", "column 'redemption': 'x': not the id of a redemption"),
        (",1,100,2026-05-01T12:00:01Z", "column 'redemption': it has no id of a redemption"),
        (f"{redemption(1)},1", "2 columns, the headings are 4"),
        (f"{redemption(1)},1,2,3,4", "5 columns, the headings are 4"),
        (f"{redemption(1)},1.5,100,2026-05-01T12:00:01Z", "column 'units': '1.5': not a whole number"),
        (f"{redemption(1)},2,1e3,2026-05-01T12:00:01Z", "column 'amount': '1e3': not a number"),
        (f"{redemption(1)},2,100,2026-05-01 12:00", "it has no offset, and line 2 has one: times of two kinds"),
        (f"{redemption(1)},2,100,2026-13-01T12:00:01Z", "no day of the calendar"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(auditor: Auditor, line: str, words: str) -> None:
    text = listed(ALL[0]) + line + "\n" + "\n".join(listed(*ALL[2:]).splitlines()[1:]) + "\n"
    done = auditor.reconcile(text, "--zone", "UTC")
    assert done.code == 1
    assert any(one.startswith("line 3: unreadable") and words in one for one in done.out.splitlines())
    assert done.out.splitlines()[0].split()[:2] == ["matched", "9"]


def test_what_a_partner_wrote_is_no_formula_in_the_file_of_differences(auditor: Auditor, tmp_path: Path) -> None:
    rows = [one | {"tier": "gold"} for one in ALL]
    rows[0]["tier"] = "=HYPERLINK(A1)"
    auditor.reconcile(listed(*rows), "--csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        [told] = list(csv.DictReader(file))
    assert (told["field"], told["theirs"]) == ("tier", "'=HYPERLINK(A1)")


def test_a_partner_without_redemptions_is_told_and_an_export_that_is_not_sound_is_not_used(
    auditor: Auditor, tmp_path: Path
) -> None:
    done = auditor.reconcile(listed(*ALL), partner=f"partner_{UUID(int=7).hex}")
    assert "the log has no redemption of this partner" in done.out
    assert done.out.splitlines()[1].split()[:3] == ["only", "them", "10"]
    file = tmp_path / "log.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"units":3', b'"units":2', 1))
    done = auditor.reconcile(listed(*ALL))
    assert (done.code, len(done.faults)) == (1, 1)
    assert "not sound: log.jsonl: the root of its 14 leaves is" in done.err


def test_the_books_need_about_half_a_kilobyte_a_redemption(tmp_path: Path) -> None:
    export = open_export(small_log(5_000).as_lines(tmp_path))
    tracemalloc.start()
    books = read_books(export, PARTNER, hashes=True)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(books.by_id) == 5_000
    assert held / 5_000 < 750


def test_a_log_of_tiles_is_reconciled_alike(auditor: Auditor, tmp_path: Path, write_list: Callable[[], Path]) -> None:
    tiles = LOG.as_tiles(tmp_path / "tiles")
    assert run(["audit", "reconcile", str(tiles), str(write_list()), "--partner", str(PARTNER), "--quiet"]) == 0


@pytest.fixture
def write_list(tmp_path: Path) -> Callable[[], Path]:
    """A list that agrees."""

    def write() -> Path:
        file = tmp_path / "list.csv"
        file.write_text(listed(*ALL))
        return file

    return write
