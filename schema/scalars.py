"""How times, dates and JSON look in the API: RFC 3339 in UTC, and an offset is required when one comes in."""

from datetime import UTC, datetime
from typing import Any

import strawberry
from strawberry.schema.config import StrawberryConfig


def show_moment(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as 2026-11-22T09:30:00.000000Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def read_moment(text: Any) -> datetime:
    """A time with an offset; ValueError says what is expected."""
    if not isinstance(text, str):
        raise ValueError("a DateTime is RFC 3339 text, as 2026-11-22T09:30:00Z")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a DateTime is RFC 3339 text, as 2026-11-22T09:30:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("a DateTime needs an offset, as 2026-11-22T09:30:00Z")
    return moment.astimezone(UTC)


MOMENT = strawberry.scalar(
    name="DateTime",
    description="A point in time in RFC 3339, always shown in UTC; an offset is required in input.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time",
    serialize=show_moment,
    parse_value=read_moment,
)
CONFIG = StrawberryConfig(scalar_map={datetime: MOMENT})
