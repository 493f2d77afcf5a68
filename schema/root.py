"""The whole API on one screen: every query and mutation with who may call it."""

from typing import Any

import strawberry

from schema.approvals import MAY_MANAGE, revoke_approval
from schema.arguments import resolve_directly
from schema.audit import find_entries
from schema.catalogue import MAY_BROWSE, find_partner, find_partners, find_perk, find_perks
from schema.claims import claim_perk, confirm_hold, release_hold, reverse_redemption
from schema.clients import (
    create_client,
    disable_client,
    enable_client,
    find_client,
    find_clients,
    rotate_client_secret,
    update_client,
)
from schema.consents import find_consents_given, grant_consent, list_consents, withdraw_consent
from schema.disclosures import MAY_READ_DISCLOSURES, find_disclosures
from schema.eligibility import MAY_ASK, check_eligibilities, check_eligibility
from schema.lookup import MAY_READ, find_node
from schema.members import assign_tier, enrol_member, find_me, find_member
from schema.offers import (
    create_partner,
    create_perk,
    pause_perk,
    publish_perk,
    reinstate_partner,
    suspend_partner,
    update_perk,
)
from schema.outcomes import AllowanceExhausted, CapacityExhausted, Refused, TierTooLow
from schema.passes import create_pass
from schema.permissions import Authenticated, Members, Partners, Permission, Public, Staff, field, mutation, object_type
from schema.redemptions import find_redemption, find_redemptions
from schema.scalars import CONFIG
from schema.transfers import MAY_CARRY_OVER, MAY_TRANSFER, transfer_member, transfer_partner
from schema.viewer import find_viewer

MAY_SEE = Partners("member.tier:read") | Staff("members:admin")
MAY_CLAIM = Partners("holds:write") | Members("me:claim")
MAY_OFFER = Partners("perks:write") | Staff("partners:admin")
MAY_CONSENT = Members("me:consents") | Staff("consents:admin")


def query(resolver: Any, *, permission: Permission, description: str) -> Any:
    """A root field on a resolver that lives with its noun."""
    return field(permission=permission, description=description)(resolver)


def command(resolver: Any, *, permission: Permission, description: str) -> Any:
    """A mutation on a resolver that lives with its noun."""
    return mutation(permission=permission, description=description)(resolver)


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


@object_type(description="What can be done.")
class Mutation:
    claim_perk = command(claim_perk, permission=MAY_CLAIM, description="Sets a perk aside for a member.")
    confirm_hold = command(
        confirm_hold,
        permission=Partners("redemptions:write"),
        description="The member is at the counter: a hold becomes a redemption.",
    )
    release_hold = command(release_hold, permission=MAY_CLAIM, description="Gives a hold back.")
    reverse_redemption = command(
        reverse_redemption,
        permission=Partners("redemptions:reverse") | Staff("partners:admin"),
        description="Takes a redemption back.",
    )
    create_pass = command(
        create_pass, permission=Members("me:claim"), description="Makes a code for the member to show at a counter."
    )
    create_partner = command(create_partner, permission=Staff("partners:admin"), description="On-boards a brand.")
    suspend_partner = command(
        suspend_partner,
        permission=Staff("partners:admin"),
        description="Stops a partner: no yes, no token, and the live ones end now.",
    )
    reinstate_partner = command(
        reinstate_partner, permission=Staff("partners:admin"), description="Reinstates a suspended partner."
    )
    transfer_partner = command(
        transfer_partner,
        permission=MAY_TRANSFER,
        description="A brand was sold: for 60 days its buyer may carry its members' consents over.",
    )
    transfer_member = command(
        transfer_member,
        permission=MAY_CARRY_OVER,
        description="Carries one member of a bought brand over, for your own alias of them. NOT_FOUND for an alias "
        "that is unknown, without consent or out of time, which look the same.",
    )
    create_client = command(
        create_client, permission=MAY_MANAGE, description="Registers an OAuth client; its secret is shown once."
    )
    update_client = command(
        update_client, permission=MAY_MANAGE, description="Changes a client; what it loses ends in live tokens too."
    )
    rotate_client_secret = command(
        rotate_client_secret,
        permission=MAY_MANAGE,
        description="Gives a client a new secret; the last one stays good beside it for a while.",
    )
    disable_client = command(disable_client, permission=MAY_MANAGE, description="Stops a client and its live tokens.")
    enable_client = command(enable_client, permission=MAY_MANAGE, description="Lets a client have tokens again.")
    revoke_approval = command(
        revoke_approval, permission=MAY_MANAGE, description="Ends what a person approved a client for, tokens and all."
    )
    create_perk = command(create_perk, permission=MAY_OFFER, description="Drafts a perk.")
    update_perk = command(
        update_perk, permission=MAY_OFFER, description="Changes a perk; new rules make a new policy version."
    )
    publish_perk = command(publish_perk, permission=MAY_OFFER, description="Opens a perk to claims.")
    pause_perk = command(pause_perk, permission=MAY_OFFER, description="Stops new claims; what is held stays held.")
    enrol_member = command(enrol_member, permission=Staff("members:admin"), description="Enrols a person.")
    assign_tier = command(
        assign_tier, permission=Staff("programme:admin"), description="Gives a member a tier from now on."
    )
    grant_consent = command(grant_consent, permission=MAY_CONSENT, description="Lets a partner see the member.")
    withdraw_consent = command(
        withdraw_consent,
        permission=MAY_CONSENT,
        description="Stops a partner from seeing the member, at once.",
    )


SCHEMA = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    types=[Refused, TierTooLow, AllowanceExhausted, CapacityExhausted],
    config=CONFIG,
)
resolve_directly(SCHEMA)
