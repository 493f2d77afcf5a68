"""The auditor's commands on files alone: what they find, how they say it, and the code they end with."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.auditing.files import Unsound, open_export
from gateway.auditing.fsck import check_export
from gateway.auditing.tree import Tree
from gateway.auditing.verify import verify_log
from gateway.cli import run
from gateway.commands.audit import app as audit_on_service
from gateway.commands.auditing import Audit
from partners import tlog_proofs
from partners.merkle import CompactRange, root_of
from partners.notes import COSIGNATURE, cosignature_line, note_text, verifier_of
from tests.commands import Ended
from tests.exported import Log, continuing, entry, small_log

LOG = small_log()
KEY = str(LOG.verifier)


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Auditing":
    """The command of an auditor, who has no database, no secret and no service."""
    for name in ("DATABASE_URL", "REDIS_URL", "PERKS_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PERKS_DATA_FOLDER", str(tmp_path / "nothing"))
    return Auditing(capsys)


class Auditing:
    """`perks audit`, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ended:
        self._capsys.readouterr()
        code = run(["audit", *map(str, arguments)])
        return Ended(code, *self._capsys.readouterr())


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 600])
def test_both_layouts_of_one_log_are_sound_and_read_alike(tmp_path: Path, size: int) -> None:
    log = small_log(size)
    lines, tiles = log.as_lines(tmp_path / "lines"), log.as_tiles(tmp_path / "tiles")
    for path in (lines, lines.parent, tiles):
        export = open_export(path)
        assert list(export.leaves()) == list(enumerate(log.leaves))
        report = check_export(export, [log.verifier])
        assert (report.fault, report.checkpoint) == (None, log.checkpoint)
    assert check_export(open_export(tiles), [log.verifier], hashes_only=True).sound


def test_the_tree_knows_its_root_at_every_size_and_each_tile_in_its_place() -> None:
    hashes = small_log(600).hashes
    tree, taken = Tree(lambda tile, some: taken.append((tile.level, tile.index, len(some)))), []  # type: ignore[var-annotated]
    for size, one in enumerate(hashes, 1):
        tree.append([one])
        assert tree.root() == root_of(hashes[:size])
    assert taken == [(0, 0, 256), (0, 1, 256)]
    assert [(tile.level, tile.index, len(some)) for tile, some in tree.partial_tiles()] == [(0, 2, 88), (1, 0, 2)]
    at_once = Tree()
    at_once.append(hashes)
    assert at_once.root() == CompactRange().append(hashes).root()


def test_fsck_says_that_an_export_is_sound_and_whose_it_is(audit: Auditing, tmp_path: Path) -> None:
    lines, tiles = LOG.as_lines(tmp_path / "lines"), LOG.as_tiles(tmp_path / "tiles")
    for export in (lines, tiles):
        done = audit("fsck", export, "--key", KEY)
        assert (done.code, done.out) == (0, "sound: 40 entries, all and unaltered, signed by perks.example/log\n")
    assert "its signature was not checked, give --key" in audit("fsck", lines).out
    assert audit("fsck", lines, "--quiet").out == ""
    told = audit("fsck", tiles, "--key", KEY, "--json").json
    assert (told["sound"], told["entries"], told["root"]) == (True, 40, LOG.checkpoint.root.hex())


def test_fsck_names_the_first_fault_and_ends_with_1(audit: Auditing, tmp_path: Path) -> None:
    tiles = LOG.as_tiles(tmp_path / "tiles")
    low = tiles / "tile" / "0" / "000.p" / "40"
    raw = low.read_bytes()
    low.write_bytes(raw[:160] + bytes(32) + raw[192:])
    done = audit("fsck", tiles, "--key", KEY)
    assert (done.code, done.out) == (1, "")
    assert done.faults == [
        "perks: not sound: tiles: tile/0/000.p/40 has another hash of entry 5 than is derived: one of them was changed"
    ]
    assert audit("fsck", tiles, "--key", KEY, "--quiet").faults == done.faults
    assert audit("fsck", tiles, "--json").json["fault"].startswith("tiles: tile/0/000.p/40 has another hash of entry 5")
    low.write_bytes(raw[:-1])
    assert "tile/0/000.p/40 is 1279 bytes long, 40 hashes are 1280" in audit("fsck", tiles).err
    bundle = tiles / "tile" / "entries" / "000.p" / "40"
    bundle.write_bytes(bundle.read_bytes() + b"\0")
    assert "tile/entries/000.p/40 goes on after its 40 entries" in audit("fsck", tiles).err


@pytest.mark.parametrize(
    "leaf",
    [
        b"{}",
        b'{"id":"x"}',
        b"[]",
        entry(3) + b" ",
        entry(3).replace(b",", b", ", 1),
        entry(3).replace(b'{"action"', b'{"z":1,"action"'),
        entry(3).replace(b"DONE", b"MAYBE"),
        entry(3).replace(b"0000-0000", b"00000000", 1),
        entry(3).replace(b'"gold"', b'"g\\u006fld"'),
        entry(3).replace(b'"v":2', b'"v":2,"v":2'),
    ],
)
def test_what_is_not_an_entry_in_canonical_json_is_no_leaf_even_when_it_was_signed(tmp_path: Path, leaf: bytes) -> None:
    log = Log([*LOG.leaves[:3], leaf, *LOG.leaves[4:]])
    words = "is not a leaf: not an entry in canonical JSON (RFC 8785)"
    assert (
        verify_log(log.as_lines(tmp_path), tmp_path / "log.jsonl.checkpoint", KEY).fault == f"log.jsonl: line 4 {words}"
    )
    tiles = log.as_tiles(tmp_path / "tiles")
    assert check_export(open_export(tiles), [log.verifier]).fault == f"tiles: entry 3 {words}"


def test_a_mirror_of_hashes_is_checked_only_when_that_is_said(audit: Auditing, tmp_path: Path) -> None:
    tiles = LOG.as_tiles(tmp_path / "tiles", entries=False)
    assert "a mirror of hashes alone is checked with --hashes-only" in audit("fsck", tiles).err
    done = audit("fsck", tiles, "--hashes-only", "--key", KEY)
    assert (done.code, done.out) == (
        0,
        "sound: 40 hashes of entries, which are not here, signed by perks.example/log\n",
    )
    assert audit("fsck", LOG.as_lines(tmp_path), "--hashes-only").code == 1


def test_what_can_not_be_read_ends_with_3_and_wrong_use_with_2(audit: Auditing, tmp_path: Path) -> None:
    file = LOG.as_lines(tmp_path)
    saved = tmp_path / "saved"
    saved.write_text(LOG.note)
    books = tmp_path / "list.csv"
    books.write_text("id,units\n")
    for line in (
        ["fsck", tmp_path / "none"],
        ["verify", tmp_path / "none", "--key", KEY],
        ["consistency", tmp_path / "none", file],
        ["consistency", saved, tmp_path / "none"],
        ["mirror", tmp_path / "none", tmp_path / "mirror"],
        ["reconcile", file, tmp_path / "none.csv", "--partner", "partner_" + 32 * "1"],
        ["reconcile", tmp_path / "none", books, "--partner", "partner_" + 32 * "1"],
    ):
        done = audit(*line)
        assert (done.code, len(done.faults)) == (3, 1), line
        assert "No such file or" in done.err or "No such folder" in done.err
    for line in (
        ["fsck"],
        ["fsck", file, "--key", "nonsense"],
        ["verify"],
        ["verify", file, "--proof", saved],
        ["verify", "--proof", saved],
        ["consistency", saved, file, "--witness", "nonsense"],
        ["consistency", saved, file, "--quorum", "1"],
        ["mirror", "ftp://perks.example/log", tmp_path / "mirror"],
        ["reconcile", file, saved, "--partner", "velo"],
    ):
        assert audit(*line).code == 2, line


def test_a_proof_of_one_entry_is_verified_from_its_file(audit: Auditing, tmp_path: Path) -> None:
    proof, leaf = tmp_path / "a.tlog-proof", LOG.leaves[0]
    pair = Log(LOG.leaves[:2])
    proof.write_text(tlog_proofs.render(0, [pair.hashes[1]], pair.note))
    done = audit("verify", "--proof", proof, "--leaf", leaf.decode(), "--key", KEY)
    assert (done.code, done.out) == (0, "sound: 2 entries, this one among them, signed by perks.example/log\n")
    (tmp_path / "entry.json").write_bytes(leaf + b"\n")
    assert audit("verify", "--proof", proof, "--entry", tmp_path / "entry.json", "--key", KEY).code == 0
    assert audit("verify", "--proof", proof, "--leaf-hash", pair.hashes[0].hex(), "--key", KEY).code == 0
    assert audit("verify", "--proof", proof, "--leaf-hash", pair.hashes[1].hex(), "--key", KEY).code == 1
    assert audit("verify", "--proof", proof, "--leaf-hash", "12", "--key", KEY).code == 2
    other = audit("verify", "--proof", proof, "--leaf", LOG.leaves[1].decode(), "--key", KEY)
    assert (other.code, len(other.faults)) == (1, 1)
    assert "does not lead from this entry at index 0 to the signed root" in other.err
    stranger = verifier_of(LOG.origin, bytes(32))
    assert (
        f"not signed by {stranger.label}"
        in audit("verify", "--proof", proof, "--leaf", "{}", "--key", str(stranger)).err
    )
    proof.write_text("nonsense")
    assert "not a proof" in audit("verify", "--proof", proof, "--leaf", "{}", "--key", KEY).err


def test_several_keys_are_those_of_a_log_that_changes_them(audit: Auditing, tmp_path: Path) -> None:
    file = LOG.as_lines(tmp_path)
    other = verifier_of(LOG.origin, bytes(32))
    assert audit("verify", file, "--key", str(other)).code == 1
    assert audit("verify", file, "--key", str(other), "--key", KEY).code == 0
    assert audit("verify", file, "--key", f"{other}\n{KEY}\n").code == 0


def test_a_log_begins_with_what_it_was(audit: Auditing, tmp_path: Path) -> None:
    export = LOG.as_tiles(tmp_path / "tiles")
    for size in (0, 1, 17, 39, 40):
        saved = tmp_path / "saved"
        saved.write_text(LOG.first(size).note)
        done = audit("consistency", saved, export, "--key", KEY)
        assert (done.code, done.out) == (
            0,
            f"sound: perks.example/log of 40 entries begins with {size} of perks.example/log\n",
        )
    older = LOG.first(9).as_lines(tmp_path / "older")
    assert audit("consistency", older, export, "--key", KEY, "--json").json == {
        "sound": True,
        "older": 9,
        "newer": 40,
        "fault": None,
    }
    hashes = LOG.as_tiles(tmp_path / "hashes", entries=False)
    assert audit("consistency", older, hashes, "--key", KEY, "--hashes-only").code == 0


def test_another_past_is_told_from_a_shorter_one_and_from_another_log(audit: Auditing, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_text(LOG.first(30).note)
    forged = replace(LOG, leaves=[entry(77), *LOG.leaves[1:]]).as_lines(tmp_path / "forged")
    done = audit("consistency", saved, forged, "--key", KEY)
    assert (done.code, len(done.faults)) == (1, 1)
    assert "log.jsonl: forked: its first 30 entries are not those that were signed before" in done.err
    shorter = LOG.first(20).as_lines(tmp_path / "shorter")
    assert "rolled back: it has 20 entries, and had 30 once" in audit("consistency", saved, shorter).err
    stranger = small_log(origin="other.example/log").as_lines(tmp_path / "stranger")
    assert "another log: other.example/log, which does not continue perks.example/log" in (
        audit("consistency", saved, stranger).err
    )
    saved.write_text("nonsense")
    assert "saved: not a signed note" in audit("consistency", saved, shorter).err


def test_witnesses_that_are_asked_for_must_have_cosigned_the_older_checkpoint(audit: Auditing, tmp_path: Path) -> None:
    export, saved, before = LOG.as_lines(tmp_path), tmp_path / "saved", LOG.first(30).note
    seeds = [bytes([number]) * 32 for number in range(3)]
    witnesses = [verifier_of(f"w{number}.example", seed, COSIGNATURE) for number, seed in enumerate(seeds)]
    lines = [
        cosignature_line(note_text(before), one.name, seed, 1_800_000_000)
        for one, seed in zip(witnesses, seeds, strict=True)
    ]
    saved.write_text(before + lines[0] + lines[2])
    asked = [word for one in witnesses for word in ("--witness", str(one))]
    assert audit("consistency", saved, export, *asked, "--quorum", "2").code == 0
    done = audit("consistency", saved, export, *asked)
    assert done.code == 1
    assert f"cosigned by 2 of the 3 witnesses that are wanted; not by {witnesses[1].label}" in done.err
    saved.write_text(before + lines[0] + lines[2].replace("w2.example", "w1.example"))
    assert "not by w1.example" in audit("consistency", saved, export, *asked, "--quorum", "2").err
    other = cosignature_line("another text\n", "w1.example", seeds[1], 1_800_000_000)
    saved.write_text(before + lines[0] + other)
    assert "the signature of w1.example" in audit("consistency", saved, export, *asked, "--quorum", "1").err


def test_a_log_that_goes_on_from_another_says_whether_all_of_that_is_there(audit: Auditing, tmp_path: Path) -> None:
    second = Log([continuing(LOG.note, 900), *LOG.leaves, entry(41)], "perks.example/log/2")
    file = second.as_lines(tmp_path)
    told = audit("fsck", file, "--key", str(second.verifier)).out.splitlines()
    assert told[1] == "continues perks.example/log with its 40 entries, all of which are here"
    third = Log([continuing(second.note, 901), *second.leaves[:-2]], "perks.example/log/3")
    tiles = third.as_tiles(tmp_path / "third")
    told = audit("fsck", tiles).out.splitlines()
    assert told[1:] == [
        "continues perks.example/log/2 with its 42 entries, NOT all of which are here: some were lost or changed",
        "continues perks.example/log with its 40 entries, NOT all of which are here: some were lost or changed",
    ]
    assert audit("fsck", tiles, "--json").json["continues"] == [
        {"origin": "perks.example/log/2", "entries": 42, "complete": False},
        {"origin": "perks.example/log", "entries": 40, "complete": False},
    ]
    keys = ["--key", KEY, "--key", str(second.verifier), "--key", str(third.verifier)]
    saved = tmp_path / "saved"
    saved.write_text(LOG.first(38).note)
    assert audit("consistency", saved, tiles, *keys).code == 0
    saved.write_text(LOG.note)
    assert "entries of perks.example/log were lost or changed" in audit("consistency", saved, tiles, *keys).err
    saved.write_text(small_log(41).note)
    assert "goes on from 40 entries of perks.example/log, which had 41 once" in (
        audit("consistency", saved, file, *keys).err
    )
    broken = Log([continuing("nonsense", 900), *LOG.leaves], "perks.example/log/2")
    assert "line 1 continues no log: not a signed note" in audit("fsck", broken.as_lines(tmp_path / "broken")).err


def test_a_file_of_one_endless_line_is_refused_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    with file.open("wb") as out:
        out.seek(300_000_000)
        out.write(b"x")
    (tmp_path / "log.jsonl.checkpoint").write_text(LOG.note)
    with pytest.raises(Unsound, match="line 1 is too long"):
        next(open_export(file).leaves())


def test_commands_on_the_service_are_found_among_those_on_files() -> None:
    here = {place for place in Audit.places.values() if place.startswith("gateway.commands.audit:")}
    there = {
        f"gateway.commands.audit:{one.callback.__name__}"
        for one in audit_on_service.registered_commands
        if one.callback
    }
    assert here == there


def test_fsck_starts_without_the_services_libraries() -> None:
    script = (
        "import sys; sys.argv = ['perks', 'audit', 'fsck', '--help']\n"
        "from gateway.cli import main\n"
        "try: main()\n"
        "finally: sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "Derive an export again" in re.sub(r"\s+", " ", done.stdout)
    assert (
        loaded & {"sqlalchemy", "asyncpg", "redis", "strawberry", "starlette", "uvicorn", "httpx", "structlog"} == set()
    )
    assert "gateway.app" not in done.stderr.split()
