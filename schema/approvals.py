"""What persons approved a client for: shown to whoever looks after the client, and revoked."""

from datetime import datetime

import strawberry

from auth import approvals, tables
from auth.tables import ApprovalState
from schema.context import Info
from schema.ids import APPROVAL, read_id, show_id
from schema.members import day_of
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Partners, Staff, field, object_type

strawberry.enum(ApprovalState, description="Revoked for good, and every token that hangs from it with it.")

MAY_MANAGE = Partners("clients:manage") | Staff("partners:admin")


@object_type(permission=MAY_MANAGE, description="One person's yes to a client, from which its tokens hang.")
class Approval:
    id: strawberry.ID = field(description="Names it for revokeApproval.")
    who: str | None = field(description="Your alias of the member it is bound to, else the person who approved.")
    place: str | None = field(description="Where the point of sale stands, if it is one.")
    scopes: list[str] = field(description="What was approved.")
    state: ApprovalState = field(description="Whether it holds.")
    created_at: datetime = field(description="When it was given.")
    expires_at: datetime = field(description="When it ends by itself; the day, where it is bound to a member.")
    revoked_at: datetime | None = field(description="When it was revoked; likewise.")
    reason: str | None = field(description="Why it was revoked, as a code.")

    @classmethod
    def of(cls, row: tables.Approval, alias: str | None) -> "Approval":
        """An approval without the member's own id, which no partner sees (law 8)."""
        bound = row.partner_id is not None and row.member_id is not None
        return cls(
            id=strawberry.ID(show_id(APPROVAL, row.id)),
            who=alias if bound else row.subject,
            place=row.place,
            scopes=row.scopes,
            state=ApprovalState(row.state),
            created_at=row.created_at,
            # What is bound ends with the member's consent, whose instant other partners may know too (law 8): who takes
            # leave of several takes it of all at once.
            expires_at=row.expires_at.replace(hour=0, minute=0, second=0, microsecond=0) if bound else row.expires_at,
            revoked_at=day_of(row.revoked_at) if bound else row.revoked_at,
            reason=row.reason,
        )


async def find_approvals(info: Info, client_id: str, first: int | None, after: str | None) -> Connection[Approval]:
    """A page of what a client, which the caller may see, was approved for."""
    size = page_size(first)
    async with info.context.reading() as session:
        rows = await approvals.list_approvals(session, client_id, first=size + 1, after=read_cursor(after))
    page: Connection[Approval] = connect(
        rows, size, after, id_of=lambda row: row[0].id, node_of=lambda row: Approval.of(*row)
    )
    return page


@strawberry.input(description="Which approval.")
class RevokeApprovalInput:
    approval: strawberry.ID = strawberry.field(description="Its id.")


@object_type(permission=MAY_MANAGE, description="What became of it.")
class RevokeApprovalPayload:
    approval: strawberry.ID = field(description="The approval that has ended, and every token with it.")


async def revoke_approval(info: Info, input: RevokeApprovalInput) -> RevokeApprovalPayload:
    """Ends one approval with its tokens; a member's consent stays."""
    context = info.context
    async with context.sessions.begin() as session:
        await approvals.end_approval(session, read_id(APPROVAL, input.approval), context.actor, context.now)
    return RevokeApprovalPayload(approval=input.approval)
