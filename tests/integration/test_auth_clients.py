"""Partners' clients on the real database: who is recognised, who is not, and what is kept of a secret."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidClientError  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from auth.authentication import authenticate_by_secret
from auth.caller import CallerKind
from auth.clients import add_secret, caller_of, register_client
from auth.tables import Client, ClientSecret, ClientState
from partners import tables
from partners.errors import BadInput
from partners.tables import PartnerState
from tests.factories import Club

Sessions = async_sessionmaker[AsyncSession]
SCOPES = ["perks:read", "eligibility:read"]


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def registered(sessions: Sessions, partner: tables.Partner, now: datetime) -> tuple[Client, str]:
    async with sessions.begin() as session:
        return await register_client(session, partner, "back office", SCOPES, now)


async def change(sessions: Sessions, statement: sa.Update) -> None:
    async with sessions.begin() as session:
        await session.execute(statement)


async def refusal(sessions: Sessions, client_id: str, secret: str, now: datetime) -> str:
    async with sessions() as session:
        with pytest.raises(InvalidClientError) as refused:
            await authenticate_by_secret(session, client_id, secret, now)
    assert refused.value.status_code == 401
    return str(refused.value.description)


async def test_a_client_is_recognised_by_its_secret(
    sessions: Sessions, registered: tuple[Client, str], partner: tables.Partner, now: datetime
) -> None:
    client, secret = registered
    async with sessions() as session:
        known = await authenticate_by_secret(session, client.id, secret, now)
    assert (known.id, known.partner_id, known.scopes) == (client.id, partner.id, sorted(SCOPES))
    caller = caller_of(known, frozenset(["perks:read"]))
    assert (caller.kind, caller.id, caller.partner_id) == (CallerKind.PARTNER, client.id, partner.id)


async def test_nothing_of_the_secret_is_kept_but_a_hash(sessions: Sessions, registered: tuple[Client, str]) -> None:
    client, secret = registered
    async with sessions() as session:
        rows = (
            await session.execute(
                sa.text("SELECT c.*, s.* FROM client c JOIN client_secret s ON s.client_id = c.id WHERE c.id = :id"),
                {"id": client.id},
            )
        ).all()
    assert len(rows) == 1
    assert secret.removeprefix("perks_") not in str(rows)
    assert secret.removeprefix("perks_") not in repr(client)
    assert len(secret.removeprefix("perks_")) == 43  # 256 bits in base64url


async def test_an_unknown_client_and_a_wrong_secret_are_told_apart_by_nothing(
    sessions: Sessions, registered: tuple[Client, str], now: datetime
) -> None:
    client, secret = registered
    answers = {
        await refusal(sessions, client.id, secret + "x", now),
        await refusal(sessions, client.id, "", now),
        await refusal(sessions, "client_unknown", secret, now),
    }
    assert answers == {"unknown client or wrong secret"}


async def test_one_clients_secret_is_not_anothers(
    sessions: Sessions, registered: tuple[Client, str], partner: tables.Partner, now: datetime
) -> None:
    async with sessions.begin() as session:
        other, _ = await register_client(session, partner, "point of sale", SCOPES, now)
    assert await refusal(sessions, other.id, registered[1], now) == "unknown client or wrong secret"


async def test_a_disabled_client_is_refused_and_only_its_owner_hears_why(
    sessions: Sessions, registered: tuple[Client, str], now: datetime
) -> None:
    client, secret = registered
    await change(sessions, sa.update(Client).where(sa.column("id") == client.id).values(state=ClientState.DISABLED))
    assert await refusal(sessions, client.id, secret, now) == "the client is disabled"
    assert await refusal(sessions, client.id, "guess", now) == "unknown client or wrong secret"


async def test_a_client_of_a_suspended_partner_is_refused(
    sessions: Sessions, registered: tuple[Client, str], partner: tables.Partner, now: datetime
) -> None:
    client, secret = registered
    suspended = sa.update(tables.Partner).where(sa.column("id") == partner.id).values(state=PartnerState.SUSPENDED)
    await change(sessions, suspended)
    assert await refusal(sessions, client.id, secret, now) == "the partner is suspended"


async def test_two_secrets_are_good_beside_each_other_until_one_expires(
    sessions: Sessions, registered: tuple[Client, str], now: datetime
) -> None:
    client, old = registered
    expires = (
        sa.update(ClientSecret).where(sa.column("client_id") == client.id).values(expires_at=now + timedelta(days=1))
    )
    await change(sessions, expires)
    async with sessions.begin() as session:
        new = await add_secret(session, client, now)
    async with sessions() as session:
        for secret in (old, new):
            assert (await authenticate_by_secret(session, client.id, secret, now)).id == client.id
        later = now + timedelta(days=1)
        assert (await authenticate_by_secret(session, client.id, new, later)).id == client.id
    assert await refusal(sessions, client.id, old, later) == "unknown client or wrong secret"


@pytest.mark.parametrize(
    ("name", "scopes", "complaint"),
    [
        ("", SCOPES, "1 to 200 characters"),
        ("x" * 201, SCOPES, "1 to 200 characters"),
        ("till", [], "at least one scope"),
        ("till", ["me:read", "perks:read", "perks:eat"], "unknown scopes for a partner: me:read, perks:eat"),
    ],
)
async def test_an_impossible_client_is_refused_with_the_reason(
    sessions: Sessions, partner: tables.Partner, now: datetime, name: str, scopes: Sequence[str], complaint: str
) -> None:
    async with sessions() as session:
        with pytest.raises(BadInput, match=complaint):
            await register_client(session, partner, name, scopes, now)
