"""What a partner does with its webhook endpoints and with the secrets that sign for them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from partners.errors import BadInput, Conflict, NotFound, PerksError
from partners.facts import RefusalCode
from partners.outside_addresses import UrlRefused
from partners.tables import EndpointState, SecretKind
from partners.tables import WebhookEndpoint as EndpointRow
from partners.webhooks import endpoints, secrets
from partners.webhooks.endpoints import EndpointSettings
from partners.webhooks.secrets import MadeSecret
from schema.context import Info
from schema.ids import ENDPOINT, SECRET, read_id, show_id
from schema.outcomes import Refused, UserError
from schema.permissions import field, object_type
from schema.webhooks import MAY_MANAGE_WEBHOOKS, MAY_SEE_WEBHOOKS, WebhookEndpoint, WebhookSecret, show_endpoints

OVERLAP_SECONDS = 86_400


@strawberry.input(description="A new endpoint. Its first secret is of kind HMAC.")
class CreateWebhookEndpointInput:
    url: str = strawberry.field(
        description="Where messages are sent: `https://`, port 443 and a public name (docs/webhooks.md)."
    )
    description: str = strawberry.field(default="", description="What it is, for people: at most 200 characters.")
    events: list[str] = strawberry.field(
        default_factory=list, description="The types of `webhookEventTypes` that it is told of; empty: all."
    )


@strawberry.input(description="Changes to an endpoint; what is left out stays.")
class UpdateWebhookEndpointInput:
    endpoint: strawberry.ID = strawberry.field(description="Which.")
    url: str | None = strawberry.field(default=strawberry.UNSET, description="See createWebhookEndpoint.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="See createWebhookEndpoint.")
    events: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="All of them, told from now on; what was before can be replayed."
    )


@strawberry.input(description="An endpoint.")
class WebhookEndpointInput:
    endpoint: strawberry.ID = strawberry.field(description="Which.")


@strawberry.input(description="One more secret, beside those that there are.")
class AddWebhookSecretInput:
    endpoint: strawberry.ID = strawberry.field(description="Of which endpoint.")
    kind: SecretKind = strawberry.field(default=SecretKind.HMAC, description="How it signs.")
    secret: str | None = strawberry.field(
        default=None, description="One that the receiver has already, `whsec_…` of 24 to 64 bytes; null: a new one."
    )


@strawberry.input(description="A new secret instead of those of its kind.")
class RotateWebhookSecretInput:
    endpoint: strawberry.ID = strawberry.field(description="Of which endpoint.")
    kind: SecretKind = strawberry.field(default=SecretKind.HMAC, description="How it signs.")
    overlap_seconds: int = strawberry.field(
        default=OVERLAP_SECONDS, description="How long the others of that kind sign beside it: 0 to 604,800."
    )


@strawberry.input(description="A secret.")
class RetireWebhookSecretInput:
    endpoint: strawberry.ID = strawberry.field(description="Of which endpoint.")
    secret: strawberry.ID = strawberry.field(description="Which.")


@object_type(permission=MAY_SEE_WEBHOOKS, description="The endpoint, or why it stays as it is.")
class WebhookEndpointPayload:
    endpoint: WebhookEndpoint | None = field(description="The endpoint as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it is done.")


@object_type(permission=MAY_MANAGE_WEBHOOKS, description="The endpoint with a secret that is shown this once.")
class WebhookSecretPayload:
    endpoint: WebhookEndpoint | None = field(description="The endpoint as it is now.")
    secret: str | None = field(
        description="What the receiver verifies with. `whsec_…` is shown this once: keep it. `whpk_…` is public."
    )
    signs_as: WebhookSecret | None = field(description="The same without what is secret of it.")
    user_errors: list[UserError] = field(description="Why not; empty when it is done.")


@object_type(permission=MAY_MANAGE_WEBHOOKS, description="What was taken away.")
class DeleteWebhookEndpointPayload:
    deleted_id: strawberry.ID | None = field(description="The id that the endpoint had.")
    user_errors: list[UserError] = field(description="Always empty.")


@object_type(permission=MAY_MANAGE_WEBHOOKS, description="The address can't be a webhook's.")
class WebhookUrlRefused(UserError):
    reason: str = field(description="What is wrong with it, for people.")


def told(fault: PerksError, path: str) -> UserError:
    """An expected no of the domain's as data."""
    if isinstance(fault, UrlRefused):
        code = RefusalCode.URL_REFUSED
        return WebhookUrlRefused(code=code, message=f"Refused: {fault.message}.", path=["url"], reason=fault.message)
    return Refused(code=RefusalCode.WRONG_STATE, message=f"{fault.message}.", path=[path], eligible_again_at=None)


Change = Callable[[AsyncSession], Awaitable[tuple[EndpointRow, MadeSecret | None]]]


async def changed(info: Info, change: Change, path: str = "endpoint") -> WebhookSecretPayload:
    """One transaction on an endpoint; a no rolls it back and is told."""
    try:
        async with info.context.sessions.begin() as session:
            row, made = await change(session)
            [endpoint] = await show_endpoints(info, session, [row])
    except (UrlRefused, Conflict) as fault:
        return WebhookSecretPayload(endpoint=None, secret=None, signs_as=None, user_errors=[told(fault, path)])
    return WebhookSecretPayload(
        endpoint=endpoint,
        secret=None if made is None else made.shown,
        signs_as=None if made is None else WebhookSecret.of(made.row),
        user_errors=[],
    )


async def create_webhook_endpoint(info: Info, input: CreateWebhookEndpointInput) -> WebhookSecretPayload:
    """A new endpoint of the caller's own, told of what happens from now on."""
    context, resources = info.context, info.context.resources
    settings = EndpointSettings(input.url, input.description, input.events)

    async def change(session: AsyncSession) -> tuple[EndpointRow, MadeSecret | None]:
        assert context.actor.partner_id is not None
        return await endpoints.create_endpoint(
            session,
            context.actor.partner_id,
            settings,
            keys=resources.keys,
            actor=context.actor,
            now=context.now,
            private=resources.private_targets,
        )

    return await changed(info, change, "url")


async def update_webhook_endpoint(info: Info, input: UpdateWebhookEndpointInput) -> WebhookEndpointPayload:
    """Changes what its partner decides about an endpoint."""
    context = info.context
    names = ("url", "description", "events")
    given = {name: value for name in names if (value := getattr(input, name)) is not strawberry.UNSET}
    if nothing := [name for name, value in given.items() if value is None]:
        raise BadInput(f"{', '.join(nothing)}: not null")

    async def change(session: AsyncSession) -> tuple[EndpointRow, MadeSecret | None]:
        row = await endpoints.change_endpoint(
            session,
            read_id(ENDPOINT, input.endpoint),
            given,
            actor=context.actor,
            now=context.now,
            private=context.resources.private_targets,
        )
        return row, None

    return without_secret(await changed(info, change))


def without_secret(payload: WebhookSecretPayload) -> WebhookEndpointPayload:
    """The answer of what makes no secret."""
    return WebhookEndpointPayload(endpoint=payload.endpoint, user_errors=payload.user_errors)


async def enable_webhook_endpoint(info: Info, input: WebhookEndpointInput) -> WebhookEndpointPayload:
    """Lets a disabled endpoint be told again."""
    return await set_state(info, input, EndpointState.ENABLED)


async def disable_webhook_endpoint(info: Info, input: WebhookEndpointInput) -> WebhookEndpointPayload:
    """Tells an endpoint nothing more."""
    return await set_state(info, input, EndpointState.DISABLED)


async def set_state(info: Info, input: WebhookEndpointInput, state: EndpointState) -> WebhookEndpointPayload:
    """One change of state; asked for again it is no fault."""
    context = info.context

    async def change(session: AsyncSession) -> tuple[EndpointRow, MadeSecret | None]:
        id = read_id(ENDPOINT, input.endpoint)
        return await endpoints.set_endpoint_state(session, id, state, actor=context.actor, now=context.now), None

    return without_secret(await changed(info, change))


async def delete_webhook_endpoint(info: Info, input: WebhookEndpointInput) -> DeleteWebhookEndpointPayload:
    """Takes an endpoint away."""
    context, id = info.context, read_id(ENDPOINT, input.endpoint)
    async with context.sessions.begin() as session:
        await endpoints.delete_endpoint(session, id, actor=context.actor, now=context.now)
    return DeleteWebhookEndpointPayload(deleted_id=strawberry.ID(show_id(ENDPOINT, id)), user_errors=[])


async def add_webhook_secret(info: Info, input: AddWebhookSecretInput) -> WebhookSecretPayload:
    """One more secret, which signs beside the others."""
    return await sign_anew(info, input.endpoint, input.kind, None, given=input.secret)


async def rotate_webhook_secret(info: Info, input: RotateWebhookSecretInput) -> WebhookSecretPayload:
    """A new secret instead of the others of its kind."""
    return await sign_anew(info, input.endpoint, input.kind, timedelta(seconds=input.overlap_seconds))


async def sign_anew(
    info: Info, endpoint: strawberry.ID, kind: SecretKind, overlap: timedelta | None, *, given: str | None = None
) -> WebhookSecretPayload:
    """A secret made or given."""
    context, id = info.context, read_id(ENDPOINT, endpoint)

    async def change(session: AsyncSession) -> tuple[EndpointRow, MadeSecret | None]:
        made = await secrets.rotate_secret(
            session,
            id,
            kind,
            overlap,
            keys=context.resources.keys,
            actor=context.actor,
            now=context.now,
            given=given,
        )
        return await of_secret(session, made), made

    return await changed(info, change)


async def of_secret(session: AsyncSession, made: MadeSecret) -> EndpointRow:
    """The endpoint that the same transaction has locked."""
    row = await session.get(EndpointRow, made.row.endpoint_id)
    if row is None:
        raise NotFound("no such endpoint")
    return row


async def retire_webhook_secret(info: Info, input: RetireWebhookSecretInput) -> WebhookEndpointPayload:
    """A secret signs no more."""
    context, id = info.context, read_id(ENDPOINT, input.endpoint)

    async def change(session: AsyncSession) -> tuple[EndpointRow, MadeSecret | None]:
        secret_id = read_id(SECRET, input.secret)
        await secrets.retire_secret(session, id, secret_id, actor=context.actor, now=context.now)
        row = await session.get(EndpointRow, id)
        if row is None:
            raise NotFound("no such endpoint")
        return row, None

    return without_secret(await changed(info, change, "secret"))
