"""All that can be done, on one screen: every mutation with who may do it."""

from schema.access import MAY_GRANT, MAY_REVOKE, MAY_USE, grant_access, revoke_access, use_access
from schema.approvals import MAY_MANAGE, revoke_approval
from schema.claims import claim_perk, confirm_hold
from schema.clients import (
    create_client,
    disable_client,
    enable_client,
    rotate_client_secret,
    update_client,
)
from schema.codes import add_codes, withdraw_codes
from schema.commands import command
from schema.consents import grant_consent, withdraw_consent
from schema.erasure import MAY_ANSWER_FOR, erase_member, export_member
from schema.exports import MAY_EXPORT, cancel_export, request_export
from schema.fulfilling import MAY_CHOOSE, MAY_FULFIL, check_in, choose_delivery, update_fulfilment
from schema.hold_steps import extend_hold, release_hold
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
from schema.permissions import Members, Partners, Staff, object_type
from schema.reversals import reverse_redemption
from schema.reviews import MAY_REVIEW, close_review
from schema.service_openings import (
    MAY_ASK_FOR,
    MAY_DRAW_UP,
    draft_service_request,
    submit_service_request,
    update_service_request,
)
from schema.services import (
    MAY_AGREE,
    MAY_ASSIGN_OWNER,
    MAY_CANCEL,
    MAY_OFFER_TERMS,
    MAY_RECALL,
    MAY_SAY,
    add_service_message,
    approve_service_request,
    assign_service_request,
    cancel_service_request,
    decline_service_request,
    fulfil_service_request,
    quote_service_request,
    recall_service_request,
    schedule_service_request,
)
from schema.transfers import MAY_CARRY_OVER, MAY_TRANSFER, transfer_member, transfer_partner
from schema.waitlist import join_waitlist, leave_waitlist
from schema.webhook_mutations import WebhookMutation

MAY_CLAIM = Partners("holds:write") | Members("me:claim")
MAY_OFFER = Partners("perks:write") | Staff("partners:admin")
MAY_CONSENT = Members("me:consents") | Staff("consents:admin")


@object_type(description="What can be done.")
class Mutation(WebhookMutation):
    claim_perk = command(claim_perk, permission=MAY_CLAIM, description="Sets a perk aside for a member.")
    confirm_hold = command(
        confirm_hold,
        permission=Partners("redemptions:write") | Members("me:claim"),
        description="A hold becomes a redemption, or a part of it does: by the partner when the member is at the "
        "counter, or by the member where the perk is self-service.",
    )
    extend_hold = command(extend_hold, permission=MAY_CLAIM, description="Holds for as long again, at most twice.")
    release_hold = command(release_hold, permission=MAY_CLAIM, description="Gives a hold back.")
    join_waitlist = command(
        join_waitlist, permission=MAY_CLAIM, description="Waits for what is not there now; an offer is a hold."
    )
    leave_waitlist = command(
        leave_waitlist, permission=MAY_CLAIM, description="Waits no more; what was offered goes to the next."
    )
    reverse_redemption = command(
        reverse_redemption,
        permission=Partners("redemptions:reverse") | Staff("partners:admin"),
        description="Takes a redemption back.",
    )
    choose_delivery = command(
        choose_delivery,
        permission=MAY_CHOOSE,
        description="How a sample is to reach its member: picked up or sent. Until the partner begins it can be chosen "
        "again.",
    )
    update_fulfilment = command(
        update_fulfilment, permission=MAY_FULFIL, description="How far you are with what you promised."
    )
    check_in = command(
        check_in,
        permission=Partners("redemptions:write"),
        description="Guests of an event come in, by the code that they show; a party perhaps in parts.",
    )
    draft_service_request = command(
        draft_service_request, permission=MAY_DRAW_UP, description="Draws up a bespoke request that only you see."
    )
    update_service_request = command(
        update_service_request, permission=MAY_DRAW_UP, description="Changes a draft of yours."
    )
    submit_service_request = command(
        submit_service_request,
        permission=MAY_ASK_FOR,
        description="Asks for something bespoke; whom the perk trusts is approved in the same answer.",
    )
    quote_service_request = command(
        quote_service_request, permission=MAY_OFFER_TERMS, description="Offers the member an amount and terms."
    )
    approve_service_request = command(
        approve_service_request,
        permission=MAY_AGREE,
        description="Says yes, which redeems the perk: the member to an offer, or the partner where the perk goes "
        "without.",
    )
    decline_service_request = command(
        decline_service_request, permission=MAY_AGREE, description="Says no: the partner, or the member to an offer."
    )
    schedule_service_request = command(
        schedule_service_request, permission=MAY_OFFER_TERMS, description="Says when it will be done."
    )
    fulfil_service_request = command(
        fulfil_service_request, permission=MAY_OFFER_TERMS, description="Says that it is done."
    )
    recall_service_request = command(
        recall_service_request, permission=MAY_RECALL, description="Takes a request back before it is approved."
    )
    cancel_service_request = command(
        cancel_service_request,
        permission=MAY_CANCEL,
        description="Ends a request for a reason; after a yes its redemption is reversed.",
    )
    assign_service_request = command(
        assign_service_request, permission=MAY_ASSIGN_OWNER, description="Says who looks after a request."
    )
    add_service_message = command(
        add_service_message, permission=MAY_SAY, description="Says something in the thread of a request."
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
    grant_access = command(
        grant_access,
        permission=MAY_GRANT,
        description="Gives a member a standing right, claimed and confirmed at once.",
    )
    use_access = command(
        use_access, permission=MAY_USE, description="The member is at the counter: a standing right is used once."
    )
    revoke_access = command(revoke_access, permission=MAY_REVOKE, description="Takes a standing right away.")
    add_codes = command(add_codes, permission=MAY_OFFER, description="Puts codes into the pool of a perk.")
    withdraw_codes = command(
        withdraw_codes, permission=MAY_OFFER, description="Takes codes that nobody has out of a pool."
    )
    enrol_member = command(enrol_member, permission=Staff("members:admin"), description="Enrols a person.")
    export_member = command(
        export_member, permission=MAY_ANSWER_FOR, description="Tells everything that is held about one person."
    )
    erase_member = command(
        erase_member,
        permission=MAY_ANSWER_FOR,
        description="Forgets a person: what identifies goes, counts and the log stay. There is no way back.",
    )
    assign_tier = command(
        assign_tier, permission=Staff("programme:admin"), description="Gives a member a tier from now on."
    )
    grant_consent = command(grant_consent, permission=MAY_CONSENT, description="Lets a partner see the member.")
    withdraw_consent = command(
        withdraw_consent,
        permission=MAY_CONSENT,
        description="Stops a partner from seeing the member, at once.",
    )
    request_export = command(
        request_export,
        permission=MAY_EXPORT,
        description="Asks for a file of redemptions, or of audit entries: made in the background, see docs/exports.md.",
    )
    cancel_export = command(
        cancel_export,
        permission=MAY_EXPORT,
        description="Stops an export, or throws away the file of one that is done.",
    )
    close_review = command(
        close_review, permission=MAY_REVIEW, description="Clears a member's claims, or upholds that they are kept out."
    )
