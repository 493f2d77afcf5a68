"""Whose turn it is, as a pure function: the order is never broken, and nothing that somebody may have is left over."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from partners.perk_settings import Waitlist
from partners.turns import Entry, Line, Plan, Turn, Verdict, plan_offers

OPTIONS = (UUID(int=1), UUID(int=2))


def entry(number: int, option: UUID | None = None, units: int = 1) -> Entry:
    return Entry(UUID(int=number), UUID(int=number), 1, option, None, units, 0, None, 0)


def verdict(turn: Turn = Turn.MAY, reach: Sequence[int] = (0,)) -> Verdict:
    return Verdict(turn, 1, 1, tuple(reach))


def line(entries: Sequence[Entry], free: Mapping[int, int | None], *, skip: bool = True, held: bool = True) -> Line:
    held_options = {one.option_id for one in entries} if held else set()
    return Line(
        1, Waitlist(skip=skip), len(entries), tuple(entries), free, dict.fromkeys(free, 0), frozenset(held_options)
    )


def numbers(entries: Sequence[Entry]) -> list[int]:
    return [one.id.int for one in entries]


def may_all(entries: Sequence[Entry]) -> dict[UUID, Verdict]:
    return {one.id: verdict() for one in entries}


def test_who_comes_first_is_offered_first() -> None:
    entries = [entry(1), entry(2), entry(3)]
    plan = plan_offers(line(entries, {0: 2}), may_all(entries))
    assert numbers(plan.offers) == [1, 2]
    assert plan.kept == {0: 0}


def test_nobody_is_offered_anything_before_everybody_ahead_was_asked_about() -> None:
    entries = [entry(1), entry(2), entry(3)]
    plan = plan_offers(line(entries, {0: 2}), {UUID(int=1): verdict(), UUID(int=3): verdict()})
    assert numbers(plan.offers) == [1]
    assert numbers(plan.unknown) == [2]
    assert plan.kept is None


def test_what_was_said_of_an_older_member_or_perk_was_not_said() -> None:
    entries = [entry(1)]
    for other in (replace(verdict(), member_version=2), replace(verdict(), perk_version=2)):
        plan = plan_offers(line(entries, {0: 1}), {UUID(int=1): other})
        assert numbers(plan.unknown) == [1]
        assert plan.offers == ()


def test_a_line_that_goes_on_beyond_what_was_read_is_read_on() -> None:
    entries = [entry(1)]
    short = replace(line(entries, {0: 2}), waiting=2)
    assert plan_offers(short, may_all(entries)) == Plan((entries[0],), (), (), None)
    assert plan_offers(replace(short, free={0: 1}), may_all(entries)).kept == {0: 0}


def test_while_the_perk_stands_still_what_is_there_stays_kept_for_as_many_as_wait() -> None:
    entries = [entry(1, units=2), entry(2)]
    plan = plan_offers(line(entries, {0: 5}), {one.id: verdict(Turn.STANDS) for one in entries})
    assert plan.offers == ()
    assert plan.kept == {0: 3}


def test_a_blocked_option_does_not_block_another() -> None:
    entries = [entry(1, OPTIONS[0], 3), entry(2, OPTIONS[0]), entry(3, OPTIONS[1])]
    verdicts = {entries[0].id: verdict(reach=[0]), entries[1].id: verdict(reach=[0]), entries[2].id: verdict(reach=[1])}
    plan = plan_offers(line(entries, {0: 2, 1: 1}, skip=False), verdicts)
    assert numbers(plan.offers) == [3]
    assert plan.kept == {0: 2, 1: 0}


def test_a_party_that_nothing_can_come_back_for_blocks_nobody() -> None:
    entries = [entry(1, units=3), entry(2)]
    plan = plan_offers(line(entries, {0: 2}, skip=False, held=False), may_all(entries))
    assert numbers(plan.offers) == [2]
    assert plan.kept == {0: 0}


def test_no_limit_is_enough_for_everybody_and_nothing_is_kept_of_it() -> None:
    entries = [entry(1, units=100), entry(2, units=1000)]
    plan = plan_offers(line(entries, {0: None}), may_all(entries))
    assert numbers(plan.offers) == [1, 2]
    assert plan.kept == {0: 0}


POOLS = (0, 1, 2, 3)  # two of each option: no two options share one
REACHES = {OPTIONS[0]: [(0,), (1,), (1, 0), ()], OPTIONS[1]: [(2,), (3,), (3, 2), ()]}
LINES = st.lists(
    st.tuples(st.sampled_from(list(Turn)), st.integers(1, 4), st.sampled_from(range(4)), st.sampled_from(OPTIONS)),
    max_size=12,
)
STOCK = st.tuples(*(st.integers(0, 6) for _ in POOLS))


@given(LINES, STOCK, STOCK, st.booleans())
def test_the_order_holds_and_nothing_is_left_that_somebody_may_have(
    waiting: list[tuple[Turn, int, int, UUID]], free: tuple[int, ...], kept: tuple[int, ...], skip: bool
) -> None:
    entries = [entry(place + 1, option, units) for place, (_, units, _, option) in enumerate(waiting)]
    verdicts = {
        one.id: verdict(turn, REACHES[option][reach])
        for one, (turn, _, reach, option) in zip(entries, waiting, strict=True)
    }
    whole = replace(line(entries, dict(enumerate(free)), skip=skip), kept=dict(enumerate(kept)))
    plan = plan_offers(whole, verdicts)
    assert plan.kept is not None
    left = {pool: free[pool] + kept[pool] for pool in POOLS}
    offered = set(numbers(plan.offers))
    assert numbers(plan.offers) == sorted(offered)
    for one in plan.offers:
        assert verdicts[one.id].turn is Turn.MAY
        wanted = one.units
        for pool in verdicts[one.id].reach:
            drawn = min(wanted, left[pool])
            left[pool] -= drawn
            wanted -= drawn
        assert wanted == 0  # there was enough for it when its turn came
    assert all(plan.kept[pool] <= left[pool] for pool in POOLS)
    remaining = {pool: left[pool] - plan.kept[pool] for pool in POOLS}
    blocked = {one.option_id for one in entries if skip is False and is_short(one, verdicts, left)}
    stands = next((one.id.int for one in entries if verdicts[one.id].turn is Turn.STANDS), len(entries) + 1)
    for one in entries:
        turn = verdicts[one.id].turn
        if turn is Turn.MAY and one.id.int not in offered and one.option_id not in blocked and one.id.int < stands:
            assert one.units > sum(remaining[pool] for pool in verdicts[one.id].reach)


def is_short(one: Entry, verdicts: Mapping[UUID, Verdict], left: Mapping[int, int]) -> bool:
    """Whether it may have been what everybody behind it had to wait for."""
    said = verdicts[one.id]
    return said.turn in (Turn.MAY, Turn.STANDS) and one.units > sum(left[pool] for pool in said.reach)
