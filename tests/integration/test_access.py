"""Standing rights on the real database: so many uses, to the end of the term, and what a tier drop does to them."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database import Database
from gateway.housekeeping import keep_doing
from gateway.settling import keep_settling
from partners import access, tables
from partners.access import Right, RightFilter, Used
from partners.actors import Actor
from partners.codes import hold_code
from partners.facts import start_of_day
from partners.idempotency import fingerprint
from partners.tables import MemberState, PartnerState, PerkKind, PerkState, Stock
from tests.factories import STAFF, Club, member_actor, partner_actor

DAY = timedelta(days=1)


async def access_perk(club: Club, *, zone: str = "UTC", **settings: Any) -> tables.Perk:
    return await club.perk(kind=PerkKind.ACCESS, settings=settings, time_zone=zone)


async def granted(
    club: Club, perk: tables.Perk, member: tables.Member | None = None, *, now: datetime | None = None
) -> UUID:
    """A right of a member who lets the partner."""
    member = member or await club.member(club.partners[perk.partner_id])
    redemption = await club.redeemed(await club.hold(member, perk, now=now), now=now)
    [row] = await club.sql("SELECT id FROM access_grant WHERE redemption_id = $1", redemption)
    found: UUID = row["id"]
    return found


def owner(club: Club, perk: tables.Perk) -> Actor:
    return partner_actor(club.partners[perk.partner_id])


async def use(
    club: Club,
    right: UUID | None,
    actor: Actor,
    *,
    code: str | None = None,
    key: str | None = None,
    now: datetime | None = None,
) -> Used:
    async with club.database.connection() as connection:
        return await access.use_access(
            connection,
            grant_id=right,
            code=code,
            actor=actor,
            key=key or uuid4().hex,
            fingerprint=fingerprint("useAccess", {"access": str(right), "code": code}),
            now=now or club.now,
        )


async def read(club: Club, right: UUID, actor: Actor = STAFF, *, now: datetime | None = None) -> Right:
    async with club.database.reading() as session:
        [found] = await access.list_access(
            session, actor, RightFilter(id=right), first=2, after=None, now=now or club.now
        )
    return found


async def actions(club: Club, right: UUID) -> list[tuple[str, str, list[str]]]:
    rows = await club.sql(
        "SELECT action, outcome, reasons FROM audit_entry WHERE subject_id = $1 AND action LIKE 'access.%' ORDER BY id",
        right,
    )
    return [(row["action"], row["outcome"], row["reasons"]) for row in rows]


async def test_a_confirmed_claim_gives_a_right_with_its_terms(club: Club) -> None:
    perk = await access_perk(club, term_days=30, uses=3)
    member = await club.member(club.partners[perk.partner_id])
    right = await read(club, await granted(club, perk, member))
    assert (right.member_id, right.tier, right.state) == (member.id, "gold", "GRANTED")
    assert (right.uses_max, right.used, right.remaining) == (3, 0, 3)
    assert right.starts_at == club.now
    assert right.ends_at == start_of_day(club.now.date() + timedelta(days=31), "UTC")
    assert await actions(club, right.id) == [("access.granted", "DONE", [])]


async def test_a_right_without_limits_has_none(club: Club) -> None:
    perk = await access_perk(club)
    right = await read(club, await granted(club, perk))
    assert (right.uses_max, right.remaining, right.ends_at) == (None, None, None)
    for _ in range(3):
        assert (await use(club, right.id, owner(club, perk))).code == "USED"
    later = club.now + 36_500 * DAY
    assert (await read(club, right.id, now=later)).state == "GRANTED"


async def test_fifty_uses_at_once_of_three_are_exactly_three(club: Club) -> None:
    perk = await access_perk(club, uses=3)
    right = await granted(club, perk)
    calls = [use(club, right, owner(club, perk)) for _ in range(50)]
    outcomes = await club.at_once(f"access_grant WHERE id = '{right}'", calls)
    codes = [outcome.code for outcome in outcomes]
    assert (codes.count("USED"), codes.count("ALLOWANCE_EXHAUSTED")) == (3, 47)
    assert (await read(club, right)).remaining == 0
    [row] = await club.sql("SELECT count(*) AS uses FROM access_use WHERE grant_id = $1", right)
    assert row["uses"] == 3
    entries = await actions(club, right)
    assert entries.count(("access.used", "DONE", [])) == 3
    assert entries.count(("access.used", "REFUSED", ["ALLOWANCE_EXHAUSTED"])) == 47


async def test_one_key_uses_once_and_other_content_is_refused(club: Club) -> None:
    perk = await access_perk(club, uses=5)
    right, other, actor = await granted(club, perk), await granted(club, perk), owner(club, perk)
    outcomes = await asyncio.gather(*(use(club, right, actor, key="one") for _ in range(8)))
    assert sorted(outcome.code for outcome in outcomes) == ["REPLAYED"] * 7 + ["USED"]
    assert len({outcome.use_id for outcome in outcomes}) == 1
    assert (await use(club, other, actor, key="one")).code == "KEY_REUSED"
    assert ((await read(club, right)).used, (await read(club, other)).used) == (1, 0)


async def test_a_refusal_does_not_consume_the_key(club: Club) -> None:
    perk = await access_perk(club)
    member = await club.member(club.partners[perk.partner_id])
    right, actor = await granted(club, perk, member), owner(club, perk)
    await club.withdraw(member, club.partners[perk.partner_id])
    assert (await use(club, right, actor, key="again")).code == "CONSENT_MISSING"
    await club.consent(member, club.partners[perk.partner_id])
    assert (await use(club, right, actor, key="again")).code == "USED"


async def test_a_right_is_used_by_the_code_of_its_hold(club: Club) -> None:
    perk = await access_perk(club, uses=2)
    partner = club.partners[perk.partner_id]
    held = await club.hold(await club.member(partner), perk)
    code = hold_code(club.keys.codes, held.id)
    assert (await use(club, None, owner(club, perk), code=code)).code == "NOT_AVAILABLE"  # it is not confirmed yet
    await club.redeemed(held)
    assert (await use(club, None, owner(club, perk), code=code.lower())).code == "USED"
    stranger = partner_actor(await club.partner())
    assert (await use(club, None, stranger, code=code)) == Used("NOT_AVAILABLE", None, None)


async def test_another_partners_right_is_not_available_and_not_read(club: Club) -> None:
    perk = await access_perk(club)
    right, stranger = await granted(club, perk), partner_actor(await club.partner())
    assert (await use(club, right, stranger)).code == "NOT_AVAILABLE"
    async with club.database.connection() as connection:
        assert await access.revoke_access(connection, right, "ours", actor=stranger, now=club.now) == "NOT_AVAILABLE"
    for actor in (stranger, member_actor(await club.member())):
        with pytest.raises(ValueError, match="not enough values"):
            await read(club, right, actor)
    assert await club.entries(perk, "access.revoked") == []


async def test_a_right_ends_with_the_last_day_of_its_term(club: Club) -> None:
    perk = await access_perk(club, zone="Asia/Tokyo", term_days=1)
    right, actor = await granted(club, perk), owner(club, perk)
    ends_at = (await read(club, right)).ends_at
    assert ends_at is not None
    local = ends_at.astimezone(ZoneInfo("Asia/Tokyo"))
    assert (local.hour, local.date()) == (0, club.now.astimezone(ZoneInfo("Asia/Tokyo")).date() + 2 * DAY)
    assert (await use(club, right, actor, now=ends_at - timedelta(microseconds=1))).code == "USED"
    assert (await use(club, right, actor, now=ends_at)).code == "ENDED"
    after = await read(club, right, now=ends_at)
    assert (after.state, after.ended_at, after.ended_reason, after.remaining) == ("LAPSED", ends_at, "TERM_OVER", 0)
    assert ("access.lapsed", "DONE", ["TERM_OVER"]) in await actions(club, right)


async def test_before_anybody_settles_it_a_right_reads_as_it_is(club: Club) -> None:
    perk = await access_perk(club, term_days=1)
    right = await granted(club, perk)
    later = club.now + 3 * DAY
    assert (await read(club, right, now=later)).state == "LAPSED"
    assert (await read(club, right)).state == "GRANTED"


async def dropped(club: Club, member: tables.Member, tier: str, when: datetime) -> None:
    await club.assign(member, tier, now=when)


async def test_a_right_that_is_kept_outlives_a_tier_drop(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="KEEP")
    member = await club.member(club.partners[perk.partner_id], tier="black")
    right = await granted(club, perk, member)
    await dropped(club, member, "member", club.now + DAY)
    assert (await use(club, right, owner(club, perk), now=club.now + 9 * DAY)).code == "USED"


async def test_a_right_is_revoked_in_the_moment_of_a_tier_drop(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="REVOKE")
    member = await club.member(club.partners[perk.partner_id])
    right, drop, actor = await granted(club, perk, member), club.now + DAY, owner(club, perk)
    await dropped(club, member, "silver", drop)
    assert (await use(club, right, actor, now=drop - timedelta(microseconds=1))).code == "USED"
    assert (await use(club, right, actor, now=drop)).code == "TIER_TOO_LOW"
    assert (await use(club, right, actor, now=drop + DAY)).code == "TIER_TOO_LOW"
    settled = await read(club, right, now=drop)
    assert (settled.state, settled.ended_at, settled.ended_reason) == ("REVOKED", drop, "TIER_DROP")
    assert (await actions(club, right)).count(("access.revoked", "DONE", ["TIER_DROP"])) == 1


async def test_a_tier_that_lapses_drops_too(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="REVOKE")
    member = await club.member(club.partners[perk.partner_id], tier=None)
    await club.assign(member, "gold", now=club.now - DAY, ends_at=club.now + DAY)
    right = await granted(club, perk, member)
    assert (await use(club, right, owner(club, perk), now=club.now + DAY)).code == "TIER_EXPIRED"


async def test_an_equal_or_higher_tier_drops_nothing(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="REVOKE")
    member = await club.member(club.partners[perk.partner_id], tier="silver")
    right = await granted(club, perk, member)
    for days, tier in ((1, "black"), (2, "gold"), (3, "silver")):
        await dropped(club, member, tier, club.now + days * DAY)
    assert (await use(club, right, owner(club, perk), now=club.now + 5 * DAY)).code == "USED"


async def test_what_was_lost_by_a_drop_stays_lost_when_the_tier_is_back(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="REVOKE")
    member = await club.member(club.partners[perk.partner_id])
    right = await granted(club, perk, member)
    await dropped(club, member, "member", club.now + DAY)
    await dropped(club, member, "black", club.now + 2 * DAY)
    found = await read(club, right, now=club.now + 9 * DAY)  # nobody looked meanwhile
    assert (found.state, found.ended_at) == ("REVOKED", club.now + DAY)


async def test_a_right_is_kept_for_some_days_after_a_drop_the_last_included(club: Club) -> None:
    perk = await access_perk(club, zone="America/New_York", on_tier_drop="KEEP_UNTIL", keep_days=2)
    member = await club.member(club.partners[perk.partner_id])
    right, drop, actor = await granted(club, perk, member), club.now + DAY, owner(club, perk)
    await dropped(club, member, "silver", drop)
    await dropped(club, member, "member", drop + timedelta(hours=1))  # one fall in two steps
    zone = ZoneInfo("America/New_York")
    ends = start_of_day(drop.astimezone(zone).date() + timedelta(days=3), "America/New_York")
    assert (await use(club, right, actor, now=ends - timedelta(microseconds=1))).code == "USED"
    assert (await use(club, right, actor, now=ends)).code == "TIER_TOO_LOW"
    assert (await read(club, right, now=ends)).ended_at == ends


async def test_a_tier_that_is_back_in_time_keeps_the_right(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="KEEP_UNTIL", keep_days=5)
    member = await club.member(club.partners[perk.partner_id])
    right = await granted(club, perk, member)
    await dropped(club, member, "silver", club.now + DAY)
    await dropped(club, member, "gold", club.now + 3 * DAY)
    assert (await read(club, right, now=club.now + 30 * DAY)).state == "GRANTED"
    await dropped(club, member, "silver", club.now + 40 * DAY)
    assert (await read(club, right, now=club.now + 60 * DAY)).state == "REVOKED"


async def test_the_term_ends_a_right_that_a_drop_would_have_kept_longer(club: Club) -> None:
    perk = await access_perk(club, term_days=2, on_tier_drop="KEEP_UNTIL", keep_days=30)
    member = await club.member(club.partners[perk.partner_id])
    right = await granted(club, perk, member)
    await dropped(club, member, "member", club.now + DAY)
    assert (await read(club, right, now=club.now + 60 * DAY)).state == "LAPSED"


async def test_a_suspended_member_or_partner_uses_nothing(club: Club) -> None:
    perk = await access_perk(club)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    right, actor = await granted(club, perk, member), owner(club, perk)
    await club.sql("UPDATE member SET state = $2 WHERE id = $1", member.id, MemberState.SUSPENDED.value)
    assert (await use(club, right, actor)).code == "MEMBERSHIP_SUSPENDED"
    await club.sql("UPDATE member SET state = $2 WHERE id = $1", member.id, MemberState.ACTIVE.value)
    await club.sql("UPDATE partner SET state = $2 WHERE id = $1", partner.id, PartnerState.SUSPENDED.value)
    assert (await use(club, right, actor)).code == "PARTNER_SUSPENDED"


async def test_a_paused_perk_keeps_its_rights(club: Club) -> None:
    perk = await access_perk(club)
    right = await granted(club, perk)
    await club.set_state(perk.id, PerkState.PAUSED)
    assert (await use(club, right, owner(club, perk))).code == "USED"


async def test_a_right_that_is_taken_away_is_not_available_and_taking_it_twice_is_refused(club: Club) -> None:
    perk = await access_perk(club)
    right, actor = await granted(club, perk), owner(club, perk)
    async with club.database.connection() as connection:
        assert await access.revoke_access(connection, right, " lost ", actor=actor, now=club.now) == "REVOKED"
        assert await access.revoke_access(connection, right, "lost", actor=STAFF, now=club.now) == "WRONG_STATE"
    found = await read(club, right)
    assert (found.state, found.ended_reason, found.ended_at) == ("REVOKED", "lost", club.now)
    assert (await use(club, right, actor)).code == "NOT_AVAILABLE"
    assert [entry for entry in await actions(club, right) if entry[0] == "access.revoked"] == [
        ("access.revoked", "DONE", []),
        ("access.revoked", "REFUSED", ["WRONG_STATE"]),
    ]


async def test_a_reversal_takes_the_right_with_it(club: Club) -> None:
    perk = await access_perk(club)
    member = await club.member(club.partners[perk.partner_id])
    right = await granted(club, perk, member)
    redemption = (await read(club, right)).redemption_id
    assert (await club.reverse(redemption, owner(club, perk), stock=Stock.RESTOCK)).code == "REVERSED"
    found = await read(club, right)
    assert (found.state, found.ended_reason) == ("REVOKED", "REVERSED")
    assert (await use(club, right, owner(club, perk))).code == "NOT_AVAILABLE"
    assert ("access.revoked", "DONE", ["REVERSED"]) in await actions(club, right)


async def test_a_use_is_one_statement(club: Club) -> None:
    perk = await access_perk(club)
    right = await granted(club, perk)
    statements: list[str] = []
    async with club.database.connection() as connection:
        with connection.query_logger(lambda record: statements.append(record.query)):
            await access.use_access(
                connection,
                grant_id=right,
                code=None,
                actor=owner(club, perk),
                key="one",
                fingerprint=b"",
                now=club.now,
            )
    assert len(statements) == 1


async def test_to_a_partner_a_tier_drop_shows_its_day_and_only_while_it_may_know(club: Club) -> None:
    perk = await access_perk(club, on_tier_drop="REVOKE", term_days=10)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    right, drop, later = await granted(club, perk, member), club.now + DAY, club.now + 2 * DAY
    await dropped(club, member, "member", drop)
    exact, shown = await read(club, right, now=later), await read(club, right, owner(club, perk), now=later)
    assert exact.ended_at == drop
    day = drop.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert (shown.state, shown.ended_at) == ("REVOKED", max(day, club.now))
    await club.withdraw(member, partner)
    hidden = await read(club, right, owner(club, perk), now=later)
    assert (hidden.state, hidden.ended_at, hidden.ended_reason, hidden.tier) == ("GRANTED", None, None, None)
    over = await read(club, right, owner(club, perk), now=club.now + 30 * DAY)
    assert (over.state, over.ended_reason) == ("LAPSED", "TERM_OVER")
    async with club.database.connection() as connection:
        assert await access.revoke_access(connection, right, "x", actor=STAFF, now=later) == "WRONG_STATE"
        revoked = await access.revoke_access(connection, right, "gone", actor=owner(club, perk), now=later)
    assert revoked == "REVOKED"
    assert (await read(club, right, owner(club, perk), now=later)).ended_reason == "gone"


@pytest.fixture
def own(empty_database: Database, club: Club) -> Club:
    """A club in a database of the test's own."""
    return Club(empty_database, club.programme, club.keys, club.now)


async def test_the_worker_settles_what_is_over_and_nothing_else(own: Club) -> None:
    partner = await own.partner()
    past = own.now - 40 * DAY
    kept = await own.perk(partner, kind=PerkKind.ACCESS, settings={"term_days": 90})
    short = await own.perk(partner, kind=PerkKind.ACCESS, settings={"term_days": 5})
    strict = await own.perk(partner, kind=PerkKind.ACCESS, settings={"on_tier_drop": "REVOKE"})
    member, fallen = await own.member(partner), await own.member(partner)
    for one in (member, fallen):
        await own.sql("UPDATE consent SET granted_at = $2 WHERE member_id = $1", one.id, past - DAY)
    rights = [
        await granted(own, perk, one, now=past)
        for perk, one in ((kept, member), (short, member), (strict, member), (strict, fallen))
    ]
    await own.assign(fallen, "member", now=own.now - DAY)
    stop = asyncio.Event()

    async def look() -> None:
        rows = await own.sql("SELECT count(*) AS ended FROM access_grant WHERE state <> 'GRANTED'")
        if rows[0]["ended"] == 2:
            stop.set()

    worker = asyncio.create_task(keep_settling(own.database, lambda: own.now, stop))
    async with asyncio.timeout(10):
        await keep_doing("look", look, 0.02, stop)
    await worker
    states = {row["id"]: row["state"] for row in await own.sql("SELECT id, state FROM access_grant")}
    assert [states[right] for right in rights] == ["GRANTED", "LAPSED", "GRANTED", "REVOKED"]
    assert await own.entries(short, "access.lapsed") == [("DONE", ["TERM_OVER"])]
    assert await own.entries(strict, "access.revoked") == [("DONE", ["TIER_DROP"])]


async def test_the_worker_goes_round_all_rights_a_few_at_a_time(own: Club) -> None:
    perk = await own.perk(kind=PerkKind.ACCESS, settings={"on_tier_drop": "REVOKE"})
    members = [await own.member(own.partners[perk.partner_id]) for _ in range(3)]
    for member in members:
        await granted(own, perk, member)
    for member in members[1:]:
        await own.assign(member, "member", now=own.now + DAY)
    after, ended = access.FIRST_ID, []
    async with own.database.connection() as connection:
        for _ in range(3):
            after, one = await access.follow_tiers(connection, after, own.now + 2 * DAY, limit=2)
            ended.append(one)
    assert ended == [1, 1, 0]


ZONES = ("UTC", "America/Havana", "Atlantic/Azores", "America/Sao_Paulo", "Asia/Beirut", "Australia/Lord_Howe")


@given(days=st.lists(st.dates(date(2010, 1, 1), date(2025, 12, 31)), min_size=20, max_size=20))
async def test_a_day_starts_in_sql_when_it_starts_in_python(database: Database, days: list[date]) -> None:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT d, z, start_of_day(d, z) AS starts FROM unnest($1::date[]) AS d, unnest($2::text[]) AS z",
            days,
            ZONES,
        )
    assert [row["starts"] for row in rows] == [start_of_day(row["d"], row["z"]) for row in rows]


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/Havana", date(2022, 11, 6)),  # midnight comes twice
        ("Atlantic/Azores", date(2023, 10, 29)),
        ("America/Sao_Paulo", date(2018, 11, 4)),  # midnight is skipped
        ("Asia/Beirut", date(2022, 3, 27)),
    ],
)
async def test_a_midnight_that_comes_twice_or_never_starts_its_day_once(
    database: Database, zone: str, day: date
) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT start_of_day($1, $2)", day, zone) == start_of_day(day, zone)
