"""Passes: what a member shows at a counter, made by the member's app."""

from datetime import datetime

import strawberry

from partners import passes
from partners.facts import RefusalCode
from schema.context import Info
from schema.outcomes import UserError, plain_error
from schema.permissions import Authenticated, field, object_type


@object_type(permission=Authenticated, description="A code that is good once, at one counter.")
class Pass:
    code: str = field(description="What the member shows or reads out; nobody can ask for it again.")
    expires_at: datetime = field(description="When it ends by itself.")
    next_at: datetime = field(description="When to show a new one instead.")


@strawberry.input(description="A new pass for the member whose token this is.")
class CreatePassInput:
    ends_others: bool = strawberry.field(
        default=False, description="Whether this one alone is good: the member's other unused passes end now."
    )


@object_type(permission=Authenticated, description="A pass, or why there is none.")
class CreatePassPayload:
    shown: Pass | None = field(name="pass", description="The new pass.")
    user_errors: list[UserError] = field(description="Why not; empty when there is a pass.")


async def create_pass(info: Info, input: CreatePassInput) -> CreatePassPayload:
    """A new pass; of a member's unused ones the newest five are good."""
    context = info.context
    member_id = context.actor.member_id
    assert member_id is not None
    async with context.sessions.begin() as session:
        made = await passes.create_pass(session, member_id, ends_others=input.ends_others, now=context.now)
    if made is None:
        return CreatePassPayload(shown=None, user_errors=plain_error(RefusalCode.MEMBERSHIP_SUSPENDED, []))
    return CreatePassPayload(
        shown=Pass(code=made.code, expires_at=made.expires_at, next_at=made.next_at), user_errors=[]
    )
