"""The checker of histories finds every fault that is seeded into a sound one, and none in a sound one."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest

from tests.history import LOST, Call, Limit, judge
from tests.storms.ending import Ending

LIMITS = (
    Limit("capacity", {"perk": 3}, lambda claim: claim.on),
    Limit("for gold", {("perk", "silver"): 2}, lambda claim: (claim.on, claim.tier)),
    Limit("allowance", {("cid", "perk"): 3}, lambda claim: (claim.member, claim.on), counted=True),
)


@dataclass
class History:
    calls: list[Call] = field(default_factory=list)
    ending: Ending = field(default_factory=Ending)

    def change(self, place: int, **values: object) -> None:
        self.calls[place] = replace(self.calls[place], **values)  # type: ignore[arg-type]


def claim(at: float, hold: str, member: str = "ann", **given: object) -> Call:
    values = {"key": f"k-{hold}", "content": "c", "result": hold, "member": member, "leaf": f"leaf-{hold}"}
    values |= {"tier": "gold", "expires": at + 60, "outcome": "HELD"} | given  # type: ignore[dict-item]
    return Call("claim", "partner", "perk", at, at + 0.5, **values)  # type: ignore[arg-type]


def sound() -> History:
    """Two units for Ann, of which one is confirmed and burnt; one for Ben, released; then three for Cid."""
    calls = [
        claim(0, "h0", units=2),
        claim(1, "h1", "ben", tier="silver"),
        claim(2, "", "cid", outcome="CAPACITY_EXHAUSTED", key="k", leaf=""),
        claim(3, "h0", units=2, outcome="REPLAYED"),
        claim(3, "", "ben", outcome="KEY_REUSED", key="k-h0", content="other", leaf=""),
        Call("confirm", "partner", "h0", 4, 4.5, "CONFIRMED", "k-r0", "c", "r0", units=1),
        Call("release", "partner", "h1", 5, 5.5, "RELEASED"),
        claim(6, "h2", "cid", units=2),
        Call("extend", "partner", "h2", 7, 7.5, "EXTENDED", expires=130),
        Call("reverse", "partner", "r0", 8, 8.5, "REVERSED", "k-v0", "c", "v0", units=1, stock="BURN"),
        Call("confirm", "partner", "h2", 9, 9.5, "CONSENT_MISSING", "k-r1", "c", units=2),
        Call("disturb", "partner", "cid", 8.9, 9.2, "WITHDRAWN"),
        Call("confirm", "partner", "h1", 10, 10.5, "NOT_AVAILABLE", "k-r2", "c"),
        claim(200, "h3", "dan", units=2),
        Call("confirm", "partner", "h3", 201, outcome=LOST, key="k-r3", content="c", units=2),
    ]
    row = {"perk": "perk", "who": "partner"}
    ending = Ending(
        holds={
            "h0": {**row, "state": "CONFIRMED", "units": 2},
            "h1": {**row, "state": "RELEASED", "units": 1},
            "h2": {**row, "state": "EXPIRED", "units": 2},
            "h3": {**row, "state": "CONFIRMED", "units": 2},
        },
        redemptions={"r0": {"hold": "h0", "units": 1}, "r3": {"hold": "h3", "units": 2}},
        reversals={"v0": {"redemption": "r0", "units": 1, "stock": "BURN"}},
        taken={"perk": 3},
        done=Counter([*(("perk.claimed", f"h{one}") for one in range(4)), ("hold.released", "h1"),
            ("hold.expired", "h2"), ("hold.confirmed", "r0"), ("hold.confirmed", "r3"), ("redemption.reversed", "r0")]),
        refused=Counter({"perk.claimed": 1, "hold.confirmed": 2}),
        leaves=frozenset(f"leaf-h{one}" for one in range(4)),
    )  # fmt: skip
    return History(calls, deepcopy(ending))


def oversold(history: History) -> None:
    history.calls.append(claim(2, "h4", "dan"))


def oversold_by_a_part(history: History) -> None:
    history.change(5, units=2)  # so that Cid's two make four


def silver_in_the_gold_pool(history: History) -> None:
    history.change(0, tier="silver")


def twice_the_allowance(history: History) -> None:
    history.change(13, member="cid")
    history.change(14, asked=400)
    history.change(8, expires=230)


FAULTS: dict[str, Callable[[History], None]] = {
    "capacity of perk: 4 of 3": oversold,
    "capacity of perk: 4 of 3 at 6": oversold_by_a_part,
    "for gold of ('perk', 'silver'): 3 of 2": silver_in_the_gold_pool,
    "allowance of ('cid', 'perk'): 4 of 3": twice_the_allowance,
    "key ('partner', 'k-h0') acted more": lambda history: history.change(3, result="h1"),
    "and then answered HELD, not REPLAYED": lambda history: history.change(3, outcome="HELD"),
    "and then answered CAPACITY_EXHAUSTED, not REPLAYED": lambda h: h.change(3, outcome="CAPACITY_EXHAUSTED"),
    "and then answered CAPACITY_EXHAUSTED, not KEY_REUSED": lambda h: h.change(4, outcome="CAPACITY_EXHAUSTED"),
    "hold h1 ended more than once": lambda history: history.change(12, outcome="CONFIRMED", result="r9"),
    "hold h0 ended more than once": lambda history: history.calls.append(replace(history.calls[5], result="r9")),
    "refused as HOLD_EXPIRED while it was held": lambda history: history.change(10, outcome="HOLD_EXPIRED"),
    "refused as NOT_AVAILABLE while it was held": lambda history: history.change(10, outcome="NOT_AVAILABLE"),
    "for a consent that nobody withdrew": lambda history: history.change(11, asked=9.6),
    "claim h9 was told of and is not there": lambda history: history.change(7, result="h9"),
    "confirm r0 was told of and is not there": lambda history: history.ending.redemptions.pop("r0"),
    "reverse v0 was told of and is not there": lambda history: history.ending.reversals.pop("v0"),
    "hold h1 was released and is not": lambda history: history.ending.holds["h1"].update(state="EXPIRED"),
    "the leaf of claim h0": lambda history: setattr(history.ending, "leaves", frozenset()),
    "hold h3 is nobody's": lambda history: history.ending.holds["h3"].update(who="a stranger"),
    "perk perk has 4 taken, and 3 are": lambda history: history.ending.taken.update(perk=4),
    "has 3 taken, and 2 are": lambda history: history.ending.reversals["v0"].update(stock="RESTOCK"),
    "hold.confirmed of r3: 1 made, 0 recorded": lambda h: h.ending.done.pop(("hold.confirmed", "r3")),
    "hold.expired of h2: 1 made, 2 recorded": lambda h: h.ending.done.update([("hold.expired", "h2")]),
    "perk.claimed of h9: 0 made, 1 recorded": lambda h: h.ending.done.update([("perk.claimed", "h9")]),
    "2 refusals of hold.confirmed were told of, and 1": lambda h: h.ending.refused.subtract(["hold.confirmed"]),
}  # fmt: skip


def test_a_sound_history_breaks_no_law() -> None:
    history = sound()
    assert judge(history.calls, LIMITS, history.ending) == []


@pytest.mark.parametrize("told", FAULTS)
def test_a_seeded_fault_is_found(told: str) -> None:
    history = sound()
    FAULTS[told](history)
    faults = judge(history.calls, LIMITS, history.ending)
    assert any(told in fault for fault in faults), faults


def test_an_answer_that_was_lost_proves_nothing() -> None:
    history = sound()
    history.change(0, outcome=LOST, answered=float("inf"), result="", leaf="")
    history.change(3, outcome="HELD")
    assert judge(history.calls, LIMITS, history.ending) == []


def test_equal_claims_that_met_share_one_record() -> None:
    history = sound()
    history.calls.append(history.calls[2])
    assert judge(history.calls, LIMITS, history.ending) == []


@pytest.mark.parametrize(("at", "sold"), [(59, True), (60, False)])
def test_what_is_overdue_is_no_longer_held(at: float, sold: bool) -> None:
    calls = [claim(0, "h0", units=3, expires=60), claim(at, "h1", "ben", units=3)]
    faults = judge(calls, LIMITS[:1], Ending())
    assert any(fault.startswith("capacity") for fault in faults) is sold


@pytest.mark.parametrize(("what", "on"), [("leave", "e0"), ("disturb", "cid")])
def test_an_offer_ends_with_the_place_on_the_waitlist(what: str, on: str) -> None:
    offered = claim(0, "h0", "cid", units=3, entry="e0")
    taken = claim(5, "h1", "ben", units=3)
    ended = Call(what, "cid", on, 3, 3.5, "WITHDRAWN")
    assert any(fault.startswith("capacity") for fault in judge([offered, taken], LIMITS[:1], Ending()))
    assert not any(fault.startswith("capacity") for fault in judge([offered, taken, ended], LIMITS[:1], Ending()))
