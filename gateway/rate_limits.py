"""Budgets of wrong attempts in Valkey, shared by all processes, that a flood can't turn against honest callers."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.attempts import Attempt
from auth.errors import Throttled
from partners.errors import Unavailable

log = structlog.get_logger()

TRUSTED_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Budget:
    """So many wrong attempts in so many seconds, from the first of them on."""

    name: str
    attempts: int
    seconds: int

    def key_of(self, *who: str) -> str:
        """Where the attempts of one caller are counted; hashed, because callers choose how long their names are."""
        return f"perks:{self.name}:{sha256(' '.join(who).encode()).hexdigest()}"


HOLD_CODES = Budget("wrong-code", 60, 60)
CLIENT = Budget("wrong-client", 120, 60)
CLIENT_ADDRESS = Budget("wrong-client-address", 600, 60)
USER_CODE = Budget("wrong-user-code", 10, 600)
USER_CODE_ADDRESS = Budget("wrong-user-code-address", 60, 600)
SIGN_IN = Budget("sign-in", 120, 60)
NOBODY = "perks:trusted:nobody"

# KEYS: who may be trusted, then a counter for each budget; ARGV: attempts and seconds of each.
# Narrow budgets stand first, so that one broken client does not use up the address that it shares with others, and
# an attempt that is refused is counted nowhere. Answers -1: trusted, -2: trusted and due to be so again, 0: counted,
# else the seconds to wait.
RESERVE = """
local trusted = redis.call('TTL', KEYS[1])
if trusted >= 0 then return trusted > 43200 and -1 or -2 end
for i = 2, #KEYS do
  if tonumber(redis.call('GET', KEYS[i]) or '0') >= tonumber(ARGV[2 * i - 3]) then
    return math.max(1, redis.call('TTL', KEYS[i]))
  end
end
for i = 2, #KEYS do
  if redis.call('INCR', KEYS[i]) == 1 then redis.call('EXPIRE', KEYS[i], ARGV[2 * i - 2]) end
end
return 0
"""
# A counter whose time ran out in between stays away: counting down would make one that never ends.
GIVE_BACK = """
if tonumber(ARGV[1]) > 0 then redis.call('SET', KEYS[1], '1', 'EX', ARGV[1]) end
for i = 2, #KEYS do
  if tonumber(redis.call('GET', KEYS[i]) or '0') > 0 then redis.call('DECR', KEYS[i]) end
end
return 0
"""


class RateLimits:
    """The budgets of one cache. An attempt is counted before it is made and given back when it was right; each of
    the two is one round trip.

    Without Valkey nobody is refused where 65 or more random bits stand behind a guess (docs/operations.md).
    """

    def __init__(self, cache: Redis) -> None:
        self._reserve = cache.register_script(RESERVE)
        self._give_back = cache.register_script(GIVE_BACK)

    async def hold_code(self, client_id: str) -> None:
        """A client shows a hold code; Throttled."""
        await self.reserve([(HOLD_CODES, HOLD_CODES.key_of(client_id))])

    async def right_hold_code(self, client_id: str) -> None:
        """The code was right: the attempt does not count."""
        await self.give_back([NOBODY, HOLD_CODES.key_of(client_id)], 0)

    async def client(self, client_id: str, address: str) -> Attempt:
        """See auth.attempts."""
        budgets = [
            (CLIENT, CLIENT.key_of(client_id, address)),
            (CLIENT_ADDRESS, CLIENT_ADDRESS.key_of(address)),
        ]
        return await self.reserve(budgets, f"{CLIENT.key_of(client_id, address)}:trusted")

    async def user_code(self, person: str, address: str) -> Attempt:
        """See auth.attempts."""
        budgets = [(USER_CODE, USER_CODE.key_of(person)), (USER_CODE_ADDRESS, USER_CODE_ADDRESS.key_of(address))]
        return await self.reserve(budgets, needed=True)

    async def sign_in(self, address: str) -> Attempt:
        """See auth.attempts."""
        return await self.reserve([(SIGN_IN, SIGN_IN.key_of(address))])

    async def reserve(
        self, budgets: Sequence[tuple[Budget, str]], trusted: str = NOBODY, *, needed: bool = False
    ) -> "Counted":
        """Counts an attempt in each budget, or in none and raises Throttled. Who is `trusted` is not counted.

        `needed`: Unavailable when there is no cache to count in; else the attempt is let through.
        """
        keys = [trusted, *(key for _, key in budgets)]
        figures = [figure for budget, _ in budgets for figure in (budget.attempts, budget.seconds)]
        try:
            seconds = int(await self._reserve(keys=keys, args=figures))
        except RedisError as fault:
            tell(fault, "counting attempts")
            if needed:
                raise Unavailable("the cache is down; try again later") from None
            return Counted(self, [])
        if seconds > 0:
            raise Throttled("too many wrong attempts; try again later", retryAfter=seconds)
        return Counted(self, {0: keys, -2: keys[:1]}.get(seconds, []))

    async def give_back(self, keys: Sequence[str], trusted_seconds: int) -> None:
        """Takes an attempt off its counters again, and remembers whose it was for so long."""
        try:
            await self._give_back(keys=keys, args=[trusted_seconds])
        except RedisError as fault:
            tell(fault, "giving an attempt back")


def tell(fault: RedisError, doing: str) -> None:
    """One line for operators."""
    log.warning("cache_unreachable", while_doing=doing, fault=type(fault).__name__)


@dataclass(frozen=True, slots=True)
class Counted:
    """An attempt that stands in the counters of `keys`, the first of which is whom to trust when it was right."""

    limits: RateLimits
    keys: Sequence[str]

    async def succeeded(self) -> None:
        """It was right."""
        if self.keys:
            await self.limits.give_back(self.keys, 0 if self.keys[0] == NOBODY else TRUSTED_SECONDS)

    async def give_back(self) -> None:
        """It was neither right nor wrong."""
        if self.keys:
            await self.limits.give_back(self.keys, 0)
