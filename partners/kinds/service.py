"""SERVICE: Something bespoke: a form, a thread and clocks (partners/services.py)."""

from partners.kinds.shape import Kind


class Service(Kind):
    """Something bespoke: a form, a thread and clocks (partners/services.py)."""
