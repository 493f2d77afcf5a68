"""Partners' OAuth clients: registered with a secret shown once, and recognised by it."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidClientError  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import Caller, CallerKind
from auth.scopes import require_scopes_of
from auth.tables import Client, ClientSecret, ClientState, GrantType
from partners.errors import BadInput
from partners.tables import Partner, PartnerState

SECRET_BYTES = 32
NAME_CHARACTERS_MAX = 200


async def register_client(
    session: AsyncSession, partner: Partner, name: str, scopes: Iterable[str], now: datetime
) -> tuple[Client, str]:
    """A new client of the partner and its secret, which is kept only as a hash and can't be shown again.

    BadInput names every unknown scope.
    """
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX:
        raise BadInput(f"a client's name has 1 to {NAME_CHARACTERS_MAX} characters")
    granted = sorted(require_scopes_of(CallerKind.PARTNER, scopes))
    if not granted:
        raise BadInput("a client needs at least one scope")
    client_id = f"client_{secrets.token_hex(12)}"
    client = Client(
        id=client_id,
        partner_id=partner.id,
        name=name,
        scopes=granted,
        grant_types=[GrantType.CLIENT_CREDENTIALS],
        created_at=now,
    )
    session.add(client)
    await session.flush()
    return client, await add_secret(session, client, now)


async def add_secret(session: AsyncSession, client: Client, now: datetime) -> str:
    """One more secret for the client, valid beside the others; returned once, kept as a hash."""
    secret = f"perks_{secrets.token_urlsafe(SECRET_BYTES)}"
    session.add(ClientSecret(client_id=client.id, hash=sha256(secret.encode()).digest(), created_at=now))
    await session.flush()
    return secret


async def authenticate_client(session: AsyncSession, client_id: str, secret: str, now: datetime) -> Client:
    """The active client of an active partner whose secret this is, in one statement.

    InvalidClientError (RFC 6749 section 5.2) otherwise. An unknown client and a wrong secret take the same steps and
    give the same answer; only who knows the secret hears that the client is disabled or its partner suspended.
    """
    offered = sha256(secret.encode()).digest()
    unexpired = sa.or_(col(ClientSecret.expires_at).is_(None), col(ClientSecret.expires_at) > now)
    found = await session.execute(
        sa.select(Client, col(Partner.state), col(ClientSecret.hash))
        .join(Partner, col(Partner.id) == col(Client.partner_id))
        .join(ClientSecret, col(ClientSecret.client_id) == col(Client.id))
        .where(col(Client.id) == client_id, unexpired)
    )
    proven = [(client, state) for client, state, known in found if compare_digest(known, offered)]
    if not proven:
        raise InvalidClientError("unknown client or wrong secret", status_code=401)
    client, partner_state = proven[0]
    if client.state != ClientState.ACTIVE:
        raise InvalidClientError("the client is disabled", status_code=401)
    if partner_state != PartnerState.ACTIVE:
        raise InvalidClientError("the partner is suspended", status_code=401)
    return client


def caller_of(client: Client, scopes: frozenset[str]) -> Caller:
    """The client as the caller that a token of it speaks for."""
    return Caller(CallerKind.PARTNER, client.id, scopes, client_id=client.id, partner_id=client.partner_id)
