"""Well-known OAuth clients of Python that others wrote, through a code flow to its end; npm's are in the long tests."""

import asyncio
import secrets
import warnings
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from oauthlib.oauth2 import BackendApplicationClient, InvalidGrantError  # type: ignore[import-untyped]
from requests_oauthlib import OAuth2Session  # type: ignore[import-untyped]

from auth import authorization
from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.tables import BrowserSession, GrantType
from partners import tables
from partners.actors import SYSTEM
from tests.api import Api
from tests.factories import Club

BACK = "https://app.example/back"
SCOPES = ["eligibility:read", "member.tier:read"]


async def registered(club: Club, partner: tables.Partner) -> tuple[str, str]:
    """A confidential client of the partner that asks members: its id and secret."""
    settings = ClientSettings(
        "A shop",
        frozenset(SCOPES),
        grant_types=(GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN, GrantType.CLIENT_CREDENTIALS),
        redirect_uris=(BACK,),
    )
    async with club.database.sessions.begin() as session:
        client, secret = await create_client(
            session, partner.id, settings, Administrator(SYSTEM), club.now, kind=CallerKind.PARTNER
        )
    assert secret is not None
    return client.id, secret


async def answered(live: Api, member: tables.Member, address: str) -> str:
    """Where the browser of a member who says yes ends, after the app sent it to `address`."""
    service, now = live.service, live.service.clock()
    person = BrowserSession(
        hash=secrets.token_bytes(32),
        kind=CallerKind.MEMBER,
        subject=str(member.id),
        name="Ines",
        member_id=member.id,
        created_at=now,
        expires_at=now + timedelta(hours=8),
    )
    async with service.database.sessions.begin() as session:
        asked = dict(parse_qsl(urlsplit(address).query))
        request = await authorization.begin(session, asked, service.authority.issuer, now)
        return await authorization.allow(
            session,
            request.id,
            person,
            pairwise_key=service.keys.pairwise,
            issuer=service.authority.issuer,
            now=now,
        )


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """oauthlib speaks https alone unless it is told that this is a test."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.mark.usefixtures("plain_http")
async def test_requests_oauthlib_goes_from_question_to_refresh(live: Api, club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    client_id, secret = await registered(club, partner)
    issuer = live.service.authority.issuer
    session = OAuth2Session(client_id, scope=SCOPES, redirect_uri=BACK, pkce="S256")
    address, _ = session.authorization_url(f"{issuer}/oauth/authorize")
    back = await answered(live, member, address)

    def rest() -> tuple[dict[str, Any], int, dict[str, Any]]:
        with session:
            first = session.fetch_token(
                f"{issuer}/oauth/token", authorization_response=back, client_secret=secret, include_client_id=True
            )
            viewer = session.post(f"{issuer}/graphql", json={"query": "{ viewer { kind } }"})
            refreshed = session.refresh_token(f"{issuer}/oauth/token", auth=(client_id, secret))
            with pytest.raises(InvalidGrantError):
                session.fetch_token(
                    f"{issuer}/oauth/token", authorization_response=back, client_secret=secret, include_client_id=True
                )
        return first, viewer.json()["data"]["viewer"]["kind"], refreshed

    first, kind, refreshed = await asyncio.to_thread(rest)
    assert (sorted(first["scope"]), kind) == (SCOPES, "PARTNER")
    assert refreshed["access_token"] != first["access_token"]


@pytest.mark.usefixtures("plain_http")
async def test_requests_oauthlib_speaks_for_a_machine(live: Api, club: Club) -> None:
    client_id, secret = await registered(club, await club.partner())

    def fetched() -> dict[str, Any]:
        with OAuth2Session(client=BackendApplicationClient(client_id)) as session:
            token: dict[str, Any] = session.fetch_token(
                f"{live.service.authority.issuer}/oauth/token", auth=(client_id, secret), scope=SCOPES[:1]
            )
            return token

    assert (await asyncio.to_thread(fetched))["scope"] == SCOPES[:1]


async def test_authlibs_client_goes_from_question_to_revocation(live: Api, club: Club) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Authlib would rather have httpx2
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
    partner, member = await club.partner(), await club.member()
    client_id, secret = await registered(club, partner)
    issuer = live.service.authority.issuer
    verifier = secrets.token_urlsafe(48)
    async with AsyncOAuth2Client(
        client_id, secret, scope=" ".join(SCOPES), redirect_uri=BACK, code_challenge_method="S256"
    ) as client:
        address, state = client.create_authorization_url(f"{issuer}/oauth/authorize", code_verifier=verifier)
        back = await answered(live, member, address)
        first = await client.fetch_token(
            f"{issuer}/oauth/token", authorization_response=back, state=state, code_verifier=verifier
        )
        assert sorted(first["scope"].split()) == SCOPES
        again = await client.refresh_token(f"{issuer}/oauth/token", refresh_token=first["refresh_token"])
        told = (await client.introspect_token(f"{issuer}/oauth/introspect", token=again["access_token"])).json()
        assert (told["active"], told["client_id"]) == (True, client_id)
        ended = await client.revoke_token(f"{issuer}/oauth/revoke", token=first["refresh_token"])
        assert ended.status_code == 200
        told = (await client.introspect_token(f"{issuer}/oauth/introspect", token=again["access_token"])).json()
        assert told == {"active": False}
