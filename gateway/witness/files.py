"""Files that are whole and on the disk, or not there: what a witness signs for must survive the power going out."""

import fcntl
import os
from io import BufferedWriter
from pathlib import Path


def write_file(file: Path, content: bytes) -> None:
    """Writes a file that only its user may read, and waits until the disk has it."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def replace_file(file: Path, content: bytes) -> None:
    """Puts a new file in the place of the old one: whoever reads, after whatever crash, finds either of them.

    Only one may do it at a time.
    """
    draft = file.with_name(f".{file.name}.part")
    write_file(draft, content)
    draft.replace(file)
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder for its user alone, unless it is there, and waits until the disk has it."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Turn:
    """A file that one process at a time can have, for as long as it likes or lives."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: BufferedWriter | None = None

    def take(self) -> bool:
        """Whether this process has it now; also where no file can be made, so that somebody does the work."""
        if self._held is None:
            try:
                make_folder(self._file.parent)
                held = self._file.open("ab")
            except OSError:
                return True
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.close()
                return False
            self._held = held
        return True

    def give_back(self) -> None:
        """Lets another one have it."""
        if self._held is not None:
            self._held.close()
            self._held = None
