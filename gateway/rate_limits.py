"""Budgets per caller in Valkey, shared by all processes: so far how often a client may be wrong about hold codes."""

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from partners.errors import PerksError

log = structlog.get_logger()

WRONG_CODES_MAX = 60
WRONG_CODES_SECONDS = 60


class Throttled(PerksError):
    """Too many attempts; `retryAfter` in seconds."""

    code = "THROTTLED"


class CodeGuesses:
    """At most 60 wrong hold codes a minute and client.

    An attempt is reserved before the database is asked and given back when the code was right, so that many at
    once can't slip through between counting and refusing. Without Valkey nobody is refused: 65 random bits stand
    behind it (docs/decisions/0007-hold-codes.md).
    """

    def __init__(self, cache: Redis) -> None:
        self._cache = cache

    async def reserve(self, client: str) -> None:
        """Counts an attempt; Throttled when the minute's are used up."""
        key = f"perks:wrong-codes:{client}"
        try:
            pipeline = self._cache.pipeline(transaction=False)
            pipeline.incr(key)
            pipeline.expire(key, WRONG_CODES_SECONDS, nx=True)
            pipeline.ttl(key)
            count, _, seconds = await pipeline.execute()
        except RedisError as fault:
            log.warning("cache_unreachable", while_doing="counting hold codes", fault=type(fault).__name__)
            return
        if count > WRONG_CODES_MAX:
            raise Throttled("too many wrong codes; try again later", retryAfter=max(1, seconds))

    async def give_back(self, client: str) -> None:
        """The code was right: the attempt does not count."""
        try:
            await self._cache.decr(f"perks:wrong-codes:{client}")
        except RedisError as fault:
            log.warning("cache_unreachable", while_doing="counting hold codes", fault=type(fault).__name__)
