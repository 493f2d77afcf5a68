"""The batcher under every order of events: nobody is stranded, nobody is answered twice."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partners.batches import Batcher
from partners.errors import Overloaded, TryAgain


class Recorder:
    """A database that answers item n with -n when its gate lets it, and fails where it is told to."""

    def __init__(self, *, batch_max: int = 256, queue_max: int = 20_000) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.in_flight: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing: Callable[[Sequence[int]], Exception | None] = lambda items: None
        self.batcher: Batcher[str, int, int] = Batcher(self.run, batch_max=batch_max, queue_max=queue_max)

    async def run(self, key: str, items: Sequence[int]) -> Sequence[int]:
        self.in_flight[key] = self.in_flight.get(key, 0) + 1
        assert self.in_flight[key] == 1
        self.batches.append((key, list(items)))
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            fault = self.failing(items)
            if fault is not None:
                raise fault
        finally:
            self.in_flight[key] -= 1
        return [-item for item in items]


async def answer_of(batcher: Batcher[str, int, int], item: int) -> int:
    return await batcher.submit("a", item)


async def settled(batcher: Batcher[str, int, int]) -> None:
    await asyncio.wait_for(batcher.close(), 5)


async def test_a_cold_key_is_a_batch_of_one_and_what_queues_meanwhile_is_the_next() -> None:
    database = Recorder()
    database.gate.clear()
    first = database.batcher.submit("a", 1)
    await asyncio.sleep(0)
    rest = [database.batcher.submit("a", item) for item in (2, 3, 4)]
    other = database.batcher.submit("b", 5)
    await asyncio.sleep(0)
    assert database.batches == [("a", [1]), ("b", [5])]
    database.gate.set()
    assert await asyncio.gather(first, *rest, other) == [-1, -2, -3, -4, -5]
    assert database.batches == [("a", [1]), ("b", [5]), ("a", [2, 3, 4])]


async def test_a_batch_has_a_size_and_order_is_kept() -> None:
    database = Recorder(batch_max=3)
    answers = [database.batcher.submit("a", item) for item in range(8)]
    assert await asyncio.gather(*answers) == [-item for item in range(8)]
    assert [items for _, items in database.batches] == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_a_fault_is_for_its_batch_alone_and_the_queue_goes_on() -> None:
    database = Recorder(batch_max=2)
    database.failing = lambda items: TryAgain("the database went away") if 2 in items else None
    answers = [database.batcher.submit("a", item) for item in range(6)]
    await asyncio.wait(answers, timeout=5)
    assert [answers[place].result() for place in (0, 1, 4, 5)] == [0, -1, -4, -5]
    for place in (2, 3):
        with pytest.raises(TryAgain):
            await answers[place]


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_answers_strands_nobody(count: int) -> None:
    async def run(key: str, items: Sequence[int]) -> Sequence[int]:
        return [0] * count if len(items) == 2 else list(items)

    batcher: Batcher[str, int, int] = Batcher(run, batch_max=2)
    answers = [batcher.submit("a", item) for item in (1, 2, 3)]
    await asyncio.wait(answers, timeout=5)
    assert all(isinstance(answer.exception(), ValueError) for answer in answers[:2])
    assert answers[2].result() == 3


async def test_a_full_queue_says_so_and_takes_again_once_there_is_room() -> None:
    database = Recorder(queue_max=2)
    database.gate.clear()
    taken = [database.batcher.submit("a", 0)]
    await asyncio.sleep(0)
    taken += [database.batcher.submit("a", item) for item in (1, 2)]
    with pytest.raises(Overloaded) as fault:
        database.batcher.submit("a", 3)
    assert fault.value.details == {"retryAfter": 1}
    taken.append(database.batcher.submit("b", 4))
    database.gate.set()
    assert await asyncio.gather(*taken) == [0, -1, -2, -4]
    assert await database.batcher.submit("a", 5) == -5


async def test_a_waiter_that_goes_away_does_not_stop_its_batch() -> None:
    database = Recorder()
    database.gate.clear()
    running = asyncio.ensure_future(answer_of(database.batcher, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(answer_of(database.batcher, item)) for item in (2, 3)]
    await asyncio.sleep(0)
    for gone in (running, waiting[0]):
        gone.cancel()
    await asyncio.sleep(0)
    database.gate.set()
    assert await asyncio.wait_for(waiting[1], 5) == -3
    assert database.batches == [("a", [1]), ("a", [3])]
    assert running.cancelled()


async def test_closing_waits_until_everything_is_answered() -> None:
    database = Recorder(batch_max=1)
    answers = [database.batcher.submit(key, 1) for key in "aabbb"]
    await settled(database.batcher)
    assert [answer.result() for answer in answers] == [-1] * 5


async def test_a_loop_that_ends_leaves_no_waiter_behind() -> None:
    database = Recorder(batch_max=1)
    database.gate.clear()
    answers = [database.batcher.submit("a", item) for item in (1, 2)]
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and "_drain" in repr(task):
            task.cancel()
    await asyncio.wait(answers, timeout=5)
    assert all(answer.cancelled() for answer in answers)
    database.gate.set()
    assert await database.batcher.submit("a", 3) == -3


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from("ab")),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["shut", "open"]), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(EVENTS, st.sets(st.integers(0, 40)), st.integers(1, 4), st.integers(1, 4))
def test_any_order_of_events_answers_everyone_once(
    events: list[tuple[str, object]], failing: set[int], batch_max: int, queue_max: int
) -> None:
    async def play() -> None:
        database = Recorder(batch_max=batch_max, queue_max=queue_max)
        database.failing = lambda items: TryAgain("failed") if failing & set(items) else None
        asked: list[tuple[str, asyncio.Future[int]]] = []
        refused, gone = 0, set()
        for event, what in events:
            if event == "submit":
                try:
                    asked.append((str(what), database.batcher.submit(str(what), len(asked))))
                except Overloaded:
                    refused += 1
            elif event == "cancel" and asked:
                place = what % len(asked)  # type: ignore[operator]
                if asked[place][1].cancel():
                    gone.add(place)
            elif event == "wait":
                for _ in range(what):  # type: ignore[call-overload]
                    await asyncio.sleep(0)
            else:
                (database.gate.set if event == "open" else database.gate.clear)()
        database.gate.set()
        await settled(database.batcher)
        check(database, asked, failing, gone)

    asyncio.run(play())


def check(
    database: Recorder, asked: list[tuple[str, "asyncio.Future[int]"]], failing: set[int], gone: set[int]
) -> None:
    ran = [item for _, items in database.batches for item in items]
    assert len(ran) == len(set(ran))
    for key in "ab":
        order = [item for own, items in database.batches for item in items if own == key]
        assert order == sorted(order)
    fate = {item: items for _, items in database.batches for item in items}
    for item, (key, answer) in enumerate(asked):
        assert answer.done()
        if item in gone:
            assert answer.cancelled()
            continue
        assert (key, fate[item]) in database.batches
        if failing & set(fate[item]):
            assert isinstance(answer.exception(), TryAgain)
        else:
            assert answer.result() == -item
    assert not any(database.in_flight.values())


async def test_the_answer_of_a_cancelled_waiter_is_not_an_error_in_the_log() -> None:
    database = Recorder()
    database.failing = lambda items: TryAgain("failed")
    database.gate.clear()
    answer = database.batcher.submit("a", 1)
    await asyncio.sleep(0)
    answer.cancel()
    database.gate.set()
    await settled(database.batcher)
    with suppress(asyncio.CancelledError):
        await answer
    assert answer.cancelled()
