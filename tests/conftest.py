"""Real servers for every test: one PostgreSQL and one Valkey per test worker, in a folder that is thrown away."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from gateway import embedded
from gateway.app import Gateway
from gateway.database import Database, open_database
from gateway.migrations import migrate
from gateway.settings import Settings
from partners.keys import Keys, derive_keys
from partners.programme import Programme, keep_programme, read_programme
from tests.api import Api
from tests.commands import Perks
from tests.factories import Club
from tests.flows import Clock, Flows, lay_foundation, reach
from tests.serving import serving

SECRET = b"a secret of the tests, 32 bytes or more"

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def now() -> datetime:
    """One moment for a whole run: now, so that tokens made with it are also good for the running service."""
    return datetime.now(UTC)


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What services keep on their host goes where the rest of a run goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERKS_DATA_FOLDER", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Servers]:
    """PostgreSQL and Valkey, without durability."""
    with embedded.start(tmp_path_factory.mktemp("servers"), durable=False) as started:
        yield started


@pytest.fixture(scope="session")
def programme() -> Programme:
    """The club that ships with the product: member, silver, gold, black."""
    return read_programme(Settings().programme_file)


@pytest.fixture(scope="session")
def keys() -> Keys:
    """The domain's keys, from a secret of the tests."""
    return derive_keys(SECRET)


@pytest.fixture(scope="session")
def secret() -> bytes:
    """The operator's secret of the tests."""
    return SECRET


@pytest.fixture(scope="session")
async def new_database(servers: embedded.Servers, programme: Programme) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes databases in no time: the address of a fresh one, cloned from a migrated template."""
    assert servers.database_url is not None
    server = make_url(servers.database_url)
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")

    async def create(template: str | None) -> str:
        name = f"t_{uuid4().hex}"
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")))
        return name

    template = await create(None)
    database = open_database(address(server, template), connections=2)
    await migrate(database.engine)
    async with database.sessions.begin() as session:
        await keep_programme(session, programme)
    await database.engine.dispose()

    async def fresh() -> str:
        return address(server, await create(template))

    yield fresh
    await engine.dispose()


def address(server: object, name: str) -> str:
    """The same server's address with another database."""
    return make_url(server).set(database=name).render_as_string(hide_password=False)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
async def database(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    """The worker's database. Tests share it and tell their rows apart by their own partners and members."""
    opened = open_database(await new_database(), connections=20)
    yield opened
    await opened.engine.dispose()


@pytest.fixture
async def empty_database(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    """A database of one test's own, for what counts everything."""
    opened = open_database(await new_database(), connections=20)
    yield opened
    await opened.engine.dispose()


@pytest.fixture(scope="session")
def sessions(database: Database) -> async_sessionmaker[AsyncSession]:
    """Sessions on the worker's database."""
    return database.sessions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the test's own."""
    return tmp_path


@pytest.fixture
def club(database: Database, programme: Programme, keys: Keys, now: datetime) -> Club:
    """The programme on the worker's database, with factories of rows."""
    return Club(database, programme, keys, now)


@pytest.fixture(scope="session")
async def api(servers: embedded.Servers, database: Database, now: datetime) -> AsyncIterator[Api]:
    """The service on the worker's database, over ASGI, at the tests' one moment, without workers."""
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(SECRET.decode()),
        built_in_sign_in=True,
    )
    gateway = Gateway(settings, clock=lambda: now, work=False)
    async with (
        gateway.living() as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=settings.address) as client,
    ):
        yield Api(service, client)


@pytest.fixture
async def live(servers: embedded.Servers, database: Database) -> AsyncIterator[Api]:
    """The same over a real HTTP server, in real time."""
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(SECRET.decode()),
    )
    async with serving(settings) as served:
        yield served


@pytest.fixture
async def flows(
    servers: embedded.Servers, sessions: async_sessionmaker[AsyncSession], secret: bytes
) -> AsyncIterator[Flows]:
    """An authorization server on the worker's database, at a time of the test's own."""
    clock = Clock()
    foundation = await lay_foundation(sessions, str(servers.redis_url), secret, clock)
    async with reach(foundation) as http:
        yield Flows(foundation, clock, http)
    await foundation.cache.aclose()


@pytest.fixture
async def perks(
    new_database: Callable[[], Awaitable[str]],
    servers: embedded.Servers,
    secret: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Perks:
    """The command on a database of the test's own."""
    address = await new_database()
    monkeypatch.setenv("DATABASE_URL", address)
    monkeypatch.setenv("REDIS_URL", str(servers.redis_url))
    monkeypatch.setenv("PERKS_SECRET", secret.decode())
    return Perks(address, capsys)
