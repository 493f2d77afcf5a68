"""ADD A KIND OF PERK HERE: one file with its settings, and one line in the table below."""

from partners.kinds.access import Access
from partners.kinds.code import Code
from partners.kinds.event import Event
from partners.kinds.sample import Sample
from partners.kinds.service import Service
from partners.kinds.shape import Kind, OptionPlan, PoolPlan
from partners.tables import PerkKind

KINDS: dict[PerkKind, type[Kind]] = {
    PerkKind.SAMPLE: Sample,
    PerkKind.EVENT: Event,
    PerkKind.SERVICE: Service,
    PerkKind.CODE: Code,
    PerkKind.ACCESS: Access,
}

__all__ = ["KINDS", "Kind", "OptionPlan", "PoolPlan"]
