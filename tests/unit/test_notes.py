"""Signed notes of several keys, cosignatures of witnesses, and whatever text somebody hands in for one."""

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from partners.notes import (
    COSIGNATURE,
    Checkpoint,
    NoteInvalid,
    Verifier,
    cosignature_line,
    decoded,
    encoded,
    is_name,
    note_text,
    open_checkpoint,
    open_note,
    read_signatures,
    sign_checkpoint,
    sign_note,
    signature_line,
    signatures_in,
    verifier_of,
)
from partners.tiles import Tile, tiles_of
from tests.trees import Log

LOG = Log.of(12)
NEW_KEY, WITNESS_KEY, STRANGERS = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
WITNESS = verifier_of("witness.example/w1", WITNESS_KEY, COSIGNATURE)
NEW = verifier_of(LOG.origin, NEW_KEY)
CHECKPOINT = LOG.checkpoint(12)
AT = 1_679_315_147
COSIGNED = LOG.note(12) + cosignature_line(str(CHECKPOINT), WITNESS.name, WITNESS_KEY, AT)
seeds = st.binary(min_size=32, max_size=32)
names = st.text(min_size=1, max_size=20).filter(is_name)
kinds = st.sampled_from([b"\x01", b"\x04"])


def test_a_cosignature_is_of_the_bytes_that_c2sp_says() -> None:
    [(label, signature, _)] = signatures_in("\n\n" + COSIGNED.splitlines(keepends=True)[-1])
    assert label == WITNESS.label
    assert int.from_bytes(signature[:8], "big") == AT
    message = b"cosignature/v1\ntime 1679315147\n" + str(CHECKPOINT).encode()
    Ed25519PublicKey.from_public_bytes(WITNESS.public).verify(signature[8:], message)
    assert len(signature) == 72


def test_who_cosigned_and_when_is_told() -> None:
    log, witness = read_signatures(COSIGNED, WITNESS, LOG.verifier)
    assert (log.verifier, log.time) == (LOG.verifier, None)
    assert (witness.verifier, witness.time) == (WITNESS, AT)
    assert f"{CHECKPOINT}\n{log.line}{witness.line}" == COSIGNED


@pytest.mark.parametrize(
    "verifiers", [(LOG.verifier,), (LOG.verifier, WITNESS), (NEW, LOG.verifier), (WITNESS, NEW, LOG.verifier)]
)
def test_a_checkpoint_opens_by_a_key_of_its_log_whatever_other_keys_there_are(verifiers: tuple[Verifier, ...]) -> None:
    assert open_checkpoint(COSIGNED, *verifiers) == CHECKPOINT


def test_during_rotation_either_key_opens_a_checkpoint() -> None:
    note = sign_checkpoint(CHECKPOINT, LOG.key, NEW_KEY)
    assert note.count("— perks.example/log ") == 2
    for verifiers in [(LOG.verifier,), (NEW,), (NEW, LOG.verifier)]:
        assert open_checkpoint(note, *verifiers) == CHECKPOINT


def test_a_witness_alone_opens_no_checkpoint() -> None:
    with pytest.raises(NoteInvalid, match="not signed by any key that is known but by"):
        open_checkpoint(COSIGNED, WITNESS)
    with pytest.raises(NoteInvalid, match="not signed by"):
        open_checkpoint(COSIGNED, WITNESS, NEW)


def test_a_witness_of_the_logs_name_is_not_the_log() -> None:
    impostor = verifier_of(LOG.origin, WITNESS_KEY, COSIGNATURE)
    note = f"{CHECKPOINT}\n" + cosignature_line(str(CHECKPOINT), LOG.origin, WITNESS_KEY, AT)
    assert read_signatures(note, impostor)
    with pytest.raises(NoteInvalid, match="not signed by"):
        open_checkpoint(note, LOG.verifier, impostor)


@pytest.mark.parametrize("wrong", ["log", "new", "witness"])
def test_one_wrong_signature_of_a_known_key_closes_the_note(wrong: str) -> None:
    other = str(LOG.checkpoint(11))
    lines = {
        "log": signature_line(other if wrong == "log" else str(CHECKPOINT), LOG.origin, LOG.key),
        "new": signature_line(other if wrong == "new" else str(CHECKPOINT), LOG.origin, NEW_KEY),
        "witness": cosignature_line(other if wrong == "witness" else str(CHECKPOINT), WITNESS.name, WITNESS_KEY, AT),
    }
    note = f"{CHECKPOINT}\n{''.join(lines.values())}"
    with pytest.raises(NoteInvalid, match=r"the signature of .* is not of this text"):
        open_checkpoint(note, LOG.verifier, NEW, WITNESS)
    known = {"log": LOG.verifier, "new": NEW, "witness": WITNESS}
    del known[wrong]
    if wrong != "log":
        assert open_checkpoint(note, *known.values()) == CHECKPOINT


def test_a_cosignature_is_of_its_time_and_of_no_other() -> None:
    raw = bytearray(decoded(COSIGNED.splitlines()[-1].split(" ")[2]))
    raw[11] ^= 1
    line = f"— {WITNESS.name} {encoded(bytes(raw))}\n"
    with pytest.raises(NoteInvalid, match="is not of this text"):
        read_signatures(LOG.note(12) + line, WITNESS)


def test_a_cosignature_of_a_time_that_can_not_be_is_refused() -> None:
    line = cosignature_line(str(CHECKPOINT), WITNESS.name, WITNESS_KEY, 2**63)
    with pytest.raises(NoteInvalid, match="no time that can be"):
        read_signatures(LOG.note(12) + line, WITNESS)


def test_a_signature_without_its_time_is_no_cosignature() -> None:
    line = signature_line(str(CHECKPOINT), WITNESS.name, WITNESS_KEY)
    relabelled = WITNESS.key_id + decoded(line.rstrip("\n").split(" ")[2])[4:]
    forged = f"— {WITNESS.name} {encoded(relabelled)}\n"
    with pytest.raises(NoteInvalid, match="is not of this text"):
        read_signatures(LOG.note(12) + forged, WITNESS)


def test_extension_lines_are_signed_and_not_read() -> None:
    text = f"{CHECKPOINT}anything\nmore\n"
    note = sign_note(text, LOG.origin, LOG.key) + cosignature_line(text, WITNESS.name, WITNESS_KEY, AT)
    assert open_checkpoint(note, LOG.verifier, WITNESS) == CHECKPOINT
    with pytest.raises(NoteInvalid):
        open_checkpoint(note.replace("anything", "anythink"), LOG.verifier)


def test_16_signatures_are_read_and_a_thousand_are_not() -> None:
    strangers = signature_line(str(CHECKPOINT), "stranger.example", STRANGERS)
    assert open_checkpoint(LOG.note(12) + 16 * strangers, LOG.verifier) == CHECKPOINT
    with pytest.raises(NoteInvalid, match="more than 100 signatures"):
        open_checkpoint(LOG.note(12) + 1_000 * strangers, LOG.verifier)


@pytest.mark.parametrize("size", ["-1", "01", "+1", "1.0", "9223372036854775808", "99999999999999999999", "٣", ""])
def test_a_size_that_no_log_has_is_no_checkpoint(size: str) -> None:
    with pytest.raises(NoteInvalid, match="not a checkpoint"):
        Checkpoint.parse(str(CHECKPOINT).replace("\n12\n", f"\n{size}\n"))


@given(names, seeds, kinds)
def test_verifier_keys_read_back(name: str, seed: bytes, kind: bytes) -> None:
    verifier = verifier_of(name, seed, kind)
    assert Verifier.parse(str(verifier)) == verifier
    assert verifier_of(name, seed, b"\x05").label != verifier.label


@given(seeds, names, st.integers(0, 10**6), seeds)
def test_whatever_a_log_signs_opens_and_no_other_key_opens_it(seed: bytes, origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    note = sign_checkpoint(checkpoint, seed)
    assert open_checkpoint(note, verifier_of(origin, seed)) == checkpoint
    with pytest.raises(NoteInvalid):
        open_note(note, verifier_of(origin, bytes(31) + b"\x01"))


@given(st.integers(0, len(COSIGNED) - 1), st.characters())
def test_a_note_with_any_character_changed_opens_as_it_was_or_not_at_all(at: int, sign: str) -> None:
    changed = COSIGNED[:at] + sign + COSIGNED[at + 1 :]
    with suppress(NoteInvalid):
        assert open_checkpoint(changed, LOG.verifier) == CHECKPOINT
        assert note_text(changed) == str(CHECKPOINT)


@given(st.integers(0, 8 * len(COSIGNED.encode()) - 1))
def test_a_note_with_any_bit_flipped_opens_as_it_was_or_not_at_all(bit: int) -> None:
    raw = bytearray(COSIGNED.encode())
    raw[bit // 8] ^= 1 << bit % 8
    changed = raw.decode(errors="surrogateescape")
    with suppress(NoteInvalid):
        assert open_checkpoint(changed, LOG.verifier) == CHECKPOINT
        assert note_text(changed) == str(CHECKPOINT)


pieces = st.sampled_from(
    ["\n", "\n\n", "— ", LOG.origin, "12", "+", "=", " ", "\x85", "\u2028", "\ud800", "\x00", COSIGNED]
)
texts = st.one_of(st.text(), st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=20).map("".join))


@given(texts)
def test_reading_any_text_ends_in_an_answer_or_in_noteinvalid(text: str) -> None:
    ways = (
        lambda: open_checkpoint(text, LOG.verifier, WITNESS) == CHECKPOINT,
        lambda: Checkpoint.parse(text).size >= 0,
        lambda: is_name(Verifier.parse(text).name),
        lambda: bool(signatures_in(text)),
    )
    for way in ways:
        with suppress(NoteInvalid):
            assert way()


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 2**55), st.integers(1, 256))
def test_the_path_of_a_tile_leads_back_to_it(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path) == tile


@given(st.one_of(texts, st.from_regex(r"(entries|[0-9]{1,3})/(x[0-9]{2,4}/){0,9}[0-9]{2,4}(\.p/[0-9]{1,4})?")))
def test_a_path_is_the_one_way_to_write_its_tile_or_of_none(path: str) -> None:
    tile = Tile.parse(path)
    assert tile is None or tile.path == path


@pytest.mark.parametrize(
    "path",
    [
        "0/1",
        "0/01",
        "00/001",
        "64/000",
        "0/x001",
        "0/x000/001",
        "0/001.p/0",
        "0/001.p/256",
        "0/001.p/007",
        "0/001/",
        "/0/001",
        "0/001.p/-1",
        "-1/000",
        "0/" + "x999/" * 2_000 + "999",
    ],
)
def test_other_spellings_are_no_tile(path: str) -> None:
    assert Tile.parse(path) is None


@given(st.integers(0, 2**18))
def test_the_tiles_of_a_tree_hold_every_hash_of_their_level_once(size: int) -> None:
    tiles = tiles_of(size)
    assert len({tile.path for tile in tiles}) == len(tiles)
    for level in range(4):
        held = [
            at for tile in tiles if tile.level == level for at in range(256 * tile.index, 256 * tile.index + tile.width)
        ]
        assert held == list(range(size >> 8 * level))
