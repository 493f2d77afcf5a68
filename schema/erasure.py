"""What staff do when a person asks what is held about them, or to be forgotten."""

import strawberry
from strawberry.scalars import JSON

from auth import erasure
from partners.members import view_member
from partners.references import MemberRef, reachable_member
from schema.context import Info
from schema.members import Member
from schema.permissions import Authenticated, Staff, field, object_type
from schema.references import MemberBy

MAY_ANSWER_FOR = Staff("members:admin")
ROWS_MAX = 1_000
"""Of one table in one answer; `perks members export` has all."""


@strawberry.input(description="Whose personal data.")
class ExportMemberInput:
    member: MemberBy = strawberry.field(description="The member.")


@object_type(permission=Authenticated, description="Everything that is held about one person.")
class ExportMemberPayload:
    personal_data: JSON | None = field(
        permission=MAY_ANSWER_FOR,
        description="By table, in the tables' own words; addresses and codes as they are to be read.",
    )


async def export_member(info: Info, input: ExportMemberInput) -> ExportMemberPayload:
    """Reads it all in one transaction, a statement a table, which also puts on record that it was read."""
    context = info.context
    reference = reachable_member(context.actor, input.member.reference())
    async with context.sessions.begin() as session:
        found = await erasure.read_personal_data(
            session,
            reference,
            sealing_key=context.resources.keys.sealing,
            actor=context.actor,
            now=context.now,
            rows_max=ROWS_MAX,
        )
    return ExportMemberPayload(personal_data=JSON(found))


@strawberry.input(description="Whom to forget, for good.")
class EraseMemberInput:
    member: MemberBy = strawberry.field(description="The member.")


@object_type(permission=Authenticated, description="What is left of the member.")
class EraseMemberPayload:
    member: Member | None = field(description="Its row, which says nothing of a person any more.")


async def erase_member(info: Info, input: EraseMemberInput) -> EraseMemberPayload:
    """Ends everything of the member and clears what says who it was; there is no way back."""
    context = info.context
    reference = reachable_member(context.actor, input.member.reference())
    resources = context.resources
    member_id = await erasure.erase_member(
        context.sessions.begin, resources.connection, reference, context.actor, context.now
    )
    resources.freed.set()
    async with context.reading() as session:
        left = await view_member(session, MemberRef(id=member_id), asker=None, now=context.now)
    return EraseMemberPayload(member=None if left is None else Member.of(left, for_partner=False))
