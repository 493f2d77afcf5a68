"""All that can be asked, on one screen: every query with who may ask it."""

from typing import Any

from schema.access import find_access_grants
from schema.approvals import MAY_MANAGE
from schema.audit import find_entries
from schema.catalogue import MAY_BROWSE, find_partner, find_partners, find_perk, find_perks
from schema.clients import (
    find_client,
    find_clients,
)
from schema.consents import find_consents_given, list_consents
from schema.disclosures import MAY_READ_DISCLOSURES, find_disclosures
from schema.eligibility import MAY_ASK, check_eligibilities, check_eligibility
from schema.exports import MAY_EXPORT, find_export, find_exports
from schema.lookup import MAY_READ, find_node
from schema.members import find_me, find_member
from schema.perk_options import find_perk_kinds
from schema.permissions import Authenticated, Members, Partners, Permission, Public, Staff, field, object_type
from schema.proofs import find_checkpoint, find_proof
from schema.redemptions import find_redemption, find_redemptions
from schema.reviews import MAY_REVIEW, find_reviews
from schema.rules import MAY_TRY, find_rule_kinds, try_policy
from schema.service_requests import find_service_request, find_service_requests
from schema.statements import MAY_SETTLE, find_statement
from schema.viewer import find_viewer
from schema.waitlist import find_waitlist_entries
from schema.webhook_messages import find_webhook_deliveries, find_webhook_messages
from schema.webhooks import (
    MAY_SEE_WEBHOOKS,
    find_webhook_endpoint,
    find_webhook_endpoints,
    find_webhook_event_types,
)

MAY_SEE = Partners("member.tier:read") | Staff("members:admin")


def query(resolver: Any, *, permission: Permission, description: str) -> Any:
    """A root field on a resolver that lives with its noun."""
    return field(permission=permission, description=description)(resolver)


@object_type(description="What can be asked.")
class Query:
    viewer = query(find_viewer, permission=Public, description="Who this token speaks for, its scopes and limits.")
    node = query(find_node, permission=Authenticated, description="Anything by its global id, within sight.")
    me = query(find_me, permission=Members("me:read"), description="The member whose token this is.")
    member = query(
        find_member,
        permission=MAY_SEE,
        description="A member: partners ask by {alias}, staff by {id} or {externalId}. Null when unknown or without "
        "consent, which look the same.",
    )
    eligibility = query(check_eligibility, permission=MAY_ASK, description="May this member have this perk, now?")
    eligibilities = query(
        check_eligibilities, permission=MAY_ASK, description="Up to 100 such questions, one result each."
    )
    perk = query(find_perk, permission=MAY_BROWSE, description="One perk within sight.")
    perks = query(
        find_perks,
        permission=MAY_BROWSE,
        description="The catalogue within sight, each perk with its own answer for the member.",
    )
    perk_kinds = query(
        find_perk_kinds, permission=Authenticated, description="The kinds of perk, each with the settings it takes."
    )
    partner = query(find_partner, permission=MAY_BROWSE, description="One partner within sight.")
    partners = query(find_partners, permission=MAY_BROWSE, description="The partners within sight.")
    consents = query(list_consents, permission=Members("me:consents"), description="The member's own live consents.")
    consents_given = query(
        find_consents_given,
        permission=Partners("consents:read"),
        description="The live consents that members gave you, in the order of your aliases.",
    )
    disclosures = query(
        find_disclosures,
        permission=MAY_READ_DISCLOSURES,
        description="Who asked about the member: each answer that a partner was given, newest first. Staff say whose.",
    )
    redemption = query(find_redemption, permission=MAY_READ, description="One redemption within sight.")
    redemptions = query(find_redemptions, permission=MAY_READ, description="Redemptions within sight, newest first.")
    service_request = query(find_service_request, permission=MAY_READ, description="One bespoke request within sight.")
    service_requests = query(
        find_service_requests, permission=MAY_READ, description="Bespoke requests within sight, newest first."
    )
    waitlist_entries = query(
        find_waitlist_entries,
        permission=MAY_READ,
        description="Who waits, or waited, within sight, newest first. Partners see members who let them.",
    )
    access_grants = query(
        find_access_grants, permission=MAY_READ, description="Standing rights within sight, newest first."
    )
    client = query(find_client, permission=MAY_MANAGE, description="One OAuth client within sight.")
    clients = query(
        find_clients, permission=MAY_MANAGE, description="The OAuth clients within sight, in the order they were made."
    )
    audit_entries = query(
        find_entries, permission=Staff("audit:read"), description="The record of everything, newest first."
    )
    audit_proof = query(
        find_proof,
        permission=MAY_READ,
        description="That a redemption within sight is in the log; likewise a hold or reversal by its id, and with a "
        "`leafHash` a later step of yours with it (a release, an extension).",
    )
    audit_checkpoint = query(
        find_checkpoint,
        permission=Public,
        description="The log's signed checkpoint, and that it continues an older one; null while the log is empty.",
    )
    export = query(find_export, permission=MAY_EXPORT, description="One export within sight, and how far it is.")
    exports = query(find_exports, permission=MAY_EXPORT, description="Exports within sight, newest first.")
    statement = query(
        find_statement,
        permission=MAY_SETTLE,
        description="A month as partner and programme settle it: `2026-11`, the partner's own, or of whom staff name.",
    )
    rule_kinds = query(
        find_rule_kinds, permission=Authenticated, description="The kinds of rule, each with the settings it takes."
    )
    policy_dry_run = query(
        try_policy,
        permission=MAY_TRY,
        description="Which members would gain or lose a perk by other rules; nothing is changed.",
    )
    webhook_event_types = query(
        find_webhook_event_types, permission=MAY_SEE_WEBHOOKS, description="What partners can be told of by webhooks."
    )
    webhook_endpoint = query(
        find_webhook_endpoint, permission=MAY_SEE_WEBHOOKS, description="One webhook endpoint within sight."
    )
    webhook_endpoints = query(
        find_webhook_endpoints,
        permission=MAY_SEE_WEBHOOKS,
        description="The webhook endpoints within sight, in the order they were made.",
    )
    webhook_messages = query(
        find_webhook_messages,
        permission=MAY_SEE_WEBHOOKS,
        description="What a webhook endpoint was told and is going to be, newest first.",
    )
    webhook_deliveries = query(
        find_webhook_deliveries,
        permission=MAY_SEE_WEBHOOKS,
        description="Each attempt to tell a webhook endpoint, newest first.",
    )
    reviews = query(
        find_reviews, permission=MAY_REVIEW, description="Members whose claims staff look into, newest first."
    )
