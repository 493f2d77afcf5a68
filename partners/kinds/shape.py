"""What every kind of perk is: settings that are checked, and what follows from them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Some units (None: no limit), for higher tiers first: each tier until its instant, highest first."""

    name: str
    units: int | None
    schedule: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class OptionPlan:
    """A variant or session with its pools, at least one."""

    handle: str
    title: str
    pools: tuple[PoolPlan, ...]
    open: bool = True
    location: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    cut_off_at: datetime | None = None


class Kind(BaseModel):
    """A kind's settings, as a partner writes them in `settings` of a perk's input; never rename a field."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    self_service: ClassVar[bool] = False

    def faults(self, zone: str, tiers: Collection[str]) -> Iterator[str]:
        """What can't be, each with its path; what pydantic can't see by itself."""
        yield from ()

    def options(self, zone: str) -> tuple[OptionPlan, ...]:
        """The options that claims name; none: there is nothing to choose."""
        return ()

    def pools(self, zone: str) -> tuple[PoolPlan, ...]:
        """The pools of a perk without options; none: all units are for everybody."""
        return ()
