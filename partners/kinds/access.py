"""ACCESS: A standing right with a term."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from partners.kinds.shape import Kind

DAYS_MAX = 36_500
USES_MAX = 1_000_000


class OnTierDrop(StrEnum):
    """What becomes of a right when its member's tier falls below the one it was given under."""

    KEEP = "KEEP"
    KEEP_UNTIL = "KEEP_UNTIL"
    REVOKE = "REVOKE"


class Access(Kind):
    """A standing right with a term.

    It stands for `term_days` after the day it was given (null: without end), the last day included, for `uses` in all
    (null: any number). On a tier drop it is kept, taken away at once, or taken away unless the tier is back before
    `keep_days` after the day of the drop are over.
    """

    term_days: Annotated[int, Field(ge=1, le=DAYS_MAX, strict=True)] | None = None
    uses: Annotated[int, Field(ge=1, le=USES_MAX, strict=True)] | None = None
    on_tier_drop: OnTierDrop = OnTierDrop.KEEP
    keep_days: Annotated[int, Field(ge=0, le=DAYS_MAX, strict=True)] = 0

    def faults(self, zone: str, tiers: Mapping[str, int]) -> Iterator[str]:
        """Days to keep that are not kept, or none where some are."""
        if (self.on_tier_drop is OnTierDrop.KEEP_UNTIL) != (self.keep_days > 0):
            yield "keep_days: at least one where on_tier_drop is KEEP_UNTIL, and only there"

    def perk_faults(self, units_max: int, waits: bool) -> Iterator[str]:
        """More than one at once."""
        if units_max != 1:
            yield "unitsMax: a redemption gives one right"
