"""All that can be done, on one screen: every mutation with who may do it."""

from typing import Any

from schema.approvals import MAY_MANAGE, revoke_approval
from schema.claims import claim_perk, confirm_hold, release_hold, reverse_redemption
from schema.clients import (
    create_client,
    disable_client,
    enable_client,
    rotate_client_secret,
    update_client,
)
from schema.consents import grant_consent, withdraw_consent
from schema.members import assign_tier, enrol_member
from schema.offers import (
    create_partner,
    create_perk,
    pause_perk,
    publish_perk,
    reinstate_partner,
    suspend_partner,
    update_perk,
)
from schema.passes import create_pass
from schema.permissions import Members, Partners, Permission, Staff, mutation, object_type
from schema.transfers import MAY_CARRY_OVER, MAY_TRANSFER, transfer_member, transfer_partner

MAY_SEE = Partners("member.tier:read") | Staff("members:admin")
MAY_CLAIM = Partners("holds:write") | Members("me:claim")
MAY_OFFER = Partners("perks:write") | Staff("partners:admin")
MAY_CONSENT = Members("me:consents") | Staff("consents:admin")


def command(resolver: Any, *, permission: Permission, description: str) -> Any:
    """A mutation on a resolver that lives with its noun."""
    return mutation(permission=permission, description=description)(resolver)


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
