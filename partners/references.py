"""How a caller names a member or a perk, and how far that caller can see."""

from uuid import UUID

from partners.actors import Actor, ActorKind
from partners.errors import BadInput
from partners.values import value


@value
class MemberRef:
    """Exactly one of: the partner's alias, our id, the operator's external id."""

    alias: str | None = None
    id: UUID | None = None
    external_id: str | None = None

    def __post_init__(self) -> None:
        check_name(self.alias)
        check_name(self.external_id)


@value
class PerkRef:
    """Exactly one of: our id, the handle (`partner/perk`)."""

    id: UUID | None = None
    handle: str | None = None

    def __post_init__(self) -> None:
        check_name(self.handle)


@value
class Asker:
    """A partner that asks about members, by the right (`scope`) that each of them must have consented to.

    With a `client_id` the statement that finds the answer also keeps it as a disclosure to that client.
    """

    partner_id: UUID
    scope: str
    client_id: str | None = None


def check_name(name: str | None) -> None:
    """BadInput for what no name can hold: PostgreSQL refuses NUL, and with it everybody's questions of that batch."""
    if name is not None and not name.isprintable():
        raise BadInput("a name has printable characters only")


def reachable_member(actor: Actor, member: MemberRef | None) -> MemberRef:
    """The member an actor may mean: a partner names an alias, staff anything, a member only itself.

    BadInput when the actor can't use that kind of name.
    """
    if actor.kind is ActorKind.MEMBER:
        if member is not None and member.id != actor.member_id:
            raise BadInput("a member's token speaks for that member alone: leave `member` out")
        return MemberRef(id=actor.member_id)
    if actor.alias is not None:
        if member is not None and member.alias != actor.alias:
            raise BadInput("this token speaks for one member: leave `member` out")
        return MemberRef(alias=actor.alias)
    if member is None:
        raise BadInput("say which member")
    if actor.kind is ActorKind.PARTNER and member.alias is None:
        raise BadInput("a partner knows members by alias: use {alias}")
    if actor.kind is ActorKind.STAFF and member.alias is not None:
        raise BadInput("an alias belongs to one partner: use {id} or {externalId}")
    return member
