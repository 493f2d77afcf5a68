"""The keys that sign access tokens, and the tokens that are dead before their time."""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import datetime, digest, document, moment, one_of, state, text


class SigningKey(SQLModel, table=True):
    """A key that signs access tokens; the index allows one next key per algorithm, so that no race can make two.

    It is published at once and signs from `active_at` on, so that whoever caches our key set knows it by then.
    `retired_at` is when it stopped signing; it still verifies what it signed before (see auth/keys.py).
    """

    __tablename__ = "signing_key"
    __table_args__ = (
        sa.Index("uq_signing_key_current", "algorithm", unique=True, postgresql_where=sa.text("retired_at IS NULL")),
    )

    kid: str = text(primary_key=True)
    algorithm: str = text()
    public_jwk: dict[str, Any] = document()
    private_key: bytes = digest()
    created_at: datetime = moment()
    active_at: datetime = moment()
    retired_at: datetime | None = moment(nullable=True, default=None)


class Denied(StrEnum):
    """What a revocation takes the tokens of."""

    TOKEN = "token"  # noqa: S105
    APPROVAL = "approval"
    CLIENT = "client"


class Revocation(SQLModel, table=True):
    """Tokens that are dead before they expire: one `jti`, all of an approval, or a client's below a `version`.

    The row is the truth and its own outbox: it commits with what it follows from, and is announced to all processes
    afterwards (`announced`). It may go after `expires_at`, when no such token can be alive.
    """

    __tablename__ = "revocation"
    __table_args__ = (
        one_of("kind", Denied),
        sa.PrimaryKeyConstraint("kind", "key", "version"),
        sa.Index("ix_revocation_due", "expires_at"),
        sa.Index("ix_revocation_waiting", "at", postgresql_where=sa.text("NOT announced")),
    )

    kind: str = state()
    key: str = text()
    version: int = Field(default=1)
    at: datetime = moment()
    expires_at: datetime = moment()
    announced: bool = Field(default=False)
