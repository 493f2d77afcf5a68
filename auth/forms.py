"""The strict reading of what OAuth clients post, so that nothing ambiguous reaches Authlib."""

import re
from collections import Counter
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import InvalidRequestError  # type: ignore[import-untyped]
from starlette.requests import ClientDisconnect, Request

BODY_BYTES_MAX = 16 * 1024
FIELDS_MAX = 50
DESCRIPTION_CHARACTERS_MAX = 300
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of a POST, each given once and not empty (RFC 6749 section 3.2); InvalidRequestError otherwise."""
    if request.scope["query_string"]:
        raise InvalidRequestError("parameters belong into the body, not into the address")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise InvalidRequestError("the Content-Type must be application/x-www-form-urlencoded")
    return _parse(await _read_body(request), "the body")


def read_query(request: Request) -> dict[str, str]:
    """The parameters of a GET, under the same rules (RFC 6749 section 3.1)."""
    query: bytes = request.scope["query_string"]
    if len(query) > BODY_BYTES_MAX:
        raise InvalidRequestError(f"the query is longer than {BODY_BYTES_MAX} bytes", status_code=414)
    return _parse(query, "the query")


def _parse(encoded: bytes, place: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            encoded.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise InvalidRequestError(f"{place} is not a form in UTF-8") from None
    if repeated := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise InvalidRequestError(printable(f"repeated parameters: {', '.join(repeated)}"))
    if any(CONTROL.search(value) for _, value in pairs):
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


def printable(text: str) -> str:
    """The text within what an `error_description` may hold (RFC 6749 section 5.2), and not longer than is useful."""
    return re.sub(r'[^\x20-\x7e]|["\\]', "?", text)[:DESCRIPTION_CHARACTERS_MAX]
