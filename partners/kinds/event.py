"""EVENT: Something to attend: sessions with places, parties, a cut-off and check-in."""

from partners.kinds.shape import Kind


class Event(Kind):
    """Something to attend: sessions with places, parties, a cut-off and check-in."""
