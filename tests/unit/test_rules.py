"""Every rule by itself: one line for each reason to refuse, and what rules may be declared."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from partners.errors import BadInput
from partners.facts import Facts, MemberFacts, PerkFacts, RefusalCode, start_of_day
from partners.policies import policy_of, validate_rules
from partners.rules import RULES, Allowance, EarlyAccess, Market, MemberFor, RuleModel, TierAtLeast, TierIn
from partners.standing import STANDING

RANKS = {"member": 1, "silver": 2, "gold": 3, "black": 4}
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)
GOLD = MemberFacts("ACTIVE", NOW - 100 * DAY, "CH", "gold")
LAPSED = replace(GOLD, tier=None, tier_lapsed=True)
MONTHLY = Allowance(period="MONTH", units={"gold": 2, "silver": 0})


def facts(member: MemberFacts = GOLD, perk: PerkFacts | None = None, **used: int) -> Facts:
    counts = {key.replace("_", "-"): count for key, count in used.items()}
    return Facts(NOW, RANKS, member, perk or PerkFacts(), counts)


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
]


@pytest.mark.parametrize(("code", "given", "rule"), NO)
def test_a_standing_rule_refuses_with_its_code(code: str, given: Facts, rule: str) -> None:
    refusals = [refusal for standing in STANDING if (refusal := standing(given)) is not None]
    assert [(refusal.code, refusal.rule) for refusal in refusals] == [(code, rule)]


@pytest.mark.parametrize(
    "perk",
    [PerkFacts(), PerkFacts(opens_on=TODAY, closes_on=TODAY), PerkFacts(units=1), PerkFacts(units=None, taken=9)],
)
def test_the_standing_rules_let_a_plain_case_pass(perk: PerkFacts) -> None:
    assert [standing(facts(perk=perk)) for standing in STANDING] == [None] * len(STANDING)


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
    (MONTHLY, facts(M2026_11_01=1, M2026_10_01=2), None, None),
    (MONTHLY, facts(M2026_11_01=2), "ALLOWANCE_EXHAUSTED", datetime(2026, 12, 1, tzinfo=UTC)),
    (MONTHLY, facts(M2026_11_01=3), "ALLOWANCE_EXHAUSTED", datetime(2026, 12, 1, tzinfo=UTC)),
    (MONTHLY, facts(replace(GOLD, tier="silver")), "ALLOWANCE_EXHAUSTED", None),
    (MONTHLY, facts(replace(GOLD, tier="black")), "ALLOWANCE_EXHAUSTED", None),
    (Allowance(period="EVER", otherwise=1), facts(EVER=1), "ALLOWANCE_EXHAUSTED", None),
    (Allowance(period="EVER", otherwise=1), facts(LAPSED), None, None),
]


@pytest.mark.parametrize(("rule", "given", "code", "again"), DECLARED)
def test_a_declared_rule_answers(rule: RuleModel, given: Facts, code: str | None, again: datetime | None) -> None:
    refusal = rule.refusal(given)
    answer = (None, None) if refusal is None else (refusal.code, refusal.eligible_again_at)
    assert answer == (code, again)


def test_every_reason_that_rules_can_give_is_tried_here() -> None:
    tried = {code for code, _, _ in NO} | {code for _, _, code, _ in DECLARED if code}
    by_statements = {
        "NOT_A_MEMBER",
        "HOLD_EXPIRED",
        "IDEMPOTENCY_KEY_REUSED",
        "REVERSAL_WINDOW_CLOSED",
        "ALREADY_REVERSED",
        "NOT_AVAILABLE",
    }
    assert tried | by_statements == set(RefusalCode)


def test_a_refusal_explains_itself_in_figures() -> None:
    refusal = MONTHLY.refusal(facts(M2026_11_01=2))
    assert refusal is not None
    assert (refusal.rule, refusal.required, refusal.current) == ("allowance", "2", "2")


def test_the_window_is_in_the_zone_of_the_perk_and_its_last_day_is_inclusive() -> None:
    perk = PerkFacts(zone="Asia/Tokyo", opens_on=date(2026, 11, 22), closes_on=date(2026, 11, 22))
    assert perk.opens_at == datetime(2026, 11, 21, 15, tzinfo=UTC)
    assert perk.closes_at == datetime(2026, 11, 22, 15, tzinfo=UTC)


EVERY_RULE: list[Mapping[str, Any]] = [
    {"kind": "tier_at_least", "tier": "gold"},
    {"kind": "tier_in", "allowed": ["gold", "black"]},
    {"kind": "member_for", "days": 30},
    {"kind": "market", "markets": ["CH"]},
    {"kind": "early_access", "until": "2026-12-01", "tier": "black"},
    {"kind": "allowance", "period": "WEEK", "units": {"gold": 1}, "otherwise": 0},
]


def test_what_is_stored_reads_back_as_what_was_declared() -> None:
    rules = validate_rules(EVERY_RULE, RANKS)
    assert [rule.kind for rule in rules] == [declared["kind"] for declared in EVERY_RULE]
    assert RULES.validate_json(RULES.dump_json(rules)) == rules
    assert [rule.model_dump(mode="json") for rule in rules] == EVERY_RULE
    assert policy_of(rules).allowance == rules[-1]


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
        {"kind": "allowance", "period": "DAY"},
        {"kind": "allowance", "period": "WEEK"},
    ]
    with pytest.raises(BadInput) as fault:
        validate_rules(twice, RANKS)
    assert "platinum" in fault.value.message
    assert "diamond" in fault.value.message
    assert "at most one allowance" in fault.value.message
    assert "\n" not in fault.value.message


def test_a_policy_has_a_bounded_number_of_rules() -> None:
    assert len(validate_rules([EVERY_RULE[0]] * 50, RANKS)) == 50
    with pytest.raises(BadInput):
        validate_rules([EVERY_RULE[0]] * 51, RANKS)
