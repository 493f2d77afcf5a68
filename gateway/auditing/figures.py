"""Counts what a log says: redemptions, reversals, refusals, promises and times, by partner, perk, tier and day.

Reads leaves alone. Memory grows with the partners, perks, tiers and days there are, and with the holds that are open
at one moment, never with the length of the log.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import orjson

from gateway.auditing.files import Unsound
from gateway.auditing.waits import Waits
from partners.tables import Bearer

UTC_ZONE = ZoneInfo("UTC")
HOLD = "HOLD:"
HOLD_LIFE_MAX = timedelta(days=31)
"""Longer than any hold lives: what an older log says of confirmations does not tell whose hold ended."""
BEARERS = tuple(bearer.value for bearer in Bearer)
CLOCKS = {
    "ANSWERED_IN_TIME": "answers.kept",
    "ANSWERED_LATE": "answers.missed",
    "SOLVED_IN_TIME": "solutions.kept",
    "SOLVED_LATE": "solutions.missed",
}
ENDS = {"hold.released": "released", "hold.expired": "expired"}
Change = tuple[str, int]
Key = TypeVar("Key")


@dataclass(slots=True)
class Tally:
    """What was counted of one thing, by name; amounts are in minor units of whatever currency the perk had."""

    counts: Counter[str] = field(default_factory=Counter)
    waits: Waits = field(default_factory=Waits)

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def add(self, changes: Sequence[Change]) -> None:
        """Counts on; by hand, since this is where the time goes."""
        counts = self.counts
        for name, n in changes:
            counts[name] = counts.get(name, 0) + n

    def starting(self, prefix: str) -> dict[str, int]:
        """The counts whose names begin so, without that, the highest first."""
        found = {name.removeprefix(prefix): n for name, n in self.counts.most_common() if name.startswith(prefix)}
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


@dataclass(frozen=True, slots=True)
class Window:
    """What to count: entries from `since` until before `until`, of one partner or all, days as in `zone`."""

    since: datetime | None = None
    until: datetime | None = None
    zone: ZoneInfo = UTC_ZONE
    partner: str | None = None


def written(at: datetime | None, otherwise: str) -> str:
    """A time as leaves write theirs, so that texts compare as times do."""
    return otherwise if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Figures:
    """Takes leaves in log order, one by one."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.entries = 0
        self.counted = 0
        self.first_index: int | None = None
        self.last_index: int | None = None
        self.total = Tally()
        self.partners: dict[str, Tally] = {}
        self.perks: dict[tuple[str, str], Tally] = {}
        self.tiers: dict[tuple[str, str], Tally] = {}
        self.days: dict[tuple[str, str], Tally] = {}
        self._since, self._until = written(window.since, ""), written(window.until, "~")
        self._held: dict[str, datetime] = {}
        self._minute, self._day = "", ""

    def take(self, index: int, leaf: bytes) -> None:
        """One leaf; Unsound when it is not an entry of ours, and nothing can be counted on then."""
        self.entries += 1
        try:
            self._take(index, orjson.loads(leaf))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise Unsound(f"entry {index} can't be read: not a leaf of version 1 or 2") from None

    def _take(self, index: int, entry: dict[str, Any]) -> None:
        at, action, partner, perk = entry["at"], entry["action"], entry.get("partner"), entry.get("perk")
        inside = self._since <= at < self._until
        waited = self._waited(entry, at) if action in FOLLOWED else None
        if not inside or self.window.partner not in (None, partner):
            return
        changes = list(changes_of(entry))
        self.counted += 1
        self.first_index = index if self.first_index is None else self.first_index
        self.last_index = index
        self.total.add(changes)
        if partner is not None:
            found(self.partners, partner).add(changes)
            found(self.days, (partner, self._day_of(at))).add(changes)
            if perk is not None:
                found(self.perks, (partner, perk)).add(changes)
                found(self.tiers, (partner, entry.get("tier") or "")).add(changes)
        if waited is not None and partner is not None and perk is not None:
            for tally in (self.total, self.partners[partner], self.perks[partner, perk]):
                tally.waits.add(waited)

    def _day_of(self, at: str) -> str:
        """The day in the window's zone; one minute has one day, and neighbours share it."""
        if at[:16] != self._minute:
            local = datetime.fromisoformat(at).astimezone(self.window.zone)
            self._minute, self._day = at[:16], local.date().isoformat()
        return self._day

    def _waited(self, entry: dict[str, Any], at: str) -> int | None:
        """Follows holds from claim to end; how long one was held that is confirmed by this entry, in milliseconds."""
        if entry["outcome"] != "DONE":
            return None
        action, now = entry["action"], datetime.fromisoformat(at)
        if action == "perk.claimed":
            self._held[entry["subject"]] = now
            while self._held and now - next(iter(self._held.values())) > HOLD_LIFE_MAX:
                del self._held[next(iter(self._held))]
            return None
        if action in ENDS:
            self._held.pop(entry["subject"], None)
            return None
        of = next((code.removeprefix(HOLD) for code in entry["reasons"] if code.startswith(HOLD)), None)
        since = None if of is None else self._held.pop(of, None)
        if since is None or entry["actor"] == "system":
            return None  # a service desk claims and confirms at once, on a yes that was given elsewhere
        return (now - since) // timedelta(milliseconds=1)


def found(tallies: dict[Key, Tally], key: Key) -> Tally:
    """The tally of a key, made when it is the first time."""
    tally = tallies.get(key)
    if tally is None:
        tally = tallies[key] = Tally()
    return tally


FOLLOWED = frozenset({"perk.claimed", "hold.confirmed", *ENDS})


def changes_of(entry: dict[str, Any]) -> Iterator[Change]:
    """What an entry adds to which counts."""
    action, reasons = entry["action"], entry["reasons"]
    yield f"action.{action}", 1
    if entry["outcome"] != "DONE":
        yield "refusals", 1
        yield f"refused.{action}", 1
        for reason in dict.fromkeys(reasons):
            yield f"reason.{reason}", 1
            yield f"reason-of.{action}.{reason}", 1
        return
    if action == "perk.claimed":
        yield "claims", 1
    elif action == "hold.confirmed":
        yield from sums("redemptions", "units", "amount", entry)
    elif action == "redemption.reversed":
        yield from sums("reversals", "reversed-units", "reversed-amount", entry)
        bearer = next((reason for reason in reasons if reason in BEARERS), "UNKNOWN")
        yield from sums(f"borne.{bearer}", f"borne-units.{bearer}", f"borne-amount.{bearer}", entry)
    elif action in ENDS:
        yield ENDS[action], 1
    elif action == "fulfilment.updated":
        for state in reasons:
            yield f"fulfilment.{state}", 1
    elif action.startswith("service."):
        for code in reasons:
            if code in CLOCKS:
                yield CLOCKS[code], 1


def sums(count: str, units: str, amount: str, entry: dict[str, Any]) -> Iterator[Change]:
    """One, its units and its amount. An entry of version 1 was of one unit and no amount."""
    yield count, 1
    yield units, whole_number(entry.get("units", 1))
    yield amount, whole_number(entry.get("amount") or 0)


def whole_number(count: Any) -> int:
    """A count as a leaf has it; ValueError for what is none."""
    if type(count) is not int or count < 0:
        raise ValueError(count)
    return count
