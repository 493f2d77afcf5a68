"""What witnesses have signed of the log that the database does not hold: kept on this host until each takes it back."""

import asyncio
import re
from collections.abc import Collection
from pathlib import Path

import structlog

from gateway.witness.files import make_folder, replace_file
from partners.notes import Checkpoint

log = structlog.get_logger()

LINE = re.compile(r"(\S+) ([0-9]{1,19}) (.+)")
UNKNOWN_ROOT = b""


class Doubts:
    """For each witness the tree that it has signed and that ours does not begin with: its size, as its root is the
    witness's to know. In a file, so that no process of this host signs, also after a restart; where it can't be
    written, this process alone remembers. One process at a time changes it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[str, Checkpoint] = {}
        self._changing = asyncio.Lock()

    def largest(self, origin: str | None) -> Checkpoint | None:
        """The largest tree in doubt of a log, or of any; without a root, so that no tree of ours is the same."""
        doubts = [one for one in self.read().values() if origin in (None, one.origin)]
        return max(doubts, key=lambda one: one.size, default=None)

    def read(self) -> dict[str, Checkpoint]:
        """All, by the label of the witness."""
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return self._held
        parts = filter(None, map(LINE.fullmatch, lines))
        return self._held | {part[1]: Checkpoint(part[3], int(part[2]), UNKNOWN_ROOT) for part in parts}

    async def add(self, witness: str, origin: str, size: int) -> None:
        """A witness has signed so many entries of a log, and they are not those of ours."""
        await self._change({witness: Checkpoint(origin, size, UNKNOWN_ROOT)}, ())

    async def remove(self, witness: str) -> None:
        """A witness has signed our log."""
        await self._change({}, (witness,))

    async def keep_of(self, witnesses: Collection[str]) -> None:
        """Forgets the doubts of witnesses that are no longer asked."""
        await self._change({}, set(await asyncio.to_thread(self.read)) - set(witnesses))

    async def _change(self, new: dict[str, Checkpoint], gone: Collection[str]) -> None:
        async with self._changing:
            before = await asyncio.to_thread(self.read)
            after = {witness: doubt for witness, doubt in (before | new).items() if witness not in gone}
            if after != before:
                await asyncio.to_thread(self._write, after)

    def _write(self, doubts: dict[str, Checkpoint]) -> None:
        try:
            make_folder(self._file.parent)
            lines = [f"{witness} {doubt.size} {doubt.origin}\n" for witness, doubt in doubts.items()]
            replace_file(self._file, "".join(lines).encode())
            self._held = {}
        except OSError as fault:
            log.warning("witness.doubt_not_kept", file=str(self._file), detail=str(fault))
            self._held = doubts
