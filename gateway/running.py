"""How a command gets its service: settings, servers (embedded where no address is given) and a database in shape."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from pydantic import SecretStr

from gateway import embedded
from gateway.app import Service, open_service
from gateway.database import open_database
from gateway.migrations import migrate
from gateway.settings import Settings, read_settings

SECRET_BYTES = 48


@contextmanager
def addressed(**overrides: object) -> Iterator[Settings]:
    """Settings that have every address: what is not set is started, and stopped on leaving.

    Whatever is embedded is also migrated, since nobody else could have done it.
    """
    settings = read_settings(**overrides)
    if settings.database_url is not None and settings.redis_url is not None:
        yield settings
        return
    folder = settings.data_folder
    with embedded.start(folder, database=settings.database_url is None, cache=settings.redis_url is None) as servers:
        whole = settings.model_copy(
            update={
                "database_url": settings.database_url or servers.database_url,
                "redis_url": settings.redis_url or servers.redis_url,
                "secret": settings.secret or SecretStr(kept_secret(folder)),
            }
        )
        if servers.database_url is not None:
            asyncio.run(bring_up_to_date(whole))
        yield whole


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
    try:
        return await migrate(database.engine)
    finally:
        await database.engine.dispose()


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Service]:
    """The service for one command, without web and workers."""
    async with open_service(settings) as service:
        yield service
