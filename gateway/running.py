"""How a command gets its service: settings, servers (embedded where no address is given) and a database in shape."""

import asyncio
import importlib
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asyncpg import InterfaceError, PostgresError
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from gateway import embedded
from gateway.database import open_database
from gateway.migrations import migrate
from gateway.settings import Settings, read_settings
from partners.errors import Unavailable

if TYPE_CHECKING:
    from gateway.app import Service

SECRET_BYTES = 48
ANNOUNCEMENT = "servers.json"
OTHER_COMMAND_SECONDS_MAX = 15.0
OUTAGES = ("08", "28", "3D", "53", "57P")  # SQLSTATE: connection, who we are, no such database, full, shut down


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a running service tells later commands on its data folder, in a file that only its user can read."""

    process: str
    database_url: str | None
    redis_url: str | None
    base_url: str | None = None
    programme: str | None = None


@contextmanager
def addressed(*, join: bool = False, **overrides: object) -> Iterator[Settings]:
    """Settings that have every address: what is not set is started, and stopped on leaving.

    Whatever is embedded is also migrated, since nobody else could have done it. Where a service runs on the data
    folder already, `join` uses its servers, its address and its programme; another command is waited for.
    """
    settings = read_settings(**overrides)
    if settings.database_url is not None and settings.redis_url is not None:
        yield settings
        return
    with ExitStack() as closing:
        yield start_or_join(settings, closing, join=join)


def start_or_join(settings: Settings, closing: ExitStack, *, join: bool) -> Settings:
    """The settings completed by servers of this process or of one that has announced itself; EmbeddedError."""
    folder, deadline = settings.data_folder, time.monotonic() + OTHER_COMMAND_SECONDS_MAX
    database, cache = settings.database_url is None, settings.redis_url is None
    # The half second and more that the service's modules take goes by while the servers start.
    threading.Thread(target=importlib.import_module, args=("gateway.app",)).start()
    while True:
        try:
            servers = closing.enter_context(embedded.start(folder, database=database, cache=cache))
        except embedded.FolderInUse as busy:
            announced = read_announcement(folder, busy.owner)
            if announced is not None and join:
                return completed(settings, announced)
            if announced is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        closing.callback((folder / ANNOUNCEMENT).unlink, missing_ok=True)
        whole = completed(settings, Announcement(str(os.getpid()), servers.database_url, servers.redis_url))
        if servers.database_url is not None:
            asyncio.run(bring_up_to_date(whole))
        return whole


def completed(settings: Settings, found: Announcement) -> Settings:
    """The settings with what was found wherever they say nothing, and the data folder's secret."""
    return settings.model_copy(
        update={
            "database_url": settings.database_url or found.database_url,
            "redis_url": settings.redis_url or found.redis_url,
            "base_url": settings.base_url or found.base_url,
            "programme": settings.programme or (found.programme and Path(found.programme)),
            "secret": settings.secret or SecretStr(kept_secret(settings.data_folder)),
        }
    )


def announce(settings: Settings) -> None:
    """Tells later commands on the data folder how to reach the embedded servers of this process, and what it serves.

    Only for who stays: a command that ends soon would pull the servers away from those that joined it.
    """
    folder, process = settings.data_folder, str(os.getpid())
    if embedded.owner_of(folder) != process:
        return
    said = Announcement(
        process,
        settings.database_url,
        settings.redis_url,
        base_url=settings.address,
        programme=str(settings.programme_file.resolve()),
    )
    draft = folder / f".{ANNOUNCEMENT}.part"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(said), file)
    draft.replace(folder / ANNOUNCEMENT)


def read_announcement(folder: Path, owner: str) -> Announcement | None:
    """What the folder's live owner said, or None: one that crashed may have left its words."""
    try:
        said = Announcement(**json.loads((folder / ANNOUNCEMENT).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    return said if said.process == owner else None


def kept_secret(folder: Path) -> str:
    """The secret of an embedded copy: made once, readable by its owner alone."""
    path = folder / "secret"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(SECRET_BYTES))
    return path.read_text(encoding="ascii")


async def bring_up_to_date(settings: Settings) -> str:
    """Migrates to the newest revision and returns it."""
    assert settings.database_url is not None
    database = open_database(settings.database_url, connections=2)
    with reaching_database():
        try:
            return await migrate(database.engine)
        finally:
            await database.engine.dispose()


@asynccontextmanager
async def served(settings: Settings, *, keeps_programme: bool = False) -> AsyncIterator["Service"]:
    """The service for one command, without web and workers; Unavailable when the database can't be reached.

    What serves or works `keeps_programme`; a command finds the programme in the database, or stops.
    """
    from gateway.app import open_service  # half a second, which --help and `audit verify` do without

    with reaching_database():
        async with AsyncExitStack() as closing:
            yield await closing.enter_async_context(open_service(settings, keeps_programme=keeps_programme))


@contextmanager
def reaching_database() -> Iterator[None]:
    """Tells an outage in one line: Unavailable. A file that can't be read and a fault of ours stay what they are."""
    try:
        yield
    except (OSError, DBAPIError, InterfaceError, PostgresError) as fault:
        cause = fault.orig if isinstance(fault, DBAPIError) else fault
        state = getattr(cause, "sqlstate", None)
        of_a_file = isinstance(fault, OSError) and fault.filename is not None
        if of_a_file or (state and not state.startswith(OUTAGES)):
            raise
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise Unavailable(f"can't reach the database: {reason}") from fault
