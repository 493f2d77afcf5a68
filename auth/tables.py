"""What the authorization server keeps: partners' clients, the hashes of their secrets, and the signing keys."""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from partners.tables.columns import (
    UUID,
    datetime,
    digest,
    document,
    identity,
    moment,
    one_of,
    reference,
    state,
    text,
    texts,
)


class ClientState(StrEnum):
    """A disabled client keeps its name and gets no token."""

    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class Client(SQLModel, table=True):
    """One machine or application of a partner; `id` is its public `client_id` (RFC 6749 section 2.2)."""

    __tablename__ = "client"
    __table_args__ = (one_of("state", ClientState), sa.Index("ix_client_partner", "partner_id", "id"))

    id: str = text(primary_key=True)
    partner_id: UUID = reference("partner.id")
    name: str = text()
    scopes: list[str] = texts()
    state: str = state(ClientState.ACTIVE)
    created_at: datetime = moment()

    def check_grant_type(self, grant_type: str) -> bool:
        """Authlib's question; a partner's client is a server, which acts for itself alone."""
        return grant_type == "client_credentials"


class ClientSecret(SQLModel, table=True):
    """The SHA-256 of one secret; a client may have several, so that one can be replaced without a pause.

    A plain hash suffices because the secret is 256 random bits, which nobody can guess at any speed.
    """

    __tablename__ = "client_secret"

    id: UUID = identity()
    client_id: str = reference("client.id", index=True, sa_type=sa.Text)
    hash: bytes = digest()
    created_at: datetime = moment()
    expires_at: datetime | None = moment(nullable=True, default=None)


class SigningKey(SQLModel, table=True):
    """A key that signs access tokens; the index allows one current key per algorithm, so that no race can make two.

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
    retired_at: datetime | None = moment(nullable=True, default=None)
