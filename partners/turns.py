"""Whose turn it is: what comes back goes to those who wait, in their order, and to everybody when none of them may.

Whoever waits is asked about as a claim would be; then, under the perk's lock, the order and what there is are read
again, and only what was judged on facts that still hold is acted upon. What a rule says decides the turn:

| what the rules say                                        | turn                                                     |
|-----------------------------------------------------------|----------------------------------------------------------|
| nothing, or only that units are missing                   | MAY: is offered what it waits for, as a hold             |
| CONSENT_MISSING                                           | ENDS: WITHDRAWN                                          |
| MEMBERSHIP_SUSPENDED, TIER_TOO_LOW, TIER_EXPIRED, ENDED   | ENDS: LAPSED                                             |
| PERK_PAUSED, PARTNER_SUSPENDED, NOT_STARTED,              | STANDS: nobody is served, and what comes back stays kept |
| OUTSIDE_WINDOW                                            | for those who wait                                       |
| anything else (allowance used, under review …)            | PASSED: keeps its place, and others go before it         |

A party for which too few are there is passed over where the waitlist says `skip`. Where it does not, everybody behind
it for the same option is blocked and what there is is saved up for it, as long as something of the option is held,
which may come back by itself: nothing lies idle for the sake of a party that nobody makes room for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from partners.actors import Actor, ActorKind
from partners.eligibility import Known, decide
from partners.facts import UNITS_MISSING, RefusalCode
from partners.holds import Claim
from partners.idempotency import fingerprint
from partners.perk_settings import Waitlist
from partners.tables import WaitlistState
from partners.values import value
from partners.waitlist import facts_of, reach_of

PROMOTER = Actor(ActorKind.SYSTEM, "waitlist")
NO_LIMIT = 2**31 - 1
# The place was asked for when it joined; an offer is for later.
NOT_ASKED = UNITS_MISSING | {RefusalCode.WRONG_LOCATION}
ENDING = {
    RefusalCode.CONSENT_MISSING: WaitlistState.WITHDRAWN,
    RefusalCode.MEMBERSHIP_SUSPENDED: WaitlistState.LAPSED,
    RefusalCode.ENDED: WaitlistState.LAPSED,
    RefusalCode.TIER_TOO_LOW: WaitlistState.LAPSED,
    RefusalCode.TIER_EXPIRED: WaitlistState.LAPSED,
}
STANDSTILL = frozenset(
    {
        RefusalCode.PERK_PAUSED,
        RefusalCode.PARTNER_SUSPENDED,
        RefusalCode.NOT_STARTED,
        RefusalCode.OUTSIDE_WINDOW,
    }
)


class Turn(StrEnum):
    """What the rules say of one who waits, as the table above has it."""

    MAY = "MAY"
    PASSED = "PASSED"
    STANDS = "STANDS"
    ENDS = "ENDS"


@value
class Entry:
    """One who waits, as the promoter needs it; `member_version` is that of the facts known now."""

    id: UUID
    member_id: UUID
    member_version: int
    option_id: UUID | None
    option: str | None
    units: int
    amount: int
    device: bytes | None
    offers: int


@value
class Verdict:
    """What the rules said, about facts of these versions, until time alone may change it; `reach` are the pools open to
    the member, in their order."""

    turn: Turn
    member_version: int | None
    perk_version: int
    reach: tuple[int, ...] = ()
    claim: Claim | None = None
    code: RefusalCode | None = None
    valid_until: datetime | None = None


@value
class Line:
    """What the perk's lock shows: the first of those who wait, in their order, how many there are, and what is free
    (None: no limit) and kept for them in each pool. `held_options` are those of which something is held."""

    perk_version: int
    waitlist: Waitlist
    waiting: int
    entries: tuple[Entry, ...]
    free: Mapping[int, int | None]
    kept: Mapping[int, int]
    held_options: Collection[UUID | None]


@value
class Plan:
    """Who is offered, who drops out, who has to be asked about first, and, once nobody has, what stays kept."""

    offers: tuple[Entry, ...]
    ends: tuple[Entry, ...]
    unknown: tuple[Entry, ...]
    kept: Mapping[int, int] | None


def plan_offers(line: Line, verdicts: Mapping[UUID, Verdict]) -> Plan:
    """Pure: goes down the line for as long as anything is left, and stops before the first whom nobody asked about."""
    left = {pool: (NO_LIMIT if free is None else free) + line.kept[pool] for pool, free in line.free.items()}
    saved = dict.fromkeys(left, 0)
    offers: list[Entry] = []
    ends: list[Entry] = []
    blocked: set[UUID | None] = set()
    standing = False  # the perk opens or closes while they are asked one after another: nobody overtakes by that
    for place, entry in enumerate(line.entries):
        if not any(left.values()):
            break
        verdict = known_verdict(line, verdicts, entry)
        if verdict is None:
            unknown = [one for one in line.entries[place:] if known_verdict(line, verdicts, one) is None]
            return Plan(tuple(offers), tuple(ends), tuple(unknown), None)
        if verdict.turn is Turn.ENDS:
            ends.append(entry)
        if verdict.turn in (Turn.ENDS, Turn.PASSED) or entry.option_id in blocked:
            continue
        standing = standing or verdict.turn is Turn.STANDS
        room = sum(left[pool] for pool in verdict.reach)
        if entry.units <= room:
            drawn = draw(left, verdict.reach, entry.units)
            if not standing:
                offers.append(entry)
                continue
        elif not line.waitlist.skip and entry.option_id in line.held_options:
            blocked.add(entry.option_id)
            drawn = draw(left, verdict.reach, room)
        else:
            continue
        for pool, units in drawn.items():
            saved[pool] += units if line.free[pool] is not None else 0
    else:
        if len(line.entries) < line.waiting and any(left.values()):
            return Plan(tuple(offers), tuple(ends), (), None)
    return Plan(tuple(offers), tuple(ends), (), saved)


def known_verdict(line: Line, verdicts: Mapping[UUID, Verdict], entry: Entry) -> Verdict | None:
    """What was said of an entry, unless its member or the perk has changed since."""
    verdict = verdicts.get(entry.id)
    if verdict is None or (verdict.member_version, verdict.perk_version) != (entry.member_version, line.perk_version):
        return None
    return verdict


def draw(left: dict[int, int], reach: Sequence[int], units: int) -> dict[int, int]:
    """Takes so many units from the pools in their order, as a claim does; what came from which."""
    drawn = {}
    for pool in reach:
        drawn[pool] = min(units, left[pool])
        left[pool] -= drawn[pool]
        units -= drawn[pool]
    return drawn


def verdict_of(entry: Entry, known: Known, waitlist: Waitlist, ranks: Mapping[str, int], now: datetime) -> Verdict:
    """Whose turn it would be, were there enough; with the claim that an offer is."""
    decision = decide(known, ranks, now)
    facts = facts_of(known, ranks, now)
    codes = {refusal.code for refusal in decision.refusals} - NOT_ASKED
    ending = next((code for code in ENDING if code in codes), None)
    turn = (
        Turn.ENDS
        if ending is not None
        else Turn.MAY
        if not codes
        else Turn.STANDS
        if codes <= STANDSTILL
        else Turn.PASSED
    )
    ends = [now + timedelta(seconds=waitlist.offer_seconds), *filter(None, [known.perk.closes_at])]
    claim = Claim(
        PROMOTER,
        f"{entry.id}/{entry.offers + 1}",
        fingerprint("offer", {"entry": str(entry.id), "offer": entry.offers + 1}),
        now,
        known,
        replace(decision, eligible=True, refusals=()),
        entry_id=entry.id,
        expires_at=min(ends),
    )
    return Verdict(
        turn,
        known.member_version,
        known.perk_version,
        () if facts is None else reach_of(facts),
        claim if turn is Turn.MAY else None,
        ending,
        decision.valid_until,
    )
