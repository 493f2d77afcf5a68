"""The catalogue as it is read: a page of offers with all that is known of one member beside each, by one statement."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Connection

from partners.actors import Actor, ActorKind
from partners.eligibility import Known, known_of
from partners.reading import COLUMNS, JOINS
from partners.references import Asker, MemberRef, PerkRef
from partners.tables.columns import new_id
from partners.values import value


@value
class Detail:
    """What is written on a perk beyond its first page; titles and places of its options, and names of its pools, in
    the order of the facts."""

    settings: dict[str, Any]
    waitlist: dict[str, Any] | None
    self_service: bool
    returns_allowance: bool
    low_at: int | None
    options: Sequence[tuple[str, str | None]]
    pools: Sequence[str]


@value
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
    detail: Detail | None = None


@value
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


DETAIL = """,
    p.settings::text, p.waitlist::text AS waitlist_terms, p.self_service, p.returns_allowance, c.low_at,
    CASE WHEN p.pooled THEN (SELECT json_agg(json_build_array(o.title, o.location) ORDER BY o.position)::text
      FROM perk_option o WHERE o.perk_id = p.id) END AS option_titles,
    CASE WHEN p.pooled THEN (SELECT json_agg(o.name ORDER BY o.number)::text
      FROM pool o WHERE o.perk_id = p.id) END AS pool_names"""


def offered(conditions: Sequence[str], disclosed: str, detail: str) -> str:
    """The statement for these conditions on a perk `k` and its partner `o`: only those that are given, so that one
    plan serves all of its uses. It keeps what was told as one disclosure for the whole page, when it is to be kept."""
    return f"""
WITH answer AS MATERIALIZED ({COLUMNS}{detail},
    p.handle, p.kind, p.title, p.description, b.handle AS partner_handle, b.name AS partner_name, b.kind AS partner_kind
  FROM (SELECT k.id AS perk, $5::timestamptz AS now, $8::text AS scope, coalesce($3::uuid,
      (SELECT a.member_id FROM member_alias a WHERE a.partner_id = $1::uuid AND a.alias = $2::text),
      (SELECT e.id FROM member e WHERE e.external_id = $4::text), $1::uuid) AS member
    FROM perk k JOIN partner o ON o.id = k.partner_id
    WHERE NOT ($7 AND (k.state = 'DRAFT' OR o.state <> 'ACTIVE')) {" ".join(f"AND {one}" for one in conditions)}
    ORDER BY k.id LIMIT $6) AS q
  JOIN perk p ON p.id = q.perk
  {JOINS}){disclosed}
SELECT * FROM answer ORDER BY perk_id"""  # noqa: S608  constants alone


DISCLOSED = """, told AS (
  INSERT INTO disclosure (member_id, id, at, partner_id, client_id, kind)
  SELECT member_id, ${}::uuid, $5, $1, ${}::text, 'CATALOGUE' FROM answer WHERE member_id IS NOT NULL LIMIT 1
)"""


async def browse(
    connection: "Connection[Any]",
    actor: Actor | None,
    wanted: OfferFilter,
    *,
    now: datetime,
    member: MemberRef | None = None,
    asker: Asker | None = None,
    first: int,
    after: UUID | None = None,
    detailed: bool = False,
) -> list[Offered]:
    """Offers in the order they were made, as many as `first`, with what is known of `member`.

    A partner sees its own, and as an `asker` members who consent; a member what is or was published by active
    partners; staff all. Without an actor the reach was checked already (the perks of redemptions that the caller may
    see), and drafts can't be among them.
    """
    partner_id, named = None if actor is None else actor.partner_id, member or MemberRef()
    published = actor is not None and actor.kind is ActorKind.MEMBER
    arguments: list[Any] = [
        partner_id,
        named.alias,
        named.id,
        named.external_id,
        now,
        first,
        published,
        None if asker is None else asker.scope,
    ]
    given = {
        "k.partner_id = ${}": partner_id,
        "k.id = ANY (${}::uuid[])": None if wanted.ids is None else list(wanted.ids),
        "k.handle = ${}": wanted.handle,
        "k.partner_id = ${}::uuid": wanted.partner_id,
        "k.kind = ${}": wanted.kind,
        "k.state = ${}": wanted.state,
        "k.id > ${}": after,
    }
    conditions = []
    for condition, wanted_value in given.items():
        if wanted_value is not None:
            arguments.append(wanted_value)
            conditions.append(condition.format(len(arguments)))
    disclosed = ""
    if asker is not None and asker.client_id is not None:
        arguments += [new_id(), asker.client_id]
        disclosed = DISCLOSED.format(len(arguments) - 1, len(arguments))
    rows = await connection.fetch(offered(conditions, disclosed, DETAIL if detailed else ""), *arguments)
    return [offered_of(row, partner_id is not None, now, detailed) for row in rows]


def detail_of(row: Mapping[str, Any]) -> Detail:
    """The rest of a row."""
    waitlist, options, pools = row["waitlist_terms"], row["option_titles"], row["pool_names"]
    return Detail(
        orjson.loads(row["settings"]),
        None if waitlist is None else orjson.loads(waitlist),
        row["self_service"],
        row["returns_allowance"],
        row["low_at"],
        () if options is None else [(title, location) for title, location in orjson.loads(options)],
        () if pools is None else orjson.loads(pools),
    )


def offered_of(row: Mapping[str, Any], partner_asks: bool, now: datetime, detailed: bool) -> Offered:
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
        detail_of(row) if detailed else None,
    )
