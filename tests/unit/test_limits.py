"""Each limit of a document is tried exactly at its edge and one over it."""

from dataclasses import replace

import pytest
from graphql import get_introspection_query, parse

from schema.documents import Documents
from schema.errors import Rejected
from schema.limits import Limits, check
from tests.toy_schema import schema

LIMITS = Limits()
WIDE = replace(LIMITS, overlaps=200_000)  # where a text repeats itself to reach another limit


def nested(depth: int) -> str:
    return "{ thing" + " { parts" * (depth - 2) + " { name" + " }" * depth


def limit_of(rejected: pytest.ExceptionInfo[Rejected]) -> tuple[str, int, int | None]:
    extensions = rejected.value.errors[0]["extensions"]
    assert extensions["code"] == "LIMIT_EXCEEDED"
    return extensions["limit"], extensions["allowed"], extensions.get("found")


EDGES = {
    "depth": nested,
    "aliases": lambda count: "{ thing { " + " ".join(f"a{number}: name" for number in range(count)) + " } }",
    "root_fields": lambda count: "{ " + "things " * count + "}",
    "directives": lambda count: "{ thing { name " + "@include(if: true) " * count + "} }",
    "selections": lambda count: "{ thing { " + "name " * (count - 1) + "} }",
    "introspection_depth": lambda depth: "{ __schema" + " { x" * (depth - 1) + " }" * depth,
}


@pytest.mark.parametrize("limit", EDGES)
def test_a_document_exactly_at_a_limit_is_allowed(limit: str) -> None:
    check(parse(EDGES[limit](getattr(LIMITS, limit))), WIDE)


@pytest.mark.parametrize("limit", EDGES)
def test_a_document_one_over_a_limit_is_rejected_with_the_figures(limit: str) -> None:
    allowed = getattr(LIMITS, limit)
    with pytest.raises(Rejected) as rejected:
        check(parse(EDGES[limit](allowed + 1)), WIDE)
    assert limit_of(rejected) == (limit, allowed, allowed + 1)


@pytest.mark.parametrize("character", ["x", "é", "🏃"])
def test_the_length_is_counted_in_bytes(character: str) -> None:
    documents = Documents(schema, LIMITS)
    comment = character * ((LIMITS.length - len("{ __typename } #")) // len(character.encode()))
    padding = " " * (LIMITS.length - len(("{ __typename } #" + comment).encode()))
    text = "{ __typename } " + padding + "#" + comment
    assert len(text.encode()) == LIMITS.length
    documents.by_text(text)
    with pytest.raises(Rejected) as rejected:
        documents.by_text(text + " ")
    assert limit_of(rejected) == ("length", LIMITS.length, LIMITS.length + 1)


def test_the_tokens_are_counted_by_the_parser() -> None:
    documents = Documents(schema, replace(LIMITS, tokens=100, overlaps=5_000))
    documents.by_text("{ thing { " + "name " * 95 + "} }")
    with pytest.raises(Rejected) as rejected:
        documents.by_text("{ thing { " + "name " * 96 + "} }")
    assert limit_of(rejected) == ("tokens", 100, None)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("depth", "{ thing { ...A } } fragment A on Thing " + nested(10).replace("thing", "parts")),
        ("aliases", "{ things { ...A } thing { ...A } } fragment A on Thing { " + "a: name " * 8 + "}"),
        ("root_fields", "{ ...A ...A } fragment A on Query { " + "things " * 6 + "}"),
        ("directives", "{ thing { ...A ...A } } fragment A on Thing { name " + "@skip(if: false) " * 11 + "}"),
        ("selections", "{ thing { ...A ...A } } fragment A on Thing { " + "name " * 250 + "}"),
    ],
)
def test_a_fragment_counts_as_often_as_it_is_spread(limit: str, text: str) -> None:
    with pytest.raises(Rejected) as rejected:
        check(parse(text), LIMITS)
    assert limit_of(rejected)[0] == limit


def test_fragments_that_double_each_other_are_measured_without_writing_them_out() -> None:
    chain = " ".join(f"fragment F{n} on Thing {{ ...F{n + 1} ...F{n + 1} }}" for n in range(100))
    with pytest.raises(Rejected) as rejected:
        check(parse("{ thing { ...F0 } } " + chain + " fragment F100 on Thing { name }"), LIMITS)
    assert limit_of(rejected) == ("selections", 500, 2**100 + 1)


@pytest.mark.parametrize(
    "fragments",
    [
        "fragment A on Thing { ...A }",
        "fragment A on Thing { ...B } fragment B on Thing { ...A }",
        "fragment A on Thing { parts { ...A } x: parts { ...A } }",
    ],
)
@pytest.mark.parametrize("operation", ["{ thing { ...A } }", "{ thing { name } }"])
def test_a_cycle_of_fragments_has_no_size_and_is_invalid(operation: str, fragments: str) -> None:
    with pytest.raises(Rejected) as rejected:
        check(parse(operation + fragments), LIMITS)
    assert rejected.value.code == "GRAPHQL_VALIDATION_FAILED"


def test_an_unknown_fragment_is_left_to_validation() -> None:
    check(parse("{ thing { ...Unknown } }"), LIMITS)


@pytest.mark.parametrize(
    ("text", "overlaps"),
    [
        ("{ thing { name id } }", 0),
        ("{ thing { name name name name name } }", 10),
        ("{ thing { name x: name x: id } }", 1),
        ("{ thing { name } thing { name } }", 2),
        ("{ thing { name ... { name } ...A ...A } } fragment A on Thing { name }", 3),
        ("{ things { id } } fragment A on Thing { name name }", 1),
    ],
)
def test_overlaps_are_pairs_of_fields_that_validation_compares(text: str, overlaps: int) -> None:
    check(parse(text), replace(LIMITS, overlaps=overlaps))
    if overlaps:
        with pytest.raises(Rejected) as rejected:
            check(parse(text), replace(LIMITS, overlaps=overlaps - 1))
        assert limit_of(rejected) == ("overlaps", overlaps - 1, overlaps)


def test_nesting_spread_over_many_fragments_is_rejected_and_no_crash() -> None:
    deep = " ".join(f"fragment F{n} on Thing {{ {'... { ' * 150} ...F{n + 1} {'} ' * 150} }}" for n in range(40))
    text = "{ thing { ...F0 } } " + deep + " fragment F40 on Thing { name }"
    with pytest.raises(Rejected) as rejected:
        check(parse(text), LIMITS)
    assert limit_of(rejected)[0] == "depth"


def test_every_operation_of_a_document_is_measured() -> None:
    with pytest.raises(Rejected) as rejected:
        check(parse("query A { thing { name } } query B " + nested(11)), LIMITS)
    assert limit_of(rejected) == ("depth", 10, 11)


@pytest.mark.parametrize("fragment", ["name " * 501, "name " + "@include(if: true) " * 21])
def test_a_fragment_that_nobody_spreads_obeys_the_limits_that_slow_validation_down(fragment: str) -> None:
    with pytest.raises(Rejected) as rejected:
        check(parse("{ thing { name } } fragment A on Thing { " + fragment + "}"), LIMITS)
    assert limit_of(rejected)[0] in ("selections", "directives")


@pytest.mark.parametrize("options", [{}, {"input_value_deprecation": True, "one_of": True, "specified_by_url": True}])
def test_the_standard_introspection_query_is_within_the_limits(options: dict[str, bool]) -> None:
    text = get_introspection_query(directive_is_repeatable=True, schema_description=True, **options)
    operation = Documents(schema, LIMITS).by_text(text).operation("IntrospectionQuery")
    assert operation.introspects


def test_introspection_does_not_deepen_what_stands_beside_it() -> None:
    text = "{ __schema { types { fields { args " + "{ type " * 8 + "{ name }" + " }" * 11 + " "
    check(parse(text + "thing { name } }"), LIMITS)
    with pytest.raises(Rejected) as rejected:
        check(parse(text + nested(11)[1:]), LIMITS)
    assert limit_of(rejected) == ("depth", 10, 11)
