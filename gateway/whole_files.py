"""Files that are there whole or not at all, whatever stops whoever writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from partners.errors import BadInput


@contextmanager
def replaced(file: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name, and the place of an older one, only at the end and without a fault, when the
    disk has it.

    BadInput where something is that is no file: who may, as root, would put a file in the place of a device.
    """
    if file.exists() and not file.is_file():
        raise BadInput(f"{file}: not a file, and no file takes its place")
    draft = file.with_name(f".{file.name}.part")
    try:
        with draft.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(file: Path, content: bytes) -> None:
    """A file with this content, in folders that are made for it where they are not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as out:
        out.write(content)
