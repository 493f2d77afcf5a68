"""The last checkpoint that this host signed or told, kept where restoring a database does not take it back."""

import asyncio
import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from asyncpg import Connection

from gateway.database import Database
from gateway.doubts import Doubts
from gateway.settings import Settings
from gateway.witness.files import make_folder, replace_file
from partners.errors import TryAgain
from partners.log_forks import LogForked, require_head_onward
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, open_checkpoint

log = structlog.get_logger()


class HighWater:
    """The mark of one database's log on this host, shared by its processes in a file below the data folder.

    Where the file can't be written this process alone remembers, and `warning` says so. `fault` is why nothing is
    signed at the moment, for whoever looks after the service.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self.file = folder / "log" / f"{quote(database, safe='')}.checkpoint"
        self.doubts = Doubts(self.file.with_suffix(".doubts"))
        self.fault: Exception | None = None
        self.warning = ""
        self._last: str | None = None

    @property
    def state(self) -> str:
        """`ok`, or in a word why nothing is signed."""
        return "ok" if self.fault is None else "forked" if isinstance(self.fault, LogForked) else "can't sign"

    async def known(self) -> Checkpoint | None:
        """The last checkpoint, None where none was ever signed or told; while a witness has signed another tree, that
        one. LogForked when the file is damaged."""
        return await asyncio.to_thread(self._known)

    def _known(self) -> Checkpoint | None:
        note = self.read()
        mark = None if note is None else self._checkpoint(note)
        return self.doubts.largest(mark.origin if mark else None) or mark

    async def keep(self, note: str) -> None:
        """Raises the mark to a checkpoint that was committed, before anybody else is told of it.

        A smaller one of the same log changes nothing; one of another name takes its place, since whoever signs has
        made sure that it continues this log.
        """
        await asyncio.to_thread(self._raise, note, anew=True)

    async def raise_to(self, note: str, verifiers: Sequence[Verifier]) -> bool:
        """Raises the mark to a checkpoint that somebody else (a witness, an auditor) holds and this log signed; whether
        it was higher. If the database has not got so far, nothing will be signed from now on. NoteInvalid unless one
        of the log's keys signed it."""
        open_checkpoint(note, *verifiers)
        return await asyncio.to_thread(self._raise, note, anew=False)

    def read(self) -> str | None:
        """The note in the file, or this process's last where it could not be written."""
        remembered = self._last if self.warning else None
        try:
            note = self.file.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return remembered
        except (OSError, UnicodeDecodeError) as fault:
            raise LogForked(f"the log's high-water mark {self.file} can't be read: {fault}") from None
        return note if remembered is None or not self._is_higher(remembered, note) else remembered

    def _raise(self, note: str, *, anew: bool) -> bool:
        before = self.read()
        if note == before or not self._takes_place(note, before, anew=anew):
            return False
        try:
            with locked(self.file):
                before = self.read()
                if self._takes_place(note, before, anew=anew):
                    replace_file(self.file, note.encode())
        except OSError as fault:
            if not self.warning:
                log.warning("log.mark_not_kept", file=str(self.file), detail=str(fault))
            self.warning = f"the log's high-water mark can't be kept in {self.file}: {fault.strerror}"
        else:
            self.warning = ""
        self._last = note
        return True

    def _takes_place(self, note: str, before: str | None, *, anew: bool) -> bool:
        if before is None:
            return True
        other = self._checkpoint(note).origin != self._checkpoint(before).origin
        return anew if other else self._is_higher(note, before)

    def _is_higher(self, note: str, than: str) -> bool:
        """Of one log, a tree of more leaves, or another of as many, which should never be."""
        one, other = self._checkpoint(note), self._checkpoint(than)
        if one.origin != other.origin:
            return False
        return one.size > other.size or (one.size == other.size and one.root != other.root)

    def _checkpoint(self, note: str) -> Checkpoint:
        try:
            return Checkpoint.parse(note_text(note))
        except NoteInvalid as fault:
            raise LogForked(f"the log's high-water mark {self.file} can't be read: {fault}") from None


async def vouch(
    connect: Callable[[], AbstractAsyncContextManager["Connection[Any]"]], mark: HighWater, note: str
) -> None:
    """Before anybody is told a checkpoint of the database's: raises the mark to it, so that it is not forgotten.

    LogForked when the database has lost entries that this host knows of; TryAgain when the log was continued under
    another name since the note was read. One statement where it is new, and one more where it is not the first.
    """
    known, told = await mark.known(), Checkpoint.parse(note_text(note))
    if known != told:
        async with connect() as connection:
            origin = await require_head_onward(connection, known)
        if told.origin != origin:
            raise TryAgain("the log moves; try again", retryAfter=1)
        await mark.keep(note)


def high_water_of(settings: Settings, database: Database) -> HighWater:
    """The mark that this host keeps of the database's log."""
    return HighWater(settings.data_folder, database.engine.url.database or "default")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process of this host at a time."""
    make_folder(file.parent)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
