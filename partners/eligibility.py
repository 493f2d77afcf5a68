"""May this member have this perk, now? Gathers the facts in one statement and lets the rules answer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.errors import BadInput
from partners.facts import (
    NOTHING_SAID,
    UNITS_MISSING,
    Circumstances,
    Facts,
    MemberFacts,
    PerkFacts,
    Refusal,
    RefusalCode,
    Use,
)
from partners.policies import Policy, parsed_policy
from partners.reading import KNOWN, member_of, perk_of, uses_of
from partners.references import Asker, MemberRef, PerkRef
from partners.rules import Allowance
from partners.standing import STANDING, standing_changes
from partners.tables import PerkKind
from partners.tables.columns import new_id
from partners.values import value

NAMED_MAX = 20
STEPS_MAX = 100


@value
class Question:
    """One member and one perk as a caller names them; an `asker` sees its own perks and members who consent."""

    member: MemberRef
    perk: PerkRef
    now: datetime
    asker: Asker | None = None
    said: Circumstances = NOTHING_SAID


@value
class Known:
    """What one statement told about a question's perk and, if the asker may know of it, its member."""

    perk_id: UUID
    partner_id: UUID
    perk_version: int
    policy_version: int
    hold_seconds: int
    policy: Policy
    perk: PerkFacts
    uses: Mapping[str, Sequence[Use]]
    member_id: UUID | None = None
    member_version: int | None = None
    member: MemberFacts | None = None
    tells_tier: bool = True
    said: Circumstances = NOTHING_SAID


@value
class AllowanceLeft:
    """What is left of one allowance within the window in force: uses, or minor units of the perk's currency.

    `resets_at` is when the period ends; of a rolling one, when it will let one more use through."""

    limit: int
    used: int
    resets_at: datetime | None
    period: str = "EVER"
    per: str = "member"
    by_amount: bool = False

    @property
    def remaining(self) -> int:
        """How many uses are left; a tier that was lowered may have used more than it has."""
        return max(0, self.limit - self.used)


@value
class Decision:
    """The answer, with every failing rule. `valid_until` is when time alone may change it (None: it won't);
    `eligible_again_at` is when time alone will have lifted every refusal (None: it won't, or nothing is refused).
    `waitlist_open`: whether the member may wait where units are missing, for nothing else is."""

    eligible: bool
    refusals: tuple[Refusal, ...]
    evaluated_at: datetime
    policy_version: int
    valid_until: datetime | None = None
    eligible_again_at: datetime | None = None
    allowances: tuple[AllowanceLeft, ...] = ()
    capacity_remaining: int | None = None
    waitlist_open: bool = False

    @property
    def allowance(self) -> AllowanceLeft | None:
        """The member's own uses, where the perk counts them."""
        return next((one for one in self.allowances if one.per == "member" and not one.by_amount), None)


def decide(known: Known, ranks: Mapping[str, int], now: datetime) -> Decision:
    """The pure answer. An unknown member and one who has not consented get the same one from a partner (law 9)."""
    if known.member is None:
        refusal = Refusal(RefusalCode.NOT_A_MEMBER, "membership")
        return Decision(False, (refusal,), now, known.policy_version, capacity_remaining=known.perk.left)
    facts = Facts(now, ranks, known.member, known.perk, known.uses, known.said)
    refusals = refusals_of(known.policy, facts)
    shown = refusals if known.tells_tier else tuple(replace(refusal, current=None) for refusal in refusals)
    ahead = instants_ahead(known.policy, facts)
    return Decision(
        eligible=not refusals,
        refusals=shown,
        evaluated_at=now,
        policy_version=known.policy_version,
        valid_until=min(ahead, default=None),
        eligible_again_at=eligible_again_at(known.policy, facts, refusals) if refusals else None,
        allowances=tuple(allowance_left(one, facts) for one in known.policy.allowances),
        capacity_remaining=known.perk.left,
        waitlist_open=known.perk.waitlist and all(refusal.code in UNITS_MISSING for refusal in refusals),
    )


def check_said(known: Known, *, claims: bool = False) -> None:
    """BadInput for circumstances that the perk can't have; a claim has to say more than a question."""
    said, perk = known.said, known.perk
    if said.option is not None and perk.option(said.option) is None:
        raise BadInput(f"details.option: the perk has no option {said.option!r}{named(perk)}")
    if said.amount and perk.currency is None:
        raise BadInput("details.amountMinor: the perk counts no amounts")
    if not claims:
        return
    if perk.kind == PerkKind.SERVICE:
        raise BadInput("perk: a SERVICE perk is asked for by submitServiceRequest")
    if perk.options and perk.option(said.option) is None:
        raise BadInput(f"details.option: say which{named(perk)}")
    if not said.amount and any(allowance.by_amount for allowance in known.policy.allowances):
        raise BadInput("details.amountMinor: the perk counts amounts: say how much")


def named(perk: PerkFacts) -> str:
    """The options to choose from, for a message."""
    handles = ", ".join(option.handle for option in perk.options[:NAMED_MAX])
    return f"; it has {handles}" if handles else ""


def refusals_of(policy: Policy, facts: Facts) -> tuple[Refusal, ...]:
    """What every rule says that fails: those that all perks have first, then the policy's."""
    found = [refusal for standing in STANDING if (refusal := standing(facts)) is not None]
    for rule in policy.rules:
        if (refusal := rule.refusal(facts)) is not None:
            found.append(refusal)
    return tuple(found)


def instants_ahead(policy: Policy, facts: Facts) -> list[datetime]:
    """The instants to come at which time alone may change some rule's answer, in no order."""
    now = facts.now
    ahead = [instant for instant in standing_changes(facts) if instant is not None and instant > now]
    for rule in policy.rules:
        ahead += [instant for instant in rule.changes(facts) if instant is not None and instant > now]
    return ahead


def eligible_again_at(policy: Policy, facts: Facts, refusals: Sequence[Refusal]) -> datetime | None:
    """The first instant at which nothing refuses. Each refusal says when time alone lifts it, so nothing can be before
    the last of these; others may have come by then, and so on. None when it never is, or not within so many steps."""
    for _ in range(STEPS_MAX):
        lifted = [refusal.eligible_again_at for refusal in refusals if refusal.eligible_again_at is not None]
        if len(lifted) < len(refusals):
            return None
        facts = facts.at(max(lifted))
        refusals = refusals_of(policy, facts)
        if not refusals:
            return facts.now
    return None


def allowance_left(allowance: Allowance, facts: Facts) -> AllowanceLeft:
    """What one allowance leaves the member."""
    return AllowanceLeft(
        limit=allowance.limit(facts.member.tier),
        used=allowance.used(facts),
        resets_at=allowance.resets_at(facts),
        period=allowance.period.value,
        per=allowance.per,
        by_amount=allowance.by_amount,
    )


async def learn(connection: "Connection[Any]", questions: Sequence[Question]) -> list[Known | None]:
    """What is known for each question, in order, by one statement; None where the perk is out of sight.

    What a partner is told of a member is kept in the same statement, so it is there before anybody hears it.
    """
    if not questions:
        return []
    askers = [question.asker for question in questions]
    rows = await connection.fetch(
        KNOWN,
        [question.said.device for question in questions],
        [None if asker is None else asker.partner_id for asker in askers],
        [None if asker is None else asker.scope for asker in askers],
        [None if asker is None else asker.client_id for asker in askers],
        [question.member.alias for question in questions],
        [question.member.id for question in questions],
        [question.member.external_id for question in questions],
        [question.perk.id for question in questions],
        [question.perk.handle for question in questions],
        [question.now for question in questions],
        [None if asker is None or asker.client_id is None else new_id() for asker in askers],
    )
    return [
        None if row["perk_id"] is None else known_of(row, asker is not None, question.now, question.said)
        for row, question, asker in zip(rows, questions, askers, strict=True)
    ]


def known_of(row: Mapping[str, Any], partner_asks: bool, now: datetime, said: Circumstances = NOTHING_SAID) -> Known:
    """One row in the domain's words; it holds no member where a partner asks that may not know of one."""
    return Known(
        perk_id=row["perk_id"],
        partner_id=row["partner_id"],
        perk_version=row["perk_version"],
        policy_version=row["policy_version"],
        hold_seconds=row["hold_seconds"],
        policy=parsed_policy(row["perk_id"], row["policy_version"], row["rules"]),
        perk=perk_of(row),
        uses=uses_of(row),
        member_id=row["member_id"],
        member_version=row["member_version"],
        member=None if row["member_id"] is None else member_of(row, partner_asks, now),
        tells_tier=row["tells_tier"],
        said=said,
    )
