"""What a webhook endpoint was told, each attempt to, and how it is told again."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from partners.errors import BadInput, Conflict
from partners.outside_addresses import FaultKind
from partners.tables import MessageState
from partners.webhooks import endpoints, reading, replays
from partners.webhooks.reading import Message, MessageFilter, Tried
from partners.webhooks.replays import Replay
from schema.context import Info
from schema.ids import DELIVERY, ENDPOINT, EVENT, optional_id, read_id, show_id
from schema.outcomes import UserError
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import field, object_type
from schema.selection import selected
from schema.webhook_endpoints import WebhookEndpointInput, told
from schema.webhooks import MAY_MANAGE_WEBHOOKS, MAY_SEE_WEBHOOKS

DELIVERIES_SHOWN = 20

strawberry.enum(
    MessageState,
    name="WebhookMessageState",
    description="PENDING is going to be sent; PARKED was given up after about three days, and is sent when replayed.",
)
strawberry.enum(
    FaultKind,
    name="WebhookFault",
    description="Why there was no answer: the name has no address (DNS), one that is not public (REFUSED_ADDRESS), no "
    "connection (CONNECT), no good certificate (TLS), none in 10 seconds (TIMEOUT), more than 32 kB of headers "
    "(TOO_LARGE), or what is no HTTP/1.1 (PROTOCOL). Nothing was sent: no secret signs (NO_SECRET), a bug (INTERNAL).",
)


@object_type(permission=MAY_SEE_WEBHOOKS, description="One attempt to tell an endpoint.")
class WebhookDelivery:
    id: strawberry.ID = field(description="Names the attempt.")
    event_id: strawberry.ID = field(description="What it was about: the `webhook-id` of the message.")
    number: int = field(description="1, 2, 3, … since the message was new, or was last replayed.")
    at: datetime = field(description="When.")
    duration_ms: int = field(description="How long it took until the answer's headers were there.")
    status: int | None = field(description="The answer's status; 200 to 299 is a success. Null without an answer.")
    fault: FaultKind | None = field(description="Why there was no answer; null with one.")

    @classmethod
    def of(cls, attempt: Tried) -> "WebhookDelivery":
        """An attempt in the API's words."""
        return cls(
            id=strawberry.ID(show_id(DELIVERY, attempt.id)),
            event_id=strawberry.ID(show_id(EVENT, attempt.message)),
            number=attempt.number,
            at=attempt.at,
            duration_ms=attempt.duration_ms,
            status=attempt.status,
            fault=None if attempt.fault is None else FaultKind(attempt.fault),
        )


@object_type(permission=MAY_SEE_WEBHOOKS, description="One event that an endpoint is told of.")
class WebhookMessage:
    event_id: strawberry.ID = field(
        description="`evt_…`: its `webhook-id`, the same at each of your endpoints and each time it is sent."
    )
    event: str = field(description="Its type, as `perk.claimed`.")
    state: MessageState = field(description="How far it is.")
    attempts: int = field(description="How many there were since it was new, or was last replayed.")
    replays: int = field(description="How often it was asked for again.")
    staggered: bool = field(description="Whether it is told later than it happened, with the day alone.")
    first_due_at: datetime = field(description="When it was first to be told.")
    next_attempt_at: datetime | None = field(description="When it is tried next, at the earliest; null unless PENDING.")
    ended_at: datetime | None = field(description="When it was delivered or parked.")
    deliveries: list[WebhookDelivery] = field(
        description="The last 20 attempts, newest first; `webhookDeliveries` has them all. They are kept for 30 days."
    )

    @classmethod
    def of(cls, message: Message, attempts: Sequence[Tried]) -> "WebhookMessage":
        """A message in the API's words."""
        return cls(
            event_id=strawberry.ID(show_id(EVENT, message.id)),
            event=message.event,
            state=message.state,
            attempts=message.attempts,
            replays=message.replays,
            staggered=message.staggered,
            first_due_at=message.told_at,
            next_attempt_at=message.due_at,
            ended_at=message.ended_at,
            deliveries=[WebhookDelivery.of(one) for one in attempts],
        )


@strawberry.input(description="Which messages; every condition that is given must hold.")
class WebhookMessageFilter:
    state: MessageState | None = strawberry.field(default=None, description="In this state.")
    event: str | None = strawberry.field(default=None, description="Of this type, as `perk.claimed`.")
    event_id: strawberry.ID | None = strawberry.field(default=None, description="The one of this `webhook-id`.")


async def find_webhook_messages(
    info: Info,
    endpoint: strawberry.ID,
    filter: WebhookMessageFilter | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Connection[WebhookMessage]:
    """A page of what one endpoint is told, newest first: one statement, and one for attempts where somebody asks."""
    context, size, wanted = info.context, page_size(first), filter or WebhookMessageFilter()
    keys, endpoint_id = context.resources.keys, read_id(ENDPOINT, endpoint)
    which = MessageFilter(endpoint_id, wanted.state, wanted.event, optional_id(EVENT, wanted.event_id))
    async with context.reading() as session:
        rows = await reading.list_messages(
            session, context.actor, which, keys=keys, first=size + 1, after=read_cursor(after), now=context.now
        )
        attempts = dict[UUID, list[Tried]]()
        if rows and "deliveries" in selected(info):
            shown = [row.id for row in rows[:size]]
            attempts = await reading.attempts_of(session, endpoint_id, shown, keys=keys, each=DELIVERIES_SHOWN)
    page: Connection[WebhookMessage] = connect(
        rows,
        size,
        after,
        id_of=lambda row: row.id,
        node_of=lambda row: WebhookMessage.of(row, attempts.get(row.id, ())),
    )
    return page


async def find_webhook_deliveries(
    info: Info,
    endpoint: strawberry.ID,
    event_id: strawberry.ID | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Connection[WebhookDelivery]:
    """A page of attempts to tell one endpoint, newest first."""
    context, size = info.context, page_size(first)
    async with context.reading() as session:
        rows = await reading.list_attempts(
            session,
            context.actor,
            read_id(ENDPOINT, endpoint),
            optional_id(EVENT, event_id),
            keys=context.resources.keys,
            first=size + 1,
            after=read_cursor(after),
        )
    page: Connection[WebhookDelivery] = connect(rows, size, after, id_of=lambda row: row.id, node_of=WebhookDelivery.of)
    return page


@object_type(permission=MAY_MANAGE_WEBHOOKS, description="The test that will be sent.")
class SendTestEventPayload:
    event_id: strawberry.ID | None = field(description="Its `webhook-id`: look for it among the messages.")
    user_errors: list[UserError] = field(description="Why not; empty when it will be sent.")


async def send_test_event(info: Info, input: WebhookEndpointInput) -> SendTestEventPayload:
    """Has one endpoint told of a test, which goes the way of everything else."""
    context = info.context
    try:
        async with context.sessions.begin() as session:
            id = await endpoints.test_endpoint(
                session,
                read_id(ENDPOINT, input.endpoint),
                keys=context.resources.keys,
                actor=context.actor,
                now=context.now,
            )
    except Conflict as fault:
        return SendTestEventPayload(event_id=None, user_errors=[told(fault, "endpoint")])
    return SendTestEventPayload(event_id=strawberry.ID(show_id(EVENT, id)), user_errors=[])


@strawberry.input(description="A message.")
class ResendWebhookMessageInput:
    endpoint: strawberry.ID = strawberry.field(description="To which endpoint.")
    event_id: strawberry.ID = strawberry.field(description="The message's `webhook-id`.")


@strawberry.input(one_of=True, description="Which messages are sent again.")
class WebhookReplayOf:
    event_ids: strawberry.Maybe[list[strawberry.ID]] = strawberry.field(description="These: 1 to 100.")
    since: strawberry.Maybe[datetime] = strawberry.field(description="All that were first due at that time or later.")
    after: strawberry.Maybe[strawberry.ID] = strawberry.field(
        description="All that came after this one, in the order of the log: the `webhook-id` of the last you have."
    )
    parked: strawberry.Maybe[bool] = strawberry.field(description="All that are parked; true is all that can be said.")


@strawberry.input(description="What is to be sent again.")
class ReplayWebhookMessagesInput:
    endpoint: strawberry.ID = strawberry.field(description="To which endpoint.")
    messages: WebhookReplayOf = strawberry.field(description="Which of what happened.")
    until: datetime | None = strawberry.field(
        default=None, description="With `since` or `after`: none that was first due then or later."
    )


@object_type(permission=MAY_MANAGE_WEBHOOKS, description="How many will be sent again.")
class ReplayWebhookMessagesPayload:
    count: int = field(description="How many: those that were pending are among them.")
    goes_on_after: strawberry.ID | None = field(
        description="There are more: ask again with `after`. Null when these are all."
    )
    user_errors: list[UserError] = field(description="Why not; empty when they will be sent.")


async def resend_webhook_message(info: Info, input: ResendWebhookMessageInput) -> ReplayWebhookMessagesPayload:
    """Has one message sent again."""
    return await replay(info, input.endpoint, Replay(ids=[read_id(EVENT, input.event_id)]))


async def replay_webhook_messages(info: Info, input: ReplayWebhookMessagesInput) -> ReplayWebhookMessagesPayload:
    """Has messages sent again, those that were never made among them."""
    return await replay(info, input.endpoint, replay_of(input))


def replay_of(input: ReplayWebhookMessagesInput) -> Replay:
    """The input in the domain's words."""
    wanted = input.messages
    if wanted.parked is not None and not wanted.parked.value:
        raise BadInput("parked: true, or leave it out")
    return Replay(
        ids=None if wanted.event_ids is None else [read_id(EVENT, one) for one in wanted.event_ids.value],
        since=None if wanted.since is None else wanted.since.value,
        until=input.until,
        after=None if wanted.after is None else read_id(EVENT, wanted.after.value),
        parked=wanted.parked is not None,
    )


async def replay(info: Info, endpoint: strawberry.ID, which: Replay) -> ReplayWebhookMessagesPayload:
    """One transaction; the worker does the rest."""
    context = info.context
    try:
        async with context.sessions.begin() as session:
            replayed = await replays.replay(
                session,
                read_id(ENDPOINT, endpoint),
                which,
                keys=context.resources.keys,
                actor=context.actor,
                now=context.now,
            )
    except Conflict as fault:
        return ReplayWebhookMessagesPayload(count=0, goes_on_after=None, user_errors=[told(fault, "endpoint")])
    after = replayed.goes_on_after
    return ReplayWebhookMessagesPayload(
        count=replayed.count,
        goes_on_after=None if after is None else strawberry.ID(show_id(EVENT, after)),
        user_errors=[],
    )
