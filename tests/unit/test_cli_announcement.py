"""What a running service leaves for later commands on its data folder."""

import os
import stat
from pathlib import Path

from pydantic import SecretStr

from gateway.running import ANNOUNCEMENT, Announcement, announce, completed, read_announcement
from gateway.settings import Settings

ME = str(os.getpid())


def running(folder: Path) -> Settings:
    """A service on embedded servers, on a port that was free."""
    (folder / "owner.lock").write_text(ME)
    return Settings(
        database_url="postgresql://here", redis_url="unix://here", data_folder=folder, port=4711, base_url=None
    )


def test_what_is_announced_is_read_and_only_its_user_may(tmp_path: Path) -> None:
    announce(running(tmp_path))
    assert stat.S_IMODE((tmp_path / ANNOUNCEMENT).stat().st_mode) == 0o600
    said = read_announcement(tmp_path, ME)
    assert said is not None
    assert (said.database_url, said.base_url) == ("postgresql://here", "http://127.0.0.1:4711")
    assert said.programme is not None
    assert Path(said.programme).is_absolute()


def test_the_words_of_one_that_crashed_are_not_believed(tmp_path: Path) -> None:
    announce(running(tmp_path))
    assert read_announcement(tmp_path, "another") is None
    assert read_announcement(tmp_path, "") is None


def test_who_does_not_own_the_servers_says_nothing(tmp_path: Path) -> None:
    settings = running(tmp_path)
    (tmp_path / "owner.lock").write_text("another")
    announce(settings)
    (tmp_path / "owner.lock").unlink()
    announce(settings)
    assert read_announcement(tmp_path, ME) is None


def test_what_is_set_counts_more_than_what_was_found(tmp_path: Path) -> None:
    found = Announcement("1", "database", "cache", "http://found", "/found.toml")
    own = Settings(data_folder=tmp_path, base_url="http://own", secret=SecretStr("s" * 32), database_url=None)
    whole = completed(own, found)
    assert (whole.address, whole.database_url, whole.redis_url) == ("http://own", "database", "cache")
    assert whole.programme_file == Path("/found.toml")
    assert completed(Settings(data_folder=tmp_path), found).address == "http://found"
