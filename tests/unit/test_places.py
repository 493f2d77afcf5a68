"""Distances on the globe, against the angle between vectors, and what a radius lets through."""

from math import acos, cos, pi, radians, sin

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partners.rules.where import EARTH_RADIUS_M, Near, Place, metres_between

points = st.tuples(st.integers(-90_000_000, 90_000_000), st.integers(-180_000_000, 180_000_000))
near_points = st.tuples(st.integers(-20_000, 20_000), st.integers(-20_000, 20_000))


def vector(point: tuple[int, int]) -> tuple[float, float, float]:
    latitude, longitude = (radians(micro / 1e6) for micro in point)
    return cos(latitude) * cos(longitude), cos(latitude) * sin(longitude), sin(latitude)


@given(points, points)
@example((0, 179_999_999), (0, -179_999_999))
@example((90_000_000, 0), (-90_000_000, 77))
def test_a_distance_is_the_angle_between_two_vectors(one: tuple[int, int], other: tuple[int, int]) -> None:
    dot = sum(a * b for a, b in zip(vector(one), vector(other), strict=True))
    angle = acos(max(-1.0, min(1.0, dot)))
    # The cosine of a small angle tells little of it.
    assert metres_between(one, other) == pytest.approx(EARTH_RADIUS_M * angle, abs=200)
    assert metres_between(one, other) == metres_between(other, one)
    assert metres_between(one, one) == 0


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        ((0, 0), (0, 180_000_000), pi * EARTH_RADIUS_M),
        ((0, 179_999_000), (0, -179_999_000), 222.39),  # over the date line
        ((90_000_000, 12_000_000), (90_000_000, -80_000_000), 0),  # one pole
        ((47_376_900, 8_541_700), (46_204_400, 6_143_200), 224_380),  # Zurich to Geneva
        ((10_000, 0), (0, 0), 1_111.95),
    ],
)
def test_distances_that_are_known(one: tuple[int, int], other: tuple[int, int], metres: float) -> None:
    assert metres_between(one, other) == pytest.approx(metres, rel=1e-3, abs=0.01)


def degrees(micro: int) -> str:
    sign = "-" if micro < 0 else ""
    return f"{sign}{abs(micro) // 10**6}.{abs(micro) % 10**6:06}"


@given(points, near_points, st.integers(10, 5_000))
def test_a_radius_lets_just_those_through_who_are_within(
    place: tuple[int, int], away: tuple[int, int], radius: int
) -> None:
    rule = Near(places=(Place(latitude=degrees(place[0]), longitude=degrees(place[1])),), radius_m=radius)
    assert rule.points == (place,)
    here = (max(-90_000_000, min(90_000_000, place[0] + away[0])), place[1] + away[1])
    assert rule.reaches(place, here) == (metres_between(place, here) <= radius)
