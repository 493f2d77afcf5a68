"""The catalogue as it is read: a page of offers with all that is known of one member beside each, by one statement."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.actors import Actor, ActorKind
from partners.allowances import keys_around
from partners.eligibility import COLUMNS, JOINS, Known, known_of
from partners.references import MemberRef, PerkRef


@dataclass(frozen=True, slots=True)
class Offered:
    """One perk on show: what is written on it, whose it is, and what is known for a decision."""

    handle: str
    kind: str
    title: str
    description: str
    partner_handle: str
    partner_name: str
    partner_kind: str
    known: Known


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """Every condition that is given must hold."""

    ids: Collection[UUID] | None = None
    handle: str | None = None
    partner_id: UUID | None = None
    kind: str | None = None
    state: str | None = None

    @classmethod
    def of(cls, reference: PerkRef) -> "OfferFilter":
        """The one perk that a reference names."""
        return cls(ids=None if reference.id is None else [reference.id], handle=reference.handle)


OFFERED = f"""{COLUMNS},
  p.handle, p.kind, p.title, p.description, b.handle AS partner_handle, b.name AS partner_name, b.kind AS partner_kind
FROM (SELECT k.id AS perk, k.id AS ordinal, $7::timestamptz AS now, coalesce($3::uuid,
    (SELECT a.member_id FROM member_alias a WHERE a.partner_id = $1 AND a.alias = $2::text),
    (SELECT e.id FROM member e WHERE e.external_id = $4::text)) AS member
  FROM perk k JOIN partner o ON o.id = k.partner_id
  WHERE ($1::uuid IS NULL OR k.partner_id = $1) AND ($5::uuid[] IS NULL OR k.id = ANY ($5))
    AND ($6::text IS NULL OR k.handle = $6) AND ($9::uuid IS NULL OR k.partner_id = $9)
    AND ($10::text IS NULL OR k.kind = $10) AND ($11::text IS NULL OR k.state = $11)
    AND ($12::uuid IS NULL OR k.id > $12) AND NOT ($14 AND (k.state = 'DRAFT' OR o.state <> 'ACTIVE'))
  ORDER BY k.id LIMIT $13) AS q
JOIN perk p ON p.id = q.perk
{JOINS}"""  # noqa: S608  constants alone


async def browse(
    connection: "Connection[Any]",
    actor: Actor | None,
    wanted: OfferFilter,
    *,
    now: datetime,
    member: MemberRef | None = None,
    first: int,
    after: UUID | None = None,
) -> list[Offered]:
    """Offers in the order they were made, as many as `first`, with what is known of `member`.

    A partner sees its own; a member what is or was published by active partners; staff all. Without an actor the
    reach was checked already (the perks of redemptions that the caller may see), and drafts can't be among them.
    """
    partner_id = None if actor is None else actor.partner_id
    named = member or MemberRef()
    rows = await connection.fetch(
        OFFERED,
        partner_id,
        named.alias,
        named.id,
        named.external_id,
        None if wanted.ids is None else list(wanted.ids),
        wanted.handle,
        now,
        keys_around(now),
        wanted.partner_id,
        wanted.kind,
        wanted.state,
        after,
        first,
        actor is not None and actor.kind is ActorKind.MEMBER,
    )
    return [offered_of(row, partner_id is not None, now) for row in rows]


def offered_of(row: Mapping[str, Any], partner_asks: bool, now: datetime) -> Offered:
    """One row in the domain's words."""
    return Offered(
        row["handle"],
        row["kind"],
        row["title"],
        row["description"],
        row["partner_handle"],
        row["partner_name"],
        row["partner_kind"],
        known_of(row, partner_asks, now),
    )
