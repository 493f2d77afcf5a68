"""ACCESS: A standing right with a term."""

from partners.kinds.shape import Kind


class Access(Kind):
    """A standing right with a term."""
