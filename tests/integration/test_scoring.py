"""Scores on a real database: the weighted sum of a trailing window, written only where it changed."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from partners import tables
from partners.actors import SYSTEM
from partners.programme import Programme, TierEntry
from partners.scoring import score_everybody, score_members
from tests.factories import Club

DAY = timedelta(days=1)


def programme(*indicators: Mapping[str, Any], days: int = 30) -> Programme:
    tier = TierEntry(handle="gold", name="Gold", rank=1)
    return Programme.model_validate(
        {"name": "A club", "tier": [tier], "indicator": indicators, "score": {"window_days": days}}
    )


PLAIN = programme(
    {"handle": "purchase", "weight": 2, "cap": 100},
    {"handle": "visit", "weight": 10},
    {"handle": "fraud", "weight": -1000, "cap": 500},
)


async def did(club: Club, member: tables.Member, indicator: str, amount: int, *, ago: timedelta = DAY) -> None:
    await club.sql(
        "INSERT INTO activity (id, member_id, indicator, source, at, amount) VALUES (new_id(), $1, $2, $3, $4, $5)",
        member.id,
        indicator,
        uuid4().hex,
        club.now - ago,
        amount,
    )


async def score(club: Club, *members: tables.Member, by: Programme = PLAIN) -> int:
    async with club.database.connection() as connection:
        return await score_members(connection, by, [member.id for member in members], SYSTEM, club.now)


async def scored(club: Club, member: tables.Member) -> tuple[int, int]:
    """The score and the version."""
    [row] = await club.sql("SELECT score, version FROM member WHERE id = $1", member.id)
    return row["score"], row["version"]


async def test_a_score_is_the_weighted_sum_and_no_indicator_goes_beyond_its_cap(club: Club) -> None:
    member = await club.member()
    before = (await scored(club, member))[1]
    await did(club, member, "purchase", 20)
    await did(club, member, "purchase", 40)  # 120 points, of which 100
    await did(club, member, "visit", 3)
    await did(club, member, "unheard of", 1_000_000)
    assert await score(club, member) == 1
    assert await scored(club, member) == (130, before + 1)
    await did(club, member, "fraud", 7)
    assert await score(club, member) == 1
    assert await scored(club, member) == (-370, before + 2)


async def test_nothing_is_written_where_nothing_changed(club: Club) -> None:
    member, idle = await club.member(), await club.member()
    await did(club, member, "visit", 1)
    assert await score(club, member, idle) == 1
    before = await scored(club, member), await scored(club, idle)
    assert await score(club, member, idle) == 0
    assert (await scored(club, member), await scored(club, idle)) == before


@pytest.mark.parametrize(
    ("ago", "points"),
    [
        (30 * DAY - timedelta(microseconds=1), 10),
        (30 * DAY, 0),
        (timedelta(0), 10),
        (-timedelta(microseconds=1), 0),
    ],
)
async def test_only_the_trailing_window_counts(club: Club, ago: timedelta, points: int) -> None:
    member = await club.member()
    await did(club, member, "visit", 1, ago=ago)
    await score(club, member)
    assert (await scored(club, member))[0] == points


async def test_other_weights_make_other_scores_and_none_make_none(club: Club) -> None:
    member = await club.member()
    await did(club, member, "visit", 2)
    await score(club, member)
    await score(club, member, by=programme({"handle": "visit", "weight": 7}))
    assert (await scored(club, member))[0] == 14
    await score(club, member, by=programme())
    assert (await scored(club, member))[0] == 0


async def test_a_score_stays_within_what_is_stored(club: Club) -> None:
    member = await club.member()
    for sign in (1, -1):
        await did(club, member, f"most {sign}", sign * (2**63 - 1))
        most = programme({"handle": f"most {sign}", "weight": 1_000_000})
        await score(club, member, by=most)
        assert (await scored(club, member))[0] == sign * 10**15


async def test_everybody_is_scored_a_thousand_at_a_time_and_one_entry_tells_how_many(
    empty_database: Any, club: Club
) -> None:
    own = Club(empty_database, club.programme, club.keys, club.now)
    await own.sql(
        "INSERT INTO member (id, external_id, state, joined_at, created_at, audit_salt, version, labels, score,"
        " reviews) SELECT new_id(), 'm' || n, 'ACTIVE', $1, $1, '\\x00', 1, '{}', 0, '{}'"
        " FROM generate_series(1, 2500) n",
        own.now - DAY,
    )
    await own.sql(
        "INSERT INTO activity (id, member_id, indicator, source, at, amount)"
        " SELECT new_id(), id, 'visit', 's', $1, 1 FROM member WHERE external_id <> 'm7'",
        own.now - DAY,
    )
    async with own.database.connection() as connection:
        assert await score_everybody(connection, PLAIN, SYSTEM, own.now) == 2499
        assert await score_everybody(connection, PLAIN, SYSTEM, own.now) == 0
        assert await score_everybody(connection, PLAIN, SYSTEM, own.now + 30 * DAY) == 2499
    entries = await own.sql("SELECT reasons FROM audit_entry WHERE action = 'scores.computed'")
    told = [int(row["reasons"][0].removeprefix("CHANGED:")) for row in entries]
    assert (len(told), sum(told), max(told)) == (6, 2 * 2499, 1000)
    assert await own.sql("SELECT FROM outbox WHERE entry_id NOT IN (SELECT id FROM audit_entry)") == []


async def test_a_rule_on_the_score_hears_of_it_and_a_decision_on_the_old_one_is_stale(club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "score_at_least", "score": 25}])
    member = await club.member(club.partners[perk.partner_id])
    assert [refusal.code for refusal in (await club.decision(member, perk)).refusals] == ["SCORE_TOO_LOW"]
    early = await club.claim_of(member, perk)
    await did(club, member, "visit", 3)
    await score(club, member)
    [claimed] = await club.claim_all([early])
    assert claimed.outcome == "STALE"
    assert (await club.decision(member, perk)).eligible
    assert (await club.claim(member, perk)).outcome == "HELD"
