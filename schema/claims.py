"""Claim, confirm, release, reverse: holds and redemptions, and the mutations that move them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import strawberry

from partners import holds, redemptions, tables
from partners.codes import hold_code
from partners.eligibility import Decision, Known, Question, check_said
from partners.errors import KeyReused, TryAgain
from partners.holds import Claim, Claimed, Held
from partners.idempotency import checked_key, fingerprint
from partners.members import view_members
from partners.redemptions import option_handles
from partners.reviews import came_too_fast, open_review
from partners.tables import HoldState
from schema.catalogue import Perk, perks_by_id
from schema.context import Context, Info
from schema.details import ClaimDetailsInput, content_of
from schema.eligibility import decided, question_of
from schema.ids import HOLD, read_id, show_id
from schema.nodes import Node
from schema.outcomes import UserError, plain_error, user_errors
from schema.permissions import Authenticated, Members, Partners, field, object_type
from schema.redemptions import Redemption, load_redemption
from schema.references import MemberBy, PerkBy
from schema.selection import selected

strawberry.enum(HoldState, description="HELD ends exactly once.")

CLAIM_TRIES = 4
EXTENSIONS_MAX = 2


@object_type(permission=Authenticated, description="Capacity and allowance set aside for a member until it expires.")
class Hold(Node):
    state: HoldState = field(description="Whether it still holds.")
    code: str = field(
        permission=Partners() | Members(), description="What the member shows or reads out at the counter."
    )
    perk: Perk | None = field(description="What is held.")
    held_at: datetime = field(description="When it was made.")
    expires_at: datetime = field(description="When it ends by itself.")
    ended_at: datetime | None = field(
        description="When it was confirmed, released or expired; to a partner the day alone where it was released."
    )
    policy_version: int = field(description="The version of the rules that said yes.")
    units: int = field(description="How many are held.")
    amount_minor: int = field(description="The amount that is held, in minor units of the perk's currency.")
    option: str | None = field(description="The handle of the variant or session; null where there is none.")
    extensions_left: int = field(description="How often it can still be extended.")
    from_waitlist: bool = field(description="Whether it is what the member waited for.")
    leaf_hash: str = field(description="Its leaf in the audit log: SHA-256 in hexadecimal (RFC 6962).")

    @classmethod
    def of(cls, hold: Held | tables.Hold, context: Context, perk: Perk | None, option: str | None) -> "Hold":
        """A hold as its member and its partner see it; one past its time shows as expired before it is swept."""
        overdue = hold.state == HoldState.HELD and hold.expires_at <= context.now
        return cls(
            id=strawberry.ID(show_id(HOLD, hold.id)),
            state=HoldState.EXPIRED if overdue else HoldState(hold.state),
            code=hold_code(context.resources.keys.codes, hold.id),
            perk=perk,
            held_at=hold.held_at,
            expires_at=hold.expires_at,
            ended_at=hold.expires_at if overdue else holds.ended_at(hold, context.actor),
            policy_version=hold.policy_version,
            units=hold.units,
            amount_minor=hold.amount,
            option=option,
            extensions_left=0 if hold.entry_id is not None else EXTENSIONS_MAX - hold.extensions,
            from_waitlist=hold.entry_id is not None,
            leaf_hash=hold.leaf_hash.hex(),
        )


@strawberry.input(
    description="A claim. The same key with the same content gets the same answer, whatever happened since."
)
class ClaimPerkInput:
    perk: PerkBy = strawberry.field(description="What.")
    member: MemberBy | None = strawberry.field(default=None, description="Partners: for whom. Members leave it out.")
    details: ClaimDetailsInput | None = strawberry.field(
        default=None, description="How many, of which option, for how much; one unit where it is left out."
    )
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per claim.")


@object_type(permission=Authenticated, description="A hold, or why there is none.")
class ClaimPerkPayload:
    hold: Hold | None = field(description="What was set aside.")
    replayed: bool = field(description="Whether the key had acted before: this is the first answer again.")
    resumed: bool = field(
        description="Whether the member held just this, and nothing else stood in the way: it is that hold again."
    )
    user_errors: list[UserError] = field(description="Every rule that refused; empty when it is held.")


async def claim_perk(info: Info, input: ClaimPerkInput) -> ClaimPerkPayload:
    """Claims by the perk's next batch. Facts that changed in between are asked for again, a few times at most."""
    context = info.context
    key = checked_key(input.idempotency_key)
    question = question_of(context, input.member, input.perk, "holds:write", input.details)
    content = fingerprint(
        "claimPerk",
        {
            "perk": [str(question.perk.id), question.perk.handle],
            "member": [str(question.member.id), question.member.alias],
            **content_of(question.said),
        },
    )
    claimed, known, decision = await claim_repeatedly(info, question, key, content)
    return await claim_payload(info, claimed, known, decision)


async def claim_repeatedly(
    info: Info, question: Question, key: str, content: bytes, check: Callable[[Known], None] = lambda _: None
) -> tuple[Claimed, Known, Decision]:
    """The answer to a claim on a perk that passes the `check`, with what it was judged by; TryAgain when the facts
    change faster than they can be asked for."""
    context = info.context
    for _ in range(CLAIM_TRIES):
        [known] = await context.resources.learn([question])
        decision = decided(context, known)
        assert known is not None
        check(known)
        check_said(known, claims=True)
        if known.member_id is not None and question.asker is not None:
            question = replace(
                question, asker=replace(question.asker, client_id=None)
            )  # told once, however often asked
        claim = Claim(context.actor, key, content, context.now, known, decision)
        claimed = await context.resources.claims.submit(known.perk_id, claim)
        # Two equal claims in one batch share an answer, which may have been another moment's no.
        told_anothers_no = claimed.outcome == "REFUSED" and decision.eligible
        if claimed.outcome not in ("STALE", "KEY_RACE") and not told_anothers_no:
            if claimed.outcome == "REFUSED" and known.member_id is not None and came_too_fast(decision):
                async with context.sessions.begin() as session:
                    await open_review(session, known.member_id, known.partner_id, known.perk_id, context.now)
            return claimed, known, decision
    raise TryAgain("the facts keep changing; try again")


async def claim_payload(info: Info, claimed: Claimed, known: Known, decision: Decision) -> ClaimPerkPayload:
    """What the batch said, as the API says it."""
    if claimed.outcome == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if claimed.hold is None:
        errors = user_errors(decision, claimed.outcome, claimed.reasons, ["perk"])
        return ClaimPerkPayload(hold=None, replayed=False, resumed=False, user_errors=errors)
    perk = await perk_when_asked(info, claimed.hold.perk_id)
    handle = next((one.handle for one in known.perk.options if one.id == claimed.hold.option_id), None)
    return ClaimPerkPayload(
        hold=Hold.of(claimed.hold, info.context, perk, handle),
        replayed=claimed.outcome == "REPLAYED",
        resumed=claimed.outcome == "RESUMED",
        user_errors=[],
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
    units: int | None = strawberry.field(
        default=None, description="How many of those that are held; null: all. The rest is given back."
    )
    amount_minor: int | None = strawberry.field(
        default=None, description="How much of the amount that is held, in minor units; null: all."
    )
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
            fingerprint=fingerprint("confirmHold", {"hold": str(hold_id), "code": code} | parts_of(input)),
            now=context.now,
            units=input.units,
            amount=input.amount_minor,
        )
    if code is not None and outcome.code != "NOT_AVAILABLE":
        await context.resources.right_code(context.caller.id)
    if input.units is not None:
        context.resources.freed.set()
    if outcome.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if outcome.id is None:
        return ConfirmHoldPayload(redemption=None, replayed=False, user_errors=plain_error(outcome.code, ["hold"]))
    redemption = await load_redemption(info, outcome.id, just_made=True)
    return ConfirmHoldPayload(redemption=redemption, replayed=outcome.replayed, user_errors=[])


def parts_of(input: "ConfirmHoldInput") -> dict[str, int]:
    """The part that is confirmed, for the fingerprint; nothing where it is all."""
    parts = {"units": input.units, "amount": input.amount_minor}
    return {name: part for name, part in parts.items() if part is not None}


async def load_hold(info: Info, hold_id: UUID, *, just_made: bool = False) -> Hold | None:
    """A hold within the caller's reach, or one that it has just released itself."""
    context = info.context
    async with context.reading() as session:
        row = await redemptions.find_hold(session, hold_id, context.actor, now=context.now, just_made=just_made)
        if row is not None and context.actor.alias is not None:
            await view_members(session, [row.member_id], asker=context.asker("redemptions:read"), now=context.now)
        named = {} if row is None or row.option_id is None else await option_handles(session, [row.option_id])
    if row is None:
        return None
    return Hold.of(row, info.context, await perk_when_asked(info, row.perk_id), next(iter(named.values()), None))
