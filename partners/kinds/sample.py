"""SAMPLE: A thing to try: units, perhaps in variants, picked up or shipped."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from partners.kinds.local import (
    Count,
    Line,
    Reserves,
    Title,
    handle_faults,
    pools_of,
    reserve_faults,
    room_faults,
)
from partners.kinds.shape import Kind, OptionPlan, PoolPlan
from partners.programme import Handle

VARIANTS_MAX = 100
LOCATIONS_MAX = 2_000


class Variant(BaseModel):
    """One of several to choose from; `units` null is no limit, and a variant that is not `open` is not claimed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    handle: Handle
    title: Title
    units: Count | None = None
    open: bool = True
    pools: Reserves = ()


class PickupLocation(BaseModel):
    """Where a sample can be picked up."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    handle: Handle
    name: Title
    address: Line = ""


class Sample(Kind):
    """A thing to try: units, perhaps in variants, picked up or shipped."""

    variants: Annotated[tuple[Variant, ...], Field(max_length=VARIANTS_MAX)] = ()
    pools: Reserves = ()
    pickup_locations: Annotated[tuple[PickupLocation, ...], Field(max_length=LOCATIONS_MAX)] = ()
    shipping: bool = False

    def faults(self, zone: str, tiers: Mapping[str, int]) -> Iterator[str]:
        """Handles twice, pools that can't be."""
        yield from handle_faults("variants", [one.handle for one in self.variants])
        yield from handle_faults("pickup_locations", [one.handle for one in self.pickup_locations])
        if self.variants and self.pools:
            yield "pools: there are variants, and each has its own"
        yield from reserve_faults("pools", self.pools, zone, tiers)
        for place, one in enumerate(self.variants):
            path = f"variants.{place}.pools"
            yield from room_faults(path, one.pools, one.units, "units")
            yield from reserve_faults(path, one.pools, zone, tiers)

    @property
    def has_options(self) -> bool:
        """Whether it has variants."""
        return bool(self.variants)

    def options(self, zone: str) -> tuple[OptionPlan, ...]:
        """Its variants."""
        return tuple(
            OptionPlan(one.handle, one.title, pools_of(one.pools, one.units, zone), one.open) for one in self.variants
        )

    def own_pools(self, zone: str, units: int | None) -> tuple[PoolPlan, ...]:
        """Pools of its units, where it has no variants."""
        return pools_of(self.pools, units, zone) if self.pools else ()
