"""Files that are made in the background, kept in parts that any process can make and serve."""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, document, identity, moment, one_of, state, text


class ExportKind(StrEnum):
    """What is exported."""

    REDEMPTIONS = "REDEMPTIONS"
    ENTRIES = "ENTRIES"


class ExportFormat(StrEnum):
    """How it is written."""

    CSV = "CSV"
    JSONL = "JSONL"
    PARQUET = "PARQUET"


class ExportState(StrEnum):
    """EXPIRED keeps the row without its file."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class Export(SQLModel, table=True):
    """A file that a partner (of its own rows) or staff (no partner: of all rows) asked for.

    `wanted` is its filter. It holds `rows` of `total` so far, in `bytes`; making it goes on after `cursor` by whoever
    has the lease until `leased_until`.
    """

    __tablename__ = "export"
    __table_args__ = (
        one_of("kind", ExportKind),
        one_of("format", ExportFormat),
        one_of("state", ExportState),
        sa.Index("ix_export_partner", "partner_id", "id"),
        sa.Index("ix_export_open", "created_at", postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING')")),
        sa.Index("ix_export_due", "expires_at", postgresql_where=sa.text("expires_at IS NOT NULL")),
    )

    id: UUID = identity()
    partner_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    requested_by: str = text()
    kind: str = state()
    format: str = state()
    wanted: dict[str, Any] = document()
    state: str = state(ExportState.QUEUED)
    rows: int = Field(default=0, sa_type=sa.BigInteger)
    total: int | None = Field(default=None, sa_type=sa.BigInteger)
    bytes: int = Field(default=0, sa_type=sa.BigInteger)
    cursor: UUID | None = Field(default=None, sa_type=sa.Uuid)
    attempts: int = Field(default=0, sa_type=sa.SmallInteger)
    leased_until: datetime | None = moment(nullable=True, default=None)
    fault: str | None = text(nullable=True, default=None)
    created_at: datetime = moment()
    ended_at: datetime | None = moment(nullable=True, default=None)
    expires_at: datetime | None = moment(nullable=True, default=None)


class ExportPart(SQLModel, table=True):
    """Some bytes of a file, the `number`-th part, which begins at byte `offset`."""

    __tablename__ = "export_part"
    __table_args__ = (sa.PrimaryKeyConstraint("export_id", "number"),)

    export_id: UUID = Field(sa_type=sa.Uuid, foreign_key="export.id", ondelete="CASCADE")
    number: int
    offset: int = Field(sa_type=sa.BigInteger)
    body: bytes = digest()
