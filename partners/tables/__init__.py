"""Every table of the domain, by noun: read this first; rows are always written `tables.Perk`."""

from partners.tables.catalogue import (
    Capacity,
    Partner,
    PartnerKind,
    PartnerState,
    PartnerTransfer,
    Perk,
    PerkKind,
    PerkState,
    Policy,
)
from partners.tables.claims import (
    Bearer,
    FulfilmentState,
    Hold,
    HoldState,
    IdempotencyKey,
    Redemption,
    Reversal,
    Stock,
)
from partners.tables.columns import metadata
from partners.tables.people import IS_GRANTED, Activity, Consent, ConsentState, Member, MemberAlias, MemberState, Pass
from partners.tables.programme import AssignmentCause, Programme, Tier, TierAssignment
from partners.tables.records import AuditEntry, Disclosure, DisclosureKind, LogHead, LogLeaf, Outbox

__all__ = [
    "IS_GRANTED",
    "Activity",
    "AssignmentCause",
    "AuditEntry",
    "Bearer",
    "Capacity",
    "Consent",
    "ConsentState",
    "Disclosure",
    "DisclosureKind",
    "FulfilmentState",
    "Hold",
    "HoldState",
    "IdempotencyKey",
    "LogHead",
    "LogLeaf",
    "Member",
    "MemberAlias",
    "MemberState",
    "Outbox",
    "Partner",
    "PartnerKind",
    "PartnerState",
    "PartnerTransfer",
    "Pass",
    "Perk",
    "PerkKind",
    "PerkState",
    "Policy",
    "Programme",
    "Redemption",
    "Reversal",
    "Stock",
    "Tier",
    "TierAssignment",
    "metadata",
]
