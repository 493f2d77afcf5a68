"""The inputs that name things, and what they mean to the domain."""

from uuid import UUID

import strawberry

from partners.references import MemberRef, PerkRef
from schema.ids import MEMBER, PARTNER, PERK, read_id


@strawberry.input(one_of=True, description="One member, by the one name that the caller has for them.")
class MemberBy:
    alias: strawberry.Maybe[str] = strawberry.field(description="Partners: your alias of the member.")
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="Staff: the member's id.")
    external_id: strawberry.Maybe[str] = strawberry.field(description="Staff: the operator's own id of the member.")

    def reference(self) -> MemberRef:
        """In the domain's words."""
        return MemberRef(
            alias=None if self.alias is None else self.alias.value,
            id=None if self.id is None else read_id(MEMBER, self.id.value),
            external_id=None if self.external_id is None else self.external_id.value,
        )


@strawberry.input(one_of=True, description="One perk.")
class PerkBy:
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="Its id.")
    handle: strawberry.Maybe[str] = strawberry.field(description="Its handle, as `partner/perk`.")

    def reference(self) -> PerkRef:
        """In the domain's words."""
        return PerkRef(
            id=None if self.id is None else read_id(PERK, self.id.value),
            handle=None if self.handle is None else self.handle.value,
        )


@strawberry.input(one_of=True, description="One partner.")
class PartnerBy:
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="Its id.")
    handle: strawberry.Maybe[str] = strawberry.field(description="Its handle.")

    def names(self) -> tuple[UUID | None, str | None]:
        """Id and handle, one of them None."""
        return (
            None if self.id is None else read_id(PARTNER, self.id.value),
            None if self.handle is None else self.handle.value,
        )
