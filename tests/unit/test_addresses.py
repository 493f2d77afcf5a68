"""Addresses: every fault is named, none is repeated, and what is sealed opens for its redemption alone."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.addresses import Address, checked_address, open_address, seal_address
from partners.errors import BadInput
from partners.keys import derive_keys
from partners.sealing import Unsealable

KEY = derive_keys(b"a secret of the tests, 32 bytes or more").sealing
HOME = Address("Rosa Example", ("Unter den Weiden 77",), "8001", "Zürich", "CH")
words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=100)
addresses = st.builds(
    Address,
    words,
    st.lists(words, min_size=1, max_size=4).map(tuple),
    words.map(lambda text: text[:20]),
    words,
    st.from_regex(r"[A-Z]{2}", fullmatch=True),
    st.none() | words,
    st.none() | words.map(lambda text: text[:30]),
)


@given(addresses, st.uuids())
def test_what_is_sealed_is_what_was_given(address: Address, redemption_id: UUID) -> None:
    assert checked_address(address) == address
    assert open_address(KEY, redemption_id, seal_address(KEY, redemption_id, address)) == address


def test_it_opens_for_no_other_redemption() -> None:
    sealed = seal_address(KEY, uuid4(), HOME)
    with pytest.raises(Unsealable):
        open_address(KEY, uuid4(), sealed)
    assert b"Weiden" not in sealed


def test_white_space_around_is_not_kept() -> None:
    given = replace(HOME, name=" Rosa Example ", lines=(" Unter den Weiden 77 ",), region=" ZH ", phone=" 1 ")
    assert checked_address(given) == replace(HOME, region="ZH", phone="1")


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "address.name: 1 to 100 printable characters"),
    ({"name": "   "}, "address.name: 1 to 100 printable characters"),
    ({"name": "x" * 101}, "address.name: 1 to 100 printable characters"),
    ({"name": "a\0b"}, "address.name: 1 to 100 printable characters"),
    ({"name": "a\u202eb"}, "address.name: 1 to 100 printable characters"),
    ({"lines": ()}, "address.lines: 1 to 4"),
    ({"lines": ("x",) * 5}, "address.lines: 1 to 4"),
    ({"lines": ("x", " ")}, "address.lines.1: 1 to 100 printable characters"),
    ({"lines": ("x" * 101,)}, "address.lines.0: 1 to 100 printable characters"),
    ({"lines": ("a\nb",)}, "address.lines.0: 1 to 100 printable characters"),
    ({"postal_code": "x" * 21}, "address.postalCode: 1 to 20 printable characters"),
    ({"city": ""}, "address.city: 1 to 100 printable characters"),
    ({"region": ""}, "address.region: 1 to 100 printable characters"),
    ({"phone": "1" * 31}, "address.phone: 1 to 30 printable characters"),
    ({"country_code": "ch"}, "address.countryCode: an ISO 3166-1 code of two capital letters, as CH"),
    ({"country_code": "CHE"}, "address.countryCode: an ISO 3166-1 code of two capital letters, as CH"),
    ({"country_code": "C\n"}, "address.countryCode: an ISO 3166-1 code of two capital letters, as CH"),
    ({"country_code": ""}, "address.countryCode: an ISO 3166-1 code of two capital letters, as CH"),
]


@pytest.mark.parametrize(("given", "fault"), FAULTY)
def test_what_can_not_be_is_named_by_its_path(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked_address(replace(HOME, **given))
    assert refused.value.details == {"faults": [fault]}


def test_all_faults_are_named_at_once_and_nothing_of_the_address_is_repeated() -> None:
    given = Address("Weiden\0", ("Weiden\0",), "Weiden\0", "Weiden\0", "Weiden", "Weiden\0", "Weiden\0")
    with pytest.raises(BadInput) as refused:
        checked_address(given)
    assert len(refused.value.details["faults"]) == 7
    assert "Weiden" not in refused.value.message


def test_a_thousand_lines_are_one_fault() -> None:
    with pytest.raises(BadInput) as refused:
        checked_address(replace(HOME, lines=("\0",) * 1000))
    assert len(refused.value.details["faults"]) == 5
