"""Standing rights and their uses: what an ACCESS perk becomes once it is confirmed. Without foreign keys, as claims."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, state, text


class AccessState(StrEnum):
    """A right stands until its term ends (LAPSED) or it is taken away (REVOKED)."""

    GRANTED = "GRANTED"
    LAPSED = "LAPSED"
    REVOKED = "REVOKED"


class AccessGrant(SQLModel, table=True):
    """A standing right of an ACCESS perk, made by the redemption that confirmed it.

    `used` of `uses_max` (null: no limit) within its term; `on_tier_drop` as partners/kinds/access.py says. What ended
    it by itself is `system`, for the reason TERM_OVER, TIER_DROP or REVERSED; else `ended_reason` is in somebody's
    words.
    """

    __tablename__ = "access_grant"
    __table_args__ = (
        one_of("state", AccessState),
        sa.CheckConstraint("used >= 0 AND (uses_max IS NULL OR used <= uses_max)", name="never_overused"),
        sa.Index("ix_access_grant_member", "member_id", "id"),
        sa.Index("ix_access_grant_partner", "partner_id", "id"),
        sa.Index("ix_access_grant_due", "ends_at", postgresql_where=sa.text("state = 'GRANTED'")),
        sa.Index(
            "ix_access_grant_watched",
            "id",
            postgresql_where=sa.text("state = 'GRANTED' AND on_tier_drop <> 'KEEP'"),
        ),
    )

    id: UUID = identity()
    redemption_id: UUID = Field(sa_type=sa.Uuid, unique=True)
    perk_id: UUID = Field(sa_type=sa.Uuid)
    partner_id: UUID = Field(sa_type=sa.Uuid)
    member_id: UUID = Field(sa_type=sa.Uuid)
    state: str = state(AccessState.GRANTED)
    tier: str | None = text(nullable=True, default=None)
    on_tier_drop: str = text()
    keep_days: int = Field(default=0)
    uses_max: int | None = Field(default=None)
    used: int = Field(default=0)
    starts_at: datetime = moment()
    ends_at: datetime | None = moment(nullable=True, default=None)
    ended_at: datetime | None = moment(nullable=True, default=None)
    ended_by: str | None = text(nullable=True, default=None)
    ended_reason: str | None = text(nullable=True, default=None)


class AccessUse(SQLModel, table=True):
    """One use of a standing right."""

    __tablename__ = "access_use"
    __table_args__ = (sa.Index("ix_access_use_grant", "grant_id", "id"),)

    id: UUID = identity()
    grant_id: UUID = Field(sa_type=sa.Uuid)
    used_at: datetime = moment()
    used_by: str = text()
    leaf_hash: bytes = digest()
