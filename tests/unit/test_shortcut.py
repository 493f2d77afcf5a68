"""The short way answers as the reference does, and resolves nothing twice."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError

from auth.caller import ANONYMOUS, Caller
from partners.errors import NotFound
from schema.arguments import resolve_directly
from schema.documents import Documents
from schema.errors import Rejected
from schema.execution import execute
from schema.limits import Limits
from schema.permissions import Public, object_type
from schema.permissions import field as shown


@dataclass
class Context:
    """A request that counts what is resolved."""

    caller: Caller = ANONYMOUS
    request_id: str = "r"
    calls: list[str] = field(default_factory=list)


Info = strawberry.Info[Context, None]


@object_type(description="A thing.")
class Thing:
    name: str = shown(description="Its name.")
    size: int | None = shown(description="Its size.")


@strawberry.input(description="Which.")
class Which:
    kind: str = strawberry.field(description="What to do.")
    size: int | None = strawberry.field(default=7, description="How large.")


async def find(info: Info, which: Which) -> Thing | None:
    """A thing, or what the kind asks for."""
    info.context.calls.append(which.kind)
    if which.kind == "none":
        return None
    if which.kind == "error":
        raise NotFound("no such thing")
    if which.kind == "timeout":
        raise TimeoutError
    if which.kind == "slow":
        await asyncio.sleep(5)
    if which.kind == "surprise":
        return Thing(name="x", size="large")  # type: ignore[arg-type]
    if which.kind == "broken":
        return Thing(name=None, size=1)  # type: ignore[arg-type]
    return Thing(name=which.kind, size=which.size)


async def must(info: Info, which: Which) -> Thing:
    """The same where null is not allowed."""
    return await find(info, which)  # type: ignore[return-value]


@object_type(description="What can be asked.")
class Query:
    maybe: Thing | None = shown(permission=Public, description="A thing.")(find)
    thing: Thing = shown(permission=Public, description="A thing.")(must)


SCHEMA = strawberry.Schema(query=Query)
resolve_directly(SCHEMA)
DOCUMENTS = Documents(SCHEMA, Limits(), None)
TEXTS = [
    "query($w: Which!) { thing(which: $w) { name size } }",
    "query($w: Which!) { other: maybe(which: $w) { size __typename } }",
    "query($k: String!) { maybe(which: {kind: $k}) { ...F } } fragment F on Thing { name size }",
    "query($w: Which!, $no: Boolean = false) { maybe(which: $w) { name size @include(if: $no) } }",
]
KINDS = ["ok", "none", "error", "timeout", "surprise", "broken"]


async def answer(text: str, kind: str, compiled: bool) -> tuple[Any, list[Any], list[str]]:
    """Data, errors and calls of one request."""
    context = Context()
    operation = DOCUMENTS.by_text(text).operation(None)
    inputs = {"k": kind} if "$k" in text else {"w": {"kind": kind}}
    data, errors = await execute(SCHEMA, operation, inputs, context, timeout_s=1, compiled=compiled)
    return data, [shape(error) for error in errors or ()], context.calls


def shape(error: GraphQLError) -> tuple[Any, ...]:
    """What a client sees of an error."""
    return (
        error.message,
        error.path,
        [(one.line, one.column) for one in error.locations or ()],
        type(error.original_error),
    )


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_it_answers_as_the_reference_does(text: str, kind: str) -> None:
    reference = await answer(text, kind, compiled=False)
    for _ in range(6):  # compiled after three
        assert await answer(text, kind, compiled=True) == reference
    assert reference[2] == [kind]


async def test_it_is_taken() -> None:
    operation = DOCUMENTS.by_text(TEXTS[0]).operation(None)
    assert operation.shortcut is not None
    for _ in range(5):
        await answer(TEXTS[0], "ok", compiled=True)
    positions = operation.plans.under({})
    assert positions is not None
    assert callable(positions[operation.shortcut.position])


@pytest.mark.parametrize(
    "text",
    [
        '{ thing(which: {kind: "a"}) { name } maybe(which: {kind: "b"}) { name } }',
        '{ ... on Query { thing(which: {kind: "a"}) { name } } }',
        'query($no: Boolean!) { thing(which: {kind: "a"}) @include(if: $no) { name } }',
        "{ __typename }",
    ],
)
def test_other_operations_go_the_long_way(text: str) -> None:
    assert DOCUMENTS.by_text(text).operation(None).shortcut is None


@pytest.mark.parametrize("compiled", [True, False])
async def test_time_is_limited_on_both_ways(compiled: bool) -> None:
    for _ in range(5):
        await answer(TEXTS[0], "ok", compiled=True)
    operation = DOCUMENTS.by_text(TEXTS[0]).operation(None)
    with pytest.raises(Rejected) as caught:
        await execute(SCHEMA, operation, {"w": {"kind": "slow"}}, Context(), timeout_s=0.01, compiled=compiled)
    assert caught.value.code == "TIMEOUT"
