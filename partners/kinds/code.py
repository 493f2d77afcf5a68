"""CODE: A code of the partner's own, one for each redemption."""

from partners.kinds.shape import Kind


class Code(Kind):
    """A code of the partner's own, one for each redemption."""
