"""The settings of a SERVICE perk: what a partner may write, and whom it trusts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from partners.facts import Circumstances, Facts, MemberFacts, PerkFacts
from partners.kinds.service import Service, Trust
from partners.kinds.shape import read_model
from partners.services.steps import ENDS, LIVE, STEPS
from partners.tables import MemberState, ServiceState

RANKS = {"member": 1, "silver": 2, "gold": 3, "black": 4}
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def faults(**settings: Any) -> list[str]:
    model, unread = read_model(Service, settings)
    return unread if model is None else list(model.faults("UTC", RANKS))


def test_a_service_needs_no_settings_at_all() -> None:
    assert faults() == []
    assert Service().model_dump(mode="json") == {
        "form": {"type": "object"},
        "answer_within_seconds": 86_400,
        "solve_within_seconds": 604_800,
        "approval": "BY_QUOTE",
        "trust": None,
    }


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"form": {"type": "objekt"}}, "form.type"),
        ({"form": {"type": "object", "properties": {"a": {"pattern": "a+"}}}}, "form.properties.a.pattern"),
        ({"form": 3}, "form"),
        ({"answer_within_seconds": 0}, "answer_within_seconds"),
        ({"answer_within_seconds": 2.5}, "answer_within_seconds"),
        ({"solve_within_seconds": 400 * 86_400}, "solve_within_seconds"),
        ({"answer_within_seconds": 60, "solve_within_seconds": 59}, "solve_within_seconds"),
        ({"approval": "BY_LUCK"}, "approval"),
        ({"approval": "AUTOMATIC"}, "trust"),
        ({"trust": {"tier": "gold"}}, "trust"),
        ({"approval": "AUTOMATIC", "trust": {"tier": "platinum"}}, "trust"),
        ({"approval": "AUTOMATIC", "trust": {"tier": "gold", "amount": {"platinum": 1}}}, "trust"),
        ({"approval": "AUTOMATIC", "trust": {"tier": "gold", "amount": {"gold": -1}}}, "trust.amount.gold"),
        ({"approval": "AUTOMATIC", "trust": {"tier": "gold", "otherwise": 2**31}}, "trust.otherwise"),
        ({"promise": "anything"}, "promise"),
    ],
)
def test_impossible_settings_are_told_where(settings: dict[str, Any], path: str) -> None:
    assert [fault.split(":")[0] for fault in faults(**settings)] == [path]


def test_a_request_is_for_one_and_nobody_waits_in_line() -> None:
    assert list(Service().perk_faults(1, False)) == []
    assert [fault.split(":")[0] for fault in Service().perk_faults(2, True)] == ["unitsMax", "waitlist"]


@pytest.mark.parametrize(
    ("tier", "score", "amount", "trusted"),
    [
        ("gold", 100, 500, True),
        ("gold", 100, 501, False),
        ("gold", 99, 500, False),
        ("black", 100, 50, True),
        ("black", 100, 51, False),
        ("silver", 100, 0, False),
        (None, 100, 0, False),
    ],
)
def test_trust_is_a_tier_a_score_and_an_amount(tier: str | None, score: int, amount: int, trusted: bool) -> None:
    trust = Trust(tier="gold", score=100, amount={"gold": 500}, otherwise=50)
    member = MemberFacts(MemberState.ACTIVE, NOW, tier=tier, score=score)
    facts = Facts(NOW, RANKS, member, PerkFacts(), {}, Circumstances(amount=amount))
    assert trust.suffices(facts) is trusted
    assert trust.suffices(replace(facts, ranks={})) is False


def test_every_state_is_an_end_or_leads_to_one() -> None:
    leads = {state: set[ServiceState]() for state in ServiceState}
    for step in STEPS:
        for state in step.partner | step.member | step.staff:
            leads[state].add(step.to or state)
    for state, reached in leads.items():
        assert (reached == set()) == (state in ENDS)
        assert state in ENDS or reached & (ENDS | LIVE)


def test_no_two_steps_share_a_name_in_the_log() -> None:
    assert len({step.action for step in STEPS}) == len(STEPS)
    assert all(step.action.startswith("service.") for step in STEPS)
