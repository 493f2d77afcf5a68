"""Compiled completion is fast where a value is plain, and steps back where it is not."""

import enum
import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import pytest
import strawberry
from graphql import ExecutionResult, execute, parse

from schema import completion
from schema.completion import CONDITIONS_MAX, COUNTS, CompilingExecutor, Counts, Plans

T = TypeVar("T")


@strawberry.enum
class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Cat(Named):
    lives: int = 9
    colour: Colour = Colour.RED
    born: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    friend: "Cat | None" = None


@strawberry.type
class Dog(Named):
    tricks: list[str] = strawberry.field(default_factory=list)

    @strawberry.field
    def loud_name(self) -> str:
        return self.name.upper()


@strawberry.type
class Lazy:
    calls: strawberry.Private[list[str]]

    @strawberry.field
    def cat(self) -> Cat:
        self.calls.append("cat")
        return Cat(name="Tom")


class Computed:
    """A class whose attribute is computed, under a Strawberry type's field of the same name."""

    reads = 0

    @property
    def size(self) -> int:
        Computed.reads += 1
        return 3


@strawberry.type
class Box(Computed):
    label: str = "box"


Box.__strawberry_definition__.fields.append(strawberry.field(name="size", graphql_type=int))
Box.__strawberry_definition__.fields[-1].python_name = "size"


@strawberry.type
class Page(Generic[T]):
    items: list[T]
    total: int


@strawberry.type
class Query:
    @strawberry.field
    def pets(self, info: strawberry.Info) -> list[Named]:
        return info.context

    @strawberry.field
    async def cats(self, info: strawberry.Info) -> list[Cat]:
        return info.context

    @strawberry.field
    def cat(self, info: strawberry.Info) -> Cat | None:
        return info.context

    @strawberry.field
    def dog(self, info: strawberry.Info) -> Dog | None:
        return info.context

    @strawberry.field
    def lazy(self, info: strawberry.Info) -> Lazy | None:
        return info.context

    @strawberry.field
    def box(self, info: strawberry.Info) -> Box | None:
        return info.context

    @strawberry.field
    def page(self, info: strawberry.Info) -> Page[Cat]:
        return info.context


SCHEMA = strawberry.Schema(Query, types=[Cat, Dog])


class Runs:
    """Runs one text again and again with the plans of one document, and tells what completion did."""

    def __init__(self, text: str, compile_after: int = 0) -> None:
        self.document = parse(text)
        operation, *fragments = self.document.definitions
        named = {fragment.name.value: fragment for fragment in fragments}
        self.plans: Plans | None = Plans(operation, named, compile_after)

    async def __call__(self, value: Any, **variables: Any) -> ExecutionResult:
        result = execute(
            SCHEMA._schema,
            self.document,
            context_value=value,
            variable_values=variables,
            executor_class=CompilingExecutor,
            plans=self.plans,
        )
        return result if isinstance(result, ExecutionResult) else await result


@pytest.fixture(autouse=True)
def counts() -> Iterator[Counts]:
    """The counters, from zero."""
    before = replace(COUNTS)
    for name in ("compiled", "not_plain", "hits", "fallbacks"):
        setattr(COUNTS, name, 0)
    yield COUNTS
    for name in ("compiled", "not_plain", "hits", "fallbacks"):
        setattr(COUNTS, name, getattr(before, name) + getattr(COUNTS, name))


async def test_a_list_of_plain_objects_is_one_plan_and_one_hit(counts: Counts) -> None:
    run = Runs("{ cats { name lives colour born friend { name } __typename } }")
    cats = [Cat(name=f"cat {number}", friend=Cat(name="Tom")) for number in range(50)]
    result = await run(cats)
    assert result.errors is None
    assert result.data["cats"][49] == {
        "name": "cat 49",
        "lives": 9,
        "colour": "RED",
        "born": "2026-01-01T00:00:00+00:00",
        "friend": {"name": "Tom"},
        "__typename": "Cat",
    }
    assert counts == Counts(compiled=1, hits=1)


async def test_a_position_is_compiled_when_it_has_been_used_a_few_times(counts: Counts) -> None:
    run = Runs("{ cat { name } }", compile_after=completion.COMPILE_AFTER)
    for _ in range(completion.COMPILE_AFTER):
        await run(Cat(name="Tom"))
    assert counts == Counts()
    await run(Cat(name="Tom"))
    assert counts == Counts(compiled=1, hits=1)


async def test_without_plans_it_is_graphql_core(counts: Counts) -> None:
    run = Runs("{ cat { name } }")
    run.plans = None
    assert (await run(Cat(name="Tom"))).data == {"cat": {"name": "Tom"}}
    assert counts == Counts()


async def test_a_surprise_in_one_item_leaves_the_others_to_their_plan(counts: Counts) -> None:
    run = Runs("{ cats { name friend { name } } }")
    result = await run([Cat(name="Tom"), Cat(name="Tim", friend=Cat(name=None)), Cat(name="Kit")])
    assert result.data == {
        "cats": [{"name": "Tom", "friend": None}, {"name": "Tim", "friend": None}, {"name": "Kit", "friend": None}]
    }
    assert [error.path for error in result.errors] == [["cats", 1, "friend", "name"]]
    assert (counts.hits, counts.fallbacks) == (2, 3)


async def test_an_object_of_a_subclass_is_left_to_graphql_core(counts: Counts) -> None:
    class Kitten(Cat):
        pass

    run = Runs("{ cat { name } }")
    assert (await run(Kitten(name="Tom"))).data == {"cat": {"name": "Tom"}}
    assert (counts.hits, counts.fallbacks) == (0, 1)


async def test_an_object_that_is_cast_to_another_type_is_left_to_graphql_core(counts: Counts) -> None:
    run = Runs("{ pets { __typename name } }")
    result = await run([strawberry.cast(Cat, Cat(name="Tom"))])
    assert result.data == {"pets": [{"__typename": "Cat", "name": "Tom"}]}
    assert counts.hits == 0


async def test_the_class_behind_an_interface_decides(counts: Counts) -> None:
    run = Runs("{ pets { name ... on Cat { lives } ...Tricks } } fragment Tricks on Dog { tricks }")
    result = await run([Cat(name="Tom"), Dog(name="Rex", tricks=["sit"])])
    assert result.data == {"pets": [{"name": "Tom", "lives": 9}, {"name": "Rex", "tricks": ["sit"]}]}
    assert counts == Counts(compiled=1, hits=1)


async def test_a_field_with_a_resolver_is_not_plain_but_its_neighbours_may_be(counts: Counts) -> None:
    run = Runs("{ pets { ... on Cat { name } ... on Dog { loudName } } }")
    result = await run([Cat(name="Tom"), Dog(name="Rex")])
    assert result.data == {"pets": [{"name": "Tom"}, {"loudName": "REX"}]}
    assert (counts.not_plain, counts.compiled, counts.hits) == (3, 1, 1)


async def test_a_resolver_below_runs_once_and_its_value_has_a_plan(counts: Counts) -> None:
    run = Runs("{ lazy { cat { name } } }")
    value = Lazy(calls=[])
    assert (await run(value)).data == {"lazy": {"cat": {"name": "Tom"}}}
    assert value.calls == ["cat"]
    assert counts.hits == 1


async def test_a_computed_attribute_is_read_once(counts: Counts) -> None:
    run = Runs("{ box { label size } }")
    Computed.reads = 0
    assert (await run(Box())).data == {"box": {"label": "box", "size": 3}}
    assert (Computed.reads, counts.not_plain) == (1, 1)


async def test_a_generic_type_is_plain(counts: Counts) -> None:
    run = Runs("{ page { items { name } total } }")
    assert (await run(Page(items=[Cat(name="Tom")], total=1))).data == {
        "page": {"items": [{"name": "Tom"}], "total": 1}
    }
    assert counts == Counts(compiled=1, hits=1)


async def test_conditions_have_plans_of_their_own(counts: Counts) -> None:
    run = Runs("query($a: Boolean!, $b: Boolean = true) { cat { name @include(if: $a) lives @skip(if: $b) } }")
    for _ in range(2):
        assert (await run(Cat(name="Tom"), a=True)).data == {"cat": {"name": "Tom"}}
        assert (await run(Cat(name="Tom"), a=False)).data == {"cat": {}}
        assert (await run(Cat(name="Tom"), a=False, b=False)).data == {"cat": {"lives": 9}}
    assert counts == Counts(compiled=3, hits=6)


async def test_too_many_combinations_of_conditions_are_not_compiled(counts: Counts) -> None:
    names = "abcdef"
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    run = Runs(f"query({declared}) {{ cat {{ {' '.join(f'{name}: name @skip(if: ${name})' for name in names)} }} }}")
    for number in range(2 ** len(names)):
        variables = {name: bool(number >> place & 1) for place, name in enumerate(names)}
        result = await run(Cat(name="Tom"), **variables)
        assert result.data == {"cat": {name: "Tom" for name in names if not variables[name]}}
    assert counts.compiled == CONDITIONS_MAX


async def test_plans_keep_nothing_of_a_request_and_go_with_their_document() -> None:
    run = Runs("{ cat { name } }")
    cat = Cat(name="Tom")
    await run(cat)
    seen, plans = weakref.ref(cat), weakref.ref(run.plans)
    del cat
    gc.collect()
    assert seen() is None
    del run
    gc.collect()
    assert plans() is None


async def test_what_a_middleware_would_see_is_not_compiled(counts: Counts) -> None:
    seen: list[str] = []

    def middleware(resolve: Callable[..., Any], source: Any, info: Any, **arguments: Any) -> Any:
        seen.append(info.field_name)
        return resolve(source, info, **arguments)

    run = Runs("{ cat { name } }")
    execute(
        SCHEMA._schema,
        run.document,
        context_value=Cat(name="Tom"),
        middleware=[middleware],
        executor_class=CompilingExecutor,
        plans=run.plans,
    )
    assert (seen, counts) == (["cat", "name"], Counts())
