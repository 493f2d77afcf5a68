"""One key acts at most once (law 3): whose it is, and what it was first used for."""

import hashlib
from typing import Any

import orjson

from partners.errors import BadInput

KEY_LENGTH_MAX = 255


def fingerprint(field: str, content: dict[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON of a mutation's name and input without the key; ids as text."""
    return hashlib.sha256(orjson.dumps([field, content], option=orjson.OPT_SORT_KEYS)).digest()


def checked_key(key: str) -> str:
    """A key of 1 to 255 characters without control characters; BadInput otherwise."""
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isprintable():
        raise BadInput(f"idempotencyKey: 1 to {KEY_LENGTH_MAX} printable characters")
    return key
