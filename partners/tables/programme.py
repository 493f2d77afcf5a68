"""The programme's ladder: ordered tiers from programme.toml, and the dated fact that a member has one."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, identity, moment, one_of, reference, state, text


class Programme(SQLModel, table=True):
    """The one programme of this database, as programme.toml last said."""

    __tablename__ = "programme"
    __table_args__ = (sa.CheckConstraint("id = 1", name="only_one"),)

    id: int = Field(default=1, primary_key=True)
    name: str = text()
    time_zone: str = text()


class Tier(SQLModel, table=True):
    """One step of the ladder; a higher rank is a better tier. A tier that was ever assigned is never removed."""

    __tablename__ = "tier"

    handle: str = Field(primary_key=True, sa_type=sa.Text)
    name: str = text()
    rank: int = Field(unique=True)


class AssignmentCause(StrEnum):
    """Why a member has a tier."""

    EARNED = "EARNED"
    INVITED = "INVITED"
    PAID = "PAID"
    STAFF = "STAFF"
    IMPORTED = "IMPORTED"


class TierAssignment(SQLModel, table=True):
    """A member has a tier from `starts_at` until `ends_at` (exclusive; open when null)."""

    __tablename__ = "tier_assignment"
    __table_args__ = (
        one_of("cause", AssignmentCause),
        sa.CheckConstraint("ends_at >= starts_at", name="ends_after_start"),
        sa.Index("ix_tier_assignment_member", "member_id", "starts_at"),
    )

    id: UUID = identity()
    member_id: UUID = reference("member.id")
    tier: str = reference("tier.handle", sa_type=sa.Text)
    starts_at: datetime = moment()
    ends_at: datetime | None = moment(nullable=True, default=None)
    cause: str = state(AssignmentCause.STAFF)
    note: str | None = text(nullable=True, default=None)
