"""Who may call a field: declared once, printed in the SDL, and enforced before anything runs.

    @object_type(description="…", permission=Staff("audit:read"))     # every field of the type
    class AuditEntry:
        action: str = field(description="…")                            # inherits the type's permission

    @object_type(description="…")
    class Query:
        @field(permission=Partners("perks:read") | Members("me:read"), description="…")
        async def perk(self, info: Info, by: PerkBy) -> Perk | None: ...

        @field(permission=Public, description="…")                      # public is written out, never implied
        def viewer(self, info: Info) -> Viewer: ...

    @object_type(description="…")
    class Mutation:
        @mutation(permission=Members("me:claim"), description="…")
        async def claim_perk(self, info: Info, input: ClaimPerkInput) -> ClaimPerkPayload: ...

A field of a root type must end up with a permission (`undeclared` lists those without); elsewhere no
permission means "whoever got this far". Interfaces are declared with `interface`, inputs and enums with
Strawberry's own decorators. `a | b` admits whom either admits; `Partners()` is any partner's client, and
`Authenticated` is anybody with a token.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

import strawberry
from graphql import GraphQLField, GraphQLNamedType, GraphQLSchema
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from auth.caller import Caller, CallerKind

T = TypeVar("T", bound=type)


@dataclass(frozen=True, slots=True)
class Permission:
    """For each kind of caller that is admitted, all the scopes its token must carry."""

    admitted: tuple[tuple[CallerKind, frozenset[str]], ...]

    def __or__(self, other: "Permission") -> "Permission":
        """Admits whom either admits; one kind has one list, so that missing scopes are never a riddle."""
        merged = dict(self.admitted) | dict(other.admitted)
        if len(merged) < len(self.admitted) + len(other.admitted):
            raise ValueError("each kind of caller may be named once in a permission")
        return Permission(tuple(sorted(merged.items())))

    def scopes_for(self, kind: CallerKind) -> frozenset[str] | None:
        """The scopes a caller of this kind needs; None when no scope would help."""
        return next((scopes for admitted, scopes in self.admitted if admitted is kind), None)

    def admits(self, caller: Caller) -> bool:
        """Whether the caller's kind is named and its token carries every scope."""
        needed = self.scopes_for(caller.kind)
        return needed is not None and needed <= caller.scopes


Public = Permission(tuple((kind, frozenset()) for kind in sorted(CallerKind)))


def Partners(*scopes: str) -> Permission:  # noqa: N802  (reads as the kind of caller it admits)
    """A partner's OAuth client whose token carries all of `scopes`."""
    return Permission(((CallerKind.PARTNER, frozenset(scopes)),))


def Members(*scopes: str) -> Permission:  # noqa: N802
    """A signed-in member whose token carries all of `scopes`."""
    return Permission(((CallerKind.MEMBER, frozenset(scopes)),))


def Staff(*scopes: str) -> Permission:  # noqa: N802
    """A member of staff whose token carries all of `scopes`."""
    return Permission(((CallerKind.STAFF, frozenset(scopes)),))


Authenticated = Partners() | Members() | Staff()


@strawberry.schema_directive(
    name="permission",
    description="Who may select this: every kind of caller that is named, given a token with all its scopes. "
    "A field without it inherits its type's.",
    locations=[Location.FIELD_DEFINITION, Location.OBJECT, Location.INTERFACE],
)
class PermissionDirective:
    """The permission as it stands in the SDL, together with the value that is enforced."""

    public: bool | None = strawberry.UNSET
    partners: list[str] | None = strawberry.UNSET
    members: list[str] | None = strawberry.UNSET
    staff: list[str] | None = strawberry.UNSET
    permission: strawberry.Private[Permission]


def _directives(permission: Permission | None) -> list[object]:
    if permission is None:
        return []
    if permission == Public:
        return [PermissionDirective(public=True, permission=permission)]
    printed = {kind: sorted(scopes) for kind, scopes in permission.admitted}
    return [
        PermissionDirective(
            partners=printed.get(CallerKind.PARTNER, strawberry.UNSET),
            members=printed.get(CallerKind.MEMBER, strawberry.UNSET),
            staff=printed.get(CallerKind.STAFF, strawberry.UNSET),
            permission=permission,
        )
    ]


def field(
    *,
    description: str,
    permission: Permission | None = None,
    name: str | None = None,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    deprecation_reason: str | None = None,
    graphql_type: Any | None = None,
) -> Any:
    """A Strawberry field, as attribute (`alias: str = field(…)`) or as decorator of a resolver."""
    return strawberry.field(
        name=name,
        description=description,
        default=default,
        default_factory=default_factory,
        deprecation_reason=deprecation_reason,
        graphql_type=graphql_type,
        directives=_directives(permission),
    )


def mutation(
    *,
    description: str,
    permission: Permission,
    name: str | None = None,
    deprecation_reason: str | None = None,
) -> Any:
    """A field of the mutation type: its permission is not optional."""
    return field(description=description, permission=permission, name=name, deprecation_reason=deprecation_reason)


def subscription(resolver: Any, *, permission: Permission, description: str) -> Any:
    """A field of the subscription type, on the function that gives its events."""
    return strawberry.subscription(resolver=resolver, description=description, directives=_directives(permission))


@dataclass_transform(kw_only_default=True, field_specifiers=(field, strawberry.field, StrawberryField))
def object_type(*, description: str, permission: Permission | None = None, name: str | None = None) -> Callable[[T], T]:
    """A Strawberry object type; `permission` holds for every field that does not state its own."""
    return lambda cls: strawberry.type(cls, name=name, description=description, directives=_directives(permission))


@dataclass_transform(kw_only_default=True, field_specifiers=(field, strawberry.field, StrawberryField))
def interface(*, description: str, permission: Permission | None = None, name: str | None = None) -> Callable[[T], T]:
    """A Strawberry interface; a field selected through it also obeys the object type it meets."""
    return lambda cls: strawberry.interface(cls, name=name, description=description, directives=_directives(permission))


def _declared(definition: Any) -> Permission | None:
    directives: Iterable[object] = getattr(definition, "directives", None) or ()
    return next((d.permission for d in directives if isinstance(d, PermissionDirective)), None)


def permission_of(parent: GraphQLNamedType, field_definition: GraphQLField) -> Permission | None:
    """The permission in force for a field of a type: its own, else its type's, else none."""
    definition = "strawberry-definition"
    return _declared(field_definition.extensions.get(definition)) or _declared(parent.extensions.get(definition))


def undeclared(schema: GraphQLSchema) -> Iterator[str]:
    """Coordinates (`Query.perk`) of root fields that state no permission; a served schema has none."""
    roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
    for root in filter(None, roots):
        for name, definition in root.fields.items():
            if permission_of(root, definition) is None:
                yield f"{root.name}.{name}"
