"""Claims that come too fast: a review is opened once, keeps the member out, and staff lift it."""

import asyncio
from datetime import timedelta

import pytest

from partners import tables
from partners.errors import BadInput, NotFound
from partners.facts import RefusalCode
from partners.reviews import came_too_fast, close_review, find_review, list_reviews, open_review
from partners.tables import ReviewState
from partners.tables.columns import new_id
from tests.factories import STAFF, Club

HOUR = timedelta(hours=1)


async def fast(club: Club, claims: int = 2) -> tuple[tables.Perk, tables.Perk, tables.Member]:
    """A perk that allows two claims a day on all of its partner's, another one, and a member."""
    watched = await club.perk(rules=[{"kind": "velocity", "claims": claims, "hours": 24}])
    partner = club.partners[watched.partner_id]
    return watched, await club.perk(partner), await club.member(partner)


async def opened(club: Club, member: tables.Member, perk: tables.Perk) -> bool:
    async with club.database.sessions.begin() as session:
        return await open_review(session, member.id, perk.partner_id, perk.id, club.now) is not None


async def close(
    club: Club, review: tables.Review, *, cleared: bool, note: str | None = None
) -> tuple[tables.Review, RefusalCode | None]:
    async with club.database.sessions.begin() as session:
        return await close_review(session, review.id, cleared=cleared, note=note, actor=STAFF, now=club.now)


async def review_of(club: Club, member: tables.Member) -> tables.Review:
    async with club.database.sessions() as session:
        [review] = await list_reviews(session, member_id=member.id, first=10, after=None)
    return review


async def test_claims_on_all_of_a_partners_perks_count_whatever_became_of_them(club: Club) -> None:
    watched, other, member = await fast(club)
    await club.release(await club.hold(member, other, now=club.now - 23 * HOUR))
    await club.redeemed(await club.hold(member, other))
    decision = await club.decision(member, watched)
    assert [(one.code, one.rule, one.eligible_again_at) for one in decision.refusals] == [
        ("UNDER_REVIEW", "velocity", None)
    ]
    assert came_too_fast(decision)
    assert (await club.claim(member, watched)).reasons == ("UNDER_REVIEW",)
    assert decision.valid_until == club.now + HOUR
    assert (await club.decision(member, watched, now=club.now + HOUR)).eligible


async def test_claims_on_another_partners_perks_do_not_count(club: Club) -> None:
    watched, _, member = await fast(club)
    elsewhere = await club.perk()
    await club.consent(member, club.partners[elsewhere.partner_id])
    for _ in range(3):
        await club.release(await club.hold(member, elsewhere))
    assert (await club.decision(member, watched)).eligible


async def test_an_open_review_keeps_the_member_from_all_perks_of_the_partner_and_no_others(club: Club) -> None:
    watched, other, member = await fast(club)
    elsewhere = await club.perk()
    await club.consent(member, club.partners[elsewhere.partner_id])
    early = await club.claim_of(member, other)
    assert await opened(club, member, watched)
    for perk in (watched, other):
        decision = await club.decision(member, perk)
        assert [(one.code, one.rule) for one in decision.refusals] == [("UNDER_REVIEW", "review")]
        assert not came_too_fast(decision)
    assert (await club.decision(member, elsewhere)).eligible
    [claimed] = await club.claim_all([early])
    assert claimed.outcome == "STALE"


async def test_a_review_is_opened_once_however_often_and_at_once(club: Club) -> None:
    watched, other, member = await fast(club)
    answers = await asyncio.gather(*(opened(club, member, perk) for perk in [watched, other] * 10))
    assert sum(answers) == 1
    assert not await opened(club, member, watched)
    [row] = await club.sql("SELECT reviews, version FROM member WHERE id = $1", member.id)
    assert list(row["reviews"]) == [watched.partner_id]
    [entry] = await club.sql(
        "SELECT partner_id, actor_kind FROM audit_entry WHERE member_id = $1 AND action = 'review.opened'", member.id
    )
    assert tuple(entry) == (watched.partner_id, "system")


async def test_what_is_cleared_lets_the_member_claim_and_earlier_claims_no_longer_count(club: Club) -> None:
    watched, other, member = await fast(club)
    for hours in (3, 2):
        await club.hold(member, other, now=club.now - hours * HOUR)
    assert await opened(club, member, watched)
    review, refused = await close(club, await review_of(club, member), cleared=True, note=" a wedding ")
    assert (refused, review.state, review.closed_by, review.note) == (None, "CLEARED", "desk", "a wedding")
    assert (await club.decision(member, watched)).eligible
    later = club.now + HOUR
    await club.hold(member, watched, now=later)
    await club.hold(member, other, now=later)
    decision = await club.decision(member, watched, now=later)
    assert came_too_fast(decision)
    assert await opened(club, member, watched)


async def test_what_is_upheld_stays_until_it_is_cleared_after_all(club: Club) -> None:
    watched, _, member = await fast(club)
    assert await opened(club, member, watched)
    review, refused = await close(club, await review_of(club, member), cleared=False)
    assert (refused, review.state) == (None, "UPHELD")
    assert [one.code for one in (await club.decision(member, watched)).refusals] == ["UNDER_REVIEW"]
    assert not await opened(club, member, watched)
    assert (await close(club, review, cleared=False))[1] is RefusalCode.WRONG_STATE
    assert (await close(club, review, cleared=True))[1] is None
    assert (await club.decision(member, watched)).eligible
    for cleared in (True, False):
        again, refused = await close(club, review, cleared=cleared)
        assert (refused, again.state) == ("WRONG_STATE", "CLEARED")
    told = await club.sql(
        "SELECT action, outcome, reasons FROM audit_entry WHERE member_id = $1 AND action LIKE 'review.%' ORDER BY id",
        member.id,
    )
    assert [tuple(row) for row in told] == [
        ("review.opened", "DONE", []),
        ("review.upheld", "DONE", []),
        ("review.upheld", "REFUSED", ["WRONG_STATE"]),
        ("review.cleared", "DONE", []),
        ("review.cleared", "REFUSED", ["WRONG_STATE"]),
        ("review.upheld", "REFUSED", ["WRONG_STATE"]),
    ]


async def test_two_of_staff_close_it_at_once_and_one_of_them_is_told(club: Club) -> None:
    watched, _, member = await fast(club)
    assert await opened(club, member, watched)
    review = await review_of(club, member)
    answers = await club.at_once(
        f"review WHERE id = '{review.id}'", [close(club, review, cleared=True) for _ in range(5)]
    )
    assert sorted(str(refused) for _, refused in answers) == ["None"] + ["WRONG_STATE"] * 4


async def test_reviews_are_listed_newest_first_by_what_is_asked(club: Club) -> None:
    watched, other, member = await fast(club)
    another = await club.member(club.partners[watched.partner_id])
    assert await opened(club, member, watched)
    assert await opened(club, another, other)
    first = await review_of(club, member)
    await close(club, first, cleared=True)
    async with club.database.sessions() as session:
        both = await list_reviews(session, partner_id=watched.partner_id, first=10, after=None)
        opens = await list_reviews(session, state=ReviewState.OPEN, partner_id=watched.partner_id, first=10, after=None)
        rest = await list_reviews(session, partner_id=watched.partner_id, first=10, after=both[0].id)
        assert await find_review(session, first.id) is not None
    assert [one.member_id for one in both] == [another.id, member.id]
    assert [one.member_id for one in opens] == [another.id]
    assert [one.id for one in rest] == [first.id]


async def test_a_review_that_is_not_there_and_a_note_that_is_too_long(club: Club) -> None:
    watched, _, member = await fast(club)
    assert await opened(club, member, watched)
    review = await review_of(club, member)
    for note in ("", "  ", "n" * 501):
        with pytest.raises(BadInput):
            await close(club, review, cleared=True, note=note)
    review.id = new_id()
    with pytest.raises(NotFound):
        await close(club, review, cleared=True)
