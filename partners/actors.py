"""Who acts, as far as the domain needs to know: enough to scope every read and to sign every audit entry."""

from enum import StrEnum
from uuid import UUID

from partners.values import value


class ActorKind(StrEnum):
    """The four hands that can move something."""

    PARTNER = "partner"
    MEMBER = "member"
    STAFF = "staff"
    SYSTEM = "system"


@value
class Actor:
    """One caller in the domain's words.

    `id` names the OAuth client, member or staff subject; `partner_id` is set for a partner's client,
    `member_id` for a member. A partner's actor with an `alias` is bound to that one member.
    """

    kind: ActorKind
    id: str
    partner_id: UUID | None = None
    member_id: UUID | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        bound = {ActorKind.PARTNER: self.partner_id, ActorKind.MEMBER: self.member_id}.get(self.kind, self.id)
        if bound is None:
            raise ValueError(f"a {self.kind.value} without its own id would reach everything")

    @property
    def owner(self) -> str:
        """Whose idempotency keys these are, as `partner:client_…`; one that is bound to a member has its own, so that
        what was done for others is not answered again to it."""
        return f"{self.kind.value}:{self.id}" if self.alias is None else f"{self.kind.value}:{self.id}:{self.alias}"


SYSTEM = Actor(ActorKind.SYSTEM, "system")
