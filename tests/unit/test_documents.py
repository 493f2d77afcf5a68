"""A text is parsed, measured and validated once, whatever comes of it."""

from hashlib import sha256
from pathlib import Path

import pytest

from schema import documents as module
from schema.documents import BoundedCache, Documents
from schema.errors import MESSAGE_LENGTH_MAX, Rejected
from schema.limits import Limits
from tests.toy_schema import schema

TEXT = "query Rings { things { name } }"


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that went through validation."""
    texts: list[str] = []
    validate = module.validate

    def counting(schema: object, node: object, *rest: object, **options: object) -> object:
        texts.append(node.loc.source.body)
        return validate(schema, node, *rest, **options)

    monkeypatch.setattr(module, "validate", counting)
    return texts


def code_of(documents: Documents, text: str) -> str:
    with pytest.raises(Rejected) as rejected:
        documents.by_text(text)
    return rejected.value.code


def test_a_text_is_prepared_once(validated: list[str]) -> None:
    documents = Documents(schema, Limits())
    assert documents.by_text(TEXT) is documents.by_text(TEXT)
    assert validated == [TEXT]


def test_two_texts_that_mean_the_same_are_two_documents() -> None:
    documents = Documents(schema, Limits())
    assert documents.by_text(TEXT) is not documents.by_text(TEXT + " ")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("", "GRAPHQL_PARSE_FAILED"),
        ("{ thing }", "GRAPHQL_VALIDATION_FAILED"),
        ("fragment A on Thing { name }", "GRAPHQL_VALIDATION_FAILED"),
        ("type Query { a: Int }", "GRAPHQL_VALIDATION_FAILED"),
        ('{ thing(by: {id: "1", name: "x"}) { name } }', "GRAPHQL_VALIDATION_FAILED"),
        ("{ thing(by: {id: null}) { name } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ thing { name @defer } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ " + "things { name } " * 11 + "}", "LIMIT_EXCEEDED"),
    ],
)
def test_a_rejected_text_is_rejected_again_without_another_look(text: str, code: str, validated: list[str]) -> None:
    documents = Documents(schema, Limits())
    assert code_of(documents, text) == code
    looks = len(validated)
    assert code_of(documents, text) == code
    assert len(validated) == looks


def test_a_hostile_text_is_measured_before_it_is_validated(validated: list[str]) -> None:
    assert code_of(Documents(schema, Limits()), "{ thing { " + "name " * 501 + "} }") == "LIMIT_EXCEEDED"
    assert validated == []


def test_validation_stops_after_a_few_errors() -> None:
    with pytest.raises(Rejected) as rejected:
        Documents(schema, Limits()).by_text("{ thing { " + " ".join(f"f{n}" for n in range(400)) + " } }")
    assert len(rejected.value.errors) == module.VALIDATION_ERRORS_MAX + 1


def test_a_message_does_not_repeat_a_whole_document() -> None:
    fields = " ".join(f"f{n}: 1" for n in range(300))
    with pytest.raises(Rejected) as rejected:
        Documents(schema, Limits()).by_text(f"{{ thing(by: {{{fields}}}) {{ name }} }}")
    assert all(len(error["message"]) <= MESSAGE_LENGTH_MAX for error in rejected.value.errors)


def test_errors_of_a_rejected_text_say_where() -> None:
    with pytest.raises(Rejected) as rejected:
        Documents(schema, Limits()).by_text("{\n  thing }")
    assert rejected.value.errors[0]["locations"] == [{"line": 2, "column": 3}]


def test_the_cache_forgets_what_was_used_least_recently() -> None:
    cache: BoundedCache[str] = BoundedCache(count_max=2, bytes_max=100)
    cache.put(b"a", "A", 1)
    cache.put(b"b", "B", 1)
    assert cache.get(b"a") == "A"
    cache.put(b"c", "C", 1)
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c")) == ("A", None, "C")


def test_the_cache_is_bounded_in_bytes_too() -> None:
    cache: BoundedCache[str] = BoundedCache(count_max=100, bytes_max=10)
    for key in (b"a", b"b", b"c"):
        cache.put(key, "value", 4)
    assert (len(cache), cache.get(b"a")) == (2, None)
    cache.put(b"d", "too large for all", 11)
    assert len(cache) == 0


def test_hostile_texts_do_not_push_good_documents_out(validated: list[str]) -> None:
    documents = Documents(schema, Limits(), count_max=2)
    documents.by_text(TEXT)
    for number in range(5):
        code_of(documents, f"{{ unknown{number} }}")
    documents.by_text(TEXT)
    assert validated.count(TEXT) == 1


def test_an_operation_is_chosen_by_name() -> None:
    document = Documents(schema, Limits()).by_text("query A { me } query B { me } mutation C { wave }")
    assert document.operation("B").node.name.value == "B"
    assert document.operation("C").kind == "mutation"


@pytest.mark.parametrize("name", [None, "", "D"])
def test_without_a_good_name_there_is_no_choice_among_several(name: str | None) -> None:
    document = Documents(schema, Limits()).by_text("query A { me } query B { me }")
    with pytest.raises(Rejected) as rejected:
        document.operation(name)
    assert rejected.value.code == "OPERATION_RESOLUTION_FAILURE"


def test_the_only_operation_needs_no_name() -> None:
    document = Documents(schema, Limits()).by_text(TEXT)
    assert document.operation(None) is document.operation("") is document.operation("Rings")


def test_variables_of_the_wrong_type_are_the_users_mistake() -> None:
    operation = Documents(schema, Limits()).by_text("query($n: Int!) { things(count: $n) { name } }").operation(None)
    assert operation.variable_values(schema._schema, {"n": 3}).coerced == {"n": 3}
    for inputs in ({}, {"n": None}, {"n": "3"}, {"n": 2**31}):
        with pytest.raises(Rejected) as rejected:
            operation.variable_values(schema._schema, inputs)
        assert rejected.value.code == "BAD_USER_INPUT"


def test_variables_left_out_have_their_defaults_or_are_absent() -> None:
    text = "query($n: Int! = 2, $by: ThingBy) { things(count: $n) { name } thing(by: $by) { name } }"
    operation = Documents(schema, Limits()).by_text(text).operation(None)
    assert operation.variable_values(schema._schema, {}).coerced == {"n": 2}
    assert operation.variable_values(schema._schema, {"by": None, "unused": 1}).coerced == {"n": 2, "by": None}


def test_variables_nested_without_end_are_the_users_mistake() -> None:
    nested: list[object] = []
    for _ in range(5_000):
        nested = [nested]
    operation = Documents(schema, Limits()).by_text("query($n: Int!) { things(count: $n) { name } }").operation(None)
    with pytest.raises(Rejected) as rejected:
        operation.variable_values(schema._schema, {"n": nested})
    assert rejected.value.code == "BAD_USER_INPUT"


def test_an_input_with_exactly_one_key_is_held_to_it_in_variables() -> None:
    operation = Documents(schema, Limits()).by_text("query($by: ThingBy) { thing(by: $by) { name } }").operation(None)
    with pytest.raises(Rejected) as rejected:
        operation.variable_values(schema._schema, {"by": {"id": "1", "name": "x"}})
    assert rejected.value.code == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("text", "introspects"),
    [
        ("{ __typename }", True),
        ("{ __schema { queryType { name } } }", True),
        ('{ __type(name: "Thing") { name } t: __typename }', True),
        ("query($name: String!) { __type(name: $name) { name } }", False),
        ("{ __typename me }", False),
        ("{ ...A } fragment A on Query { me }", False),
    ],
)
def test_only_what_the_schema_alone_answers_is_answered_from_memory(text: str, introspects: bool) -> None:
    assert Documents(schema, Limits()).by_text(text).operation(None).introspects is introspects


def test_a_trusted_document_is_found_by_the_hash_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "rings.graphql").write_text(f"\n{TEXT}\n")
    (tmp_path / "notes.md").write_text("not GraphQL")
    documents = Documents(schema, Limits(), tmp_path)
    document_id = "sha256:" + sha256(TEXT.encode()).hexdigest()
    assert documents.trusted_ids == {"rings": document_id}
    assert documents.by_id(document_id).operation("Rings").kind == "query"
    assert documents.by_id(document_id.upper().replace("SHA256", "sha256")) is documents.by_id(document_id)


def test_a_trusted_document_knows_no_limits_by_id_or_by_text(tmp_path: Path) -> None:
    text = "{ " + "things { name } " * 60 + "}"
    (tmp_path / "large.graphql").write_text(text)
    documents = Documents(schema, Limits(), tmp_path)
    assert documents.by_text(text) is documents.by_id(documents.trusted_ids["large"])
    assert code_of(documents, text + " ") == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("document_id", ["", "sha256:", "sha256:zz", "md5:00", "sha256:" + "0" * 64, "x" * 1000])
def test_an_unknown_id_is_not_found(document_id: str) -> None:
    with pytest.raises(Rejected) as rejected:
        Documents(schema, Limits()).by_id(document_id)
    assert rejected.value.code == "PERSISTED_QUERY_NOT_FOUND"


def test_a_broken_trusted_document_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken.graphql").write_text("{ nothing }")
    with pytest.raises(ValueError, match=r"broken\.graphql .*Cannot query field 'nothing'"):
        Documents(schema, Limits(), tmp_path)
