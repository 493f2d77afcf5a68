"""Claim, confirm, release, reverse: holds and redemptions, and the mutations that move them."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import strawberry

from partners import holds, redemptions, tables
from partners.codes import hold_code
from partners.eligibility import Decision
from partners.errors import KeyReused, TryAgain
from partners.holds import Claim, Claimed, Held
from partners.idempotency import checked_key, fingerprint
from partners.members import view_members
from partners.tables import HoldState
from schema.catalogue import Perk, perks_by_id
from schema.context import Context, Info
from schema.eligibility import decided, question_of
from schema.ids import HOLD, REDEMPTION, read_id, show_id
from schema.nodes import Node
from schema.outcomes import UserError, plain_error, user_errors
from schema.permissions import Authenticated, Members, Partners, field, object_type
from schema.redemptions import Redemption, Reversal, load_redemption
from schema.references import MemberBy, PerkBy
from schema.selection import selected

strawberry.enum(HoldState, description="HELD ends exactly once.")

CLAIM_TRIES = 4


@object_type(permission=Authenticated, description="Capacity and allowance set aside for a member until it expires.")
class Hold(Node):
    state: HoldState = field(description="Whether it still holds.")
    code: str = field(
        permission=Partners() | Members(), description="What the member shows or reads out at the counter."
    )
    perk: Perk | None = field(description="What is held.")
    held_at: datetime = field(description="When it was made.")
    expires_at: datetime = field(description="When it ends by itself.")
    ended_at: datetime | None = field(description="When it was confirmed, released or expired.")
    policy_version: int = field(description="The version of the rules that said yes.")
    leaf_hash: str = field(description="Its leaf in the audit log: SHA-256 in hexadecimal (RFC 6962).")

    @classmethod
    def of(cls, hold: Held | tables.Hold, context: Context, perk: Perk | None) -> "Hold":
        """A hold as its member and its partner see it; one past its time shows as expired before it is swept."""
        overdue = hold.state == HoldState.HELD and hold.expires_at <= context.now
        return cls(
            id=strawberry.ID(show_id(HOLD, hold.id)),
            state=HoldState.EXPIRED if overdue else HoldState(hold.state),
            code=hold_code(context.resources.keys.codes, hold.id),
            perk=perk,
            held_at=hold.held_at,
            expires_at=hold.expires_at,
            ended_at=hold.expires_at if overdue else hold.ended_at,
            policy_version=hold.policy_version,
            leaf_hash=hold.leaf_hash.hex(),
        )


@strawberry.input(
    description="A claim. The same key with the same content gets the same answer, whatever happened since."
)
class ClaimPerkInput:
    perk: PerkBy = strawberry.field(description="What.")
    member: MemberBy | None = strawberry.field(default=None, description="Partners: for whom. Members leave it out.")
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per claim.")


@object_type(permission=Authenticated, description="A hold, or why there is none.")
class ClaimPerkPayload:
    hold: Hold | None = field(description="What was set aside.")
    replayed: bool = field(description="Whether the key had acted before: this is the first answer again.")
    user_errors: list[UserError] = field(description="Every rule that refused; empty when it is held.")


async def claim_perk(info: Info, input: ClaimPerkInput) -> ClaimPerkPayload:
    """Claims by the perk's next batch. Facts that changed in between are asked for again, a few times at most."""
    context = info.context
    key = checked_key(input.idempotency_key)
    question = question_of(context, input.member, input.perk, "holds:write")
    content = fingerprint(
        "claimPerk",
        {
            "perk": [str(question.perk.id), question.perk.handle],
            "member": [str(question.member.id), question.member.alias],
        },
    )
    for _ in range(CLAIM_TRIES):
        [known] = await context.resources.learn([question])
        decision = decided(context, known)
        assert known is not None
        if known.member_id is not None and question.asker is not None:
            question = replace(
                question, asker=replace(question.asker, client_id=None)
            )  # told once, however often asked
        claim = Claim(context.actor, key, content, context.now, known, decision)
        claimed = await context.resources.claims.submit(known.perk_id, claim)
        # Two equal claims in one batch share an answer, which may have been another moment's no.
        told_anothers_no = claimed.outcome == "REFUSED" and decision.eligible
        if claimed.outcome not in ("STALE", "KEY_RACE") and not told_anothers_no:
            return await claim_payload(info, claimed, decision)
    raise TryAgain("the facts keep changing; try again")


async def claim_payload(info: Info, claimed: Claimed, decision: Decision) -> ClaimPerkPayload:
    """What the batch said, as the API says it."""
    if claimed.outcome == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if claimed.hold is None:
        return ClaimPerkPayload(hold=None, replayed=False, user_errors=user_errors(decision, claimed.outcome, ["perk"]))
    perk = await perk_when_asked(info, claimed.hold.perk_id)
    return ClaimPerkPayload(
        hold=Hold.of(claimed.hold, info.context, perk), replayed=claimed.outcome == "REPLAYED", user_errors=[]
    )


async def perk_when_asked(info: Info, perk_id: UUID) -> Perk | None:
    """The perk of a hold, when the caller selected it: one statement more, or none."""
    if "perk" not in selected(info):
        return None
    return (await perks_by_id(info, [perk_id])).get(perk_id)


@strawberry.input(one_of=True, description="One hold.")
class HoldBy:
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="Its id.")
    code: strawberry.Maybe[str] = strawberry.field(
        description="The code the member shows; case, spaces and hyphens do not matter."
    )


@strawberry.input(description="A member is at the counter: the hold becomes a redemption.")
class ConfirmHoldInput:
    hold: HoldBy = strawberry.field(description="Which, by id or by code.")
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per confirmation.")


@object_type(permission=Authenticated, description="A redemption, or why there is none.")
class ConfirmHoldPayload:
    redemption: Redemption | None = field(description="The confirmed use.")
    replayed: bool = field(description="Whether the key had acted before: this is the first answer again.")
    user_errors: list[UserError] = field(description="Why not; empty when it is confirmed.")


async def confirm_hold(info: Info, input: ConfirmHoldInput) -> ConfirmHoldPayload:
    """Confirms by id or code. Wrong codes all get NOT_AVAILABLE, and too many of them THROTTLED."""
    context = info.context
    key = checked_key(input.idempotency_key)
    code = None if input.hold.code is None else input.hold.code.value
    hold_id = None if input.hold.id is None else read_id(HOLD, input.hold.id.value)
    if code is not None:
        await context.resources.try_code(context.caller.id)
    async with context.resources.connection() as connection:
        outcome = await redemptions.confirm_hold(
            connection,
            hold_id=hold_id,
            code=code,
            actor=context.actor,
            key=key,
            fingerprint=fingerprint("confirmHold", {"hold": str(hold_id), "code": code}),
            now=context.now,
        )
    if code is not None and outcome.code != "NOT_AVAILABLE":
        await context.resources.right_code(context.caller.id)
    if outcome.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if outcome.id is None:
        return ConfirmHoldPayload(redemption=None, replayed=False, user_errors=plain_error(outcome.code, ["hold"]))
    redemption = await load_redemption(info, outcome.id, just_made=True)
    return ConfirmHoldPayload(redemption=redemption, replayed=outcome.replayed, user_errors=[])


@strawberry.input(description="A hold that is no longer wanted.")
class ReleaseHoldInput:
    hold: strawberry.ID = strawberry.field(description="Its id.")


@object_type(permission=Authenticated, description="The hold, or why it could not be released.")
class ReleaseHoldPayload:
    hold: Hold | None = field(description="The hold as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it is released.")


async def release_hold(info: Info, input: ReleaseHoldInput) -> ReleaseHoldPayload:
    """Gives a hold back; doing it twice is the same as once."""
    context = info.context
    hold_id = read_id(HOLD, input.hold)
    async with context.resources.connection() as connection:
        outcome = await holds.release_hold(connection, hold_id, context.actor, context.now)
    if outcome != "RELEASED":
        return ReleaseHoldPayload(hold=None, user_errors=plain_error(outcome, ["hold"]))
    return ReleaseHoldPayload(hold=await load_hold(info, hold_id, just_made=True), user_errors=[])


async def load_hold(info: Info, hold_id: UUID, *, just_made: bool = False) -> Hold | None:
    """A hold within the caller's reach, or one that it has just released itself."""
    context = info.context
    async with context.reading() as session:
        row = await redemptions.find_hold(session, hold_id, context.actor, now=context.now, just_made=just_made)
        if row is not None and context.actor.alias is not None:
            await view_members(session, [row.member_id], asker=context.asker("redemptions:read"), now=context.now)
    return None if row is None else Hold.of(row, info.context, await perk_when_asked(info, row.perk_id))


@strawberry.input(description="A redemption that is taken back.")
class ReverseRedemptionInput:
    redemption: strawberry.ID = strawberry.field(description="Its id.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters; no personal data.")
    borne_by: tables.Bearer = strawberry.field(default=tables.Bearer.PARTNER, description="Who bears the cost.")
    stock: tables.Stock = strawberry.field(default=tables.Stock.RESTOCK, description="What becomes of the unit.")
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per reversal.")


@object_type(permission=Authenticated, description="A reversal, or why there is none.")
class ReverseRedemptionPayload:
    redemption: Redemption | None = field(description="The redemption as it is now.")
    reversal: Reversal | None = field(description="What took it back.")
    replayed: bool = field(description="Whether the key had acted before: this is the first answer again.")
    user_errors: list[UserError] = field(description="Why not; empty when it is reversed.")


async def reverse_redemption(info: Info, input: ReverseRedemptionInput) -> ReverseRedemptionPayload:
    """Takes a redemption back: by its partner within the window, by staff at any time."""
    context = info.context
    redemption_id = read_id(REDEMPTION, input.redemption)
    back = redemptions.Return(input.reason, input.borne_by, input.stock)
    async with context.resources.connection() as connection:
        outcome = await redemptions.reverse_redemption(
            connection,
            redemption_id,
            back,
            actor=context.actor,
            key=checked_key(input.idempotency_key),
            fingerprint=fingerprint(
                "reverseRedemption",
                {"redemption": str(redemption_id), "back": [back.reason, back.borne_by, back.stock]},
            ),
            now=context.now,
        )
    if outcome.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if outcome.id is None:
        errors = plain_error(outcome.code, ["redemption"])
        return ReverseRedemptionPayload(redemption=None, reversal=None, replayed=False, user_errors=errors)
    redemption = await load_redemption(info, redemption_id, just_made=True)
    reversal = None if redemption is None else redemption.reversal
    return ReverseRedemptionPayload(redemption=redemption, reversal=reversal, replayed=outcome.replayed, user_errors=[])
