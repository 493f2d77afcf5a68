"""Attacks on files by HTTP: ranges that mean harm, names that would be markup or formulas, and files of others."""

import csv
from datetime import timedelta
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from partners.export_formats import cell
from tests.api import Api, Voice
from tests.exporting import exporter
from tests.factories import Club
from tests.seasons import Season

REQUEST = "mutation($input: RequestExportInput!) { requestExport(input: $input) { export { id } } }"
RANGES = {
    "bytes=0-0": (206, 0, 1),
    "bytes=1-": (206, 1, None),
    "bytes=-5": (206, -5, None),
    "bytes=-99999999999": (200, 0, None),
    "bytes=5-99999999999999999": (206, 5, None),
    "bytes=0-9999999999999999999999999": (200, 0, None),
    "bytes=-0": (416, 0, 0),
    "bytes=999999999-": (416, 0, 0),
    "bytes=9999999999999999999-": (416, 0, 0),
    "bytes=5-4": (200, 0, None),
    "bytes=-": (200, 0, None),
    "bytes=0-1,3-4": (200, 0, None),
    "bytes=0-,0-,0-,0-,0-,0-": (200, 0, None),
    "lines=0-1": (200, 0, None),
    "bytes=٠-٥": (200, 0, None),
    "bytes=0x0-0x5": (200, 0, None),
    "bytes=+1-+2": (200, 0, None),
    "bytes=--5": (200, 0, None),
}


async def fetch(voice: Voice, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    given = [(b"authorization", f"Bearer {voice.token}".encode())]
    given += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return await voice.client.request(method, path, headers=given)


async def made(api: Api, club: Club, voice: Voice, **given: Any) -> str:
    """The address of an export that is done."""
    export = (await voice(REQUEST, input={"kind": "REDEMPTIONS"} | given)).data["requestExport"]["export"]["id"]
    await exporter(api.service.database, api.service.clock).work()
    return f"/exports/{export}"


async def test_every_range_is_answered_by_its_bytes_the_whole_or_416(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    await club.redeemed(await club.hold(await club.member(partner), perk))
    voice = api.partner(partner)
    path = await made(api, club, voice)
    whole = (await fetch(voice, path)).content
    for asked, (status, first, end) in RANGES.items():
        response = await fetch(voice, path, range=asked)
        assert response.status_code == status, asked
        if status != 416:
            assert response.content == whole[first:end], asked
            assert int(response.headers["content-length"]) == len(response.content)
        else:
            assert response.headers["content-range"] == f"bytes */{len(whole)}"
        head = await fetch(voice, path, "HEAD", range=asked)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))


async def test_nobody_learns_of_anothers_file_by_any_header(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    await club.redeemed(await club.hold(await club.member(partner), perk))
    voice, stranger = api.partner(partner), api.partner(await club.partner())
    path = await made(api, club, voice)
    etag = (await fetch(voice, path, "HEAD")).headers["etag"]
    for method in ("GET", "HEAD"):
        for headers in ({}, {"range": "bytes=0-"}, {"if_range": etag, "range": "bytes=0-9"}, {"if_none_match": etag}):
            mine = await fetch(stranger, path, method, **headers)
            nobodys = await fetch(stranger, f"/exports/export_{'0' * 32}", method, **headers)
            assert mine.status_code == nobodys.status_code == 404
            assert mine.headers.keys() == nobodys.headers.keys()
    on_record = "SELECT count(*) AS n FROM audit_entry WHERE action = 'export.downloaded' AND partner_id = $1"
    assert [row["n"] for row in await club.sql(on_record, partner.id)] == [0]


async def test_an_empty_file_is_fetched_whole_and_has_no_range(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    path = await made(api, club, voice, format="JSONL")
    whole = await fetch(voice, path)
    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"", "0")
    assert (await fetch(voice, path, range="bytes=0-")).status_code == 416


MARKUP = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title><h1>", "' onmouseover='alert(1)")
FORMULAS = (
    '=HYPERLINK("https://evil.example")',
    "@SUM(1)",
    "+1",
    "-1",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "＝1+1",
    "＠SUM(1)",
)


async def statement_of(api: Api, club: Club, name: str) -> tuple[httpx.Response, list[str]]:
    """The page of a partner with this name, and the first row of its table."""
    season = await Season.opened(club, club.now - timedelta(days=400))
    await season.redeem("wine", club.now, units=3, amount=9_000)
    await club.sql("UPDATE partner SET name = $2 WHERE id = $1", season.partner.id, name)
    await club.sql("UPDATE perk SET title = $2 WHERE partner_id = $1", season.partner.id, name)
    month = f"{club.now.astimezone(ZoneInfo('Europe/Zurich')):%Y-%m}"
    voice, path = api.partner(season.partner), f"/statements/{season.partner.handle}/{month}"
    page, table = await fetch(voice, f"{path}.html"), await fetch(voice, f"{path}.csv")
    assert (page.status_code, table.status_code) == (200, 200)
    return page, list(csv.reader(StringIO(table.text, newline="")))[1]


@pytest.mark.parametrize("name", MARKUP)
async def test_a_name_is_no_markup_on_a_statement(api: Api, club: Club, name: str) -> None:
    page, _ = await statement_of(api, club, name)
    assert name not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", FORMULAS)
async def test_a_name_is_no_formula_in_a_table(api: Api, club: Club, name: str) -> None:
    _, row = await statement_of(api, club, name)
    assert (row[0], row[6]) == (f"'{name}", f"'{name}")
    assert cell(name) == f"'{name}"
