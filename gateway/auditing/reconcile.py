"""A partner's own list of redemptions against the log: what both have, what one alone has, and where they differ."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.auditing.books import Books, Redemption
from gateway.auditing.cells import (
    CellUnclear,
    CellWrong,
    Numbers,
    Times,
    at,
    leaf_hash_of,
    perk_of,
    redemption_of,
)
from gateway.auditing.lists import NAMES, ListInvalid, PartnerList, Row
from partners.errors import BadInput

HALF = 2
KEYS = {"redemption", "leafHash"}
ROUNDED_MICROSECONDS_MAX = 60_000_000
"""What is told by the minute or more exactly may be rounded to the nearest, too."""


class Kind(StrEnum):
    """What a line, or a redemption of the log, turned out to be."""

    MATCHED = "matched"
    DIFFERING = "differing"
    ONLY_US = "only us"
    ONLY_THEM = "only them"
    REPEATED = "repeated"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same: a field of a redemption, or all of it; `line` is 0 for what the list lacks."""

    kind: Kind
    line: int
    redemption: str
    leaf_hash: str
    field: str = ""
    ours: str = ""
    theirs: str = ""


@dataclass(slots=True)
class Total:
    """Redemptions with their units and amounts in minor units, as the log has them and as the list has them."""

    redemptions: int = 0
    our_units: int = 0
    our_amount: int = 0
    their_units: int = 0
    their_amount: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """How a list is to be read: decimals of its amounts, and what is said of its times and numbers.

    `tolerance` is how many seconds its clock may differ; `since` and `until` bound which redemptions it should have.
    """

    times: Times
    numbers: Numbers
    decimals: int = 0
    tolerance: float = 0
    since: datetime | None = None
    until: datetime | None = None


class Reconciliation:
    """Takes the lines of a list one by one, then what is left; tells each difference as it is found."""

    def __init__(self, books: Books, found: PartnerList, reading: Reading, tell: Callable[[Difference], None]) -> None:
        self._books, self._list, self._reading, self._tell = books, found, reading, tell
        self._strangers: dict[bytes, int] = {}
        self.totals = {kind: Total() for kind in Kind}
        if {"time"} & found.columns.keys() and not {"date", "at"} & found.columns.keys():
            raise BadInput("a column of times needs one of dates beside it: say --map HEADING=date")

    def run(self, rows: Iterable[Row]) -> None:
        """The whole list. ListInvalid where it stops being one."""
        for row in rows:
            if row.fault is not None:
                self._fault(Kind.UNREADABLE, row, row.fault)
                continue
            try:
                self._take(row)
            except CellFault as fault:
                self._fault(Kind.UNREADABLE, row, str(fault), fault.heading)
        for one in self._books.by_id.values():
            if not one.line and self._is_due(one.at):
                self._count(Kind.ONLY_US, one, None)
                self._tell(difference(Kind.ONLY_US, 0, one))

    def _take(self, row: Row) -> None:
        theirs = self._values(row, KEYS)
        key = theirs.get("redemption") or theirs.get("leafHash")
        if key is None:
            raise CellFault("it has no id of a redemption", "redemption")
        one = self._books.by_id.get(theirs.get("redemption", b"")) or self._books.by_hash.get(
            theirs.get("leafHash", b"")
        )
        before = self._strangers.setdefault(key, row.line) if one is None else one.line or row.line
        if before != row.line:
            self._fault(Kind.REPEATED, row, f"line {before} has it already", one=one)
            return
        if one is not None:
            one.line = row.line
        theirs |= self._values(row, self._list.columns.keys() - KEYS)
        if one is None:
            self._count(Kind.ONLY_THEM, None, theirs)
            shown = f"redemption_{theirs['redemption'].hex()}" if "redemption" in theirs else ""
            self._tell(Difference(Kind.ONLY_THEM, row.line, shown, theirs.get("leafHash", b"").hex()))
        else:
            differing = [*self._compare(one, theirs, row)]
            self._count(Kind.DIFFERING if differing else Kind.MATCHED, one, theirs)
            for each in differing:
                self._tell(each)

    def _values(self, row: Row, names: Set[str]) -> dict[str, Any]:
        """What a line says of these fields, in the order of NAMES. CellFault."""
        present = [name for name in NAMES if name in names and name in self._list.columns]
        return {name: value for name in present if (value := self._value(row, name)) is not None}

    def _value(self, row: Row, name: str) -> Any:
        """What a cell says; None when it is empty, which says nothing. CellFault."""
        text = row.cells[self._list.columns[name]].strip()
        if not text:
            return None
        try:
            match name:
                case "redemption":
                    return redemption_of(text)
                case "leafHash":
                    return leaf_hash_of(text)
                case "perk":
                    return perk_of(text)
                case "units" | "reversedUnits":
                    return self._reading.numbers.read(text, 0)
                case "amount" | "reversedAmount":
                    return self._reading.numbers.read(text, 0 if self._list.is_minor(name) else self._reading.decimals)
                case "at" | "date":
                    return self._reading.times.read(self._with_time(row, name, text), row.line)
        except CellUnclear as fault:
            heading = self._list.headings[self._list.columns[name]]
            raise ListInvalid(f"line {row.line}, column {heading!r}: {shortened(text)!r}: {fault}") from None
        except CellWrong as fault:
            raise CellFault(f"{shortened(text)!r}: {fault}", self._list.headings[self._list.columns[name]]) from None
        return text

    def _with_time(self, row: Row, name: str, text: str) -> str:
        beside = self._list.columns.get("time") if name == "date" else None
        return text if beside is None else f"{text} {row.cells[beside].strip()}".strip()

    def _compare(self, one: Redemption, theirs: Mapping[str, Any], row: Row) -> Iterator[Difference]:
        """Each field that both tell and that is not the same."""
        ours = {
            "redemption": one.id,
            "leafHash": one.leaf_hash,
            "perk": one.perk,
            "units": one.units,
            "amount": one.amount,
            "reversedUnits": one.reversed_units,
            "reversedAmount": one.reversed_amount,
            "tier": one.tier,
        }
        for name, value in theirs.items():
            place = self._list.columns[name]
            if name in ("at", "date"):
                if not self._is_then(one.at, value):
                    shown = at(one.at).isoformat().replace("+00:00", "Z")
                    yield difference(Kind.DIFFERING, row.line, one, name, shown, row.cells[place])
            elif name != "time" and ours[name] != value:
                mine = ours[name]
                shown = mine.hex() if isinstance(mine, bytes) else "" if mine is None else str(mine)
                yield difference(Kind.DIFFERING, row.line, one, name, shown, row.cells[place])

    def _is_then(self, moment: int, spans: tuple[tuple[int, int], ...]) -> bool:
        slack = int(self._reading.tolerance * 1_000_000)
        for start, end in spans:
            rounded = (end - start) // HALF if end - start <= ROUNDED_MICROSECONDS_MAX else 0
            if start - max(slack, rounded) <= moment < end + slack:
                return True
        return False

    def _is_due(self, moment: int) -> bool:
        since, until = self._reading.since, self._reading.until
        return (since is None or at(moment) >= since) and (until is None or at(moment) < until)

    def _count(self, kind: Kind, one: Redemption | None, theirs: Mapping[str, Any] | None) -> None:
        total = self.totals[kind]
        total.redemptions += 1
        if one is not None:
            total.our_units += one.units
            total.our_amount += one.amount
        if theirs is not None:
            total.their_units += theirs.get("units") or 0
            total.their_amount += theirs.get("amount") or 0

    def _fault(self, kind: Kind, row: Row, why: str, heading: str = "", one: Redemption | None = None) -> None:
        self.totals[kind].redemptions += 1
        shown = (f"redemption_{one.id.hex()}", one.leaf_hash.hex()) if one else ("", "")
        self._tell(Difference(kind, row.line, *shown, heading, "", why))


class CellFault(Exception):
    """A cell that can't be, in the column of a heading."""

    def __init__(self, why: str, heading: str) -> None:
        super().__init__(why)
        self.heading = heading


def difference(kind: Kind, line: int, one: Redemption, name: str = "", ours: str = "", theirs: str = "") -> Difference:
    """A difference about a redemption of the log."""
    return Difference(kind, line, f"redemption_{one.id.hex()}", one.leaf_hash.hex(), name, ours, shortened(theirs))


def shortened(text: str) -> str:
    """A cell, as much of it as fits into a message."""
    return text if len(text) <= 60 else text[:59] + "…"
