"""What one line of an import may say: columns, types and words for what is wrong; an empty cell says nothing."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)

from partners.errors import BadInput
from partners.facts import start_of_day
from partners.rules.who import LABEL
from partners.tables import PerkKind, PerkState

DAY = re.compile(r"\d{4}-\d\d-\d\d")
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")  # RFC 3339 section 5.6
WHOLE = re.compile(r"[+-]?\d{1,19}")
NAMES_APART = re.compile(r"[\s;,]+")
API_NAME = re.compile(r"\b[a-z]+(?:[A-Z][a-z]+)+\b")
BIGINT_MAX = 2**63 - 1
LABELS_MAX = 100
NOTHING = "-"  # takes away what a member has; an empty cell says nothing


def read_text(value: Any) -> Any:
    """Text; a number in JSON is one, too, since ids often are."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_whole(value: Any) -> Any:
    """A whole number, written in digits or as JSON."""
    if isinstance(value, str) and WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a whole number")


def read_day(value: Any) -> date:
    """A calendar day as 2026-05-31."""
    if isinstance(value, str) and DAY.fullmatch(value):
        return date.fromisoformat(value)
    raise ValueError("a date as 2026-05-31")


def read_start(value: Any, info: ValidationInfo) -> datetime:
    """A time with its offset, or a date, which is its first instant in the programme's zone."""
    return read_moment(value, info, days=0)


def read_end(value: Any, info: ValidationInfo) -> datetime:
    """A time with its offset, or a date, which is inclusive: the first instant after it."""
    return read_moment(value, info, days=1)


def read_moment(value: Any, info: ValidationInfo, *, days: int) -> datetime:
    """An instant in UTC, of a date `days` later; the zone comes with the context."""
    try:
        if isinstance(value, str) and DAY.fullmatch(value):
            return start_of_day(date.fromisoformat(value) + timedelta(days=days), (info.context or {})["zone"])
        if isinstance(value, str) and TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time between the years 1 and 9999") from None
    raise ValueError("a date as 2026-05-31, or a time with its offset as 2026-05-31T18:00:00Z")


def read_names(value: Any) -> Any:
    """Names with spaces, commas or semicolons between them, or a list in JSON."""
    return [name for name in NAMES_APART.split(value) if name] if isinstance(value, str) else value


def printable(value: Any) -> Any:
    """Text as above that a database can hold."""
    text = read_text(value)
    if isinstance(text, str) and not text.isprintable():
        raise ValueError("printable characters")
    return text


def read_json(value: Any) -> Any:
    """JSON within a cell, or as it is in JSON Lines."""
    try:
        return orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError as fault:
        raise ValueError(f"not JSON: {fault}") from None


Text = Annotated[str, BeforeValidator(read_text)]
Name = Annotated[str, BeforeValidator(read_text), Field(min_length=1, max_length=200)]
Household = Annotated[str, BeforeValidator(printable), StringConstraints(min_length=1, max_length=200)]
Whole = Annotated[int, BeforeValidator(read_whole)]
Label = Annotated[str, Field(pattern=f"^({LABEL}|{NOTHING})$")]
Day = Annotated[date, BeforeValidator(read_day)]
Start = Annotated[datetime, BeforeValidator(read_start)]
End = Annotated[datetime, BeforeValidator(read_end)]


class Outcome(StrEnum):
    """What became of a line that can be."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Row(BaseModel):
    """One line. What is None was not said: a new thing gets its default, and one that exists keeps what it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    noun: ClassVar[str]

    @property
    @abstractmethod
    def key(self) -> tuple[str, ...]:
        """What the line is about; two lines about the same are taken in their order."""


class MemberRow(Row):
    """A member, the tier to have from now on, and the partners that may know the member."""

    noun: ClassVar[str] = "members"
    external_id: Text
    joined_at: Start
    market: Text | None = None
    tier: Text | None = None
    tier_until: End | None = None
    state: Literal["ACTIVE", "SUSPENDED"] | None = None
    consents: Annotated[tuple[str, ...], BeforeValidator(read_names)] = ()
    household: Household | None = None
    birth_month: Annotated[Whole, Field(ge=1, le=12)] | None = None
    labels: Annotated[tuple[Label, ...], BeforeValidator(read_names), Field(max_length=LABELS_MAX)] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The member."""
        return (self.external_id,)


class ActivityRow(Row):
    """One measured behaviour of a member; `source` names it where it comes from."""

    noun: ClassVar[str] = "activity"
    external_id: Text
    indicator: Name
    source: Name
    at: Start
    amount: Annotated[Whole, Field(ge=-BIGINT_MAX, le=BIGINT_MAX)]

    @property
    def key(self) -> tuple[str, ...]:
        """The member, the indicator and the source."""
        return (self.external_id, self.indicator, self.source)


class PerkRow(Row):
    """A perk of a partner, by the perk's own handle."""

    noun: ClassVar[str] = "perks"
    partner: Text
    handle: Text
    kind: PerkKind
    title: Text
    description: Text | None = None
    time_zone: Text | None = None
    opens_on: Day | None = None
    closes_on: Day | None = None
    capacity: Whole | None = None
    hold_seconds: Whole | None = None
    reversal_days: Whole | None = None
    rules: Annotated[list[dict[str, Any]], BeforeValidator(read_json)] | None = None
    settings: Annotated[dict[str, Any], BeforeValidator(read_json)] | None = None
    waitlist: Annotated[dict[str, Any], BeforeValidator(read_json)] | None = None
    currency: Text | None = None
    units_max: Whole | None = None
    self_service: bool | None = None
    returns_allowance: bool | None = None
    low_at: Whole | None = None
    state: PerkState | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The perk."""
        return (self.partner, self.handle)


AnyRow = TypeVar("AnyRow", bound=Row)


def read_row(model: type[AnyRow], values: Mapping[str, Any], zone: str) -> AnyRow:
    """A line's values as a row; dates are of `zone`. BadInput names every column that can't be."""
    try:
        return model.model_validate(values, context={"zone": zone})
    except ValidationError as fault:
        raise BadInput("; ".join(told(one) for one in fault.errors(include_url=False, include_input=False))) from None


def told(fault: Any) -> str:
    """One fault in words: its column and what is wrong with it."""
    column = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    return f"{column}: {message[0].lower()}{message[1:]}"


def in_columns(message: str) -> str:
    """A message of the domain, which names fields as the API does, with the names of columns."""
    snaked = API_NAME.sub(lambda name: re.sub("([A-Z])", r"_\1", name[0]).lower(), message)
    return snaked.replace("ends_at:", "tier_until:")
