"""Permissions are declared on fields and types, printed in the SDL, and hold for a whole operation at once."""

from typing import Any

import pytest
import strawberry

from auth.caller import ANONYMOUS, Caller, CallerKind
from schema.documents import Documents, Operation
from schema.enforcement import VERDICTS_MAX
from schema.errors import Rejected
from schema.limits import Limits
from schema.permissions import (
    Authenticated,
    Members,
    Partners,
    Permission,
    Public,
    Staff,
    field,
    interface,
    object_type,
    undeclared,
)
from tests.toy_schema import caller, schema

PARTNER = caller(CallerKind.PARTNER, "things:read", "secrets:read")
MEMBER = caller(CallerKind.MEMBER, "me:read")
STAFF = caller(CallerKind.STAFF)
AUDITOR = caller(CallerKind.STAFF, "audit:read", "prices:read")


def operation(text: str) -> Operation:
    return Documents(schema, Limits()).by_text(text).operation(None)


def denials(text: str, who: Caller, **variables: Any) -> list[tuple[str, str]]:
    """Path and code of each error, or nothing when the caller is admitted."""
    try:
        operation(text).demands.admit(who, variables)
    except Rejected as rejected:
        return [(".".join(e["path"]), e["extensions"]["code"]) for e in rejected.errors]
    return []


@pytest.mark.parametrize(
    ("permission", "admitted"),
    [
        (Public, {"anonymous", "partner", "member", "staff"}),
        (Authenticated, {"partner", "member", "staff"}),
        (Partners(), {"partner"}),
        (Members() | Staff(), {"member", "staff"}),
    ],
)
def test_a_permission_names_the_kinds_of_callers_it_admits(permission: Permission, admitted: set[str]) -> None:
    assert {kind for kind in CallerKind if permission.admits(Caller(kind, "x"))} == admitted


def test_every_scope_of_the_callers_own_kind_is_needed() -> None:
    permission = Partners("a", "b") | Staff("c")
    assert permission.admits(caller(CallerKind.PARTNER, "a", "b", "c"))
    assert not permission.admits(caller(CallerKind.PARTNER, "a", "c"))
    assert not permission.admits(caller(CallerKind.STAFF, "a", "b"))
    assert not permission.admits(caller(CallerKind.MEMBER, "a", "b", "c"))


def test_the_order_of_a_combination_does_not_matter() -> None:
    assert Partners("a") | Staff("c") == Staff("c") | Partners("a")


def test_a_kind_can_be_named_once_only() -> None:
    with pytest.raises(ValueError, match="once"):
        Partners("a") | Partners("b")


def test_the_sdl_shows_what_is_enforced() -> None:
    sdl = schema.as_str()
    assert 'secret: Thing @permission(partners: ["secrets:read", "things:read"], staff: [])' in sdl
    assert "things(count: Int! = 3): [Thing!]! @permission(public: true)" in sdl
    assert 'type Entry implements Node @permission(staff: ["audit:read"])' in sdl
    assert 'price: Int! @permission(staff: ["prices:read"])' in sdl
    assert "directive @permission(" in sdl


def test_a_root_field_without_a_permission_is_listed() -> None:
    @object_type(description="Reads.")
    class Query:
        a: int = field(description="A.", default=1)
        b: int = field(description="B.", default=1, permission=Public)

    assert list(undeclared(strawberry.Schema(Query)._schema)) == ["Query.a"]


def test_a_root_type_may_state_the_permission_of_all_its_fields() -> None:
    @object_type(description="Reads.", permission=Staff("audit:read"))
    class Query:
        a: int = field(description="A.", default=1)

    assert list(undeclared(strawberry.Schema(Query)._schema)) == []


@pytest.mark.parametrize("who", [ANONYMOUS, PARTNER, MEMBER, STAFF])
def test_public_fields_are_for_everybody(who: Caller) -> None:
    assert denials("{ thing { id name parts { name } } node(id: 1) { id } __typename }", who) == []


@pytest.mark.parametrize("who", [ANONYMOUS, PARTNER, MEMBER])
def test_introspection_is_for_everybody(who: Caller) -> None:
    assert denials('{ __schema { types { name } } __type(name: "Entry") { name } }', who) == []


def test_without_a_token_the_answer_is_unauthenticated() -> None:
    assert denials("{ me secret { id } }", ANONYMOUS) == [("me", "UNAUTHENTICATED"), ("secret", "UNAUTHENTICATED")]


def test_the_wrong_kind_of_caller_is_forbidden() -> None:
    assert denials("{ me }", PARTNER) == [("me", "FORBIDDEN")]


def test_all_missing_scopes_of_the_operation_are_named_at_once() -> None:
    with pytest.raises(Rejected) as rejected:
        operation("{ thing { price } entries { action } secret { id } }").demands.admit(STAFF, {})
    assert [error["extensions"] for error in rejected.value.errors] == [
        {"code": "INSUFFICIENT_SCOPE", "missingScopes": ["audit:read", "prices:read"]}
    ] * 2
    assert [error["path"] for error in rejected.value.errors] == [["thing", "price"], ["entries"]]


def test_missing_scopes_below_a_denied_field_are_named_although_it_has_no_error_of_its_own() -> None:
    with pytest.raises(Rejected) as rejected:
        operation("{ secret { price } }").demands.admit(caller(CallerKind.PARTNER, "things:read"), {})
    assert [error["extensions"]["missingScopes"] for error in rejected.value.errors] == [["secrets:read"]]
    with pytest.raises(Rejected) as rejected:
        operation("{ entries { action ...A } } fragment A on Entry { id }").demands.admit(STAFF, {})
    assert len(rejected.value.errors) == 1


def test_an_error_says_where() -> None:
    with pytest.raises(Rejected) as rejected:
        operation("{\n  mine: me }").demands.admit(PARTNER, {})
    assert rejected.value.errors[0]["locations"] == [{"line": 2, "column": 3}]
    assert rejected.value.errors[0]["path"] == ["mine"]
    assert rejected.value.data_is_null


def test_a_field_inherits_the_permission_of_its_type_unless_it_states_its_own() -> None:
    assert denials("{ found { ... on Entry { action } } }", MEMBER) == [("found.action", "FORBIDDEN")]
    assert denials("{ found { ... on Entry { mood } } }", MEMBER) == []


@pytest.mark.parametrize(
    "text",
    [
        "{ thing { ...A } } fragment A on Thing { price }",
        "{ thing { ... on Thing { ... { price } } } }",
        "{ node(id: 1) { ...A } } fragment A on Thing { price }",
        "{ ...A } fragment A on Query { thing { ...B } } fragment B on Node { ... on Thing { price } }",
    ],
)
def test_fragments_hide_nothing(text: str) -> None:
    assert [code for _, code in denials(text, MEMBER)] == ["FORBIDDEN"]


@pytest.mark.parametrize(
    ("condition", "variables", "denied"),
    [
        ("@skip(if: true)", {}, False),
        ("@skip(if: false)", {}, True),
        ("@include(if: false)", {}, False),
        ("@include(if: true)", {}, True),
        ("@skip(if: $on)", {"on": True}, False),
        ("@skip(if: $on)", {"on": False}, True),
        ("@include(if: $on)", {"on": False}, False),
        ("@include(if: $on)", {}, True),
        ("@include(if: $off)", {}, False),
        ("@include(if: $off)", {"off": True}, True),
        ("@include(if: $on) @skip(if: $off)", {}, True),
        ("@include(if: $on) @skip(if: $off)", {"off": True}, False),
        ("@include(if: $on)", {"on": "no boolean"}, True),
    ],
)
def test_what_is_not_selected_needs_no_permission(condition: str, variables: dict[str, Any], denied: bool) -> None:
    declared = "query($on: Boolean! = true, $off: Boolean! = false) "
    used = "a: __typename @include(if: $on) b: __typename @skip(if: $off)"
    for text in (
        f"{declared} {{ {used} me {condition} }}",
        f"{declared} {{ {used} ... on Query {condition} {{ me }} }}",
        f"{declared} {{ {used} ...A {condition} }} fragment A on Query {{ me }}",
    ):
        assert bool(denials(text, PARTNER, **variables)) is denied


def test_object_types_behind_an_interface_are_closed_to_those_they_do_not_admit() -> None:
    by_interface = operation("{ node(id: 1) { id } }").demands
    assert by_interface.admit(MEMBER, {}) == {"Entry"}
    assert by_interface.admit(AUDITOR, {}) == frozenset()
    assert operation("{ node(id: 1) { __typename ... on Thing { id } } }").demands.admit(MEMBER, {}) == frozenset()


def test_an_interface_may_have_a_permission_of_its_own() -> None:
    @interface(description="A thing with a number.", permission=Staff("numbers:read"))
    class Numbered:
        number: int = field(description="Its number.")

    @object_type(description="A house.")
    class House(Numbered):
        colour: str = field(description="Its colour.", default="red")

    @object_type(description="Reads.")
    class Query:
        @field(permission=Public, description="A house.")
        def house(self) -> Numbered:
            return House(number=1)

    built = Documents(strawberry.Schema(Query, types=[House]), Limits())
    with pytest.raises(Rejected) as rejected:
        built.by_text("{ house { number } }").operation(None).demands.admit(MEMBER, {})
    assert rejected.value.errors[0]["path"] == ["house", "number"]
    assert built.by_text("{ house { ... on House { colour } } }").operation(None).demands.admit(MEMBER, {}) == set()


def test_verdicts_are_remembered_and_bounded() -> None:
    demands = operation("{ secret { id } }").demands
    for number in range(3 * VERDICTS_MAX):
        demands.admit(caller(CallerKind.PARTNER, "things:read", "secrets:read", f"other:{number}"), {})
    assert 0 < len(demands._verdicts) <= VERDICTS_MAX
