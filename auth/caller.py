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


@value
class Caller:
    """What a verified access token says (RFC 9068), reduced to what the rest of the product asks for."""

    kind: CallerKind
    id: str
    scopes: frozenset[str] = frozenset()
    client_id: str | None = None
    partner_id: UUID | None = None
    member_id: UUID | None = None
    token_id: str | None = None
    expires_at: datetime | None = None

    @property
    def actor(self) -> Actor:
        """The same caller in the domain's words; an anonymous caller can't act."""
        return Actor(ActorKind(self.kind.value), self.id, self.partner_id, self.member_id)


ANONYMOUS = Caller(CallerKind.ANONYMOUS, "anonymous")
