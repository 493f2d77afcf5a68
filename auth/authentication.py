"""Which client is asking: by its secret, by an assertion signed with its key, or by its word where it is public."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import unquote_plus

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError  # type: ignore[import-untyped]
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.requests import Request

from auth.assertions import Assertion, check_assertion, read_assertion
from auth.clients import is_good
from auth.forms import CONTROL
from auth.tables import Client, ClientAuthentication, ClientSecret, ClientState
from partners.tables import Partner, PartnerState
from partners.values import value

HOW_TO = "authenticate with HTTP Basic, with client_id and client_secret in the body, or with an assertion"


class Method(StrEnum):
    """The ways in which a client can prove who it is, in the words of the RFCs; `none` proves nothing."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    KEY = "private_key_jwt"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client offers as proof of who it is: a secret, an assertion, or nothing."""

    method: Method
    client_id: str
    secret: str = field(default="", repr=False)
    assertion: Assertion | None = field(default=None, repr=False)


def read_credentials(request: Request, form: Mapping[str, str]) -> Credentials:
    """How the client proves who it is, in exactly one way (RFC 6749 section 2.3, RFC 7521 section 4.2)."""
    headers = request.headers.getlist("authorization")
    client_id, secret = form.get("client_id"), form.get("client_secret")
    by_assertion = "client_assertion" in form or "client_assertion_type" in form
    if len(headers) + (secret is not None) + by_assertion > 1:
        raise InvalidRequestError("authenticate the client in one way only")
    if headers:
        basic = _basic_credentials(headers[0])
        if client_id not in (None, basic.client_id):
            raise InvalidRequestError("client_id is not the client of the Authorization header")
        return basic
    if by_assertion:
        assertion = read_assertion(form)
        return Credentials(Method.KEY, assertion.client_id, assertion=assertion)
    if client_id is None:
        raise _unproven(HOW_TO)
    return Credentials(Method.NONE, client_id) if secret is None else Credentials(Method.POST, client_id, secret)


def _basic_credentials(header: str) -> Credentials:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise _unproven("the Authorization header of a client must be HTTP Basic")
    try:
        before, _, after = b64decode(encoded, validate=True).decode().partition(":")
        client_id, secret = unquote_plus(before, errors="strict"), unquote_plus(after, errors="strict")
    except ValueError:
        raise _unproven("the HTTP Basic credentials are not Base64 of UTF-8") from None
    if not client_id or not secret or CONTROL.search(client_id):
        raise _unproven("the HTTP Basic credentials are not client_id:client_secret")
    return Credentials(Method.BASIC, client_id, secret)


async def authenticate(session: AsyncSession, cache: Redis, offered: Credentials, issuer: str, now: datetime) -> Client:
    """The active client whose partner, if it has one, is active, by the one method that it is registered for.

    InvalidClientError (RFC 6749 section 5.2) otherwise. An unknown client and a wrong secret take the same steps and
    give the same answer; only who has proved to be the client hears that it is disabled or its partner suspended.
    Unavailable while an assertion can't be known to be new.
    """
    if offered.method in (Method.BASIC, Method.POST):
        return await authenticate_by_secret(session, offered.client_id, offered.secret, now)
    found = await _find(session, offered.client_id, now)
    if offered.assertion is not None:
        # Gives the connection back: Valkey may be slow, and others need it.
        await session.commit()
        await check_assertion(cache, None if found is None else found.client, offered.assertion, issuer, now)
    elif found is None or found.client.authentication != ClientAuthentication.NONE:
        raise _unproven(HOW_TO)
    assert found is not None
    return found.active()


async def authenticate_by_secret(session: AsyncSession, client_id: str, secret: str, now: datetime) -> Client:
    """The same for a client with a secret."""
    found, digest = await _find(session, client_id, now), sha256(secret.encode()).digest()
    matches = [compare_digest(known, digest) for known in (() if found is None else found.hashes)]
    if found is None or not any(matches) or found.client.authentication != ClientAuthentication.SECRET:
        raise _unproven("unknown client or wrong secret")
    return found.active()


@value
class _Found:
    client: Client
    partner_state: str | None
    hashes: list[bytes]

    def active(self) -> Client:
        if self.client.state != ClientState.ACTIVE:
            raise _unproven("the client is disabled")
        if self.partner_state not in (None, PartnerState.ACTIVE):
            raise _unproven("the partner is suspended")
        return self.client


# Made once: to build a statement costs more than to send it.
_NOW: sa.BindParameter[datetime] = sa.bindparam("now", type_=sa.DateTime(timezone=True))
_BY_ID = (
    sa.select(Client, col(Partner.state), sa.func.array_remove(sa.func.array_agg(col(ClientSecret.hash)), None))
    .outerjoin(Partner, col(Partner.id) == col(Client.partner_id))
    .outerjoin(ClientSecret, (col(ClientSecret.client_id) == col(Client.id)) & is_good(_NOW))
    .where(col(Client.id) == sa.bindparam("client_id", type_=sa.Text))
    .group_by(col(Client.id), col(Partner.id))
)


async def _find(session: AsyncSession, client_id: str, now: datetime) -> _Found | None:
    row = (await session.execute(_BY_ID, {"client_id": client_id, "now": now})).one_or_none()
    return None if row is None else _Found(*row)


def _unproven(description: str) -> InvalidClientError:
    return InvalidClientError(description, status_code=401)
