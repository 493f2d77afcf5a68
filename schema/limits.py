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
    is 14 deep, and its answers are made once per document.
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

    Fragment cycles and unknown fragments count once and for nothing: validation has words for them. A fragment
    that no operation spreads is still validated, so it obeys the limits that make validation slow.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    measure = _Measure(fragments)
    try:
        for node in document.definitions:
            if isinstance(node, OperationDefinitionNode):
                _compare(measure.selection_set(node.selection_set), node, limits, fields(Size))
            elif isinstance(node, FragmentDefinitionNode):
                _compare(measure.fragment(node.name.value), node, limits, fields(Size)[-2:])
    except RecursionError:
        # The parser stops at 200 levels within one definition; only a chain of fragments comes here.
        raise exceeded("depth", limits.depth) from None


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
        self._sizes: dict[str, Size] = {}

    def fragment(self, name: str) -> Size:
        if name not in self._sizes:
            self._sizes[name] = Size()  # what a cycle back to here meets
            fragment = self._fragments.get(name)
            if fragment is not None:
                self._sizes[name] = self.selection_set(fragment.selection_set)
        return self._sizes[name]

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
