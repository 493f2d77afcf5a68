"""An expected "no" is data: user errors with stable codes, one interface and a type where there is more to say."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import strawberry

from partners.eligibility import Decision
from partners.facts import Refusal, RefusalCode
from schema.members import MAY_SEE_TIER
from schema.permissions import Authenticated, field, interface, object_type

strawberry.enum(
    RefusalCode,
    name="RefusalCode",
    description="Why something was refused: a closed list, docs/errors.md explains each.",
)

ALREADY_HELD = RefusalCode.ALREADY_HELD.value

SENTENCES: Mapping[RefusalCode, str] = {
    RefusalCode.NOT_A_MEMBER: "No such member, or none that lets you know.",
    RefusalCode.MEMBERSHIP_SUSPENDED: "The membership is suspended.",
    RefusalCode.TIER_TOO_LOW: "The member's tier does not reach this perk.",
    RefusalCode.TIER_EXPIRED: "The member's tier has lapsed.",
    RefusalCode.JOINED_TOO_RECENTLY: "The member joined too recently.",
    RefusalCode.NOT_STARTED: "The perk is not open yet.",
    RefusalCode.ENDED: "The perk has ended.",
    RefusalCode.EARLY_ACCESS_ONLY: "The perk is open to higher tiers first.",
    RefusalCode.WRONG_MARKET: "The perk is not for the member's market.",
    RefusalCode.PERK_PAUSED: "The perk is paused.",
    RefusalCode.PARTNER_SUSPENDED: "The partner is suspended.",
    RefusalCode.CONSENT_MISSING: "The member has not consented to this partner.",
    RefusalCode.ALLOWANCE_EXHAUSTED: "The member has used the whole allowance of this period.",
    RefusalCode.CAPACITY_EXHAUSTED: "Nothing is left.",
    RefusalCode.HOLD_EXPIRED: "The hold has expired.",
    RefusalCode.IDEMPOTENCY_KEY_REUSED: "This idempotency key was used for something else.",
    RefusalCode.REVERSAL_WINDOW_CLOSED: "The time for reversing has passed.",
    RefusalCode.ALREADY_REVERSED: "The redemption is reversed already.",
    RefusalCode.NOT_AVAILABLE: "Not available.",
    RefusalCode.SCORE_TOO_LOW: "The member's score does not reach this perk.",
    RefusalCode.OUTSIDE_WINDOW: "The perk is not open at this time.",
    RefusalCode.WRONG_LOCATION: "The perk is not given at this place.",
    RefusalCode.WRONG_SEGMENT: "The perk is not for this member.",
    RefusalCode.VALUE_LIMIT_REACHED: "The amount is beyond what the member has left in this period.",
    RefusalCode.HOUSEHOLD_LIMIT_REACHED: "The member's household has used the whole allowance of this period.",
    RefusalCode.DEVICE_ALREADY_USED: "This device has used the whole allowance of this period.",
    RefusalCode.DEVICE_MISSING: "The claim has to say which device it is for.",
    RefusalCode.CODE_POOL_EMPTY: "No code is left.",
    RefusalCode.CONFLICTS_WITH_HELD_PERK: "The member has another perk of the same group.",
    RefusalCode.ALREADY_HELD: "The member holds this perk already, with other details: release it first.",
    RefusalCode.UNDER_REVIEW: "Staff are looking into the member's claims.",
    RefusalCode.UNITS_NOT_ALLOWED: "The perk does not give so many at once.",
    RefusalCode.UNITS_EXCEEDED: "That is more than there is.",
    RefusalCode.AMOUNT_EXCEEDED: "That is a larger amount than there is.",
    RefusalCode.EXTENSION_LIMIT_REACHED: "The hold can't be extended again.",
    RefusalCode.NOT_RESTOCKABLE: "A code that was shown can't be given to anybody else: BURN it.",
    RefusalCode.WAITLIST_CLOSED: "Nobody can wait for this perk.",
    RefusalCode.ALREADY_WAITING: "The member waits for this perk already.",
    RefusalCode.WRONG_STATE: "It is in a state that does not allow this.",
    RefusalCode.STALE_REVISION: "It has changed since you read it: read it again.",
    RefusalCode.FORM_INVALID: "The form does not fit.",
    RefusalCode.QUOTE_EXPIRED: "The offer no longer holds.",
    RefusalCode.URL_REFUSED: "This address can't be a webhook's.",
    RefusalCode.EXPORT_LIMIT_REACHED: "Too many exports are being made or kept: wait, or cancel one.",
}


@interface(permission=Authenticated, description="An expected no to a mutation. Nothing was changed by it.")
class UserError:
    code: RefusalCode = field(description="Why, from the closed list.")
    message: str = field(description="The same for people.")
    path: list[str] = field(description="The input field it is about.")


@object_type(permission=Authenticated, description="A refusal that has no more to say than its code.")
class Refused(UserError):
    eligible_again_at: datetime | None = field(description="When time alone lifts it; null when it does not.")


@object_type(permission=Authenticated, description="The member's tier does not suffice.")
class TierTooLow(UserError):
    required: str | None = field(description="The tier, or the tiers, that would.")
    current: str | None = field(permission=MAY_SEE_TIER, description="The member's tier; null without one.")


@object_type(
    permission=Authenticated,
    description="The allowance of this period, of the member, its household or the device, is used up.",
)
class AllowanceExhausted(UserError):
    resets_at: datetime | None = field(description="When the next period begins; null when none does.")


@object_type(permission=Authenticated, description="No unit is left.")
class CapacityExhausted(UserError):
    waitlist_open: bool = field(description="Whether the member can wait for one.")


USED_UP = frozenset(
    {
        RefusalCode.ALLOWANCE_EXHAUSTED,
        RefusalCode.VALUE_LIMIT_REACHED,
        RefusalCode.HOUSEHOLD_LIMIT_REACHED,
        RefusalCode.DEVICE_ALREADY_USED,
    }
)


def user_error(refusal: Refusal, path: Sequence[str], *, waitlist_open: bool = False) -> UserError:
    """The typed error of a refusal; `waitlist_open`: whether the member could wait where units are missing."""
    code, message, where = refusal.code, SENTENCES[refusal.code], list(path)
    if code in (RefusalCode.TIER_TOO_LOW, RefusalCode.TIER_EXPIRED):
        return TierTooLow(code=code, message=message, path=where, required=refusal.required, current=refusal.current)
    if code in USED_UP:
        return AllowanceExhausted(code=code, message=message, path=where, resets_at=refusal.eligible_again_at)
    if code in (RefusalCode.CAPACITY_EXHAUSTED, RefusalCode.CODE_POOL_EMPTY):
        return CapacityExhausted(code=code, message=message, path=where, waitlist_open=waitlist_open)
    return Refused(code=code, message=message, path=where, eligible_again_at=refusal.eligible_again_at)


def user_errors(decision: Decision, outcome: str, reasons: Sequence[str], path: Sequence[str]) -> list[UserError]:
    """What a claim is told: every rule that failed, or what the batch found when all had agreed."""
    if outcome == "REFUSED":
        told = [user_error(refusal, path, waitlist_open=decision.waitlist_open) for refusal in decision.refusals]
        return told + [
            user_error(Refusal(RefusalCode(code), "claim"), path) for code in reasons if code == ALREADY_HELD
        ]
    resets_at = decision.allowance.resets_at if decision.allowance else None
    again = {RefusalCode.ALLOWANCE_EXHAUSTED.value: resets_at}
    found = [Refusal(RefusalCode(code), "claim", again.get(code)) for code in reasons]
    return [user_error(refusal, path, waitlist_open=decision.waitlist_open) for refusal in found]


def plain_error(code: str, path: Sequence[str]) -> list[UserError]:
    """One refusal by its code alone."""
    return [user_error(Refusal(RefusalCode(code), "state"), path)]
