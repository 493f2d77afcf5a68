"""`perks audit report`: figures of an export on one page, from files alone, and how far they are proven."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from axe_core_python.async_playwright import Axe
from playwright.async_api import async_playwright

from gateway.auditing.figures import Figures, Window
from gateway.auditing.report import Named, Proof, read_names, render_report
from gateway.cli import run
from partners.errors import BadInput
from partners.notes import COSIGNATURE, cosignature_line, verifier_of
from tests.commands import Ended, Perks
from tests.exported import PARTNER, PERK, Log, entry, small_log
from tests.factories import Club
from tests.seasons import Season

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
TOO_WIDE = "() => [...document.querySelectorAll('table')].filter(one => one.scrollWidth > 681).length"
LOG = small_log()
KEY = str(LOG.verifier)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Report":
    """The command of an auditor, who has no database, no secret and no service."""
    for name in ("DATABASE_URL", "REDIS_URL", "PERKS_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return Report(capsys, tmp_path / "report.html")


class Report:
    """`perks audit report`, in this process, to one file."""

    def __init__(self, capsys: pytest.CaptureFixture[str], out: Path) -> None:
        self._capsys, self.out = capsys, out

    def __call__(self, export: Path, *arguments: str | Path) -> Ended:
        self._capsys.readouterr()
        code = run(["audit", "report", str(export), "--out", str(self.out), *map(str, arguments)])
        return Ended(code, *self._capsys.readouterr())

    @property
    def page(self) -> str:
        """What it says, with its spaces as anybody types them."""
        words = re.sub(r"<[^>]+>", " ", self.out.read_text(encoding="utf-8").split("</style>")[1])
        return re.sub(r"\s+", " ", words.replace("\N{NO-BREAK SPACE}", " "))


@pytest.mark.parametrize("layout", ["lines", "tiles"])
def test_a_page_of_either_layout_says_whose_log_it_is_and_what_it_counts(
    report: Report, tmp_path: Path, layout: str
) -> None:
    export = LOG.as_lines(tmp_path / "log") if layout == "lines" else LOG.as_tiles(tmp_path / "log")
    ended = report(export, "--key", KEY)
    assert (ended.code, ended.err) == (0, "")
    assert "40 of 40 entries counted" in ended.out
    assert f"signed by {LOG.verifier.label}" in ended.out
    assert "Origin perks.example/log Size 40 entries" in report.page
    assert f"verified with {LOG.verifier.label}" in report.page
    assert "Redemptions 40 79 units" in report.page
    assert str(PARTNER) in report.page


def test_the_same_files_make_the_same_page_which_needs_nothing_else(report: Report, tmp_path: Path) -> None:
    export = LOG.as_lines(tmp_path / "log")
    assert report(export, "--key", KEY).code == 0
    first = report.out.read_bytes()
    assert report(export, "--key", KEY).code == 0
    assert report.out.read_bytes() == first
    assert not any(word in first for word in (b"<script", b"http://", b"https://", b"src=", b"@import", b"url("))


def test_without_a_key_the_page_says_that_nothing_is_proven(report: Report, tmp_path: Path) -> None:
    ended = report(LOG.as_lines(tmp_path / "log"))
    assert ended.code == 0
    assert "its signature was not checked, give --key" in ended.out
    assert "not checked : no key was given, so that nothing here is proven" in report.page


def test_witnesses_whose_keys_are_given_are_named_with_their_time(report: Report, tmp_path: Path) -> None:
    file = LOG.as_lines(tmp_path / "log")
    seed = b"w" * 32
    note = LOG.note + cosignature_line(str(LOG.checkpoint), "witness.example/w1", seed, 1_793_000_000)
    file.with_name("log.jsonl.checkpoint").write_text(note)
    witness = verifier_of("witness.example/w1", seed, COSIGNATURE)
    assert report(file, "--key", KEY, "--key", str(witness)).code == 0
    assert f"{witness.label} at 2026-10-26 07:33 (UTC, UTC+0000)" in report.page


@pytest.mark.parametrize("fault", ["cut", "changed", "swapped", "another key", "no note"])
def test_what_is_not_sound_makes_no_page_and_ends_with_1(report: Report, tmp_path: Path, fault: str) -> None:
    leaves, key = list(LOG.leaves), KEY
    file = LOG.as_lines(tmp_path / "log")
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif fault == "changed":
        file.write_bytes(file.read_bytes().replace(b'"units":1', b'"units":2', 1))
    elif fault == "swapped":
        leaves[3], leaves[4] = leaves[4], leaves[3]
        file.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
    elif fault == "another key":
        key = str(Log(leaves, seed=b"x" * 32).verifier)
    else:
        file.with_name("log.jsonl.checkpoint").write_text("no note")
    ended = report(file, "--key", key)
    assert (ended.code, len(ended.faults)) == (1, 1)
    assert ended.err.startswith("perks: not sound: ")
    assert not report.out.exists()


def test_what_can_not_be_read_ends_with_3(report: Report, tmp_path: Path) -> None:
    assert report(tmp_path / "nothing", "--key", KEY).code == 3
    assert report(LOG.as_lines(tmp_path / "log"), "--names", tmp_path / "nothing.csv").code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--zone", "Europe/Nowhere"], "--zone: unknown time zone 'Europe/Nowhere'"),
        (["--zone", "../etc/passwd"], "--zone: unknown time zone"),
        (["--since", "yesterday"], "--since: a day as 2026-11-01"),
        (["--since", "2026-05-02", "--until", "2026-05-02"], "--until: later than --since"),
        (["--partner", "Aurore"], "--partner: 'Aurore' is not an id, and nothing of --names has that name"),
        (["--key", "nonsense"], "--key: not a verifier key"),
    ],
)
def test_wrong_use_is_told_and_ends_with_2(report: Report, tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = report(LOG.as_lines(tmp_path / "log"), *arguments)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_names_and_currencies_come_from_a_list(report: Report, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text(f"\ufeffid,name,currency\n{PARTNER},Maison <b>Aurore</b>,\nperk_{PERK.hex},Tasting,chf\n", "utf-8")
    assert report(LOG.as_lines(tmp_path / "log"), "--names", names, "--partner", "Maison <b>Aurore</b>").code == 0
    assert "What the log says of Maison &lt;b&gt;Aurore&lt;/b&gt;" in report.page
    assert "Tasting" in report.page
    assert f"{sum(range(40)):,}.00 CHF" in report.page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id;name\n", "line 1: 1 columns"),
        (f"{PARTNER}\n", "line 1: 1 columns"),
        ("id,name\n7,Aurore\n", "line 2: '7' is not an id"),
        (f"{PARTNER},A,XXX\n", "line 1: 'XXX' is not a currency"),
        (f'{PARTNER},"A\n', "not CSV in UTF-8 with commas"),
    ],
)
def test_a_bad_list_of_names_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "names.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=re.escape(said)):
        read_names(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not CSV in UTF-8"):
        read_names(file)


def test_time_to_confirm_and_refusals_reach_the_page(report: Report, tmp_path: Path) -> None:
    def at(second: int) -> str:
        return f"2026-05-01T12:00:{second:02}.000000Z"

    leaves = [
        entry(0, action="perk.claimed", at=at(0), subject="0190b2f0-0000-7000-8000-00000000000a"),
        entry(1, at=at(30), reasons=["HOLD:0190b2f0-0000-7000-8000-00000000000a"]),
        entry(2, action="perk.claimed", outcome="REFUSED", reasons=["TIER_TOO_LOW"], subject=None),
        entry(3, action="service.quoted", reasons=["ANSWERED_IN_TIME"]),
        entry(4, action="service.cancelled", reasons=["SOLVED_LATE"]),
        entry(5, action="fulfilment.updated", reasons=["NO_SHOW"]),
        entry(6, action="redemption.reversed", reasons=["BURN", "MEMBER"], units=1, amount=5),
    ]
    assert report(Log(leaves).as_lines(tmp_path / "log")).code == 0
    page = report.page
    for said in (
        "Time to confirm, median 30.0 s",
        "TIER_TOO_LOW 1 0 0 1 100 %",
        "First answers in time 1 100 %",
        "Solved late 1 100 %",
        "Fulfilment became NO_SHOW 1",
        "Half within",
        "0 0 1 1 unit 5 minor units",
    ):
        assert said in page, said


async def test_the_page_of_a_real_season_counts_what_its_statements_count(club: Club, tmp_path: Path) -> None:
    since = club.now - timedelta(days=50)
    season = await Season.opened(club, since)
    await season.play(Random(5), since, days=45, steps=40)
    window = Window(partner=str(season.partner.id))
    figures = await season.figures(window)
    [whole] = await club.sql(
        "SELECT count(*) AS n, sum(reversals) AS back FROM redemption WHERE partner_id = $1", season.partner.id
    )
    assert (figures.total["redemptions"], figures.total["reversals"]) == (whole["n"], whole["back"])
    assert figures.total.waits.count == whole["n"]


def test_names_are_written_for_the_report(perks: Perks, tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    assert perks("partners", "add", "aurore", "--name", "Maison, Aurore").code == 0
    assert perks("audit", "names", file).out == f"1 names in {file}\n"
    [(id, named)] = read_names(file).items()
    assert named == Named("Maison, Aurore", None)
    assert perks.query("SELECT id::text FROM partner") == [(id,)]


def a_busy_log() -> Log:
    """Two partners over three weeks, with everything that a page can show."""
    leaves = []
    for number in range(120):
        at = (datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=4 * number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        other = {"partner": "0190b2f0-0000-7000-8000-0000000000b9"} if number % 3 == 0 else {}
        kinds = [
            {"action": "perk.claimed"},
            {},
            {"action": "redemption.reversed", "reasons": ["RESTOCK", "PARTNER"]},
            {"action": "perk.claimed", "outcome": "REFUSED", "reasons": ["TIER_TOO_LOW", "ENDED"]},
            {"action": "service.quoted", "reasons": ["ANSWERED_LATE"]},
        ]
        leaves.append(entry(number, at=at, **kinds[number % 5], **other))
    return Log(leaves)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_the_page_is_for_everybody_on_any_screen_and_on_paper(tmp_path: Path) -> None:
    log = a_busy_log()
    figures = Figures(Window())
    for index, leaf in enumerate(log.leaves):
        figures.take(index, leaf)
    page_file = tmp_path / "report.html"
    names = {str(PERK): Named("A tasting for two with a name that is long", "CHF")}
    page_file.write_text(render_report(figures, Proof(log.checkpoint), names), encoding="utf-8")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for scheme, width in (("light", 1_100), ("dark", 1_100), ("light", 320)):
            context = await browser.new_context(
                color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 800}
            )
            page = await context.new_page()
            await page.goto(page_file.as_uri())
            found = await Axe().run(page)
            assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
            assert await page.evaluate(WIDE) == 0
            await context.close()
        paper = await browser.new_page(viewport={"width": 680, "height": 900})  # A4 between its margins
        await paper.emulate_media(media="print")
        await paper.goto(page_file.as_uri())
        assert await paper.evaluate(TOO_WIDE) == 0
        assert (await paper.pdf(prefer_css_page_size=True)).startswith(b"%PDF")
        await browser.close()
