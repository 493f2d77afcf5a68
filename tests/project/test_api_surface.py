"""The published API: permissions, descriptions, codes and the committed SDL."""

import re
from pathlib import Path

from graphql import GraphQLInputObjectType, GraphQLInterfaceType, GraphQLNamedType, GraphQLObjectType

import partners.errors
from gateway.settings import Settings, variable
from partners.facts import RefusalCode
from schema.permissions import permission_of, undeclared
from schema.root import SCHEMA

ROOT = Path(__file__).parents[2]
CORE = SCHEMA._schema


def types() -> list[GraphQLNamedType]:
    """Our own types, without those of GraphQL itself."""
    return [kind for name, kind in CORE.type_map.items() if not name.startswith("__")]


def test_every_root_field_states_its_permission() -> None:
    assert list(undeclared(CORE)) == []


def test_every_field_of_every_type_states_its_permission() -> None:
    wrong = [
        f"{kind.name}.{name}"
        for kind in types()
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
        for name, one in kind.fields.items()
        if permission_of(kind, one) is None
    ]
    assert wrong == []


def test_every_type_and_field_is_described() -> None:
    wrong = [kind.name for kind in types() if not kind.description]
    for kind in types():
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            wrong += [f"{kind.name}.{name}" for name, one in kind.fields.items() if not one.description]
    assert wrong == []


def test_the_committed_sdl_is_fresh() -> None:
    committed = (ROOT / "schema" / "schema.graphql").read_text(encoding="utf-8")
    assert committed == SCHEMA.as_str() + "\n", "run: perks schema export schema/schema.graphql"


def test_mutations_take_one_input_and_answer_with_a_payload() -> None:
    assert CORE.mutation_type is not None
    for name, one in CORE.mutation_type.fields.items():
        assert list(one.args) == ["input"], name
        assert str(one.args["input"].type).endswith("Input!"), name
        assert str(one.type).endswith("Payload!"), name


def test_the_fixed_names_are_there() -> None:
    assert CORE.query_type is not None
    assert CORE.mutation_type is not None
    queries = "viewer node me member eligibility eligibilities perk perks partner partners redemption redemptions"
    mutations = """claimPerk confirmHold releaseHold reverseRedemption createPartner createPerk updatePerk publishPerk
        pausePerk enrolMember assignTier grantConsent withdrawConsent"""
    assert set(queries.split()) | {"auditEntries"} <= set(CORE.query_type.fields)
    assert set(mutations.split()) <= set(CORE.mutation_type.fields)


def codes() -> set[str]:
    """Every code that an error in this repository can carry."""
    found = {code.value for code in RefusalCode}
    for path in [path for layer in ("partners", "auth", "schema", "gateway") for path in (ROOT / layer).rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r'^\s+code = "([A-Z_]+)"', text, re.M))
        found |= set(re.findall(r'because\(\s*"([A-Z_]+)"', text))
    return found | set(re.findall(r'"([A-Z]+_[A-Z_]+|THROTTLED|TIMEOUT|INTERNAL|UNAVAILABLE|FORBIDDEN)"', ERRORS))


ERRORS = (ROOT / "schema" / "errors.py").read_text(encoding="utf-8")


def test_every_code_is_explained() -> None:
    explained = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M))
    assert codes() - explained == set()
    assert explained - codes() == set()
    assert partners.errors.PerksError.code in explained


def test_every_environment_variable_is_documented() -> None:
    documented = set(
        re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), re.M)
    )
    names = {
        str(field.validation_alias) if field.validation_alias else variable((name,))
        for name, field in Settings.model_fields.items()
    }
    assert documented == names
