"""Persons who sign in with a browser."""

import sqlalchemy as sa
from sqlmodel import SQLModel

from auth.caller import ADMITTED
from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, reference, state, text, texts


class Person(SQLModel, table=True):
    """Somebody whom the built-in sign-in lets in: for development and the demo, never in production."""

    __tablename__ = "person"
    __table_args__ = (one_of("kind", ADMITTED),)

    handle: str = text(primary_key=True)
    name: str = text()
    kind: str = state()
    member_id: UUID | None = reference("member.id", default=None, nullable=True)
    partner_id: UUID | None = reference("partner.id", default=None, nullable=True)
    scopes: list[str] = texts()


class BrowserSession(SQLModel, table=True):
    """A person who signed in with a browser: what the identity provider said of them, until it expires."""

    __tablename__ = "browser_session"
    __table_args__ = (
        one_of("kind", ADMITTED),
        sa.UniqueConstraint("hash"),
        sa.Index("ix_browser_session_due", "expires_at"),
    )

    id: UUID = identity()
    hash: bytes = digest()
    kind: str = state()
    subject: str = text()
    name: str = text()
    member_id: UUID | None = reference("member.id", default=None, nullable=True)
    partner_id: UUID | None = reference("partner.id", default=None, nullable=True)
    scopes: list[str] = texts()
    created_at: datetime = moment()
    expires_at: datetime = moment()
