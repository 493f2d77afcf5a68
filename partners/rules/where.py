"""Rules on where the member is."""

from decimal import Decimal
from functools import cached_property
from math import asin, cos, radians, sin, sqrt
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from partners.facts import Facts, Refusal, RefusalCode
from partners.rules.shape import RuleModel

EARTH_RADIUS_M = 6_371_008.8  # the mean one (IUGG)
MICRO = 10**6
METRES_PER_MICRO = EARTH_RADIUS_M * radians(1) / MICRO
DEGREES = r"^-?\d{1,3}(\.\d{1,6})?$"
NAMED_MAX = 3


def within(limit: int) -> AfterValidator:
    """Degrees from -limit to limit."""

    def check(text: str) -> str:
        if abs(Decimal(text)) > limit:
            raise ValueError(f"-{limit} to {limit} degrees")
        return text

    return AfterValidator(check)


class Place(BaseModel):
    """A point in decimal degrees (WGS 84), as text: what is stored must be what was written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latitude: Annotated[str, StringConstraints(pattern=DEGREES), within(90)]
    longitude: Annotated[str, StringConstraints(pattern=DEGREES), within(180)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None

    @property
    def point(self) -> tuple[int, int]:
        """In millionths of a degree."""
        return int(Decimal(self.latitude) * MICRO), int(Decimal(self.longitude) * MICRO)


class Near(RuleModel):
    """The claim is made within so many metres of one of these places.

    The caller says where (`details.place`); a check that says nothing of it is refused like one from far away.
    """

    kind: Literal["near"] = "near"
    places: Annotated[tuple[Place, ...], Field(min_length=1, max_length=2_000)]
    radius_m: Annotated[int, Field(ge=10, le=1_000_000)]

    @property
    def sentence(self) -> str:
        """As `Within 500 m of Bahnhofstrasse or Airport.`"""
        names = [place.name for place in self.places if place.name is not None]
        some = len(names) == len(self.places) <= NAMED_MAX
        return f"Within {self.radius_m:,} m of {' or '.join(names) if some else f'one of {len(self.places)} places'}."

    @property
    def of_claim(self) -> bool:
        """Where it is, the claim says."""
        return True

    @cached_property
    def points(self) -> tuple[tuple[int, int], ...]:
        """The places in millionths of a degree."""
        return tuple(place.point for place in self.places)

    def refusal(self, facts: Facts) -> Refusal | None:
        """WRONG_LOCATION, also when no place is said."""
        here = facts.said.place
        if here is not None and any(self.reaches(point, here) for point in self.points):
            return None
        return Refusal(RefusalCode.WRONG_LOCATION, self.kind, required=f"{self.radius_m} m")

    def reaches(self, point: tuple[int, int], here: tuple[int, int]) -> bool:
        """Whether two points are near enough; most are told apart by their latitudes alone."""
        if abs(point[0] - here[0]) * METRES_PER_MICRO > self.radius_m + 1:
            return False
        return metres_between(point, here) <= self.radius_m


def metres_between(one: tuple[int, int], other: tuple[int, int]) -> float:
    """The great-circle distance of two points in millionths of a degree, by the haversine formula."""
    latitude, longitude, latitude_2, longitude_2 = (radians(micro / MICRO) for micro in (*one, *other))
    across = sin((latitude_2 - latitude) / 2) ** 2
    along = sin((longitude_2 - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(across + cos(latitude) * cos(latitude_2) * along)))
