"""The names that partners know members by: two partners' lists have nothing in common (law 8)."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.keys import derive_keys
from partners.members import pairwise_alias

KEY = b"a key of 32 bytes for the tests."
ids = st.uuids(version=4)


@given(ids, ids)
def test_an_alias_is_26_letters_and_always_the_same(partner: UUID, member: UUID) -> None:
    alias = pairwise_alias(KEY, partner, member)
    assert re.fullmatch("[a-z2-7]{26}", alias)
    assert pairwise_alias(KEY, partner, member) == alias


@given(ids, ids, ids, ids)
def test_another_partner_member_or_key_is_another_alias(a: UUID, b: UUID, c: UUID, d: UUID) -> None:
    alias = pairwise_alias(KEY, a, b)
    assert (pairwise_alias(KEY, c, d) == alias) == ((a, b) == (c, d))
    assert pairwise_alias(b"another key of 32 bytes, no less", a, b) != alias
    if a != b:
        assert pairwise_alias(KEY, b, a) != alias


def test_two_partners_lists_of_a_thousand_members_share_nothing() -> None:
    lists = [{pairwise_alias(KEY, UUID(int=p), UUID(int=n)) for n in range(1000)} for p in (1, 2)]
    assert [len(names) for names in lists] == [1000, 1000]
    assert not lists[0] & lists[1]
    starts = [{name[:6] for name in names} for names in lists]
    assert len(starts[0] & starts[1]) <= 2  # of 30 bits: no part of a name is shared either


def test_each_purpose_has_a_key_of_its_own_that_the_secret_alone_decides() -> None:
    keys = derive_keys(b"s" * 32)
    assert len({keys.pairwise, keys.codes, keys.log}) == 3
    assert keys == derive_keys(b"s" * 32) != derive_keys(b"t" * 32)
    assert not any(key.hex() in repr(keys) or repr(key) in repr(keys) for key in (keys.pairwise, keys.codes, keys.log))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        derive_keys(b"s" * 31)
