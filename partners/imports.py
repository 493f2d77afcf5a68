"""Members by the thousand: a few statements for a chunk, checked and recorded like a single change."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Connection

from partners.actors import Actor
from partners.consents import USUAL as CONSENT_SCOPES
from partners.consents import check_purpose
from partners.errors import BadInput, TryAgain
from partners.import_rows import NOTHING, MemberRow, Outcome
from partners.members import KEY_VERSION, SALT_BYTES, check_member, pairwise_alias
from partners.programme import Programme
from partners.tables import AssignmentCause, MemberState
from partners.tables.columns import new_id
from partners.tiers import TO_COME, check_tier


@dataclass(frozen=True, slots=True)
class Import:
    """What lines are judged by, and who brings them; `partners` has every partner's id by its handle."""

    programme: Programme
    actor: Actor
    partners: Mapping[str, UUID]
    pairwise_key: bytes
    purpose: str = "perks"


LOCK = "SELECT id FROM member WHERE external_id = ANY ($1) ORDER BY id FOR UPDATE"
# A statement of its own, to see what was committed while the locks were waited for.
STORED = """
SELECT m.external_id, m.id, m.state, m.market, m.joined_at, m.household, m.birth_month, m.labels,
  t.tier, t.ends_at AS tier_ends_at,
  ARRAY(SELECT c.partner_id FROM consent c WHERE c.member_id = m.id AND c.state = 'GRANTED'
    AND (c.expires_at IS NULL OR c.expires_at > $2)) AS consents
FROM member m LEFT JOIN LATERAL (SELECT s.tier, s.ends_at FROM tier_assignment s
  WHERE s.member_id = m.id AND s.starts_at <= $2 AND (s.ends_at IS NULL OR s.ends_at > s.starts_at)
  ORDER BY s.starts_at DESC, s.id DESC LIMIT 1) AS t ON true
WHERE m.id = ANY ($1)
"""
ENROL = """
INSERT INTO member (id, external_id, state, market, joined_at, household, birth_month, labels, created_at, audit_salt,
  version, score, reviews)
SELECT id, external_id, state, market, joined_at, household, birth_month, labels, $2, decode(salt, 'hex'), 1, 0, '{}'
FROM json_to_recordset($1) AS r(id uuid, external_id text, state text, market text, joined_at timestamptz,
  household text, birth_month int, labels text[], salt text)
ON CONFLICT DO NOTHING RETURNING id
"""
UPDATE = """
UPDATE member m SET state = r.state, market = r.market, joined_at = r.joined_at, household = r.household,
  birth_month = r.birth_month, labels = r.labels, version = m.version + 1
FROM json_to_recordset($1) AS r(id uuid, state text, market text, joined_at timestamptz, household text,
  birth_month int, labels text[]) WHERE m.id = r.id
"""
END_TIERS = """
UPDATE tier_assignment t SET ends_at = greatest(t.starts_at, $2)
FROM json_to_recordset($1) AS r(member_id uuid)
WHERE t.member_id = r.member_id AND (t.ends_at IS NULL OR t.ends_at > $2)
"""
GIVE_TIERS = """
INSERT INTO tier_assignment (id, member_id, tier, starts_at, ends_at, cause)
SELECT id, member_id, tier, $2, ends_at, $3
FROM json_to_recordset($1) AS r(id uuid, member_id uuid, tier text, ends_at timestamptz)
"""
END_CONSENTS = """
UPDATE consent c SET state = 'WITHDRAWN', withdrawn_at = c.expires_at
FROM json_to_recordset($1) AS r(member_id uuid, partner_id uuid)
WHERE c.member_id = r.member_id AND c.partner_id = r.partner_id AND c.state = 'GRANTED'
"""
GRANT = """
INSERT INTO consent (id, member_id, partner_id, state, purpose, scopes, version, granted_at)
SELECT id, member_id, partner_id, 'GRANTED', $3, $4, 1, $2
FROM json_to_recordset($1) AS r(id uuid, member_id uuid, partner_id uuid)
"""
NAME = """
INSERT INTO member_alias (partner_id, member_id, alias, key_version)
SELECT partner_id, member_id, alias, $2 FROM json_to_recordset($1) AS r(partner_id uuid, member_id uuid, alias text)
ON CONFLICT DO NOTHING
"""
RECORD = """
SELECT count(record_audit($2, action, 'DONE', coalesce(notes, '{}'), $3, $4, partner, NULL, member, subject, NULL,
  tier)) FROM json_to_recordset($1)
  AS r(action text, notes text[], partner uuid, member uuid, subject uuid, tier text)
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A member as stored: the last tier, whether or not its time is over, and the partners with a live consent."""

    external_id: str
    id: UUID
    state: str
    market: str | None
    joined_at: datetime
    household: str | None = None
    birth_month: int | None = None
    labels: Sequence[str] = ()
    tier: str | None = None
    tier_ends_at: datetime | None = None
    consents: Sequence[UUID] = ()


def check_member_row(row: MemberRow, brought: Import, now: datetime) -> None:
    """BadInput for what can't be, whatever is stored."""
    check_member(row.external_id, row.market, row.joined_at, now)
    check_purpose(brought.purpose)
    if row.tier is not None:
        check_tier(row.tier, brought.programme)
    elif row.tier_until is not None:
        raise BadInput("tier_until: of which tier?")
    if unknown := [handle for handle in row.consents if handle not in brought.partners]:
        raise BadInput(f"consents: no such partner: {', '.join(unknown)}")


async def import_members(
    connection: "Connection[Any]", rows: Sequence[MemberRow], brought: Import, now: datetime
) -> list[Outcome | BadInput]:
    """Enrols and changes members, within the caller's transaction; each line's outcome, in order.

    No two of the rows are of one member, and all have passed `check_member_row`. A tier is given from now on, where
    the line's is not the last one already. Consents are added, never withdrawn. TryAgain when somebody else enrols
    one of them at this moment.
    """
    locked = await connection.fetch(LOCK, [row.external_id for row in rows])
    stored = await connection.fetch(STORED, [one["id"] for one in locked], now)
    known = {one["external_id"]: Known(**one) for one in stored}
    changes = MemberChanges(brought, now)
    outcomes = [changes.add(row, known.get(row.external_id)) for row in rows]
    await changes.write(connection)
    return outcomes


@dataclass
class MemberChanges:
    """What a chunk changes, as the rows that its statements take."""

    brought: Import
    now: datetime
    enrolled: list[dict[str, Any]] = field(default_factory=list)
    updated: list[dict[str, Any]] = field(default_factory=list)
    tiers: list[dict[str, Any]] = field(default_factory=list)
    consents: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: MemberRow, known: Known | None) -> Outcome | BadInput:
        """Takes up what a line changes, or nothing of it when its tier would have ended already."""
        given = self.wants_tier(row, known)
        if given and row.tier_until is not None and row.tier_until <= self.now:
            return BadInput(TO_COME)
        entries = len(self.entries)
        member = self.enrol(row) if known is None else self.update(row, known)
        if given:
            self.give_tier(row, member)
        for partner in dict.fromkeys(self.brought.partners[handle] for handle in row.consents):
            if partner not in member.consents:
                self.grant(member, partner)
        if known is None:
            return Outcome.NEW
        if len(self.entries) == entries:
            return Outcome.UNCHANGED
        self.updated.append(columns_of(member))
        return Outcome.CHANGED

    def wants_tier(self, row: MemberRow, known: Known | None) -> bool:
        """Whether the line's tier, and the end that it may name, is another one than the member's last."""
        if row.tier is None or known is None or row.tier != known.tier:
            return row.tier is not None
        if row.tier_until is not None:
            return row.tier_until != known.tier_ends_at
        return known.tier_ends_at is not None and known.tier_ends_at <= self.now

    def enrol(self, row: MemberRow) -> Known:
        state = row.state or MemberState.ACTIVE
        member = changed(Known(row.external_id, new_id(), state, row.market, row.joined_at), row)
        salt = secrets.token_hex(SALT_BYTES)
        self.enrolled.append(columns_of(member) | {"external_id": member.external_id, "salt": salt})
        self.tell("member.enrolled", member, member.id)
        if state == MemberState.SUSPENDED:
            self.tell("member.suspended", member, member.id)
        return member

    def update(self, row: MemberRow, known: Known) -> Known:
        member = changed(known, row)
        if replace(member, state=known.state) != known:
            self.tell("member.updated", member, member.id)
        if member.state != known.state:
            action = "member.suspended" if member.state == MemberState.SUSPENDED else "member.reinstated"
            self.tell(action, member, member.id)
        return member

    def give_tier(self, row: MemberRow, member: Known) -> None:
        given = {"id": new_id(), "member_id": member.id, "tier": row.tier, "ends_at": row.tier_until}
        self.tiers.append(given)
        self.tell("tier.assigned", member, given["id"], tier=row.tier, notes=[AssignmentCause.IMPORTED])

    def grant(self, member: Known, partner: UUID) -> None:
        alias = pairwise_alias(self.brought.pairwise_key, partner, member.id)
        consent = {"id": new_id(), "member_id": member.id, "partner_id": partner, "alias": alias}
        self.consents.append(consent)
        self.tell("consent.granted", member, consent["id"], partner=partner)

    def tell(self, action: str, member: Known, subject: Any, **more: Any) -> None:
        self.entries.append({"action": action, "member": member.id, "subject": subject} | more)

    async def write(self, connection: "Connection[Any]") -> None:
        """The statements, each only when it has rows; entries last, when all that they tell of is there."""
        actor, now = self.brought.actor, self.now
        if self.enrolled and len(await connection.fetch(ENROL, packed(self.enrolled), now)) < len(self.enrolled):
            raise TryAgain("somebody else enrols the same members at this moment")
        statements: tuple[tuple[str, list[dict[str, Any]], tuple[Any, ...]], ...] = (
            (UPDATE, self.updated, ()),
            (END_TIERS, self.tiers, (now,)),
            (GIVE_TIERS, self.tiers, (now, AssignmentCause.IMPORTED)),
            (END_CONSENTS, self.consents, ()),
            (GRANT, self.consents, (now, self.brought.purpose.strip(), sorted(CONSENT_SCOPES))),
            (NAME, self.consents, (KEY_VERSION,)),
            (RECORD, self.entries, (now, actor.kind, actor.id)),
        )
        for statement, rows, arguments in statements:
            if rows:
                await connection.execute(statement, packed(rows), *arguments)


COLUMNS = ("id", "state", "market", "joined_at", "household", "birth_month", "labels")


def columns_of(member: Known) -> dict[str, Any]:
    """What of a member is written as the line says."""
    return {name: getattr(member, name) for name in COLUMNS}


def changed(known: Known, row: MemberRow) -> Known:
    """A member with what its line says; NOTHING takes away a household or labels."""
    household = known.household if row.household is None else row.household
    labels = known.labels if row.labels is None else sorted({*row.labels} - {NOTHING})
    return replace(
        known,
        state=row.state or known.state,
        market=row.market or known.market,
        joined_at=row.joined_at,
        household=None if household == NOTHING else household,
        birth_month=row.birth_month or known.birth_month,
        labels=labels,
    )


def packed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the JSON that `json_to_recordset` takes apart."""
    return orjson.dumps(rows, default=str).decode()  # str: for the subclass of UUID that asyncpg gives
