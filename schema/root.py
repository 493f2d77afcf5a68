"""The whole API: what can be asked, what can be done, and what can be followed."""

import strawberry

from schema.arguments import resolve_directly
from schema.mutations import Mutation
from schema.outcomes import AllowanceExhausted, CapacityExhausted, Refused, TierTooLow
from schema.queries import Query
from schema.scalars import CONFIG
from schema.subscriptions import Subscription
from schema.webhook_endpoints import WebhookUrlRefused

SCHEMA = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[Refused, TierTooLow, AllowanceExhausted, CapacityExhausted, WebhookUrlRefused],
    config=CONFIG,
)
resolve_directly(SCHEMA)
