"""An OpenID provider outside, on a real port of this machine, at which a test signs in as whom it likes."""

from base64 import b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.flows import challenge
from tests.issuers import OutsideIssuer, signed

CLIENT_ID, CLIENT_SECRET = "perks:gateway", "a secret/with+signs%"


@dataclass
class OpenIdProvider(OutsideIssuer):
    """What it says of itself besides the least, and how its id tokens differ from good ones."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    metadata: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        super().reset()
        self.metadata, self.changed, self.header, self.codes, self.forms = {}, {}, {}, {}, []

    def signs_in(self, address: str, **claims: Any) -> dict[str, str]:
        """The person signs in where the browser was sent to; what the browser comes back with."""
        assert address.startswith(f"{self.address}/authorize?")
        asked = dict(parse_qsl(urlsplit(address).query, strict_parsing=True))
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert asked["client_id"] == CLIENT_ID
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        self.changed |= claims
        return {"code": code, "state": asked["state"]}

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        if path == "/.well-known/openid-configuration" and path not in self.answers:
            own = {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys",
            }
            return JSONResponse({name: value for name, value in (own | self.metadata).items() if value is not None})
        if path == "/token" and path not in self.answers:
            return self.token(request, dict(parse_qsl((await request.body()).decode(), strict_parsing=True)))
        return await super().answer(request)

    def token(self, request: Request, form: dict[str, str]) -> Response:
        """The code once, for the client that proves itself and knows the verifier."""
        self.forms.append(form)
        asked = self.codes.pop(form["code"], {})
        given = (form.get("client_id"), form.get("client_secret"))
        if "authorization" in request.headers:
            id, _, secret = b64decode(request.headers["authorization"].split(" ")[1]).decode().partition(":")
            given = (unquote_plus(id), unquote_plus(secret))
        proven = given == (CLIENT_ID, CLIENT_SECRET) and asked.get("code_challenge") == challenge(form["code_verifier"])
        if not proven or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        own = {"aud": CLIENT_ID, "nonce": asked["nonce"], "client_id": None, "scope": None}
        claims = self.claims(self.now, **(own | self.changed))
        return JSONResponse({"access_token": "x", "id_token": signed(claims, self.key, typ="JWT", **self.header)})
