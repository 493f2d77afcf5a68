"""Extend and release: what can be done with a hold that is not confirmed."""

from uuid import UUID

import strawberry

from partners import holds
from partners.entries import EntryFilter, search_entries
from schema.claims import Hold, load_hold
from schema.context import Info
from schema.ids import HOLD, read_id
from schema.outcomes import UserError, plain_error
from schema.permissions import Authenticated, field, object_type
from schema.selection import selected

OWN_LEAF = "The leaf of this step in the audit log, as SHA-256 in hexadecimal (RFC 6962); null where it was not yours."


@strawberry.input(description="A hold that is still wanted.")
class ExtendHoldInput:
    hold: strawberry.ID = strawberry.field(description="Its id.")


@object_type(permission=Authenticated, description="The hold, or why it could not be extended.")
class ExtendHoldPayload:
    hold: Hold | None = field(description="The hold as it is now.")
    leaf_hash: str | None = field(description=OWN_LEAF)
    user_errors: list[UserError] = field(description="Why not; empty when it is extended.")


async def extend_hold(info: Info, input: ExtendHoldInput) -> ExtendHoldPayload:
    """Holds for as long again, from now; at most twice."""
    context = info.context
    hold_id = read_id(HOLD, input.hold)
    async with context.resources.connection() as connection:
        outcome = await holds.extend_hold(connection, hold_id, context.actor, context.now)
    if outcome != "EXTENDED":
        return ExtendHoldPayload(hold=None, leaf_hash=None, user_errors=plain_error(outcome, ["hold"]))
    leaf_hash = await own_leaf(info, hold_id, "hold.extended")
    return ExtendHoldPayload(hold=await load_hold(info, hold_id, just_made=True), leaf_hash=leaf_hash, user_errors=[])


@strawberry.input(description="A hold that is no longer wanted.")
class ReleaseHoldInput:
    hold: strawberry.ID = strawberry.field(description="Its id.")


@object_type(permission=Authenticated, description="The hold, or why it could not be released.")
class ReleaseHoldPayload:
    hold: Hold | None = field(description="The hold as it is now.")
    leaf_hash: str | None = field(description=OWN_LEAF)
    user_errors: list[UserError] = field(description="Why not; empty when it is released.")


async def release_hold(info: Info, input: ReleaseHoldInput) -> ReleaseHoldPayload:
    """Gives a hold back; doing it twice is the same as once."""
    context = info.context
    hold_id = read_id(HOLD, input.hold)
    async with context.resources.connection() as connection:
        outcome = await holds.release_hold(connection, hold_id, context.actor, context.now)
    context.resources.freed.set()
    if outcome != "RELEASED":
        return ReleaseHoldPayload(hold=None, leaf_hash=None, user_errors=plain_error(outcome, ["hold"]))
    leaf_hash = await own_leaf(info, hold_id, "hold.released")
    return ReleaseHoldPayload(hold=await load_hold(info, hold_id, just_made=True), leaf_hash=leaf_hash, user_errors=[])


async def own_leaf(info: Info, hold_id: UUID, action: str) -> str | None:
    """The hash of the caller's own step, when it is asked for; a step of others would tell when they took it."""
    if "leafHash" not in selected(info):
        return None
    wanted = EntryFilter(subject_id=hold_id, actions=[action], outcome="DONE", actor_id=info.context.actor.id)
    async with info.context.resources.connection() as connection:
        found = await search_entries(connection, wanted, first=1, after=None)
    return found.rows[0].leaf_hash.hex() if found.rows else None
