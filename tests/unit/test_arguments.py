"""Our way of making arguments gives what Strawberry's own gives, for every root field of the API."""

from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    is_list_type,
    is_non_null_type,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField

from schema.arguments import DEFINITION, arguments_of
from schema.root import SCHEMA

ROOTS = [root for root in (SCHEMA._schema.query_type, SCHEMA._schema.mutation_type) if root is not None]
FIELDS = {f"{root.name}.{name}": one for root in ROOTS for name, one in root.fields.items()}


def values(kind: GraphQLInputType, nullable: bool = True) -> st.SearchStrategy[Any]:
    """Coerced values of an input type, as graphql-core hands them on."""
    if is_non_null_type(kind):
        return values(kind.of_type, nullable=False)
    if is_list_type(kind):
        made: st.SearchStrategy[Any] = st.lists(values(kind.of_type), max_size=2)
    elif isinstance(kind, GraphQLInputObjectType):
        made = objects(kind)
    elif isinstance(kind, GraphQLEnumType):
        made = st.sampled_from([one.value for one in kind.values.values()])
    else:
        made = st.sampled_from(["text", 7, True])
    return st.none() | made if nullable else made


def objects(kind: GraphQLInputObjectType) -> st.SearchStrategy[Any]:
    """Objects with some of their optional fields; of a @oneOf exactly one, not null."""
    if kind.extensions[DEFINITION].is_one_of:
        return st.sampled_from(sorted(kind.fields)).flatmap(
            lambda name: values(kind.fields[name].type, nullable=False).map(lambda value: {name: value})
        )
    required = {name: values(one.type) for name, one in kind.fields.items() if is_non_null_type(one.type)}
    optional = {name: values(one.type) for name, one in kind.fields.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


@pytest.mark.parametrize("coordinate", sorted(FIELDS))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_arguments_are_those_that_strawberry_makes(coordinate: str, data: st.DataObject) -> None:
    core = FIELDS[coordinate]
    field: StrawberryField = core.extensions[DEFINITION]
    required = {name: values(one.type) for name, one in core.args.items() if is_non_null_type(one.type)}
    optional = {name: values(one.type) for name, one in core.args.items() if name not in required}
    arguments = data.draw(st.fixed_dictionaries(required, optional=optional))
    theirs = convert_arguments(arguments, field.arguments, SCHEMA.schema_converter.scalar_registry, SCHEMA.config, None)
    assert arguments_of(field, SCHEMA)(arguments) == theirs
