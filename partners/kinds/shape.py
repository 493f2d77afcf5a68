"""What every kind of perk is: settings that are checked, and what follows from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from inspect import cleandoc
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


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
    """A kind's settings, as a partner writes them in `settings` of a perk's input; never rename a field.

    They are kept whole, defaults and all, so that SQL can read them (alembic/sql). The docstring's first line is its
    description in the API. `self_service`: whether members confirm by themselves, unless the perk says otherwise.
    `counted_by_hand`: whether `capacity` is the partner's to set; else what it has is counted (codes), from none on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    self_service: ClassVar[bool] = False
    counted_by_hand: ClassVar[bool] = True

    @classmethod
    def sentence(cls) -> str:
        """The kind in a sentence."""
        return cleandoc(cls.__doc__ or "").split("\n")[0]

    def faults(self, zone: str, tiers: Mapping[str, int]) -> Iterator[str]:
        """What can't be and pydantic can't see by itself, each as `path: what is wrong`, with the path within the
        settings; `tiers` are ranks by handle."""
        yield from ()

    def perk_faults(self, units_max: int, waits: bool) -> Iterator[str]:
        """What of the perk itself does not go with it, as `path: what is wrong`: how many one claim may take, and
        whether members can wait."""
        yield from ()

    @property
    def has_options(self) -> bool:
        """Whether there is something to choose."""
        return False

    def options(self, zone: str) -> tuple[OptionPlan, ...]:
        """The options that claims name; none: there is nothing to choose. Called on faultless settings only."""
        return ()

    def own_pools(self, zone: str, units: int | None) -> tuple[PoolPlan, ...]:
        """The pools of a perk of so many units (None: no limit) without options; none: all units are for everybody."""
        return ()


Model = TypeVar("Model", bound=BaseModel)


def read_model(model: type[Model], values: Mapping[str, Any]) -> tuple[Model | None, list[str]]:
    """The values as the model has them, or every fault that pydantic sees, as `path: what is wrong`."""
    try:
        return model.model_validate(values), []
    except ValidationError as fault:
        told = (
            (".".join(str(part) for part in one["loc"]), one["msg"].removeprefix("Value error, "))
            for one in fault.errors(include_url=False)
        )
        return None, [f"{path}: {message}" if path else message for path, message in told]
