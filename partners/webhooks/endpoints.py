"""A partner's endpoints: where it is told, of what, and with what it knows that it was us."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.actors import SYSTEM, Actor, ActorKind
from partners.errors import BadInput, Conflict, NotFound
from partners.keys import Keys
from partners.outside_addresses import PrivateTargets, read_url
from partners.tables import EndpointState, SecretKind, WebhookEndpoint
from partners.values import value
from partners.webhooks.events import EVENTS, TESTED, public_id
from partners.webhooks.reach import lock_endpoint, put_on_record
from partners.webhooks.secrets import MadeSecret, keep_secret
from partners.webhooks.signing import new_secret

ENDPOINTS_MAX = 10
DESCRIPTION_LENGTH_MAX = 200
PUBLIC_ONLY = PrivateTargets()
GONE = "GONE"
"""Why an endpoint is disabled that answered 410."""


@value
class EndpointSettings:
    """What its partner decides: the address, a word for people, and the types of events; none named is all."""

    url: str
    description: str = ""
    events: Collection[str] = ()

    def checked(self, private: PrivateTargets) -> "EndpointSettings":
        """The same in one form; BadInput says what can't be, and URL_REFUSED which addresses (outside_addresses.py)."""
        target, description = read_url(self.url, private), self.description.strip()
        if len(description) > DESCRIPTION_LENGTH_MAX or not description.isprintable():
            raise BadInput(f"description: at most {DESCRIPTION_LENGTH_MAX} printable characters")
        if unknown := sorted(set(self.events) - EVENTS.keys()):
            raise BadInput(f"events: there is no {', no '.join(unknown)}", unknownEvents=unknown)
        return EndpointSettings(target.url, description, sorted(set(self.events)))


async def create_endpoint(
    session: AsyncSession,
    partner_id: UUID,
    settings: EndpointSettings,
    *,
    keys: Keys,
    actor: Actor,
    now: datetime,
    private: PrivateTargets = PUBLIC_ONLY,
) -> tuple[WebhookEndpoint, MadeSecret]:
    """A new endpoint, with a shared secret, of a partner in the actor's reach; told of what is logged from now on.

    NotFound; Conflict for an eleventh; BadInput.
    """
    settings = settings.checked(private)
    if actor.kind is ActorKind.PARTNER and actor.partner_id != partner_id:
        raise NotFound("no such partner")
    if await session.get(tables.Partner, partner_id, with_for_update=True) is None:
        raise NotFound("no such partner")
    count = select(sa.func.count()).where(WebhookEndpoint.partner_id == partner_id)
    if (await session.scalar(count) or 0) >= ENDPOINTS_MAX:
        raise Conflict(f"a partner has at most {ENDPOINTS_MAX} endpoints")
    endpoint = WebhookEndpoint(
        partner_id=partner_id,
        url=settings.url,
        description=settings.description,
        actions=list(settings.events),
        since=await log_size(session),
        created_by=actor.owner,
        created_at=now,
    )
    session.add(endpoint)
    await session.flush()
    await put_on_record(session, "endpoint_created", endpoint, actor, now)
    return endpoint, await keep_secret(session, endpoint, new_secret(SecretKind.HMAC), keys, now)


async def log_size(session: AsyncSession) -> int:
    """How far the log is. No messages are made meanwhile, so that none is missed between one reading and the other."""
    await session.execute(select(tables.WebhookCursor.index).with_for_update(read=True))
    return await session.scalar(select(tables.LogHead.size)) or 0


async def change_endpoint(
    session: AsyncSession,
    endpoint_id: UUID,
    changes: Mapping[str, Any],
    *,
    actor: Actor,
    now: datetime,
    private: PrivateTargets = PUBLIC_ONLY,
) -> WebhookEndpoint:
    """An endpoint with some of `EndpointSettings` changed. Another address begins with a clean slate, and other events
    are told from now on. NotFound, BadInput."""
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    former = EndpointSettings(endpoint.url, endpoint.description, endpoint.actions)
    settings = EndpointSettings(**(asdict(former) | dict(changes))).checked(private)
    if settings == EndpointSettings(former.url, former.description, sorted(former.events)):
        return endpoint
    if settings.url != former.url:
        await begin_anew(session, endpoint, now)
    if list(settings.events) != list(former.events):
        # All before the cursor was told under the former list.
        cursor = await session.scalar(select(tables.WebhookCursor.index).with_for_update(read=True))
        endpoint.since = max(endpoint.since, cursor or 0)
    endpoint.url, endpoint.description, endpoint.actions = settings.url, settings.description, list(settings.events)
    endpoint.version += 1
    changed = [name.upper() for name, now_is in asdict(settings).items() if now_is != asdict(former)[name]]
    await put_on_record(session, "endpoint_changed", endpoint, actor, now, changed)
    return endpoint


async def set_endpoint_state(
    session: AsyncSession, endpoint_id: UUID, state: EndpointState, *, actor: Actor, now: datetime
) -> WebhookEndpoint:
    """Stops an endpoint, or lets it be told again: of what waited when it was stopped, and of what is logged from now
    on; what is between can be replayed. NotFound; Conflict when it is so already."""
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    if endpoint.state == state:
        raise Conflict(f"the endpoint is {state}")
    if state is EndpointState.ENABLED:
        endpoint.since = await log_size(session)
        await begin_anew(session, endpoint, now)
    endpoint.state, endpoint.reason, endpoint.version = state, None, endpoint.version + 1
    action = "endpoint_disabled" if state is EndpointState.DISABLED else "endpoint_enabled"
    await put_on_record(session, action, endpoint, actor, now)
    return endpoint


async def begin_anew(session: AsyncSession, endpoint: WebhookEndpoint, now: datetime) -> None:
    """Forgets how the endpoint failed: what waits for another attempt has waited enough."""
    endpoint.failures, endpoint.failing_since, endpoint.retry_at = 0, None, None
    message = tables.WebhookMessage
    waits = sa.and_(col(message.state) == "PENDING", col(message.attempts) > 0, col(message.leased_until).is_(None))
    hurry = sa.update(message).where(col(message.endpoint_id) == endpoint.id, waits, col(message.due_at) > now)
    await session.execute(hurry.values(due_at=now, pending_since=now).execution_options(synchronize_session=False))


async def disable_gone(session: AsyncSession, endpoint_id: UUID, version: int, now: datetime) -> bool:
    """Stops an endpoint that answered 410, unless it was changed since what it answered to was sent."""
    endpoint = await session.get(WebhookEndpoint, endpoint_id, with_for_update=True, populate_existing=True)
    if endpoint is None or endpoint.version != version or endpoint.state != EndpointState.ENABLED:
        return False
    endpoint.state, endpoint.reason, endpoint.version = EndpointState.DISABLED, GONE, version + 1
    await put_on_record(session, "endpoint_disabled", endpoint, SYSTEM, now, [GONE])
    return True


async def delete_endpoint(session: AsyncSession, endpoint_id: UUID, *, actor: Actor, now: datetime) -> None:
    """Takes an endpoint away with its secrets; its messages are pruned. NotFound."""
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    await put_on_record(session, "endpoint_deleted", endpoint, actor, now)
    await session.delete(endpoint)
    await session.flush()


async def test_endpoint(session: AsyncSession, endpoint_id: UUID, *, keys: Keys, actor: Actor, now: datetime) -> UUID:
    """Puts a `webhook.tested` on record, which goes the way of everything else, to this endpoint alone; the public id
    of the message. NotFound; Conflict for an endpoint that is disabled."""
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    if endpoint.state != EndpointState.ENABLED:
        raise Conflict(f"the endpoint is {endpoint.state}")
    leaf_hash = await put_on_record(session, TESTED.partition(".")[2], endpoint, actor, now)
    entry = tables.AuditEntry
    found = select(entry.id).where(entry.subject_id == endpoint_id, entry.leaf_hash == leaf_hash)
    entry_id = await session.scalar(found.order_by(col(entry.id).desc()).limit(1))
    assert entry_id is not None
    return public_id(keys, entry_id)
