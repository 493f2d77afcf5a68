"""The rule catalogue, and what a draft of rules would change."""

import strawberry
from strawberry.scalars import JSON

from partners import dry_runs
from partners.dry_runs import DryRun
from partners.errors import BadInput
from partners.policies import validate_rules
from partners.rules import KINDS
from schema.context import Info
from schema.ids import MEMBER, show_id
from schema.offers import rules_of
from schema.permissions import Authenticated, Partners, Staff, field, object_type
from schema.references import PerkBy

SAMPLE_MAX = 100
MAY_TRY = Partners("perks:write") | Staff("partners:admin")


@object_type(permission=Authenticated, description="A kind of rule.")
class RuleKind:
    kind: str = field(description="Its name in `rules` of a perk's input.")
    description: str = field(description="What it asks for.")
    settings_schema: JSON = field(description="The rule as it is written, `kind` included: JSON Schema 2020-12.")


async def find_rule_kinds(info: Info) -> list[RuleKind]:
    """Every kind."""
    return [
        RuleKind(kind=kind, description=model.description(), settings_schema=JSON(model.model_json_schema()))
        for kind, model in KINDS.items()
    ]


@object_type(
    permission=MAY_TRY,
    description="What other rules would change for the members who consent to the perk's partner. Partners see each "
    "count rounded to a ten next to it, by chance.",
)
class PolicyDryRun:
    members: int = field(description="Members who were asked about.")
    complete: bool = field(description="Whether that is all of them; else they are a fair sample of 5,000.")
    gain: int = field(description="Would get the perk, and don't now.")
    lose: int = field(description="Get the perk now, and would not.")
    keep: int = field(description="Get it by either.")
    neither: int = field(description="Get it by neither.")
    gained: list[strawberry.ID] = field(permission=Staff("members:admin"), description="Some of those who would gain.")
    lost: list[strawberry.ID] = field(permission=Staff("members:admin"), description="Some of those who would lose.")

    @classmethod
    def of(cls, run: DryRun, coarse_by: bytes | None) -> "PolicyDryRun":
        """The counts as the caller may see them: with a key those for a partner."""

        def shown(name: str) -> int:
            count: int = getattr(run, name) if coarse_by is None else run.coarse(name, coarse_by)
            return count

        return cls(
            members=shown("members"),
            complete=run.complete,
            gain=shown("gain"),
            lose=shown("lose"),
            keep=shown("keep"),
            neither=shown("neither"),
            gained=[strawberry.ID(show_id(MEMBER, id)) for id in run.gained],
            lost=[strawberry.ID(show_id(MEMBER, id)) for id in run.lost],
        )


async def try_policy(info: Info, perk: PerkBy, rules: list[JSON], sample: int = 10) -> PolicyDryRun:
    """Both policies' answers, counted; nothing is changed, and nothing is told of any one member to a partner."""
    context, programme = info.context, info.context.resources.programme
    if not 0 <= sample <= SAMPLE_MAX:
        raise BadInput(f"sample: 0 to {SAMPLE_MAX}", limit=SAMPLE_MAX)
    drafted = validate_rules(rules_of(rules), programme.ranks)
    async with context.resources.connection() as connection:
        run = await dry_runs.dry_run(
            connection,
            perk.reference(),
            drafted,
            ranks=programme.ranks,
            sample=sample,
            actor=context.actor,
            now=context.now,
        )
    return PolicyDryRun.of(run, None if context.actor.partner_id is None else context.resources.keys.pairwise)
