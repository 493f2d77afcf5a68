"""Two partners that lay side by side what they were told: what of it would be one member's alone."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from partners import tables
from tests.api import Answer, Voice


@dataclass
class Brand:
    """One partner with its clients, and all that it was ever told, by member."""

    partner: tables.Partner
    perk: tables.Perk
    voice: Voice
    aliases: dict[int, str] = field(default_factory=dict)
    told: dict[int, list[Any]] = field(default_factory=dict)

    def hear(self, member: int, answer: Answer) -> Answer:
        self.told.setdefault(member, []).append([answer.body, dict(answer.headers)])
        return answer


def atoms(value: Any) -> Iterator[str]:
    """Every piece of text and number in a value, and what is inside of tokens, cursors and ids."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from atoms(name)
            yield from atoms(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from atoms(inner)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        yield text
        for piece in re.split(r"[^A-Za-z0-9+/=-]+", text):
            yield piece
            yield from opened(piece)


def opened(piece: str) -> Iterator[str]:
    """What a piece of Base64 holds."""
    if len(piece) < 8:
        return
    with suppress(ValueError):
        inside = base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4))
        yield inside.hex()
        if inside.startswith(b"{"):
            yield from atoms(json.loads(inside))


def identifying(found: Mapping[int, list[Any]], least: int = 3) -> dict[int, set[str]]:
    """For each member, what one partner was told about it and about no other member, of so many characters at least."""
    pieces = {member: {piece for piece in atoms(told) if len(piece) >= least} for member, told in found.items()}
    return {
        member: own - set().union(*(others for another, others in pieces.items() if another != member))
        for member, own in pieces.items()
    }
