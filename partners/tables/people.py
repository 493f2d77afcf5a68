"""Members, what they let a partner see, and the name each partner knows them by."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field, SQLModel, col

from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, reference, state, text, texts


class MemberState(StrEnum):
    """A suspended member keeps everything and may use nothing; of an erased one only counts and the log are left."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    ERASED = "ERASED"


class Member(SQLModel, table=True):
    """The person. `version` rises with every change of tier, consent or state, so that a decision made on
    older facts is noticed where it counts; `audit_salt` hides the member in the log (SHA-256(salt || id)).

    `labels` are the segments of the operator's own system, `score` is the weighted sum of activities over the trailing
    window, and `reviews` are the partners for whose perks staff look into the member's claims. Of an erased member the
    row stays, for what was counted; partners/erasure.py says what it says."""

    __tablename__ = "member"
    __table_args__ = (
        one_of("state", MemberState),
        sa.CheckConstraint("birth_month BETWEEN 1 AND 12", name="birth_month"),
        sa.Index("ix_member_erased", "id", postgresql_where=sa.text("state = 'ERASED' AND audit_salt <> ''")),
    )

    id: UUID = identity()
    external_id: str = text(unique=True)
    state: str = state(MemberState.ACTIVE)
    market: str | None = text(nullable=True, default=None)
    joined_at: datetime = moment()
    created_at: datetime = moment()
    audit_salt: bytes = digest()
    version: int = Field(default=1)
    household: str | None = text(nullable=True, default=None)
    birth_month: int | None = Field(default=None, sa_type=sa.SmallInteger)
    labels: list[str] = texts()
    score: int = Field(default=0, sa_type=sa.BigInteger)
    reviews: list[UUID] = Field(default_factory=list, sa_type=pg.ARRAY(sa.Uuid), nullable=False)
    erased_at: datetime | None = moment(nullable=True, default=None)


class MemberAlias(SQLModel, table=True):
    """The pairwise id that one partner sees; no other partner ever sees it (law 8)."""

    __tablename__ = "member_alias"
    __table_args__ = (
        sa.PrimaryKeyConstraint("partner_id", "member_id"),
        sa.UniqueConstraint("partner_id", "alias"),
        sa.Index("ix_member_alias_member", "member_id"),
    )

    partner_id: UUID = reference("partner.id")
    member_id: UUID = reference("member.id")
    alias: str = text()
    key_version: int = Field(default=1)


class ConsentState(StrEnum):
    """Withdrawn for good: a member who consents again gets a new row."""

    GRANTED = "GRANTED"
    WITHDRAWN = "WITHDRAWN"


class Consent(SQLModel, table=True):
    """What a member lets one partner see and do (`scopes`), for a purpose, until it expires or is withdrawn.

    `version` counts its renewals. `moved_from` is the consent to a brand that was sold since.
    """

    __tablename__ = "consent"
    __table_args__ = (
        one_of("state", ConsentState),
        sa.Index(
            "uq_consent_live",
            "member_id",
            "partner_id",
            unique=True,
            postgresql_where=sa.text("state = 'GRANTED'"),
        ),
    )

    id: UUID = identity()
    member_id: UUID = reference("member.id")
    partner_id: UUID = reference("partner.id")
    state: str = state(ConsentState.GRANTED)
    purpose: str = text()
    scopes: list[str] = texts()
    version: int = Field(default=1)
    granted_at: datetime = moment()
    expires_at: datetime | None = moment(nullable=True, default=None)
    withdrawn_at: datetime | None = moment(nullable=True, default=None)
    moved_from: UUID | None = reference("consent.id", default=None, nullable=True)


# Written out in each statement: one plan for every value of a parameter could not use the index on what is granted.
IS_GRANTED = col(Consent.state) == sa.literal(ConsentState.GRANTED.value, literal_execute=True)


class Pass(SQLModel, table=True):
    """A code that a member shows at a counter: random, kept as a hash, good once and only until `expires_at`."""

    __tablename__ = "pass"
    __table_args__ = (
        sa.UniqueConstraint("hash"),
        sa.Index("ix_pass_due", "expires_at"),
        sa.Index("ix_pass_member", "member_id", "expires_at"),
    )

    id: UUID = identity()
    member_id: UUID = reference("member.id")
    hash: bytes = digest()
    created_at: datetime = moment()
    expires_at: datetime = moment()
    used_at: datetime | None = moment(nullable=True, default=None)


class Activity(SQLModel, table=True):
    """One measured behaviour of a member (a purchase, a visit), from which scores are made.

    `source` names it in the system it came from, so that an import can run again.
    """

    __tablename__ = "activity"
    __table_args__ = (
        sa.UniqueConstraint("member_id", "indicator", "source"),
        sa.Index("ix_activity_member", "member_id", "at"),
    )

    id: UUID = identity()
    member_id: UUID = reference("member.id")
    indicator: str = text()
    source: str = text()
    at: datetime = moment()
    amount: int = Field(sa_type=sa.BigInteger)
