"""Members: enrolling, finding, and the pairwise name that each partner knows them by."""

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor
from partners.errors import BadInput, Conflict, NotFound
from partners.references import Asker, MemberRef
from partners.tables import DisclosureKind, MemberState
from partners.tables.columns import new_id

SALT_BYTES = 32
ERASED = "erased:"
EXTERNAL_ID_LENGTH_MAX = 200
MARKET = re.compile(r"[A-Z]{2}")


async def enrol_member(
    session: AsyncSession,
    *,
    external_id: str,
    market: str | None,
    joined_at: datetime | None,
    actor: Actor,
    now: datetime,
) -> tables.Member:
    """A new member; Conflict when the external id is in use, BadInput for a market that is no ISO 3166 code."""
    check_member(external_id, market, joined_at, now)
    member = tables.Member(
        external_id=external_id,
        market=market,
        joined_at=joined_at or now,
        created_at=now,
        audit_salt=secrets.token_bytes(SALT_BYTES),
    )
    statement = (
        insert(tables.Member).values(member.model_dump()).on_conflict_do_nothing().returning(col(tables.Member.id))
    )
    if await session.scalar(statement) is None:
        raise Conflict("a member with this externalId is enrolled already")
    await audit.record(session, "member.enrolled", audit.Subject(member_id=member.id, subject_id=member.id), actor, now)
    return member


def check_member(external_id: str, market: str | None, joined_at: datetime | None, now: datetime) -> None:
    """BadInput names the first thing that can't be."""
    if not external_id.strip() or len(external_id) > EXTERNAL_ID_LENGTH_MAX or not external_id.isprintable():
        raise BadInput(f"externalId: 1 to {EXTERNAL_ID_LENGTH_MAX} printable characters")
    if external_id.startswith(ERASED):
        raise BadInput(f"externalId: {ERASED} begins what is left of members that were erased")
    if market is not None and not MARKET.fullmatch(market):
        raise BadInput("market: an ISO 3166-1 code of two capital letters, as CH")
    if joined_at is not None and joined_at > now:
        raise BadInput("joinedAt: a time that has passed")


async def find_member(session: AsyncSession, reference: MemberRef) -> tables.Member | None:
    """The member that our id or the operator's external id names."""
    member = tables.Member
    found = member.id == reference.id if reference.id is not None else member.external_id == reference.external_id
    return await session.scalar(select(member).where(found))


async def lock_member(session: AsyncSession, reference: MemberRef) -> tables.Member:
    """The same, locked until the transaction ends so that changes of one member queue; NotFound, and of one that is
    erased nothing changes any more."""
    member = tables.Member
    found = member.id == reference.id if reference.id is not None else member.external_id == reference.external_id
    query = (
        select(member)
        .where(found, member.state != MemberState.ERASED)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    locked = await session.scalar(query)
    if locked is None:
        raise NotFound("no such member")
    return locked


@dataclass(frozen=True, slots=True)
class MemberView:
    """What a partner may see of a member that has consented, or what the member and staff see."""

    id: UUID
    external_id: str
    state: str
    market: str | None
    joined_at: datetime
    tier: str | None
    tier_name: str | None
    tier_rank: int | None
    tier_since: datetime | None
    tier_until: datetime | None
    alias: str | None = None


COLUMNS = """
SELECT m.id, m.external_id, m.state, m.market, m.joined_at, t.tier, d.name AS tier_name, d.rank AS tier_rank,
  t.starts_at AS tier_since, t.ends_at AS tier_until, {alias} AS alias
"""
TIER = """
LEFT JOIN LATERAL (SELECT s.tier, s.starts_at, s.ends_at FROM tier_assignment s WHERE s.member_id = m.id
  AND s.starts_at <= :now AND (s.ends_at IS NULL OR s.ends_at > s.starts_at)
  ORDER BY s.starts_at DESC, s.id DESC LIMIT 1) AS t ON (t.ends_at IS NULL OR t.ends_at > :now) {and_told}
LEFT JOIN tier d ON d.handle = t.tier
"""
VIEW = COLUMNS.format(alias="NULL") + " FROM member m " + TIER.format(and_told="")
BY_ID = sa.text(VIEW + "WHERE m.id = ANY (:ids)")
BY_EXTERNAL_ID = sa.text(VIEW + "WHERE m.external_id = :external_id")
CONSENTED = f"""
WITH answer AS MATERIALIZED ({COLUMNS.format(alias="a.alias")} FROM {{named}} AS a
  JOIN consent c ON c.member_id = a.member_id AND c.partner_id = a.partner_id AND c.state = 'GRANTED'
    AND (c.expires_at IS NULL OR c.expires_at > :now) AND :scope = ANY (c.scopes)
  JOIN member m ON m.id = c.member_id {TIER.format(and_told="AND 'member.tier:read' = ANY (c.scopes)")}
), told AS (
  INSERT INTO disclosure (member_id, id, at, partner_id, client_id, kind)
  SELECT id, (CAST(:fresh AS uuid[]))[row_number() OVER ()], :now, :partner, :client, :kind FROM answer
  WHERE CAST(:client AS text) IS NOT NULL
)
SELECT * FROM answer
"""  # noqa: S608  constants alone
# The partner's own id stands for the member that is not there: a stranger takes the same look-ups as a member without
# consent, and the same time (law 9).
ONE_NAMED = """(SELECT CAST(:partner AS uuid) AS partner_id, CAST(:alias AS text) AS alias, coalesce((
  SELECT member_id FROM member_alias WHERE partner_id = :partner AND alias = :alias), :partner) AS member_id)"""
SOME_NAMED = "(SELECT * FROM member_alias WHERE partner_id = :partner AND member_id = ANY (:ids))"
CONSENTED_BY_ALIAS = sa.text(CONSENTED.format(named=ONE_NAMED))
CONSENTED_BY_ID = sa.text(CONSENTED.format(named=SOME_NAMED))


async def view_member(
    session: AsyncSession, reference: MemberRef, *, asker: Asker | None, now: datetime
) -> MemberView | None:
    """One member as the caller may see it, by one statement: a partner as `asker` by alias and under live consent,
    which keeps it as a disclosure; others by id or external id."""
    if asker is not None:
        about = asked_by(asker, DisclosureKind.MEMBERSHIP, 1, now)
        rows = await session.execute(CONSENTED_BY_ALIAS, about | {"alias": reference.alias})
    elif reference.id is not None:
        rows = await session.execute(BY_ID, {"ids": [reference.id], "now": now})
    else:
        rows = await session.execute(BY_EXTERNAL_ID, {"external_id": reference.external_id, "now": now})
    row = rows.one_or_none()
    return None if row is None else MemberView(**row._mapping)


async def view_members(
    session: AsyncSession, ids: Collection[UUID], *, asker: Asker | None, now: datetime
) -> dict[UUID, MemberView]:
    """Several at once by id, for redemptions that are scoped already; a partner sees those who consent, by its
    aliases, and each is kept as a disclosure."""
    if asker is None:
        rows = await session.execute(BY_ID, {"ids": list(ids), "now": now})
    else:
        about = asked_by(asker, DisclosureKind.REDEMPTIONS, len(ids), now)
        rows = await session.execute(CONSENTED_BY_ID, about | {"ids": list(ids)})
    return {row.id: MemberView(**row._mapping) for row in rows}


def asked_by(asker: Asker, kind: DisclosureKind, most: int, now: datetime) -> dict[str, Any]:
    """Who asks by which right, as both statements take it, and ids for as many disclosures as there may be: making
    one takes the database ten times as long as keeping it."""
    return {
        "partner": asker.partner_id,
        "scope": asker.scope,
        "client": asker.client_id,
        "kind": kind.value,
        "fresh": [new_id() for _ in range(most)],
        "now": now,
    }


KEY_VERSION = 1


def pairwise_alias(key: bytes, partner_id: UUID, member_id: UUID) -> str:
    """The name of a member to one partner: HMAC-SHA-256 over version, partner and member, each with its length.

    26 characters of lower-case base 32 (128 bits). Without the key two partners' names for one member have
    nothing in common.
    """
    parts = (bytes([KEY_VERSION]), partner_id.bytes, member_id.bytes)
    message = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return b32encode(hmac.digest(key, message, hashlib.sha256)[:16]).decode().rstrip("=").lower()


async def keep_alias(session: AsyncSession, key: bytes, *, partner_id: UUID, member_id: UUID) -> str:
    """The stored alias of a member at a partner, made at the first consent and kept for good."""
    alias = tables.MemberAlias(
        partner_id=partner_id,
        member_id=member_id,
        alias=pairwise_alias(key, partner_id, member_id),
        key_version=KEY_VERSION,
    )
    await session.execute(insert(tables.MemberAlias).values(alias.model_dump()).on_conflict_do_nothing())
    stored = await session.scalar(
        select(tables.MemberAlias.alias).where(
            tables.MemberAlias.partner_id == partner_id, tables.MemberAlias.member_id == member_id
        )
    )
    assert stored is not None
    return stored
