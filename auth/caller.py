"""The caller of one request: what kind it is, whom it speaks for and which scopes its token carries."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from partners.actors import Actor, ActorKind
from partners.values import value


class CallerKind(StrEnum):
    """Anonymous callers reach public fields only; the other three are admitted by a token."""

    ANONYMOUS = "anonymous"
    PARTNER = "partner"
    MEMBER = "member"
    STAFF = "staff"


ADMITTED = StrEnum("ADMITTED", {"PARTNER": "partner", "MEMBER": "member", "STAFF": "staff"})
"""The kinds that a row can be about: everybody but the anonymous."""


@value
class Caller:
    """What a verified access token says (RFC 9068), reduced to what the rest of the product asks for.

    A partner's caller with an `alias` speaks for that one member alone. `key_thumbprint` is the key that the token is
    bound to (RFC 9449 section 6.1).
    """

    kind: CallerKind
    id: str
    scopes: frozenset[str] = frozenset()
    client_id: str | None = None
    partner_id: UUID | None = None
    member_id: UUID | None = None
    alias: str | None = None
    token_id: str | None = None
    approval_id: UUID | None = None
    client_version: int = 1
    key_thumbprint: str | None = None
    expires_at: datetime | None = None

    @property
    def actor(self) -> Actor:
        """The same caller in the domain's words; an anonymous caller can't act."""
        return Actor(ActorKind(self.kind.value), self.id, self.partner_id, self.member_id, self.alias)


ANONYMOUS = Caller(CallerKind.ANONYMOUS, "anonymous")
