"""EVENT: Something to attend: sessions with places, parties, a cut-off and check-in."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from partners.kinds.local import (
    Count,
    LocalTime,
    Reserves,
    Title,
    handle_faults,
    instant,
    pools_of,
    reserve_faults,
    room_faults,
    skipped,
)
from partners.kinds.shape import Kind, OptionPlan
from partners.programme import Handle

SESSIONS_MAX = 100
MINUTES_MAX = 60 * 24 * 366


class Session(BaseModel):
    """One date of the event: `places` null is no limit.

    Claims end `cut_off_minutes` before the start; a negative number is after it, and never after the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    handle: Handle
    title: Title
    starts_at: LocalTime
    ends_at: LocalTime | None = None
    cut_off_minutes: Annotated[int, Field(ge=-MINUTES_MAX, le=MINUTES_MAX, strict=True)] = 0
    places: Count | None = None
    location: Title | None = None
    open: bool = True
    pools: Reserves = ()

    def starts(self, zone: str) -> datetime:
        """The instant it begins."""
        return instant(self.starts_at, zone)

    def ends(self, zone: str) -> datetime | None:
        """The instant it is over, where that is known."""
        return None if self.ends_at is None else instant(self.ends_at, zone)

    def cut_off(self, zone: str) -> datetime:
        """From when on nothing is claimed."""
        return self.starts(zone) - timedelta(minutes=self.cut_off_minutes)

    def faults(self, path: str, zone: str, tiers: Mapping[str, int]) -> Iterator[str]:
        """What can't be about its times and its places."""
        ends, cut_off = self.ends(zone), self.cut_off(zone)
        yield from skipped(f"{path}.starts_at", self.starts_at, zone)
        yield from skipped(f"{path}.ends_at", self.ends_at, zone)
        if ends is not None and ends < self.starts(zone):
            yield f"{path}.ends_at: not before the start"
        elif cut_off > (ends or self.starts(zone)):
            yield f"{path}.cut_off_minutes: the cut-off is after the {'start' if ends is None else 'end'}"
        yield from room_faults(f"{path}.pools", self.pools, self.places, "places")
        yield from reserve_faults(f"{path}.pools", self.pools, zone, tiers, self.starts(zone))


class Event(Kind):
    """Something to attend: sessions with places, parties, a cut-off and check-in."""

    sessions: Annotated[tuple[Session, ...], Field(max_length=SESSIONS_MAX)] = ()

    def faults(self, zone: str, tiers: Mapping[str, int]) -> Iterator[str]:
        """Handles twice, and what can't be about a session."""
        yield from handle_faults("sessions", [one.handle for one in self.sessions])
        for place, one in enumerate(self.sessions):
            yield from one.faults(f"sessions.{place}", zone, tiers)

    @property
    def has_options(self) -> bool:
        """Whether it has sessions."""
        return bool(self.sessions)

    def options(self, zone: str) -> tuple[OptionPlan, ...]:
        """Its sessions."""
        return tuple(
            OptionPlan(
                one.handle,
                one.title,
                pools_of(one.pools, one.places, zone, one.starts(zone)),
                one.open,
                one.location,
                one.starts(zone),
                one.ends(zone),
                one.cut_off(zone),
            )
            for one in self.sessions
        )
