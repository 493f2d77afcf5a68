"""Which fields a request selects below the one being resolved, so that nothing is fetched that nobody asked for."""

from graphql import FieldNode, FragmentSpreadNode, SelectionSetNode

from schema.context import Info

_KEPT_MAX = 4096
_kept: dict[int, tuple[FieldNode, frozenset[str]]] = {}


def selected(info: Info) -> frozenset[str]:
    """Names of every field below, at any depth and through fragments, each also as `parent.name`; worked out once per
    prepared document."""
    raw = info._raw_info
    node = raw.field_nodes[0]
    found = _kept.get(id(node))
    if found is not None and found[0] is node:
        return found[1]
    names: set[str] = set()
    pending: list[tuple[str, SelectionSetNode | None]] = [
        (one.name.value, one.selection_set) for one in raw.field_nodes
    ]
    while pending:
        parent, selection = pending.pop()
        for child in () if selection is None else selection.selections:
            within = parent
            if isinstance(child, FieldNode):
                within = child.name.value
                names |= {within, f"{parent}.{within}"}
            inner = raw.fragments[child.name.value] if isinstance(child, FragmentSpreadNode) else child
            pending.append((within, getattr(inner, "selection_set", None)))
    if len(_kept) >= _KEPT_MAX:
        _kept.clear()
    _kept[id(node)] = (node, frozenset(names))
    return _kept[id(node)][1]
