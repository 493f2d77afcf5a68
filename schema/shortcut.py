"""The short way for the operations that matter most: one root field, whose value has a compiled plan.

graphql-core's executor costs such an operation more than the resolver's own work. Here the resolver is called with the
same arguments and the same info, and the plan completes its value. Whatever does not go smoothly, an exception or a
value with a surprise, is handed to the executor as it is, which makes the reference's response of it: nothing is
resolved twice. Like completion.py this knows Strawberry and graphql-core and nothing of the product.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    VariableNode,
    is_non_null_type,
    is_required_argument,
    type_from_ast,
)
from graphql.execution.values import VariableValues, get_argument_values
from graphql.pyutils import Path

DIRECT = "direct"  # marks root fields whose resolver gives back what is `Resolved` already


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a resolver returned or raised, as the root value of an executor that only has to complete it."""

    value: Any
    raised: bool = False

    def give(self) -> Any:
        """The value again, or the exception again."""
        if self.raised:
            raise self.value
        return self.value


class Expired(Exception):
    """The request's time is over, as opposed to a time-out of something that the resolver waited for."""


class Shortcut:
    """The one root field of an operation, with all that does not change from request to request."""

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDefinitionNode],
        parent: GraphQLObjectType,
        node: FieldNode,
    ) -> None:
        self._schema, self._operation, self._fragments = schema, operation, dict(fragments)
        self._parent, self._node = parent, node
        self._core: GraphQLField = parent.fields[node.name.value]
        kind = self._core.type
        self.nullable = not is_non_null_type(kind)
        self.position = (kind if self.nullable else kind.of_type, id(node))
        self.name = node.alias.value if node.alias else node.name.value
        self._path = Path(None, self.name, parent.name)
        self._variables = self._plain_arguments()

    @classmethod
    def of(
        cls,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDefinitionNode],
    ) -> "Shortcut | None":
        """The short way of an operation, if it has one: a single root field that is direct, without directives."""
        parent = schema.get_root_type(operation.operation)
        selections = operation.selection_set.selections
        node = selections[0]
        if parent is None or len(selections) > 1 or not isinstance(node, FieldNode) or node.directives:
            return None
        core = parent.fields.get(node.name.value)
        if core is None or DIRECT not in core.extensions:
            return None
        return cls(schema, operation, fragments, parent, node)

    def _plain_arguments(self) -> list[tuple[str, str]] | None:
        """Argument and variable by name, where each argument is a variable of just its own type; else None."""
        types = {one.variable.name.value: one.type for one in self._operation.variable_definitions or ()}
        given = {one.name.value: one.value for one in self._node.arguments or ()}
        plain = []
        for name, argument in self._core.args.items():
            value = given.get(name)
            if argument.default_value not in (None, Undefined):
                return None
            if isinstance(value, VariableNode):
                variable = value.name.value
                if str(type_from_ast(self._schema, types[variable])) != str(argument.type):
                    return None
                plain.append((name, variable))
            elif value is not None or is_required_argument(argument):
                return None
        return plain

    async def resolve(self, values: VariableValues, context: Any, timeout_s: float) -> Any:
        """The resolver's value; Expired after `timeout_s`, and whatever the resolver raises."""
        info: GraphQLResolveInfo[Any] = GraphQLResolveInfo(
            self._node.name.value,
            [self._node],
            self._core.type,
            self._parent,
            self._path,
            self._schema,
            self._fragments,
            None,
            self._operation,
            values,
            context,
            isawaitable,  # type: ignore[arg-type]  # a TypeIs where a TypeGuard is asked for
            None,
            None,  # type: ignore[arg-type]  # no resolver of a direct field starts work that outlives it
        )
        call: Callable[..., Any] = self._core.resolve  # type: ignore[assignment]
        result = call(None, info, **self._arguments(values))
        if not isawaitable(result):
            return result
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await result
        except TimeoutError as error:
            raise (Expired() if limit.expired() else error) from None

    def _arguments(self, values: VariableValues) -> dict[str, Any]:
        if self._variables is None:
            return get_argument_values(self._core, self._node, values)
        coerced = values.coerced
        return {name: coerced[variable] for name, variable in self._variables if variable in coerced}
