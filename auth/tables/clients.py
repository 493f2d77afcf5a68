"""The machines and applications that ask for tokens, and how each proves who it is."""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field, SQLModel

from auth.caller import ADMITTED, CallerKind
from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, reference, state, text, texts


class ClientState(StrEnum):
    """A disabled client keeps its name and gets no token."""

    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class ClientAuthentication(StrEnum):
    """How a client proves who it is: a shared secret, a signed assertion (RFC 7523), or not at all (public)."""

    SECRET = "SECRET"  # noqa: S105
    KEY = "KEY"
    NONE = "NONE"


class GrantType(StrEnum):
    """The ways to a token that a client may be allowed, in the words of the RFCs."""

    CLIENT_CREDENTIALS = "client_credentials"
    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105
    DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
    TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105


class Client(SQLModel, table=True):
    """One machine or application; `id` is its public `client_id` (RFC 6749 section 2.2).

    A partner's has a `partner_id`; the operator's own apps speak for members or staff and have none. `version` rises
    with every change that takes rights away: tokens carry the version that they were minted under.
    `purpose` is what a member is told that the partner wants to know it for.
    """

    __tablename__ = "client"
    __table_args__ = (
        one_of("state", ClientState),
        one_of("kind", ADMITTED),
        one_of("authentication", ClientAuthentication),
        sa.CheckConstraint("(kind = 'partner') = (partner_id IS NOT NULL)", name="partner_of_kind"),
        sa.Index("ix_client_partner", "partner_id", "id"),
    )

    id: str = text(primary_key=True)
    partner_id: UUID | None = reference("partner.id", default=None, nullable=True)
    kind: str = state(CallerKind.PARTNER)
    name: str = text()
    scopes: list[str] = texts()
    grant_types: list[str] = texts()
    authentication: str = state(ClientAuthentication.SECRET)
    public_keys: dict[str, Any] | None = Field(default=None, sa_type=pg.JSONB)
    redirect_uris: list[str] = texts()
    requires_pushed: bool = Field(default=False)
    requires_dpop: bool = Field(default=False)
    purpose: str = text(default="perks")
    state: str = state(ClientState.ACTIVE)
    version: int = Field(default=1)
    created_at: datetime = moment()

    def check_grant_type(self, grant_type: str) -> bool:
        """Authlib's question (RFC 6749 section 5.2, `unauthorized_client`)."""
        return grant_type in self.grant_types


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
