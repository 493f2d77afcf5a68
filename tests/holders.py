"""Clients with a key of their own: the proofs and assertions that they make, good unless a test asks for worse."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from auth.assertions import ASSERTION_TYPE
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.server import TOKEN_PATH
from auth.tables import ClientAuthentication
from gateway.database import Database
from partners import tables
from partners.actors import SYSTEM
from partners.tables import PartnerKind

VIEWER = "{ viewer { id } }"
SCOPES = ("perks:read", "redemptions:read")
MISSING: Any = object()
"""As a value: leave this claim or header member out."""


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


@dataclass(frozen=True)
class Holder:
    """Somebody who holds a key and signs with one algorithm."""

    key: Key
    algorithm: str = "ES256"

    @property
    def thumbprint(self) -> str:
        return self.key.thumbprint()

    @property
    def public_jwk(self) -> dict[str, Any]:
        return dict(self.key.as_dict(private=False))

    def signed(self, header: dict[str, Any], claims: Any) -> str:
        """A compact JWS, whatever it says."""
        kept = [
            {name: value for name, value in part.items() if value is not MISSING} if isinstance(part, dict) else part
            for part in (header, claims)
        ]
        body = ".".join(encoded(json.dumps(part).encode()) for part in kept)
        model = jws.JWSRegistry.algorithms[self.algorithm.replace("EdDSA", "Ed25519")]
        return f"{body}.{encoded(model.sign(body.encode(), self.key))}"

    def proof(
        self,
        now: datetime,
        address: str,
        nonce: str | None,
        *,
        method: str = "POST",
        token: str | None = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A DPoP proof (RFC 9449 section 4.2) of a use of its own."""
        good = {"jti": uuid4().hex, "htm": method, "htu": address, "iat": int(now.timestamp()), "nonce": nonce}
        if token is not None:
            good["ath"] = encoded(sha256(token.encode()).digest())
        members = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.public_jwk} | (header or {})
        return self.signed(members, good | claims)

    def assertion(
        self, now: datetime, client_id: str, audience: Any, *, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A client assertion (RFC 7523 section 3) of a use of its own, good for a minute."""
        at = int(now.timestamp())
        good = {"iss": client_id, "sub": client_id, "aud": audience, "iat": at, "exp": at + 60, "jti": uuid4().hex}
        return self.signed({"alg": self.algorithm, "typ": "JWT"} | (header or {}), good | claims)


def holder(algorithm: str = "ES256", bits: int = 2048) -> Holder:
    """One with a fresh key."""
    if algorithm in ("Ed25519", "EdDSA"):
        return Holder(OKPKey.generate_key("Ed25519"), algorithm)
    return Holder(ECKey.generate_key("P-256") if algorithm == "ES256" else RSAKey.generate_key(bits), algorithm)


@dataclass(frozen=True)
class KeyClient:
    """A registered client of a partner that proves itself by its key, and the server that it talks to."""

    http: httpx.AsyncClient
    issuer: str
    client_id: str
    holder: Holder
    clock: Callable[[], datetime]

    def assertion(self, by: Holder | None = None, audience: Any = None, **given: Any) -> str:
        return (by or self.holder).assertion(self.clock(), self.client_id, audience or self.issuer, **given)

    def proof(self, path: str, nonce: str | None, by: Holder | None = None, **given: Any) -> str:
        return (by or self.holder).proof(self.clock(), self.issuer + path, nonce, **given)

    async def nonce(self) -> str:
        """A fresh one, as a client gets it: by asking without."""
        asked = await self.post(self.assertion(), self.proof(TOKEN_PATH, None))
        assert (asked.status_code, asked.json()["error"]) == (400, "use_dpop_nonce")
        return str(asked.headers["dpop-nonce"])

    async def post(
        self, assertion: str, *proofs: str, path: str = TOKEN_PATH, form: dict[str, str] | None = None
    ) -> httpx.Response:
        """A request of the authorization server, by default for a token of the client's own."""
        sent = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        headers = [("dpop", proof) for proof in proofs]
        return await self.http.post(path, data=sent | (form or {"grant_type": "client_credentials"}), headers=headers)

    async def bound_token(self, nonce: str) -> str:
        answered = await self.post(self.assertion(), self.proof(TOKEN_PATH, nonce))
        assert (answered.status_code, answered.json()["token_type"]) == (200, "DPoP"), answered.text
        return str(answered.json()["access_token"])

    async def ask(self, authorization: str, *proofs: str, query: str = VIEWER) -> httpx.Response:
        """A request of the API."""
        headers = [("authorization", authorization), *(("dpop", proof) for proof in proofs)]
        return await self.http.post("/graphql", json={"query": query}, headers=headers)


async def key_client(
    database: Database,
    http: httpx.AsyncClient,
    issuer: str,
    clock: Callable[[], datetime],
    *keys: Holder,
    **settings: Any,
) -> KeyClient:
    """One with these keys, of a partner of its own; it signs with the first."""
    holders, now = keys or (holder(),), clock()
    jwks = {"keys": [one.public_jwk for one in holders]}
    chosen = {"authentication": ClientAuthentication.KEY, "public_keys": jwks, "scopes": frozenset(SCOPES)} | settings
    async with database.sessions.begin() as session:
        partner = tables.Partner(handle=f"brand-{uuid4().hex}", name="A brand", kind=PartnerKind.OTHER, created_at=now)
        session.add(partner)
        await session.flush()
        client, _ = await create_client(
            session, partner.id, ClientSettings("server", **chosen), Administrator(SYSTEM), now
        )
    return KeyClient(http, issuer, client.id, holders[0], clock)
