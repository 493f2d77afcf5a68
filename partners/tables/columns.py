"""The column types that every table shares, so that a time is always UTC and a state always one of its list."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlmodel import Field, SQLModel
from uuid_utils.compat import uuid7

metadata = SQLModel.metadata
metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}


def identity() -> Any:
    """A UUIDv7 primary key, made by the application so that a client can know it before the insert."""
    return Field(default_factory=new_id, primary_key=True, sa_type=sa.Uuid)


def new_id() -> UUID:
    """A new UUIDv7 (RFC 9562 section 5.7): ordered by creation within a millisecond."""
    return uuid7()


def reference(target: str, **options: Any) -> Any:
    """A foreign key to `table.column`."""
    return Field(foreign_key=target, **options)


def moment(*, nullable: bool = False, **options: Any) -> Any:
    """A point in time, stored as `timestamptz`."""
    return Field(sa_type=sa.DateTime(timezone=True), nullable=nullable, **options)


def text(*, nullable: bool = False, **options: Any) -> Any:
    """Text without a length of its own; limits are checked where input is read."""
    return Field(sa_type=sa.Text, nullable=nullable, **options)


def texts() -> Any:
    """A list of texts."""
    return Field(default_factory=list, sa_type=pg.ARRAY(sa.Text), nullable=False)


def document(**options: Any) -> Any:
    """A JSON document whose shape a pydantic model declares."""
    return Field(sa_type=pg.JSONB, nullable=False, **options)


def digest(*, nullable: bool = False, **options: Any) -> Any:
    """Bytes of a hash, salt or key."""
    return Field(sa_type=sa.LargeBinary, nullable=nullable, **options)


def one_of(column: str, states: type[StrEnum]) -> sa.CheckConstraint:
    """The CHECK that keeps a state column to its list: readable in psql, and a new state is one migration line."""
    names = ", ".join(f"'{state.value}'" for state in states)
    return sa.CheckConstraint(f"{column} IN ({names})", name=column)


def state(default: StrEnum | None = None) -> Any:
    """A state column; pair it with `one_of` in the table's arguments."""
    return text() if default is None else text(default=default)


__all__: Sequence[str] = [
    "UUID",
    "datetime",
    "digest",
    "document",
    "identity",
    "metadata",
    "moment",
    "new_id",
    "one_of",
    "reference",
    "state",
    "text",
    "texts",
]
