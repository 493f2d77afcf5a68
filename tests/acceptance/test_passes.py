"""Passes: made by the member's app, shown at a counter, good once and not for long."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from partners import tables
from partners.codes import code_hash
from partners.passes import LIVE_PASSES_MAX, PassHolder, create_pass, use_pass
from tests.api import Answer, Api
from tests.factories import Club

CREATE = """mutation ($endsOthers: Boolean! = false) {
  createPass(input: {endsOthers: $endsOthers}) { pass { code expiresAt nextAt } userErrors { code } } }"""


async def pass_of(club: Club, member: tables.Member, *, now: datetime | None = None, ends_others: bool = False) -> str:
    """The code of a new pass."""
    async with club.database.sessions.begin() as session:
        shown = await create_pass(session, member.id, ends_others=ends_others, now=now or club.now)
    assert shown is not None
    return shown.code


async def used(club: Club, code: str, partner: tables.Partner, *, now: datetime | None = None) -> PassHolder | None:
    """The pass shown at the partner."""
    async with club.database.sessions.begin() as session:
        return await use_pass(session, code, partner.id, now or club.now)


async def suspend(club: Club, member: tables.Member) -> None:
    await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", member.id)


async def test_a_member_gets_a_code_for_a_minute_and_is_told_when_to_ask_for_the_next(api: Api, club: Club) -> None:
    answer = await api.member(await club.member(), "me:claim")(CREATE)
    made: dict[str, Any] = answer.data["createPass"]
    assert made["userErrors"] == []
    assert [len(part) for part in made["pass"]["code"].split("-")] == [4, 4, 4, 2]
    after = [datetime.fromisoformat(made["pass"][name]) - club.now for name in ("nextAt", "expiresAt")]
    assert after == [timedelta(seconds=30), timedelta(seconds=60)]


async def test_only_a_hash_of_the_code_is_kept(api: Api, club: Club) -> None:
    member = await club.member()
    code = (await api.member(member)(CREATE)).data["createPass"]["pass"]["code"]
    [row] = await club.sql("SELECT * FROM pass WHERE member_id = $1", member.id)
    assert row["hash"] == code_hash(code)
    assert code.replace("-", "") not in "".join(str(value) for value in row.values()).upper()


async def test_a_suspended_member_gets_none(api: Api, club: Club) -> None:
    member = await club.member()
    await suspend(club, member)
    made = (await api.member(member)(CREATE)).data["createPass"]
    assert made == {"pass": None, "userErrors": [{"code": "MEMBERSHIP_SUSPENDED"}]}
    assert await club.sql("SELECT FROM pass WHERE member_id = $1", member.id) == []


async def test_passes_are_for_members_who_may_claim(api: Api, club: Club) -> None:
    member, partner = await club.member(), await club.partner()
    answers: list[Answer] = [await voice(CREATE) for voice in (api.partner(partner), api.staff(), api.anonymous())]
    assert [answer.code for answer in answers] == ["FORBIDDEN", "FORBIDDEN", "UNAUTHENTICATED"]
    assert (await api.member(member, "me:read")(CREATE)).error["extensions"]["missingScopes"] == ["me:claim"]


async def test_a_pass_says_who_shows_it_and_what_they_let_the_partner_do(club: Club) -> None:
    partner = await club.partner()
    member = await club.member()
    alias = await club.consent(member, partner)
    holder = await used(club, (await pass_of(club, member)).lower().replace("-", " "), partner)
    assert holder is not None
    [consent] = await club.sql("SELECT id, scopes FROM consent WHERE member_id = $1", member.id)
    assert holder == PassHolder(member.id, alias, consent["id"], frozenset(consent["scopes"]))


async def test_of_a_members_unused_passes_the_newest_five_are_good(club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    made = [await pass_of(club, member, now=club.now + timedelta(seconds=second)) for second in range(8)]
    later = club.now + timedelta(seconds=10)
    good = [await used(club, code, partner, now=later) is not None for code in made]
    assert good == [False] * 3 + [True] * LIVE_PASSES_MAX


async def test_a_pass_may_end_all_the_others(club: Club) -> None:
    partner = await club.partner()
    member, another = await club.member(partner), await club.member(partner)
    others, untouched = [await pass_of(club, member) for _ in range(3)], await pass_of(club, another)
    alone = await pass_of(club, member, ends_others=True)
    assert [await used(club, code, partner) for code in others] == [None] * 3
    assert await used(club, alone, partner) is not None
    assert await used(club, untouched, partner) is not None


async def test_unknown_used_expired_suspended_and_unconsented_are_the_same_nothing(club: Club) -> None:
    partner, another = await club.partner(), await club.partner()
    member, stranger, gone = [await club.member(partner), await club.member(another), await club.member(partner)]
    once = await pass_of(club, member)
    assert await used(club, once, partner) is not None
    suspended = await club.member(partner)
    of_suspended = await pass_of(club, suspended)
    await suspend(club, suspended)
    await club.withdraw(gone, partner)
    expired = await pass_of(club, member)
    assert await used(club, once, partner) is None
    assert await used(club, "0000-0000-0000-00", partner) is None
    assert await used(club, "", partner) is None
    assert await used(club, expired, partner, now=club.now + timedelta(seconds=60)) is None
    assert await used(club, of_suspended, partner) is None
    assert await used(club, await pass_of(club, stranger), partner) is None
    assert await used(club, await pass_of(club, gone), partner) is None


async def test_a_consent_whose_time_is_over_is_none(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    await club.consent(member, partner, expires_at=club.now + timedelta(seconds=5))
    code = await pass_of(club, member)
    assert await used(club, code, partner, now=club.now + timedelta(seconds=5)) is None


async def test_a_pass_that_was_shown_where_there_is_no_consent_is_used_up(club: Club) -> None:
    partner, another = await club.partner(), await club.partner()
    code = await pass_of(club, await club.member(partner))
    assert await used(club, code, another) is None
    assert await used(club, code, partner) is None


async def test_one_pass_at_fifty_tills_at_once_is_good_at_one(club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    code = await pass_of(club, member)
    found = await club.at_once(f"pass WHERE member_id = '{member.id}'", (used(club, code, partner) for _ in range(50)))
    assert sum(holder is not None for holder in found) == 1


@pytest.mark.parametrize("round", range(5))
async def test_showing_renewing_and_withdrawing_at_once_never_lock_each_other_out(club: Club, round: int) -> None:
    """Each waits for the others' rows at most in one order: a deadlock would raise."""
    partner = await club.partner()
    member = await club.member(partner)
    codes = [await pass_of(club, member) for _ in range(4)]

    async def shown(code: str) -> PassHolder | None:
        async with club.database.sessions.begin() as session:
            holder = await use_pass(session, code, partner.id, club.now)
            await asyncio.sleep(0.01 * round)
            # What an approval does next: a row that refers to the member.
            session.add(
                tables.Pass(member_id=member.id, hash=code_hash(code + "x"), created_at=club.now, expires_at=club.now)
            )
        return holder

    async def renewed() -> None:
        await pass_of(club, member, ends_others=True)

    *found, _, _, _ = await asyncio.gather(
        *(shown(code) for code in codes), renewed(), club.withdraw(member, partner), renewed()
    )
    assert len(found) == 4
    live = await club.sql(
        "SELECT FROM pass WHERE member_id = $1 AND used_at IS NULL AND expires_at > $2", member.id, club.now
    )
    assert 1 <= len(live) <= 2 + len(codes)
