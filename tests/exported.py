"""A small log as files in both layouts, made without a service, so that thousands of them can be spoilt."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from partners.merkle import CompactRange, leaf_hash
from partners.notes import Checkpoint, Verifier, sign_checkpoint, verifier_of
from partners.tiles import TILE_WIDTH, Tile, bundle

ORIGIN = "perks.example/log"
SEED = sha256(b"the log's seed").digest()
PARTNER = UUID(int=0xB1)
PERK = UUID(int=0xB2)


def entry(number: int, **fields: Any) -> bytes:
    """A leaf as the database writes it: a redemption of a partner unless told otherwise."""
    return orjson.dumps(
        {
            "action": "hold.confirmed",
            "actor": "partner:till",
            "amount": 100 * number,
            "at": f"2026-05-01T12:{number // 60 % 60:02}:{number % 60:02}.250000Z",
            "id": str(UUID(int=0xE0000 + number)),
            "member": sha256(b"%d" % number).hexdigest(),
            "outcome": "DONE",
            "partner": str(PARTNER),
            "perk": str(PERK),
            "policyVersion": 3,
            "reasons": [],
            "subject": str(redemption(number)),
            "tier": "gold",
            "units": 1 + number % 3,
            "v": 2,
        }
        | fields,
        option=orjson.OPT_SORT_KEYS,
    )


def redemption(number: int) -> UUID:
    """The redemption that an entry is about."""
    return UUID(int=0xD0000 + number)


def continuing(note: str, number: int) -> bytes:
    """The entry by which a new log goes on from an older one's last checkpoint."""
    return entry(number, action="log.continued", checkpoint=note, partner=None, perk=None, subject=None)


@dataclass(frozen=True)
class Log:
    """Leaves, and who signs them."""

    leaves: Sequence[bytes]
    origin: str = ORIGIN
    seed: bytes = SEED

    @property
    def hashes(self) -> list[bytes]:
        return [leaf_hash(leaf) for leaf in self.leaves]

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.origin, len(self.leaves), CompactRange().append(self.hashes).root())

    @property
    def note(self) -> str:
        return sign_checkpoint(self.checkpoint, self.seed)

    @property
    def verifier(self) -> Verifier:
        return verifier_of(self.origin, self.seed)

    def first(self, size: int) -> "Log":
        """What it was at a size."""
        return Log(self.leaves[:size], self.origin, self.seed)

    def as_lines(self, folder: Path) -> Path:
        """`log.jsonl` in a folder, and its checkpoint beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "log.jsonl"
        file.write_bytes(b"".join(leaf + b"\n" for leaf in self.leaves))
        (folder / "log.jsonl.checkpoint").write_text(self.note)
        return file

    def as_tiles(self, folder: Path, *, entries: bool = True) -> Path:
        """A folder of tiles."""
        for path, raw in self.tiles(entries=entries).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(raw)
        return folder

    def tiles(self, *, entries: bool = True) -> dict[str, bytes]:
        """Every file of the folder."""
        files = {"checkpoint": self.note.encode(), "keys": f"{self.verifier}\n".encode()}
        levels = [self.hashes]
        while len(levels[-1]) >= TILE_WIDTH:
            whole = len(levels[-1]) // TILE_WIDTH * TILE_WIDTH
            levels.append(
                [CompactRange().append(levels[-1][at : at + TILE_WIDTH]).root() for at in range(0, whole, TILE_WIDTH)]
            )
        for level, hashes in enumerate(levels):
            for at in range(0, len(hashes), TILE_WIDTH):
                some = hashes[at : at + TILE_WIDTH]
                files[f"tile/{Tile(level, at // TILE_WIDTH, len(some)).path}"] = b"".join(some)
        for at in range(0, len(self.leaves) if entries else 0, TILE_WIDTH):
            some = list(self.leaves[at : at + TILE_WIDTH])
            files[f"tile/{Tile(None, at // TILE_WIDTH, len(some)).path}"] = bundle(some)
        return files


def small_log(size: int = 40, **settings: Any) -> Log:
    """A log of so many redemptions."""
    return Log([entry(number) for number in range(size)], **settings)
