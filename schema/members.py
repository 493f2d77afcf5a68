"""Members as each caller may see them, their tier, and the mutations of staff."""

from datetime import datetime

import strawberry

from auth.errors import InsufficientScope
from partners import members, tiers
from partners.members import MemberView
from partners.references import MemberRef, reachable_member
from partners.tables import AssignmentCause, MemberState
from schema.context import Info
from schema.ids import ALIAS, MEMBER, show_id
from schema.nodes import Node
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type
from schema.references import MemberBy

strawberry.enum(MemberState, description="A suspended member keeps everything and may use nothing.")
strawberry.enum(AssignmentCause, name="TierCause", description="Why a member has a tier.")

MAY_SEE_TIER = Partners("member.tier:read") | Members("me:read") | Staff()
MAY_IDENTIFY = Members("me:read") | Staff()
MAY_ASSIGN = "programme:admin"


@object_type(permission=Authenticated, description="One step of the programme's ladder.")
class Tier:
    handle: str = field(description="Its name in rules and inputs.")
    name: str = field(description="Its name for people.")
    rank: int = field(description="A higher rank is a better tier.")


@object_type(
    permission=Authenticated,
    description="A member, as the caller may see one: to a partner by alias and under live consent.",
)
class Member(Node):
    alias: str | None = field(description="The name of the member to the partner that asks; null for others.")
    tier: Tier | None = field(permission=MAY_SEE_TIER, description="The tier in force; null without one.")
    tier_since: datetime | None = field(
        permission=MAY_SEE_TIER, description="When that tier began; partners see the day."
    )
    tier_until: datetime | None = field(
        permission=MAY_SEE_TIER, description="When that tier ends; partners see the day. Null: no end is set."
    )
    state: MemberState = field(description="Whether the membership is in force.")
    external_id: str | None = field(permission=MAY_IDENTIFY, description="The operator's own id.")
    market: str | None = field(permission=MAY_IDENTIFY, description="ISO 3166-1 alpha-2.")
    joined_at: datetime | None = field(permission=MAY_IDENTIFY, description="When the membership began.")

    @classmethod
    def of(cls, seen: MemberView, *, for_partner: bool) -> "Member":
        """What the caller may see: nothing that identifies a member ever reaches a partner."""
        return cls(
            id=strawberry.ID(f"{ALIAS}_{seen.alias}" if for_partner else show_id(MEMBER, seen.id)),
            alias=seen.alias if for_partner else None,
            tier=None
            if seen.tier is None
            else Tier(handle=seen.tier, name=seen.tier_name or "", rank=seen.tier_rank or 0),
            tier_since=day_of(seen.tier_since) if for_partner else seen.tier_since,
            tier_until=day_of(seen.tier_until) if for_partner else seen.tier_until,
            state=MemberState(seen.state),
            external_id=None if for_partner else seen.external_id,
            market=None if for_partner else seen.market,
            joined_at=None if for_partner else seen.joined_at,
        )


def day_of(instant: datetime | None) -> datetime | None:
    """The start of an instant's UTC day: what several partners see of one tier must not tell them whose it is."""
    return None if instant is None else instant.replace(hour=0, minute=0, second=0, microsecond=0)


async def find_me(info: Info) -> Member | None:
    """The member whose token this is."""
    return await view(info, reachable_member(info.context.actor, None))


async def find_member(info: Info, by: MemberBy) -> Member | None:
    """One member within the caller's sight; unknown and not consenting are the same null (law 9). One statement."""
    return await view(info, reachable_member(info.context.actor, by.reference()))


async def view(info: Info, reference: MemberRef) -> Member | None:
    """A member that the caller may mean, as it may see one."""
    asker = info.context.asker("member.tier:read")
    async with info.context.reading() as session:
        found = await members.view_member(session, reference, asker=asker, now=info.context.now)
    return None if found is None else Member.of(found, for_partner=asker is not None)


@strawberry.input(description="A new member.")
class EnrolMemberInput:
    external_id: str = strawberry.field(description="The operator's own id of the person, unique.")
    market: str | None = strawberry.field(default=None, description="ISO 3166-1 alpha-2, as CH.")
    joined_at: datetime | None = strawberry.field(default=None, description="When the membership began; default now.")
    tier: str | None = strawberry.field(
        default=None, description="A tier to begin with; it needs the scope `programme:admin` beside."
    )


@object_type(permission=Authenticated, description="What became of it.")
class MemberPayload:
    member: Member | None = field(description="The member as it is now.")


async def enrol_member(info: Info, input: EnrolMemberInput) -> MemberPayload:
    """Enrols a member, with a tier when one is given, in one transaction."""
    context = info.context
    if input.tier is not None and MAY_ASSIGN not in context.caller.scopes:
        raise InsufficientScope(f"a tier needs a scope that this token lacks: {MAY_ASSIGN}", missingScopes=[MAY_ASSIGN])
    async with context.sessions.begin() as session:
        member = await members.enrol_member(
            session,
            external_id=input.external_id,
            market=input.market,
            joined_at=input.joined_at,
            actor=context.actor,
            now=context.now,
        )
        reference = MemberRef(id=member.id)
        if input.tier is not None:
            await tiers.assign_tier(
                session,
                reference,
                input.tier,
                programme=context.resources.programme,
                cause=AssignmentCause.STAFF,
                ends_at=None,
                note=None,
                actor=context.actor,
                now=context.now,
            )
        found = await members.view_member(session, reference, asker=None, now=context.now)
    return MemberPayload(member=None if found is None else Member.of(found, for_partner=False))


@strawberry.input(description="A tier for a member, from now on.")
class AssignTierInput:
    member: MemberBy = strawberry.field(description="Whose.")
    tier: str = strawberry.field(description="The tier's handle.")
    cause: AssignmentCause = strawberry.field(default=AssignmentCause.STAFF, description="Why.")
    ends_at: datetime | None = strawberry.field(default=None, description="When it ends; null: open.")
    note: str | None = strawberry.field(default=None, description="For staff, at most 500 characters.")


async def assign_tier(info: Info, input: AssignTierInput) -> MemberPayload:
    """Gives a member a tier; the one before ends."""
    context = info.context
    reference = reachable_member(context.actor, input.member.reference())
    async with context.sessions.begin() as session:
        await tiers.assign_tier(
            session,
            reference,
            input.tier,
            programme=context.resources.programme,
            cause=input.cause,
            ends_at=input.ends_at,
            note=input.note,
            actor=context.actor,
            now=context.now,
        )
        found = await members.view_member(session, reference, asker=None, now=context.now)
    return MemberPayload(member=None if found is None else Member.of(found, for_partner=False))
