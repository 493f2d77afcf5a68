"""Statements: what a month was stays what it was, adds up to everything there is, and is what the log says."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest

from gateway.auditing.figures import Figures, Tally, Window
from partners.errors import BadInput, NotFound
from partners.exports import OutOfReach
from partners.statements import Line, Month, Statement, make_statement
from partners.tables import Bearer
from tests.factories import STAFF, Club, partner_actor
from tests.seasons import Season

ZURICH = ZoneInfo("Europe/Zurich")
TICK = timedelta(microseconds=1)


def turn(now: datetime, months_ago: int = 1) -> datetime:
    """The start of the month that began so many turns ago, the running one with the last, in the programme's zone."""
    local = now.astimezone(ZURICH)
    months = local.year * 12 + local.month - months_ago
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=ZURICH)


def name_of(at: datetime) -> str:
    return at.astimezone(ZURICH).strftime("%Y-%m")


def line_of(statement: Statement, handle: str) -> Line:
    [line] = [line for line in statement.lines if line.handle.endswith(f"/{handle}")]
    return line


async def test_a_month_is_half_open_in_the_programmes_zone(club: Club) -> None:
    starts, ends = turn(club.now, 2), turn(club.now)
    season = await Season.opened(club, starts - timedelta(days=90))
    await season.redeem("wine", starts - TICK, units=1, amount=1)
    await season.redeem("wine", starts, units=2, amount=20)
    await season.redeem("wine", ends - TICK, units=3, amount=300)
    await season.redeem("wine", ends, units=4, amount=4_000)
    statement = await season.statement(name_of(starts), club.now)
    line = line_of(statement, "wine")
    assert (line.redeemed.count, line.redeemed.units, line.redeemed.amount, line.currency) == (2, 5, 320, "CHF")
    assert statement.final == (club.now >= ends + timedelta(minutes=5))
    assert (await season.statement(name_of(club.now), club.now)).final is False


async def test_a_reversal_stands_in_the_month_it_was_made_in_and_changes_none_before(club: Club) -> None:
    first, second = turn(club.now, 3), turn(club.now, 2)
    season = await Season.opened(club, first)
    id = await season.redeem("wine", first + timedelta(days=3), units=3, amount=900)
    before = await season.statement(name_of(first), club.now)
    assert await season.reverse(id, second + timedelta(days=1), Bearer.PROGRAMME, units=1, amount=100) == "REVERSED"
    assert await season.reverse(id, second + timedelta(days=2), Bearer.MEMBER) == "REVERSED"
    assert await season.statement(name_of(first), club.now) == before
    line = line_of(await season.statement(name_of(second), club.now), "wine")
    assert {bearer: (one.count, one.units, one.amount) for bearer, one in line.reversed.items()} == {
        Bearer.PARTNER: (0, 0, 0),
        Bearer.PROGRAMME: (1, 1, 100),
        Bearer.MEMBER: (1, 2, 800),
    }
    assert (line.redeemed.count, line.net_units, line.net_amount) == (0, -3, -900)


async def test_what_is_open_is_held_or_awaits_fulfilment_at_each_end(club: Club) -> None:
    starts, ends = turn(club.now, 2), turn(club.now)
    season = await Season.opened(club, starts - timedelta(days=40))
    minute = timedelta(minutes=1)
    over = await season.claim("wine", starts - minute, units=2)
    await club.confirm(over, now=starts + minute)
    await season.claim("wine", starts - timedelta(hours=2), units=4)  # its hour is over, whoever noticed
    late = await season.claim("wine", ends - minute, units=3)
    given = await season.redeem("spa", starts - timedelta(days=1), units=5)
    await season.reverse(given, starts + minute, units=2)
    before = await season.statement(name_of(starts), club.now)
    await club.release(late, now=ends + minute)
    statement = await season.statement(name_of(starts), club.now)
    assert statement == before
    told = {
        one.handle.split("/")[1]: (one.held_before, one.held_after, one.awaited_before, one.awaited_after)
        for one in statement.open
    }
    assert told == {"wine": (2, 3, 0, 2), "spa": (0, 0, 5, 3)}


@pytest.mark.parametrize("seed", range(3))
async def test_statements_add_up_to_the_tables_and_each_is_what_the_log_says(club: Club, seed: int) -> None:
    since = turn(club.now, 3)
    season = await Season.opened(club, since)
    await season.play(Random(seed), since, days=60, steps=60)
    statements = [await season.statement(name_of(turn(club.now, ago)), club.now) for ago in (3, 2, 1)]
    assert sum(len(statement.lines) for statement in statements) >= 6
    for statement in statements:
        window = Window(statement.month.starts_at, statement.month.ends_at, ZURICH, str(season.partner.id))
        assert by_perk(statement) == counted(await season.figures(window))
    [whole] = await club.sql(
        "SELECT count(*) AS n, sum(units) AS units, sum(amount) AS amount, sum(reversals) AS reversals,"
        " sum(reversed_units) AS back, sum(reversed_amount) AS amount_back FROM redemption WHERE partner_id = $1",
        season.partner.id,
    )
    totals = [total for statement in statements for total in statement.totals.values()]
    given, back = [one.redeemed for one in totals], [one.taken_back for one in totals]
    assert [sum(one.count for one in given), sum(one.units for one in given), sum(one.amount for one in given)] == [
        whole["n"],
        whole["units"],
        whole["amount"],
    ]
    assert [sum(one.count for one in back), sum(one.units for one in back), sum(one.amount for one in back)] == [
        whole["reversals"],
        whole["back"],
        whole["amount_back"],
    ]
    for earlier, later in pairwise(statements):
        closing = {one.perk_id: (one.held_after, one.awaited_after) for one in earlier.open}
        opening = {one.perk_id: (one.held_before, one.awaited_before) for one in later.open}
        assert {k: v for k, v in closing.items() if any(v)} == {k: v for k, v in opening.items() if any(v)}


def by_perk(statement: Statement) -> dict[str, list[int]]:
    """What a statement says of each perk: redeemed, and reversed by each bearer."""
    return {
        str(line.perk_id): [
            number
            for one in (line.redeemed, *(line.reversed[bearer] for bearer in Bearer))
            for number in (one.count, one.units, one.amount)
        ]
        for line in statement.lines
    }


def counted(figures: Figures) -> dict[str, list[int]]:
    """The same from the log; perks of which nothing was redeemed or reversed are in no statement."""

    def numbers(tally: Tally) -> list[int]:
        names = ["redemptions", "units", "amount"]
        names += [f"{one}.{bearer}" for bearer in Bearer for one in ("borne", "borne-units", "borne-amount")]
        return [tally[name] for name in names]

    found = {perk: numbers(tally) for (_, perk), tally in figures.perks.items()}
    return {perk: told for perk, told in found.items() if any(told)}


async def test_lines_name_their_first_and_last_redemption(club: Club) -> None:
    starts = turn(club.now, 2)
    season = await Season.opened(club, starts)
    ids = [await season.redeem("wine", starts + timedelta(days=day)) for day in (5, 1, 9)]
    line = line_of(await season.statement(name_of(starts), club.now), "wine")
    assert line.first is not None
    assert line.last is not None
    assert (line.first.redemption_id, line.last.redemption_id) == (ids[1], ids[2])
    assert line.first.index is None  # no sequencer has run
    [entry] = await club.sql("SELECT id, leaf_hash FROM audit_entry WHERE subject_id = $1", ids[1])
    place = 10**15 + entry["id"].int % 10**9
    await club.sql("INSERT INTO log_leaf VALUES ($1, $2, $3)", place, entry["id"], entry["leaf_hash"])
    line = line_of(await season.statement(name_of(starts), club.now), "wine")
    await club.sql("DELETE FROM log_leaf WHERE index = $1", place)
    assert line.first is not None
    assert line.first.index == place


@pytest.mark.parametrize(
    "month", ["", "2026", "2026-13", "2026-00", "26-01", "2026-1", "2026-01-01", "１９９９-01", "0001-01"]
)
async def test_what_is_no_month_is_said_to_be_none(club: Club, month: str) -> None:
    partner = await club.partner()
    async with club.database.connection() as connection:
        with pytest.raises(BadInput, match="a year and a month, as 2026-11"):
            await make_statement(connection, STAFF, month, club.now, handle=partner.handle)


async def test_months_to_come_and_months_before_the_partner_have_no_statement(club: Club) -> None:
    partner = await club.partner()
    async with club.database.connection() as connection:
        with pytest.raises(BadInput, match="is to come; the running month is"):
            await make_statement(connection, STAFF, name_of(turn(club.now, -1)), club.now, handle=partner.handle)
        with pytest.raises(BadInput, match="the partner came in"):
            await make_statement(connection, STAFF, name_of(turn(club.now, 2)), club.now, handle=partner.handle)
        with pytest.raises(BadInput, match="is to come"):
            await make_statement(connection, STAFF, "9999-12", club.now, handle=partner.handle)
        with pytest.raises(NotFound):
            await make_statement(connection, STAFF, name_of(club.now), club.now, handle="nobody")


def test_months_know_summer_time() -> None:
    march = Month.of("2026-03", ZURICH)
    assert march.ends_at.timestamp() - march.starts_at.timestamp() == (31 * 24 - 1) * 3_600
    assert Month.of("2026-12", ZURICH).ends_at == datetime(2027, 1, 1, tzinfo=ZURICH)


async def test_a_partner_reads_its_own_statement_and_no_other(club: Club) -> None:
    own, another = await club.partner(), await club.partner()
    actor, month = partner_actor(own), name_of(club.now)
    async with club.database.connection() as connection:
        assert (await make_statement(connection, actor, month, club.now)).partner_id == own.id
        assert (await make_statement(connection, actor, month, club.now, handle=own.handle)).partner_id == own.id
        for named in ({"handle": another.handle}, {"id": another.id}):
            with pytest.raises(NotFound, match="no such partner"):
                await make_statement(connection, actor, month, club.now, **named)
        with pytest.raises(OutOfReach):
            await make_statement(connection, replace(actor, alias="m"), month, club.now)
        with pytest.raises(BadInput, match="whose statement"):
            await make_statement(connection, STAFF, month, club.now)
