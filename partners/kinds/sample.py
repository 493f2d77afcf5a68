"""SAMPLE: A thing to try: units, perhaps in variants, picked up or shipped."""

from partners.kinds.shape import Kind


class Sample(Kind):
    """A thing to try: units, perhaps in variants, picked up or shipped."""
