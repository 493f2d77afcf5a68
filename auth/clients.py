"""OAuth clients: registered, changed, given new secrets and stopped, each with its entry in the audit log."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import Caller, CallerKind
from auth.client_settings import ClientSettings, checked, settings_of
from auth.revocations import deny
from auth.tables import Client, ClientAuthentication, ClientSecret, ClientState, Denied
from partners import audit, catalogue
from partners.actors import SYSTEM, Actor, ActorKind
from partners.errors import BadInput, Conflict, NotFound
from partners.tables import Partner, PartnerState
from partners.tables.columns import new_id

SECRET_BYTES = 32
OVERLAP_MAX = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who changes clients. A partner's own reaches the partner's alone, and `scopes` is all that it may hand on, so
    that nobody makes a client, or takes one over, that may do more than they may themselves; None for no limit."""

    actor: Actor
    scopes: frozenset[str] | None = None

    def require(self, given: Iterable[str]) -> None:
        """BadInput names what the administrator itself lacks."""
        if self.scopes is not None and (missing := sorted(frozenset(given) - self.scopes)):
            raise BadInput(f"your own token lacks scopes of this client: {', '.join(missing)}", missingScopes=missing)

    @property
    def reach(self) -> sa.ColumnElement[bool]:
        """The clients that exist as far as it can see."""
        if self.actor.kind is ActorKind.PARTNER:
            return col(Client.partner_id) == self.actor.partner_id
        return sa.true()


async def register_client(
    session: AsyncSession, partner: Partner, name: str, scopes: Iterable[str], now: datetime
) -> tuple[Client, str]:
    """A partner's server with a secret, as the system makes it for demos and tests; see `create_client`."""
    client, secret = await create_client(
        session, partner.id, ClientSettings(name, frozenset(scopes)), Administrator(SYSTEM), now
    )
    assert secret is not None
    return client, secret


async def create_client(
    session: AsyncSession,
    partner_id: UUID | None,
    settings: ClientSettings,
    by: Administrator,
    now: datetime,
    *,
    kind: CallerKind = CallerKind.PARTNER,
) -> tuple[Client, str | None]:
    """A new client of a partner, or of the operator for members or staff (`kind`), and its secret if it proves itself
    by one: that is kept only as a hash and can't be shown again. BadInput says what can't be."""
    settings = checked(kind, settings)
    by.require(settings.scopes)
    client = Client(id=f"client_{new_id().hex}", partner_id=partner_id, kind=kind, created_at=now)
    _write(client, settings)
    session.add(client)
    await session.flush()
    await audit.record(session, "client.created", subject_of(client), by.actor, now)
    secret = await add_secret(session, client, now) if client.authentication == ClientAuthentication.SECRET else None
    return client, secret


async def update_client(
    session: AsyncSession, client_id: str, changes: Mapping[str, Any], by: Administrator, now: datetime
) -> Client:
    """A client with some of its settings changed; scopes that are taken away end at once, in live tokens too.

    NotFound out of reach; BadInput says what can't be.
    """
    client = await lock_client(session, client_id, by)
    former = settings_of(client)
    settings = checked(CallerKind(client.kind), replace(former, **changes))
    by.require(settings.scopes)
    changed = [one.name for one in fields(settings) if getattr(settings, one.name) != getattr(former, one.name)]
    if not changed:
        return client
    _write(client, settings)
    if former.scopes - settings.scopes:
        await _end_tokens(session, client, now)
    notes = [name.upper() for name in changed]
    await audit.record(session, "client.changed", subject_of(client), by.actor, now, notes=notes)
    return client


def _write(client: Client, settings: ClientSettings) -> None:
    for one in fields(settings):
        setattr(client, one.name, getattr(settings, one.name))
    client.scopes = sorted(settings.scopes)
    client.grant_types, client.redirect_uris = list(settings.grant_types), list(settings.redirect_uris)


async def set_client_state(
    session: AsyncSession, client_id: str, state: ClientState, by: Administrator, now: datetime
) -> Client:
    """Stops a client at once, live tokens and all, or lets it have new ones again. NotFound; Conflict when it is so
    already."""
    client = await lock_client(session, client_id, by)
    if client.state == state:
        raise Conflict(f"the client is {state}")
    client.state = state
    if state is ClientState.DISABLED:
        await _end_tokens(session, client, now)
    else:
        by.require(client.scopes)
    action = "client.disabled" if state is ClientState.DISABLED else "client.enabled"
    await audit.record(session, action, subject_of(client), by.actor, now)
    return client


async def rotate_secret(
    session: AsyncSession, client_id: str, overlap: timedelta, by: Administrator, now: datetime
) -> tuple[Client, str]:
    """A new secret, beside which the last one stays good for `overlap` (0 to 7 days), and none that is older.

    NotFound; Conflict for a client that has no secrets.
    """
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise BadInput(f"overlapSeconds: 0 to {int(OVERLAP_MAX.total_seconds())}")
    client = await lock_client(session, client_id, by)
    if client.authentication != ClientAuthentication.SECRET:
        raise Conflict("the client has no secret")
    by.require(client.scopes)
    live = await secrets_of(session, [client.id], now)
    kept = live[-1].id if live else None
    if live:
        live[-1].expires_at = min(live[-1].expires_at or now + overlap, now + overlap)
    await session.flush()
    others = sa.delete(ClientSecret).where(col(ClientSecret.client_id) == client.id)
    await session.execute(others if kept is None else others.where(col(ClientSecret.id) != kept))
    secret = await add_secret(session, client, now)
    await audit.record(session, "client.secret_rotated", subject_of(client), by.actor, now)
    return client, secret


async def add_secret(session: AsyncSession, client: Client, now: datetime) -> str:
    """One more secret for the client, valid beside the others; returned once, kept as a hash."""
    secret = f"perks_{secrets.token_urlsafe(SECRET_BYTES)}"
    session.add(ClientSecret(client_id=client.id, hash=sha256(secret.encode()).digest(), created_at=now))
    await session.flush()
    return secret


async def secrets_of(session: AsyncSession, client_ids: Sequence[str], now: datetime) -> list[ClientSecret]:
    """The secrets of these clients that are good now, the eldest first."""
    found = await session.scalars(
        sa.select(ClientSecret)
        .where(col(ClientSecret.client_id).in_(client_ids), is_good(now))
        .order_by(col(ClientSecret.created_at), col(ClientSecret.id))
    )
    return list(found)


def is_good(now: datetime | sa.BindParameter[datetime]) -> sa.ColumnElement[bool]:
    """The condition that a secret has not expired."""
    return sa.or_(col(ClientSecret.expires_at).is_(None), col(ClientSecret.expires_at) > now)


async def set_partner_state(
    session: AsyncSession, partner_id: UUID, state: PartnerState, actor: Actor, now: datetime
) -> None:
    """Suspends a partner with every token of its clients, or serves it again: then they may ask for new ones.

    NotFound; Conflict when it is so already.
    """
    await catalogue.set_partner_state(session, partner_id, state, actor=actor, now=now)
    if state is PartnerState.SUSPENDED:
        owned = sa.select(Client).where(col(Client.partner_id) == partner_id).order_by(col(Client.id))
        for client in (await session.scalars(owned.with_for_update(key_share=True))).all():
            await _end_tokens(session, client, now)


async def _end_tokens(session: AsyncSession, client: Client, now: datetime) -> None:
    """All that were minted so far; those to come carry the new version."""
    client.version += 1
    await session.flush()
    await deny(session, Denied.CLIENT, client.id, now, version=client.version)


async def lock_client(session: AsyncSession, client_id: str, by: Administrator) -> Client:
    """A client within reach, locked for change; NotFound.

    `key_share`: rows that name the client are made all the same, so that no two ever wait for each other.
    """
    found = sa.select(Client).where(col(Client.id) == client_id, by.reach).with_for_update(key_share=True)
    client = await session.scalar(found.execution_options(populate_existing=True))
    if client is None:
        raise NotFound("no such client")
    return client


async def list_clients(
    session: AsyncSession,
    by: Administrator,
    *,
    id: str | None = None,
    partner_id: UUID | None = None,
    first: int,
    after: str | None = None,
) -> list[tuple[Client, Partner | None]]:
    """Clients within reach, in the order they were made, each with its partner."""
    query = sa.select(Client, Partner).outerjoin(Partner, col(Partner.id) == col(Client.partner_id)).where(by.reach)
    if id is not None:
        query = query.where(col(Client.id) == id)
    if partner_id is not None:
        query = query.where(col(Client.partner_id) == partner_id)
    if after is not None:
        query = query.where(col(Client.id) > after)
    rows = await session.execute(query.order_by(col(Client.id)).limit(first))
    return [(client, partner) for client, partner in rows]


def subject_of(client: Client) -> audit.Subject:
    """A client as the subject of an audit entry."""
    try:
        id = UUID(hex=client.id.removeprefix("client_"))
    except ValueError:  # registered when ids were shorter
        id = None
    return audit.Subject(client.partner_id, subject_id=id)


def caller_of(client: Client, scopes: frozenset[str]) -> Caller:
    """The client as the caller that a token of it speaks for."""
    return Caller(CallerKind.PARTNER, client.id, scopes, client_id=client.id, partner_id=client.partner_id)
