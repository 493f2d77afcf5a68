"""What a log has of one partner's redemptions, to be held against the partner's own list."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import index
from typing import Any
from uuid import UUID

import orjson

from gateway.auditing.cells import microseconds
from gateway.auditing.files import Export, Unsound
from partners.merkle import leaf_hash


@dataclass(slots=True)
class Redemption:
    """What the log has of one: about 500 bytes of memory. `line` is where the list has it, 0 while it has not."""

    id: bytes
    leaf_hash: bytes
    at: int
    perk: bytes
    units: int
    amount: int
    tier: str | None
    reversed_units: int = 0
    reversed_amount: int = 0
    line: int = 0


@dataclass(slots=True)
class Books:
    """The log's redemptions of one partner by id, and by leaf hash where the list has those."""

    by_id: dict[bytes, Redemption] = field(default_factory=dict)
    by_hash: dict[bytes, Redemption] = field(default_factory=dict)


def read_books(export: Export, partner: UUID, *, hashes: bool) -> Books:
    """All redemptions of a partner that the log has, with what was taken back of them. Unsound, OSError."""
    books, mark = Books(), f'"partner":"{partner}"'.encode()
    for _, leaf in export.leaves():
        if mark not in leaf:
            continue
        entry = orjson.loads(leaf)
        if entry.get("partner") != str(partner) or entry["outcome"] != "DONE":
            continue
        try:
            enter(books, entry, leaf, hashes=hashes)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Unsound(f"entry {entry['id']} says {entry['action']} in no way that can be understood") from None
    return books


def enter(books: Books, entry: Mapping[str, Any], leaf: bytes, *, hashes: bool) -> None:
    """Puts what an entry tells of a redemption into the books. Unsound; KeyError, TypeError, ValueError of an entry
    that is not as ours are."""
    if entry["action"] == "hold.confirmed":
        one = redemption_in(entry, leaf)
        books.by_id[one.id] = one
        if hashes:
            books.by_hash[one.leaf_hash] = one
    elif entry["action"] == "redemption.reversed":
        taken = books.by_id.get(UUID(entry["subject"]).bytes)
        if taken is None:
            raise Unsound(f"entry {entry['id']} takes back a redemption that is not in the log before it")
        taken.reversed_units += entry.get("units") or 0
        taken.reversed_amount += entry.get("amount") or 0


def redemption_in(entry: Mapping[str, Any], leaf: bytes) -> Redemption:
    """The redemption that an entry tells of; entries of version 1 are of one unit."""
    return Redemption(
        UUID(entry["subject"]).bytes,
        leaf_hash(leaf),
        microseconds(datetime.fromisoformat(entry["at"])),
        UUID(entry["perk"]).bytes,
        index(entry.get("units", 1)),
        index(entry.get("amount") or 0),
        entry["tier"],
    )
