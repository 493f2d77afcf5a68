"""Micro-batching: what queues up for a key while its last call is under way goes out as one next call."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from partners.errors import Overloaded

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Key, Item, Answer]):
    """One call in flight per key; an idle key waits for nothing, and a cold one is a batch of one.

    `run(key, items)` answers every item in order. When it raises, that batch gets the exception and the queue
    goes on. At most `queue_max` items wait per key, then `Overloaded`; a waiter that goes away does not stop its
    batch. Measured: reliability decisions 1, docs/performance.md.
    """

    def __init__(
        self,
        run: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        batch_max: int = 256,
        queue_max: int = 20_000,
    ) -> None:
        self._run = run
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._queues: dict[Key, deque[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, key: Key, item: Item) -> asyncio.Future[Answer]:
        """A future of the item's answer; `Overloaded` at once when the key's queue is full."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
            task = asyncio.create_task(self._drain(key, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(queue) >= self._queue_max:
            raise Overloaded("too many are waiting for this; try again shortly", retryAfter=1)
        queue.append((item, future))
        return future

    async def _drain(self, key: Key, queue: deque[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            while queue:
                batch = [queue.popleft() for _ in range(min(len(queue), self._batch_max))]
                await self._answer(key, [entry for entry in batch if not entry[1].done()])
        finally:
            del self._queues[key]
            for _, future in queue:
                future.cancel()

    async def _answer(self, key: Key, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._run(key, [item for item, _ in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers for {len(batch)} items")
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        except Exception as fault:
            for _, future in batch:
                if not future.done():
                    future.set_exception(fault)
        finally:
            for _, future in batch:
                future.cancel()  # open only when this task itself was cancelled

    async def close(self) -> None:
        """Waits until everything that queued has been answered."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
