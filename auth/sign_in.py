"""Signing in with the operator's identity provider: OpenID Connect Core 1.0, as a confidential client with PKCE."""

import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auth.errors import Unauthenticated
from auth.id_tokens import verify_id_token
from auth.identity import SignIn
from auth.key_sets import KeySet, fetch_document
from partners.errors import Unavailable
from partners.keys import derive

FLOW_LASTS = timedelta(minutes=10)
CALLBACK_PATH = "/sign-in/callback"
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True, repr=False)
class Flow:
    """What the browser keeps, sealed, while its user is away at the provider; `until` in seconds since 1970."""

    state: str
    nonce: str
    verifier: str
    then: str
    until: int


class Provider:
    """The operator's provider as `[sign_in]` of the identity file names it; `address` is our own, without a slash."""

    def __init__(self, declared: SignIn, client: httpx.AsyncClient, address: str, secret: bytes) -> None:
        self.declared = declared
        self._client = client
        self._keys = KeySet(client, declared.issuer)
        self._redirect_uri = address + CALLBACK_PATH
        self._cipher = AESGCM(derive(secret, b"sign-in/1"))

    async def begin(self, then: str, now: datetime, *, again: bool = False) -> tuple[str, str, str]:
        """Where to send the browser, the `state` it comes back with, and the sealed Flow for its cookie.

        `again` asks the provider to have the person sign in anew. Unavailable when the provider can't be reached.
        """
        endpoint = (await self._keys.metadata(now)).get("authorization_endpoint")
        if endpoint is None:
            raise Unavailable("the identity provider names no authorization_endpoint")
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(state, nonce, verifier, then, int((now + FLOW_LASTS).timestamp()))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.declared.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self.declared.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        asked |= {"prompt": "login"} if again else {}
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", state, self._seal(flow)

    async def finish(self, sealed: str, answer: Mapping[str, str], now: datetime) -> tuple[Mapping[str, Any], str]:
        """The verified claims of who signed in, and where to go on; `answer` is the query that the browser came with.

        Unauthenticated says what does not hold, in words for the person; Unavailable when the provider is away.
        """
        flow = self._open(sealed)
        if flow is None or now.timestamp() >= flow.until:
            raise Unauthenticated("this sign-in has expired, or was begun in another browser")
        if not compare_digest(answer.get("state", "").encode(), flow.state.encode()):
            raise Unauthenticated("this is the answer to another sign-in")
        metadata = await self._keys.metadata(now)
        said = answer.get("iss")
        required = metadata.get("authorization_response_iss_parameter_supported") is True
        if said != self.declared.issuer and (required or said is not None):
            raise Unauthenticated("the answer is of another identity provider")
        if "code" not in answer:
            raise Unauthenticated("the identity provider did not sign you in")
        token = await self._redeem(metadata, answer["code"], flow.verifier)
        return await verify_id_token(token, self.declared, self._keys, flow.nonce, now), flow.then

    async def _redeem(self, metadata: Mapping[str, Any], code: str, verifier: str) -> str:
        endpoint = metadata.get("token_endpoint")
        if endpoint is None:
            raise Unavailable("the identity provider names no token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        id, secret = self.declared.client_id, self.declared.client_secret.get_secret_value()
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            # RFC 6749 section 2.3.1: each part is form-encoded before the two are joined.
            basic: httpx.BasicAuth | None = httpx.BasicAuth(quote_plus(id), quote_plus(secret))
        else:
            basic = None
            form |= {"client_id": id, "client_secret": secret}
        answer, _ = await fetch_document(self._client, endpoint, form=form, basic=basic)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("the identity provider did not say who you are")
        return token

    def _seal(self, flow: Flow) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, orjson.dumps(asdict(flow)), None)).decode()

    def _open(self, sealed: str) -> Flow | None:
        try:
            raw = urlsafe_b64decode(sealed.encode())
            return Flow(**orjson.loads(self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)))
        except (InvalidTag, ValueError):
            return None
