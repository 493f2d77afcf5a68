"""What can be followed, as it is read: how much is left of a perk, the state of a hold, and the news of the log."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import select

from partners import tables
from partners.actors import Actor, ActorKind
from partners.browsing import OfferFilter, browse
from partners.entries import Extent, extent_of_log
from partners.errors import NotFound
from partners.facts import PerkFacts, PoolFacts
from partners.feeds import Seen
from partners.redemptions import find_hold
from partners.references import PerkRef
from partners.services.reading import RequestFilter, list_requests
from partners.tables import HoldState, PartnerState, PerkState
from partners.threads import Clocks, clocks
from partners.values import value

NEWS_MAX = 20_000
THE_LOG = UUID(int=0)
"""Whom every entry concerns, refusals too."""
NEWS = f"""
SELECT h.size, CASE WHEN h.size - $1 <= {NEWS_MAX} THEN ARRAY(
  SELECT DISTINCT n.name FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id
    CROSS JOIN LATERAL (VALUES (e.perk_id), (e.member_id), (e.subject_id)) AS n(name)
  WHERE l.index >= $1::bigint AND l.index < h.size AND e.outcome = 'DONE' AND n.name IS NOT NULL) END AS names
FROM (SELECT coalesce((SELECT size FROM log_head), 0) AS size) AS h
"""  # noqa: S608  a constant


POSITIONS = text("""
SELECT id, offers, row_number() OVER (PARTITION BY option_id ORDER BY weight DESC, joined_at, id) - 1 AS ahead
FROM waitlist_entry WHERE perk_id = :perk AND state = 'WAITING'
UNION ALL
SELECT id, offers, NULL FROM waitlist_entry WHERE perk_id = :perk AND state = 'OFFERED'
""")


async def read_news(connection: "Connection[Any]", since: int | None) -> tuple[int, list[UUID] | None]:
    """The size of the log, and the perks, members and subjects of all that was done `since` it had that size, after
    THE_LOG if there is anything; None for anything, when that is not known or too much to tell. Each place of the log
    is taken once and in order, so that nothing is missed (partners/sequencing.py)."""
    row = await connection.fetchrow(NEWS, since)
    assert row is not None
    size, names = row["size"], row["names"]
    return size, names if names is None or size == since else [THE_LOG, *names]


async def read_extent(connection: "Connection[Any]", now: datetime) -> Seen[Extent]:
    """How far the log has got."""
    return Seen(await extent_of_log(connection), now, (THE_LOG,))


@value
class OptionLeft:
    """One variant or session: whether it can be claimed, and until when."""

    handle: str
    open: bool
    closes_at: datetime | None


@value
class PoolLeft:
    """One pool: of which option, kept for which tier (None: anybody) until when, and how much of it is left."""

    number: int
    option: str | None
    tier: str | None
    until: datetime | None
    left: int | None


@value
class Availability:
    """How much of a perk is left to claim, in all and in its pools; null is no limit."""

    perk_id: UUID
    partner_id: UUID
    state: str
    partner_state: str
    left: int | None
    options: tuple[OptionLeft, ...]
    pools: tuple[PoolLeft, ...]

    @classmethod
    def of(cls, perk_id: UUID, partner_id: UUID, perk: PerkFacts, now: datetime) -> "Availability":
        """At one moment, from the perk's facts."""
        handles = {option.id: option.handle for option in perk.options}
        options = tuple(
            OptionLeft(
                option.handle,
                option.open and not (option.closes_at is not None and option.closes_at <= now),
                option.closes_at,
            )
            for option in perk.options
        )
        pools = tuple(
            PoolLeft(
                pool.number,
                None if pool.option_id is None else handles.get(pool.option_id),
                pool.tier_at(now),
                until_of(pool, now),
                pool.left,
            )
            for pool in perk.pools
        )
        return cls(perk_id, partner_id, perk.state, perk.partner_state, perk.left, options, pools)

    def left_of(self, option: str | None, tiers: Collection[str] | None) -> int | None:
        """How much is left of an option, or of all, within the reach of who is of these `tiers` and lower ones (None:
        of anybody)."""
        if not self.pools:
            return self.left
        return sum_of(
            [
                pool.left
                for pool in self.pools
                if option in (None, pool.option) and (tiers is None or pool.tier is None or pool.tier in tiers)
            ]
        )

    def is_visible(self, actor: Actor) -> bool:
        """As the catalogue: a partner sees its own, a member what is or was published by active partners."""
        if actor.kind is ActorKind.PARTNER:
            return self.partner_id == actor.partner_id
        published = self.state != PerkState.DRAFT and self.partner_state == PartnerState.ACTIVE
        return actor.kind is not ActorKind.MEMBER or published

    def changes_at(self, now: datetime) -> datetime | None:
        """When time alone will change it: a pool is released to another tier, or an option closes."""
        ahead = [pool.until for pool in self.pools] + [option.closes_at for option in self.options if option.open]
        return min((instant for instant in ahead if instant is not None and instant > now), default=None)


def sum_of(parts: Sequence[int | None]) -> int | None:
    """Together; without a limit where one has none."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def until_of(pool: PoolFacts, now: datetime) -> datetime | None:
    """Until when the pool takes the tier that it takes now."""
    return next((until for _, until in pool.schedule if until > now), None)


async def read_availability(
    connection: "Connection[Any]", perk_ids: Sequence[UUID], now: datetime
) -> list[Seen[Availability] | None]:
    """What is left of each perk, in order, by one statement; None for what there is not. Whether the caller may see
    it is for `is_visible` to say, so that all who follow a perk share its reading."""
    offers = await browse(connection, None, OfferFilter(ids=set(perk_ids)), now=now, first=len(perk_ids))
    found = {}
    for offer in offers:
        known = offer.known
        left = Availability.of(known.perk_id, known.partner_id, known.perk, now)
        found[known.perk_id] = Seen(left, now, (known.perk_id,), left.changes_at(now))
    return [found.get(perk_id) for perk_id in perk_ids]


@value
class Place:
    """How many wait ahead of who waits for the same option, None for who has an offer; and how many it was made."""

    ahead: int | None
    offers: int


async def read_places(session: AsyncSession, perk_id: UUID, now: datetime) -> Seen[Mapping[UUID, Place]]:
    """The places of all who wait for a perk or have an offer, by one statement for all who follow theirs."""
    rows = await session.execute(POSITIONS, {"perk": perk_id})
    return Seen({row.id: Place(row.ahead, row.offers) for row in rows}, now, (perk_id,))


@value
class Progress:
    """What changes of a bespoke request while it is followed; its revision rises with every step and word."""

    revision: int
    shown: bool
    clocks: Clocks


async def read_progress(session: AsyncSession, request_id: UUID, actor: Actor, now: datetime) -> Seen[Progress]:
    """What is followed of a bespoke request within the actor's reach; NotFound."""
    wanted = RequestFilter(id=request_id)
    rows = await list_requests(session, actor, wanted, first=1, after=None, now=now)
    if not rows:
        raise NotFound("no such request")
    [row] = rows
    at_once = clocks(row.thread, now)
    # While it waits for the member what is due moves with the clock, and that alone is no news.
    told = replace(at_once, answer_due_at=None, solve_due_at=None) if at_once.waiting else at_once
    ahead = [due for due in (told.answer_due_at, told.solve_due_at) if due is not None and due >= now]
    names = (request_id, row.request.member_id)
    return Seen(Progress(row.thread.revision, row.shown, told), now, names, min(ahead, default=None))


async def find_perk_id(session: AsyncSession, reference: PerkRef) -> UUID:
    """The perk that a reference names, of which nothing else is told yet; NotFound."""
    if reference.id is not None:
        return reference.id
    perk_id = await session.scalar(select(tables.Perk.id).where(tables.Perk.handle == reference.handle))
    if perk_id is None:
        raise NotFound("no such perk")
    return perk_id


@value
class HoldLeft:
    """What changes of a hold while it is followed."""

    state: str
    expires_at: datetime
    extensions: int
    overdue: bool


async def read_hold(session: AsyncSession, hold_id: UUID, actor: Actor, now: datetime) -> Seen[HoldLeft]:
    """What is followed of a hold within the actor's reach; NotFound."""
    hold = await find_hold(session, hold_id, actor, now=now)
    if hold is None:
        raise NotFound("no such hold")
    held = hold.state == HoldState.HELD
    overdue = held and hold.expires_at <= now
    left = HoldLeft(hold.state, hold.expires_at, hold.extensions, overdue)
    ahead = hold.expires_at if held and not overdue else None
    return Seen(left, now, (hold.id, hold.member_id), ahead, last=overdue or not held)
