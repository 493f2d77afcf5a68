"""What a GraphQL-over-HTTP request says: the media types it takes and its parameters, read from the raw ASGI scope."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope

from schema.errors import Rejected

JSON = b"application/json"
GRAPHQL_RESPONSE = b"application/graphql-response+json"
HTML = b"text/html"

# PostgreSQL stores no NUL, and one would fail the whole batch of those who ask at the same moment. In JSON, in a
# GraphQL string (which has two ways to escape it), or as it is.
NUL = re.compile(rb"\\u0000|\\u\{0+\}|\x00")


class Disconnected(Exception):
    """The client went away before its request was read; nobody waits for an answer."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """A request's parameters; exactly one of `query` (a document's text) and `document_id` is set."""

    query: str | None
    document_id: str | None
    operation_name: str | None
    variables: dict[str, Any]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header; several lines of one name are one list (RFC 9110, section 5.3)."""
    values = [value for key, value in scope["headers"] if key == name]
    return b",".join(values) if values else None


@lru_cache(maxsize=256)
def preferred(accept: bytes | None, offered: tuple[bytes, ...] = (JSON, GRAPHQL_RESPONSE)) -> bytes | None:
    """The offered media type that an Accept header likes best, None if it likes none (RFC 9110, section 12.5.1).

    At equal quality what it names goes before what a wildcard admits, and then what it names first.
    """
    if accept is None:
        return offered[0]
    ranges = [_range(part) for part in accept.lower().split(b",")]
    scores = []
    for rank, offer in enumerate(offered):
        precision_of = {offer: 3, offer.split(b"/")[0] + b"/*": 2, b"*/*": 1}
        matching = [
            (precision_of[name], -place, quality)
            for place, (name, quality) in enumerate(ranges)
            if name in precision_of
        ]
        if matching:
            precision, place, quality = max(matching)
            scores.append((quality, precision, place, -rank))
    best = max(scores, default=(0.0, 0, 0, 0))
    return offered[-best[3]] if best[0] > 0 else None


def _range(part: bytes) -> tuple[bytes, float]:
    name, *parameters = (piece.strip() for piece in part.split(b";"))
    quality = next((value[2:] for value in parameters if value.startswith(b"q=")), b"1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


@lru_cache(maxsize=256)
def is_json(content_type: bytes | None) -> bool:
    """Whether a request body calls itself JSON in UTF-8."""
    name, *parameters = (piece.strip() for piece in (content_type or b"").lower().split(b";"))
    charsets = [value[8:].strip(b'"') for value in parameters if value.startswith(b"charset=")]
    return name == JSON and all(charset in (b"utf-8", b"utf8") for charset in charsets)


async def read_body(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """The whole body; raises `Rejected` (BODY_TOO_LARGE) as soon as it is known to be longer than `bytes_max`."""
    too_large = Rejected.because("BODY_TOO_LARGE", f"The body may have {bytes_max} bytes.", allowed=bytes_max)
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > bytes_max:
        raise too_large
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > bytes_max:
            raise too_large
        if not message.get("more_body", False):
            return body


def from_body(body: bytes) -> Parameters:
    """The parameters of a POST; raises `Rejected` (BAD_REQUEST) for anything but one JSON object."""
    parameters = read_json(body, "body")
    if isinstance(parameters, list):
        raise Rejected.because("BAD_REQUEST", "Batches are not supported: send one request at a time.")
    if not isinstance(parameters, dict):
        raise Rejected.because("BAD_REQUEST", "The body must be a JSON object.")
    return parameters_of(parameters)


def from_query_string(query_string: bytes) -> Parameters:
    """The parameters of a GET, of which `variables` and `extensions` are JSON; raises `Rejected` (BAD_REQUEST)."""
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Rejected.because("BAD_REQUEST", "The query string must be URL-encoded UTF-8.") from None
    parameters: dict[str, Any] = dict(pairs)
    if len(parameters) < len(pairs):
        raise Rejected.because("BAD_REQUEST", "A parameter may be given once.")
    if any(NUL.search(value.encode()) for value in parameters.values()):
        raise Rejected.because("BAD_REQUEST", "The query string must not hold the character U+0000.")
    for name in ("variables", "extensions"):
        if name in parameters:
            parameters[name] = read_json(parameters[name].encode() or b"null", name)
    return parameters_of(parameters)


def read_json(text: bytes, name: str) -> Any:
    """What a JSON text says; raises `Rejected` (BAD_REQUEST), also for what no text of ours may hold."""
    if NUL.search(text):
        raise Rejected.because("BAD_REQUEST", f"The {name} must not hold the character U+0000.")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Rejected.because("BAD_REQUEST", f"The {name} must be JSON in UTF-8.") from None


def parameters_of(given: Mapping[str, Any]) -> Parameters:
    """The parameters in one JSON object; raises `Rejected` (BAD_REQUEST)."""
    query = _typed(given, "query", str, "a string")
    document_id = _typed(given, "documentId", str, "a string")
    variables = _typed(given, "variables", dict, "an object")
    operation_name = _typed(given, "operationName", str, "a string")
    extensions = _typed(given, "extensions", dict, "an object")
    if extensions and "persistedQuery" in extensions:
        if document_id is not None:
            raise Rejected.because("BAD_REQUEST", "Send either documentId or extensions.persistedQuery.")
        document_id = _persisted_query(extensions["persistedQuery"], query)
    elif query is not None and document_id is not None:
        raise Rejected.because("BAD_REQUEST", "Send either query or documentId.")
    if query is None and document_id is None:
        raise Rejected.because("BAD_REQUEST", "The query is missing.")
    return Parameters(query, document_id, operation_name, variables or {})


def _persisted_query(persisted: Any, query: str | None) -> str | None:
    """Apollo's spelling of a document id; with a text beside it, only a check of the text."""
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if not isinstance(digest, str) or persisted.get("version") != 1:
        raise Rejected.because("BAD_REQUEST", "extensions.persistedQuery needs version 1 and a sha256Hash.")
    if query is None:
        return f"sha256:{digest}"
    if sha256(query.encode()).hexdigest() != digest.lower():
        raise Rejected.because("BAD_REQUEST", "sha256Hash is not the hash of the query.")
    return None


def _typed(given: Mapping[str, Any], name: str, type_: type, expected: str) -> Any:
    value = given.get(name)
    if value is not None and not isinstance(value, type_):
        raise Rejected.because("BAD_REQUEST", f"The parameter {name} must be {expected}.")
    return value
