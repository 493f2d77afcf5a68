"""What became of a redemption: how it is delivered, how far that is, and who came. Without foreign keys, as claims."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, identity, moment, text


class FulfilmentMethod(StrEnum):
    """How a sample reaches its member."""

    PICKUP = "PICKUP"
    SHIPPING = "SHIPPING"


class Fulfilment(SQLModel, table=True):
    """How a partner keeps its promise of one redemption; the state stands on the redemption itself.

    `address` is sealed, shown to the partner only while it has to deliver and only by consent, and erased after, at the
    latest at `address_until`. `checked_in` counts those of a party who came; `reason` says why it failed.
    """

    __tablename__ = "fulfilment"
    __table_args__ = (
        sa.CheckConstraint("method IN ('PICKUP', 'SHIPPING')", name="method"),
        sa.CheckConstraint("checked_in >= 0", name="checked_in"),
        sa.CheckConstraint("(address IS NULL) = (address_until IS NULL)", name="address_has_an_end"),
        sa.Index("ix_fulfilment_address", "address_until", postgresql_where=sa.text("address_until IS NOT NULL")),
    )

    redemption_id: UUID = Field(primary_key=True, sa_type=sa.Uuid)
    method: str | None = text(nullable=True, default=None)
    location: str | None = text(nullable=True, default=None)
    address: bytes | None = digest(nullable=True, default=None)
    address_until: datetime | None = moment(nullable=True, default=None)
    scheduled_at: datetime | None = moment(nullable=True, default=None)
    carrier: str | None = text(nullable=True, default=None)
    tracking: str | None = text(nullable=True, default=None)
    checked_in: int = Field(default=0)
    fulfilled_at: datetime | None = moment(nullable=True, default=None)
    reason: str | None = text(nullable=True, default=None)
    updated_at: datetime = moment()
    updated_by: str = text()


class CheckIn(SQLModel, table=True):
    """So many guests of a party came in at once."""

    __tablename__ = "check_in"
    __table_args__ = (
        sa.CheckConstraint("units > 0", name="units"),
        sa.Index("ix_check_in_redemption", "redemption_id"),
    )

    id: UUID = identity()
    redemption_id: UUID = Field(sa_type=sa.Uuid)
    units: int
    checked_in_at: datetime = moment()
    checked_in_by: str = text()
