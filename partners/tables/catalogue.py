"""Partners and what they offer: perks, the versioned policy of each, and how many there are."""

from datetime import date
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, document, identity, moment, one_of, reference, state, text


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
    `version` rises with every change that a decision could depend on.
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


class Policy(SQLModel, table=True):
    """One version of a perk's rules, kept for ever so that an old decision can be explained."""

    __tablename__ = "policy"
    __table_args__ = (sa.PrimaryKeyConstraint("perk_id", "version"),)

    perk_id: UUID = reference("perk.id")
    version: int
    rules: list[dict[str, Any]] = document()
    created_at: datetime = moment()
    created_by: str = text()


class Capacity(SQLModel, table=True):
    """How many there are and how many are taken (held or confirmed, not restocked); null units is no limit.

    Its row is the perk's lock: everything that takes, gives back or changes the perk locks it first.
    """

    __tablename__ = "capacity"
    __table_args__ = (
        sa.CheckConstraint("taken >= 0 AND (units IS NULL OR taken <= units)", name="never_oversold"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    perk_id: UUID = reference("perk.id", primary_key=True)
    units: int | None = Field(default=None)
    taken: int = Field(default=0)
