"""What was set aside, used and given back. These rows are many and written in batches: they carry no foreign
keys (docs/decisions/0005-claims.md); `perks doctor` checks the references instead."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
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

    `counted` of its `units`, and `counted_amount` of its `amount` in minor units of the perk's currency, count
    towards the allowances of its member, household and device (law 2); they fall as uses are given back. `pools` and
    `pool_units` say which pools the units came from. `exclusion` is the group of perks that nobody has two of.
    """

    __tablename__ = "hold"
    __table_args__ = (
        one_of("state", HoldState),
        sa.CheckConstraint(
            "units > 0 AND amount >= 0 AND counted BETWEEN 0 AND units AND counted_amount BETWEEN 0 AND amount",
            name="counted",
        ),
        sa.Index("ix_hold_uses", "member_id", "perk_id", "held_at", postgresql_where=sa.text("counted > 0")),
        sa.Index(
            "ix_hold_household",
            "household",
            "perk_id",
            "held_at",
            postgresql_where=sa.text("counted > 0 AND household IS NOT NULL"),
        ),
        sa.Index(
            "ix_hold_device",
            "device",
            "perk_id",
            "held_at",
            postgresql_where=sa.text("counted > 0 AND device IS NOT NULL"),
        ),
        sa.Index(
            "ix_hold_exclusion",
            "member_id",
            "partner_id",
            "exclusion",
            postgresql_where=sa.text("counted > 0 AND exclusion IS NOT NULL"),
        ),
        sa.Index("ix_hold_entry", "entry_id", postgresql_where=sa.text("entry_id IS NOT NULL")),
        sa.Index("ix_hold_due", "perk_id", "expires_at", postgresql_where=sa.text("state = 'HELD'")),
        sa.Index("uq_hold_code", "code_hash", unique=True),
        sa.Index("ix_hold_member", "member_id", "id"),
        # Of no weight to who writes: statements look for what was held at the turn of a month.
        sa.Index("ix_hold_held_at", "held_at", postgresql_using="brin", postgresql_with={"autosummarize": True}),
    )

    id: UUID = identity()
    perk_id: UUID = Field(sa_type=sa.Uuid)
    partner_id: UUID = Field(sa_type=sa.Uuid)
    member_id: UUID = Field(sa_type=sa.Uuid)
    state: str = state(HoldState.HELD)
    claimed_by: str = text()
    tier: str | None = text(nullable=True, default=None)
    policy_version: int
    units: int = Field(default=1)
    counted: int = Field(default=1)
    amount: int = Field(default=0, sa_type=sa.BigInteger)
    counted_amount: int = Field(default=0, sa_type=sa.BigInteger)
    option_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    pools: list[int] | None = Field(default=None, sa_type=pg.ARRAY(sa.SmallInteger), nullable=True)
    pool_units: list[int] | None = Field(default=None, sa_type=pg.ARRAY(sa.Integer), nullable=True)
    household: str | None = text(nullable=True, default=None)
    device: bytes | None = digest(nullable=True, default=None)
    exclusion: str | None = text(nullable=True, default=None)
    entry_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    extensions: int = Field(default=0, sa_type=sa.SmallInteger)
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
    """A confirmed use, of `units` of what was held; only its fulfilment and what was reversed of it ever change."""

    __tablename__ = "redemption"
    __table_args__ = (
        one_of("fulfilment", FulfilmentState),
        sa.CheckConstraint(
            "units > 0 AND reversed_units BETWEEN 0 AND units AND reversed_amount BETWEEN 0 AND amount",
            name="never_below_what_was_taken",
        ),
        sa.Index(
            "ix_redemption_option",
            "option_id",
            postgresql_where=sa.text(
                "option_id IS NOT NULL AND fulfilment IN ('PENDING', 'SCHEDULED') AND reversed_units < units"
            ),
        ),
        sa.Index("ix_redemption_partner", "partner_id", "id"),
        sa.Index("ix_redemption_perk", "perk_id", "id"),
        sa.Index("ix_redemption_month", "perk_id", "confirmed_at"),
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
    units: int = Field(default=1)
    amount: int = Field(default=0, sa_type=sa.BigInteger)
    currency: str | None = text(nullable=True, default=None)
    option_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    reversals: int = Field(default=0, sa_type=sa.SmallInteger)
    reversed_units: int = Field(default=0)
    reversed_amount: int = Field(default=0, sa_type=sa.BigInteger)


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
    """A compensating record of a redemption, of some or all of its units; `number` counts them from 1."""

    __tablename__ = "reversal"
    __table_args__ = (
        one_of("borne_by", Bearer),
        one_of("stock", Stock),
        sa.Index("ix_reversal_month", "perk_id", "reversed_at"),
        sa.UniqueConstraint("redemption_id", "number"),
        sa.CheckConstraint("units >= 0 AND amount >= 0 AND units + amount > 0", name="something"),
    )

    id: UUID = identity()
    redemption_id: UUID = Field(sa_type=sa.Uuid)
    number: int = Field(default=1, sa_type=sa.SmallInteger)
    perk_id: UUID = Field(sa_type=sa.Uuid)
    reason: str = text()
    borne_by: str = state(Bearer.PARTNER)
    stock: str = state(Stock.RESTOCK)
    reversed_by: str = text()
    reversed_at: datetime = moment()
    leaf_hash: bytes = digest()
    units: int = Field(default=1)
    amount: int = Field(default=0, sa_type=sa.BigInteger)
    returns_allowance: bool = Field(default=True)


class WaitlistState(StrEnum):
    """WAITING and OFFERED are live; the others are the end."""

    WAITING = "WAITING"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    LAPSED = "LAPSED"
    WITHDRAWN = "WITHDRAWN"


class WaitlistEntry(SQLModel, table=True):
    """A member waits for units of a perk, the higher `weight` first, then who came first.

    An offer is a hold with this entry's id and for what the entry says: `units`, `amount` and `device`, the keyed hash
    of one. `offers` counts those that were made.
    """

    __tablename__ = "waitlist_entry"
    __table_args__ = (
        one_of("state", WaitlistState),
        sa.CheckConstraint("units > 0 AND amount >= 0", name="units"),
        sa.Index(
            "uq_waitlist_entry_live",
            "member_id",
            "perk_id",
            unique=True,
            postgresql_where=sa.text("state IN ('WAITING', 'OFFERED')"),
        ),
        sa.Index(
            "ix_waitlist_entry_order",
            "perk_id",
            sa.text("weight DESC"),
            "joined_at",
            "id",
            postgresql_where=sa.text("state = 'WAITING'"),
        ),
    )

    id: UUID = identity()
    perk_id: UUID = Field(sa_type=sa.Uuid)
    partner_id: UUID = Field(sa_type=sa.Uuid)
    member_id: UUID = Field(sa_type=sa.Uuid)
    option_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    units: int = Field(default=1)
    amount: int = Field(default=0, sa_type=sa.BigInteger)
    device: bytes | None = digest(nullable=True, default=None)
    state: str = state(WaitlistState.WAITING)
    weight: int = Field(default=0)
    tier: str | None = text(nullable=True, default=None)
    offers: int = Field(default=0, sa_type=sa.SmallInteger)
    hold_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    joined_by: str = text()
    joined_at: datetime = moment()
    ended_at: datetime | None = moment(nullable=True, default=None)
