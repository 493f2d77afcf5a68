"""What a partner and the programme settle for a month: redemptions, what was taken back and who bears it, what is open.

A statement is derived from records that never change, by the times they were made at: what happened in a month stands
in that month's statement for good, and a reversal stands in the month it was made in.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from partners.actors import Actor, ActorKind
from partners.errors import BadInput, NotFound
from partners.exports import OutOfReach
from partners.tables import Bearer
from partners.values import value

if TYPE_CHECKING:
    from asyncpg import Connection

MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
SETTLES_AFTER = timedelta(minutes=5)
"""Longer than any transaction that was under way when a month ended."""
HOLD_LIFE_MAX = timedelta(days=8)
"""Longer than any hold: three days with two extensions, seven for what a waitlist offers."""

# By perk and time, so that a month costs what happened in it and not what ever did.
LINES = """
SELECT p.id, p.handle, p.title, m.currency, m.bearer, m.n, m.units::bigint AS units, m.amount::bigint AS amount
FROM (
  SELECT r.perk_id, r.currency, '' AS bearer, count(*) AS n, sum(r.units) AS units, sum(r.amount) AS amount
  FROM redemption r WHERE r.perk_id = ANY ($1) AND r.confirmed_at >= $2 AND r.confirmed_at < $3
  GROUP BY r.perk_id, r.currency
  UNION ALL
  SELECT r.perk_id, r.currency, v.borne_by, count(*), sum(v.units), sum(v.amount)
  FROM reversal v JOIN redemption r ON r.id = v.redemption_id
  WHERE v.perk_id = ANY ($1) AND v.reversed_at >= $2 AND v.reversed_at < $3
  GROUP BY r.perk_id, r.currency, v.borne_by
) AS m JOIN perk p ON p.id = m.perk_id ORDER BY p.handle, m.currency, m.bearer
"""

# What was held counts until it was confirmed or given back, or could be no more, whenever somebody came to end it.
# What is handed over as it is confirmed, codes and standing rights, is never waited for. This reads all that was ever
# redeemed: about a second for a million.
OPEN = """
WITH held AS (
  SELECT perk_id,
    sum(units) FILTER (WHERE held_at < $2 AND expires_at > $2 AND (ended_at IS NULL OR ended_at >= $2)) AS before,
    sum(units) FILTER (WHERE expires_at > $3 AND (ended_at IS NULL OR ended_at >= $3)) AS after
  FROM hold WHERE perk_id = ANY ($1) AND held_at < $3
    AND (held_at >= $2::timestamptz - $4::interval AND held_at < $2 OR held_at >= $3::timestamptz - $4::interval)
  GROUP BY perk_id
), back AS MATERIALIZED (
  SELECT redemption_id, sum(units) FILTER (WHERE reversed_at < $2) AS before, sum(units) AS after
  FROM reversal WHERE perk_id = ANY ($1) AND reversed_at < $3 GROUP BY redemption_id
), awaited AS (
  SELECT r.perk_id,
    sum(r.units - coalesce(b.before, 0)) FILTER (WHERE r.confirmed_at < $2
      AND (f.fulfilled_at IS NULL OR f.fulfilled_at >= $2)) AS before,
    sum(r.units - coalesce(b.after, 0)) FILTER (WHERE f.fulfilled_at IS NULL) AS after
  FROM redemption r LEFT JOIN fulfilment f ON f.redemption_id = r.id AND f.fulfilled_at < $3
    LEFT JOIN back b ON b.redemption_id = r.id
  WHERE r.perk_id = ANY ($1) AND r.confirmed_at < $3 GROUP BY r.perk_id
)
SELECT p.id, p.handle, p.title, coalesce(h.before, 0), coalesce(h.after, 0), coalesce(a.before, 0)::bigint,
  coalesce(a.after, 0)::bigint
FROM perk p LEFT JOIN held h ON h.perk_id = p.id
  LEFT JOIN awaited a ON a.perk_id = p.id AND p.kind NOT IN ('CODE', 'ACCESS')
WHERE p.id = ANY ($1)
  AND coalesce(h.before, 0) + coalesce(h.after, 0) + coalesce(a.before, 0) + coalesce(a.after, 0) > 0
ORDER BY p.handle
"""

# The first and the last redemption of a perk in the month, with their places in the log.
ENDS = """
SELECT l.perk_id, e.place, e.id, (
    SELECT g.index FROM audit_entry a JOIN log_leaf g ON g.entry_id = a.id
    WHERE a.subject_id = e.id AND a.action = 'hold.confirmed' AND a.outcome = 'DONE'
  ) AS index
FROM unnest($1::uuid[]) AS l(perk_id), LATERAL (
  (SELECT 'first' AS place, r.id FROM redemption r
    WHERE r.perk_id = l.perk_id AND r.confirmed_at >= $2 AND r.confirmed_at < $3 ORDER BY r.confirmed_at, r.id LIMIT 1)
  UNION ALL
  (SELECT 'last', r.id FROM redemption r
    WHERE r.perk_id = l.perk_id AND r.confirmed_at >= $2 AND r.confirmed_at < $3
    ORDER BY r.confirmed_at DESC, r.id DESC LIMIT 1)
) AS e
"""

HEAD = """
SELECT p.id, p.handle, p.name, p.created_at, g.name AS programme, g.time_zone, l.origin, coalesce(l.size, 0) AS size,
  ARRAY(SELECT k.id FROM perk k WHERE k.partner_id = p.id) AS perks
FROM programme g LEFT JOIN log_head l ON true
LEFT JOIN partner p ON p.id = $1 OR p.handle = $2
"""


@value
class Month:
    """A calendar month in a time zone, from its start until before its end."""

    name: str
    starts_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, name: str, zone: ZoneInfo) -> "Month":
        """The month that a text names, as `2026-11`; BadInput."""
        found = MONTH.fullmatch(name)
        if found is None or int(found[1]) < 1970:
            raise BadInput("month: a year and a month, as 2026-11")
        first = date(int(found[1]), int(found[2]), 1)
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1) if first.year < 9999 else date.max
        return cls(name, datetime.combine(first, time(), zone), datetime.combine(after, time(), zone))


@value
class Sum:
    """So many records, of so many units and so much, in minor units of a currency."""

    count: int = 0
    units: int = 0
    amount: int = 0

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.count + other.count, self.units + other.units, self.amount + other.amount)


@value
class End:
    """A redemption at one end of a line, and the index of its entry in the log, once that is there."""

    redemption_id: UUID
    index: int | None


@value
class Line:
    """What happened with one perk in one currency; None for a perk that counts no amounts.

    `first` and `last` are the perk's redemptions at both ends of the month, in whatever currency.
    """

    perk_id: UUID
    handle: str
    title: str
    currency: str | None
    redeemed: Sum
    reversed: Mapping[Bearer, Sum]
    first: End | None
    last: End | None

    @property
    def taken_back(self) -> Sum:
        """All that was reversed, whoever bears it."""
        return sum(self.reversed.values(), Sum())

    @property
    def net_units(self) -> int:
        """Redeemed less reversed; below zero where more came back than went out."""
        return self.redeemed.units - self.taken_back.units

    @property
    def net_amount(self) -> int:
        """Redeemed less reversed, in minor units."""
        return self.redeemed.amount - self.taken_back.amount


@value
class Open:
    """Units of one perk that were under way as the month began and as it ended: held, and confirmed but not yet
    fulfilled."""

    perk_id: UUID
    handle: str
    title: str
    held_before: int
    held_after: int
    awaited_before: int
    awaited_after: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One partner's month. `final`: nothing of it can change any more. The log was of `log_size` entries when it was
    made, and the month's are all among them once it is final."""

    partner_id: UUID
    partner: str
    name: str
    programme: str
    time_zone: str
    month: Month
    made_at: datetime
    final: bool
    log_origin: str
    log_size: int
    lines: list[Line] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)

    @property
    def totals(self) -> dict[str | None, "Total"]:
        """By currency, None for perks that count no amounts."""
        found: dict[str | None, Total] = {}
        for line in self.lines:
            found[line.currency] = found.get(line.currency, Total()).plus(line)
        return found


@value
class Total:
    """The lines of one currency together."""

    redeemed: Sum = Sum()
    reversed: tuple[Sum, ...] = tuple(Sum() for _ in Bearer)

    def plus(self, line: Line) -> "Total":
        """With one line more."""
        both = zip(self.reversed, (line.reversed[bearer] for bearer in Bearer), strict=True)
        return Total(self.redeemed + line.redeemed, tuple(one + other for one, other in both))

    @property
    def taken_back(self) -> Sum:
        """All that was reversed."""
        return sum(self.reversed, Sum())


async def make_statement(
    connection: "Connection[Any]",
    actor: Actor,
    month: str,
    now: datetime,
    *,
    id: UUID | None = None,
    handle: str | None = None,
    with_open: bool = True,
) -> Statement:
    """The statement of a month, as it stands now, of the partner that acts, or for staff of the one of this id or
    handle; four statements of SQL, in one reading of the database, the costly one for what is open only if `with_open`.

    OutOfReach for who speaks for one member; NotFound for an unknown partner, or another than the one that acts;
    BadInput for what is no month, one to come, or one before the partner was there, and for staff who name no partner.
    """
    if actor.alias is not None or actor.kind is ActorKind.MEMBER:
        raise OutOfReach("a token that speaks for one member reads no statement")
    if actor.partner_id is None and id is None and handle is None:
        raise BadInput("partner: say whose statement")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await connection.fetchrow(HEAD, id if handle or id else actor.partner_id, handle)
        if head is None or head["id"] is None or actor.partner_id not in (None, head["id"]):
            raise NotFound("no such partner")
        whole = checked_month(month, head, now)
        bounds = (whole.starts_at, whole.ends_at)
        moved = await connection.fetch(LINES, head["perks"], *bounds)
        ends = await connection.fetch(ENDS, list({row["id"] for row in moved}), *bounds)
        open_ = await connection.fetch(OPEN, head["perks"], *bounds, HOLD_LIFE_MAX) if with_open else []
    return Statement(
        head["id"],
        head["handle"],
        head["name"],
        head["programme"],
        head["time_zone"],
        whole,
        now,
        now >= whole.ends_at + SETTLES_AFTER,
        head["origin"] or "",
        head["size"],
        list(lines_of(moved, ends)),
        [Open(*row) for row in open_],
    )


def checked_month(name: str, head: Any, now: datetime) -> Month:
    """A month that this partner can have a statement of; BadInput."""
    zone = ZoneInfo(head["time_zone"])
    month = Month.of(name, zone)
    if month.starts_at > now:
        raise BadInput(f"month: {name} is to come; the running month is {now.astimezone(zone):%Y-%m}")
    if month.ends_at <= head["created_at"]:
        raise BadInput(f"month: the partner came in {head['created_at'].astimezone(zone):%Y-%m}")
    return month


def lines_of(moved: Iterable[Any], ends: Iterable[Any]) -> Iterable[Line]:
    """One line for each perk and currency, from the sums of each bearer and of none."""
    places = {(row["perk_id"], row["place"]): End(row["id"], row["index"]) for row in ends}
    sums: dict[tuple[Any, ...], dict[str, Sum]] = defaultdict(dict)
    for row in moved:
        key = (row["id"], row["handle"], row["title"], row["currency"])
        sums[key][row["bearer"]] = Sum(row["n"], row["units"], row["amount"])
    for key, found in sums.items():
        borne = {bearer: found.get(bearer.value, Sum()) for bearer in Bearer}
        first, last = places.get((key[0], "first")), places.get((key[0], "last"))
        yield Line(*key, found.get("", Sum()), borne, first, last)
