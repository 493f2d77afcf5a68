"""Webhooks: where a partner wants to be told, what of, with which secrets, and how that goes."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from partners import catalogue, tables
from partners.tables import EndpointState, SecretKind
from partners.webhooks import reach, reading, secrets
from partners.webhooks.events import EVENTS, When
from partners.webhooks.reading import Backlog
from schema.catalogue import Partner
from schema.context import Info
from schema.ids import ENDPOINT, SECRET, read_id, show_id
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Partners, Staff, field, object_type
from schema.references import PartnerBy
from schema.selection import selected

NOBODY = UUID(int=0)
MAY_MANAGE_WEBHOOKS = Partners("webhooks:manage")
MAY_SEE_WEBHOOKS = MAY_MANAGE_WEBHOOKS | Staff("partners:admin")

strawberry.enum(EndpointState, name="WebhookEndpointState", description="A disabled endpoint is told nothing.")
strawberry.enum(
    SecretKind,
    name="WebhookSecretKind",
    description="How messages are signed (Standard Webhooks 1.0): HMAC by a shared secret, `v1`; ED25519 by a key "
    "whose private half is ours, `v1a`.",
)
strawberry.enum(
    When,
    name="WebhookTiming",
    description="AT_ONCE, or STAGGERED: at some moment of the next 24 hours, with the day alone. OWN: at once where "
    "you did it yourself, BY_HAND: where you or the member did; staggered otherwise.",
)


@object_type(permission=MAY_SEE_WEBHOOKS, description="What you can be told of.")
class WebhookEventType:
    type: str = field(description="Its name, as `perk.claimed`.")
    description: str = field(description="What has happened then.")
    about: str | None = field(description="What its data are about beside the perk or the partner, as `redemption`.")
    timing: When = field(description="When you are told.")


@object_type(permission=MAY_SEE_WEBHOOKS, description="What signs messages of an endpoint. All that are good now do.")
class WebhookSecret:
    id: strawberry.ID = field(description="Names it for `retireWebhookSecret`.")
    kind: SecretKind = field(description="How it signs.")
    public_key: str | None = field(description="`whpk_…`, what ED25519 is verified with; null for HMAC.")
    created_at: datetime = field(description="Since when it signs.")
    retires_at: datetime | None = field(description="Until when; null: until it is retired.")

    @classmethod
    def of(cls, row: tables.WebhookSecret) -> "WebhookSecret":
        """A secret without what is secret of it."""
        return cls(
            id=strawberry.ID(show_id(SECRET, row.id)),
            kind=SecretKind(row.kind),
            public_key=row.public,
            created_at=row.created_at,
            retires_at=row.retires_at,
        )


@object_type(permission=MAY_SEE_WEBHOOKS, description="What an endpoint was not told yet.")
class WebhookBacklog:
    pending: int = field(description="Messages that are going to be sent, by themselves.")
    parked: int = field(description="Messages that were given up: they are sent again when you replay them.")
    oldest_at: datetime | None = field(description="Since when the eldest that is pending is due.")

    @classmethod
    def of(cls, backlog: Backlog) -> "WebhookBacklog":
        """The figures of one endpoint."""
        return cls(pending=backlog.pending, parked=backlog.parked, oldest_at=backlog.oldest_at)


@object_type(permission=MAY_SEE_WEBHOOKS, description="An address of a partner that is told of what happens.")
class WebhookEndpoint(Node):
    partner: Partner | None = field(description="Whose it is.")
    url: str = field(description="Where messages are sent.")
    description: str = field(description="What it is, for people.")
    events: list[str] = field(description="The types of event that it is told of; empty: all.")
    state: EndpointState = field(description="Whether it is told anything.")
    reason: str | None = field(description="Why it is disabled.")
    failures: int = field(description="Attempts that failed one after another until now.")
    failing_since: datetime | None = field(description="Since when none has succeeded; null: the last one did.")
    paused_until: datetime | None = field(description="Nothing is tried before, after many failures in a row.")
    secrets: list[WebhookSecret] = field(description="What signs its messages now, the eldest first.")
    backlog: WebhookBacklog = field(description="What it was not told yet.")
    created_at: datetime = field(description="When it was registered.")


async def show_endpoints(
    info: Info, session: AsyncSession, rows: Sequence[tables.WebhookEndpoint]
) -> list[WebhookEndpoint]:
    """Endpoints with what is selected beside them: at most one statement each for secrets, backlogs and partners."""
    names, ids, now = selected(info), [row.id for row in rows], info.context.now
    signing = await secrets.secrets_of(session, ids, now) if "secrets" in names and ids else {}
    backlogs = await reading.backlogs(session, ids, now) if "backlog" in names and ids else {}
    owners = dict[UUID, Partner]()
    if "partner" in names and ids:
        wanted = {row.partner_id for row in rows}
        found = await catalogue.list_partners(session, info.context.actor, ids=wanted, first=len(wanted), after=None)
        owners = {row.id: Partner.of(row) for row in found}
    return [endpoint_of(row, signing.get(row.id, ()), backlogs.get(row.id), owners.get(row.partner_id)) for row in rows]


def endpoint_of(
    row: tables.WebhookEndpoint,
    secrets: Sequence[tables.WebhookSecret],
    backlog: Backlog | None,
    partner: Partner | None,
) -> WebhookEndpoint:
    """One endpoint as its partner sees it."""
    return WebhookEndpoint(
        id=strawberry.ID(show_id(ENDPOINT, row.id)),
        partner=partner,
        url=row.url,
        description=row.description,
        events=row.actions,
        state=EndpointState(row.state),
        reason=row.reason,
        failures=row.failures,
        failing_since=row.failing_since,
        paused_until=row.retry_at,
        secrets=[WebhookSecret.of(one) for one in secrets],
        backlog=WebhookBacklog(pending=0, parked=0, oldest_at=None) if backlog is None else WebhookBacklog.of(backlog),
        created_at=row.created_at,
    )


async def load_endpoint(info: Info, id: UUID) -> WebhookEndpoint | None:
    """One endpoint within the caller's sight."""
    async with info.context.reading() as session:
        rows = await reach.list_endpoints(session, info.context.actor, id=id, first=1, after=None)
        shown = await show_endpoints(info, session, rows)
    return shown[0] if shown else None


async def find_webhook_endpoint(info: Info, id: strawberry.ID) -> WebhookEndpoint | None:
    """The same by its global id."""
    return await load_endpoint(info, read_id(ENDPOINT, id))


async def find_webhook_endpoints(
    info: Info, partner: PartnerBy | None = None, first: int | None = None, after: str | None = None
) -> Connection[WebhookEndpoint]:
    """A page of endpoints within the caller's sight, in the order they were made."""
    context, size, owner = info.context, page_size(first), None
    async with context.reading() as session:
        if partner is not None:
            id, handle = partner.names()
            owners = await catalogue.list_partners(session, context.actor, id=id, handle=handle, first=1, after=None)
            owner = owners[0].id if owners else NOBODY
        rows = await reach.list_endpoints(
            session, context.actor, partner_id=owner, first=size + 1, after=read_cursor(after)
        )
        shown = {row.id: one for row, one in zip(rows, await show_endpoints(info, session, rows), strict=True)}
    page: Connection[WebhookEndpoint] = connect(
        rows, size, after, id_of=lambda row: row.id, node_of=lambda row: shown[row.id]
    )
    return page


def find_webhook_event_types(_: Info) -> list[WebhookEventType]:
    """The closed list, in the order of docs/webhooks.md."""
    return [
        WebhookEventType(type=one.type, description=one.sentence, about=one.about, timing=one.when)
        for one in EVENTS.values()
    ]
