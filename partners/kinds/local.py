"""Times as a partner writes them, on the clocks of the perk's zone, and units that are kept for tiers until then."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from partners.kinds.shape import PoolPlan
from partners.programme import Handle

LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
YEARS = (1970, 9990)
UNITS_MAX = 1_000_000_000
HOURS_MAX = 24 * 366
STEPS_MAX = 10
RESERVES_MAX = 10
EVERYBODY = "everybody"


def read_local(value: Any) -> datetime:
    """A date and time without an offset."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value
    if not isinstance(value, str) or not LOCAL.fullmatch(value):
        raise ValueError("a local time as 2026-12-24T19:00, on the clocks of the perk's zone")
    local = datetime.fromisoformat(value)
    if not YEARS[0] <= local.year <= YEARS[1]:
        raise ValueError(f"a year from {YEARS[0]} to {YEARS[1]}")
    return local


def one_line(text: str) -> str:
    """Text that can be shown in a line, and stored."""
    if CONTROL.search(text):
        raise ValueError("one line of text")
    return text


LocalTime = Annotated[
    datetime, BeforeValidator(read_local), WithJsonSchema({"type": "string", "pattern": f"^{LOCAL.pattern}$"})
]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), AfterValidator(one_line)]
Title = Annotated[Line, StringConstraints(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=UNITS_MAX, strict=True)]


def instant(local: datetime, zone: str) -> datetime:
    """The moment in UTC; of a time that clocks show twice, the first."""
    return local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def skipped(path: str, local: datetime | None, zone: str) -> Iterator[str]:
    """The fault of a time that clocks skip, so that it never is."""
    if local is not None and instant(local, zone).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local:
        yield f"{path}: clocks in {zone} skip {local.isoformat(timespec='minutes')}"


class Step(BaseModel):
    """One tier's turn: until a local time, or until so many hours before the session starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tier: Handle
    until: LocalTime | None = None
    hours_before: Annotated[int, Field(ge=0, le=HOURS_MAX, strict=True)] | None = None

    @model_validator(mode="after")
    def ends_once(self) -> "Step":
        """One of the two."""
        if (self.until is None) == (self.hours_before is None):
            raise ValueError("either until or hours_before")
        return self

    def until_when(self, zone: str, starts_at: datetime | None) -> datetime:
        """The end of the turn. Hours are elapsed ones, whatever clocks do meanwhile."""
        if self.until is not None:
            return instant(self.until, zone)
        assert starts_at is not None and self.hours_before is not None  # noqa: PT018  checked by `reserve_faults`
        return starts_at - timedelta(hours=self.hours_before)


class Reserve(BaseModel):
    """Units that are kept for a tier, then perhaps for a lower one, and at last for everybody."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    units: Count
    tiers: Annotated[tuple[Step, ...], Field(min_length=1, max_length=STEPS_MAX)]
    name: Handle | None = None

    @property
    def label(self) -> str:
        """Its name among its neighbours, by which a change finds it again."""
        return self.name or self.tiers[0].tier


Reserves = Annotated[tuple[Reserve, ...], Field(max_length=RESERVES_MAX)]


def pools_of(
    reserves: Sequence[Reserve], units: int | None, zone: str, starts_at: datetime | None = None
) -> tuple[PoolPlan, ...]:
    """What is kept, and the rest for everybody."""
    kept = tuple(
        PoolPlan(one.label, one.units, tuple((step.tier, step.until_when(zone, starts_at)) for step in one.tiers))
        for one in reserves
    )
    rest = None if units is None else units - sum(one.units for one in reserves)
    return (*kept, PoolPlan(EVERYBODY, rest))


def reserve_faults(
    path: str,
    reserves: Sequence[Reserve],
    zone: str,
    tiers: Mapping[str, int],
    starts_at: datetime | None = None,
) -> Iterator[str]:
    """What can't be about the pools at `path`: names twice, unknown tiers, turns that do not lead downward, or past
    the start."""
    seen = {EVERYBODY}
    for place, one in enumerate(reserves):
        at = f"{path}.{place}"
        if one.label in seen:
            yield f"{at}.name: another pool is called {one.label}"
        seen.add(one.label)
        yield from step_faults(f"{at}.tiers", one.tiers, zone, tiers, starts_at)


def step_faults(
    path: str, steps: Sequence[Step], zone: str, tiers: Mapping[str, int], starts_at: datetime | None
) -> Iterator[str]:
    """What can't be about one pool's turns."""
    sound = True
    for place, step in enumerate(steps):
        at = f"{path}.{place}"
        found = list(skipped(f"{at}.until", step.until, zone))
        if step.tier not in tiers:
            found.append(f"{at}.tier: the programme has no tier {step.tier}; it has {', '.join(tiers)}")
        if step.hours_before is not None and starts_at is None:
            found.append(f"{at}.hours_before: there is no session that it could be before; say until")
        elif starts_at is not None and step.until_when(zone, starts_at) > starts_at:
            found.append(f"{at}.until: not after the start")
        sound = sound and not found
        yield from found
    if sound:
        for place, (former, step) in enumerate(pairwise(steps), start=1):
            if tiers[step.tier] >= tiers[former.tier]:
                yield f"{path}.{place}.tier: {step.tier} is not below {former.tier}"
            if step.until_when(zone, starts_at) <= former.until_when(zone, starts_at):
                yield f"{path}.{place}: its turn ends before it begins"


def handle_faults(path: str, handles: Sequence[str]) -> Iterator[str]:
    """Handles that are used twice."""
    for place, handle in enumerate(handles):
        if handle in handles[:place]:
            yield f"{path}.{place}.handle: another one is called {handle}"


def room_faults(path: str, reserves: Sequence[Reserve], units: int | None, noun: str) -> Iterator[str]:
    """Pools larger than what there is, and pools of what has no limit."""
    kept = sum(one.units for one in reserves)
    if reserves and units is None:
        yield f"{path}: where there is no limit nothing can be kept; say how many {noun} there are"
    elif units is not None and kept > units:
        yield f"{path}: they keep {kept} of {units} {noun}"
