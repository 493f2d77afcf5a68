"""Browser sessions on the real database: who is signed in, until when, and who is not any more."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlmodel import select

from auth.caller import CallerKind
from auth.people import find_person, keep_person, list_people, require_this_machine
from auth.sessions import SESSION_LASTS, Marks, SignedIn, end_session, find_session, is_secret, start_session
from auth.tables import BrowserSession
from partners.errors import BadInput
from partners.tables import MemberState, PartnerState
from tests.browsers import person_of
from tests.factories import Club

Sessions = async_sessionmaker[AsyncSession]
STAFF = SignedIn(CallerKind.STAFF, "desk", "The desk", scopes=frozenset({"audit:read"}))


async def started(sessions: Sessions, who: SignedIn, now: datetime, former: str | None = None) -> str:
    async with sessions.begin() as session:
        return await start_session(session, who, now, former=former)


async def found(sessions: Sessions, secret: str | None, now: datetime) -> BrowserSession | None:
    async with sessions() as session:
        return await find_session(session, secret, now)


async def test_a_session_is_found_by_its_secret_and_kept_only_as_a_hash(sessions: Sessions, now: datetime) -> None:
    secret = await started(sessions, STAFF, now)
    session = await found(sessions, secret, now)
    assert session is not None
    assert (session.kind, session.subject, session.name, session.scopes) == (
        "staff",
        "desk",
        "The desk",
        ["audit:read"],
    )
    assert is_secret(secret)
    async with sessions() as reading:
        rows = await reading.scalars(select(BrowserSession))
        assert all(secret.encode() not in row.hash and len(row.hash) == 32 for row in rows)


async def test_a_session_ends_after_eight_hours_however_it_is_used(sessions: Sessions, now: datetime) -> None:
    secret = await started(sessions, STAFF, now)
    last = now + SESSION_LASTS - timedelta(seconds=1)
    assert await found(sessions, secret, last) is not None
    assert await found(sessions, secret, now + SESSION_LASTS) is None


@pytest.mark.parametrize("wrong", [None, "", "short", "x" * 43, "é" * 43, "a" * 42 + "\0"])
async def test_no_other_text_finds_a_session(sessions: Sessions, now: datetime, wrong: str | None) -> None:
    await started(sessions, STAFF, now)
    assert await found(sessions, wrong, now) is None


async def test_every_sign_in_has_a_new_secret_and_ends_the_browsers_former_session(
    sessions: Sessions, now: datetime
) -> None:
    first = await started(sessions, STAFF, now)
    second = await started(sessions, STAFF, now, former=first)
    assert first != second
    assert await found(sessions, first, now) is None
    assert await found(sessions, second, now) is not None


async def test_signing_out_ends_the_session_and_can_be_repeated(sessions: Sessions, now: datetime) -> None:
    secret = await started(sessions, STAFF, now)
    for _ in range(2):
        async with sessions.begin() as session:
            await end_session(session, secret)
    assert await found(sessions, secret, now) is None


async def test_a_suspended_member_is_signed_out(club: Club, sessions: Sessions, now: datetime) -> None:
    member = await club.member()
    who = SignedIn(CallerKind.MEMBER, str(member.id), "Ada", member_id=member.id)
    secret = await started(sessions, who, now)
    assert await found(sessions, secret, now) is not None
    await club.sql("UPDATE member SET state = $2 WHERE id = $1", member.id, MemberState.SUSPENDED)
    assert await found(sessions, secret, now) is None


async def test_a_suspended_partners_administrator_is_signed_out(club: Club, sessions: Sessions, now: datetime) -> None:
    partner = await club.partner()
    secret = await started(sessions, SignedIn(CallerKind.PARTNER, "x", "Bo", partner_id=partner.id), now)
    assert await found(sessions, secret, now) is not None
    await club.sql("UPDATE partner SET state = $2 WHERE id = $1", partner.id, PartnerState.SUSPENDED)
    assert await found(sessions, secret, now) is None


async def test_a_suspended_member_is_nobody_to_the_built_in_sign_in(club: Club, sessions: Sessions) -> None:
    member = await club.member()
    handle = await person_of(club.database, member=member)
    async with sessions() as session:
        who = await find_person(session, handle)
        assert who is not None
        assert (who.kind, who.subject, who.member_id) == (CallerKind.MEMBER, str(member.id), member.id)
    await club.sql("UPDATE member SET state = $2 WHERE id = $1", member.id, MemberState.SUSPENDED)
    async with sessions() as session:
        assert await find_person(session, handle) is None
        assert handle not in {one.handle for one in await list_people(session)}


@pytest.mark.parametrize(
    ("handle", "name", "kind", "scope"),
    [
        ("", "Ada", CallerKind.STAFF, "audit:read"),
        ("a\0", "Ada", CallerKind.STAFF, "audit:read"),
        ("ada", " ", CallerKind.STAFF, "audit:read"),
        ("ada", "Ada", CallerKind.MEMBER, "me:read"),
        ("ada", "Ada", CallerKind.STAFF, "me:read"),
    ],
)
async def test_a_person_that_can_not_be_is_refused(
    sessions: Sessions, handle: str, name: str, kind: CallerKind, scope: str
) -> None:
    async with sessions() as session:
        with pytest.raises(BadInput):
            await keep_person(session, handle, name, kind, scopes=frozenset({scope}))


@pytest.mark.parametrize("address", ["https://perks.example", "http://192.0.2.7:8000", "http://127.0.0.1.example"])
def test_the_built_in_sign_in_is_refused_on_other_machines(address: str) -> None:
    with pytest.raises(BadInput, match="on this machine"):
        require_this_machine(address)
    for local in ("http://127.0.0.1:8000", "http://localhost", "https://[::1]:8443"):
        require_this_machine(local)


def test_a_mark_fits_one_cookie_and_one_purpose() -> None:
    marks, other = Marks(b"1" * 32), Marks(b"2" * 32)
    mark = marks.make("cookie", "form")
    assert marks.holds(mark, "cookie", "form")
    assert not marks.holds(mark, "cookie", "request:1")
    assert not marks.holds(mark, "cooki", "eform")
    assert not marks.holds("", "cookie", "form")
    assert not marks.holds("é", "cookie", "form")
    assert not other.holds(mark, "cookie", "form")
