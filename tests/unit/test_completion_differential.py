"""Compiled completion and plain graphql-core answer alike: for any schema, document and values, good or bad."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Union

import orjson
import pytest
import strawberry
from graphql import ExecutionResult, execute, parse, specified_rules, validate
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.completion import COUNTS, CompilingExecutor, Plans


@strawberry.enum
class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.interface
class Named:
    name: str


class Promise:
    """Something to await, as often as anybody likes."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value


LEAVES: dict[Any, list[Any]] = {
    str: ["a", ""],
    int: [0, -7],
    float: [1.5, 2],
    bool: [True, False],
    strawberry.ID: [strawberry.ID("x"), 3],
    Colour: [Colour.RED, Colour.BLUE],
    datetime: [datetime(2026, 1, 1, tzinfo=UTC)],
    strawberry.scalars.JSON: [{"a": [1]}, "j"],
}
NOBODY = object()
# What may stand where something else belongs; made anew for each execution, since some are used up by it.
SURPRISES: list[Callable[[], Any]] = [
    lambda: None,
    lambda: "text",
    lambda: 5,
    lambda: 2**31,
    lambda: -(2**31) - 1,
    lambda: 2.0,
    lambda: float("nan"),
    lambda: float("-inf"),
    lambda: True,
    lambda: b"bytes",
    lambda: NOBODY,
    list,
    lambda: ["a", None],
    lambda: (1, 2),
    lambda: {"a": 1},
    lambda: iter(["a"]),
    lambda: ValueError("as a value"),
    lambda: Promise("late"),
    lambda: Promise(None),
    lambda: Colour.RED,
    lambda: "RED",
    lambda: datetime(2026, 1, 1),
]


@dataclass(frozen=True)
class Slot:
    """A field: its name, the Python type in it, and how it is wrapped, from the inside out."""

    name: str
    inner: Any
    wraps: tuple[str, ...]
    resolved: bool = False

    @property
    def annotation(self) -> Any:
        annotation = self.inner
        for wrap in self.wraps:
            annotation = annotation | None if wrap == "optional" else list[annotation]
        return annotation


@dataclass
class World:
    """A schema, and what is needed to write documents for it and values of its types."""

    schema: strawberry.Schema
    slots: dict[Any, list[Slot]]
    roots: list[Slot]
    members: dict[Any, list[Any]]


def _resolver(name: str, annotation: Any, is_async: bool = False) -> Any:
    def from_source(self: Any) -> Any:
        return vars(self)["_" + name]

    def from_context(info: strawberry.Info) -> Any:
        return info.context[name]

    async def later(info: strawberry.Info) -> Any:
        return info.context[name]

    resolver = later if is_async else from_context if name.startswith("root") else from_source
    resolver.__annotations__["return"] = annotation
    return strawberry.field(resolver=resolver)


def _object(name: str, slots: list[Slot], bases: tuple[type, ...]) -> Any:
    resolved = {slot.name: _resolver(slot.name, slot.annotation) for slot in slots if slot.resolved}
    annotations = {slot.name: slot.annotation for slot in slots if not slot.resolved}
    return strawberry.type(type(name, bases, {"__annotations__": annotations, **resolved, "__module__": __name__}))


WRAPS = st.lists(st.sampled_from(["optional", "list"]), max_size=3).map(
    lambda wraps: tuple(w for i, w in enumerate(wraps) if w == "list" or wraps[i - 1 : i] != ["optional"])
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to four object types that refer to earlier ones, an interface, and a union of all of them."""
    slots: dict[Any, list[Slot]] = {Named: [Slot("name", str, ())]}
    members: dict[Any, list[Any]] = {}
    objects: list[Any] = []
    for number in range(draw(st.integers(2, 4))):
        inners = st.sampled_from([*LEAVES, *objects])
        own = [
            Slot(f"t{number}f{place}", draw(inners), draw(WRAPS), draw(st.integers(0, 9)) == 0)
            for place in range(draw(st.integers(1, 4)))
        ]
        named = number == 0 or draw(st.booleans())
        made = _object(f"T{number}", own, (Named,) if named else ())
        slots[made] = ([Slot("name", str, ())] if named else []) + own
        objects.append(made)
    members[Named] = [made for made in objects if issubclass(made, Named)]
    anything = Annotated[Union[tuple(objects)], strawberry.union("Anything")]  # noqa: UP007
    members[anything] = objects
    roots = [
        Slot(f"root{place}", draw(st.sampled_from([*objects, Named, anything])), draw(WRAPS)) for place in range(3)
    ]
    query = type(
        "Query",
        (),
        {slot.name: _resolver(slot.name, slot.annotation, draw(st.booleans())) for slot in roots},
    )
    return World(strawberry.Schema(strawberry.type(query), types=objects), slots, roots, members)


@st.composite
def documents(draw: st.DrawFn, world: World) -> str:
    """A valid document: aliases, fields named twice, fragments of both sorts, @skip and @include."""
    fragments: list[str] = []

    def condition() -> str:
        return draw(
            st.sampled_from([""] * 6 + ["@skip(if: $a)", "@include(if: $b)", "@include(if: true) @skip(if: $b)"])
        )

    def field(slot: Slot, depth: int) -> str:
        alias = draw(st.sampled_from(["", "", f"x_{slot.name}: "]))
        return f"{alias}{slot.name} {condition()} {selection(slot.inner, depth + 1)}"

    def fragment(on: Any, depth: int) -> str:
        name = on.__strawberry_definition__.name
        if draw(st.booleans()):
            return f"... on {name} {condition()} {selection(on, depth)}"
        fragments.append(f"fragment F{len(fragments)} on {name} ")
        place = len(fragments) - 1
        fragments[place] += selection(on, depth)
        return f"...F{place} {condition()}"

    def selection(of: Any, depth: int) -> str:
        if of in LEAVES:
            return ""
        parts = ["__typename"] if draw(st.booleans()) else ["n: __typename"]
        own = world.slots.get(of, [])
        for _ in range(draw(st.integers(1, 4)) if depth < 5 else 0):
            if own and draw(st.integers(0, 3)):
                parts.append(field(draw(st.sampled_from(own)), depth))
            else:
                on = draw(st.sampled_from(world.members[of])) if of in world.members else of
                parts.append(fragment(on, depth + 1))
        return "{ " + " ".join(parts) + " }"

    fields = " ".join(field(slot, 0) for slot in world.roots)
    used = "a: __typename @skip(if: $a) b: __typename @skip(if: $b)"
    return f"query($a: Boolean!, $b: Boolean! = true) {{ {used} {fields} }} " + " ".join(fragments)


@st.composite
def makers(draw: st.DrawFn, world: World, inner: Any, wraps: tuple[str, ...], badness: int) -> Callable[[], Any]:
    """A function that makes one value, the same at every call, of a type or sometimes not."""
    if badness and draw(st.integers(0, badness)) == 0:
        return draw(st.sampled_from(SURPRISES))
    if wraps and wraps[-1] == "optional":
        none = draw(st.integers(0, 3)) == 0
        return (lambda: None) if none else draw(makers(world, inner, wraps[:-1], badness))
    if wraps:
        items = [draw(makers(world, inner, wraps[:-1], badness)) for _ in range(draw(st.integers(0, 2)))]
        kind = draw(st.sampled_from([list, list, tuple, iter]))
        return lambda: kind([make() for make in items])
    if inner in LEAVES:
        leaf = draw(st.sampled_from(LEAVES[inner]))
        return lambda: leaf
    return draw(object_makers(world, draw(st.sampled_from(world.members.get(inner, [inner]))), badness))


@st.composite
def object_makers(draw: st.DrawFn, world: World, of: Any, badness: int) -> Callable[[], Any]:
    """A function that makes one object, which may lack an attribute or be of a class of its own."""
    made = {slot: draw(makers(world, slot.inner, slot.wraps, badness)) for slot in world.slots[of]}
    lacks = draw(st.sampled_from(list(made))).name if badness and draw(st.integers(0, 30)) == 0 else None
    cls = type("Sub", (of,), {}) if badness and draw(st.integers(0, 30)) == 0 else of

    def make() -> Any:
        value = object.__new__(cls)
        for slot, make_slot in made.items():
            if slot.name != lacks:
                vars(value)["_" * slot.resolved + slot.name] = make_slot()
        return value

    return make


def outcome(result: ExecutionResult) -> tuple[bytes, list[Any]]:
    """Data as it goes over the wire, in its order, and all there is to know of each error."""
    errors = [(error.message, error.path, error.locations) for error in result.errors or ()]
    return orjson.dumps(result.data, default=lambda value: type(value).__name__), errors


async def assert_alike(
    world: World, document: Any, make: dict[str, Callable[[], Any]], variables: Any, plans: Plans
) -> bool:
    """Asserts that both executors answer alike, and tells whether they had errors to report."""
    outcomes = []
    for options in (
        {"executor_class": StrawberryGraphQLCoreExecutionContext},
        {"executor_class": CompilingExecutor, "plans": plans},
    ):
        values = {name: make_root() for name, make_root in make.items()}
        result = execute(world.schema._schema, document, None, values, variables, **options)
        outcomes.append(outcome(result if isinstance(result, ExecutionResult) else await result))
    assert outcomes[1] == outcomes[0]
    return bool(outcomes[0][1])


def _compare(data: st.DataObject) -> None:
    world = data.draw(worlds())
    document = parse(data.draw(documents(world)))
    assert validate(world.schema._schema, document, specified_rules) == []
    operation, *fragments = document.definitions
    plans = Plans(operation, {fragment.name.value: fragment for fragment in fragments}, compile_after=0)

    async def for_several_values() -> None:
        for badness in (0, 12, 25, 0):  # the same plans for good values and bad ones
            make = {slot.name: data.draw(makers(world, slot.inner, slot.wraps, badness)) for slot in world.roots}
            variables = {"a": data.draw(st.booleans()), "b": data.draw(st.booleans())}
            before = (COUNTS.hits, COUNTS.fallbacks)
            errors = await assert_alike(world, document, make, variables, plans)
            event(f"errors: {errors}")
            event(f"hits: {COUNTS.hits > before[0]}, fallbacks: {COUNTS.fallbacks > before[1]}")

    asyncio.run(for_several_values())


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: getattr(leaf, "__name__", "JSON"))
@pytest.mark.parametrize("wraps", [(), ("optional",), ("list",), ("optional", "list", "optional")], ids="-".join)
async def test_every_leaf_answers_alike_to_every_surprise(leaf: Any, wraps: tuple[str, ...]) -> None:
    slot = Slot("leaf", leaf, wraps)
    made = _object("Made", [slot], ())
    root = Slot("root0", made, ("optional",))
    query = strawberry.type(type("Query", (), {"root0": _resolver("root0", root.annotation)}))
    world = World(strawberry.Schema(query), {made: [slot]}, [root], {})
    document = parse("{ root0 { leaf } }")
    plans = Plans(document.definitions[0], {}, compile_after=0)
    for surprise in [*SURPRISES, *[lambda good=good: good for good in LEAVES[leaf]]]:
        for inside in (surprise, lambda surprise=surprise: [surprise()]):
            await assert_alike(world, document, {"root0": lambda inside=inside: made(leaf=inside())}, {}, plans)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_compiled_completion_answers_as_graphql_core_does(data: st.DataObject) -> None:
    _compare(data)


@pytest.mark.long
@settings(max_examples=2_000, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_compiled_completion_answers_as_graphql_core_does_in_thousands_of_worlds(data: st.DataObject) -> None:
    _compare(data)
