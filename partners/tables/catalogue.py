"""Partners and what they offer: perks, the versioned policy of each, and how many there are."""

from datetime import date
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

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


class PartnerKind(StrEnum):
    """The trade of a brand."""

    CAR_CLUB = "CAR_CLUB"
    COSMETICS = "COSMETICS"
    TRAVEL = "TRAVEL"
    OTHER = "OTHER"


class PartnerState(StrEnum):
    """A suspended partner gets no token and no yes."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class Partner(SQLModel, table=True):
    """A brand that checks eligibility and supplies perks."""

    __tablename__ = "partner"
    __table_args__ = (one_of("kind", PartnerKind), one_of("state", PartnerState))

    id: UUID = identity()
    handle: str = text(unique=True)
    name: str = text()
    kind: str = state()
    state: str = state(PartnerState.ACTIVE)
    created_at: datetime = moment()


class PartnerTransfer(SQLModel, table=True):
    """A brand was sold: until `ends_at` the buyer may learn its own aliases for the seller's, member by member."""

    __tablename__ = "partner_transfer"
    __table_args__ = (
        sa.CheckConstraint("from_partner_id <> to_partner_id", name="two_partners"),
        sa.Index("ix_partner_transfer_to", "to_partner_id", "ends_at"),
    )

    id: UUID = identity()
    from_partner_id: UUID = reference("partner.id")
    to_partner_id: UUID = reference("partner.id")
    reason: str = text()
    created_at: datetime = moment()
    ends_at: datetime = moment()


class PerkKind(StrEnum):
    """What is offered."""

    SAMPLE = "SAMPLE"
    EVENT = "EVENT"
    SERVICE = "SERVICE"
    CODE = "CODE"
    ACCESS = "ACCESS"


class PerkState(StrEnum):
    """Only a published perk can be claimed; a paused one keeps what is held."""

    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    PAUSED = "PAUSED"


class Perk(SQLModel, table=True):
    """A catalogue entry. `handle` is `partner/perk`, so that no partner's choice of a name tells of another's.

    The window runs from the start of `opens_on` to the *end* of `closes_on` in `time_zone`; null is unbounded.
    `version` rises with every change that a decision could depend on. `settings` are its kind's own
    (partners/kinds), `waitlist` is null where nobody can wait, and `pooled` says that its units are in pools.
    """

    __tablename__ = "perk"
    __table_args__ = (
        one_of("kind", PerkKind),
        one_of("state", PerkState),
        sa.Index("ix_perk_partner", "partner_id", "id"),
    )

    id: UUID = identity()
    partner_id: UUID = reference("partner.id")
    handle: str = text(unique=True)
    kind: str = state()
    state: str = state(PerkState.DRAFT)
    title: str = text()
    description: str = text(default="")
    time_zone: str = text()
    opens_on: date | None = Field(default=None)
    closes_on: date | None = Field(default=None)
    hold_seconds: int = Field(default=900)
    reversal_days: int = Field(default=90)
    policy_version: int = Field(default=1)
    version: int = Field(default=1)
    created_at: datetime = moment()
    settings: dict[str, Any] = document(default_factory=dict)
    waitlist: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)
    currency: str | None = text(nullable=True, default=None)
    units_max: int = Field(default=1)
    self_service: bool = Field(default=False)
    returns_allowance: bool = Field(default=True)
    pooled: bool = Field(default=False)


class PerkOption(SQLModel, table=True):
    """One variant of a sample or one session of an event; a claim names it by its handle.

    Nothing is claimed, extended or offered after `cut_off_at`.
    """

    __tablename__ = "perk_option"
    __table_args__ = (
        sa.UniqueConstraint("perk_id", "handle"),
        sa.CheckConstraint("ends_at >= starts_at", name="ends_after_start"),
        sa.Index(
            "ix_perk_option_ends",
            sa.text("COALESCE(ends_at, starts_at)"),
            postgresql_where=sa.text("starts_at IS NOT NULL"),
        ),
    )

    id: UUID = identity()
    perk_id: UUID = reference("perk.id")
    handle: str = text()
    title: str = text()
    position: int
    open: bool = Field(default=True)
    location: str | None = text(nullable=True, default=None)
    starts_at: datetime | None = moment(nullable=True, default=None)
    ends_at: datetime | None = moment(nullable=True, default=None)
    cut_off_at: datetime | None = moment(nullable=True, default=None)


class Policy(SQLModel, table=True):
    """One version of a perk's rules, kept for ever so that an old decision can be explained.

    The rest is made of the rules, so that a question reads nothing that they don't need: how far back (in seconds;
    null: not at all) uses are counted for the member, the household and the device, and which other facts. Its periods
    are of `time_zone` (null: the perk's), which makes a new version when it changes.
    """

    __tablename__ = "policy"
    __table_args__ = (sa.PrimaryKeyConstraint("perk_id", "version"),)

    perk_id: UUID = reference("perk.id")
    version: int
    rules: list[dict[str, Any]] = document()
    created_at: datetime = moment()
    created_by: str = text()
    member_window: int | None = Field(default=None, sa_type=sa.BigInteger)
    household_window: int | None = Field(default=None, sa_type=sa.BigInteger)
    device_window: int | None = Field(default=None, sa_type=sa.BigInteger)
    needs: list[str] = texts()
    time_zone: str | None = text(nullable=True, default=None)


class Capacity(SQLModel, table=True):
    """How many there are, how many are taken (held or confirmed, not restocked) and how many are kept for those who
    wait; null units is no limit. Where a perk has pools, these are their sums.

    Its row is the perk's lock: everything that takes, gives back or changes the perk locks it first. `waiting` counts
    who is on the waitlist. `low_at`: the alarm rings when no more than so many are left. `shrink_to`: the capacity
    goes down to this as units come back.
    """

    __tablename__ = "capacity"
    __table_args__ = (
        sa.CheckConstraint(
            "taken >= 0 AND kept >= 0 AND (units IS NULL OR taken + kept <= units)", name="never_oversold"
        ),
        sa.Index("ix_capacity_kept", "perk_id", postgresql_where=sa.text("waiting > 0 OR kept > 0")),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    perk_id: UUID = reference("perk.id", primary_key=True)
    units: int | None = Field(default=None)
    taken: int = Field(default=0)
    kept: int = Field(default=0)
    waiting: int = Field(default=0)
    low_at: int | None = Field(default=None)
    shrink_to: int | None = Field(default=None)


class Pool(SQLModel, table=True):
    """Some units of a perk (of one option, where it has options), open only to higher tiers for a time.

    `schedule` lists `{"tier": handle, "until": instant}`, highest tier first: at any moment the first whose `until`
    is to come says which tier it takes; none: anybody. So a pool is released by the clock and no job.
    """

    __tablename__ = "pool"
    __table_args__ = (
        sa.PrimaryKeyConstraint("perk_id", "number"),
        sa.CheckConstraint(
            "taken >= 0 AND kept >= 0 AND (units IS NULL OR taken + kept <= units)", name="never_oversold"
        ),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    perk_id: UUID = reference("perk.id")
    number: int = Field(sa_type=sa.SmallInteger)
    option_id: UUID | None = reference("perk_option.id", default=None, nullable=True)
    name: str = text()
    units: int | None = Field(default=None)
    taken: int = Field(default=0)
    kept: int = Field(default=0)
    shrink_to: int | None = Field(default=None)
    schedule: list[dict[str, Any]] = document(default_factory=list)


class PerkCode(SQLModel, table=True):
    """One code of a partner's pool: given to one redemption, and never to another (partners/kinds/code.py).

    Sealed at rest; `hash` (keyed) finds duplicates without opening any.
    """

    __tablename__ = "perk_code"
    __table_args__ = (
        sa.PrimaryKeyConstraint("perk_id", "hash"),
        sa.Index("ix_perk_code_free", "perk_id", "number", postgresql_where=sa.text("redemption_id IS NULL")),
        sa.Index("uq_perk_code_redemption", "redemption_id", unique=True),
    )

    perk_id: UUID = Field(sa_type=sa.Uuid)
    hash: bytes = digest()
    number: int = Field(sa_type=sa.BigInteger, sa_column_args=(sa.Identity(),))
    sealed: bytes = digest()
    redemption_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    added_at: datetime = moment()
