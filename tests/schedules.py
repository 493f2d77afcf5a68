"""An event loop whose schedule is a seed's: what is ready runs in any order, and time passes only when nothing is."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

Answer = TypeVar("Answer")
CALLBACKS_MAX = 1_000_000


class Stuck(Exception):
    """Somebody waits, and nothing will ever happen again."""


class SeededLoop(asyncio.BaseEventLoop):
    """Runs one ready callback at a time, drawn by the seed's dice; a sleep costs no time.

    Asyncio promises less than it does: that what became ready first runs first is nothing to rely on.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = Random(seed)
        self._clock, self._callbacks = 0.0, 0

    def time(self) -> float:
        """Seconds since the loop was made, of its own clock."""
        return self._clock

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        ready: Any = self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck("nothing will ever happen again")
            self._clock = max(self._clock, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._clock:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        self._callbacks += 1
        if self._callbacks > CALLBACKS_MAX:
            raise Stuck("it goes round in circles")
        ready.rotate(-self.dice.randrange(len(ready)))
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _process_events(self, event_list: object) -> None:
        """There are none from outside."""


def run_schedule(seed: int, work: Callable[[Random], Coroutine[Any, Any, Answer]]) -> Answer:
    """What `work` comes to in the one schedule of a seed; Stuck when it never ends."""
    loop = SeededLoop(seed)
    try:
        return loop.run_until_complete(work(loop.dice))
    except Exception as fault:
        fault.add_note(f"in the schedule of seed {seed}")
        raise
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        if asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
        loop.close()
