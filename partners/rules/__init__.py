"""ADD A RULE HERE: one class with `refusal` in a file of this folder, and its name in the union below.

A rule is stored as JSON on the perk's policy and only ever says no, so that adding one never makes anybody eligible.
Never rename or reorder a field; a new field has a default; a code is never reused. Rules never query: what they
need to know is a field of `Facts`. docs/adding-a-rule.md goes through it step by step.
"""

from typing import Annotated, get_args

from pydantic import Field, TypeAdapter

from partners.rules.how_often import AMOUNT_MAX, UNITS_MAX, Allowance, NotTogether, Velocity
from partners.rules.shape import RuleModel
from partners.rules.when import BirthdayMonth, EarlyAccess, Recurring
from partners.rules.where import Near, Place
from partners.rules.who import LinkedFor, Market, MemberFor, ScoreAtLeast, Segment, TierAtLeast, TierIn

AnyRule = (
    TierAtLeast
    | TierIn
    | MemberFor
    | LinkedFor
    | Market
    | ScoreAtLeast
    | Segment
    | EarlyAccess
    | Recurring
    | BirthdayMonth
    | Near
    | Allowance
    | NotTogether
    | Velocity
)
Rule = Annotated[AnyRule, Field(discriminator="kind")]
RULES_MAX = 50
RULES: TypeAdapter[list[Rule]] = TypeAdapter(Annotated[list[Rule], Field(max_length=RULES_MAX)])
KINDS: dict[str, type[RuleModel]] = {rule.model_fields["kind"].default: rule for rule in get_args(AnyRule)}

__all__ = [
    "AMOUNT_MAX",
    "KINDS",
    "RULES",
    "RULES_MAX",
    "UNITS_MAX",
    "Allowance",
    "BirthdayMonth",
    "EarlyAccess",
    "LinkedFor",
    "Market",
    "MemberFor",
    "Near",
    "NotTogether",
    "Place",
    "Recurring",
    "Rule",
    "RuleModel",
    "ScoreAtLeast",
    "Segment",
    "TierAtLeast",
    "TierIn",
    "Velocity",
]
