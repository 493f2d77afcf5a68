"""The error that answers a token that can't be accepted."""

from partners.errors import PerksError


class Unauthenticated(PerksError):
    """The request carries a token that does not hold; the message tells an honest developer what to mend.

    HTTP answers 401 with `WWW-Authenticate: Bearer error="invalid_token"` (RFC 6750 section 3.1).
    """

    code = "UNAUTHENTICATED"
