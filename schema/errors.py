"""The one place where something that went wrong becomes a GraphQL error: a stable code, never a trace.

Codes (docs/errors.md): whatever `PerksError` in the domain and `auth` carry, and the engine's own
BAD_REQUEST · METHOD_NOT_ALLOWED · NOT_ACCEPTABLE · UNSUPPORTED_MEDIA_TYPE · BODY_TOO_LARGE ·
GRAPHQL_PARSE_FAILED · GRAPHQL_VALIDATION_FAILED · LIMIT_EXCEEDED · BAD_USER_INPUT ·
OPERATION_RESOLUTION_FAILURE · PERSISTED_QUERY_NOT_FOUND · UNAUTHENTICATED · FORBIDDEN ·
INSUFFICIENT_SCOPE · TIMEOUT · TRY_AGAIN · UNAVAILABLE · INTERNAL
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from graphql import FieldNode, GraphQLError
from redis.exceptions import ConnectionError as CacheConnectionError
from redis.exceptions import TimeoutError as CacheTimeoutError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from strawberry.exceptions import StrawberryInputCoercionError

from partners.errors import PerksError

log = structlog.get_logger()

FormattedError = dict[str, Any]

# graphql-core quotes the value it complains of, which may be all of the request.
MESSAGE_LENGTH_MAX = 300

# With `application/json` a well-formed request is answered 200 whatever GraphQL made of it
# (GraphQL over HTTP, "application/json"); with `application/graphql-response+json` it is a 400.
GRAPHQL_CODES = frozenset(
    {
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "LIMIT_EXCEEDED",
        "BAD_USER_INPUT",
        "OPERATION_RESOLUTION_FAILURE",
        "PERSISTED_QUERY_NOT_FOUND",
    }
)
_STATUS = {
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "INSUFFICIENT_SCOPE": 403,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406,
    "BODY_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "THROTTLED": 429,
    "INTERNAL": 500,
    "OVERLOADED": 503,
    "TIMEOUT": 503,
    "TRY_AGAIN": 503,
    "UNAVAILABLE": 503,
}


class Rejected(Exception):
    """A request answered by errors alone: no resolver has run.

    `errors` are formatted errors still without their request id; `data_is_null` tells a response that
    must say `data: null` from one that must not mention data (GraphQL specification, section 7.1).
    """

    def __init__(self, *errors: FormattedError, data_is_null: bool = False) -> None:
        super().__init__(errors)
        self.errors = errors
        self.data_is_null = data_is_null

    @property
    def code(self) -> str:
        """The code that decides the HTTP status: of the first error."""
        return str(self.errors[0]["extensions"]["code"])

    @classmethod
    def because(cls, code: str, message: str, **details: Any) -> "Rejected":
        """A rejection with one error that belongs to no place in a document."""
        return cls({"message": message, "extensions": {"code": code, **details}})

    @classmethod
    def of(cls, code: str, errors: Iterable[GraphQLError]) -> "Rejected":
        """A rejection by graphql-core (syntax, validation, variables), whose messages name only the request."""
        return cls(*(_located(error, _shortened(error.message), {"code": code}) for error in errors))


def http_status(code: str, *, lenient: bool) -> int:
    """The HTTP status of a rejection; `lenient` is the `application/json` reading of the specification."""
    return 200 if lenient and code in GRAPHQL_CODES else _STATUS.get(code, 400)


def with_request_id(errors: Iterable[FormattedError], request_id: str) -> list[FormattedError]:
    """The same errors, each with the request's id in its extensions; cached originals stay untouched."""
    return [{**error, "extensions": {**error["extensions"], "requestId": request_id}} for error in errors]


def from_execution(error: GraphQLError, request_id: str) -> FormattedError:
    """A field's failure as its caller may see it, with path and locations."""
    cause = _cause(error)
    if _is_about_input(cause):
        return _located(error, _shortened(error.message), {"code": "BAD_USER_INPUT"})
    code, message, details = describe(cause, request_id, path=error.path)
    return _located(error, message, {**details, "code": code})


def from_exception(error: Exception, request_id: str) -> Rejected:
    """A failure outside any field (admission, the endpoint itself) as a rejection."""
    code, message, details = describe(error, request_id)
    return Rejected.because(code, message, **{k: v for k, v in details.items() if k != "code"})


def describe(
    error: Exception, request_id: str, path: list[str | int] | None = None
) -> tuple[str, str, Mapping[str, Any]]:
    """Code, safe message and details of any exception; what is nobody's business goes to the log."""
    if isinstance(error, PerksError):
        return error.code, error.message, error.details
    code, message = _outage(error) or ("INTERNAL", "Internal error")
    log.error("request_failed", code=code, request_id=request_id, path=path, exc_info=error)
    return code, message, {}


def _outage(error: Exception) -> tuple[str, str] | None:
    for link in _chain(error):
        state = getattr(link, "sqlstate", None) or getattr(link, "pgcode", None)
        if state in ("40001", "40P01"):
            return "TRY_AGAIN", "Another request was in the way and nothing was changed; try again."
        if state == "42P01":
            return "UNAVAILABLE", "The database is not migrated; run `perks migrate`."
        if isinstance(state, str) and state.startswith(("08", "57P0", "53")):
            return "UNAVAILABLE", "The database is down or refuses connections; try again later."
        if isinstance(link, CacheConnectionError | CacheTimeoutError):
            return "UNAVAILABLE", "The cache is down; try again later."
        if isinstance(link, PoolTimeoutError):
            return "OVERLOADED", "Every database connection is busy; try again later."
        if isinstance(link, OSError):
            return "UNAVAILABLE", "The database or the cache can't be reached; try again later."
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, the driver's own error inside SQLAlchemy's (`orig`), and the causes of both."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        link = queue.pop(0)
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            queue += [getattr(link, "orig", None), link.__cause__]


def _cause(error: GraphQLError) -> Exception:
    cause: Exception = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_LENGTH_MAX else message[: MESSAGE_LENGTH_MAX - 1] + "…"


def _is_about_input(cause: Exception) -> bool:
    """Whether the blame is on an argument, such as a variable that turned out null where it may not be."""
    if isinstance(cause, GraphQLError) and cause.nodes:
        return not isinstance(cause.nodes[0], FieldNode)
    return isinstance(cause, StrawberryInputCoercionError)


def _located(error: GraphQLError, message: str, extensions: dict[str, Any]) -> FormattedError:
    formatted: FormattedError = {"message": message}
    if error.locations:
        formatted["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        formatted["path"] = error.path
    formatted["extensions"] = extensions
    return formatted
