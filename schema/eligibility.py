"""May this member have this perk? The question that partners ask most, alone or a hundred at once."""

from datetime import datetime

import strawberry

from partners import eligibility
from partners.allowances import Period
from partners.eligibility import Known, Question, check_said, decide
from partners.errors import BadInput, NotFound
from partners.facts import RefusalCode
from partners.references import reachable_member
from schema.context import Context, Info
from schema.details import ClaimDetailsInput, circumstances_of
from schema.members import MAY_SEE_TIER
from schema.outcomes import SENTENCES
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type
from schema.references import MemberBy, PerkBy

CHECKS_MAX = 100
READ = "eligibility:read"
MAY_ASK = Partners(READ) | Members("me:read") | Staff("members:admin")


@object_type(permission=Authenticated, description="One rule that says no.")
class EligibilityRefusal:
    code: RefusalCode = field(description="Why, from the closed list.")
    message: str = field(description="The same for people.")
    rule: str = field(description="The kind of the rule that refuses.")
    required: str | None = field(description="What the rule asks for.")
    current: str | None = field(permission=MAY_SEE_TIER, description="What the member has.")
    eligible_again_at: datetime | None = field(description="When time alone lifts it; null when it does not.")


strawberry.enum(Period, name="AllowancePeriod", description="How often an allowance comes back.")


@object_type(permission=Authenticated, description="What is left of one allowance within the period in force.")
class AllowanceLeft:
    period: Period = field(description="How often it comes back.")
    per: str = field(description="Whose uses count: member, household or device.")
    counts_amount: bool = field(description="Whether minor units of the perk's currency are counted, not uses.")
    limit: int = field(description="Uses, or minor units, in the period, by the member's tier.")
    used: int = field(description="Held or redeemed in the period.")
    remaining: int = field(description="What is left of it.")
    resets_at: datetime | None = field(
        description="When the next period begins, or when a rolling one lets one more through; null when none does."
    )

    @classmethod
    def of(cls, left: eligibility.AllowanceLeft) -> "AllowanceLeft":
        """An allowance as the API shows it."""
        return cls(
            period=Period(left.period),
            per=left.per,
            counts_amount=left.by_amount,
            limit=left.limit,
            used=left.used,
            remaining=left.remaining,
            resets_at=left.resets_at,
        )


@object_type(
    permission=Authenticated,
    description='The answer to "may this member have this perk, now?", with every rule that refuses.',
)
class Decision:
    eligible: bool = field(description="Yes or no.")
    refusals: list[EligibilityRefusal] = field(description="Every failing rule; empty for a yes.")
    evaluated_at: datetime = field(description="The moment it speaks of.")
    valid_until: datetime | None = field(
        description="When time alone may change the answer; null when it won't. Events may change it before."
    )
    eligible_again_at: datetime | None = field(
        description="When time alone will have lifted every refusal; null when it won't."
    )
    allowance: AllowanceLeft | None = field(
        description="The allowance of uses of the member's own; null where the perk has none."
    )
    allowances: list[AllowanceLeft] = field(
        description="All of the perk's allowances: of uses and amounts, of the member, its household and the device."
    )
    capacity_remaining: int | None = field(description="Units left for everybody; null where there is no limit.")
    policy_version: int = field(description="The version of the perk's rules that answered.")

    @classmethod
    def of(cls, decision: eligibility.Decision) -> "Decision":
        """The decision as the API shows it."""
        left = decision.allowance
        return cls(
            eligible=decision.eligible,
            refusals=[
                EligibilityRefusal(
                    code=refusal.code,
                    message=SENTENCES[refusal.code],
                    rule=refusal.rule,
                    required=refusal.required,
                    current=refusal.current,
                    eligible_again_at=refusal.eligible_again_at,
                )
                for refusal in decision.refusals
            ],
            evaluated_at=decision.evaluated_at,
            valid_until=decision.valid_until,
            eligible_again_at=decision.eligible_again_at,
            allowance=None if left is None else AllowanceLeft.of(left),
            allowances=[AllowanceLeft.of(one) for one in decision.allowances],
            capacity_remaining=decision.capacity_remaining,
            policy_version=decision.policy_version,
        )


@strawberry.input(description="One question of a bulk check.")
class EligibilityCheckInput:
    perk: PerkBy = strawberry.field(description="Which perk.")
    member: MemberBy | None = strawberry.field(default=None, description="Whom it is about. Members leave it out.")
    details: ClaimDetailsInput | None = strawberry.field(default=None, description="What the claim would say.")


@object_type(
    permission=Authenticated, description="The answer to one question of a bulk check, in the order they were asked."
)
class EligibilityResult:
    decision: Decision | None = field(description="The answer; null when the question could not be answered.")
    error: str | None = field(description="The error code when it could not: NOT_FOUND or BAD_INPUT.")
    message: str | None = field(description="The same for people.")


def question_of(
    context: Context, member: MemberBy | None, perk: PerkBy, scope: str, details: ClaimDetailsInput | None = None
) -> Question:
    """What a caller asks, within its reach; BadInput when it can't name a member like that. `scope` is the right
    that a partner uses."""
    reference = reachable_member(context.actor, None if member is None else member.reference())
    said = circumstances_of(context, details)
    return Question(reference, perk.reference(), context.now, context.asker(scope), said)


def decided(context: Context, known: Known | None) -> eligibility.Decision:
    """The answer to what is known; NotFound where the perk is out of sight, BadInput for what it can't be asked."""
    if known is None:
        raise NotFound("no such perk")
    check_said(known)
    return decide(known, context.resources.programme.ranks, context.now)


async def check_eligibility(
    info: Info, perk: PerkBy, member: MemberBy | None = None, details: ClaimDetailsInput | None = None
) -> Decision:
    """One question: one statement, shared with whoever asks at the same moment."""
    context = info.context
    [known] = await context.resources.learn([question_of(context, member, perk, READ, details)])
    return Decision.of(decided(context, known))


async def check_eligibilities(info: Info, checks: list[EligibilityCheckInput]) -> list[EligibilityResult]:
    """Up to a hundred questions in one statement; one that can't be answered does not spoil the others."""
    if len(checks) > CHECKS_MAX:
        raise BadInput(f"checks: at most {CHECKS_MAX}, not {len(checks)}", limit=CHECKS_MAX)
    context = info.context
    results: list[EligibilityResult | None] = [None] * len(checks)
    asked: list[tuple[int, Question]] = []
    for place, check in enumerate(checks):
        try:
            asked.append((place, question_of(context, check.member, check.perk, READ, check.details)))
        except BadInput as fault:
            results[place] = EligibilityResult(decision=None, error=fault.code, message=fault.message)
    answers = await context.resources.learn([question for _, question in asked]) if asked else []
    for (place, _), known in zip(asked, answers, strict=True):
        results[place] = result_of(context, known)
    return [result for result in results if result is not None]


def result_of(context: Context, known: Known | None) -> EligibilityResult:
    """One answer of a bulk check."""
    if known is None:
        return EligibilityResult(decision=None, error=NotFound.code, message="no such perk")
    try:
        return EligibilityResult(decision=Decision.of(decided(context, known)), error=None, message=None)
    except BadInput as fault:
        return EligibilityResult(decision=None, error=fault.code, message=fault.message)
