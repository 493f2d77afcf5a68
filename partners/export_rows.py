"""What an export holds: its columns, and the statements that read them a batch at a time from where the last ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.exports import START, Wanted
from partners.tables import ExportKind

BATCH = 2_000
"""Rows that are looked at in one step, whatever the filter: a step takes tens of milliseconds."""


class Column(Enum):
    """What is in a column: `NAME` is text that comes again and again."""

    TEXT = "text"
    NAME = "name"
    NAMES = "names"
    INTEGER = "integer"
    MOMENT = "moment"


REDEMPTIONS = {
    "id": Column.TEXT,
    "confirmed_at": Column.MOMENT,
    "partner": Column.NAME,
    "perk": Column.NAME,
    "perk_id": Column.NAME,
    "{member}": Column.NAME,
    "tier": Column.NAME,
    "policy_version": Column.INTEGER,
    "option": Column.NAME,
    "units": Column.INTEGER,
    "amount_minor": Column.INTEGER,
    "currency": Column.NAME,
    "fulfilment": Column.NAME,
    "scheduled_at": Column.MOMENT,
    "fulfilled_at": Column.MOMENT,
    "reversals": Column.INTEGER,
    "reversed_units": Column.INTEGER,
    "reversed_amount_minor": Column.INTEGER,
    "reversal_id": Column.TEXT,
    "reversed_at": Column.MOMENT,
    "reversal_reason": Column.TEXT,
    "reversal_borne_by": Column.NAME,
    "reversal_stock": Column.NAME,
    "reversal_leaf_hash": Column.TEXT,
    "leaf_hash": Column.TEXT,
    "log_index": Column.INTEGER,
}
ENTRIES = {
    "log_index": Column.INTEGER,
    "id": Column.TEXT,
    "at": Column.MOMENT,
    "action": Column.NAME,
    "outcome": Column.NAME,
    "reasons": Column.NAMES,
    "actor_kind": Column.NAME,
    "actor_id": Column.NAME,
    "partner_id": Column.NAME,
    "perk_id": Column.NAME,
    "member_id": Column.NAME,
    "subject_id": Column.TEXT,
    "leaf": Column.TEXT,
    "leaf_hash": Column.TEXT,
}
READ_REDEMPTIONS = """
WITH batch AS MATERIALIZED (
  SELECT r.* FROM redemption r WHERE r.id > $1 AND r.id <= $2 {bounds} ORDER BY r.id LIMIT {batch}
)
SELECT 'redemption_' || replace(r.id::text, '-', '') AS id, r.confirmed_at, split_part(k.handle, '/', 1) AS partner,
  k.handle AS perk, 'perk_' || replace(r.perk_id::text, '-', '') AS perk_id, {member}, {tier},
  r.policy_version, o.handle AS option, r.units, r.amount, r.currency, r.fulfilment, f.scheduled_at, f.fulfilled_at,
  r.reversals, r.reversed_units, r.reversed_amount, 'reversal_' || replace(v.id::text, '-', ''), {reversed},
  encode(r.leaf_hash, 'hex'), g.index, {told}
FROM batch r JOIN perk k ON k.id = r.perk_id {people}
  LEFT JOIN perk_option o ON o.id = r.option_id
  LEFT JOIN fulfilment f ON f.redemption_id = r.id
  LEFT JOIN reversal v ON v.redemption_id = r.id AND v.number = r.reversals
  LEFT JOIN LATERAL (SELECT l.index FROM audit_entry e JOIN log_leaf l ON l.entry_id = e.id
    WHERE e.subject_id = r.id AND e.leaf_hash = r.leaf_hash LIMIT 1) g ON true
WHERE true {conditions} ORDER BY r.id
"""
OF_ALIASES = {
    "member": "a.alias",
    "reversed": """CASE WHEN {by_hand} THEN v.reversed_at ELSE date_trunc('day', v.reversed_at, 'UTC') END, v.reason,
  v.borne_by, v.stock, CASE WHEN {by_hand} THEN encode(v.leaf_hash, 'hex') END""".format(
        by_hand="(starts_with(v.reversed_by, 'partner:') OR starts_with(v.reversed_by, 'member:'))"
    ),
    "tier": "CASE WHEN $3::boolean AND 'member.tier:read' = ANY (c.scopes) THEN r.tier END AS tier",
    "told": """CASE WHEN a.alias IS NOT NULL OR ($3::boolean AND 'member.tier:read' = ANY (c.scopes)
      AND r.tier IS NOT NULL) THEN c.member_id END AS told""",
    "people": """LEFT JOIN member m ON m.id = r.member_id AND m.state <> 'ERASED'
    LEFT JOIN consent c ON c.member_id = m.id AND c.partner_id = $4 AND c.state = 'GRANTED'
      AND (c.expires_at IS NULL OR c.expires_at > $5)
    LEFT JOIN member_alias a ON a.member_id = c.member_id AND a.partner_id = c.partner_id
      AND 'redemptions:read' = ANY (c.scopes)""",
}
"""What a partner is told: as the API tells it at `$5`, by live consent (partners/redemptions.py). Of who is being
erased nothing from the first step on, since a file stays."""
OF_MEMBERS = {
    "member": "'member_' || replace(m.id::text, '-', '') AS member_id",
    "reversed": "v.reversed_at, v.reason, v.borne_by, v.stock, encode(v.leaf_hash, 'hex')",
    "tier": "r.tier",
    "told": "NULL::uuid AS told",
    "people": "LEFT JOIN member m ON m.id = r.member_id AND m.state <> 'ERASED'",
}
READ_ENTRIES = """
WITH batch AS MATERIALIZED (
  SELECT l.index, l.entry_id FROM log_leaf l WHERE l.index >= $1 AND l.index < $2 ORDER BY l.index LIMIT {batch}
)
SELECT l.index, 'entry_' || replace(e.id::text, '-', '') AS id, e.at, e.action, e.outcome, e.reasons, e.actor_kind,
  e.actor_id, 'partner_' || replace(e.partner_id::text, '-', ''), 'perk_' || replace(e.perk_id::text, '-', ''),
  'member_' || replace(e.member_id::text, '-', ''), replace(e.subject_id::text, '-', ''), e.leaf,
  encode(e.leaf_hash, 'hex'), NULL::uuid AS told
FROM batch l JOIN audit_entry e ON e.id = l.entry_id WHERE true {conditions} ORDER BY l.index
"""
NEXT_END = "SELECT r.id FROM redemption r WHERE r.id > $1 AND r.id <= $2 {bounds} ORDER BY r.id OFFSET {place} LIMIT 1"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records as they come from the database, and where they end. The last field of each is the member who was told of,
    if anybody was."""

    records: Sequence[Any]
    cursor: UUID

    def rows(self) -> list[tuple[Any, ...]]:
        """Values in the order of the columns; some milliseconds of work."""
        return [tuple(record)[:-1] for record in self.records]

    def told(self) -> set[UUID]:
        """Whose rows they are, as far as whoever asked is told."""
        return {record[-1] for record in self.records} - {None}


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of one export: a partner's (`for_partner`) has aliases of those who consent, staff's members' ids."""

    kind: ExportKind
    wanted: Wanted
    for_partner: UUID | None = None

    @property
    def columns(self) -> dict[str, Column]:
        """Their names and what is in them."""
        if self.kind is ExportKind.ENTRIES:
            return ENTRIES
        member = "member_id" if self.for_partner is None else "alias"
        return {name.format(member=member): column for name, column in REDEMPTIONS.items()}

    async def read(self, connection: "Connection[Any]", cursor: UUID | None, now: datetime) -> Batch:
        """The rows that are wanted of the next 2,000 after `cursor`, by two statements (of entries: one)."""
        after = cursor or START
        if self.kind is ExportKind.ENTRIES:
            end = min(after.int + BATCH, self.wanted.last.int)
            conditions, values = self._conditions("e", "at", 3)
            statement = READ_ENTRIES.format(batch=BATCH, conditions=conditions)
            return Batch(await connection.fetch(statement, after.int, end, *values), UUID(int=end))
        bounds, bounded = self._bounds("r", 3)
        next_end = NEXT_END.format(bounds=bounds, place=BATCH - 1)
        end_id = await connection.fetchval(next_end, after, self.wanted.last, *bounded) or self.wanted.last
        people = [] if self.for_partner is None else [self.wanted.tiers, self.for_partner, now]
        bounds, bounded = self._bounds("r", 3 + len(people))
        conditions, values = self._filters("r", "confirmed_at", 3 + len(people) + len(bounded))
        whose = OF_MEMBERS if self.for_partner is None else OF_ALIASES
        statement = READ_REDEMPTIONS.format(batch=BATCH, bounds=bounds, conditions=conditions, **whose)
        return Batch(await connection.fetch(statement, after, end_id, *people, *bounded, *values), end_id)

    async def count(self, connection: "Connection[Any]") -> int:
        """How many rows there will be."""
        if self.kind is ExportKind.ENTRIES:
            conditions, values = self._conditions("e", "at", 2)
            if not conditions:
                return self.wanted.last.int
            rows, last = "log_leaf l JOIN audit_entry e ON e.id = l.entry_id WHERE l.index < $1", self.wanted.last.int
            return int(await connection.fetchval(f"SELECT count(*) FROM {rows} {conditions}", last, *values))  # noqa: S608
        conditions, values = self._conditions("r", "confirmed_at", 2)
        statement = f"SELECT count(*) FROM redemption r WHERE r.id <= $1 {conditions}"  # noqa: S608
        return int(await connection.fetchval(statement, self.wanted.last, *values))

    def _conditions(self, table: str, moment: str, place: int) -> tuple[str, list[Any]]:
        bounds, bounded = self._bounds(table, place)
        filters, values = self._filters(table, moment, place + len(bounded))
        return f"{bounds} {filters}".strip(), [*bounded, *values]

    def _bounds(self, table: str, place: int) -> tuple[str, list[Any]]:
        """What an index finds, as SQL whose parameters begin at `place`; what is not said has no part in it."""
        wanted = self.wanted
        return numbered({f"{table}.partner_id =": wanted.partner_id, f"{table}.perk_id =": wanted.perk_id}, place)

    def _filters(self, table: str, moment: str, place: int) -> tuple[str, list[Any]]:
        """Everything else that is wanted."""
        wanted = self.wanted
        fulfilment = wanted.fulfilment and wanted.fulfilment.value
        conditions = {
            f"{table}.{moment} >=": wanted.since,
            f"{table}.{moment} <": wanted.until,
            f"{table}.fulfilment =": fulfilment,
        }
        text, values = numbered(conditions, place)
        if wanted.reversed is not None:
            text += f" AND {table}.reversals {'>' if wanted.reversed else '='} 0"
        return text, values


def numbered(conditions: Mapping[str, Any], place: int) -> tuple[str, list[Any]]:
    """Those that are given, each with the number of its parameter."""
    given = {text: value for text, value in conditions.items() if value is not None}
    return " ".join(f"AND {text} ${number}" for number, text in enumerate(given, place)), [*given.values()]
