"""Compiled completion: turns what a resolver returned into response data with generated code, not field by field.

graphql-core completes a value by visiting every field of every object again on every request. Where all the
fields of a sub-selection are plain attributes, the outcome is a pure function of the value, so it is compiled
once per position in the document and kept with the document. The generated code knows only the way without
errors: whatever it does not expect (null in a non-null place, another class, a scalar that won't serialise,
something to await) makes it give up, and graphql-core completes the *same value*, with the reference's errors.
Nothing a resolver did is repeated, since no resolver is called below a compiled position.

This module and compilation.py know Strawberry and graphql-core and nothing of the product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DirectiveNode,
    FragmentDefinitionNode,
    GraphQLAbstractType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    Undefined,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.compilation import Compiler, Complete, NotPlain

COMPILE_AFTER = 3
CONDITIONS_MAX = 16

# A position's plan; or how often it has been completed so far; or None where there is nothing to compile.
Positions = dict[Any, Complete | int | None]


@dataclass(slots=True)
class Counts:
    """What compiled completion did in this process, for the metrics."""

    compiled: int = 0
    not_plain: int = 0
    hits: int = 0
    fallbacks: int = 0


COUNTS = Counts()


class Plans:
    """The compiled positions of one operation, apart for each combination of the variables in @skip and @include.

    A position is compiled when it has been completed `compile_after` times: before that, the document may be
    somebody's only one.
    """

    def __init__(
        self,
        operation: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDefinitionNode],
        compile_after: int = COMPILE_AFTER,
    ) -> None:
        self.compile_after = compile_after
        conditions = _Conditions()
        for node in (operation, *fragments.values()):
            visit(node, conditions)
        self._conditions = tuple(sorted(conditions.variables))
        self._positions: dict[tuple[Any, ...], Positions] = {}

    def under(self, variables: Mapping[str, Any]) -> Positions | None:
        """The positions for these values of the conditions; None when there are too many combinations."""
        values = tuple(variables.get(name) for name in self._conditions)
        positions = self._positions.get(values)
        if positions is None and len(self._positions) < CONDITIONS_MAX:
            positions = self._positions[values] = {}
        return positions


class _Conditions(Visitor):
    """Collects the variables that decide what is selected."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.variables.add(argument.value.name.value)


class CompilingExecutor(StrawberryGraphQLCoreExecutionContext):
    """graphql-core's executor, except that values are completed by compiled plans where there are any.

    Without `plans` it is the reference: that is the switch.
    """

    def __init__(self, *args: Any, plans: Plans | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._positions: Positions | None = None
        if plans is not None and self.middleware_manager is None:
            self._positions = plans.under(self.variable_values.coerced)
            self._compile_after = plans.compile_after

    def release(self) -> None:
        """Cuts the executor's reference to itself, so that a request's memory goes with the request.

        Otherwise it waits for the garbage collector, whose full runs visit every prepared document.
        """
        if not self.background_futures:
            del self.async_helpers

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        """An object, by its plan if there is one and the value has no surprise for it."""
        completed = self._by_plan(return_type, field_details_list, result)
        if completed is not Undefined:
            return completed
        return super().complete_object_value(return_type, field_details_list, info, path, result, position_context)

    def complete_list_value(
        self,
        return_type: GraphQLList[GraphQLOutputType],
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        """A list, likewise; after a surprise in one item, the others still go by their own plan."""
        completed = self._by_plan(return_type, field_details_list, result)
        if completed is not Undefined:
            return completed
        return super().complete_list_value(return_type, field_details_list, info, path, result, position_context)

    def complete_abstract_value(
        self,
        return_type: GraphQLAbstractType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        """A value of an interface or union, likewise."""
        completed = self._by_plan(return_type, field_details_list, result)
        if completed is not Undefined:
            return completed
        return super().complete_abstract_value(return_type, field_details_list, info, path, result, position_context)

    def _by_plan(self, return_type: Any, field_details_list: FieldDetailsList, result: Any) -> Any:
        """The completed value, or Undefined where graphql-core has to do it."""
        positions = self._positions
        if positions is None:
            return Undefined
        # Nodes live as long as the document, and the plans live in it: an id can't come to mean another node.
        if len(field_details_list) == 1:
            position: Any = (return_type, id(field_details_list[0].node))
        else:
            position = (return_type, *[id(details.node) for details in field_details_list])
        plan = positions.get(position, 0)
        if isinstance(plan, int):
            plan = positions[position] = self._mature(plan, return_type, field_details_list)
        if plan is None or isinstance(plan, int):
            return Undefined
        try:
            completed = plan(result)
        except Exception:  # whatever it is: the reference completes the same value and has the right words
            COUNTS.fallbacks += 1
            return Undefined
        COUNTS.hits += 1
        return completed

    def _mature(self, uses: int, return_type: Any, field_details_list: FieldDetailsList) -> Complete | int | None:
        if uses < self._compile_after:
            return uses + 1
        try:
            plan = Compiler(self).compile(return_type, field_details_list)
        except NotPlain:
            COUNTS.not_plain += 1
            return None
        COUNTS.compiled += 1
        return plan
