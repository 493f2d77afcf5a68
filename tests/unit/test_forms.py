"""Forms: which schemas a partner may write, and every fault of a form by its path."""

from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from partners.forms import FAULTS_MAX, FORM_BYTES_MAX, SCHEMA_BYTES_MAX, form_faults, schema_faults

FORM = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A table",
    "type": "object",
    "properties": {
        "guests": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/guest"}},
        "day": {"type": "string", "format": "date"},
        "seats": {"type": "integer", "minimum": 1, "x-widget": "stepper"},
        "how": {"oneOf": [{"const": "inside"}, {"const": "outside"}]},
    },
    "required": ["guests", "day"],
    "additionalProperties": False,
    "$defs": {
        "guest": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}, "required": ["name"]}
    },
}


def faults(form: Any, schema: dict[str, Any] = FORM) -> list[tuple[str, str]]:
    return [(".".join(fault.path), fault.message) for fault in form_faults(schema, form)]


def test_a_form_that_fits_has_no_faults() -> None:
    assert schema_faults(FORM) == []
    assert faults({"guests": [{"name": "Ada"}], "day": "2026-12-24", "seats": 2, "how": "inside"}) == []


def test_every_fault_has_its_own_path() -> None:
    form = {"guests": [{}, {"name": "toolong"}, 3], "seats": 0, "colour": "red", "how": "both"}
    assert sorted(faults(form)) == [
        ("colour", "is not asked for"),
        ("day", "is required"),
        ("guests.0.name", "is required"),
        ("guests.1.name", "'toolong' is too long"),
        ("guests.2", "3 is not of type 'object'"),
        ("how", "'both' is not valid under any of the given schemas"),
        ("seats", "0 is less than the minimum of 1"),
    ]


def test_a_day_that_is_no_day_is_a_fault() -> None:
    assert faults({"guests": [{"name": "Ada"}], "day": "2026-02-30"}) == [("day", "'2026-02-30' is not a 'date'")]


def test_what_is_quoted_is_short_and_there_are_not_too_many() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    [(path, message)] = faults({"a": "x" * 5_000}, schema)
    assert path == "a"
    assert len(message) <= 200
    assert len(faults({str(place): "x" for place in range(200)}, schema)) == FAULTS_MAX


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (3, "a JSON Schema is an object"),
        ([], "a JSON Schema is an object"),
        ({}, 'type: a form is an object: "object"'),
        ({"type": "string"}, 'type: a form is an object: "object"'),
        ({"type": "objekt"}, "type: 'objekt' is not valid under any of the given schemas"),
        ({"type": "object", "properties": 3}, "properties: 3 is not of type 'object'"),
        (
            {"type": "object", "properties": {"a": {"minimum": "3"}}},
            "properties.a.minimum: '3' is not of type 'number'",
        ),
        ({"type": "object", "pattern": "(a+)+$"}, "pattern: not a keyword of forms"),
        ({"type": "object", "patternProperties": {"(a+)+$": {}}}, "patternProperties: not a keyword of forms"),
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties: not a keyword of forms"),
        ({"type": "object", "$dynamicRef": "#"}, "$dynamicRef: not a keyword of forms"),
        ({"type": "object", "$id": "https://example.com"}, "$id: not a keyword of forms"),
        (
            {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"},
            "$schema: only https://json-schema.org/draft/2020-12/schema",
        ),
        (
            {"type": "object", "items": {"$ref": "https://example.com/schema"}},
            "items.$ref: only #/$defs/<name>: nothing is fetched",
        ),
        (
            {"type": "object", "not": {"$ref": "file:///etc/passwd"}},
            "not.$ref: only #/$defs/<name>: nothing is fetched",
        ),
        ({"type": "object", "$ref": "#"}, "$ref: only #/$defs/<name>: nothing is fetched"),
        ({"type": "object", "$ref": "#/$defs/a"}, "#/$defs/a: the reference leads nowhere"),
        ({"type": "object", "properties": {"a": {"$defs": {}}}}, "properties.a.$defs: only at the root"),
        (
            {"type": "object", "$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
            "more than 1000 parts, or references in circles or 12 deep",
        ),
        (
            {"type": "object", "enum": [10**400]},
            "enum.0: a number beyond 9007199254740991",
        ),
        ({"type": "object", "title": "a\0b"}, "title: has characters that can't be stored"),
    ],
)
def test_a_form_schema_that_is_no_schema_is_told_where(schema: Any, fault: str) -> None:
    assert schema_faults(schema) == [fault]


def test_all_faults_of_a_schema_are_told_at_once() -> None:
    schema = {"type": "object", "required": "x", "minProperties": -1}
    assert sorted(one.split(":")[0] for one in schema_faults(schema)) == ["minProperties", "required"]


def test_a_schema_is_bounded_in_bytes_and_depth() -> None:
    [fault] = schema_faults({"type": "object", "description": "x" * SCHEMA_BYTES_MAX})
    assert "bytes are more than" in fault
    deep: dict[str, Any] = {}
    for _ in range(2_000):
        deep = {"not": deep}
    assert len(schema_faults({"type": "object", "not": deep})) == 1


def test_references_that_double_are_found_before_they_cost_anything() -> None:
    defs: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    started = perf_counter()
    [fault] = schema_faults({"type": "object", "$ref": "#/$defs/d0", "$defs": defs | {"d40": {}}})
    assert "more than 1000 parts" in fault
    assert perf_counter() - started < 1


def test_the_worst_form_for_a_schema_is_refused_or_soon_judged() -> None:
    costly = {"allOf": [{"not": {"const": 5}}] * 100}
    schema = {"type": "object", "additionalProperties": {"type": "array", "items": costly, "uniqueItems": True}}
    assert schema_faults(schema) == []
    assert faults({"a": list(range(1_000))}, schema) == [("", "too many values for this form")]
    started = perf_counter()
    assert faults({"a": list(range(6, 90))}, schema) == []
    assert perf_counter() - started < 1


@pytest.mark.parametrize(("links", "fits"), [(12, True), (13, False), (500, False)])
def test_references_lead_only_so_deep(links: int, fits: bool) -> None:
    chain: dict[str, Any] = {f"d{place}": {"$ref": f"#/$defs/d{place + 1}"} for place in range(1, links)}
    schema = {"type": "object", "$ref": "#/$defs/d1", "$defs": chain | {f"d{links}": {}}}
    assert (schema_faults(schema) == []) == fits


def test_what_is_nested_as_deep_as_it_may_be_is_judged() -> None:
    deep: dict[str, Any] = {}
    for _ in range(9):
        deep = {"not": deep}
    nots: dict[str, Any] = {}
    for place in range(1, 12):
        inner: dict[str, Any] = {"$ref": f"#/$defs/d{place + 1}"}
        for _ in range(9):
            inner = {"not": inner}
        nots[f"d{place}"] = inner
    schema = {"type": "object", "$ref": "#/$defs/d1", "$defs": nots | {"d12": deep}}
    assert schema_faults(schema) == []
    assert len(faults({"a": 1}, schema)) <= 1


def of_a(inner: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": inner}}


NAMES = [f"name-{number}" for number in range(1_500)]
MIXED: list[Any] = [item for number in range(1_400) for item in (number, f"{number}")]


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        (of_a({"uniqueItems": True}), {"a": MIXED}),
        (of_a({"$schema": "https://json-schema.org/draft/2020-12/schema", "uniqueItems": True}), {"a": MIXED}),
        (of_a({"anyOf": [{"items": {"required": NAMES}}]}), {"a": [{}] * 300}),
        (of_a({"anyOf": [{"items": {"dependentRequired": {"a": NAMES}}}]}), {"a": [{"a": 1}] * 300}),
        (of_a({"anyOf": [{"items": {"enum": list(range(4_000))}}]}), {"a": [-1] * 1_500}),
        (of_a({"anyOf": [{"items": {"not": {"title": "x" * 30_000}}}]}), {"a": [1] * 5_000}),
        (of_a({"items": {"oneOf": [{"not": {"const": "x" * 30_000}}, {}]}}), {"a": [1] * 3_000}),
    ],
)
def test_what_is_quoted_or_compared_counts_as_work(schema: dict[str, Any], form: dict[str, Any]) -> None:
    assert schema_faults(schema) == []
    started = perf_counter()
    form_faults(schema, form)
    assert perf_counter() - started < 1


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"anyOf": [{}] * 10_000}, "more than 1000 parts"),
        ({"$defs": {f"{number}": {} for number in range(3_000)}}, "more than 1000 parts"),
        ({"required": [*map(str, range(4_000)), 1]}, "required: a list of names has names only"),
        ({"dependentRequired": {"a": [*NAMES, {}]}}, "dependentRequired: a list of names has names only"),
        ({"type": [*MIXED]}, "type: a list of names has names only"),
    ],
)
def test_a_schema_that_would_take_long_to_check_is_told_at_once(schema: dict[str, Any], fault: str) -> None:
    started = perf_counter()
    assert set(schema_faults({"type": "object"} | schema)) == {fault}
    assert perf_counter() - started < 1


@pytest.mark.parametrize(
    ("items", "alike"), [([1, 1.0], True), ([1, True], False), ([0, False, "", None], False), ([{"a": 1}] * 2, True)]
)
def test_items_are_told_apart_as_the_standard_does(items: list[Any], alike: bool) -> None:
    found = faults({"a": items}, of_a({"uniqueItems": True}))
    assert found == ([("a", "has the same item twice")] if alike else [])


def test_a_property_that_goes_with_others_says_with_which() -> None:
    schema = {"type": "object", "dependentRequired": {"a": ["b", "c"]}}
    assert faults({"a": 1, "c": 1}, schema) == [("", "'a' goes with 'b'")]


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"a": "b\0"}, ("a", "has characters that can't be stored")),
        ({"a": "\ud800"}, ("a", "has characters that can't be stored")),
        ({"a\0": 1}, ("", "a name has characters that can't be stored")),
        ({"a": float("inf")}, ("a", "a number beyond 9007199254740991")),
        ({"a": float("nan")}, ("a", "a number beyond 9007199254740991")),
        ({"a": -(2**53)}, ("a", "a number beyond 9007199254740991")),
    ],
)
def test_what_can_not_be_stored_is_a_fault(form: Any, fault: tuple[str, str]) -> None:
    assert faults(form, {"type": "object"}) == [fault]


def test_a_form_is_bounded_in_bytes() -> None:
    assert len(faults({"a": "x" * FORM_BYTES_MAX}, {"type": "object"})) == 1
    assert faults({"a": "x" * (FORM_BYTES_MAX - 8)}, {"type": "object"}) == []


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "bb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "integer", "null"]),
            "const": DOCUMENTS,
            "minimum": st.integers(-3, 3),
            "maxLength": st.integers(0, 2),
            "required": st.lists(st.sampled_from("abc"), unique=True),
            "dependentRequired": st.dictionaries(
                st.sampled_from("abc"), st.lists(st.sampled_from("abc"), unique=True), max_size=2
            ),
            "uniqueItems": st.booleans(),
            "enum": st.lists(DOCUMENTS, max_size=3),
            "description": st.just("for people"),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "additionalProperties": inner | st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=5,
)


@given(SCHEMAS, st.dictionaries(st.sampled_from("abc"), DOCUMENTS, max_size=3))
def test_a_form_has_faults_just_when_the_standard_says_so(schema: dict[str, Any], form: dict[str, Any]) -> None:
    whole = schema | {"type": "object"}
    assert schema_faults(whole) == []
    found = form_faults(whole, form)
    assert (found == []) == Draft202012Validator(whole).is_valid(form)
    assert len({(fault.path, fault.message) for fault in found}) == len(found)
