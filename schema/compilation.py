"""Writes the Python that completes a value whose selected fields are all plain attributes (see completion.py)."""

import inspect
from collections.abc import Callable
from enum import Enum
from types import MemberDescriptorType
from typing import Any, cast

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLString,
    Undefined,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import is_awaitable
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.cast import TYPE_CAST_ATTRIBUTE
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.scalar import ScalarDefinition
from strawberry.types.union import StrawberryUnion

BACK_REFERENCE = "strawberry-definition"
# A selection on an interface is written once per possible type, so a small text may ask for much code.
FUNCTIONS_MAX = 500

Complete = Callable[[Any], Any]


class Surprise(Exception):
    """A value that generated code leaves to graphql-core."""


class NotPlain(Exception):
    """A selection that has more in it than attributes, so there is nothing to generate."""


class Compiler:
    """Writes one function per object and list of a sub-selection, innermost first."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._executor = executor
        self._names: dict[str, Any] = {"Surprise": Surprise, "INFINITY": float("inf")}
        self._functions: list[str] = []
        self._tables: dict[str, dict[type, str]] = {}

    def compile(self, return_type: Any, field_details_list: FieldDetailsList) -> Complete:
        """A function from a non-null value to response data; raises `NotPlain`. What it returns raises anything."""
        if is_list_type(return_type):
            main = self._list(return_type, field_details_list)
        elif is_object_type(return_type):
            main = self._object(return_type, _plain_definition(return_type), field_details_list)
        else:
            main = self._function(f"return {self._abstract(return_type, 'value', field_details_list)}")
        # The text holds names of GraphQL and Python attributes, and nothing else that came from outside.
        exec(compile("\n".join(self._functions), "<compiled completion>", "exec"), self._names)  # noqa: S102
        for table, functions in self._tables.items():
            self._names[table] = {cls: self._names[function] for cls, function in functions.items()}
        complete: Complete = self._names[main]
        return complete

    def _function(self, *body: str) -> str:
        if len(self._functions) >= FUNCTIONS_MAX:
            raise NotPlain
        name = f"complete_{len(self._functions)}"
        self._functions.append("\n    ".join([f"def {name}(value):", *body]))
        return name

    def _constant(self, value: Any) -> str:
        name = f"constant_{len(self._names)}"
        self._names[name] = value
        return name

    def _value(self, type_: Any, source: str, field_details_list: FieldDetailsList) -> str:
        """An expression that completes the expression `source`, reading it once; it may assign `item`."""
        if is_non_null_type(type_):
            return self._non_null(type_.of_type, source, field_details_list)
        inner = self._non_null(type_, "item", field_details_list)
        return f"(None if (item := {source}) is None else {inner})"

    def _non_null(self, type_: Any, source: str, field_details_list: FieldDetailsList) -> str:
        if is_leaf_type(type_):
            return self._leaf(type_, source)
        if is_list_type(type_):
            return f"{self._list(type_, field_details_list)}({source})"
        if is_object_type(type_):
            definition = _plain_definition(type_)
            return f"{self._object(type_, definition, field_details_list)}({source})"
        if is_abstract_type(type_):
            return self._abstract(type_, source, field_details_list)
        raise NotPlain

    def _leaf(self, type_: GraphQLLeafType, source: str) -> str:
        first = source if source == "item" else f"(item := {source})"
        slow = self._constant(_careful_leaf(type_))
        if type_ is GraphQLString or type_ is GraphQLID:
            return f"(item if {first}.__class__ is str else {slow}(item))"
        if type_ is GraphQLInt:
            return f"(item if {first}.__class__ is int and -2147483648 <= item <= 2147483647 else {slow}(item))"
        if type_ is GraphQLFloat:
            return f"(item if {first}.__class__ is float and -INFINITY < item < INFINITY else {slow}(item))"
        if type_ is GraphQLBoolean:
            return f"(item if {first} is True or item is False else {slow}(item))"
        definition = type_.extensions.get(BACK_REFERENCE)
        if isinstance(type_, GraphQLEnumType) and isinstance(definition, StrawberryEnumDefinition):
            # By identity: equality would take 1 for True, and hashing a member runs Python code.
            enum = cast(type[Enum], definition.wrapped_cls)
            members = {id(member): type_.coerce_output_value(member) for member in enum}
            return f"({self._constant(members)}.get(id({first})) or {slow}(item))"
        return f"{slow}({source})"

    def _list(self, type_: Any, field_details_list: FieldDetailsList) -> str:
        entry = self._value(type_.of_type, "entry", field_details_list)
        return self._function(
            "if value.__class__ is not list and value.__class__ is not tuple: raise Surprise",
            f"return [{entry} for entry in value]",
        )

    def _object(
        self,
        type_: GraphQLObjectType,
        definition: StrawberryObjectDefinition,
        field_details_list: FieldDetailsList,
        behind_abstract: bool = False,
    ) -> str:
        items = []
        grouped = self._executor.collect_subfields(type_, field_details_list).grouped_field_set
        for response_name, sub_field_details_list in grouped.items():
            name = sub_field_details_list[0].node.name.value
            if name == "__typename":
                items.append(f"{response_name!r}: {type_.name!r}")
                continue
            field = type_.fields.get(name)
            if field is None:
                raise NotPlain
            attribute = f"value.{_attribute(field, definition.origin)}"
            items.append(f"{response_name!r}: {self._value(field.type, attribute, sub_field_details_list)}")
        unexpected = f"value.__class__ not in {self._constant(_classes(definition))}"
        if behind_abstract or type_.is_type_of is not None:
            # Strawberry's `cast` marks an instance as meant for another type, and only these look at the mark.
            unexpected += f" or hasattr(value, {TYPE_CAST_ATTRIBUTE!r})"
        return self._function(f"if {unexpected}: raise Surprise", f"return {{{', '.join(items)}}}")

    def _abstract(self, type_: Any, source: str, field_details_list: FieldDetailsList) -> str:
        abstract = type_.extensions.get(BACK_REFERENCE)
        if not isinstance(abstract, StrawberryObjectDefinition | StrawberryUnion):
            raise NotPlain
        if isinstance(abstract, StrawberryObjectDefinition) and abstract.resolve_type is not None:
            raise NotPlain
        functions: dict[type, str] = {}
        for possible in self._executor.schema.get_possible_types(type_):
            definition = _plain_definition(possible)
            if definition.concrete_of is not None or definition.name != possible.name:
                raise NotPlain
            functions[definition.origin] = self._object(possible, definition, field_details_list, True)
        table = self._constant(None)
        self._tables[table] = functions
        first = source if source == "item" else f"(item := {source})"
        return f"{table}[{first}.__class__](item)"


def _plain_definition(type_: GraphQLObjectType) -> StrawberryObjectDefinition:
    """Strawberry's definition of a type that says nothing itself about which objects are its own."""
    definition = type_.extensions.get(BACK_REFERENCE)
    if not isinstance(definition, StrawberryObjectDefinition) or definition.is_type_of is not None:
        raise NotPlain
    return definition


def _classes(definition: StrawberryObjectDefinition) -> frozenset[type]:
    """The classes whose instances are surely of this type; those of a generic are made by the generic class."""
    generic = definition.concrete_of
    return frozenset({definition.origin, generic.origin} if generic else {definition.origin})


def _attribute(field: GraphQLField, origin: type) -> str:
    """The attribute that the field reads, if reading it is all that the field does."""
    definition = field.extensions.get(BACK_REFERENCE)
    if not isinstance(definition, StrawberryField) or not definition.is_basic_field:
        raise NotPlain
    reads_attribute = (
        vars(definition).get("default_resolver") is getattr
        and type(definition).get_result is StrawberryField.get_result
        and getattr(field.resolve, "_is_default", False)
        and not any({"__getattribute__", "__getattr__"} & vars(cls).keys() for cls in origin.__mro__[:-1])
    )
    if not reads_attribute:
        raise NotPlain
    # A property could do anything, even something that must not happen twice.
    static = inspect.getattr_static(origin, definition.python_name, None)
    if hasattr(type(static), "__get__") and not isinstance(static, MemberDescriptorType):
        raise NotPlain
    return definition.python_name


def _careful_leaf(type_: GraphQLLeafType) -> Complete:
    """Completes any value of a leaf type, with all the checks of graphql-core but the sure class of the scalar."""
    coerce = type_.coerce_output_value
    definition = type_.extensions.get(BACK_REFERENCE)
    expected = definition.origin if isinstance(definition, ScalarDefinition) else None

    def complete(value: Any) -> Any:
        if value.__class__ is not expected and (
            value is None or value is Undefined or isinstance(value, Exception) or is_awaitable(value)
        ):
            raise Surprise
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise Surprise
        return coerced

    return complete
