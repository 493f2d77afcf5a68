"""Who waits for a perk: joining, leaving and looking, for members, their partners and staff."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import strawberry

from partners import waitlist
from partners.eligibility import check_said
from partners.errors import TryAgain
from partners.members import find_member, view_members
from partners.references import reachable_member
from partners.tables import WaitlistState
from partners.waitlist import EntryFilter, Waiting
from schema.catalogue import Perk, perks_by_id
from schema.claims import CLAIM_TRIES, Hold
from schema.context import Info
from schema.details import ClaimDetailsInput
from schema.eligibility import decided, question_of
from schema.ids import PERK, WAIT, optional_id, read_id, show_id
from schema.members import Member
from schema.nodes import Node
from schema.outcomes import UserError, plain_error, user_error
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Authenticated, field, object_type
from schema.references import MemberBy, PerkBy
from schema.selection import selected

strawberry.enum(WaitlistState, description="WAITING and OFFERED go on; the others are the end.")

READ = "redemptions:read"


@object_type(permission=Authenticated, description="A member's place among those who wait for a perk.")
class WaitlistEntry(Node):
    state: WaitlistState = field(description="Whether it waits, has an offer, or how it ended.")
    perk: Perk | None = field(description="What for.")
    member: Member | None = field(description="Who waits.")
    option: str | None = field(description="The handle of the variant or session; null where there is none.")
    units: int = field(description="How many, all or none.")
    position: int | None = field(
        description="How many wait ahead of it for the same: 0 is next. Null unless it is WAITING."
    )
    offers: int = field(description="How many offers it was made.")
    hold: Hold | None = field(
        description="What it is offered, until that hold expires: confirming it accepts, releasing it declines."
    )
    joined_at: datetime = field(description="Since when; an offer that was not taken makes it now.")
    ended_at: datetime | None = field(description="When it ended; to a partner the day alone unless it was accepted.")


async def entries_of(info: Info, rows: Sequence[Waiting], *, known: bool = False) -> list[WaitlistEntry]:
    """Rows as the caller may see them; perks and members, when selected, by one statement each. A partner that asks
    about a `known` member is told of it by any row, which is kept as a disclosure."""
    context, names, asker = info.context, selected(info), info.context.asker(READ)
    perks: dict[UUID, Perk] = {}
    members: dict[UUID, Member] = {}
    if rows and "perk" in names:
        perks = await perks_by_id(info, {row.entry.perk_id for row in rows})
    if rows and ("member" in names or (known and asker is not None)):
        async with context.reading() as session:
            views = await view_members(session, {row.entry.member_id for row in rows}, asker=asker, now=context.now)
        members = {id: Member.of(view, for_partner=asker is not None) for id, view in views.items()}
    return [
        WaitlistEntry(
            id=strawberry.ID(show_id(WAIT, row.entry.id)),
            state=WaitlistState(row.entry.state),
            perk=perks.get(row.entry.perk_id),
            member=members.get(row.entry.member_id),
            option=row.option,
            units=row.entry.units,
            position=row.ahead,
            offers=row.entry.offers,
            hold=None if row.hold is None else Hold.of(row.hold, context, perks.get(row.entry.perk_id), row.option),
            joined_at=row.entry.joined_at,
            ended_at=row.ended_at(for_partner=asker is not None),
        )
        for row in rows
    ]


async def load_entry(info: Info, id: UUID, *, just_made: bool = False) -> WaitlistEntry | None:
    """One entry within the caller's reach, or one that it has just made or ended itself."""
    wanted, context = EntryFilter(id=id, just_made=just_made), info.context
    async with context.reading() as session:
        rows = await waitlist.list_entries(session, context.actor, wanted, first=1, after=None, now=context.now)
    shown = await entries_of(info, rows, known=context.actor.alias is not None)
    return shown[0] if shown else None


@strawberry.input(description="Which entries; every condition that is given must hold.")
class WaitlistFilter:
    perk: strawberry.ID | None = strawberry.field(default=None, description="Of this perk.")
    member: MemberBy | None = strawberry.field(default=None, description="Of this member. Members leave it out.")
    live: bool | None = strawberry.field(default=None, description="Waits or has an offer, or has ended.")


async def wanted_by(info: Info, filter: WaitlistFilter | None) -> EntryFilter | None:
    """The filter in the domain's words; None when it names a member who is not there."""
    if filter is None:
        return EntryFilter()
    alias = member_id = None
    if filter.member is not None:
        reference = reachable_member(info.context.actor, filter.member.reference())
        alias, member_id = reference.alias, reference.id
        if reference.external_id is not None:
            async with info.context.reading() as session:
                member = await find_member(session, reference)
            if member is None:
                return None
            member_id = member.id
    return EntryFilter(perk_id=optional_id(PERK, filter.perk), member_id=member_id, alias=alias, live=filter.live)


async def find_waitlist_entries(
    info: Info, filter: WaitlistFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[WaitlistEntry]:
    """A page of entries, newest first."""
    size, seen, actor, now = page_size(first), read_cursor(after), info.context.actor, info.context.now
    wanted = await wanted_by(info, filter)
    rows: list[Waiting] = []
    if wanted is not None:
        async with info.context.reading() as session:
            rows = await waitlist.list_entries(session, actor, wanted, first=size + 1, after=seen, now=now)
    known = actor.alias is not None or (wanted is not None and wanted.alias is not None)
    shown = await entries_of(info, rows[:size], known=known)

    async def count() -> int:
        if wanted is None:
            return 0
        async with info.context.reading() as counting:
            counted = await waitlist.count_entries(counting, actor, wanted, now)
        if known and counted and not rows:  # beyond the last page, too, the number tells of the member
            async with info.context.reading() as counting:
                one = await waitlist.list_entries(counting, actor, wanted, first=1, after=None, now=now)
            await entries_of(info, one, known=True)
        return counted

    page: Connection[WaitlistEntry] = connect(
        [*zip(rows, [*shown, None], strict=False)],
        size,
        after,
        id_of=lambda row: row[0].entry.id,
        node_of=lambda row: row[1],
        counter=count,
    )
    return page


@strawberry.input(description="A wait for what is not there now. Joining again for the same changes nothing.")
class JoinWaitlistInput:
    perk: PerkBy = strawberry.field(description="What for.")
    member: MemberBy | None = strawberry.field(default=None, description="Partners: for whom. Members leave it out.")
    details: ClaimDetailsInput | None = strawberry.field(
        default=None, description="How many, of which option: what the offer will be."
    )


@object_type(permission=Authenticated, description="A place among those who wait, or why there is none.")
class JoinWaitlistPayload:
    entry: WaitlistEntry | None = field(description="The place.")
    user_errors: list[UserError] = field(
        description="Every rule that refused; WRONG_STATE: it is there to be claimed. Empty when it waits."
    )


async def join_waitlist(info: Info, input: JoinWaitlistInput) -> JoinWaitlistPayload:
    """Joins the waitlist. Facts that changed in between are asked for again, a few times at most."""
    context = info.context
    question = question_of(context, input.member, input.perk, "holds:write", input.details)
    for _ in range(CLAIM_TRIES):
        [known] = await context.resources.learn([question])
        decision = decided(context, known)
        assert known is not None
        check_said(known, claims=True)
        if known.member_id is not None and question.asker is not None:
            question = replace(question, asker=replace(question.asker, client_id=None))
        async with context.resources.connection() as connection:
            joined = await waitlist.join_waitlist(
                connection,
                known,
                decision,
                actor=context.actor,
                ranks=context.resources.programme.ranks,
                now=context.now,
            )
        if joined.entry_id is not None:
            return JoinWaitlistPayload(entry=await load_entry(info, joined.entry_id, just_made=True), user_errors=[])
        if joined.outcome == "REFUSED":
            errors = [user_error(refusal, ["perk"]) for refusal in joined.refusals]
            return JoinWaitlistPayload(entry=None, user_errors=errors)
    raise TryAgain("the facts keep changing; try again")


@strawberry.input(description="A wait that is over; what was offered goes to the next.")
class LeaveWaitlistInput:
    entry: strawberry.ID = strawberry.field(description="Its id.")


@object_type(permission=Authenticated, description="The place that was left, or why not.")
class LeaveWaitlistPayload:
    entry: WaitlistEntry | None = field(description="The entry as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it is left.")


async def leave_waitlist(info: Info, input: LeaveWaitlistInput) -> LeaveWaitlistPayload:
    """Leaves the waitlist; doing it twice is the same as once."""
    context = info.context
    entry_id = read_id(WAIT, input.entry)
    async with context.resources.connection() as connection:
        outcome = await waitlist.leave_waitlist(connection, entry_id, context.actor, context.now)
    context.resources.freed.set()
    if outcome != "WITHDRAWN":
        return LeaveWaitlistPayload(entry=None, user_errors=plain_error(outcome, ["entry"]))
    return LeaveWaitlistPayload(entry=await load_entry(info, entry_id, just_made=True), user_errors=[])
