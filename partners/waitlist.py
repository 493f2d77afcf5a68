"""Who waits for a perk: joining, leaving and looking. What those who wait are offered is in partners/promotion.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from partners import tables
from partners.actors import Actor, ActorKind
from partners.eligibility import Decision, Known
from partners.facts import UNITS_MISSING, Facts, Refusal, RefusalCode
from partners.reading import coarse_past
from partners.redemptions import consents_to, named_by
from partners.tables import WaitlistState
from partners.tables.columns import new_id
from partners.values import value

CLOSING = frozenset({RefusalCode.PERK_PAUSED, RefusalCode.PARTNER_SUSPENDED, RefusalCode.ENDED})
# Written out: one plan for every value of a parameter could not use the index on those who wait.
IS_WAITING = sa.literal(WaitlistState.WAITING.value, literal_execute=True)


@value
class Joined:
    """JOINED, REPLAYED (it waits for just this already), STALE (judged on older facts: ask again) or REFUSED."""

    outcome: str
    entry_id: UUID | None
    refusals: tuple[Refusal, ...] = ()


def facts_of(known: Known, ranks: Mapping[str, int], now: datetime) -> Facts | None:
    """What is known as the rules see it; None without a member."""
    if known.member is None:
        return None
    return Facts(now, ranks, known.member, known.perk, known.uses, known.said)


def reach_of(facts: Facts) -> tuple[int, ...]:
    """The pools that the member may draw from now, in their order; a perk without any is its own pool 0."""
    if not facts.perk.pools:
        return (0,)
    option = facts.perk.option(facts.said.option)
    return tuple(pool.number for pool in facts.open_pools(None if option is None else option.id))


def refusals_to_wait(known: Known, decision: Decision) -> tuple[Refusal, ...]:
    """Why nobody may wait for this: every rule that refuses but for what is missing; WAITLIST_CLOSED where the perk has
    none, is paused or over; UNITS_NOT_ALLOWED for a party beyond all there is; WRONG_STATE for what can be claimed.
    """
    others = [refusal for refusal in decision.refusals if refusal.code not in UNITS_MISSING]
    if known.member is None:
        return tuple(others)
    if not known.perk.waitlist or any(refusal.code in CLOSING for refusal in others):
        others.append(Refusal(RefusalCode.WAITLIST_CLOSED, "waitlist"))
    elif not decision.refusals:
        others.append(Refusal(RefusalCode.WRONG_STATE, "waitlist"))
    most = units_in_all(known)
    if most is not None and known.said.units > max(1, most) and not any(one.rule == "units" for one in others):
        others.append(Refusal(RefusalCode.UNITS_NOT_ALLOWED, "waitlist", required=f"1 to {most}"))
    return tuple(others)


def units_in_all(known: Known) -> int | None:
    """How many units the option has, taken or not; None is no limit."""
    perk = known.perk
    if not perk.pools:
        return perk.units
    option = perk.option(known.said.option)
    units = [pool.units for pool in perk.pools if pool.option_id == (None if option is None else option.id)]
    return None if None in units else sum(one for one in units if one is not None)


JOIN = """
SELECT * FROM join_waitlist($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::smallint[], $12, $13, $14, $15, $16, $17, $18)
"""


async def join_waitlist(
    connection: "Connection[Any]",
    known: Known,
    decision: Decision,
    *,
    actor: Actor,
    ranks: Mapping[str, int],
    now: datetime,
) -> Joined:
    """A place in the order of tier, then time, for just what was asked about, in one statement that is its own
    transaction. A member waits for a perk once: ALREADY_WAITING for other details than it waits for."""
    refusals = refusals_to_wait(known, decision)
    facts, said = facts_of(known, ranks, now), known.said
    option = known.perk.option(said.option)
    [row] = await connection.fetch(
        JOIN,
        new_id(),
        known.perk_id,
        known.partner_id,
        known.member_id,
        known.member_version,
        known.perk_version,
        None if option is None else option.id,
        said.units,
        said.amount,
        said.device,
        None if facts is None else reach_of(facts),
        None if facts is None else facts.member.tier,
        0 if facts is None else facts.rank,
        ",".join(sorted({refusal.code.value for refusal in refusals})),
        actor.owner,
        now,
        actor.kind.value,
        actor.id,
    )
    outcome, entry_id = row["outcome"], row["entry_id"]
    if outcome in ("JOINED", "REPLAYED", "STALE"):
        return Joined(outcome, entry_id)
    found = refusals if outcome == "REFUSED" else (Refusal(RefusalCode(outcome), "waitlist"),)
    return Joined("REFUSED", None, found)


async def leave_waitlist(connection: "Connection[Any]", entry_id: UUID, actor: Actor, now: datetime) -> str:
    """Ends a wait, and gives back what was offered: WITHDRAWN (also when it was before), WRONG_STATE for one that has
    ended otherwise, NOT_AVAILABLE for one that is unknown or out of the actor's reach."""
    outcome: str = await connection.fetchval(
        "SELECT leave_waitlist($1, $2, $3, $4, $5, $6, $7)",
        entry_id,
        actor.partner_id,
        actor.alias,
        actor.member_id if actor.kind is ActorKind.MEMBER else None,
        now,
        actor.kind.value,
        actor.id,
    )
    return outcome


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry with the handle of its option, what it is offered, and how many wait ahead of it for the same; `ahead`
    is null for who does not wait."""

    entry: tables.WaitlistEntry
    option: str | None
    hold: tables.Hold | None
    ahead: int | None

    def ended_at(self, *, for_partner: bool) -> datetime | None:
        """When it ended. What ends without being accepted may have done so at all partners in one moment, with the
        membership or the consent, by which two could match the member (law 8): to a partner its day."""
        entry = self.entry
        if not for_partner or entry.ended_at is None or entry.state == WaitlistState.ACCEPTED:
            return entry.ended_at
        return coarse_past(entry.ended_at, entry.joined_at)


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Every condition that is given must hold. `live`: waits or has an offer. `just_made`: what the actor itself did
    in this request, which needs no leave to read."""

    id: UUID | None = None
    perk_id: UUID | None = None
    member_id: UUID | None = None
    alias: str | None = None
    live: bool | None = None
    just_made: bool = False


def scoped_entries(actor: Actor, wanted: EntryFilter, query: Any, now: datetime) -> Any:
    """The query that every read goes through: a member's own, a partner's own of those who let it know, or all."""
    entry = tables.WaitlistEntry
    if actor.kind is ActorKind.MEMBER:
        query = query.where(entry.member_id == actor.member_id)
    if actor.kind is ActorKind.PARTNER:
        query = query.where(entry.partner_id == actor.partner_id)
        if not wanted.just_made:
            query = query.where(consents_to(actor, entry.member_id, "redemptions:read", now))
    for alias in {actor.alias, wanted.alias} - {None}:
        query = query.where(entry.member_id == named_by(actor, alias))
    for name in ("id", "perk_id", "member_id"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(entry, name) == value)
    if wanted.live is not None:
        ended = col(entry.ended_at)
        query = query.where(ended.is_(None) if wanted.live else ended.is_not(None))
    return query


def ahead_of(entry: Any) -> Any:
    """How many wait for the same option and come before an entry, as a column."""
    other = aliased(tables.WaitlistEntry)
    earlier = sa.tuple_(col(other.joined_at), col(other.id)) < sa.tuple_(entry.joined_at, entry.id)
    counted = (
        select(func.count())
        .select_from(other)
        .where(other.perk_id == entry.perk_id, col(other.state) == IS_WAITING)
        .where(col(other.option_id).is_not_distinct_from(entry.option_id))
        .where((col(other.weight) > entry.weight) | ((col(other.weight) == entry.weight) & earlier))
    )
    return sa.case((entry.state == IS_WAITING, counted.correlate(entry).scalar_subquery()))


async def list_entries(
    session: AsyncSession, actor: Actor, wanted: EntryFilter, *, first: int, after: UUID | None, now: datetime
) -> list[Waiting]:
    """Entries within the actor's reach, newest first, as many as `first`, by one statement."""
    entry, option, hold = tables.WaitlistEntry, tables.PerkOption, tables.Hold
    columns = (
        sa.select(entry, col(option.handle), hold, ahead_of(entry))
        .join(option, col(option.id) == entry.option_id, isouter=True)
        .join(hold, col(hold.id) == entry.hold_id, isouter=True)
    )
    query = scoped_entries(actor, wanted, columns, now).order_by(col(entry.id).desc()).limit(first)
    if after is not None:
        query = query.where(col(entry.id) < after)
    return [Waiting(*row) for row in await session.execute(query)]


async def count_entries(session: AsyncSession, actor: Actor, wanted: EntryFilter, now: datetime) -> int:
    """How many there are in all."""
    columns = select(func.count()).select_from(tables.WaitlistEntry)
    counted: int | None = await session.scalar(scoped_entries(actor, wanted, columns, now))
    return counted or 0
