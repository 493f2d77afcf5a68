"""Consents and the names they make: one live consent a partner, an alias for good, and every change noticed."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.database import Database
from partners import consents, members, tables
from partners.actors import SYSTEM
from partners.errors import BadInput, Conflict, NotFound
from partners.references import Asker, MemberRef
from tests.factories import Club

TICK = timedelta(microseconds=1)


async def grant(
    club: Club,
    member: UUID,
    partner: UUID,
    *,
    purpose: str = "perks",
    ends: datetime | None = None,
    now: datetime | None = None,
) -> tuple[tables.Consent, str]:
    async with club.database.sessions.begin() as session:
        return await consents.grant_consent(
            session,
            MemberRef(id=member),
            partner,
            purpose=purpose,
            expires_at=ends,
            pairwise_key=club.keys.pairwise,
            actor=SYSTEM,
            now=now or club.now,
        )


async def version_of(club: Club, member: tables.Member) -> int:
    [row] = await club.sql("SELECT version FROM member WHERE id = $1", member.id)
    return int(row["version"])


async def rows_of(club: Club, member: tables.Member) -> list[tuple[str, datetime | None]]:
    found = await club.sql(
        "SELECT state, withdrawn_at FROM consent WHERE member_id = $1 ORDER BY granted_at, state DESC", member.id
    )
    return [(row["state"], row["withdrawn_at"]) for row in found]


async def test_granting_again_renews_the_same_consent_and_keeps_the_alias(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    first, alias = await grant(club, member.id, partner.id)
    ends = club.now + timedelta(days=1)
    again, same = await grant(club, member.id, partner.id, purpose="  samples  ", ends=ends)
    assert (again.id, same) == (first.id, alias)
    assert (again.purpose, again.expires_at) == ("samples", ends)
    assert await rows_of(club, member) == [("GRANTED", None)]


async def test_granting_after_the_end_makes_a_new_consent_and_keeps_the_alias(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    ends = club.now + timedelta(days=1)
    first, alias = await grant(club, member.id, partner.id, ends=ends)
    again, same = await grant(club, member.id, partner.id, now=ends)
    assert again.id != first.id
    assert same == alias
    assert await rows_of(club, member) == [("WITHDRAWN", ends), ("GRANTED", None)]


async def test_withdrawing_ends_it_once_and_granting_brings_the_same_alias_back(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    _, alias = await grant(club, member.id, partner.id)
    await club.withdraw(member, partner)
    with pytest.raises(NotFound):
        await club.withdraw(member, partner)
    assert (await grant(club, member.id, partner.id, now=club.now + TICK))[1] == alias
    assert await rows_of(club, member) == [("WITHDRAWN", club.now), ("GRANTED", None)]


async def test_every_change_is_noticed_and_recorded(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    before = await version_of(club, member)
    await grant(club, member.id, partner.id)
    await grant(club, member.id, partner.id)
    await club.withdraw(member, partner)
    assert await version_of(club, member) == before + 3
    entries = await club.sql(
        "SELECT action FROM audit_entry WHERE member_id = $1 AND action LIKE 'consent.%' AND partner_id = $2",
        member.id,
        partner.id,
    )
    assert sorted(row["action"] for row in entries) == ["consent.granted", "consent.granted", "consent.withdrawn"]


async def test_ten_grants_at_once_leave_one_consent(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    before = await version_of(club, member)
    granted = await asyncio.gather(*(grant(club, member.id, partner.id) for _ in range(10)))
    assert len({alias for _, alias in granted}) == 1
    assert await rows_of(club, member) == [("GRANTED", None)]
    assert await version_of(club, member) == before + 10


async def test_a_member_read_earlier_in_the_session_is_read_again_under_the_lock(
    club: Club, database: Database
) -> None:
    member, partner = await club.member(), await club.partner()
    before = await version_of(club, member)
    async with database.sessions.begin() as session:
        read = await members.find_member(session, MemberRef(id=member.id))
        assert read is not None
        await grant(club, member.id, partner.id)
        locked = await members.lock_member(session, MemberRef(id=member.id))
        assert locked.version == before + 1


async def test_members_are_known_to_two_partners_by_two_names(club: Club) -> None:
    one, other = await club.partner(), await club.partner()
    member = await club.member()
    aliases = [(await grant(club, member.id, partner.id))[1] for partner in (one, other)]
    assert len(set(aliases)) == 2
    async with club.database.sessions() as session:
        for partner, alias in zip((one, other), aliases, strict=True):
            asker = Asker(partner.id, "member.tier:read")
            seen = await members.view_member(session, MemberRef(alias=alias), asker=asker, now=club.now)
            assert seen is not None
            assert seen.id == member.id
        stranger = Asker(other.id, "member.tier:read")
        crossed = await members.view_member(session, MemberRef(alias=aliases[0]), asker=stranger, now=club.now)
        assert crossed is None


async def test_a_members_consents_are_listed_with_their_partners(club: Club) -> None:
    member = await club.member()
    partners = [await club.partner() for _ in range(3)]
    for place, partner in enumerate(partners):
        await grant(club, member.id, partner.id, now=club.now + place * TICK)
    await club.withdraw(member, partners[1])
    async with club.database.sessions() as session:
        listed = await consents.list_consents(session, member.id, club.now)
    assert [partner.id for _, partner in listed] == [partners[0].id, partners[2].id]


async def test_an_impossible_consent_is_refused(club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    for purpose in ("", "   ", "x" * 201):
        with pytest.raises(BadInput, match="purpose"):
            await grant(club, member.id, partner.id, purpose=purpose)
    with pytest.raises(BadInput, match="expiresAt"):
        await grant(club, member.id, partner.id, ends=club.now)
    with pytest.raises(NotFound):
        await grant(club, uuid4(), partner.id)
    with pytest.raises(NotFound):
        await grant(club, member.id, uuid4())
    assert await rows_of(club, member) == []


async def test_an_impossible_member_is_refused_and_a_second_one_of_a_name_too(club: Club, database: Database) -> None:
    member = await club.member()
    wrong: list[dict[str, Any]] = [
        {"external_id": ""},
        {"external_id": " "},
        {"external_id": "x" * 201},
        {"external_id": "a\x00b"},
        {"market": "ch"},
        {"market": "CHE"},
        {"joined_at": club.now + TICK},
    ]
    for given in wrong:
        values: dict[str, Any] = {"external_id": uuid4().hex, "market": "CH", "joined_at": None} | given
        with pytest.raises(BadInput):
            async with database.sessions.begin() as session:
                await members.enrol_member(session, **values, actor=SYSTEM, now=club.now)
    with pytest.raises(Conflict):
        async with database.sessions.begin() as session:
            await members.enrol_member(
                session, external_id=member.external_id, market=None, joined_at=None, actor=SYSTEM, now=club.now
            )
