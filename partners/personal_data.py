"""Where anything about a member is kept, what erasure does to it, and all of it together as one document.

Every table has its line, here or in auth/personal_data.py: a test fails for one that has none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from partners import audit
from partners.actors import Actor
from partners.addresses import open_address
from partners.errors import NotFound
from partners.members import find_member
from partners.pool_codes import place_of
from partners.references import MemberRef
from partners.sealing import open_sealed
from partners.values import value

OF_MEMBER = "t.member_id = :member"
OF_REDEMPTION = "t.redemption_id IN (SELECT r.id FROM redemption r WHERE r.member_id = :member)"
OF_REQUEST = "t.{column} IN (SELECT s.id FROM service_request s WHERE s.member_id = :member)"
DELETE = "DELETE"
UNBOUND = """{column} = CASE WHEN starts_with({column}, 'partner:')
  THEN concat_ws(':', 'partner', split_part({column}, ':', 2)) ELSE {column} END"""
"""Of who did it with a token that is bound to a member (`Actor.owner`) the client stays, and not the alias."""
OF_KEYS = """(t.owner = 'member:' || CAST(CAST(:member AS uuid) AS text) OR t.owner = ANY (ARRAY(
  SELECT 'partner:' || c.id || ':' || a.alias FROM member_alias a JOIN client c ON c.partner_id = a.partner_id
  WHERE a.member_id = :member)))"""
"""Keys of the member's own, and of tokens that are bound to it (`Actor.owner`)."""
BY_ITSELF = "'TERM_OVER', 'TIER_DROP', 'REVERSED', 'MEMBER_ERASED'"


@value
class Holding:
    """What one table has of a member: the rows `t` where `which` holds.

    `hidden` columns are secrets, or mean nothing to anybody. `erasing` is what becomes of the rows when the member is
    erased, `forgetting` when the partners have heard of it: DELETE, or the assignments of an UPDATE; null: they stay.
    """

    table: str
    which: str = OF_MEMBER
    hidden: Sequence[str] = ()
    erasing: str | None = None
    forgetting: str | None = None


# In an order in which nothing is deleted before what points to it.
HOLDINGS: tuple[Holding, ...] = (
    Holding("member", "t.id = :member", ("audit_salt",), forgetting="audit_salt = ''"),
    Holding("tier_assignment", erasing="note = NULL"),
    Holding("activity", erasing=DELETE),
    Holding("pass", hidden=("hash",), erasing=DELETE),
    Holding("review", erasing="note = NULL"),
    Holding("disclosure", erasing=DELETE),
    Holding("consent", erasing="purpose = ''", forgetting=DELETE),
    Holding("member_alias", forgetting=DELETE),
    Holding(
        "hold",
        hidden=("code_hash", "device"),
        erasing="household = NULL, device = NULL",
        forgetting=UNBOUND.format(column="claimed_by"),
    ),
    Holding("redemption", forgetting=UNBOUND.format(column="confirmed_by")),
    Holding("reversal", OF_REDEMPTION, erasing="reason = ''", forgetting=UNBOUND.format(column="reversed_by")),
    Holding(
        "fulfilment",
        OF_REDEMPTION,
        (),
        "address = NULL, address_until = NULL, carrier = NULL, tracking = NULL, reason = NULL",
        UNBOUND.format(column="updated_by"),
    ),
    Holding("check_in", OF_REDEMPTION, forgetting=UNBOUND.format(column="checked_in_by")),
    Holding("perk_code", OF_REDEMPTION),
    Holding(
        "access_grant",
        erasing=f"ended_reason = CASE WHEN ended_reason IN ({BY_ITSELF}) THEN ended_reason END",
        forgetting=UNBOUND.format(column="ended_by"),
    ),
    Holding(
        "access_use",
        "t.grant_id IN (SELECT g.id FROM access_grant g WHERE g.member_id = :member)",
        forgetting=UNBOUND.format(column="used_by"),
    ),
    Holding(
        "waitlist_entry", hidden=("device",), erasing="device = NULL", forgetting=UNBOUND.format(column="joined_by")
    ),
    Holding(
        "message",
        OF_REQUEST.format(column="thread_id"),
        erasing="text = '', files = '[]', author_id = CASE author WHEN 'MEMBER' THEN '' ELSE author_id END",
    ),
    Holding("service_request", erasing="form = '{}', quote = NULL"),
    Holding("thread", OF_REQUEST.format(column="id")),
    Holding(
        "idempotency_key",
        OF_KEYS,
        ("fingerprint",),
        erasing=DELETE,
    ),
    Holding("webhook_message", "t.lane = :member", forgetting="lane = entry_id"),
    Holding(
        "audit_entry",
        "(t.member_id = :member OR t.actor_id = CAST(CAST(:member AS uuid) AS text))",
        forgetting="member_id = NULL, actor_id = CASE actor_kind WHEN 'member' THEN '' ELSE actor_id END",
    ),
)
NOTHING_HELD: Mapping[str, str] = {
    "programme": "of nobody",
    "tier": "of nobody",
    "partner": "of a brand",
    "partner_transfer": "of a brand",
    "perk": "of a brand",
    "policy": "of a brand",
    "perk_option": "of a brand",
    "capacity": "counts",
    "pool": "counts",
    "outbox": "hashes",
    "log_leaf": "hashes",
    "log_node": "hashes",
    "log_head": "hashes",
    "log_key": "of the operator",
    "witnessed_checkpoint": "hashes",
    "webhook_endpoint": "of a brand",
    "webhook_secret": "of a brand",
    "webhook_delivery": "when an entry was told, found by the entry alone",
    "webhook_cursor": "a count",
    "export": "of who asked for it",
    "export_part": "rows of many; expired when one of them is erased",
}
"""Tables that hold nothing of a member, and what they hold."""


@value
class Kept:
    """The rows of one table about a member, at most as many as were asked for, oldest first; whether there are more."""

    table: str
    rows: list[dict[str, Any]]
    more: bool


async def read_holdings(
    session: AsyncSession, holdings: Sequence[Holding], member_id: UUID, *, rows_max: int
) -> list[Kept]:
    """What is held of a member, a statement a table."""
    found = []
    for one in holdings:
        query = sa.text(
            f"SELECT CAST(to_jsonb(t) - CAST(:hidden AS text[]) AS text) FROM {one.table} t"  # noqa: S608  constants
            f" WHERE {one.which} ORDER BY t.ctid LIMIT :limit"
        )
        said = await session.scalars(query, {"member": member_id, "hidden": list(one.hidden), "limit": rows_max + 1})
        rows = [orjson.loads(row) for row in said]
        found.append(Kept(one.table, rows[:rows_max], len(rows) > rows_max))
    return found


async def change_holdings(
    session: AsyncSession, holdings: Sequence[Holding], member_id: UUID, wanted: Callable[[Holding], str | None]
) -> None:
    """Deletes or clears what is `wanted` of each table, a statement a table."""
    for one in holdings:
        change = wanted(one)
        if change is not None:
            does = f"DELETE FROM {one.table} t" if change == DELETE else f"UPDATE {one.table} t SET {change}"  # noqa: S608
            await session.execute(sa.text(f"{does} WHERE {one.which}"), {"member": member_id})


async def export_member(
    session: AsyncSession,
    reference: MemberRef,
    further: Sequence[Holding],
    *,
    sealing_key: bytes,
    rows_max: int,
    actor: Actor,
    now: datetime,
) -> dict[str, Any]:
    """Everything that is held about one person, by table, in the tables' own words; addresses and codes as they are to
    be read. That it was looked at goes on record (`member.exported`). NotFound.

    A table with more than `rows_max` rows of the member is named in `incomplete`.
    """
    member = await find_member(session, reference)
    if member is None:
        raise NotFound("no such member")
    kept = await read_holdings(session, [*HOLDINGS, *further], member.id, rows_max=rows_max)
    document: dict[str, Any] = {one.table: one.rows for one in kept if one.rows}
    for row in document.get("fulfilment", ()):
        open_address_of(row, sealing_key)
    for row in document.get("perk_code", ()):
        open_code(row, sealing_key)
    subject = audit.Subject(member_id=member.id, subject_id=member.id)
    await audit.record(session, "member.exported", subject, actor, now)
    return {
        "member": str(member.id),
        "exportedAt": now.isoformat(),
        "incomplete": [one.table for one in kept if one.more],
        "held": document,
    }


def open_address_of(row: dict[str, Any], key: bytes) -> None:
    """A fulfilment with its address as it was given."""
    if row["address"] is not None:
        row["address"] = asdict(open_address(key, UUID(row["redemption_id"]), raw(row["address"])))


def open_code(row: dict[str, Any], key: bytes) -> None:
    """A partner's code as the member reads it."""
    place = place_of(UUID(row["perk_id"]), raw(row.pop("hash")))
    row["code"] = open_sealed(key, raw(row.pop("sealed")), place).decode()


def raw(shown: str) -> bytes:
    """The bytes that PostgreSQL shows as `\\x` and hexadecimal digits."""
    return bytes.fromhex(shown.removeprefix("\\x"))
