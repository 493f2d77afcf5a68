"""The short codes that a person shows or reads out, of a hold or as a pass: Crockford base 32 with a check symbol."""

import hashlib
import hmac
import secrets
from uuid import UUID

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECK_SYMBOLS = ALPHABET + "*~$=U"
LETTERS = 13
BITS = 5 * LETTERS
READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


def hold_code(key: bytes, hold_id: UUID) -> str:
    """The code of a hold: 65 bits of HMAC-SHA-256 over its id.

    Derived, so that it is never stored in clear and a repeated request is given the same one.
    """
    return spelled(int.from_bytes(hmac.digest(key, hold_id.bytes, hashlib.sha256)[:9], "big") >> 7)


def random_code() -> str:
    """A code of 65 random bits, which is never given again."""
    return spelled(secrets.randbits(BITS))


def spelled(value: int) -> str:
    """65 bits and a check symbol, as `XXXX-XXXX-XXXX-XX`: the value modulo 37, as in Crockford's Base 32."""
    letters = "".join(ALPHABET[(value >> (5 * place)) & 31] for place in reversed(range(LETTERS)))
    code = letters + CHECK_SYMBOLS[value % 37]
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))


def code_hash(code: str) -> bytes:
    """SHA-256 of a code as it was meant: case, spaces, hyphens and look-alikes (O, I, L) do not matter."""
    return hashlib.sha256(code.upper().translate(READ_AS).encode()).digest()
