"""An authorization server outside, on a real port of this machine, that does whatever a test wants."""

import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from socket import AF_INET, SOCK_STREAM, socket
from typing import Any, TypeVar

import uvicorn
from joserfc import jws
from joserfc.jwk import ECKey, Key
from joserfc.util import urlsafe_b64encode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Answering = Callable[[], Awaitable[Response]]


def public(key: Key, **members: Any) -> dict[str, Any]:
    """A key as an issuer publishes it."""
    return {**key.as_dict(private=False), "kid": key.kid, **members}


def new_key() -> ECKey:
    return ECKey.generate_key("P-256", auto_kid=True)


def signed(claims: Any, key: Key, /, **header: Any) -> str:
    """A JWT with exactly this header (None leaves a member out), signed by the key whatever else it says."""
    members = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid} | header
    kept = {name: value for name, value in members.items() if value is not None}
    message = b".".join(urlsafe_b64encode(json.dumps(part).encode()) for part in (kept, claims))
    model = jws.JWSRegistry.algorithms[{"EC": "ES256", "RSA": "RS256", "OKP": "Ed25519"}[key.key_type]]
    if kept.get("alg") in ("ES384", "PS256"):
        model = jws.JWSRegistry.algorithms[kept["alg"]]
    return b".".join([message, urlsafe_b64encode(model.sign(message, key))]).decode()


@dataclass
class OutsideIssuer:
    """What it publishes, what it answers instead when told so (by path), and how often each path was asked for."""

    address: str
    key: ECKey = field(default_factory=new_key)
    published: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answering] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        """As it was at the start, with another key."""
        self.rotate()
        self.headers, self.answers, self.asked = {}, {}, Counter()

    def rotate(self) -> None:
        """Signs with a new key from now on and forgets the one before."""
        self.key = new_key()
        self.published = [public(self.key)]

    def claims(self, now: datetime, **changed: Any) -> dict[str, Any]:
        """A good token's claims, with some changed, and without those that are None."""
        seconds = int(now.timestamp())
        good = {
            "iss": self.address,
            "sub": "user-7",
            "aud": "perks",
            "client_id": "till",
            "iat": seconds,
            "exp": seconds + 300,
            "jti": f"token-{time.monotonic_ns()}",
            "scope": "read",
        }
        return {name: value for name, value in (good | changed).items() if value is not None}

    def token(self, now: datetime, **changed: Any) -> str:
        """A token that holds, but for what is changed."""
        return signed(self.claims(now, **changed), self.key)

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked[path] += 1
        if path in self.answers:
            return await self.answers[path]()
        if path == "/keys":
            return JSONResponse({"keys": self.published}, headers=self.headers)
        if path == "/.well-known/openid-configuration":
            return JSONResponse({"issuer": self.address, "jwks_uri": f"{self.address}/keys"})
        return Response(status_code=404)


Kind = TypeVar("Kind", bound=OutsideIssuer)


@contextmanager
def outside_issuer(kind: type[Kind] = OutsideIssuer) -> Iterator[Kind]:  # type: ignore[assignment]
    """Serves one in a thread of its own until the end."""
    with socket(AF_INET, SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        issuer = kind(f"http://127.0.0.1:{listening.getsockname()[1]}")
        issuer.reset()
        app = Starlette(routes=[Route("/{path:path}", issuer.answer, methods=["GET", "POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield issuer
        finally:
            server.should_exit = True
            thread.join()
