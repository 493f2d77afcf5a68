"""Sealing: what is sealed for one place opens there, unchanged, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.keys import Keys, derive_keys
from partners.sealing import NONCE_BYTES, TAG_BYTES, Unsealable, open_sealed, seal

KEYS = derive_keys(b"a secret of the tests, 32 bytes or more")
KEY = KEYS.sealing


@given(st.binary(max_size=2000), st.binary(max_size=64))
def test_what_was_sealed_opens_in_its_place(plain: bytes, context: bytes) -> None:
    assert open_sealed(KEY, seal(KEY, plain, context), context) == plain


@given(st.binary(max_size=200), st.binary(max_size=64), st.binary(max_size=64))
def test_it_opens_in_no_other_place(plain: bytes, context: bytes, other: bytes) -> None:
    if context != other:
        with pytest.raises(Unsealable):
            open_sealed(KEY, seal(KEY, plain, context), other)


def test_it_opens_under_no_other_key() -> None:
    another = derive_keys(b"another secret of the tests, as long").sealing
    with pytest.raises(Unsealable):
        open_sealed(another, seal(KEY, b"text", b"row"), b"row")


def test_a_change_of_any_bit_is_noticed() -> None:
    sealed = seal(KEY, b"text", b"row")
    for place in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(Unsealable):
            open_sealed(KEY, bytes(changed), b"row")


def test_anything_cut_short_is_noticed() -> None:
    sealed = seal(KEY, b"text", b"row")
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            open_sealed(KEY, sealed[:length], b"row")


def test_equal_texts_do_not_look_equal() -> None:
    assert len({seal(KEY, b"text", b"row") for _ in range(100)}) == 100


def test_sealing_adds_a_version_a_nonce_and_a_tag_and_shows_nothing() -> None:
    sealed = seal(KEY, b"somewhere", b"row")
    assert len(sealed) == 1 + NONCE_BYTES + len(b"somewhere") + TAG_BYTES
    assert b"somewhere" not in sealed


def test_each_key_of_the_domain_is_another_and_shows_nothing() -> None:
    values = [getattr(KEYS, name) for name in Keys.__slots__ if name != "log_sealing"] + list(KEYS.log_sealing)
    assert len(set(values)) == len(values) == 6
    assert all(len(value) == 32 for value in values)
    assert KEY.hex() not in repr(KEYS)
    assert repr(KEY) not in repr(KEYS)
