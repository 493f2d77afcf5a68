"""How large a document may be: one linear pass that runs before validation, which is where large ones hurt.

Depth, aliases, directives and selections are counted as if every fragment were written out where it is spread,
because that is what runs. Each fragment is measured once, so the pass stays linear even where writing it out
would be exponential.
"""

from dataclasses import Field, dataclass, fields, replace

from graphql import (
    DocumentNode,
    ExecutableDefinitionNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from schema.errors import Rejected


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for. Sizes in bytes, the rest in counts; a value exactly at a limit is allowed.

    `introspection_depth` stands for `depth` below `__schema` and `__type`: the standard introspection query
    is 14 deep, and its answers are made once per document. `overlaps` are pairs of fields that share a name in
    the response: validation compares them all, which is quadratic and by far its worst part.
    """

    body: int = 65_536
    length: int = 8_192
    tokens: int = 1_000
    depth: int = 10
    introspection_depth: int = 20
    aliases: int = 15
    root_fields: int = 10
    directives: int = 20
    selections: int = 500
    overlaps: int = 2_000


@dataclass(slots=True)
class Size:
    """The extent of a selection set with its fragments written out."""

    depth: int = 0
    introspection_depth: int = 0
    aliases: int = 0
    root_fields: int = 0
    directives: int = 0
    selections: int = 0

    def add(self, part: "Size") -> None:
        """Counts add up, depths compare."""
        self.depth = max(self.depth, part.depth)
        self.introspection_depth = max(self.introspection_depth, part.introspection_depth)
        self.aliases += part.aliases
        self.root_fields += part.root_fields
        self.directives += part.directives
        self.selections += part.selections


def exceeded(name: str, allowed: int, found: int | None = None) -> Rejected:
    """The rejection for one limit, naming it, so that a client can tell what to cut."""
    label = name.replace("_", " ")
    message = f"The document exceeds the limit for {label}: {found or 'more'}, where {allowed} are allowed."
    details = {} if found is None else {"found": found}
    return Rejected.because("LIMIT_EXCEEDED", message, limit=name, allowed=allowed, **details)


def check(document: DocumentNode, limits: Limits) -> None:
    """Raise `Rejected` (LIMIT_EXCEEDED) if any operation of the document is larger than allowed.

    A fragment that no operation spreads is still validated, so it obeys the limits that make validation slow. One
    that spreads itself has no extent and is rejected at once (GRAPHQL_VALIDATION_FAILED).
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    measure = _Measure(fragments)
    overlaps = 0
    try:
        for node in document.definitions:
            if isinstance(node, OperationDefinitionNode):
                _compare(measure.selection_set(node.selection_set), node, limits, fields(Size))
            elif isinstance(node, FragmentDefinitionNode):
                _compare(measure.fragment(node.name.value), node, limits, fields(Size)[-2:])
        for node in document.definitions:
            if isinstance(node, ExecutableDefinitionNode):
                overlaps += measure.overlaps([node.selection_set])
    except RecursionError:
        # The parser stops at 200 levels within one definition; only a chain of fragments comes here.
        raise exceeded("depth", limits.depth) from None
    if overlaps > limits.overlaps:
        raise exceeded("overlaps", limits.overlaps, overlaps)


def _compare(size: Size, node: ExecutableDefinitionNode, limits: Limits, compared: tuple[Field[int], ...]) -> None:
    size = replace(size, directives=size.directives + len(node.directives or ()))
    for limit in compared:
        found, allowed = getattr(size, limit.name), getattr(limits, limit.name)
        if found > allowed:
            raise exceeded(limit.name, allowed, found)


class _Measure:
    """Sizes of selection sets and fragments, each fragment measured once."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._sizes: dict[str, Size | None] = {}

    def fragment(self, name: str) -> Size:
        size = self._sizes.get(name, Size())
        if size is None:
            message = f"Cannot spread fragment '{name}' within itself."
            raise Rejected.because("GRAPHQL_VALIDATION_FAILED", message)
        fragment = self._fragments.get(name)
        if fragment is not None and name not in self._sizes:
            self._sizes[name] = None  # what a cycle back to here meets
            size = self._sizes[name] = self.selection_set(fragment.selection_set)
        return size

    def overlaps(self, selection_sets: list[SelectionSetNode]) -> int:
        """Pairs of fields with one response name where these selection sets are merged, and below."""
        fields_by_name: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        for selection_set in selection_sets:  # which grows by the fragments met on the way
            for selection in selection_set.selections:
                if isinstance(selection, FieldNode):
                    name = (selection.alias or selection.name).value
                    fields_by_name.setdefault(name, []).append(selection)
                elif isinstance(selection, InlineFragmentNode):
                    selection_sets.append(selection.selection_set)
                elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in spread:
                    spread.add(selection.name.value)
                    fragment = self._fragments.get(selection.name.value)
                    selection_sets += [fragment.selection_set] if fragment else []
        return sum(
            len(same) * (len(same) - 1) // 2
            + self.overlaps([node.selection_set for node in same if node.selection_set])
            for same in fields_by_name.values()
        )

    def selection_set(self, selection_set: SelectionSetNode | None) -> Size:
        size = Size()
        for selection in selection_set.selections if selection_set else ():
            size.directives += len(selection.directives or ())
            if isinstance(selection, FragmentSpreadNode):
                size.add(self.fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                size.add(self.selection_set(selection.selection_set))
            elif isinstance(selection, FieldNode):
                size.add(_with_field(self.selection_set(selection.selection_set), selection))
        return size


def _with_field(size: Size, node: FieldNode) -> Size:
    size.root_fields = 1
    size.selections += 1
    size.aliases += node.alias is not None
    if node.name.value in ("__schema", "__type"):
        size.depth, size.introspection_depth = 1, size.depth + 1
    else:
        size.depth += 1
    return size
