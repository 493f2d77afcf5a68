"""Proofs as text: what we write reads back and verifies, and every change of it is told for what it is."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.notes import COSIGNATURE, NoteInvalid, cosignature_line, encoded, verifier_of
from partners.tlog_proofs import TlogProof, parse, render
from tests.trees import Log

LOG = Log.of(300)
OTHER = Log.of(300, word="other")
WITNESS_KEY = bytes([2]) * 32
WITNESS = verifier_of("witness.example/w1", WITNESS_KEY, COSIGNATURE)
KEYS = [LOG.verifier]
NOTE = LOG.note(300) + cosignature_line(str(LOG.checkpoint(300)), WITNESS.name, WITNESS_KEY, 1_679_315_147)
HASHES = LOG.inclusion(77, 300)
TEXT = render(77, HASHES, NOTE)


def test_a_proof_has_the_form_of_c2sp() -> None:
    lines = TEXT.split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 77"]
    assert lines[2 : 2 + len(HASHES)] == [encoded(one) for one in HASHES]
    assert TEXT.endswith(f"\n\n{NOTE}")
    with_extra = render(77, HASHES, NOTE, b"more")
    assert with_extra.split("\n")[1:3] == ["extra bW9yZQ==", "index 77"]
    assert parse(with_extra) == replace(parse(TEXT), extra=b"more")


@given(st.integers(1, 300).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))), st.binary())
def test_every_proof_reads_back_and_verifies_its_entry_alone(place: tuple[int, int], extra: bytes) -> None:
    index, size = place
    note = LOG.note(size)
    proof = parse(render(index, LOG.inclusion(index, size), note, extra))
    assert proof == TlogProof(index, tuple(LOG.inclusion(index, size)), note, extra)
    assert proof.verify(LOG.entries[index], KEYS) == LOG.checkpoint(size)
    with pytest.raises(NoteInvalid, match="does not lead from this entry"):
        proof.verify(LOG.entries[index] + b" ", KEYS)


def test_a_proof_under_one_leaf_has_no_hashes() -> None:
    proof = parse(render(0, [], LOG.note(1)))
    assert proof.verify(LOG.entries[0], KEYS).size == 1


def test_signatures_of_witnesses_are_checked_when_their_keys_are_given() -> None:
    assert parse(TEXT).verify(LOG.entries[77], [*KEYS, WITNESS]).size == 300
    forged = cosignature_line(str(LOG.checkpoint(299)), WITNESS.name, WITNESS_KEY, 1)
    tampered = parse(render(77, HASHES, LOG.note(300) + forged))
    assert tampered.verify(LOG.entries[77], KEYS).size == 300
    with pytest.raises(NoteInvalid, match=r"the signature of witness.example/w1\+"):
        tampered.verify(LOG.entries[77], [*KEYS, WITNESS])


@pytest.mark.parametrize(
    ("proof", "fault"),
    [
        (replace(parse(TEXT), index=78), "does not lead from this entry at index 78"),
        (replace(parse(TEXT), index=300), "has no index 300"),
        (replace(parse(TEXT), hashes=tuple(HASHES[1:])), "does not lead"),
        (replace(parse(TEXT), hashes=(*HASHES, HASHES[0])), "does not lead"),
        (replace(parse(TEXT), hashes=tuple(HASHES[::-1])), "does not lead"),
        (replace(parse(TEXT), note=LOG.note(299)), "does not lead"),
        (replace(parse(TEXT), note=OTHER.note(300)), "does not lead"),
        (replace(parse(TEXT), note=Log.of(300, "others.example/log").note(300)), "a checkpoint of another log"),
        (replace(parse(TEXT), note=LOG.note(300, bytes(32))), "not signed by"),
        (replace(parse(TEXT), note=str(LOG.checkpoint(300))), "not a signed note"),
        (replace(parse(TEXT), note=""), "not a signed note"),
    ],
)
def test_a_wrong_proof_says_what_is_wrong(proof: TlogProof, fault: str) -> None:
    with pytest.raises(NoteInvalid, match=fault):
        proof.verify(LOG.entries[77], KEYS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it begins with"),
        (TEXT.replace("@v1", "@v2"), "it begins with"),
        (TEXT.replace("\n", "\r\n"), "it begins with"),
        (" " + TEXT, "it begins with"),
        ("c2sp.org/tlog-proof@v1\nindex 77\n", "a blank line"),
        ("c2sp.org/tlog-proof@v1\n\n" + NOTE, "no line tells the index"),
        (TEXT.replace("index 77", "index 077"), "no line tells the index"),
        (TEXT.replace("index 77", "index -77"), "no line tells the index"),
        (TEXT.replace("index 77", "index 9223372036854775808"), "no line tells the index"),
        (TEXT.replace("index 77", "Index 77"), "no line tells the index"),
        (TEXT.replace("index 77", "extra ????\nindex 77"), "extra data are not base64"),
        (TEXT.replace("index 77", "extra \nindex 77"), "extra data are not base64"),
        (TEXT.replace("index 77", "index 77\nAAAA"), "hash 1 is not 32 bytes"),
        (TEXT.replace(encoded(HASHES[3]), encoded(HASHES[3])[:-1]), "hash 4 is not 32 bytes"),
        (TEXT.replace("index 77\n", "index 77\n" + f"{encoded(bytes(32))}\n" * 63), "more than 63 hashes"),
    ],
)
def test_a_text_that_is_no_proof_says_why(text: str, fault: str) -> None:
    with pytest.raises(NoteInvalid, match=fault):
        parse(text)


@given(st.integers(0, 8 * len(TEXT.encode()) - 1))
def test_a_proof_with_any_bit_flipped_proves_the_same_or_nothing(bit: int) -> None:
    raw = bytearray(TEXT.encode())
    raw[bit // 8] ^= 1 << bit % 8
    with suppress(NoteInvalid):
        proof = parse(raw.decode(errors="surrogateescape"))
        assert proof.verify(LOG.entries[77], KEYS) == LOG.checkpoint(300)
        assert (proof.index, list(proof.hashes)) == (77, HASHES)


lines = st.sampled_from([*TEXT.split("\n"), "index 1", "extra AA==", "\ud800", "\x00"])


@given(st.one_of(st.text(), st.lists(st.one_of(lines, st.text(max_size=5)), max_size=20).map("\n".join)))
def test_reading_any_text_ends_in_a_proof_or_in_noteinvalid(text: str) -> None:
    with suppress(NoteInvalid):
        proof = parse(text)
        assert render(proof.index, proof.hashes, proof.note, proof.extra) == text
        proof.verify(b"", [*KEYS, WITNESS])
