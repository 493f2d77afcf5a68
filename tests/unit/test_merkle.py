"""The tree against RFC 6962 and itself, and checkpoints against notes that other tools made."""

from hashlib import sha256

import pytest

from partners.errors import BadInput
from partners.merkle import EMPTY_ROOT, CompactRange, leaf_hash, node_hash, root_of
from partners.notes import (
    Checkpoint,
    NoteInvalid,
    Verifier,
    open_checkpoint,
    open_note,
    origin_of,
    sign_checkpoint,
    sign_note,
    verifier_of,
)

# The leaves and roots that implementations of RFC 6962 test themselves with.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

KEY = bytes(range(32))
ORIGIN = "perks.example/log"
CHECKPOINT = Checkpoint(ORIGIN, 8, bytes.fromhex(ROOTS[8]))
NOTE = sign_checkpoint(CHECKPOINT, KEY)
VERIFIER = verifier_of(ORIGIN, KEY)


def recursive_root(leaf_hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 as it is written."""
    if len(leaf_hashes) < 2:
        return leaf_hashes[0] if leaf_hashes else sha256(b"").digest()
    split = 1 << (len(leaf_hashes) - 1).bit_length() - 1
    return node_hash(recursive_root(leaf_hashes[:split]), recursive_root(leaf_hashes[split:]))


def test_the_roots_are_those_of_rfc_6962() -> None:
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES]
    assert [root_of(leaves[:size]).hex() for size in range(9)] == ROOTS
    assert root_of([]) == EMPTY_ROOT


def test_a_compact_range_has_the_root_of_the_list_at_every_size_and_however_it_was_cut() -> None:
    leaves = [leaf_hash(str(at).encode()) for at in range(300)]
    kept = CompactRange()
    for size in range(301):
        expected = recursive_root(leaves[:size])
        assert kept.root() == expected
        assert root_of(leaves[:size]) == expected
        cut = size * 37 % (size + 1)
        resumed = CompactRange(cut, CompactRange().append(leaves[:cut]).frontier).append(leaves[cut:size])
        assert (resumed.size, resumed.frontier, resumed.root()) == (size, kept.frontier, expected)
        kept.append(leaves[size : size + 1])


@pytest.mark.parametrize(("size", "frontier"), [(1, b""), (0, bytes(32)), (3, bytes(32)), (-1, b""), (1, bytes(31))])
def test_a_frontier_that_can_not_be_of_its_size_is_refused(size: int, frontier: bytes) -> None:
    with pytest.raises(ValueError, match="has no frontier"):
        CompactRange(size, frontier)


def test_a_checkpoint_reads_back_and_has_the_form_of_c2sp() -> None:
    text, signature = NOTE.split("\n\n")
    assert text == "perks.example/log\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg="
    assert signature.startswith("— perks.example/log ")
    assert NOTE.endswith("\n")
    assert open_checkpoint(NOTE, VERIFIER) == CHECKPOINT
    assert Verifier.parse(str(VERIFIER)) == VERIFIER


def test_notes_of_other_tools_open_and_ours_are_the_same_bytes() -> None:
    """The example in the documentation of Go's golang.org/x/mod/sumdb/note."""
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    note = f"{text}\n— PeterNeumann {signature}\n"
    verifier = Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert open_note(note, verifier) == text
    cosigned = note + sign_note(text, "witness.example", KEY).split("\n\n")[1]
    assert open_note(cosigned, verifier) == open_note(cosigned, verifier_of("witness.example", KEY)) == text


def test_every_changed_byte_of_a_note_is_refused() -> None:
    raw = NOTE.encode()
    for at in range(len(raw)):
        for flip in (1, 2, 32):
            changed = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
            with pytest.raises(NoteInvalid):
                open_checkpoint(changed.decode(errors="replace"), VERIFIER)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("", "not a signed note"),
        (NOTE[:-1], "not a signed note"),
        (NOTE.replace("\n\n", "\n"), "not a signed note"),
        (NOTE.replace("8", "8\r"), "not a signed note"),
        (sign_note(f"{ORIGIN}\n08\n{'A' * 43}=\n", ORIGIN, KEY), "not a checkpoint"),
        (sign_note(f"{ORIGIN}\n8\nAAAA\n", ORIGIN, KEY), "not a checkpoint"),
        (NOTE + "nobody\n", "a signature line can't be read"),
        (
            sign_checkpoint(Checkpoint("other.example/log", 8, CHECKPOINT.root), KEY),
            "of another log: other.example/log",
        ),
        (sign_checkpoint(CHECKPOINT, bytes(32)), r"not signed by perks.example/log\+\w{8} but by perks.example/log\+"),
        (NOTE.replace("\n8\n", "\n9\n"), "is not of this text"),
    ],
)
def test_a_note_that_can_not_be_trusted_says_why(note: str, message: str) -> None:
    with pytest.raises(NoteInvalid, match=message):
        open_checkpoint(note, VERIFIER)


@pytest.mark.parametrize("text", ["", "perks.example/log", f"a{VERIFIER}", str(VERIFIER)[:-4], "a b+00000000+AAAA"])
def test_a_verifier_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid, match="not a verifier key"):
        Verifier.parse(text)


def test_a_log_is_named_after_the_address_of_its_service() -> None:
    assert origin_of("https://perks.example") == ORIGIN
    assert origin_of("http://127.0.0.1:8000/") == "127.0.0.1:8000/log"
    assert origin_of("https://club.example/perks") == "club.example/perks/log"
    for impossible in ("", "https://", "https://a b", "https://a+b"):
        with pytest.raises(BadInput, match="can't name a log"):
            origin_of(impossible)
