"""Holds a whole operation against its caller before anything runs, so that a denial never leaves half a mutation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    type_from_ast,
)

from auth.caller import Caller, CallerKind
from schema.errors import Rejected
from schema.permissions import Permission, Public, permission_of

# A caller's scopes come from its token, so one document meets few sets of them; more is a reason to start over.
VERDICTS_MAX = 64


@dataclass(frozen=True, slots=True)
class Demand:
    """One selected field that does not admit everybody; `conditions` are the @skip and @include above it."""

    coordinate: str
    permission: Permission
    path: tuple[str, ...]
    node: FieldNode
    conditions: tuple[DirectiveNode, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """For one kind of caller with one set of scopes: what is denied, and which object types are closed.

    A field selected through an interface is judged by the interface; `closed` names the object types that
    would not have admitted the caller, for the executor to refuse when one turns up.
    """

    denied: tuple[Demand, ...]
    closed: frozenset[str]


class Demands:
    """What one operation asks of its caller, collected once and judged once per kind and scopes."""

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDefinitionNode],
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._behind_interfaces: set[tuple[str, Permission]] = set()
        self._verdicts: dict[tuple[CallerKind, frozenset[str]], Verdict] = {}
        self._defaults = {
            definition.variable.name.value: getattr(definition.default_value, "value", None)
            for definition in operation.variable_definitions or ()
        }
        root = schema.get_root_type(operation.operation)
        self._demands = tuple(self._collect(operation.selection_set, root, (), ())) if root else ()

    def admit(self, caller: Caller, variables: Mapping[str, Any]) -> frozenset[str]:
        """The object types closed to this caller; raises `Rejected` with one error per denied field."""
        verdict = self._verdicts.get((caller.kind, caller.scopes)) or self._judge(caller)
        if verdict.denied:
            denied = [demand for demand in verdict.denied if self._is_selected(demand, variables)]
            if denied:
                raise _denial(caller, denied)
        return verdict.closed

    def _judge(self, caller: Caller) -> Verdict:
        verdict = Verdict(
            tuple(demand for demand in self._demands if not demand.permission.admits(caller)),
            frozenset(name for name, needed in self._behind_interfaces if not needed.admits(caller)),
        )
        if len(self._verdicts) >= VERDICTS_MAX:
            self._verdicts.clear()
        self._verdicts[caller.kind, caller.scopes] = verdict
        return verdict

    def _is_selected(self, demand: Demand, variables: Mapping[str, Any]) -> bool:
        """Whether the demand survives @skip and @include; a condition nobody can read counts as selected."""
        for directive in demand.conditions:
            value = directive.arguments[0].value if directive.arguments else None
            if isinstance(value, VariableNode):
                name = value.name.value
                condition = variables.get(name, self._defaults.get(name))
            else:
                condition = value.value if isinstance(value, BooleanValueNode) else None
            if condition is (directive.name.value == "skip"):
                return False
        return True

    def _collect(
        self,
        selection_set: SelectionSetNode,
        parent: GraphQLCompositeType,
        path: tuple[str, ...],
        conditions: tuple[DirectiveNode, ...],
    ) -> Iterator[Demand]:
        for selection in selection_set.selections:
            here = conditions + _conditions(selection)
            if isinstance(selection, FieldNode):
                yield from self._field(selection, parent, path, here)
            elif isinstance(selection, FragmentSpreadNode):
                yield from self._fragment(self._fragments[selection.name.value], parent, path, here)
            elif isinstance(selection, InlineFragmentNode):
                yield from self._fragment(selection, parent, path, here)

    def _fragment(
        self,
        node: FragmentDefinitionNode | InlineFragmentNode,
        parent: GraphQLCompositeType,
        path: tuple[str, ...],
        conditions: tuple[DirectiveNode, ...],
    ) -> Iterator[Demand]:
        narrowed = type_from_ast(self._schema, node.type_condition) if node.type_condition else parent
        if is_composite_type(narrowed):
            yield from self._collect(node.selection_set, narrowed, path, conditions)

    def _field(
        self,
        node: FieldNode,
        parent: GraphQLCompositeType,
        path: tuple[str, ...],
        conditions: tuple[DirectiveNode, ...],
    ) -> Iterator[Demand]:
        name = node.name.value
        definition = self._schema.get_field(parent, name)
        if definition is None or name.startswith("__"):
            return
        path = (*path, node.alias.value if node.alias else name)
        permission = permission_of(parent, definition)
        if permission not in (None, Public):
            yield Demand(f"{parent.name}.{name}", permission, path, node, conditions)
        if is_abstract_type(parent):
            for possible in self._schema.get_possible_types(parent):
                own = permission_of(possible, possible.fields[name])
                if own not in (None, Public, permission):
                    self._behind_interfaces.add((possible.name, own))
        returned = get_named_type(definition.type)
        if node.selection_set and is_composite_type(returned):
            yield from self._collect(node.selection_set, returned, path, conditions)


def _conditions(selection: SelectionNode) -> tuple[DirectiveNode, ...]:
    return tuple(d for d in selection.directives or () if d.name.value in ("skip", "include"))


def _denial(caller: Caller, denied: list[Demand]) -> Rejected:
    """One error per denied field, leaving out what lies below another denied field or names the same one."""
    missing = sorted(
        {
            scope
            for demand in denied
            for scope in (demand.permission.scopes_for(caller.kind) or frozenset()) - caller.scopes
        }
    )
    topmost: dict[tuple[str, ...], Demand] = {}
    for demand in denied:
        if not any(demand.path[:length] in topmost for length in range(1, len(demand.path) + 1)):
            topmost[demand.path] = demand
    errors = []
    for path, demand in topmost.items():
        code, message = _reason(caller, demand)
        error = GraphQLError(message, demand.node, path=list(path))
        extensions = {"missingScopes": missing} if code == "INSUFFICIENT_SCOPE" else {}
        errors.append({**error.formatted, "extensions": {**extensions, "code": code}})
    return Rejected(*errors, data_is_null=True)


def _reason(caller: Caller, demand: Demand) -> tuple[str, str]:
    if caller.kind is CallerKind.ANONYMOUS:
        return "UNAUTHENTICATED", f"{demand.coordinate} needs an access token."
    needed = demand.permission.scopes_for(caller.kind)
    if needed is None:
        kinds = " or ".join(kind.value for kind, _ in demand.permission.admitted)
        return "FORBIDDEN", f"{demand.coordinate} is open to {kinds} tokens only."
    scopes = ", ".join(sorted(needed - caller.scopes))
    return "INSUFFICIENT_SCOPE", f"{demand.coordinate} needs a scope that this token lacks: {scopes}."
