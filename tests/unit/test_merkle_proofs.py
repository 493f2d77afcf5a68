"""Every proof of a small tree verifies, and nothing else does."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.merkle import (
    EMPTY_ROOT,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    is_included,
    leaf_hash,
)
from tests.trees import Log

SIZE_MAX = 300
LOG = Log.of(SIZE_MAX)
LARGE = Log.of(2_000)
OTHER = bytes(range(1, 33))


def test_every_leaf_of_every_tree_up_to_300_is_proven() -> None:
    for size in range(1, SIZE_MAX + 1):
        root = LOG.root(size)
        for index in range(size):
            leaf = leaf_hash(LOG.entries[index])
            assert is_included(index, size, leaf, LOG.inclusion(index, size), root), (index, size)


def test_every_tree_up_to_300_is_proven_to_begin_with_every_smaller_one() -> None:
    for size in range(SIZE_MAX + 1):
        for older in range(size + 1):
            proof = LOG.consistency(older, size)
            assert is_consistent(older, size, LOG.root(older), LOG.root(size), proof), (older, size)


def altered(proof: Sequence[bytes], dice: random.Random) -> Iterator[list[bytes]]:
    """The proof with one thing wrong: a hash changed by a bit, dropped, doubled or swapped, or one more."""
    for at, one in enumerate(proof):
        bit = dice.randrange(256)
        changed = (int.from_bytes(one, "big") ^ 1 << bit).to_bytes(32, "big")
        yield [*proof[:at], changed, *proof[at + 1 :]]
        yield [*proof[:at], *proof[at + 1 :]]
        yield [*proof[: at + 1], *proof[at:]]
        for other in range(at):
            swapped = list(proof)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            yield swapped
    yield [*proof, OTHER]
    yield [OTHER, *proof]


places = st.integers(1, 2_000).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))
pairs = st.integers(2, 2_000).flatmap(lambda size: st.tuples(st.integers(1, size - 1), st.just(size)))


@given(places, st.randoms())
def test_no_altered_inclusion_proof_verifies(place: tuple[int, int], dice: random.Random) -> None:
    index, size = place
    leaf, proof, root = leaf_hash(LARGE.entries[index]), LARGE.inclusion(index, size), LARGE.root(size)
    assert is_included(index, size, leaf, proof, root)
    for wrong in altered(proof, dice):
        assert not is_included(index, size, leaf, wrong, root)
    assert not is_included(index, size, OTHER, proof, root)
    assert not is_included(index, size, leaf, proof, OTHER)


@given(places, st.integers(-1, 2_001))
def test_an_inclusion_proof_is_of_one_index_alone(place: tuple[int, int], other: int) -> None:
    index, size = place
    leaf, proof, root = leaf_hash(LARGE.entries[index]), LARGE.inclusion(index, size), LARGE.root(size)
    assert is_included(other, size, leaf, proof, root) == (other == index)


@given(pairs, st.randoms())
def test_no_altered_consistency_proof_verifies(pair: tuple[int, int], dice: random.Random) -> None:
    older, size = pair
    was, now, proof = LARGE.root(older), LARGE.root(size), LARGE.consistency(older, size)
    assert is_consistent(older, size, was, now, proof)
    for wrong in altered(proof, dice):
        assert not is_consistent(older, size, was, now, wrong)
    assert not is_consistent(older, size, OTHER, now, proof)
    assert not is_consistent(older, size, was, OTHER, proof)
    assert not is_consistent(older, size, now, was, proof)


@given(pairs, st.integers(0, 2_000))
def test_a_consistency_proof_is_of_one_older_size_alone(pair: tuple[int, int], other: int) -> None:
    older, size = pair
    was, now, proof = LARGE.root(older), LARGE.root(size), LARGE.consistency(older, size)
    assert is_consistent(other, size, was, now, proof) == (other == older)


@given(st.integers(), st.integers(), st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_verifying_answers_whatever_it_is_given(one: int, two: int, proof: list[bytes]) -> None:
    assert not is_included(one, two, OTHER, proof, EMPTY_ROOT)
    assert not is_consistent(one, two, OTHER, EMPTY_ROOT, proof)


def test_the_empty_tree_is_the_beginning_of_every_other_and_only_with_its_own_root() -> None:
    assert is_consistent(0, 8, EMPTY_ROOT, LOG.root(8), [])
    assert is_consistent(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert not is_consistent(0, 8, OTHER, LOG.root(8), [])
    assert not is_consistent(0, 8, EMPTY_ROOT, LOG.root(8), [OTHER])
    assert not is_consistent(8, 8, LOG.root(8), LOG.root(8), [OTHER])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 4), (4, 4), (5, 4)])
def test_no_proof_is_asked_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_ranges(index, size)


@pytest.mark.parametrize(("older", "size"), [(-1, 4), (5, 4)])
def test_no_proof_is_asked_of_a_larger_tree(older: int, size: int) -> None:
    with pytest.raises(ValueError, match="is not older"):
        consistency_ranges(older, size)


@given(st.integers(1, 2**63 - 1).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_a_proof_has_63_hashes_at_most_however_large_the_tree(place: tuple[int, int]) -> None:
    index, size = place
    inclusion, consistency = inclusion_ranges(index, size), consistency_ranges(index, size)
    assert len(inclusion) <= 63
    assert len(consistency) <= 64
    covered = sorted([*inclusion, (index, index + 1)])
    assert covered[0][0] == 0
    assert covered[-1][1] == size
    assert all(before[1] == after[0] for before, after in pairwise(covered))
