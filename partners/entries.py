"""The entries that staff search, newest first, by statements whose cost depends on the page and not on the log."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.errors import BadInput
from partners.tables.records import BUSY_ACTIONS, IS_NOT_BUSY
from partners.values import value

OUTCOMES = ("DONE", "REFUSED")
ACTIONS_MAX = 20
LOOKED_THROUGH = (1_000, 5_000)
CLOCKS_APART_MS = 5 * 60_000
WRITTEN_LATE_MS = 30 * 60_000  # scoring everybody has one time for all its entries
QUIET = ("client.", "codes.", "log.", "partner.", "perk.")  # what partners and staff do now and then
BUSY = frozenset(BUSY_ACTIONS)
LAST_ID = 2**128 - 1


@value
class Entry:
    """An entry and its place in the log, None while it waits for one."""

    id: UUID
    at: datetime
    action: str
    outcome: str
    reasons: list[str]
    actor_kind: str
    actor_id: str
    partner_id: UUID | None
    perk_id: UUID | None
    member_id: UUID | None
    subject_id: UUID | None
    leaf: str
    leaf_hash: bytes
    index: int | None


NAMES = [field.name for field in fields(Entry)][:-1]
ENTRY = f"SELECT {', '.join(f'e.{name}' for name in NAMES)}, "
INDEX = "(SELECT l.index FROM log_leaf l WHERE l.entry_id = e.id)"  # not a join, which a plan for all values may hash
WALK = "SELECT {names} FROM audit_entry WHERE {bounds} ORDER BY {order} {limit}"
PICK = "SELECT w.* FROM ({walk}) AS w WHERE {given} ORDER BY {order} LIMIT $4"
EACH = "SELECT w.* FROM unnest($1::{kind}[]) AS d(v) CROSS JOIN LATERAL ({walk}) AS w ORDER BY w.id DESC LIMIT {limit}"
PAGE = f"{ENTRY} {INDEX} FROM ({{walks}}) AS e ORDER BY e.id DESC"
FIND = f"{ENTRY} {INDEX} FROM audit_entry e WHERE e.id = $1"
LOGGED_MAX = 500
LOGGED = f"""{ENTRY} l.index FROM (
  SELECT index, entry_id FROM log_leaf WHERE index >= $1 AND index < $2 ORDER BY index LIMIT {LOGGED_MAX}
) AS l JOIN audit_entry e ON e.id = l.entry_id {{where}} ORDER BY l.index"""  # noqa: S608  columns


@value
class EntryFilter:
    """Every condition that is given must hold; times are half-open, from `since` until before `until`. BadInput."""

    actions: Sequence[str] | None = None
    outcome: str | None = None
    partner_id: UUID | None = None
    perk_id: UUID | None = None
    member_id: UUID | None = None
    subject_id: UUID | None = None
    actor_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.outcome not in (None, *OUTCOMES):
            raise BadInput(f"outcome: {' or '.join(OUTCOMES)}")
        if self.actions is not None and len(self.actions) > ACTIONS_MAX:
            raise BadInput(f"actions: at most {ACTIONS_MAX}", limit=ACTIONS_MAX)

    @property
    def conditions(self) -> dict[str, Any]:
        """What is given, each by the comparison that it needs."""
        given = {
            "action = ANY ({}::text[])": None if self.actions is None else list(dict.fromkeys(self.actions)),
            "outcome = {}": self.outcome,
            "partner_id = {}": self.partner_id,
            "perk_id = {}": self.perk_id,
            "member_id = {}": self.member_id,
            "subject_id = {}": self.subject_id,
            "actor_id = {}": self.actor_id,
            "at >= {}": self.since,
            "at < {}": self.until,
        }
        return {condition: value for condition, value in given.items() if value is not None}

    @property
    def driver(self) -> str:
        """The column whose index leaves the fewest entries to look through, `id` for all entries."""
        actions = None if self.actions is None or BUSY.intersection(self.actions) else self.actions
        ranked = (
            ("subject_id", self.subject_id is not None),
            ("member_id", self.member_id is not None),
            ("action", actions is not None and all(one.startswith(QUIET) for one in actions)),
            ("perk_id", self.perk_id is not None),
            ("actor_id", self.actor_id not in (None, "system")),
            ("partner_id", self.partner_id is not None),
            ("action", actions is not None),
            ("outcome", self.outcome == "REFUSED"),
            ("actor_id", self.actor_id is not None),
        )
        return next((column for column, given in ranked if given), "id")

    @property
    def span(self) -> tuple[UUID, UUID]:
        """The ids that the times allow, the second excluded: an id carries the time at which the database made it
        (RFC 9562 section 5.7), no two clocks are further apart than
        five minutes, and nothing is written later than half an hour after the time that it tells."""
        since = 0 if self.since is None else id_number(self.since, -CLOCKS_APART_MS)
        until = LAST_ID if self.until is None else id_number(self.until, WRITTEN_LATE_MS)
        return UUID(int=since), UUID(int=until)


def id_number(moment: datetime, more_ms: int) -> int:
    """The least id of so many ms after a moment, as a number."""
    return min(max(0, int(moment.timestamp() * 1000) + more_ms) << 80, LAST_ID)


@value
class Page:
    """Entries, newest first. `looked_to` is where the search gave up before the page was full: the next goes on."""

    rows: list[Entry]
    looked_to: UUID | None = None


@value
class Search:
    """Walks through the entries of one value of one column, or of a few, and looks at the other conditions on the
    way. The comparison of rows leaves the planner one index, whatever it believes of values that it does not know."""

    driver: str
    values: list[Any]
    conditions: dict[str, Any]

    @classmethod
    def of(cls, wanted: EntryFilter) -> "Search":
        """The cheapest walk that finds what is wanted."""
        conditions, driver = wanted.conditions, wanted.driver
        if driver in ("id", "outcome"):
            conditions.pop("outcome = {}" if driver == "outcome" else "", None)
            return cls(driver, [None], conditions)
        if driver == "action":
            return cls(driver, conditions.pop("action = ANY ({}::text[])"), conditions)
        return cls(driver, [conditions.pop(f"{driver} = {{}}")], conditions)

    def each(self, walk: str, limit: str) -> str:
        """A walk for each value `d.v`, put together."""
        kind = "uuid" if self.driver in ("subject_id", "member_id", "perk_id", "partner_id") else "text"
        return EACH.format(kind=kind, walk=walk, limit=limit)

    def walk(self, names: str, limit: str) -> str:
        """Through the entries of a value, from before $2 down to $3."""
        return WALK.format(names=names, bounds=self.bounds, order=self.order, limit=limit)

    @property
    def bounds(self) -> str:
        """Which part of which index."""
        if self.driver == "id":
            return "id < $2::uuid AND id >= $3::uuid"
        if self.driver == "outcome":
            return "outcome = 'REFUSED' AND id < $2::uuid AND id >= $3::uuid"
        walked = f"({self.driver}, id) < (d.v, $2::uuid) AND ({self.driver}, id) >= (d.v, $3::uuid)"
        return f"{walked} AND {IS_NOT_BUSY}" if self.driver == "action" else walked

    @property
    def order(self) -> str:
        """That of the index; within a value it is that of the ids."""
        return "id DESC" if self.driver in ("id", "outcome") else f"{self.driver} DESC, id DESC"

    def found(self, window: int) -> str:
        """At most $4 entries among the next `window` of each value, newest first; the number is written out, since the
        planner would take a parameter for a tenth of the table."""
        given = " AND ".join(condition.format(f"${number}") for number, condition in enumerate(self.conditions, 5))
        walk = self.walk(", ".join(NAMES), f"LIMIT {window}")
        picked = PICK.format(walk=walk, given=given, order=self.order) if given else walk
        return PAGE.format(walks=self.each(picked, "$4"))

    def looked_to(self, window: int) -> str:
        """The newest of the ids at which the walks through so many entries of each value end."""
        return self.each(self.walk("id", f"OFFSET {window - 1} LIMIT 1"), "1")


async def search_entries(connection: "Connection[Any]", wanted: EntryFilter, *, first: int, after: UUID | None) -> Page:
    """At most `first` + 1 entries, the one more telling that there is a next page.

    Entries of which few fit the conditions are looked through 6,000 at a time, so that a page is never late; it then
    says where it `looked_to`.
    """
    search, rows = Search.of(wanted), list[Entry]()
    low, high = wanted.span
    high = high if after is None else min(high, after)
    looked_to = None
    for window in LOOKED_THROUGH if search.conditions else (first + 1,):
        missing = first + 1 - len(rows)
        found = await connection.fetch(
            search.found(window), search.values, high, low, missing, *search.conditions.values()
        )
        looked_to = None
        if search.conditions and (len(found) < missing or len(search.values) > 1):
            looked_to = await connection.fetchval(search.looked_to(window), search.values, high, low)
        rows += [Entry(*row) for row in found if looked_to is None or row["id"] >= looked_to]
        if looked_to is None or len(rows) > first:
            return Page(rows)
        high = looked_to
    return Page(rows, looked_to)


async def find_entry(connection: "Connection[Any]", id: UUID) -> Entry | None:
    """One entry."""
    row = await connection.fetchrow(FIND, id)
    return None if row is None else Entry(*row)


async def logged_entries(connection: "Connection[Any]", wanted: EntryFilter, start: int, end: int) -> list[Entry]:
    """The entries at places from `start` until before `end` of the log, at most 500 places, in its order."""
    conditions = wanted.conditions
    given = " AND ".join(f"e.{condition.format(f'${number}')}" for number, condition in enumerate(conditions, 3))
    statement = LOGGED.format(where=f"WHERE {given}" if given else "")
    return [Entry(*row) for row in await connection.fetch(statement, start, end, *conditions.values())]


@value
class Extent:
    """Which of the database's logs it is, from 1 on, and how many of its entries."""

    number: int
    size: int


async def extent_of_log(connection: "Connection[Any]") -> Extent:
    """How far today's log has got."""
    row = await connection.fetchrow("SELECT number, size FROM log_head")
    return Extent(1, 0) if row is None else Extent(*row)


async def next_entries(connection: "Connection[Any]", wanted: EntryFilter, read: Extent) -> tuple[list[Entry], Extent]:
    """The entries at the next 500 places of the log, and how far it is read then, from one snapshot.

    Where the log went on under a new name meanwhile, the entry that says so comes first, and since it moved the others
    by one place, none of them comes twice. BadInput where the log is not so long.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        log = await extent_of_log(connection)
        moved = log.number - read.number
        start = read.size + moved
        if moved < 0 or not 0 <= read.size <= start <= log.size:
            raise BadInput(f"fromIndex: 0 to {log.size}, the size of the log", limit=log.size)
        end = min(start + LOGGED_MAX, log.size)
        rows = await logged_entries(connection, wanted, 0, moved) if moved else []
        return rows + await logged_entries(connection, wanted, start, end), Extent(log.number, end)
