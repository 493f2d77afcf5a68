"""All that can be followed, on one screen: every subscription with who may follow it. Each tells the present state
first, and then whatever differs from what it told last."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import strawberry

from partners.errors import NotFound
from partners.feeds import Seen
from partners.live import (
    Availability,
    HoldLeft,
    Place,
    Progress,
    find_perk_id,
    read_hold,
    read_places,
    read_progress,
)
from partners.members import view_member
from partners.references import MemberRef
from partners.tables import PerkState
from partners.waitlist import EntryFilter, list_entries
from schema.audit import follow_entries
from schema.catalogue import MAY_BROWSE
from schema.claims import Hold, load_hold
from schema.context import Context, Info
from schema.ids import HOLD, PERK, SERVICE, WAIT, read_id, show_id
from schema.lookup import MAY_READ
from schema.permissions import Authenticated, Staff, field, object_type, subscription
from schema.references import PerkBy
from schema.service_requests import ServiceRequest, load_service_request
from schema.waitlist import WaitlistEntry, load_entry

State = TypeVar("State")
Shown = TypeVar("Shown")
TIER_KEPT_S = 15


@object_type(permission=Authenticated, description="How much of a variant or session is left to claim.")
class OptionAvailability:
    handle: str = field(description="Its name in claims.")
    open: bool = field(description="Whether it can be claimed now.")
    closes_at: datetime | None = field(description="From when on it can't.")
    capacity_remaining: int | None = field(
        description="Units that are left: to a member those within its reach now, to others all; null is no limit."
    )


@object_type(permission=Authenticated, description="How much of a perk is left to claim.")
class PerkAvailability:
    perk: strawberry.ID = field(description="The perk's id.")
    state: PerkState = field(description="Only a published perk can be claimed.")
    capacity_remaining: int | None = field(
        description="Units that are left: to a member those within its reach now, to others all; null is no limit."
    )
    options: list[OptionAvailability] = field(description="Its variants or sessions, in the partner's order.")

    @classmethod
    def of(cls, left: Availability, tiers: Collection[str] | None) -> "PerkAvailability":
        """What is left within the reach of these tiers; None: all."""
        return cls(
            perk=strawberry.ID(show_id(PERK, left.perk_id)),
            state=PerkState(left.state),
            capacity_remaining=left.left_of(None, tiers),
            options=[
                OptionAvailability(
                    handle=one.handle,
                    open=one.open,
                    closes_at=one.closes_at,
                    capacity_remaining=left.left_of(one.handle, tiers),
                )
                for one in left.options
            ],
        )


async def followed(
    context: Context,
    key: Hashable,
    names: Collection[UUID],
    read: Callable[[datetime], Awaitable[Seen[State]]],
    show: Callable[[Seen[State]], Awaitable[Shown]],
    is_last: Callable[[Shown], bool] = lambda _: False,
) -> AsyncGenerator[Shown, None]:
    """What is shown of each state that differs, as of when it was read. Who shares a `key` shares the reading."""
    async with aclosing(context.resources.feeds.follow(key, names, read)) as states:
        async for seen in states:
            context.now = seen.at
            shown = await show(seen)
            yield shown
            if is_last(shown):
                return


async def follow_availability(info: Info, perk: PerkBy) -> AsyncGenerator[PerkAvailability, None]:
    """One reading serves all who follow a perk; what a member's tier reaches of it is worked out for each."""
    context, tiers = info.context, Tiers(info.context)
    async with context.reading() as session:
        perk_id = await find_perk_id(session, perk.reference())

    async def read(_: datetime) -> Seen[Availability]:
        seen = await context.resources.availability.submit(None, perk_id)
        if seen is None:
            raise NotFound("no such perk")
        return seen

    async def show(seen: Seen[Availability]) -> PerkAvailability:
        if not seen.state.is_visible(context.actor):
            raise NotFound("no such perk")
        return PerkAvailability.of(seen.state, await tiers.within_reach() if seen.state.pools else None)

    async with aclosing(followed(context, (PERK, perk_id), {perk_id}, read, show)) as states:
        async for state in states:
            yield state


class Tiers:
    """The tiers whose pools a member may draw from, read again when a delivery comes 15 s after."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._read_at: datetime | None = None
        self._tiers: Collection[str] = ()

    async def within_reach(self) -> Collection[str] | None:
        """As of the last reading; None for who is no member."""
        context, member_id = self._context, self._context.actor.member_id
        if member_id is None:
            return None
        if self._read_at is None or (context.now - self._read_at).total_seconds() > TIER_KEPT_S:
            async with context.reading() as session:
                member = await view_member(session, MemberRef(id=member_id), asker=None, now=context.now)
            ranks = context.resources.programme.ranks
            rank = 0 if member is None or member.tier is None else ranks.get(member.tier, 0)
            self._tiers, self._read_at = {tier for tier, needed in ranks.items() if needed <= rank}, context.now
        return self._tiers


async def follow_hold(info: Info, hold: strawberry.ID) -> AsyncGenerator[Hold, None]:
    """Until it has ended. Consent that a token for one member needs is looked at by every reading."""
    context, hold_id = info.context, read_id(HOLD, hold)

    async def read(now: datetime) -> Seen[HoldLeft]:
        async with context.reading() as session:
            return await read_hold(session, hold_id, context.actor, now)

    async def show(_: Seen[HoldLeft]) -> Hold:
        shown = await load_hold(info, hold_id)
        if shown is None:
            raise NotFound("no such hold")
        return shown

    async with aclosing(followed(context, (HOLD, hold_id, context.actor), {hold_id}, read, show)) as states:
        async for state in states:
            yield state


async def follow_place(info: Info, entry: strawberry.ID) -> AsyncGenerator[WaitlistEntry, None]:
    """Until it has ended. One reading serves all who wait for a perk; an entry itself is read when more than its place
    differs, and by a partner every time, since it may have lost the member's leave."""
    context, entry_id = info.context, read_id(WAIT, entry)
    async with context.reading() as session:
        wanted = EntryFilter(id=entry_id)
        rows = await list_entries(session, context.actor, wanted, first=1, after=None, now=context.now)
    if not rows:
        raise NotFound("no such entry")
    perk_id = rows[0].entry.perk_id
    told: tuple[Place | None, WaitlistEntry] | None = None

    async def read(now: datetime) -> Seen[Mapping[UUID, Place]]:
        async with context.reading() as session:
            return await read_places(session, perk_id, now)

    async def show(seen: Seen[Mapping[UUID, Place]]) -> WaitlistEntry:
        nonlocal told
        place = seen.state.get(entry_id)
        if told is not None and place == told[0]:
            return told[1]
        if told is not None and moved(place, told[0]) and context.actor.member_id is not None:
            shown = replace(told[1], position=None if place is None else place.ahead)
        else:
            found = await load_entry(info, entry_id)
            if found is None:
                raise NotFound("no such entry")
            shown = found
        told = place, shown
        return shown

    states = followed(context, (WAIT, perk_id), {perk_id}, read, show, lambda shown: shown.ended_at is not None)
    async with aclosing(states):
        async for state in states:
            yield state


def moved(now: Place | None, before: Place | None) -> bool:
    """Whether somebody who still waits has only another place."""
    if now is None or before is None or now.ahead is None or before.ahead is None:
        return False
    return now.offers == before.offers


async def follow_thread(info: Info, request: strawberry.ID) -> AsyncGenerator[ServiceRequest, None]:
    """Every step, word and late answer."""
    context, request_id = info.context, read_id(SERVICE, request)

    async def read(now: datetime) -> Seen[Progress]:
        async with context.reading() as session:
            return await read_progress(session, request_id, context.actor, now)

    async def show(_: Seen[Progress]) -> ServiceRequest:
        shown = await load_service_request(info, request_id)
        if shown is None:
            raise NotFound("no such request")
        return shown

    async with aclosing(followed(context, (SERVICE, request_id, context.actor), {request_id}, read, show)) as states:
        async for state in states:
            yield state


@object_type(description="What can be followed.")
class Subscription:
    perk_availability = subscription(
        follow_availability, permission=MAY_BROWSE, description="How much of a perk within sight is left to claim."
    )
    hold_state = subscription(
        follow_hold, permission=MAY_READ, description="A hold within sight, until it is confirmed or has ended."
    )
    waitlist_position = subscription(
        follow_place,
        permission=MAY_READ,
        description="An entry of a waitlist within sight with its position, until it is accepted or has ended.",
    )
    audit_entry = subscription(
        follow_entries,
        permission=Staff("audit:read"),
        description="Every entry in the order of the log as it gets its place there, from the place `fromIndex` on, "
        "so that who comes back misses none; without it from now on.",
    )
    service_thread = subscription(
        follow_thread,
        permission=MAY_READ,
        description="A bespoke request within sight: its state, messages and clocks.",
    )
