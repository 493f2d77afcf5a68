"""SERVICE: Something bespoke: a form, a thread and clocks (partners/services/)."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from partners.facts import Facts
from partners.forms import schema_faults
from partners.kinds.shape import Kind
from partners.programme import Handle
from partners.rules import AMOUNT_MAX

SCORE_MAX = 2**53 - 1
SECONDS = (1, 366 * 86_400)

Seconds = Annotated[int, Field(ge=SECONDS[0], le=SECONDS[1], strict=True)]
Amount = Annotated[int, Field(ge=0, le=AMOUNT_MAX, strict=True)]


class Approval(StrEnum):
    """Who says the last word: the member to a quote, the partner, or nobody where trust suffices."""

    BY_QUOTE = "BY_QUOTE"
    BY_PARTNER = "BY_PARTNER"
    AUTOMATIC = "AUTOMATIC"


class Trust(BaseModel):
    """Whose requests are approved at once: from this tier and score on, up to an amount (minor units) by tier."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tier: Handle
    score: Annotated[int, Field(ge=-SCORE_MAX, le=SCORE_MAX, strict=True)] | None = None
    amount: dict[Handle, Amount] = {}
    otherwise: Amount = 0

    def suffices(self, facts: Facts) -> bool:
        """Whether this member is trusted with what it asks for."""
        member = facts.member
        limit = self.otherwise if member.tier is None else self.amount.get(member.tier, self.otherwise)
        scored = self.score is None or member.score >= self.score
        return scored and facts.is_at_least(self.tier) and facts.said.amount <= limit


class Service(Kind):
    """Something bespoke, asked for by a form and answered in a thread with clocks.

    `form` is a JSON Schema (docs/services.md says which). The first answer is due `answer_within_seconds`, and the end
    `solve_within_seconds`, after a request is submitted; both wait while the partner waits for the member.
    """

    form: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    answer_within_seconds: Seconds = 86_400
    solve_within_seconds: Seconds = 7 * 86_400
    approval: Approval = Approval.BY_QUOTE
    trust: Trust | None = None

    def faults(self, zone: str, tiers: Mapping[str, int]) -> Iterator[str]:
        """A form schema that is none, unknown tiers, trust without use or use without trust."""
        yield from (f"form.{one}" for one in schema_faults(self.form))
        if (self.approval is Approval.AUTOMATIC) != (self.trust is not None):
            yield "trust: goes with the approval AUTOMATIC, and with no other"
        if self.solve_within_seconds < self.answer_within_seconds:
            yield "solve_within_seconds: not before the first answer"
        for tier in () if self.trust is None else (self.trust.tier, *self.trust.amount):
            if tier not in tiers:
                yield f"trust: the programme has no tier {tier}; it has {', '.join(tiers)}"

    def perk_faults(self, units_max: int, waits: bool) -> Iterator[str]:
        """More than one at once, and a waitlist: a request waits for its answer by itself."""
        if units_max != 1:
            yield "unitsMax: a request is for one"
        if waits:
            yield "waitlist: a request waits for its answer in a thread of its own"
