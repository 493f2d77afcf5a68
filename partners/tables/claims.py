"""What was set aside, used and given back. These rows are many and written in batches: they carry no foreign
keys (docs/decisions/0005-claims.md); `perks doctor` checks the references instead."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, state, text


class HoldState(StrEnum):
    """HELD ends exactly once (law 4)."""

    HELD = "HELD"
    CONFIRMED = "CONFIRMED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class IdempotencyKey(SQLModel, table=True):
    """A key that acted, with the fingerprint of what it asked for and the id of what came of it (law 3)."""

    __tablename__ = "idempotency_key"
    __table_args__ = (sa.PrimaryKeyConstraint("owner", "key"),)

    owner: str = text()
    key: str = text()
    fingerprint: bytes = digest()
    result_id: UUID = Field(sa_type=sa.Uuid)
    created_at: datetime = moment()


class Hold(SQLModel, table=True):
    """Capacity and allowance set aside until `expires_at`.

    `period` and `slot` are the member's n-th use within an allowance period; a hold that gives its use back
    loses its slot, and the unique index decides between two who want the same one (law 2).
    """

    __tablename__ = "hold"
    __table_args__ = (
        one_of("state", HoldState),
        sa.Index(
            "uq_hold_allowance",
            "member_id",
            "perk_id",
            "period",
            "slot",
            unique=True,
            postgresql_where=sa.text("slot IS NOT NULL"),
        ),
        sa.Index("ix_hold_due", "perk_id", "expires_at", postgresql_where=sa.text("state = 'HELD'")),
        sa.Index("uq_hold_code", "code_hash", unique=True),
        sa.Index("ix_hold_member", "member_id", "id"),
    )

    id: UUID = identity()
    perk_id: UUID = Field(sa_type=sa.Uuid)
    partner_id: UUID = Field(sa_type=sa.Uuid)
    member_id: UUID = Field(sa_type=sa.Uuid)
    state: str = state(HoldState.HELD)
    claimed_by: str = text()
    tier: str | None = text(nullable=True, default=None)
    policy_version: int
    period: str | None = text(nullable=True, default=None)
    slot: int | None = Field(default=None, sa_type=sa.SmallInteger)
    code_hash: bytes = digest()
    leaf_hash: bytes = digest()
    held_at: datetime = moment()
    expires_at: datetime = moment()
    ended_at: datetime | None = moment(nullable=True, default=None)


class FulfilmentState(StrEnum):
    """How far the partner is with what it promised."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    FULFILLED = "FULFILLED"
    FAILED = "FAILED"
    NO_SHOW = "NO_SHOW"


class Redemption(SQLModel, table=True):
    """A confirmed use; only its fulfilment ever changes."""

    __tablename__ = "redemption"
    __table_args__ = (
        one_of("fulfilment", FulfilmentState),
        sa.Index("ix_redemption_partner", "partner_id", "id"),
        sa.Index("ix_redemption_perk", "perk_id", "id"),
        sa.Index("ix_redemption_member", "member_id", "id"),
    )

    id: UUID = identity()
    hold_id: UUID = Field(sa_type=sa.Uuid, unique=True)
    perk_id: UUID = Field(sa_type=sa.Uuid)
    partner_id: UUID = Field(sa_type=sa.Uuid)
    member_id: UUID = Field(sa_type=sa.Uuid)
    tier: str | None = text(nullable=True, default=None)
    policy_version: int
    fulfilment: str = state(FulfilmentState.PENDING)
    confirmed_by: str = text()
    confirmed_at: datetime = moment()
    leaf_hash: bytes = digest()


class Bearer(StrEnum):
    """Who bears the cost of a reversal."""

    PARTNER = "PARTNER"
    PROGRAMME = "PROGRAMME"
    MEMBER = "MEMBER"


class Stock(StrEnum):
    """What becomes of the unit that a reversal gives back."""

    RESTOCK = "RESTOCK"
    WAITLIST = "WAITLIST"
    BURN = "BURN"


class Reversal(SQLModel, table=True):
    """The compensating record of a redemption: one at most."""

    __tablename__ = "reversal"
    __table_args__ = (
        one_of("borne_by", Bearer),
        one_of("stock", Stock),
        sa.Index("ix_reversal_perk", "perk_id"),
    )

    id: UUID = identity()
    redemption_id: UUID = Field(sa_type=sa.Uuid, unique=True)
    perk_id: UUID = Field(sa_type=sa.Uuid)
    reason: str = text()
    borne_by: str = state(Bearer.PARTNER)
    stock: str = state(Stock.RESTOCK)
    reversed_by: str = text()
    reversed_at: datetime = moment()
    leaf_hash: bytes = digest()
