"""Every rule by itself: one line for each reason to refuse, and what rules may be declared."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any
from uuid import UUID

import pytest

from partners import rules, standing
from partners.errors import BadInput
from partners.facts import (
    NOTHING_SAID,
    Circumstances,
    Facts,
    MemberFacts,
    OptionFacts,
    PerkFacts,
    PoolFacts,
    RefusalCode,
    Use,
    start_of_day,
)
from partners.policies import policy_of, reads_of, validate_rules
from partners.rules import (
    KINDS,
    RULES,
    Allowance,
    BirthdayMonth,
    EarlyAccess,
    LinkedFor,
    Market,
    MemberFor,
    Near,
    NotTogether,
    Place,
    Recurring,
    RuleModel,
    ScoreAtLeast,
    Segment,
    TierAtLeast,
    TierIn,
    Velocity,
)
from partners.standing import STANDING

RANKS = {"member": 1, "silver": 2, "gold": 3, "black": 4}
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a Sunday
TODAY = NOW.date()
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
GOLD = MemberFacts("ACTIVE", NOW - 100 * DAY, "CH", "gold")
LAPSED = replace(GOLD, tier=None, tier_lapsed=True)
MONTHLY = Allowance(period="MONTH", units={"gold": 2, "silver": 0})
PHONE = Circumstances(device=b"a phone")
ZURICH = (47_376_900, 8_541_700)


def facts(
    person: MemberFacts = GOLD,
    /,
    perk: PerkFacts | None = None,
    said: Circumstances = NOTHING_SAID,
    **uses: list[Use],
) -> Facts:
    return Facts(NOW, RANKS, person, perk or PerkFacts(), uses, said)


def uses(*days: float, units: int = 1, amount: int = 0) -> list[Use]:
    """One so many days ago each."""
    return [Use(NOW - one * DAY, units, amount) for one in days]


def option(open: bool = True, cut_off_at: datetime | None = None) -> PerkFacts:
    one = OptionFacts(UUID(int=7), "evening", open, NOW + 9 * HOUR, NOW + 12 * HOUR, cut_off_at)
    return PerkFacts(options=(one,), pools=(PoolFacts(0, one.id, 9, 0, 0),), units=9)


def kept_for_black(until: datetime) -> PerkFacts:
    return PerkFacts(units=4, pools=(PoolFacts(0, None, 4, 0, 0, (("black", until),)),))


NO: list[tuple[str, Facts, str]] = [
    ("MEMBERSHIP_SUSPENDED", facts(replace(GOLD, state="SUSPENDED")), "membership"),
    ("CONSENT_MISSING", facts(replace(GOLD, consented=False)), "consent"),
    ("PARTNER_SUSPENDED", facts(perk=PerkFacts(partner_state="SUSPENDED")), "partner"),
    ("PERK_PAUSED", facts(perk=PerkFacts("PAUSED")), "publication"),
    ("NOT_STARTED", facts(perk=PerkFacts("DRAFT")), "publication"),
    ("NOT_STARTED", facts(perk=PerkFacts(opens_on=TODAY + DAY)), "window"),
    ("ENDED", facts(perk=PerkFacts(closes_on=TODAY - DAY)), "window"),
    ("CAPACITY_EXHAUSTED", facts(perk=PerkFacts(units=5, taken=5)), "capacity"),
    ("CAPACITY_EXHAUSTED", facts(perk=PerkFacts(units=0)), "capacity"),
    ("CAPACITY_EXHAUSTED", facts(perk=PerkFacts(units=5, taken=2, kept=3)), "capacity"),
    ("CAPACITY_EXHAUSTED", facts(perk=kept_for_black(NOW + HOUR)), "capacity"),
    ("CAPACITY_EXHAUSTED", facts(perk=PerkFacts(units=2, units_max=3), said=Circumstances(units=3)), "capacity"),
    ("CODE_POOL_EMPTY", facts(perk=PerkFacts(units=1, taken=1, kind="CODE")), "capacity"),
    ("UNITS_NOT_ALLOWED", facts(said=Circumstances(units=2)), "units"),
    ("UNITS_NOT_ALLOWED", facts(said=Circumstances(units=0)), "units"),
    ("UNDER_REVIEW", facts(replace(GOLD, under_review=True)), "review"),
    ("PERK_PAUSED", facts(perk=option(open=False)), "option"),
    ("ENDED", facts(perk=option(cut_off_at=NOW)), "option"),
]


@pytest.mark.parametrize(("code", "given", "rule"), NO)
def test_a_standing_rule_refuses_with_its_code(code: str, given: Facts, rule: str) -> None:
    refusals = [refusal for one in STANDING if (refusal := one(given)) is not None]
    assert [(refusal.code, refusal.rule) for refusal in refusals] == [(code, rule)]


@pytest.mark.parametrize(
    "perk",
    [
        PerkFacts(),
        PerkFacts(opens_on=TODAY, closes_on=TODAY),
        PerkFacts(units=1),
        PerkFacts(units=None, taken=9),
        option(cut_off_at=NOW + HOUR),
        kept_for_black(NOW),
    ],
)
def test_the_standing_rules_let_a_plain_case_pass(perk: PerkFacts) -> None:
    assert [one(facts(perk=perk)) for one in STANDING] == [None] * len(STANDING)


SUNDAYS = Recurring(starts=datetime(2026, 11, 1, 11), minutes=90, rrule="FREQ=WEEKLY")
MONDAYS = Recurring(starts=datetime(2026, 11, 2, 11), minutes=90, rrule="FREQ=WEEKLY;BYDAY=MO")
NEAR = Near(places=(Place(latitude="47.3769", longitude="8.5417", name="Main station"),), radius_m=500)


def replace_until(rule: Recurring, until: str) -> Recurring:
    return Recurring(starts=rule.starts, minutes=rule.minutes, rrule=f"{rule.rrule};UNTIL={until}")


DECLARED: list[tuple[RuleModel, Facts, str | None, datetime | None]] = [
    (TierAtLeast(tier="gold"), facts(), None, None),
    (TierAtLeast(tier="silver"), facts(), None, None),
    (TierAtLeast(tier="black"), facts(), "TIER_TOO_LOW", None),
    (TierAtLeast(tier="black"), facts(replace(GOLD, tier=None)), "TIER_TOO_LOW", None),
    (TierAtLeast(tier="member"), facts(LAPSED), "TIER_EXPIRED", None),
    (TierAtLeast(tier="vanished"), facts(), "TIER_TOO_LOW", None),
    (TierAtLeast(tier="member"), facts(replace(GOLD, tier="vanished")), "TIER_TOO_LOW", None),
    (TierIn(allowed=("silver", "gold")), facts(), None, None),
    (TierIn(allowed=("silver", "black")), facts(), "TIER_TOO_LOW", None),
    (TierIn(allowed=("gold",)), facts(LAPSED), "TIER_EXPIRED", None),
    (MemberFor(days=100), facts(), None, None),
    (MemberFor(days=101), facts(), "JOINED_TOO_RECENTLY", start_of_day(NOW.date() + DAY, "UTC")),
    (Market(markets=("DE", "CH")), facts(), None, None),
    (Market(markets=("DE",)), facts(), "WRONG_MARKET", None),
    (Market(markets=("DE",)), facts(replace(GOLD, market=None)), "WRONG_MARKET", None),
    (EarlyAccess(until=TODAY + DAY, tier="gold"), facts(), None, None),
    (EarlyAccess(until=TODAY, tier="black"), facts(), None, None),
    (EarlyAccess(until=TODAY + DAY, tier="black"), facts(), "EARLY_ACCESS_ONLY", datetime(2026, 11, 23, tzinfo=UTC)),
    (MONTHLY, facts(member=uses(1, 30)), None, None),
    (MONTHLY, facts(member=uses(1, 21)), "ALLOWANCE_EXHAUSTED", datetime(2026, 12, 1, tzinfo=UTC)),
    (MONTHLY, facts(member=uses(1, 2, 3)), "ALLOWANCE_EXHAUSTED", datetime(2026, 12, 1, tzinfo=UTC)),
    (MONTHLY, facts(said=Circumstances(units=3)), "ALLOWANCE_EXHAUSTED", None),
    (MONTHLY, facts(replace(GOLD, tier="silver")), "ALLOWANCE_EXHAUSTED", None),
    (MONTHLY, facts(replace(GOLD, tier="black")), "ALLOWANCE_EXHAUSTED", None),
    (Allowance(period="EVER", otherwise=1), facts(member=uses(900)), "ALLOWANCE_EXHAUSTED", None),
    (Allowance(period="EVER", otherwise=1), facts(LAPSED), None, None),
    (
        Allowance(period="WEEK", otherwise=1, week_starts="SUNDAY"),
        facts(member=uses(0.25)),
        "ALLOWANCE_EXHAUSTED",
        start_of_day(TODAY + 7 * DAY, "UTC"),
    ),
    (Allowance(period="WEEK", otherwise=1, week_starts="SUNDAY"), facts(member=uses(1)), None, None),
    (Allowance(period="WEEK", otherwise=1), facts(member=uses(1)), "ALLOWANCE_EXHAUSTED", NOW + 12 * HOUR),
    (
        Allowance(period="ROLLING", hours=24, otherwise=1),
        facts(member=uses(0.5)),
        "ALLOWANCE_EXHAUSTED",
        NOW + 12 * HOUR,
    ),
    (Allowance(period="ROLLING", hours=24, otherwise=1), facts(member=uses(1)), None, None),
    # The tier ends tomorrow, and what anybody has is more than what it had.
    (
        Allowance(period="WEEK", units={"gold": 1}, otherwise=3, week_starts="SUNDAY"),
        facts(replace(GOLD, tier_ends_at=NOW + DAY), member=uses(0.1)),
        "ALLOWANCE_EXHAUSTED",
        NOW + DAY,
    ),
    (
        Allowance(period="MONTH", measure="amount", otherwise=500),
        facts(said=Circumstances(amount=101), member=uses(1, amount=400)),
        "VALUE_LIMIT_REACHED",
        datetime(2026, 12, 1, tzinfo=UTC),
    ),
    (
        Allowance(period="MONTH", measure="amount", otherwise=500),
        facts(said=Circumstances(amount=100), member=uses(1, amount=400)),
        None,
        None,
    ),
    (Allowance(period="MONTH", measure="amount", otherwise=500), facts(member=uses(1, amount=499)), None, None),
    (
        Allowance(period="EVER", per="household", otherwise=1),
        facts(replace(GOLD, household="H1"), household=uses(9), member=[]),
        "HOUSEHOLD_LIMIT_REACHED",
        None,
    ),
    (Allowance(period="EVER", per="household", otherwise=1), facts(household=uses(9), member=[]), None, None),
    (Allowance(period="EVER", per="device", otherwise=1), facts(), "DEVICE_MISSING", None),
    (Allowance(period="EVER", per="device", otherwise=1), facts(said=PHONE), None, None),
    (
        Allowance(period="EVER", per="device", otherwise=1),
        facts(said=PHONE, device=uses(1)),
        "DEVICE_ALREADY_USED",
        None,
    ),
    (LinkedFor(days=10), facts(replace(GOLD, linked_at=NOW - 10 * DAY)), None, None),
    (
        LinkedFor(days=11),
        facts(replace(GOLD, linked_at=NOW - 10 * DAY)),
        "JOINED_TOO_RECENTLY",
        start_of_day(TODAY + DAY, "UTC"),
    ),
    (LinkedFor(days=1), facts(), "CONSENT_MISSING", None),
    (ScoreAtLeast(score=1000), facts(replace(GOLD, score=1000)), None, None),
    (ScoreAtLeast(score=1000), facts(replace(GOLD, score=999)), "SCORE_TOO_LOW", None),
    (Segment(any_of=("vip", "press")), facts(replace(GOLD, labels=frozenset({"press"}))), None, None),
    (Segment(any_of=("vip",)), facts(replace(GOLD, labels=frozenset({"press"}))), "WRONG_SEGMENT", None),
    (Segment(none_of=("press",)), facts(replace(GOLD, labels=frozenset({"press"}))), "WRONG_SEGMENT", None),
    (Segment(none_of=("press",)), facts(), None, None),
    (Segment(any_of=("a",), none_of=("b",)), facts(replace(GOLD, labels=frozenset("ab"))), "WRONG_SEGMENT", None),
    (BirthdayMonth(), facts(replace(GOLD, birth_month=11)), None, None),
    (BirthdayMonth(), facts(replace(GOLD, birth_month=2)), "OUTSIDE_WINDOW", datetime(2027, 2, 1, tzinfo=UTC)),
    (BirthdayMonth(), facts(replace(GOLD, birth_month=12)), "OUTSIDE_WINDOW", datetime(2026, 12, 1, tzinfo=UTC)),
    (BirthdayMonth(), facts(replace(GOLD, birth_month=2, to_partner=True)), "OUTSIDE_WINDOW", None),
    (BirthdayMonth(), facts(), "OUTSIDE_WINDOW", None),
    (SUNDAYS, facts(), None, None),
    (SUNDAYS, facts(perk=PerkFacts(zone="Asia/Tokyo")), "OUTSIDE_WINDOW", NOW + 7 * DAY - 10 * HOUR),
    (MONDAYS, facts(), "OUTSIDE_WINDOW", datetime(2026, 11, 23, 11, tzinfo=UTC)),
    (replace_until(MONDAYS, "20261116"), facts(), "OUTSIDE_WINDOW", None),
    (NEAR, facts(said=Circumstances(place=ZURICH)), None, None),
    (NEAR, facts(said=Circumstances(place=(ZURICH[0] + 4_400, ZURICH[1]))), None, None),
    (NEAR, facts(said=Circumstances(place=(ZURICH[0] + 4_600, ZURICH[1]))), "WRONG_LOCATION", None),
    (NEAR, facts(said=Circumstances(place=(ZURICH[0], ZURICH[1] + 6_700))), "WRONG_LOCATION", None),
    (NEAR, facts(), "WRONG_LOCATION", None),
    (NotTogether(group="spa"), facts(replace(GOLD, exclusions=frozenset({"spa"}))), "CONFLICTS_WITH_HELD_PERK", None),
    (NotTogether(group="spa"), facts(replace(GOLD, exclusions=frozenset({"golf"}))), None, None),
    (Velocity(claims=2, hours=2), facts(replace(GOLD, claimed_at=(NOW - HOUR, NOW - 2 * HOUR))), None, None),
    (Velocity(claims=2, hours=3), facts(replace(GOLD, claimed_at=(NOW - HOUR, NOW - 2 * HOUR))), "UNDER_REVIEW", None),
]


@pytest.mark.parametrize(("rule", "given", "code", "again"), DECLARED)
def test_a_declared_rule_answers(rule: RuleModel, given: Facts, code: str | None, again: datetime | None) -> None:
    refusal = rule.refusal(given)
    answer = (None, None) if refusal is None else (refusal.code, refusal.eligible_again_at)
    assert answer == (code, again)


def test_every_reason_that_rules_can_give_is_tried_here() -> None:
    sources = [Path(standing.__file__), *Path(rules.__file__).parent.glob("*.py")]
    named = {code for source in sources for code in re.findall(r"RefusalCode\.([A-Z_]+)", source.read_text())}
    tried = {str(code) for code, _, _ in NO} | {code for _, _, code, _ in DECLARED if code}
    assert tried == named
    assert named <= set(RefusalCode)


def test_a_refusal_explains_itself_in_figures() -> None:
    refusal = MONTHLY.refusal(facts(member=uses(1, 2)))
    assert refusal is not None
    assert (refusal.rule, refusal.required, refusal.current) == ("allowance", "2", "2")


def test_a_score_is_told_to_the_member_and_to_no_partner() -> None:
    rule, low = ScoreAtLeast(score=2500), replace(GOLD, score=2499)
    told = [rule.refusal(facts(replace(low, to_partner=partner))) for partner in (False, True)]
    assert [(refusal.required, refusal.current) for refusal in told if refusal] == [("2500", "2499"), ("2500", None)]


def test_a_pool_that_will_be_released_says_when() -> None:
    refusal = STANDING[-1](facts(perk=kept_for_black(NOW + HOUR)))
    assert refusal is not None
    assert refusal.eligible_again_at == NOW + HOUR
    assert STANDING[-1](facts(replace(GOLD, tier="black"), perk=kept_for_black(NOW + HOUR))) is None


def test_the_window_is_in_the_zone_of_the_perk_and_its_last_day_is_inclusive() -> None:
    perk = PerkFacts(zone="Asia/Tokyo", opens_on=date(2026, 11, 22), closes_on=date(2026, 11, 22))
    assert perk.opens_at == datetime(2026, 11, 21, 15, tzinfo=UTC)
    assert perk.closes_at == datetime(2026, 11, 22, 15, tzinfo=UTC)


EVERY_RULE: list[Mapping[str, Any]] = [
    {"kind": "tier_at_least", "tier": "gold"},
    {"kind": "tier_in", "allowed": ["gold", "black"]},
    {"kind": "member_for", "days": 30},
    {"kind": "linked_for", "days": 30},
    {"kind": "market", "markets": ["CH"]},
    {"kind": "score_at_least", "score": 2500},
    {"kind": "segment", "any_of": ["vip"], "none_of": ["press", "staff"]},
    {"kind": "early_access", "until": "2026-12-01", "tier": "black"},
    {"kind": "recurring", "starts": "2027-01-05T18:00:00", "minutes": 90, "rrule": "FREQ=WEEKLY;BYDAY=TU"},
    {"kind": "birthday_month"},
    {"kind": "near", "places": [{"latitude": "47.3769", "longitude": "-8.5417"}], "radius_m": 1500},
    {"kind": "not_together", "group": "spa"},
    {"kind": "velocity", "claims": 5, "hours": 24},
    {"kind": "allowance", "period": "ROLLING", "hours": 48, "otherwise": 2, "per": "device"},
    {"kind": "allowance", "period": "YEAR", "measure": "amount", "per": "household", "otherwise": 50_000},
    {"kind": "allowance", "period": "WEEK", "units": {"gold": 1}, "otherwise": 0},
]
SENTENCES = [
    "The member's tier is gold or higher.",
    "The member's tier is one of gold, black.",
    "A member for at least 30 days.",
    "The member agreed with the partner at least 30 days ago.",
    "The member's market is one of CH.",
    "The member's score is at least 2,500.",
    "The member has one of the labels vip and none of press, staff.",
    "Until 2026-12-01 only black or higher.",
    "From 18:00 for 90 minutes, every week on TU, since 2027-01-05.",
    "In the month of the member's birthday.",
    "Within 1,500 m of one of 1 places.",
    "Not together with another perk of the group spa.",
    "At most 5 claims on the partner's perks within 24 hours; beyond that staff look into them.",
    "At most 2 uses within any 48 hours on each device.",
    "At most 50,000 minor units of the currency a year for each household.",
    "Uses a week: gold 1, others 0.",
]


def test_every_kind_is_tried_here() -> None:
    assert {rule["kind"] for rule in EVERY_RULE} == set(KINDS)


def test_a_rule_has_a_sentence_for_people() -> None:
    parsed = validate_rules(EVERY_RULE, RANKS)
    assert [rule.sentence for rule in parsed] == SENTENCES
    assert [rule.sentence for rule in (NEAR, Segment(none_of=("press",)))] == [
        "Within 500 m of Main station.",
        "The member has none of the labels press.",
    ]


def test_what_is_stored_reads_back_as_what_was_declared() -> None:
    parsed = validate_rules(EVERY_RULE, RANKS)
    assert [rule.kind for rule in parsed] == [declared["kind"] for declared in EVERY_RULE]
    assert RULES.validate_json(RULES.dump_json(parsed)) == parsed
    described = policy_of(parsed).described
    assert [{"kind": kind} | settings for kind, _, settings in described] == EVERY_RULE
    assert policy_of(parsed).allowance == parsed[-1]
    assert policy_of(parsed).allowances == tuple(parsed[-3:])
    assert policy_of(parsed).exclusion == "spa"


def test_a_question_reads_just_what_its_rules_need() -> None:
    assert reads_of(validate_rules(EVERY_RULE[:11], RANKS)) == {
        "member_window": None,
        "household_window": None,
        "device_window": None,
        "needs": [],
    }
    assert reads_of(validate_rules(EVERY_RULE, RANKS)) == {
        "member_window": 368 * 86_400,
        "household_window": 368 * 86_400,
        "device_window": 48 * 3600,
        "needs": ["claims", "exclusions"],
    }


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "tier_at_most", "tier": "gold"},
        {"tier": "gold"},
        {"kind": "tier_at_least"},
        {"kind": "tier_at_least", "tier": "gold", "why": "because"},
        {"kind": "tier_at_least", "tier": "Gold"},
        {"kind": "tier_at_least", "tier": "platinum"},
        {"kind": "tier_in", "allowed": []},
        {"kind": "tier_in", "allowed": ["gold", "platinum"]},
        {"kind": "member_for", "days": 0},
        {"kind": "member_for", "days": 36_501},
        {"kind": "market", "markets": ["ch"]},
        {"kind": "market", "markets": []},
        {"kind": "early_access", "until": "2026-02-30", "tier": "gold"},
        {"kind": "early_access", "until": "0001-01-01", "tier": "gold"},
        {"kind": "allowance", "period": "HOUR"},
        {"kind": "allowance", "period": "DAY", "units": {"gold": -1}},
        {"kind": "allowance", "period": "DAY", "units": {"gold": 1001}},
        {"kind": "allowance", "period": "DAY", "units": {"platinum": 1}},
        {"kind": "allowance", "period": "DAY", "hours": 1},
        {"kind": "allowance", "period": "ROLLING"},
        {"kind": "allowance", "period": "ROLLING", "hours": 0},
        {"kind": "allowance", "period": "DAY", "otherwise": 2**31, "measure": "amount"},
        {"kind": "allowance", "period": "DAY", "per": "family"},
        {"kind": "allowance", "period": "WEEK", "week_starts": "MITTWOCH"},
        {"kind": "linked_for", "days": 0},
        {"kind": "score_at_least", "score": 2400},
        {"kind": "score_at_least", "score": 0},
        {"kind": "score_at_least", "score": "all"},
        {"kind": "segment"},
        {"kind": "segment", "any_of": ["VIP"]},
        {"kind": "segment", "any_of": ["vip"], "none_of": ["vip"]},
        {"kind": "near", "places": [], "radius_m": 100},
        {"kind": "near", "places": [{"latitude": "90.000001", "longitude": "0"}], "radius_m": 100},
        {"kind": "near", "places": [{"latitude": "0", "longitude": "-181"}], "radius_m": 100},
        {"kind": "near", "places": [{"latitude": 47.4, "longitude": 8.5}], "radius_m": 100},
        {"kind": "near", "places": [{"latitude": "1.1234567", "longitude": "0"}], "radius_m": 100},
        {"kind": "near", "places": [{"latitude": "0", "longitude": "0"}], "radius_m": 0},
        {"kind": "not_together", "group": "Spa & more"},
        {"kind": "velocity", "claims": 0, "hours": 1},
        {"kind": "velocity", "claims": 1, "hours": 745},
        {"kind": "birthday_month", "month": 3},
    ],
)
def test_an_impossible_rule_is_bad_input_that_names_its_place(rule: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as fault:
        validate_rules([EVERY_RULE[0], rule], RANKS)
    assert all(line.startswith("rules.1") for line in fault.value.details["faults"])


def test_every_fault_is_named_at_once() -> None:
    wrong: list[Mapping[str, Any]] = [
        {"kind": "member_for", "days": 0},
        {"kind": "market", "markets": ["ch", "DE", "fr"]},
    ]
    with pytest.raises(BadInput) as fault:
        validate_rules(wrong, RANKS)
    assert len(fault.value.details["faults"]) == 3
    twice: list[Mapping[str, Any]] = [
        {"kind": "tier_at_least", "tier": "platinum"},
        {"kind": "tier_in", "allowed": ["diamond", "gold"]},
        {"kind": "not_together", "group": "spa"},
        {"kind": "not_together", "group": "golf"},
    ]
    with pytest.raises(BadInput) as fault:
        validate_rules(twice, RANKS)
    assert "platinum" in fault.value.message
    assert "diamond" in fault.value.message
    assert "rules.3: at most one not_together" in fault.value.message
    assert "\n" not in fault.value.message


def test_a_policy_has_a_bounded_number_of_rules() -> None:
    assert len(validate_rules([EVERY_RULE[0]] * 50, RANKS)) == 50
    with pytest.raises(BadInput):
        validate_rules([EVERY_RULE[0]] * 51, RANKS)


def recurring(**changed: Any) -> dict[str, Any]:
    return {"kind": "recurring", "starts": "2027-01-05T18:00", "minutes": 60, "rrule": "FREQ=DAILY"} | changed


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rrule": "FREQ=HOURLY"}, "FREQ is one of DAILY, WEEKLY, MONTHLY, YEARLY"),
        ({"rrule": "FREQ=SECONDLY;INTERVAL=1"}, "FREQ is one of"),
        ({"rrule": "INTERVAL=2"}, "FREQ is one of"),
        ({"rrule": "every tuesday"}, "'EVERY TUESDAY' is not one of"),
        ({"rrule": "FREQ=DAILY;FREQ=DAILY"}, "once each"),
        ({"rrule": "FREQ=DAILY;BYHOUR=9,10,11"}, "'BYHOUR=9,10,11' is not one of"),
        ({"rrule": "FREQ=DAILY;BYEASTER=0"}, "is not one of"),
        ({"rrule": "FREQ=DAILY\nEXRULE:FREQ=DAILY"}, "FREQ is one of"),
        ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "INTERVAL is a number from 1 to 99999"),
        ({"rrule": "FREQ=DAILY;INTERVAL=-1"}, "INTERVAL is a number"),
        ({"rrule": "FREQ=DAILY;COUNT=0"}, "COUNT is a number"),
        ({"rrule": "FREQ=DAILY;COUNT=2;UNTIL=20280101"}, "UNTIL or COUNT, not both"),
        ({"rrule": "FREQ=DAILY;UNTIL=tomorrow"}, "UNTIL is a date as 20271231"),
        ({"rrule": "FREQ=DAILY;UNTIL=20270230"}, "UNTIL is no day"),
        ({"rrule": "FREQ=DAILY;UNTIL=20270104"}, "there is no such day"),
        ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "there is no such day"),
        ({"rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "there is no such day"),
        ({"rrule": "FREQ=MONTHLY;BYDAY=9MO,9TU"}, "there is no such day"),
        ({"rrule": "FREQ=WEEKLY;BYDAY=XX"}, "rrule"),
        ({"rrule": "FREQ=WEEKLY;BYDAY="}, "is not one of"),
        ({"rrule": "FREQ=MONTHLY;BYSETPOS=400"}, "bysetpos"),
        ({"rrule": "FREQ=MONTHLY;BYMONTHDAY=one"}, "rrule"),
        ({"rrule": ""}, "at least 1 character"),
        ({"rrule": "FREQ=DAILY;" + "BYMONTH=1," * 100}, "at most 200 characters"),
        ({"minutes": 0}, "greater than or equal to 1"),
        ({"minutes": 31 * 24 * 60 + 1}, "less than or equal to"),
        ({"starts": "2027-01-05T18:00:00+01:00"}, "should not have timezone info"),
        ({"starts": "1999-12-31T00:00"}, "greater than or equal to"),
        ({"starts": "2080-01-01T00:00"}, "less than"),
        ({"starts": "next year"}, "valid datetime"),
    ],
)
def test_a_window_that_can_not_recur_is_refused_with_the_reason(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as fault:
        validate_rules([recurring(**changed)], RANKS)
    assert told in fault.value.message
    assert all(line.startswith("rules.0") for line in fault.value.details["faults"])


@pytest.mark.parametrize("rrule", ["FREQ=DAILY;BYMONTH=2;BYMONTHDAY=31", "FREQ=DAILY;INTERVAL=99999", "FREQ=DAILY"])
def test_no_rule_takes_long_to_work_out(rrule: str) -> None:
    started = process_time()
    with suppress(BadInput):
        validate_rules([recurring(starts="2000-02-29T00:00", rrule=rrule)], RANKS)
    assert process_time() - started < 1.5
