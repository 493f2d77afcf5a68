"""Statements through the API: by GraphQL, as a page and as CSV, for the partner itself and for staff."""

import asyncio
import csv
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from gateway.paper.statements import COLUMNS
from schema.context import STATEMENTS_AT_ONCE
from tests.api import Api, Voice
from tests.factories import Club
from tests.seasons import Season

QUERY = (Path(__file__).parents[2] / "schema" / "operations" / "Statement.graphql").read_text()


@pytest.fixture
async def season(club: Club) -> Season:
    """A partner whose running month has two redemptions of wine and one of a talk, of which one unit came back."""
    opened = await Season.opened(club, club.now - timedelta(days=400))
    await opened.redeem("wine", club.now, units=3, amount=9_000)
    back = await opened.redeem("wine", club.now, units=2, amount=500)
    await opened.redeem("talk", club.now)
    assert await opened.reverse(back, club.now, units=1, amount=250) == "REVERSED"
    return opened


def month_of(season: Season) -> str:
    return f"{season.club.now.astimezone(ZoneInfo('Europe/Zurich')):%Y-%m}"


async def fetch(voice: Voice, partner: str, file: str, method: str = "GET") -> httpx.Response:
    headers = {} if voice.token is None else {"authorization": f"Bearer {voice.token}"}
    return await voice.client.request(method, f"/statements/{partner}/{file}", headers=headers)


async def test_a_partner_reads_its_month(api: Api, season: Season) -> None:
    answer = await api.partner(season.partner)(QUERY, month=month_of(season))
    statement = answer.data["statement"]
    assert (statement["timeZone"], statement["final"]) == ("Europe/Zurich", False)
    talk, wine = statement["lines"]
    assert (talk["currencyCode"], talk["netUnits"], talk["netAmountMinor"]) == (None, 1, "0")
    assert wine["redeemed"] == {"count": 2, "units": 5, "amountMinor": "9500"}
    assert (wine["netUnits"], wine["netAmountMinor"]) == (4, "9250")
    totals = {total["currencyCode"]: total["reversed"] for total in statement["totals"]}
    assert totals["CHF"] == [
        {"borneBy": "PARTNER", "sum": {"count": 1, "units": 1, "amountMinor": "250"}},
        {"borneBy": "PROGRAMME", "sum": {"count": 0, "units": 0, "amountMinor": "0"}},
        {"borneBy": "MEMBER", "sum": {"count": 0, "units": 0, "amountMinor": "0"}},
    ]
    assert [(one["handle"].split("/")[1], one["awaitedAfter"]) for one in statement["open"]] == [
        ("talk", 1),
        ("wine", 4),
    ]
    assert statement["htmlUrl"] == f"/statements/{season.partner.handle}/{month_of(season)}.html"


async def test_staff_say_whose(api: Api, season: Season) -> None:
    month = month_of(season)
    by = {"handle": season.partner.handle}
    asked: Any = await api.staff("audit:read")(QUERY, month=month, partner=by)
    assert len(asked.data["statement"]["lines"]) == 2
    nobodys = await api.staff("audit:read")(QUERY, month=month)
    assert (nobodys.code, nobodys.error["message"]) == ("BAD_INPUT", "partner: say whose statement")
    assert (await api.staff("members:admin")(QUERY, month=month, partner=by)).code == "INSUFFICIENT_SCOPE"


async def test_another_partners_statement_is_not_found_by_any_way(api: Api, club: Club, season: Season) -> None:
    stranger, month = api.partner(await club.partner()), month_of(season)
    for by in ({"handle": season.partner.handle}, {"id": f"partner_{season.partner.id.hex}"}, {"handle": "nobody"}):
        assert (await stranger(QUERY, month=month, partner=by)).code == "NOT_FOUND"
    for handle in (season.partner.handle, "nobody"):
        answer = await fetch(stranger, handle, f"{month}.csv")
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (404, "NOT_FOUND")


async def test_a_token_that_speaks_for_one_member_reads_no_statement(api: Api, club: Club, season: Season) -> None:
    alias = await club.consent(await club.member(), season.partner)
    bound, month = api.bound(season.partner, alias), month_of(season)
    assert (await bound(QUERY, month=month)).code == "FORBIDDEN"
    assert (await fetch(bound, season.partner.handle, f"{month}.html")).status_code == 403


@pytest.mark.parametrize(
    ("month", "said"),
    [("2026-13", "a year and a month"), ("9998-01", "is to come"), ("2001-01", "the partner came in")],
)
async def test_a_month_that_can_not_be_is_explained(api: Api, season: Season, month: str, said: str) -> None:
    answer = await api.partner(season.partner)(QUERY, month=month)
    assert answer.code == "BAD_INPUT"
    assert said in answer.error["message"]
    by_http = await fetch(api.partner(season.partner), season.partner.handle, f"{month}.html")
    assert by_http.status_code == 400
    assert said in by_http.json()["errors"][0]["message"]


async def test_the_page_stands_alone(api: Api, season: Season) -> None:
    answer = await fetch(api.partner(season.partner), season.partner.handle, f"{month_of(season)}.html")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "95.00 CHF" in page
    assert "Not final." in page
    assert not any(word in page for word in ("<script", "http://", "https://", "src=", "@import", "url("))


async def test_the_table_has_its_columns_for_good_and_adds_up(api: Api, season: Season) -> None:
    answer = await fetch(api.partner(season.partner), season.partner.handle, f"{month_of(season)}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('inline; filename="statement-brand-')
    rows = list(csv.DictReader(StringIO(answer.text)))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["perk"].split("/")[1], row["currency"], row["units"], row["net_amount_minor"]) for row in rows] == [
        ("talk", "", "1", "0"),
        ("wine", "CHF", "5", "9250"),
    ]
    assert sum(int(row["awaited_after"]) for row in rows) == 5


async def test_no_spreadsheet_takes_a_name_for_a_formula(api: Api, season: Season, club: Club) -> None:
    await club.sql("UPDATE perk SET title = '=1+1' WHERE partner_id = $1", season.partner.id)
    answer = await fetch(api.partner(season.partner), season.partner.handle, f"{month_of(season)}.csv")
    assert {row["title"] for row in csv.DictReader(StringIO(answer.text))} == {"'=1+1"}


async def test_names_are_escaped_on_the_page(api: Api, season: Season, club: Club) -> None:
    await club.sql("UPDATE perk SET title = '<script>alert(1)</script>' WHERE partner_id = $1", season.partner.id)
    answer = await fetch(api.partner(season.partner), season.partner.handle, f"{month_of(season)}.html")
    assert "<script" not in answer.text


async def test_who_may_not_is_told_why(api: Api, season: Season, club: Club) -> None:
    handle, file = season.partner.handle, f"{month_of(season)}.html"
    answers = {
        "anonymous": await fetch(api.anonymous(), handle, file),
        "lacks a scope": await fetch(api.partner(season.partner, "perks:read"), handle, file),
        "member": await fetch(api.member(await club.member()), handle, file),
    }
    assert {who: answer.status_code for who, answer in answers.items()} == {
        "anonymous": 401,
        "lacks a scope": 403,
        "member": 403,
    }
    assert "redemptions:read" in answers["lacks a scope"].text


async def test_head_says_the_same_without_the_page_and_nothing_is_posted(api: Api, season: Season) -> None:
    voice, file = api.partner(season.partner), f"{month_of(season)}.csv"
    whole, head = (
        await fetch(voice, season.partner.handle, file),
        await fetch(voice, season.partner.handle, file, "HEAD"),
    )
    assert (head.content, head.headers["content-length"]) == (b"", whole.headers["content-length"])
    posted = await fetch(voice, season.partner.handle, file, "POST")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    assert (await fetch(voice, season.partner.handle, "2026-11.pdf")).status_code == 404
    assert (await fetch(voice, season.partner.handle, "2026-11")).status_code == 404


async def test_statements_wait_their_turn_without_a_connection(api: Api, season: Season) -> None:
    resources, voice = api.service.resources, api.partner(season.partner)
    places = resources.settling
    while not places.locked():
        await places.acquire()
    asked = [
        asyncio.create_task(fetch(voice, season.partner.handle, f"{month_of(season)}.csv")),
        asyncio.create_task(voice(QUERY, month=month_of(season))),
    ]
    done, _ = await asyncio.wait(asked, timeout=0.3)
    assert not done
    for _ in range(STATEMENTS_AT_ONCE):
        places.release()
    by_http, by_graphql = await asyncio.gather(*asked)
    assert (by_http.status_code, by_graphql.status) == (200, 200)


async def test_what_is_open_is_worked_out_only_for_who_asks(api: Api, season: Season) -> None:
    short = "query($month: String!) { statement(month: $month) { totals { redeemed { units } } } }"
    lines = (await api.partner(season.partner)(short, month=month_of(season))).data["statement"]["totals"]
    assert sorted(total["redeemed"]["units"] for total in lines) == [1, 5]
