"""What samples and events can be told: what follows from it, and everything that can't be, with its path."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.errors import BadInput
from partners.kinds import KINDS
from partners.kinds.local import EVERYBODY
from partners.perk_settings import PerkSettings, Terms, check_settings
from partners.programme import Programme
from partners.tables import PerkKind

ZURICH = "Europe/Zurich"
STEP_DOWN = [{"tier": "black", "hours_before": 72}, {"tier": "gold", "hours_before": 48}]


def session(**given: Any) -> dict[str, Any]:
    return {"handle": "evening", "title": "An evening", "starts_at": "2027-05-01T19:00", "places": 10} | given


def variant(**given: Any) -> dict[str, Any]:
    return {"handle": "red", "title": "Red", "units": 10} | given


def pool(units: int = 4, *steps: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {"units": units, "tiers": list(steps) or [{"tier": "black", "until": "2027-01-01T00:00"}]} | given


def checked(programme: Programme, kind: PerkKind, zone: str = ZURICH, **given: Any) -> Terms:
    return check_settings(PerkSettings(**{"title": "A perk", "time_zone": zone} | given), kind, programme)


def faults(programme: Programme, kind: PerkKind, zone: str = ZURICH, **given: Any) -> list[str]:
    with pytest.raises(BadInput) as fault:
        checked(programme, kind, zone, **given)
    found: list[str] = fault.value.details["faults"]
    assert fault.value.message == "; ".join(found)
    return found


def event_faults(programme: Programme, *sessions: dict[str, Any], zone: str = ZURICH) -> list[str]:
    return faults(programme, PerkKind.EVENT, zone, settings={"sessions": list(sessions)})


def test_a_session_has_its_times_in_the_zone_and_its_pools_step_down_to_everybody(programme: Programme) -> None:
    plain = session(ends_at="2027-05-01T23:00", cut_off_minutes=90, location="Hall 2", pools=[pool(4, *STEP_DOWN)])
    [plan] = checked(programme, PerkKind.EVENT, settings={"sessions": [plain]}).options
    starts = datetime(2027, 5, 1, 17, tzinfo=UTC)
    assert (plan.starts_at, plan.ends_at) == (starts, starts + timedelta(hours=4))
    assert plan.cut_off_at == starts - timedelta(minutes=90)
    kept, rest = plan.pools
    assert (kept.name, kept.units) == ("black", 4)
    assert kept.schedule == (("black", starts - timedelta(hours=72)), ("gold", starts - timedelta(hours=48)))
    assert (rest.name, rest.units, rest.schedule) == (EVERYBODY, 6, ())


def test_a_variant_has_units_of_its_own_or_no_limit(programme: Programme) -> None:
    settings = {"variants": [variant(pools=[pool(10)]), variant(handle="blue", units=None, open=False)]}
    red, blue = checked(programme, PerkKind.SAMPLE, settings=settings).options
    assert [(one.name, one.units) for one in red.pools] == [("black", 10), (EVERYBODY, 0)]
    assert ([(one.name, one.units) for one in blue.pools], blue.open) == ([(EVERYBODY, None)], False)


def test_a_sample_without_variants_may_keep_some_of_its_capacity(programme: Programme) -> None:
    terms = checked(programme, PerkKind.SAMPLE, units=10, settings={"pools": [pool(4)]})
    assert terms.options == ()
    assert [(one.name, one.units) for one in terms.pools] == [("black", 4), (EVERYBODY, 6)]
    assert checked(programme, PerkKind.SAMPLE, units=10).pools == ()


def test_settings_are_kept_whole_and_read_back_as_they_were(programme: Programme) -> None:
    said = {"sessions": [session(pools=[pool(4, *STEP_DOWN)])]}
    stored = checked(programme, PerkKind.EVENT, settings=said).settings
    assert stored["sessions"][0]["cut_off_minutes"] == 0
    assert checked(programme, PerkKind.EVENT, settings=stored).settings == stored


def test_a_time_that_clocks_skip_is_refused_and_of_one_shown_twice_the_first_is_meant(programme: Programme) -> None:
    assert event_faults(programme, session(starts_at="2027-03-28T02:30")) == [
        f"settings.sessions.0.starts_at: clocks in {ZURICH} skip 2027-03-28T02:30"
    ]
    skipped = pool(1, {"tier": "black", "until": "2027-03-28T02:00"})
    assert event_faults(programme, session(pools=[skipped])) == [
        f"settings.sessions.0.pools.0.tiers.0.until: clocks in {ZURICH} skip 2027-03-28T02:00"
    ]
    [plan] = checked(programme, PerkKind.EVENT, settings={"sessions": [session(starts_at="2027-10-31T02:30")]}).options
    assert plan.starts_at == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


def test_hours_before_the_start_are_elapsed_ones_across_a_change_of_clocks(programme: Programme) -> None:
    settings = {
        "sessions": [session(starts_at="2027-03-28T12:00", pools=[pool(1, {"tier": "gold", "hours_before": 24})])]
    }
    [plan] = checked(programme, PerkKind.EVENT, settings=settings).options
    [(_, until)] = plan.pools[0].schedule
    assert until == datetime(2027, 3, 27, 10, tzinfo=UTC)  # 11:00 in Zurich, an hour earlier by the clock on the wall


@pytest.mark.parametrize(
    ("given", "path", "said"),
    [
        ({"handle": "Red"}, "handle", "pattern"),
        ({"title": " "}, "title", "at least 1"),
        ({"title": "x" * 201}, "title", "at most 200"),
        ({"title": "A\nB"}, "title", "one line"),
        ({"location": "\ud800"}, "location", ""),
        ({"location": ""}, "location", "at least 1"),
        ({"starts_at": "2027-05-01"}, "starts_at", "a local time"),
        ({"starts_at": "٢٠٢٧-05-01T19:00"}, "starts_at", "a local time"),
        ({"starts_at": "2027-05-01T19:00Z"}, "starts_at", "a local time"),
        ({"starts_at": "2027-05-01T19:00+02:00"}, "starts_at", "a local time"),
        ({"starts_at": "2027-02-30T19:00"}, "starts_at", "day"),
        ({"starts_at": 1_800_000_000}, "starts_at", "a local time"),
        ({"starts_at": "1969-12-31T23:59"}, "starts_at", "a year from 1970"),
        ({"starts_at": None}, "starts_at", "a local time"),
        ({"ends_at": "2027-05-01T18:59"}, "ends_at", "not before the start"),
        ({"ends_at": "9999-01-01T00:00"}, "ends_at", "to 9990"),
        ({"cut_off_minutes": -1}, "cut_off_minutes", "after the start"),
        ({"ends_at": "2027-05-01T20:00", "cut_off_minutes": -61}, "cut_off_minutes", "after the end"),
        ({"cut_off_minutes": 60 * 24 * 366 + 1}, "cut_off_minutes", "less than or equal"),
        ({"cut_off_minutes": 1.5}, "cut_off_minutes", "valid integer"),
        ({"places": -1}, "places", "greater than or equal to 0"),
        ({"places": "10"}, "places", "valid integer"),
        ({"places": True}, "places", "valid integer"),
        ({"places": 1_000_000_001}, "places", "less than or equal"),
        ({"colour": "red"}, "colour", "Extra inputs"),
        ({"pools": [pool(6), pool(5, name="more")]}, "pools", "they keep 11 of 10 places"),
        ({"places": None, "pools": [pool(1)]}, "pools", "where there is no limit"),
        ({"pools": [pool(1), pool(1)]}, "pools.1.name", "another pool is called black"),
        ({"pools": [pool(1, name=EVERYBODY)]}, "pools.0.name", "another pool is called everybody"),
        ({"pools": [pool(1, name=f"p{number}") for number in range(11)]}, "pools", "at most 10"),
        ({"pools": [{"units": 1, "tiers": []}]}, "pools.0.tiers", "at least 1"),
        ({"pools": [pool(1, {"tier": "black"})]}, "pools.0.tiers.0", "either until or hours_before"),
        (
            {"pools": [pool(1, {"tier": "black", "hours_before": 1, "until": "2027-01-01T00:00"})]},
            "pools.0.tiers.0",
            "either until or hours_before",
        ),
        ({"pools": [pool(1, {"tier": "black", "hours_before": -1})]}, "pools.0.tiers.0.hours_before", "greater"),
        ({"pools": [pool(1, {"tier": "black", "until": "2027-05-01T19:01"})]}, "pools.0.tiers.0.until", "not after"),
        ({"pools": [pool(1, {"tier": "pearl", "hours_before": 1})]}, "pools.0.tiers.0.tier", "no tier pearl"),
        (
            {"pools": [pool(1, {"tier": "gold", "hours_before": 72}, {"tier": "black", "hours_before": 48})]},
            "pools.0.tiers.1.tier",
            "black is not below gold",
        ),
        (
            {"pools": [pool(1, {"tier": "gold", "hours_before": 72}, {"tier": "gold", "hours_before": 48})]},
            "pools.0.tiers.1.tier",
            "gold is not below gold",
        ),
        (
            {"pools": [pool(1, {"tier": "black", "hours_before": 48}, {"tier": "gold", "hours_before": 48})]},
            "pools.0.tiers.1",
            "ends before it begins",
        ),
    ],
)
def test_an_impossible_session_is_named_with_its_path(
    programme: Programme, given: dict[str, Any], path: str, said: str
) -> None:
    found = event_faults(programme, session(**given))
    assert any(one.startswith(f"settings.sessions.0.{path}: ") and said in one for one in found), found


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variants": [variant(), variant()]}, "settings.variants.1.handle: another one is called red"),
        ({"variants": [variant()], "pools": [pool(1)]}, "settings.pools: there are variants, and each has its own"),
        ({"variants": [variant(pools=[pool(11)])]}, "settings.variants.0.pools: they keep 11 of 10 units"),
        ({"variants": [variant(handle=f"v{n}") for n in range(101)]}, "settings.variants: Tuple should have at most"),
        ({"variants": [variant(units=600_000_000, handle=f"v{n}") for n in range(2)]}, "settings: at most 1000000000"),
        (
            {"variants": [variant(pools=[pool(1, {"tier": "black", "hours_before": 48})])]},
            "settings.variants.0.pools.0.tiers.0.hours_before: there is no session that it could be before; say until",
        ),
        ({"pools": [pool(1)]}, "settings.pools: where there is no limit nothing can be kept; say the capacity"),
        ({"pickup_locations": [{"handle": "a", "name": "A"}] * 2}, "settings.pickup_locations.1.handle: another one"),
        ({"pickup_locations": [{"handle": "a", "name": ""}]}, "settings.pickup_locations.0.name: "),
        ({"shipping": "perhaps"}, "settings.shipping: "),
        ({"sessions": []}, "settings.sessions: Extra inputs"),
    ],
)
def test_an_impossible_sample_is_named_with_its_path(programme: Programme, settings: dict[str, Any], said: str) -> None:
    assert [one for one in faults(programme, PerkKind.SAMPLE, settings=settings) if one.startswith(said)] != []


def test_two_sessions_of_one_handle_and_too_many_are_refused(programme: Programme) -> None:
    assert event_faults(programme, session(), session()) == [
        "settings.sessions.1.handle: another one is called evening"
    ]
    many = [session(handle=f"s{number}") for number in range(101)]
    assert "at most 100" in event_faults(programme, *many)[0]
    assert len(checked(programme, PerkKind.EVENT, settings={"sessions": many[:100]}).options) == 100


def test_pools_that_are_larger_than_the_capacity_are_refused(programme: Programme) -> None:
    found = faults(programme, PerkKind.SAMPLE, units=3, settings={"pools": [pool(2), pool(2, name="more")]})
    assert found == ["settings.pools: they keep 4 of 3 units"]
    exact = checked(programme, PerkKind.SAMPLE, units=4, settings={"pools": [pool(2), pool(2, name="more")]})
    assert [one.units for one in exact.pools] == [2, 2, 0]


def test_the_capacity_is_not_said_where_options_say_it_and_where_codes_are_counted(programme: Programme) -> None:
    found = faults(programme, PerkKind.EVENT, units=10, settings={"sessions": [session()]})
    assert found == ["capacity: it is the sum of what the options have; leave it out"]
    assert faults(programme, PerkKind.CODE, units=10) == ["capacity: what there is is counted; leave it out"]


def test_every_fault_is_told_at_once_with_its_path(programme: Programme) -> None:
    found = faults(
        programme,
        PerkKind.EVENT,
        title="",
        hold_seconds=1,
        units_max=0,
        low_at=-1,
        currency="EURO",
        waitlist={"offer_seconds": 299, "offers": 0, "skip": "maybe", "more": 1},
        rules=[{"kind": "tier_at_least", "tier": "pearl"}],
        settings={"sessions": [session(starts_at="2027-03-28T02:30", ends_at="2027-03-27T00:00")]},
    )
    paths = [one.split(": ")[0] for one in found]
    assert paths == [
        "title",
        "holdSeconds",
        "unitsMax",
        "lowAt",
        "currency",
        "rules.0",
        "waitlist.offerSeconds",
        "waitlist.offers",
        "waitlist.skip",
        "waitlist.more",
        "settings.sessions.0.starts_at",
        "settings.sessions.0.ends_at",
    ]


def test_an_unknown_zone_is_told_beside_what_pydantic_sees(programme: Programme) -> None:
    found = event_faults(programme, session(places=-1), zone="Mars/Olympus")
    assert [one.split(": ")[0] for one in found] == ["timeZone", "settings.sessions.0.places"]
    assert event_faults(programme, session(), zone="Mars/Olympus") == ["timeZone: unknown time zone 'Mars/Olympus'"]


@pytest.mark.parametrize(
    "given",
    [
        {"title": "Soirée\u00a0: l’Été"},
        {"description": "Two\nlines"},
        {"units_max": 1},
        {"units_max": 100},
        {"low_at": 0},
        {"currency": "CHF"},
        {"currency": "JPY"},
        {"waitlist": {"offer_seconds": 300}},
        {"waitlist": {"offer_seconds": 604_800, "offers": 10, "skip": True}},
    ],
)
def test_the_edges_of_what_can_be_are_allowed(programme: Programme, given: dict[str, Any]) -> None:
    assert checked(programme, PerkKind.SAMPLE, **given).rules == []


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"units_max": 101}, "unitsMax"),
        ({"units_max": 0}, "unitsMax"),
        ({"low_at": 1_000_000_001}, "lowAt"),
        ({"currency": "chf"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"waitlist": {"offer_seconds": 604_801}}, "waitlist.offerSeconds"),
        ({"waitlist": {"offers": 11}}, "waitlist.offers"),
    ],
)
def test_a_step_beyond_the_edges_is_refused(programme: Programme, given: dict[str, Any], path: str) -> None:
    [found] = faults(programme, PerkKind.SAMPLE, **given)
    assert found.startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_what_the_database_can_not_hold_is_refused_at_any_depth(programme: Programme, text: str) -> None:
    assert faults(programme, PerkKind.SAMPLE, title=text) == ["title: one line of text"]
    told = ["description: characters that can't be stored"]
    assert faults(programme, PerkKind.SAMPLE, description=text) == told
    form = {"type": "object", "properties": {"a": {"enum": [text]}}}
    assert "settings: characters that can't be stored" in faults(programme, PerkKind.SERVICE, settings={"form": form})


def test_every_kind_tells_what_it_is_and_takes(programme: Programme) -> None:
    for kind, model in KINDS.items():
        assert model.sentence().endswith(".")
        schema = model.model_json_schema()
        assert (schema["type"], schema["additionalProperties"]) == ("object", False)
        assert checked(programme, kind).settings == model().model_dump(mode="json")


@given(
    places=st.integers(0, 1_000),
    reserves=st.lists(st.integers(0, 400), max_size=5),
    hours=st.lists(st.integers(0, 8784), min_size=1, max_size=3, unique=True),
    day=st.dates(datetime(2026, 1, 1).date(), datetime(2030, 12, 31).date()),
    zone=st.sampled_from([ZURICH, "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu", "UTC"]),
)
def test_pools_are_all_of_the_places_and_their_turns_follow_each_other(
    programme: Programme, places: int, reserves: list[int], hours: list[int], day: Any, zone: str
) -> None:
    """Whatever can be written either is refused with a reason or divides the places, with turns in order."""
    steps = [
        {"tier": tier, "hours_before": before}
        for tier, before in zip(["black", "gold", "silver"], sorted(hours, reverse=True), strict=False)
    ]
    pools = [pool(units, *steps, name=f"p{number}") for number, units in enumerate(reserves)]
    settings = {"sessions": [session(starts_at=f"{day}T12:00", places=places, pools=pools)]}
    if sum(reserves) > places:
        assert event_faults(programme, settings["sessions"][0], zone=zone) == [
            f"settings.sessions.0.pools: they keep {sum(reserves)} of {places} places"
        ]
        return
    [plan] = checked(programme, PerkKind.EVENT, zone, settings=settings).options
    assert sum(one.units or 0 for one in plan.pools) == places
    assert plan.starts_at is not None
    for one in plan.pools:
        untils = [until for _, until in one.schedule]
        assert all(former < later for former, later in pairwise(untils))
        assert all(until <= plan.starts_at for until in untils)
