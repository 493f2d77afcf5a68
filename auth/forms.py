"""The strict reading of what OAuth clients post, so that nothing ambiguous reaches Authlib."""

import re
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError  # type: ignore[import-untyped]
from starlette.requests import ClientDisconnect, Request

BODY_BYTES_MAX = 16 * 1024
FIELDS_MAX = 50
DESCRIPTION_CHARACTERS_MAX = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client offers as proof of who it is (RFC 6749 section 2.3.1)."""

    client_id: str
    secret: str = field(repr=False)


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of a POST, each given once and not empty (RFC 6749 section 3.2); InvalidRequestError otherwise."""
    if request.scope["query_string"]:
        raise InvalidRequestError("parameters belong into the body, not into the address")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise InvalidRequestError("the Content-Type must be application/x-www-form-urlencoded")
    body = await _read_body(request)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise InvalidRequestError("the body is not a form in UTF-8") from None
    if repeated := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise InvalidRequestError(printable(f"repeated parameters: {', '.join(repeated)}"))
    if any(_CONTROL.search(value) for _, value in pairs):
        raise InvalidRequestError("a parameter holds control characters")
    return {name: value for name, value in pairs if value}


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise InvalidRequestError(f"the body is longer than {BODY_BYTES_MAX} bytes", status_code=413)
    except ClientDisconnect:
        raise InvalidRequestError("the body ended early") from None
    return bytes(body)


def read_credentials(request: Request, form: dict[str, str]) -> Credentials:
    """The client's id and secret, given in exactly one way: HTTP Basic or the body (RFC 6749 section 2.3)."""
    headers = request.headers.getlist("authorization")
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if headers:
        if len(headers) > 1 or secret is not None:
            raise InvalidRequestError("authenticate the client in one way only")
        basic = _basic_credentials(headers[0])
        if client_id not in (None, basic.client_id):
            raise InvalidRequestError("client_id is not the client of the Authorization header")
        return basic
    if client_id is None or secret is None:
        raise _unauthenticated("authenticate with HTTP Basic, or with client_id and client_secret in the body")
    return Credentials(client_id, secret)


def _basic_credentials(header: str) -> Credentials:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise _unauthenticated("the Authorization header of a client must be HTTP Basic")
    try:
        client_id, _, secret = b64decode(encoded, validate=True).decode().partition(":")
        credentials = Credentials(unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict"))
    except ValueError:
        raise _unauthenticated("the HTTP Basic credentials are not Base64 of UTF-8") from None
    if not credentials.client_id or not credentials.secret or _CONTROL.search(credentials.client_id):
        raise _unauthenticated("the HTTP Basic credentials are not client_id:client_secret")
    return credentials


def _unauthenticated(description: str) -> InvalidClientError:
    return InvalidClientError(description, status_code=401)


def printable(text: str) -> str:
    """The text within what an `error_description` may hold (RFC 6749 section 5.2), and not longer than is useful."""
    return re.sub(r'[^\x20-\x7e]|["\\]', "?", text)[:DESCRIPTION_CHARACTERS_MAX]
