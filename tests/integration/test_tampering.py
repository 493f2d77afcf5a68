"""Tampering shows: whatever is done to a small log's files is caught, and by the tool that is named for it."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.auditing.consistency import compare
from gateway.auditing.files import Unsound, open_export
from gateway.auditing.fsck import check_export
from gateway.auditing.mirror import mirror_log
from gateway.auditing.sources import Folder
from partners.notes import COSIGNATURE, NoteInvalid, Verifier, cosignature_line, note_text, verifier_of
from tests.exported import Log, entry, small_log

SIZE = 40
WITNESS = bytes(range(32))
LOG = small_log(SIZE)
ANOTHER = Log([entry(500 + number) for number in range(SIZE)])
"""A log of the same size that the same key has signed."""


@dataclass(frozen=True)
class Files:
    """One export and how it is looked at again after a change."""

    folder: Path
    tiled: bool

    @property
    def path(self) -> Path:
        return self.folder if self.tiled else self.folder / "log.jsonl"

    @property
    def note(self) -> Path:
        return self.folder / ("checkpoint" if self.tiled else "log.jsonl.checkpoint")

    @property
    def contents(self) -> list[Path]:
        """All files of it that hold the log; the list of keys is for whoever has no other."""
        return sorted(one for one in self.folder.rglob("*") if one.is_file() and one.name != "keys")

    def write(self, log: Log) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        log.as_tiles(self.folder) if self.tiled else log.as_lines(self.folder)

    def fsck(self, *verifiers: Verifier) -> str:
        return check_export(open_export(self.path), verifiers or [LOG.verifier]).fault or ""


@pytest.fixture(params=["lines", "tiles"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    found = Files(tmp_path / "export", request.param == "tiles")
    found.write(LOG)
    return found


def spoilt(raw: bytes, dice: random.Random) -> Iterator[bytes]:
    """The bytes with one bit flipped in each, and cut off at each."""
    for at in range(len(raw)):
        yield raw[:at] + bytes([raw[at] ^ 1 << dice.randrange(8)]) + raw[at + 1 :]
        yield raw[:at]


SAMPLE = 300


def test_bytes_that_are_flipped_or_cut_off_are_noticed(files: Files) -> None:
    """Some of each file; the long run takes all of them."""
    dice = random.Random(5)
    for file in files.contents:
        whole = file.read_bytes()
        for changed in dice.sample([*spoilt(whole, dice)], SAMPLE):
            file.write_bytes(changed)
            assert files.fsck(), (file.name, changed)
        file.write_bytes(whole)
    assert files.fsck() == ""


@pytest.mark.long
def test_every_bit_and_every_length_of_every_file_counts(files: Files) -> None:
    for file in files.contents:
        whole = file.read_bytes()
        for at in range(len(whole)):
            for changed in (
                whole[:at],
                *(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for bit in range(8)),
            ):
                file.write_bytes(changed)
                assert files.fsck(), (file.name, at)
        file.write_bytes(whole)
    assert files.fsck() == ""


def moved(leaves: list[bytes]) -> Iterator[list[bytes]]:
    """The entries with each one dropped, doubled, swapped with the next, moved to either end; and in other orders."""
    for at in range(len(leaves)):
        rest = leaves[:at] + leaves[at + 1 :]
        yield rest
        yield [*leaves[: at + 1], *leaves[at:]]
        yield [*leaves[:at], leaves[(at + 1) % len(leaves)], *leaves[at + 1 :]]
        if at:
            yield [leaves[at], *rest]
        if at < len(leaves) - 1:
            yield [*rest, leaves[at]]
            yield [*leaves[:at], leaves[at + 1], leaves[at], *leaves[at + 2 :]]
    yield leaves[::-1]
    yield [*leaves[len(leaves) // 2 :], *leaves[: len(leaves) // 2]]
    yield []


def test_entries_that_are_dropped_doubled_swapped_or_moved_are_noticed(files: Files) -> None:
    """The checkpoint stays: who changes rows has no key. In tiles all hashes are made to fit what was changed."""
    note = files.note.read_bytes()
    for leaves in moved(list(LOG.leaves)):
        if leaves == list(LOG.leaves):
            continue
        files.write(replace(LOG, leaves=leaves))
        for tile in files.folder.glob("tile/**/000.p/*"):
            tile.rename(tile.with_name(str(SIZE)))
        files.note.write_bytes(note)
        assert files.fsck(), leaves


def test_a_file_that_is_missing_is_noticed(files: Files) -> None:
    for file in files.contents:
        hidden = file.rename(files.folder / "hidden")
        if file in (files.note, files.folder / "log.jsonl"):
            with pytest.raises(FileNotFoundError, match=file.name):
                files.fsck()
        else:
            assert files.fsck() == f"export: {file.relative_to(files.folder)} is missing"
        hidden.rename(file)


def test_two_exports_that_were_mixed_are_noticed(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path / "other", files.tiled)
    other.write(ANOTHER)
    for file in files.contents:
        whole = file.read_bytes()
        file.write_bytes((other.folder / file.relative_to(files.folder)).read_bytes())
        assert files.fsck(), file
        file.write_bytes(whole)
    assert files.fsck() == ""


# What reliability says of each attack: who catches it, and with which words. The attacker has the database, and the
# log's key where the checkpoint was signed again.
Attack = Callable[[], Log]
EDITED = [*LOG.leaves[:7], entry(7, outcome="REFUSED"), *LOG.leaves[8:]]
FSCK, CONSISTENCY, WITNESSED, NOTHING = "fsck", "consistency", "witness", "nothing"
TABLE: list[tuple[str, list[bytes], bool, str, str]] = [
    # the attack, the entries it leaves, whether they are signed again, who catches it, what that says
    ("edit a row", EDITED, False, FSCK, "a leaf was changed or moved|one of them was changed"),
    ("delete a row", [*LOG.leaves[:7], *LOG.leaves[8:]], False, FSCK, "checkpoint is of 40|entry 7|missing|cut off"),
    ("edit and sign again with the stolen key", EDITED, True, CONSISTENCY, "forked: its first 30 entries"),
    ("delete and sign again", [*LOG.leaves[:7], *LOG.leaves[8:]], True, CONSISTENCY, "forked: its first 30 entries"),
    ("truncate and sign again", list(LOG.leaves[:20]), True, CONSISTENCY, "rolled back: it has 20 entries, and had 30"),
    ("restore an older backup", list(LOG.leaves[:29]), True, CONSISTENCY, "rolled back: it has 29 entries, and had 30"),
    ("rewrite what no witness has seen", [*LOG.leaves[:30], *ANOTHER.leaves[:10]], True, NOTHING, ""),
]


@pytest.mark.parametrize(("attack", "leaves", "signed", "catcher", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_each_attack_is_caught_by_the_tool_that_is_named_for_it(
    files: Files, tmp_path: Path, attack: str, leaves: list[bytes], signed: bool, catcher: str, words: str
) -> None:
    """Somebody saved the checkpoint of 30 entries, which a witness has cosigned; the log went on to 40."""
    saved = tmp_path / "saved"
    before = LOG.first(30)
    saved.write_text(before.note + cosignature_line(note_text(before.note), "witness.example", WITNESS, 1_800_000_000))
    witness = verifier_of("witness.example", WITNESS, COSIGNATURE)
    note = files.note.read_bytes()
    files.write(replace(LOG, leaves=leaves))
    if not signed:
        files.note.write_bytes(note)
        for tile in files.folder.glob("tile/**/000.p/*"):
            tile.rename(tile.with_name(str(SIZE)))

    assert bool(files.fsck()) is (catcher == FSCK)
    found = compare(saved, files.path, [LOG.verifier], [witness]).fault or ""
    assert bool(found) is (catcher != NOTHING), attack
    assert any(one in found for one in words.split("|")), found


def test_what_is_newer_than_the_last_witnessed_checkpoint_can_be_rewritten_unseen(tmp_path: Path) -> None:
    """Nothing in the files can tell: so witness often. A mirror that saw more catches it."""
    rewritten = replace(LOG, leaves=[*LOG.leaves[:30], *ANOTHER.leaves[:10]])
    saved = tmp_path / "saved"
    saved.write_text(LOG.first(30).note)
    path = rewritten.as_lines(tmp_path / "rewritten")
    assert check_export(open_export(path), [LOG.verifier]).sound
    assert compare(saved, path, [LOG.verifier]).fault is None

    saved.write_text(LOG.first(31).note)
    assert "forked: its first 31 entries" in (compare(saved, path, [LOG.verifier]).fault or "")


@pytest.mark.parametrize(("size", "words"), [(29, "rolled back"), (30, "forked"), (40, "forked")])
def test_a_mirror_refuses_each_past_but_its_own_and_stays_as_it_is(tmp_path: Path, size: int, words: str) -> None:
    mirror = tmp_path / "mirror"
    mirror_log(Folder(LOG.first(30).as_tiles(tmp_path / "at 30")), mirror, [LOG.verifier])
    before = {file: file.read_bytes() for file in mirror.rglob("*") if file.is_file()}
    other = replace(LOG, leaves=[*EDITED[:size]])
    with pytest.raises(Unsound, match=words):
        mirror_log(Folder(other.as_tiles(tmp_path / "other")), mirror, [])
    after = {file: file.read_bytes() for file in mirror.rglob("*") if file.is_file()}
    [evidence] = after.keys() - before.keys()
    assert after[evidence].decode() == other.note
    assert {file: after[file] for file in before} == before


def test_a_key_that_is_not_the_logs_opens_nothing(files: Files) -> None:
    stranger = verifier_of(LOG.origin, bytes(32))
    assert f"not signed by {stranger.label} but by {LOG.verifier.label}" in files.fsck(stranger)
    elsewhere = verifier_of("other.example/log", bytes(32))
    assert "a checkpoint of another log: perks.example/log, and the key is of other.example/log" in files.fsck(
        elsewhere
    )
    with pytest.raises(NoteInvalid):
        Verifier.parse(str(stranger)[:-4])
