"""One HTTP request at a time from the standard library, so that the walk needs nothing that the service does not."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from auth.server import TOKEN_PATH
from gateway.app import GRAPHQL_PATH
from partners.errors import Unavailable

SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status and the JSON of the body."""

    status: int
    body: dict[str, Any]

    @property
    def value(self) -> Any:
        """The answer of the first field that was asked for; None when there are only errors."""
        return next(iter((self.body.get("data") or {}).values()), None)

    @property
    def codes(self) -> list[str]:
        """The codes of the errors."""
        return [error["extensions"]["code"] for error in self.body.get("errors", ())]

    @property
    def refusals(self) -> list[str]:
        """The codes of a mutation's user errors or of a decision's refusals."""
        value = self.value or {}
        return [error["code"] for error in value.get("userErrors") or value.get("refusals") or ()]


class Api:
    """A connection to one service, kept open."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._base_url, self._path = base_url, address.path
        self._connection = kind(address.netloc, timeout=SECONDS_MAX)

    def graphql(self, document: str, token: str | None) -> Reply:
        """The answer to one operation."""
        headers = {} if token is None else bearer(token)
        body = json.dumps({"query": document}).encode()
        return self._post(GRAPHQL_PATH, body, headers | {"Content-Type": "application/json"})

    def token(self, client_id: str, secret: str, scope: str | None) -> Reply:
        """The answer of the token endpoint (RFC 6749 section 4.4)."""
        form = {"grant_type": "client_credentials"} | ({} if scope is None else {"scope": scope})
        proof = b64encode(f"{client_id}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {proof}", "Content-Type": "application/x-www-form-urlencoded"}
        return self._post(TOKEN_PATH, urlencode(form).encode(), headers)

    def exchange(self, form: Mapping[str, str]) -> Reply:
        """The answer of the token endpoint to a public client."""
        return self._post(TOKEN_PATH, urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"})

    def get(self, address: str, token: str | None) -> bytes:
        """The body of a file of this service; Unavailable unless it is there."""
        parts = urlsplit(address)
        try:
            self._connection.request("GET", parts.path, headers={} if token is None else bearer(token))
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as fault:
            raise Unavailable(f"{self._base_url} does not answer as it should: {fault}") from fault
        if response.status != 200:
            raise Unavailable(f"{address}: {response.status}")
        return body

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            self._connection.request("POST", self._path + path, body, dict(headers))
            response = self._connection.getresponse()
            return Reply(response.status, json.loads(response.read()))
        except (OSError, HTTPException, ValueError) as fault:
            raise Unavailable(f"{self._base_url} does not answer as it should: {fault}") from fault


def bearer(token: str) -> dict[str, str]:
    """The header that a token is sent in (RFC 6750 section 2.1)."""
    return {"Authorization": f"Bearer {token}"}
