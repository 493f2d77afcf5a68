"""Confirm and reverse: a confirmed hold becomes a redemption, and a reversal takes it back."""

from collections import namedtuple
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from asyncpg import Connection, PostgresError
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.actors import Actor, ActorKind
from partners.codes import code_hash
from partners.errors import BadInput
from partners.rules import AMOUNT_MAX
from partners.tables import Bearer, Stock
from partners.tables.columns import new_id

REASON_LENGTH_MAX = 500
INT_MAX = 2**31 - 1
CONFIRM = "SELECT * FROM confirm_hold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
KIND_REFUSES = "PK001"  # the SQLSTATE of what undoes a confirmation, alembic/sql/0003_scarce.sql


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code` is CONFIRMED or REVERSED, REPLAYED, KEY_REUSED, or a refusal; `id` is what came of it, if anything."""

    code: str
    id: UUID | None

    @property
    def replayed(self) -> bool:
        """The key had acted before: the first answer again."""
        return self.code == "REPLAYED"


async def confirm_hold(
    connection: "Connection[Any]",
    *,
    hold_id: UUID | None,
    code: str | None,
    actor: Actor,
    key: str,
    fingerprint: bytes,
    now: datetime,
    units: int | None = None,
    amount: int | None = None,
) -> Outcome:
    """Confirms a hold by id or by its code, all of it or so many `units` and so much of its `amount` (minor units of
    the perk's currency), in one statement that is its own transaction; the rest is given back.

    Refusals: NOT_AVAILABLE (the one answer to a wrong code, another partner's, one that has ended, or a member's where
    members don't confirm by themselves), HOLD_EXPIRED, CONSENT_MISSING, MEMBERSHIP_SUSPENDED, PARTNER_SUSPENDED,
    UNITS_EXCEEDED, AMOUNT_EXCEEDED, CODE_POOL_EMPTY.
    """
    check_parts(units, amount, least=1)
    arguments = (
        hold_id,
        None if code is None else code_hash(code),
        actor.partner_id,
        actor.alias,
        actor.member_id,
        actor.owner,
        key,
        fingerprint,
        now,
        actor.kind.value,
        actor.id,
        new_id(),
        units,
        amount,
    )
    try:
        [row] = await connection.fetch(CONFIRM, *arguments)
    except PostgresError as fault:
        if fault.sqlstate != KIND_REFUSES:
            raise
        return Outcome(fault.args[0], None)
    return Outcome(row["outcome"], row["redemption_id"])


def check_parts(units: int | None, amount: int | None, *, least: int) -> None:
    """BadInput for what is no part of anything."""
    if units is not None and not least <= units <= INT_MAX:
        raise BadInput(f"units: {least} to {INT_MAX}")
    if amount is not None and not 0 <= amount <= AMOUNT_MAX:
        raise BadInput(f"amountMinor: 0 to {AMOUNT_MAX}")


@dataclass(frozen=True, slots=True)
class Return:
    """Why a redemption is taken back, who bears it and what becomes of the units.

    All of it, or so many `units` and so much of its `amount` in minor units; whether the member's allowance comes back
    is for the perk to say where `returns_allowance` is None.
    """

    reason: str
    borne_by: Bearer = Bearer.PARTNER
    stock: Stock = Stock.RESTOCK
    units: int | None = None
    amount: int | None = None
    returns_allowance: bool | None = None


async def reverse_redemption(
    connection: "Connection[Any]",
    redemption_id: UUID,
    back: Return,
    *,
    actor: Actor,
    key: str,
    fingerprint: bytes,
    now: datetime,
) -> Outcome:
    """Takes a redemption back, in one statement that is its own transaction.

    Refusals: NOT_AVAILABLE (unknown or another partner's), ALREADY_REVERSED, REVERSAL_WINDOW_CLOSED (partners only),
    UNITS_EXCEEDED and AMOUNT_EXCEEDED (more than is left of it), NOT_RESTOCKABLE (a code that somebody has seen).
    """
    check_parts(back.units, back.amount, least=0)
    if (back.units, back.amount) != (None, None) and not (back.units or back.amount):
        raise BadInput("units: at least one, or an amount")
    if not 1 <= len(back.reason.strip()) <= REASON_LENGTH_MAX:
        raise BadInput(f"reason: 1 to {REASON_LENGTH_MAX} characters")
    [row] = await connection.fetch(
        "SELECT * FROM reverse_redemption($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        redemption_id,
        actor.partner_id,
        actor.alias,
        actor.owner,
        key,
        fingerprint,
        now,
        actor.kind.value,
        actor.id,
        new_id() if actor.kind in (ActorKind.PARTNER, ActorKind.MEMBER) else uuid4(),  # whose id tells no time (law 8)
        back.reason.strip(),
        back.borne_by.value,
        back.stock.value,
        back.units,
        back.amount,
        back.returns_allowance,
    )
    return Outcome(row["outcome"], row["reversal_id"])


REDEMPTION, REVERSAL = tables.metadata.tables["redemption"], tables.metadata.tables["reversal"]
RedemptionRow: Any = namedtuple("RedemptionRow", REDEMPTION.c.keys())  # type: ignore[misc]  # the table says
ReversalRow: Any = namedtuple("ReversalRow", REVERSAL.c.keys())  # type: ignore[misc]  # the table says


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A redemption with what took some of it back last, if anything did: plain rows, since a page of instances costs
    the double."""

    redemption: Any
    reversal: Any | None

    @classmethod
    def of(cls, row: Any) -> "Redeemed":
        """One row of both tables' columns."""
        here = len(REDEMPTION.c)
        return cls(RedemptionRow._make(row[:here]), None if row[here] is None else ReversalRow._make(row[here:]))


@dataclass(frozen=True, slots=True)
class RedemptionFilter:
    """Every condition that is given must hold; times are half-open, from `since` until before `until`.

    `just_made`: what the actor itself confirmed or reversed in this request, which needs no leave to read.
    """

    id: UUID | None = None
    partner_id: UUID | None = None
    perk_id: UUID | None = None
    member_id: UUID | None = None
    alias: str | None = None
    reversed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    just_made: bool = False


def consents_to(actor: Actor, member_id: Any, scope: str, now: datetime) -> Any:
    """Whether the member lets the partner that acts use this scope now."""
    consent = tables.Consent
    live = sa.select(sa.true()).where(
        col(consent.member_id) == member_id,
        col(consent.partner_id) == actor.partner_id,
        tables.IS_GRANTED,
        sa.or_(col(consent.expires_at).is_(None), col(consent.expires_at) > now),
        sa.literal(scope) == sa.any_(col(consent.scopes)),
    )
    # Not EXISTS: that is answered for all of a partner's consents at once, however few rows are asked about.
    return live.scalar_subquery()


def scoped_redemptions(actor: Actor, wanted: RedemptionFilter, columns: Any, now: datetime) -> Any:
    """The query that every read of redemptions goes through: a partner's own, a member's own, or all for staff. By an
    alias a partner reaches only who lets it read redemptions, and one that acted for its own member just now."""
    redemption, reversal = tables.Redemption, tables.Reversal
    latest = sa.and_(col(reversal.redemption_id) == redemption.id, col(reversal.number) == redemption.reversals)
    query = columns.join(reversal, latest, isouter=True)
    if actor.kind is ActorKind.PARTNER:
        query = query.where(redemption.partner_id == actor.partner_id)
    if actor.kind is ActorKind.MEMBER:
        query = query.where(redemption.member_id == actor.member_id)
    for name in ("id", "partner_id", "perk_id", "member_id"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(redemption, name) == value)
    for alias in {actor.alias, wanted.alias} - {None}:
        query = query.where(redemption.member_id == named_by(actor, alias))
        if not wanted.just_made:
            query = query.where(consents_to(actor, redemption.member_id, "redemptions:read", now))
    if wanted.reversed is not None:
        query = query.where(col(reversal.id).is_not(None) if wanted.reversed else col(reversal.id).is_(None))
    if wanted.since is not None:
        query = query.where(col(redemption.confirmed_at) >= wanted.since)
    if wanted.until is not None:
        query = query.where(col(redemption.confirmed_at) < wanted.until)
    return query


def named_by(actor: Actor, alias: str | None) -> Any:
    """The member whom the partner that acts knows by this alias; nobody where there is none."""
    name = tables.MemberAlias
    return select(name.member_id).where(name.partner_id == actor.partner_id, name.alias == alias).scalar_subquery()


async def list_redemptions(
    session: AsyncSession, actor: Actor, wanted: RedemptionFilter, *, first: int, after: UUID | None, now: datetime
) -> list[Redeemed]:
    """Redemptions within the actor's reach, newest first, as many as `first`, by one statement. A partner reads the
    tier of those who let it."""
    redemption = tables.Redemption
    columns: list[Any] = list(REDEMPTION.c)
    if actor.kind is ActorKind.PARTNER:
        place = columns.index(REDEMPTION.c.tier)
        shown = consents_to(actor, redemption.member_id, "member.tier:read", now)
        columns[place] = sa.case((shown, REDEMPTION.c.tier)).label("tier")
    query = scoped_redemptions(actor, wanted, sa.select(*columns, *REVERSAL.c).select_from(redemption), now)
    query = query.order_by(col(redemption.id).desc()).limit(first)
    if after is not None:
        query = query.where(col(redemption.id) < after)
    return [Redeemed.of(row) for row in await session.execute(query)]


async def count_redemptions(session: AsyncSession, actor: Actor, wanted: RedemptionFilter, now: datetime) -> int:
    """How many there are in all."""
    columns = select(func.count()).select_from(tables.Redemption)
    counted: int | None = await session.scalar(scoped_redemptions(actor, wanted, columns, now))
    return counted or 0


async def option_handles(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of options; no statement for none."""
    option = tables.PerkOption
    rows = (
        await session.execute(sa.select(col(option.id), col(option.handle)).where(col(option.id).in_(ids)))
        if ids
        else ()
    )
    return {row[0]: row[1] for row in rows}


async def list_reversals(session: AsyncSession, ids: Collection[UUID]) -> list[tables.Reversal]:
    """All reversals of these redemptions, in their order; no statement for none."""
    reversal = tables.Reversal
    query = select(reversal).where(col(reversal.redemption_id).in_(ids)).order_by(col(reversal.number))
    return list(await session.scalars(query)) if ids else []


async def find_reversal(session: AsyncSession, reversal_id: UUID) -> tables.Reversal | None:
    """A reversal; whether its redemption is within reach is for its reader to say."""
    return await session.get(tables.Reversal, reversal_id)


async def find_hold(
    session: AsyncSession, hold_id: UUID, actor: Actor, *, now: datetime, just_made: bool = False
) -> tables.Hold | None:
    """A hold within the actor's reach; one that it has `just_made` or released itself needs no leave to read."""
    hold = tables.Hold
    query = select(hold).where(hold.id == hold_id)
    if actor.kind is ActorKind.PARTNER:
        query = query.where(hold.partner_id == actor.partner_id)
    if actor.alias is not None:
        query = query.where(hold.member_id == named_by(actor, actor.alias))
        if not just_made:
            query = query.where(consents_to(actor, hold.member_id, "redemptions:read", now))
    if actor.kind is ActorKind.MEMBER:
        query = query.where(hold.member_id == actor.member_id)
    return await session.scalar(query)
