"""What may be used once is remembered in Valkey, so that no process accepts what another one has seen."""

from datetime import timedelta
from hashlib import sha256

from redis.asyncio import Redis
from redis.exceptions import RedisError

from partners.errors import Unavailable


async def use_once(cache: Redis, kind: str, key: str, lifetime: timedelta) -> bool:
    """Whether this is the first use of `key` among its `kind` within `lifetime`; of many at once one hears True.

    Unavailable when the memory can't be asked: whoever can't know refuses. `lifetime` is at least as long as the thing
    itself would be accepted.
    """
    digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    try:
        return bool(await cache.set(f"once:{kind}:{digest}", b"", nx=True, px=lifetime))
    except (RedisError, OSError) as fault:
        raise Unavailable("the memory of what was used once can't be reached; try again later") from fault
