"""The ways a request can fail that its caller may be told about, each with a stable code."""

from typing import Any


class PerksError(Exception):
    """A request that can't be served; rolls back, and the caller sees `code`, `message` and `details`.

    `code` is one of the closed list in docs/errors.md; `message` is safe to show; `details` become
    `extensions` of the GraphQL error.
    """

    code = "INTERNAL"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class BadInput(PerksError):
    """The input is well-formed for its type and still impossible (an unknown zone, an empty handle)."""

    code = "BAD_INPUT"


class NotFound(PerksError):
    """Nothing of that name within the caller's sight; another partner's row answers the same."""

    code = "NOT_FOUND"


class Conflict(PerksError):
    """The state of the thing does not allow this (publishing what is published, a handle in use)."""

    code = "CONFLICT"


class KeyReused(PerksError):
    """One idempotency key with two contents (law 3)."""

    code = "IDEMPOTENCY_KEY_REUSED"


class TryAgain(PerksError):
    """A passing fault: deadlock, serialisation failure, a batch that failed; nothing was changed."""

    code = "TRY_AGAIN"


class Overloaded(PerksError):
    """The queue in front of a perk is full; `retryAfter` in seconds."""

    code = "OVERLOADED"


class Unavailable(PerksError):
    """The database or the cache can't be reached or is not migrated."""

    code = "UNAVAILABLE"
