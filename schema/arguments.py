"""Calls root resolvers with arguments made by closures that are built once per field.

Strawberry looks every input type up again for every request; that was 29 % of an eligibility check. These closures do
for our kinds of input what `strawberry.types.arguments.convert_arguments` does, and a test holds them to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any, cast

import strawberry
from graphql import GraphQLResolveInfo
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional, has_object_definition
from strawberry.types.field import StrawberryField
from strawberry.types.info import Info

from schema.shortcut import DIRECT, Resolved

Convert = Callable[[Any], Any]
DEFINITION = "strawberry-definition"


def resolve_directly(schema: strawberry.Schema) -> None:
    """Replaces the resolvers of the schema's root fields; each must be a function of `info` and its arguments, which
    for a subscription returns its events."""
    for root in (schema._schema.query_type, schema._schema.mutation_type):
        for core in () if root is None else root.fields.values():
            core.resolve = direct(core.extensions[DEFINITION], schema)
            core.extensions[DIRECT] = True
    followed = schema._schema.subscription_type
    for core in () if followed is None else followed.fields.values():
        core.subscribe = direct(core.extensions[DEFINITION], schema)
        core.resolve = lambda event, *_, **__: event


def direct(field: StrawberryField, schema: strawberry.Schema) -> Callable[..., Any]:
    """One root field's resolver for graphql-core."""
    assert field.base_resolver is not None
    function = cast("Callable[..., Any]", field.base_resolver.wrapped_func)
    make = arguments_of(field, schema)

    def resolve(source: Any, info: GraphQLResolveInfo[Any], **given: Any) -> Any:
        if source.__class__ is Resolved:
            return source.give()
        return function(Info(_raw_info=info, _field=field), **make(given))

    return resolve


def arguments_of(field: StrawberryField, schema: strawberry.Schema) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """From graphql-core's arguments by their GraphQL names to the function's own."""
    name_of = schema.config.name_converter.from_argument
    converts = {name_of(one): (one.python_name, converter(one.type, schema)) for one in field.arguments}

    def make(given: Mapping[str, Any]) -> dict[str, Any]:
        made = {}
        for name, value in given.items():
            python_name, convert = converts[name]
            made[python_name] = value if convert is None else convert(value)
        return made

    return make


def converter(kind: Any, schema: strawberry.Schema) -> Convert | None:
    """What turns a coerced value of this type into ours; None when it is that already."""
    if isinstance(kind, StrawberryMaybe):
        inner = converter(kind.of_type, schema)
        return lambda value: strawberry.Some(value if inner is None else inner(value))
    if isinstance(kind, StrawberryOptional):
        return nullable(converter(kind.of_type, schema))
    if isinstance(kind, StrawberryList):
        inner = converter(kind.of_type, schema)
        return nullable(list if inner is None else lambda values: [inner(value) for value in values])
    if has_object_definition(kind):
        return nullable(input_converter(kind, schema))
    return None


def nullable(convert: Convert | None) -> Convert | None:
    """The same, letting null and what was left out pass."""
    if convert is None:
        return None
    return lambda value: value if value is None or value is strawberry.UNSET else convert(value)


def input_converter(kind: Any, schema: strawberry.Schema) -> Convert:
    """From a coerced input object to its class; fields that were left out have their default, or None."""
    definition = kind.__strawberry_definition__
    name_of = schema.config.name_converter.from_field
    converts = {
        name_of(one): (one.python_name, converter(one.resolve_type(type_definition=definition), schema))
        for one in definition.fields
    }
    implicit = {
        one.python_name: None
        for one in definition.fields
        if one.default_value is MISSING and one.default_factory is MISSING
    }

    def convert(value: Mapping[str, Any]) -> Any:
        made: dict[str, Any] = dict(implicit)
        for name, inner in value.items():
            python_name, further = converts[name]
            made[python_name] = inner if further is None else further(inner)
        return kind(**made)

    return convert
