"""Hold codes: what a person types wrong is noticed, and what looks alike reads the same."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from partners.codes import ALPHABET, CHECK_SYMBOLS, LETTERS, READ_AS, code_hash, hold_code, random_code, spelled


def is_well_formed(code: str) -> bool:
    """Whether length and check symbol fit, as a till may check before it asks; we answer all wrong codes alike."""
    letters = code.upper().translate(READ_AS)
    if len(letters) != LETTERS + 1 or any(letter not in ALPHABET for letter in letters[:-1]):
        return False
    value = 0
    for letter in letters[:-1]:
        value = value * 32 + ALPHABET.index(letter)
    return letters[-1] == CHECK_SYMBOLS[value % 37]


KEY = b"a key of 32 bytes for the tests."
codes = st.uuids(version=4).map(lambda id: hold_code(KEY, id))


def written(letters: str) -> str:
    return "-".join((letters[:4], letters[4:8], letters[8:12], letters[12:]))


@given(codes)
def test_a_code_is_thirteen_letters_and_a_check_symbol_in_groups(code: str) -> None:
    groups = code.split("-")
    assert [len(group) for group in groups] == [4, 4, 4, 2]
    letters = "".join(groups)
    assert set(letters[:-1]) <= set(ALPHABET)
    assert letters[-1] in CHECK_SYMBOLS
    assert is_well_formed(code)


@given(codes)
def test_every_wrong_character_is_noticed(code: str) -> None:
    letters = code.replace("-", "")
    for place, right in enumerate(letters):
        for wrong in set(CHECK_SYMBOLS) - {right}:
            assert not is_well_formed(letters[:place] + wrong + letters[place + 1 :])


@given(codes)
def test_every_swap_of_neighbours_is_noticed(code: str) -> None:
    letters = code.replace("-", "")
    for place in range(len(letters) - 1):
        one, other = letters[place], letters[place + 1]
        if one != other:
            assert not is_well_formed(letters[:place] + other + one + letters[place + 2 :])


@given(codes, st.integers(0, 13), st.sampled_from(ALPHABET))
def test_a_missing_or_a_superfluous_character_is_noticed(code: str, place: int, more: str) -> None:
    letters = code.replace("-", "")
    assert not is_well_formed(letters[:place] + letters[place + 1 :])
    assert not is_well_formed(letters[:place] + more + letters[place:])


@given(codes, st.data())
def test_look_alikes_case_and_spacing_read_the_same(code: str, data: st.DataObject) -> None:
    alike = {"0": "0Oo", "1": "1IiLl"}
    typed = "".join(
        data.draw(st.sampled_from(alike.get(letter, letter + letter.lower())))
        + data.draw(st.sampled_from(["", " ", "-"]))
        for letter in code
    )
    assert is_well_formed(typed)
    assert code_hash(typed) == code_hash(code)


@given(st.text(max_size=30))
def test_anything_typed_has_an_answer(typed: str) -> None:
    assert len(code_hash(typed)) == 32
    assert is_well_formed(typed) in (True, False)


def test_no_letter_that_reads_as_another_is_in_the_alphabet() -> None:
    assert len(set(ALPHABET)) == 32
    assert not set("OILU") & set(ALPHABET)
    assert CHECK_SYMBOLS == ALPHABET + "*~$=U"


def test_a_code_is_worth_sixty_five_bits_and_depends_on_the_key_alone() -> None:
    made = [hold_code(KEY, UUID(int=number)) for number in range(4000)]
    letters = [code.replace("-", "")[:13] for code in made]
    assert len(set(made)) == len(made)
    # Every one of the 65 bits is set about half of the time (4,000 throws: 6 standard deviations are 190).
    for place in range(13):
        for bit in range(5):
            ones = sum(ALPHABET.index(code[place]) >> bit & 1 for code in letters)
            assert 1810 < ones < 2190
    assert hold_code(KEY, UUID(int=7)) == made[7]
    assert hold_code(b"another key", UUID(int=7)) != made[7]


def test_two_codes_have_two_hashes() -> None:
    assert code_hash(written("0" * 14)) != code_hash(written("0" * 13 + "1"))


def test_random_codes_are_written_as_derived_ones_and_never_twice() -> None:
    made = {random_code() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_well_formed(code) and [len(part) for part in code.split("-")] == [4, 4, 4, 2] for code in made)


def test_the_smallest_and_the_largest_code_are_as_long_as_all_others() -> None:
    assert spelled(0) == "0000-0000-0000-00"
    assert spelled(2**65 - 1) == f"ZZZZ-ZZZZ-ZZZZ-Z{CHECK_SYMBOLS[(2**65 - 1) % 37]}"
