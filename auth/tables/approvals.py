"""What persons approved and everything that hangs from it. No credential is kept, only SHA-256 of what is random."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from auth.caller import ADMITTED
from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, reference, state, text, texts


class ApprovalState(StrEnum):
    """Revoked for good, and every token that hangs from it with it."""

    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"


class Approval(SQLModel, table=True):
    """One person's yes to one client, from which its code, refresh tokens and access tokens hang.

    `subject` is the person who approved (a member's id, a partner's or staff's subject). For a token that speaks for
    a member at a partner, `member_id` and `consent_id` say for whom and by what leave; `place` names a point of sale.
    `dpop_jkt` binds everything below to one key (RFC 9449).
    """

    __tablename__ = "approval"
    __table_args__ = (
        one_of("state", ApprovalState),
        one_of("kind", ADMITTED),
        sa.Index("ix_approval_client", "client_id", "id"),
        sa.Index("ix_approval_member", "member_id", "id"),
        sa.Index("ix_approval_consent", "consent_id"),
        sa.Index("ix_approval_due", "expires_at"),
    )

    id: UUID = identity()
    client_id: str = reference("client.id", sa_type=sa.Text)
    kind: str = state()
    subject: str = text()
    partner_id: UUID | None = reference("partner.id", default=None, nullable=True)
    member_id: UUID | None = reference("member.id", default=None, nullable=True)
    consent_id: UUID | None = reference("consent.id", default=None, nullable=True)
    scopes: list[str] = texts()
    place: str | None = text(nullable=True, default=None)
    dpop_jkt: str | None = text(nullable=True, default=None)
    state: str = state(ApprovalState.ACTIVE)
    created_at: datetime = moment()
    expires_at: datetime = moment()
    revoked_at: datetime | None = moment(nullable=True, default=None)
    reason: str | None = text(nullable=True, default=None)


class AuthorizationRequest(SQLModel, table=True):
    """One on its way from push (RFC 9126) or first visit, over the person's yes, to its code.

    Each step happens once: `started_at` uses up the request_uri, `decided_at` the question, `code_used_at` the code.
    """

    __tablename__ = "authorization_request"
    __table_args__ = (
        sa.UniqueConstraint("request_hash"),
        sa.UniqueConstraint("code_hash"),
        sa.Index("ix_authorization_request_due", "expires_at"),
        sa.Index(
            "ix_authorization_request_approval", "approval_id", postgresql_where=sa.text("approval_id IS NOT NULL")
        ),
    )

    id: UUID = identity()
    client_id: str = reference("client.id", sa_type=sa.Text)
    redirect_uri: str = text()
    scopes: list[str] = texts()
    client_state: str | None = text(nullable=True, default=None)
    code_challenge: str = text()
    dpop_jkt: str | None = text(nullable=True, default=None)
    request_hash: bytes | None = digest(nullable=True, default=None)
    created_at: datetime = moment()
    expires_at: datetime = moment()
    started_at: datetime | None = moment(nullable=True, default=None)
    decided_at: datetime | None = moment(nullable=True, default=None)
    approval_id: UUID | None = reference("approval.id", default=None, nullable=True)
    code_hash: bytes | None = digest(nullable=True, default=None)
    code_used_at: datetime | None = moment(nullable=True, default=None)

    def get_redirect_uri(self) -> str:
        """Authlib's question (RFC 6749 section 4.1.3)."""
        return self.redirect_uri


class RefreshToken(SQLModel, table=True):
    """One refresh token of an approval. A public client's is used once (`used_at`) and replaced; `answer` is what was
    answered then, sealed under the used token itself, so that only who holds it can have a lost answer repeated."""

    __tablename__ = "refresh_token"
    __table_args__ = (
        sa.UniqueConstraint("hash"),
        sa.Index("ix_refresh_token_approval", "approval_id"),
        sa.Index("ix_refresh_token_due", "expires_at"),
    )

    id: UUID = identity()
    approval_id: UUID = reference("approval.id")
    hash: bytes = digest()
    created_at: datetime = moment()
    expires_at: datetime = moment()
    used_at: datetime | None = moment(nullable=True, default=None)
    successor_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    answer: bytes | None = digest(nullable=True, default=None)


class DeviceState(StrEnum):
    """A device code is used once, after a person has approved it."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    DENIED = "DENIED"
    USED = "USED"


class DeviceAuthorization(SQLModel, table=True):
    """A point of sale that waits for somebody to approve it (RFC 8628). `place` is where it says that it stands."""

    __tablename__ = "device_authorization"
    __table_args__ = (
        one_of("state", DeviceState),
        sa.UniqueConstraint("device_hash"),
        sa.UniqueConstraint("user_code_hash"),
        sa.Index("ix_device_authorization_due", "expires_at"),
        sa.Index(
            "ix_device_authorization_approval", "approval_id", postgresql_where=sa.text("approval_id IS NOT NULL")
        ),
    )

    id: UUID = identity()
    client_id: str = reference("client.id", sa_type=sa.Text)
    scopes: list[str] = texts()
    place: str | None = text(nullable=True, default=None)
    dpop_jkt: str | None = text(nullable=True, default=None)
    device_hash: bytes = digest()
    user_code_hash: bytes = digest()
    state: str = state(DeviceState.PENDING)
    approval_id: UUID | None = reference("approval.id", default=None, nullable=True)
    created_at: datetime = moment()
    expires_at: datetime = moment()
    polled_at: datetime | None = moment(nullable=True, default=None)
    interval_s: int = Field(default=5)
