"""What holds for callers who stay connected: how many may, for how long, and that their tokens live on."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from partners.errors import Overloaded
from schema.execution import RequestContext

Again = Callable[[Any, str], RequestContext]
"""The context of a caller who has stayed, as of now and under a request id; Unauthenticated when its token ended."""


READ_S = 20.0


def being_read() -> asyncio.Timeout:
    """For as long as a client may take to read what stands before one more message; TimeoutError, which is an OSError
    like the others of clients that have gone."""
    return asyncio.timeout(READ_S)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one process. `operations` at once on one WebSocket, whose first message has to come within `init_s`; every
    `beat_s` seconds a stream shows that it lives, and the token of whoever stays is looked at."""

    connections: int = 5_000
    connections_each: int = 100
    operations: int = 20
    init_s: float = 3.0
    beat_s: float = 10.0


class Places:
    """How many connections stay, in all and for each caller."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._taken[""]

    @contextmanager
    def take(self) -> Iterator[None]:
        """A place in all; Overloaded."""
        with self._one_of("", self.bounds.connections):
            yield

    @contextmanager
    def take_for(self, context: RequestContext) -> Iterator[None]:
        """One of the caller's own; Overloaded. All who come without a token are one caller."""
        caller = context.caller
        with self._one_of(f"{caller.kind} {caller.client_id} {caller.id} {caller.alias}", self.bounds.connections_each):
            yield

    @contextmanager
    def _one_of(self, whose: str, most: int) -> Iterator[None]:
        if self._taken[whose] >= most:
            raise Overloaded("too many connections are open; try again later", retryAfter=10)
        self._taken[whose] += 1
        try:
            yield
        finally:
            self._taken[whose] -= 1
            if not self._taken[whose]:
                del self._taken[whose]
