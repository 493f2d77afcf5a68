"""The composition root: what is made at start, how it is wired, and the one ASGI application."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from auth import routes as oauth
from auth.dpop import Proofs
from auth.keys import KeyRing, ensure_signing_key
from auth.revocations import DenySet
from auth.server import Foundation
from auth.tokens import Authority, TokenVerifier
from gateway import code_uploads, export_downloads, health, log_routes, metrics, pages, statements
from gateway.announcer import Announcer, open_announcer
from gateway.database import Database, open_database
from gateway.door import Door
from gateway.erasing import keep_erasing
from gateway.exports import keep_exporting
from gateway.high_water import HighWater, high_water_of
from gateway.housekeeping import keep_closing, keep_pruning, keep_scoring, keep_sweeping
from gateway.live import News, open_news
from gateway.migrations import require_migrated
from gateway.outside import Outside, open_outside
from gateway.rate_limits import RateLimits
from gateway.resources import resources_on
from gateway.sequencer import keep_sequencing, sequencer_of
from gateway.settings import Settings, SettingsInvalid
from gateway.settling import keep_settling
from gateway.waitlists import Promoter, keep_promoting
from gateway.webhooks import keep_telling
from gateway.witnesses import witnesses_of
from partners.errors import PerksError
from partners.feeds import Feeds
from partners.keys import Keys
from partners.programme import Programme, keep_programme, read_programme, require_programme
from schema.context import Resources
from schema.http import GraphQLEndpoint
from schema.root import SCHEMA

log = structlog.get_logger()

Clock = Callable[[], datetime]
GRAPHQL_PATH = "/graphql"
CACHE_CONNECTIONS = 20
GARBAGE_THRESHOLD = 20_000  # objects; at 700 collections took 10 % of a check (docs/performance.md)
OPERATIONS = Path(__file__).parent.parent / "schema" / "operations"


def utc_now() -> datetime:
    """The clock: read once per request, and passed down."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything one process holds while it serves or works."""

    settings: Settings
    database: Database
    cache: Redis
    programme: Programme
    keys: Keys
    ring: KeyRing
    denied: DenySet
    announcer: Announcer
    authority: Authority
    resources: Resources
    limits: RateLimits
    proofs: Proofs
    outside: Outside
    news: News
    high_water: HighWater
    clock: Clock


@asynccontextmanager
async def open_service(
    settings: Settings, *, clock: Clock = utc_now, keeps_programme: bool = True
) -> AsyncIterator[Service]:
    """Opens database and cache, checks that both fit this version, and closes them again.

    A service that `keeps_programme` brings the database's tiers in step with the file; others find them there.

    Raises PerksError with one line for an operator: an address missing, not migrated, an impossible programme.
    """
    if settings.database_url is None or settings.redis_url is None or settings.secret is None:
        raise SettingsInvalid("DATABASE_URL, REDIS_URL and PERKS_SECRET are needed where nothing is embedded")
    secret = settings.secret.get_secret_value().encode()
    programme = read_programme(settings.programme_file)
    async with AsyncExitStack() as closing:
        database = open_database(settings.database_url, connections=settings.database_connections)
        closing.push_async_callback(database.engine.dispose)
        cache = open_cache(settings.redis_url)
        closing.push_async_callback(cache.aclose)
        await require_migrated(database.engine)
        async with database.sessions.begin() as session:
            await (keep_programme if keeps_programme else require_programme)(session, programme)
            await ensure_signing_key(session, secret, clock())
        ring = KeyRing(database.sessions, secret)
        await ring.load(clock())
        announcer = await closing.enter_async_context(open_announcer(database, settings.redis_url, secret, ring, clock))
        limits = RateLimits(cache)
        keys, mark = settings.keys, high_water_of(settings, database)
        feeds = Feeds(clock, tell_of_reading)
        resources = resources_on(database, programme, keys, limits, feeds, mark, settings)
        closing.push_async_callback(resources.claims.close)
        closing.push_async_callback(resources.availability.close)
        closing.push_async_callback(feeds.close)
        yield Service(
            settings,
            database,
            cache,
            programme,
            keys,
            ring,
            announcer.denied,
            announcer,
            authority_of(settings),
            resources,
            limits,
            Proofs(cache, secret, settings.address),
            await closing.enter_async_context(open_outside(settings, database.reading)),
            await closing.enter_async_context(open_news(database, settings.redis_url, secret, feeds)),
            mark,
            clock,
        )


def open_cache(address: str) -> Redis:
    """A cache whose callers wait in turn for a connection: with the library's own pool all beyond the hundredth fail,
    and a flood would switch off what holds it back."""
    pool = BlockingConnectionPool.from_url(
        address, max_connections=CACHE_CONNECTIONS, timeout=2, socket_connect_timeout=2, socket_timeout=2
    )
    return Redis.from_pool(pool)


def authority_of(settings: Settings) -> Authority:
    """Issuer and audiences, from the address that callers reach us at."""
    address = settings.address
    return Authority(issuer=address, audience=f"{address}{GRAPHQL_PATH}", staff_audience=f"{address}/staff")


@asynccontextmanager
async def working(service: Service) -> AsyncIterator[None]:
    """Runs the workers beside whatever else the process does, and waits for them at the end."""
    stop, freed = asyncio.Event(), service.resources.freed
    workers = {
        "sweeper": keep_sweeping(service.database, service.clock, stop, freed),
        "promoter": keep_promoting(
            Promoter(service.database, service.programme, service.keys, service.clock), freed, stop
        ),
        "settler": keep_settling(service.database, service.clock, stop),
        "closer": keep_closing(service.database, service.clock, stop),
        "pruner": keep_pruning(
            service.database, timedelta(days=service.settings.disclosures_kept_days), service.clock, stop
        ),
        "eraser": keep_erasing(service.database, service.clock, stop),
        "exporter": keep_exporting(service.database, service.clock, stop),
        "scorer": keep_scoring(service.database, service.programme, service.clock, stop),
        "publisher": service.announcer.keep_publishing(stop),
        "follower": service.announcer.keep_following(stop),
        "sequencer": keep_sequencing(sequencer_of(service), stop, grown=service.news.announce),
        "witnesses": witnesses_of(service).keep_asking(stop),
        "news publisher": service.news.keep_publishing(stop),
        "news follower": service.news.keep_following(stop),
        "news reader": service.news.keep_reading(stop),
        "webhooks": keep_telling(service, stop),
    }
    tasks = [asyncio.create_task(work, name=name) for name, work in workers.items()]
    for task in tasks:
        task.add_done_callback(tell_of_death)
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks, return_exceptions=True)


def tell_of_reading(fault: Exception) -> None:
    """What is followed could not be read; it is read again."""
    if not isinstance(fault, PerksError):
        log.warning("following.waiting", fault=type(fault).__name__, detail=str(fault))


def tell_of_death(task: asyncio.Task[None]) -> None:
    """A worker waits outages out; whatever ends it is a fault that somebody has to see."""
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.error("worker_died", worker=task.get_name(), exc_info=fault)


class Gateway:
    """The ASGI application: /graphql goes straight to its endpoint, everything else through the router."""

    def __init__(self, settings: Settings, *, clock: Clock = utc_now, work: bool = True) -> None:
        self._settings, self._clock, self._work = settings, clock, work
        self._graphql: GraphQLEndpoint | None = None
        self._router = Starlette(lifespan=self._live)
        # Else a slash too many is answered by a redirect to whatever host the request names.
        self._router.router.redirect_slashes = False

    @asynccontextmanager
    async def living(self) -> AsyncIterator[Service]:
        """Opens the service and wires the routes; everything is closed on leaving."""
        async with AsyncExitStack() as closing:
            service = await closing.enter_async_context(open_service(self._settings, clock=self._clock))
            if self._work:
                await closing.enter_async_context(working(service))
            door = door_of(service)
            self._graphql = GraphQLEndpoint(
                SCHEMA, admit=door.admit, again=door.again, graphiql=self._settings.graphiql, folder=OPERATIONS
            )
            self._router.router.routes[:] = routes_of(service, self._graphql)
            # What was made at start stays for ever: full collections need not visit it again and again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE_THRESHOLD)
            yield service

    @asynccontextmanager
    async def _live(self, _: Starlette) -> AsyncIterator[None]:
        async with self.living():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if self._graphql is not None and scope["type"] != "lifespan" and scope["path"] == GRAPHQL_PATH:
            await (self._graphql if scope["type"] == "http" else self._graphql.websocket)(scope, receive, send)
        else:
            await self._router(scope, receive, send)


def routes_of(service: Service, graphql: GraphQLEndpoint) -> list[BaseRoute]:
    """Everything that is served."""
    return [
        Route(GRAPHQL_PATH, graphql),
        *oauth.routes(foundation_of(service)),
        *health.routes(service.database, service.cache, service.high_water),
        *metrics.routes(service.database, service.high_water, service.clock),
        *code_uploads.routes(service),
        *export_downloads.routes(service),
        *statements.routes(service),
        *log_routes.routes(service),
        *pages.routes(service),
    ]


def foundation_of(service: Service) -> Foundation:
    """What the authorization server stands on."""
    return Foundation(
        service.database.sessions,
        service.cache,
        service.ring,
        service.authority,
        TokenVerifier(service.ring, service.authority, service.denied),
        service.keys,
        service.proofs,
        service.limits,
        service.clock,
    )


def door_of(service: Service) -> Door:
    """Where callers of the API come in."""
    verifier = TokenVerifier(service.ring, service.authority, service.denied, service.outside.issuers)
    return Door(verifier, service.proofs, GRAPHQL_PATH, service.clock, service.resources)
