"""Files that commands write: whole or not at all, and never in the place of what is no file."""

import os
import stat
from pathlib import Path

import pytest

from gateway.whole_files import replaced, write_whole
from partners.errors import BadInput


def test_a_file_appears_whole_with_its_folders_and_replaces_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_whole(file, b"one")
    write_whole(file, b"two")
    assert file.read_bytes() == b"two"
    assert os.listdir(file.parent) == ["file"]


def test_what_was_begun_and_broke_off_leaves_the_older_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, b"whole")

    def half() -> None:
        with replaced(file) as out:
            out.write(b"half")
            raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        half()
    assert (file.read_bytes(), os.listdir(tmp_path)) == (b"whole", ["file"])


def test_a_device_or_folder_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for there in (pipe, tmp_path):
        with pytest.raises(BadInput, match="not a file"):
            write_whole(there, b"in its place")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
