"""All that can be asked, on one screen: every query with who may ask it."""

from typing import Any

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
from schema.lookup import MAY_READ, find_node
from schema.members import find_me, find_member
from schema.permissions import Authenticated, Members, Partners, Permission, Public, Staff, field, object_type
from schema.redemptions import find_redemption, find_redemptions
from schema.viewer import find_viewer

MAY_SEE = Partners("member.tier:read") | Staff("members:admin")
MAY_CLAIM = Partners("holds:write") | Members("me:claim")
MAY_OFFER = Partners("perks:write") | Staff("partners:admin")
MAY_CONSENT = Members("me:consents") | Staff("consents:admin")


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
    client = query(find_client, permission=MAY_MANAGE, description="One OAuth client within sight.")
    clients = query(
        find_clients, permission=MAY_MANAGE, description="The OAuth clients within sight, in the order they were made."
    )
    audit_entries = query(
        find_entries, permission=Staff("audit:read"), description="The record of everything, newest first."
    )
