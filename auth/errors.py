"""The errors that answer a token which can't be accepted or lacks a scope, and too many attempts."""

from partners.errors import PerksError


class Unauthenticated(PerksError):
    """The request carries a token that does not hold; the message tells an honest developer what to mend.

    HTTP answers 401 with `WWW-Authenticate: Bearer error="invalid_token"` (RFC 6750 section 3.1), or another `error`
    for a token that is bound to a key (RFC 9449 section 7.1).
    """

    code = "UNAUTHENTICATED"

    def __init__(self, message: str, *, error: str = "invalid_token") -> None:
        super().__init__(message)
        self.error = error


class InsufficientScope(PerksError):
    """The token lacks a scope that what was asked for needs beside the field's own; `missingScopes` names it."""

    code = "INSUFFICIENT_SCOPE"


class Throttled(PerksError):
    """Too many wrong attempts; `retryAfter` in seconds."""

    code = "THROTTLED"
