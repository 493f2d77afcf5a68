"""The authorization server as clients and persons go through it, at a time that a test moves as it likes."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.applications import Starlette

from auth import authorization
from auth.authorization import RedirectError
from auth.caller import Caller, CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.dpop import Proofs
from auth.keys import KeyRing, ensure_signing_key
from auth.revocations import DenySet
from auth.routes import routes
from auth.server import Foundation
from auth.tables import Approval, BrowserSession, Client, ClientAuthentication, GrantType
from auth.tokens import Authority, TokenVerifier
from partners import tables
from partners.actors import SYSTEM
from partners.keys import derive_keys

HERE = Authority("https://perks.example", "https://perks.example/graphql", "https://perks.example/staff")
BACK = "https://app.example/back?kept=a%2Fb"
WEB = (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN)
BOUND = "eligibility:read member.tier:read"


class Uncounted:
    """Budgets that never end, for tests that are wrong more often than anybody may be."""

    async def succeeded(self) -> None: ...

    async def give_back(self) -> None: ...

    async def client(self, client_id: str, address: str) -> "Uncounted":
        return self

    async def user_code(self, person: str, address: str) -> "Uncounted":
        return self

    async def sign_in(self, address: str) -> "Uncounted":
        return self

    async def hold_code(self, client_id: str) -> None: ...

    async def right_hold_code(self, client_id: str) -> None: ...


@dataclass
class Clock:
    """The time, as a test says."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.at

    def wait(self, **units: float) -> None:
        self.at += timedelta(**units)


@dataclass(frozen=True)
class App:
    """A client as it knows itself."""

    id: str
    secret: str | None

    @property
    def proof(self) -> dict[str, str]:
        """How it proves who it is, in a form."""
        return {"client_id": self.id} | ({} if self.secret is None else {"client_secret": self.secret})


@dataclass(frozen=True)
class Code:
    """A code with what its client kept for it."""

    code: str
    verifier: str
    redirect_uri: str = BACK

    @property
    def form(self) -> dict[str, str]:
        return {
            "grant_type": "authorization_code",
            "code": self.code,
            "code_verifier": self.verifier,
            "redirect_uri": self.redirect_uri,
        }


@dataclass
class Flows:
    """The server, and the ways through it."""

    foundation: Foundation
    clock: Clock
    http: httpx.AsyncClient

    @property
    def now(self) -> datetime:
        return self.clock.at

    async def app(
        self,
        partner: tables.Partner | None,
        scopes: str = BOUND,
        *,
        kind: CallerKind = CallerKind.PARTNER,
        grants: tuple[GrantType, ...] = WEB,
        redirect_uris: tuple[str, ...] = (BACK,),
        **settings: Any,
    ) -> App:
        chosen = ClientSettings(
            "an app",
            frozenset(scopes.split()),
            grant_types=grants,
            redirect_uris=redirect_uris if GrantType.AUTHORIZATION_CODE in grants else (),
            **settings,
        )
        async with self.foundation.sessions.begin() as session:
            partner_id = None if partner is None else partner.id
            client, secret = await create_client(
                session, partner_id, chosen, Administrator(SYSTEM), self.now, kind=kind
            )
            return App(client.id, secret)

    async def public_app(self, partner: tables.Partner | None, scopes: str = BOUND, **settings: Any) -> App:
        return await self.app(partner, scopes, authentication=ClientAuthentication.NONE, **settings)

    async def person(
        self,
        kind: CallerKind,
        *scopes: str,
        member: tables.Member | None = None,
        partner: tables.Partner | None = None,
    ) -> BrowserSession:
        """Somebody who has just signed in."""
        row = BrowserSession(
            hash=secrets.token_bytes(32),
            kind=kind,
            subject=str(member.id) if member is not None else f"person-{secrets.token_hex(4)}",
            name="Somebody",
            member_id=None if member is None else member.id,
            partner_id=None if partner is None else partner.id,
            scopes=list(scopes),
            created_at=self.now,
            expires_at=self.now + timedelta(hours=8),
        )
        async with self.foundation.sessions.begin() as session:
            session.add(row)
        return row

    async def member(self, member: tables.Member, *scopes: str) -> BrowserSession:
        return await self.person(CallerKind.MEMBER, *scopes, member=member)

    def asking(self, app: App, verifier: str = "v" * 43, /, **changed: str | None) -> dict[str, str]:
        """An authorization request that is right; None leaves a parameter out."""
        asked = {
            "client_id": app.id,
            "response_type": "code",
            "redirect_uri": BACK,
            "state": "a state/?&",
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        } | changed
        return {name: value for name, value in asked.items() if value is not None}

    async def begin(self, parameters: Mapping[str, str]) -> UUID:
        async with self.foundation.sessions.begin() as session:
            request = await authorization.begin(session, parameters, HERE.issuer, self.now)
            return request.id

    async def refusal(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """What the client is told instead of a question."""
        try:
            await self.begin(parameters)
        except RedirectError as refused:
            return answer(refused.url)
        raise AssertionError("it was not refused")

    async def allow(self, request_id: UUID, person: BrowserSession) -> str:
        async with self.foundation.sessions.begin() as session:
            return await authorization.allow(
                session,
                request_id,
                person,
                pairwise_key=self.foundation.keys.pairwise,
                issuer=HERE.issuer,
                now=self.now,
            )

    async def push(self, app: App, form: Mapping[str, str], **options: Any) -> httpx.Response:
        return await self.http.post("/oauth/par", data={**form, **app.proof}, **options)

    async def code(self, app: App, person: BrowserSession, **changed: str | None) -> Code:
        """A code by a pushed request and a person's yes."""
        verifier = secrets.token_urlsafe(48)
        asked = self.asking(app, verifier, **changed)
        pushed = await self.push(app, asked)
        assert pushed.status_code == 201, pushed.text
        request_id = await self.begin({"client_id": app.id, "request_uri": pushed.json()["request_uri"]})
        told = answer(await self.allow(request_id, person))
        return Code(told["code"], verifier, asked["redirect_uri"])

    async def post(self, app: App, form: Mapping[str, str], **options: Any) -> httpx.Response:
        return await self.http.post("/oauth/token", data={**form, **app.proof}, **options)

    async def tokens(self, app: App, person: BrowserSession, **changed: str | None) -> dict[str, Any]:
        """What a code is exchanged for."""
        response = await self.post(app, (await self.code(app, person, **changed)).form)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def refresh(self, app: App, token: str, **more: str) -> httpx.Response:
        return await self.post(app, {"grant_type": "refresh_token", "refresh_token": token, **more})

    async def caller(self, token: str) -> Caller:
        """Whom a token speaks for, if it is good in a process that has heard of every revocation."""
        denied = DenySet()
        async with self.foundation.sessions() as session:
            await denied.load(session, self.now)
        return await TokenVerifier(self.foundation.ring, HERE, denied).verify(token.encode(), self.now)

    async def approval(self, token: str) -> Approval:
        """What a token hangs from, be it dead or alive."""
        keys = KeySet.import_key_set(self.foundation.ring.jwks)  # type: ignore[arg-type]
        claims = jwt.decode(token, keys, algorithms=["ES256"]).claims
        async with self.foundation.sessions() as session:
            found = await session.get(Approval, UUID(claims["approval"]))
        assert found is not None
        return found

    async def change(self, app: App, **columns: Any) -> None:
        """Behind the product's back."""
        async with self.foundation.sessions.begin() as session:
            client = await session.get(Client, app.id)
            assert client is not None
            for name, value in columns.items():
                setattr(client, name, value)


async def lay_foundation(
    sessions: async_sessionmaker[AsyncSession], redis_url: str, secret: bytes, clock: Clock
) -> Foundation:
    """An authorization server without the rest of the service."""
    async with sessions.begin() as session:
        await ensure_signing_key(session, secret, clock())
    ring, cache = KeyRing(sessions, secret), Redis.from_url(redis_url)
    await ring.load(clock())
    verifier, proofs = TokenVerifier(ring, HERE), Proofs(cache, secret, HERE.issuer)
    return Foundation(sessions, cache, ring, HERE, verifier, derive_keys(secret), proofs, Uncounted(), clock)


def reach(foundation: Foundation) -> httpx.AsyncClient:
    """Its endpoints, under another name than the configured one."""
    app = Starlette(routes=routes(foundation))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://another-name.example")


def challenge(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def answer(url: str, back: str = BACK) -> dict[str, str]:
    """The parameters that an answer adds to the client's own address, which must be left as it was."""
    assert url.startswith(back)
    pairs = parse_qsl(urlsplit(url).query, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return {name: value for name, value in pairs if name != "kept"}
