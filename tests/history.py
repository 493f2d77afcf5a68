"""Judges a storm from the outside: what each caller asked and was told and when, and what was there in the end."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from tests.storms.ending import Ending

LOST = "LOST"  # no answer came: it may have acted or not
DONE = frozenset({"HELD", "CONFIRMED", "RELEASED", "EXTENDED", "REVERSED", "REPLAYED", "RESUMED", "WITHDRAWN"})
SWEEP_SECONDS = 2.0  # after that a consent that was withdrawn has ended what was offered
UNTRUE_WHILE_HELD = frozenset({"NOT_AVAILABLE", "HOLD_EXPIRED", "CAPACITY_EXHAUSTED", "CODE_POOL_EMPTY"})
ACTIONS = {"claim": "perk.claimed", "confirm": "hold.confirmed", "release": "hold.released", "extend": "hold.extended"}
ACTIONS["reverse"] = "redemption.reversed"
ENDS = {"RELEASED": "hold.released", "EXPIRED": "hold.expired"}
RECORDED = {*ACTIONS.values(), "hold.expired"} - {"hold.extended"}
UNRECORDED = DONE | {LOST, "KEY_REUSED", "TRY_AGAIN", "OVERLOADED"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `what` (claim, confirm, release, extend, reverse, leave the waitlist, or disturb: withdraw consent) by
    `who` on a perk, hold, redemption, entry or member, at times in seconds since 1970. `result`: the id of what came of
    it; `content`: what its key stood for; `entry`: that of the waitlist which an offer is for."""

    what: str
    who: str
    on: str
    asked: float
    answered: float = inf
    outcome: str = LOST
    key: str = ""
    content: str = ""
    result: str = ""
    units: int = 1
    member: str = ""
    entry: str = ""
    tier: str = ""
    stock: str = ""
    expires: float = inf
    leaf: str = ""

    @property
    def may_have_acted(self) -> bool:
        """Whether it did, or nobody knows."""
        return self.outcome in DONE or self.outcome == LOST


@dataclass(frozen=True, slots=True)
class Limit:
    """Never more than so many units among the claims of each group: taken, or `counted` towards an allowance."""

    name: str
    units: Mapping[Any, int]
    group: Callable[[Call], object]
    counted: bool = False


def judge(calls: Sequence[Call], limits: Sequence[Limit], ending: Ending) -> list[str]:
    """Every law that was broken, in words; nothing is the good answer."""
    on: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda one: one.asked):
        on[call.on].append(call)
    holds: dict[str, Call] = {}  # as the first who was told of each heard it
    for call in sorted(calls, key=lambda one: one.answered):
        if call.what == "claim" and call.outcome in ("HELD", "REPLAYED"):  # RESUMED may be an offer
            holds.setdefault(call.result, call)
    faults = [*judge_limits(holds, on, limits), *judge_keys(calls), *judge_ends(holds, on)]
    return [*faults, *judge_kept(calls, ending), *judge_books(calls, ending)]


def enders(hold: Call, on: dict[str, list[Call]]) -> list[Call]:
    """The calls that may have ended a hold without a use."""
    ways = [call for call in on.get(hold.result, []) if call.what == "release"]
    if hold.entry:
        disturbed = [call for call in on.get(hold.member, []) if call.asked > hold.asked - SWEEP_SECONDS]
        ways += [call for call in on.get(hold.entry, []) if call.what == "leave"] + disturbed
    return [call for call in ways if call.may_have_acted]


def spans(hold: Call, on: dict[str, list[Call]], counted: bool) -> Iterator[tuple[float, int]]:
    """Changes of the units that a hold takes for certain: from when it was told until something may have ended it."""
    mine = on.get(hold.result, [])
    acted = [call for call in mine if call.may_have_acted]
    confirms = [call for call in acted if call.what == "confirm"]
    units, begins, ends = hold.units, hold.answered, inf
    if not any(call.outcome in DONE for call in confirms):
        ends = max([hold.expires, *(call.expires for call in acted if call.what == "extend" and call.outcome in DONE)])
    ends = min([ends, *(call.asked for call in enders(hold, on))])
    less = [(call.asked, hold.units - call.units) for call in confirms[:1]]
    for confirm in confirms:
        for call in on.get(confirm.result, []) if confirm.result else []:
            if call.what == "reverse" and call.may_have_acted and (counted or call.stock != "BURN"):
                less.append((call.asked, call.units))
    if begins >= ends:
        return
    yield begins, units
    for at, gone in sorted(less):
        if at < ends:
            gone = min(gone, units)
            yield max(at, begins), -gone
            units -= gone
    yield ends, -units


def judge_limits(holds: dict[str, Call], on: dict[str, list[Call]], limits: Sequence[Limit]) -> Iterator[str]:
    """Laws 1 and 2: at no moment is more taken or counted for certain than there may be."""
    for limit in limits:
        changes: dict[object, list[tuple[float, int]]] = defaultdict(list)
        for hold in holds.values():
            if (group := limit.group(hold)) in limit.units:
                changes[group] += spans(hold, on, limit.counted)
        for group, steps in changes.items():
            used = 0
            for at, units in sorted(steps):  # what ends at the moment at which another begins comes first
                used += units
                if used > limit.units[group]:
                    yield f"{limit.name} of {group}: {used} of {limit.units[group]} at {at:.6f}"
                    break


def judge_keys(calls: Sequence[Call]) -> Iterator[str]:
    """Law 3: a key leads to one thing, is replayed once it was told of, and is refused for anything else."""
    keyed: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.key and call.outcome not in (LOST, "RESUMED"):
            keyed[call.who, call.key].append(call)
    for key, all_calls in keyed.items():
        done = [call for call in all_calls if call.outcome in DONE]
        if len({call.result for call in done}) > 1 or len({call.content for call in done}) > 1:
            yield f"key {key} acted more than once"
        told = min((call.answered for call in done), default=inf)
        for call in all_calls:
            expected = "REPLAYED" if done and call.content == done[0].content else "KEY_REUSED"
            if call.asked > told and call.outcome not in (expected, "TRY_AGAIN", "OVERLOADED"):
                yield f"key {key} was told of and then answered {call.outcome}, not {expected}"


def judge_ends(holds: dict[str, Call], on: dict[str, list[Call]]) -> Iterator[str]:
    """Law 4: a hold ends once, and is not refused while it is held."""
    for id, hold in holds.items():
        mine = on.get(id, [])
        ways = {call.what for call in mine if call.what in ("confirm", "release") and call.outcome in DONE}
        if len(ways) > 1 or len({call.result for call in mine if call.what == "confirm" and call.outcome in DONE}) > 1:
            yield f"hold {id} ended more than once"
        for call in mine:
            confirms = [one for one in mine if one.what == "confirm" and one is not call and one.may_have_acted]
            free = all(one.asked > call.answered for one in [*confirms, *enders(hold, on)])
            held = call.asked > hold.answered and call.answered < hold.expires
            if call.what == "confirm" and call.outcome in UNTRUE_WHILE_HELD and held and free:
                yield f"hold {id} was refused as {call.outcome} while it was held"
            disturbed = any(one.what == "disturb" and one.asked < call.answered for one in on.get(hold.member, []))
            if call.what == "confirm" and call.outcome == "CONSENT_MISSING" and not disturbed:
                yield f"hold {id} was refused for a consent that nobody withdrew"


def judge_kept(calls: Sequence[Call], ending: Ending) -> Iterator[str]:
    """Acknowledged is kept: whatever somebody was told of is there, and as told."""
    places = {"claim": ending.holds, "confirm": ending.redemptions, "reverse": ending.reversals}
    for call in calls:
        if call.outcome in DONE and call.what in places and call.result not in places[call.what]:
            yield f"{call.what} {call.result} was told of and is not there"
        if call.outcome == "RELEASED" and ending.holds.get(call.on, {}).get("state") != "RELEASED":
            yield f"hold {call.on} was released and is not"
        if call.leaf and call.leaf not in ending.leaves:
            yield f"the leaf of {call.what} {call.result} is not in the audit log"
    claimants = {"system:waitlist", *(call.who for call in calls if call.what == "claim")}
    yield from (f"hold {id} is nobody's" for id, row in ending.holds.items() if row["who"] not in claimants)


def judge_books(calls: Sequence[Call], ending: Ending) -> Iterator[str]:
    """Laws 5 and 6: what is taken is held or confirmed and not given back, and every change and refusal is recorded."""
    taken = Counter(dict.fromkeys(ending.taken, 0))
    confirmed = {row["hold"]: row["units"] for row in ending.redemptions.values()}
    for id, row in ending.holds.items():
        if row["state"] in ("HELD", "CONFIRMED"):
            taken[row["perk"]] += confirmed.get(id, row["units"])
    for row in ending.reversals.values():
        if row["stock"] != "BURN":
            taken[ending.holds[ending.redemptions[row["redemption"]]["hold"]]["perk"]] -= row["units"]
    wrongly = [(perk, units) for perk, units in ending.taken.items() if taken[perk] != units]
    yield from (f"perk {perk} has {units} taken, and {taken[perk]} are" for perk, units in wrongly)
    changes = Counter([("perk.claimed", id) for id in ending.holds])
    changes.update(("hold.confirmed", id) for id in ending.redemptions)
    changes.update(("redemption.reversed", row["redemption"]) for row in ending.reversals.values())
    changes.update((ENDS[row["state"]], id) for id, row in ending.holds.items() if row["state"] in ENDS)
    wrong = [one for one in changes | ending.done if one[0] in RECORDED and changes[one] != ending.done[one]]
    yield from (f"{one[0]} of {one[1]}: {changes[one]} made, {ending.done[one]} recorded" for one in wrong)
    # Equal claims that meet share an answer and its entry.
    told = {(call.what, call.who, call.key or call.asked) for call in calls if call.outcome not in UNRECORDED}
    for action, refused in Counter(ACTIONS[what] for what, _, _ in told if what in ACTIONS).items():
        if refused > (kept := ending.refused[action]):
            yield f"{refused} refusals of {action} were told of, and {kept} are recorded"
