"""What a decision promises whatever the facts are: every reason, and when time alone will change it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from partners.allowances import Period, period_key
from partners.eligibility import Decision, Known, decide, member_of
from partners.facts import PerkFacts, RefusalCode
from partners.policies import policy_of
from partners.rules import Allowance, EarlyAccess, Market, MemberFor, Rule, TierAtLeast, TierIn

RANKS = {"member": 1, "silver": 2, "gold": 3, "black": 4}
NOW = datetime(2026, 10, 24, 21, 30, tzinfo=UTC)  # the night before Europe's clocks go back
FAR = NOW + timedelta(days=4000)
ZONES = ("UTC", "Europe/Zurich", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Etc/GMT+12")


@dataclass(frozen=True)
class World:
    """One member and one perk as rows have them; nothing but time passes."""

    row: dict[str, Any]
    perk: PerkFacts
    rules: tuple[Rule, ...]
    used: dict[str, int]

    def known(self, now: datetime, rules: Sequence[Rule] | None = None) -> Known:
        ends = self.row["consent_expires_at"]
        consented = self.row["consented"] and (ends is None or ends > now)
        row = self.row | {"consented": consented, "consent_expires_at": ends if consented else None}
        policy = policy_of(self.rules if rules is None else rules)
        return Known(
            UUID(int=1),
            UUID(int=2),
            1,
            1,
            900,
            policy,
            self.perk,
            self.used,
            UUID(int=3),
            1,
            member_of(row, False, now),
        )

    def decide(self, now: datetime, rules: Sequence[Rule] | None = None) -> Decision:
        return decide(self.known(now, rules), RANKS, now)


tiers = st.sampled_from(list(RANKS))
days = st.integers(-3, 40)
instants = st.integers(-24 * 3, 24 * 40).map(lambda hours: NOW + timedelta(hours=hours))
dates = days.map(lambda n: NOW.date() + timedelta(days=n))


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


allowances = st.builds(
    Allowance,
    period=st.sampled_from(Period),
    units=st.dictionaries(tiers, st.integers(0, 3)),
    otherwise=st.integers(0, 3),
)
rules = st.one_of(
    st.builds(TierAtLeast, tier=tiers),
    st.builds(TierIn, allowed=st.lists(tiers, min_size=1, max_size=3).map(tuple)),
    st.builds(MemberFor, days=st.integers(1, 60)),
    st.builds(Market, markets=st.sampled_from([("CH",), ("CH", "DE"), ("FR",)])),
    st.builds(EarlyAccess, until=dates, tier=tiers),
    allowances,
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Mostly good cases, so that the interesting edges of time are reached."""
    tier = draw(maybe(tiers))
    zone = draw(st.sampled_from(ZONES))
    declared = tuple(draw(st.lists(rules, max_size=4)))
    units = draw(maybe(st.integers(0, 2)))
    row = {
        "member_state": draw(st.sampled_from(["ACTIVE"] * 9 + ["SUSPENDED"])),
        "joined_at": NOW - timedelta(days=draw(st.integers(0, 60)), hours=draw(st.integers(0, 23))),
        "market": "CH",
        "tier": tier,
        "ends_at": draw(maybe(instants)) if tier else None,
        "consented": draw(st.sampled_from([True] * 9 + [False])),
        "consent_expires_at": draw(maybe(instants)),
    }
    perk = PerkFacts(
        draw(st.sampled_from(["PUBLISHED"] * 9 + ["PAUSED"])),
        draw(st.sampled_from(["ACTIVE"] * 9 + ["SUSPENDED"])),
        zone,
        draw(maybe(dates)),
        draw(maybe(dates)),
        units,
        draw(st.integers(0, units)) if units else 0,
    )
    used = {period_key(period, NOW, zone): draw(st.integers(0, 3)) for period in Period}
    return World(row, perk, declared, used)


def world(*declared: Rule, perk: PerkFacts | None = None, used: dict[str, int] | None = None, **row: Any) -> World:
    plain = {
        "member_state": "ACTIVE",
        "joined_at": NOW - timedelta(days=30),
        "market": "CH",
        "tier": "gold",
        "ends_at": None,
        "consented": True,
        "consent_expires_at": None,
    }
    return World(plain | row, perk or PerkFacts(), declared, used or {})


@given(worlds(), rules)
def test_one_more_rule_never_makes_anybody_eligible(world: World, more: Rule) -> None:
    assume(not (isinstance(more, Allowance) and any(isinstance(rule, Allowance) for rule in world.rules)))
    before, after = world.decide(NOW), world.decide(NOW, [*world.rules, more])
    assert before.eligible or not after.eligible
    assert set(before.refusals) <= set(after.refusals)


@given(worlds())
def test_a_decision_names_every_rule_that_fails_by_itself(world: World) -> None:
    alone = {refusal for rule in world.rules for refusal in world.decide(NOW, [rule]).refusals}
    assert set(world.decide(NOW).refusals) == alone | set(world.decide(NOW, []).refusals)


# A tier that ends takes early access and its own allowance with it: found by hand, kept as examples.
BLACK_UNTIL_TOMORROW: dict[str, Any] = {"tier": "black", "ends_at": NOW + timedelta(days=1)}
EARLY = EarlyAccess(until=date(2026, 11, 20), tier="black")


@settings(max_examples=300)
@given(worlds(), st.floats(0, 1))
@example(world(EARLY, **BLACK_UNTIL_TOMORROW), 0.5)
@example(world(Allowance(period="EVER", units={"black": 1}), **BLACK_UNTIL_TOMORROW), 0.5)
def test_the_same_facts_get_the_same_answer_until_it_says_it_may_change(world: World, share: float) -> None:
    decision = world.decide(NOW)
    end = decision.valid_until or FAR
    assert end > NOW
    later = min(NOW + (end - NOW) * share, end - timedelta(microseconds=1))
    assert replace(world.decide(later), evaluated_at=NOW) == decision


@settings(max_examples=300)
@given(worlds(), st.lists(instants, max_size=5))
@example(world(MemberFor(days=40), perk=PerkFacts(closes_on=date(2026, 10, 30))), [])
@example(world(MemberFor(days=40), EARLY, tier="black", ends_at=NOW + timedelta(days=5)), [])
@example(world(Allowance(period="DAY", units={"black": 0}, otherwise=1), **BLACK_UNTIL_TOMORROW), [])
@example(world(MemberFor(days=40), consent_expires_at=NOW + timedelta(days=5)), [])
def test_eligible_again_at_is_the_first_instant_at_which_time_alone_lifts_everything(
    world: World, samples: list[datetime]
) -> None:
    decision = world.decide(NOW)
    again = decision.eligible_again_at
    if decision.eligible:
        assert again is None
        return
    turns: list[datetime] = []
    at = decision
    while at.valid_until is not None and at.valid_until < FAR and len(turns) < 60:
        turns.append(at.valid_until)
        at = world.decide(at.valid_until)
    asked = [instant for instant in [*turns, *samples, FAR] if instant > NOW]
    assert all(not world.decide(instant).eligible for instant in asked if again is None or instant < again)
    assert again is None or world.decide(again).eligible


def test_an_unknown_member_is_refused_without_a_word_on_anything_personal() -> None:
    known = replace(world(MemberFor(days=900)).known(NOW), member=None, member_id=None, member_version=None)
    decision = decide(known, RANKS, NOW)
    assert [refusal.code for refusal in decision.refusals] == [RefusalCode.NOT_A_MEMBER]
    assert decision.allowance is None
    assert decision.valid_until is None


def test_what_is_left_is_never_below_nothing() -> None:
    rule = Allowance(period="MONTH", units={"gold": 1, "black": 5})
    lowered = world(rule, perk=PerkFacts(units=3, taken=4), used={"M2026-10-01": 4}).decide(NOW)
    assert lowered.allowance is not None
    assert (lowered.allowance.limit, lowered.allowance.used, lowered.allowance.remaining) == (1, 4, 0)
    assert lowered.capacity_remaining == 0
