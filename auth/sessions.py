"""Who is signed in with a browser: a random cookie of which only the hash is kept, and marks that no other page has."""

import hmac
import re
import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import CallerKind
from auth.tables import BrowserSession
from partners.keys import derive
from partners.tables import Member, MemberState, Partner, PartnerState
from partners.values import value

SESSION_LASTS = timedelta(hours=8)
SECRET_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@value
class SignedIn:
    """Somebody as a sign-in has found them: `subject` is a member's id, or who it is at a partner or among staff;
    `scopes` bound what staff may ever be given."""

    kind: CallerKind
    subject: str
    name: str
    member_id: UUID | None = None
    partner_id: UUID | None = None
    scopes: frozenset[str] = frozenset()


def new_secret() -> str:
    """256 random bits as a cookie holds them."""
    return secrets.token_urlsafe(SECRET_BYTES)


def is_secret(text: str | None) -> bool:
    """Whether a cookie's value can be one of ours."""
    return text is not None and _SECRET.fullmatch(text) is not None


async def start_session(session: AsyncSession, who: SignedIn, now: datetime, *, former: str | None = None) -> str:
    """A session under a new secret, which is returned once; the browser's `former` one ends (session fixation)."""
    if former is not None:
        await end_session(session, former)
    secret = new_secret()
    session.add(
        BrowserSession(
            hash=_hash(secret),
            kind=who.kind,
            subject=who.subject,
            name=who.name,
            member_id=who.member_id,
            partner_id=who.partner_id,
            scopes=sorted(who.scopes),
            created_at=now,
            expires_at=now + SESSION_LASTS,
        )
    )
    await session.flush()
    return secret


async def find_session(session: AsyncSession, secret: str | None, now: datetime) -> BrowserSession | None:
    """The live session of that secret: of a member or a partner only while they are active."""
    if secret is None or not is_secret(secret):
        return None
    found: BrowserSession | None = await session.scalar(
        sa.select(BrowserSession)
        .outerjoin(Member, col(Member.id) == col(BrowserSession.member_id))
        .outerjoin(Partner, col(Partner.id) == col(BrowserSession.partner_id))
        .where(col(BrowserSession.hash) == _hash(secret), col(BrowserSession.expires_at) > now)
        .where((col(BrowserSession.kind) != CallerKind.MEMBER) | (col(Member.state) == MemberState.ACTIVE))
        .where((col(BrowserSession.kind) != CallerKind.PARTNER) | (col(Partner.state) == PartnerState.ACTIVE))
    )
    return found


async def end_session(session: AsyncSession, secret: str) -> None:
    """Signs out; safe to repeat."""
    await session.execute(sa.delete(BrowserSession).where(col(BrowserSession.hash) == _hash(secret)))


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


class Marks:
    """HMAC-SHA-256 over a browser's cookie and what a mark is for: shown inside a page, it proves that whoever sends it
    back has read that page with that cookie. A foreign page has neither."""

    def __init__(self, secret: bytes) -> None:
        self._key = derive(secret, b"browser-marks/1")

    def make(self, cookie: str, purpose: str) -> str:
        """The mark, as 64 hex digits; `cookie` is a secret of ours and so holds no NUL."""
        return hmac.new(self._key, f"{cookie}\0{purpose}".encode(), sha256).hexdigest()

    def holds(self, mark: str, cookie: str, purpose: str) -> bool:
        """Whether it is that mark, in constant time."""
        return hmac.compare_digest(self.make(cookie, purpose).encode(), mark.encode())
