"""When a message is tried again, and when an endpoint that fails is left in peace: pure functions of what happened."""

from datetime import datetime, timedelta
from itertools import accumulate

from partners.values import value

MINUTE, HOUR = 60, 3_600
DELAYS_S = (
    *(5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, 12 * HOUR, 14 * HOUR, 16 * HOUR),
)
"""Seconds before the second attempt, the third, …: about three days in all."""
ATTEMPTS_MAX = 1 + len(DELAYS_S)
JITTER = 0.2
RETRY_AFTER_MAX = timedelta(hours=6)
GIVEN_UP_AFTER = timedelta(days=3)
"""A message that has been due for so long, at an endpoint that has failed for as long, is parked untried."""

TRIPS_AT = 5
REST_S_MIN, REST_S_MAX = 30, 15 * MINUTE


def jittered(seconds: float, chance: float) -> timedelta:
    """A fifth less to a fifth more; `chance` is from 0 to 1."""
    return timedelta(seconds=seconds * (1 - JITTER + 2 * JITTER * chance))


def delay_after(attempts: int, chance: float, asked: timedelta | None = None) -> timedelta | None:
    """How long after the `attempts`-th failed attempt the next one is due; None: there is none any more.

    What the endpoint asked for (`Retry-After`) makes it later, by 6 hours at most, and never sooner: else the attempts
    would be used up before it is well again.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    usual = jittered(DELAYS_S[attempts - 1], chance)
    return usual if asked is None else max(usual, min(asked, RETRY_AFTER_MAX))


def tried_at() -> list[timedelta]:
    """How long after the first attempt each is made, without jitter."""
    return [timedelta(seconds=seconds) for seconds in accumulate(DELAYS_S, initial=0)]


@value
class Health:
    """An endpoint's breaker: how many rounds failed one after another since when, and until when nothing is tried.

    After the first failure one message is tried at a time; from the fifth on with a rest between, of half a minute to a
    quarter of an hour. Any success closes it.
    """

    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it rests between attempts."""
        return self.failures >= TRIPS_AT

    def after_failure(self, now: datetime, chance: float, asked: timedelta | None = None) -> "Health":
        """One more round without a success; `asked` is what the endpoint wants to be left in peace for."""
        failures = self.failures + 1
        rest = timedelta(0)
        if failures >= TRIPS_AT:
            doublings = min(failures - TRIPS_AT, 10)
            rest = jittered(min(REST_S_MIN * 2**doublings, REST_S_MAX), chance)
        if asked is not None:
            rest = max(rest, min(asked, RETRY_AFTER_MAX))
        return Health(failures, self.failing_since or now, now + rest if rest else None)
