"""What can be done with webhooks, on one screen: every mutation with who may do it."""

from schema.commands import command
from schema.permissions import object_type
from schema.webhook_endpoints import (
    add_webhook_secret,
    create_webhook_endpoint,
    delete_webhook_endpoint,
    disable_webhook_endpoint,
    enable_webhook_endpoint,
    retire_webhook_secret,
    rotate_webhook_secret,
    update_webhook_endpoint,
)
from schema.webhook_messages import replay_webhook_messages, resend_webhook_message, send_test_event
from schema.webhooks import MAY_MANAGE_WEBHOOKS, MAY_SEE_WEBHOOKS


@object_type(description="What can be done with webhooks.")
class WebhookMutation:
    create_webhook_endpoint = command(
        create_webhook_endpoint,
        permission=MAY_MANAGE_WEBHOOKS,
        description="Registers an address that is told of what happens from now on; its secret is shown this once.",
    )
    update_webhook_endpoint = command(
        update_webhook_endpoint,
        permission=MAY_MANAGE_WEBHOOKS,
        description="Another address, another word for it, or other events.",
    )
    enable_webhook_endpoint = command(
        enable_webhook_endpoint,
        permission=MAY_SEE_WEBHOOKS,
        description="Lets a disabled endpoint be told again: of what waited, and of what happens from now on.",
    )
    disable_webhook_endpoint = command(
        disable_webhook_endpoint,
        permission=MAY_SEE_WEBHOOKS,
        description="Tells an endpoint nothing until it is enabled again.",
    )
    delete_webhook_endpoint = command(
        delete_webhook_endpoint,
        permission=MAY_MANAGE_WEBHOOKS,
        description="Takes an endpoint away, with its secrets and messages.",
    )
    add_webhook_secret = command(
        add_webhook_secret,
        permission=MAY_MANAGE_WEBHOOKS,
        description="One more secret, of either kind, beside those that sign already.",
    )
    rotate_webhook_secret = command(
        rotate_webhook_secret,
        permission=MAY_MANAGE_WEBHOOKS,
        description="A new secret; the others of its kind sign beside it for a while.",
    )
    retire_webhook_secret = command(
        retire_webhook_secret,
        permission=MAY_MANAGE_WEBHOOKS,
        description="A secret signs no more; the last one stays.",
    )
    send_test_event = command(
        send_test_event, permission=MAY_MANAGE_WEBHOOKS, description="Has an endpoint told of a test, as of all else."
    )
    resend_webhook_message = command(
        resend_webhook_message, permission=MAY_MANAGE_WEBHOOKS, description="Has one message sent again."
    )
    replay_webhook_messages = command(
        replay_webhook_messages,
        permission=MAY_MANAGE_WEBHOOKS,
        description="Has many messages sent again, at most 10,000 at once; they keep their `webhook-id`.",
    )
