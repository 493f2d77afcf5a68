"""Exports, sources and lists made to break the auditor's tool: what it says of them, and how it ends."""

import gzip
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from gateway.auditing.files import open_export
from gateway.auditing.fsck import check_export, fields_of
from gateway.cli import run
from partners.keys import derive_keys
from partners.notes import sign_note
from tests.commands import Ended
from tests.exported import PARTNER, SEED, Log, entry, redemption, small_log

LOG = small_log()
KEY = str(LOG.verifier)
UNSOUND, WRONG_USE, UNREADABLE = 1, 2, 3
Audit = Callable[..., Ended]


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Audit:
    """`perks audit`, in this process, where a traceback is an exception."""
    for name in ("DATABASE_URL", "REDIS_URL", "PERKS_SECRET"):
        monkeypatch.delenv(name, raising=False)

    def ended(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = run(["audit", *map(str, arguments)])
        return Ended(code, *capsys.readouterr())

    return ended


def nested(depth: int) -> bytes:
    """An entry in canonical JSON that is deeper than anybody can read."""
    return entry(3).replace(b'"reasons":[]', b'"reasons":' + b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    "leaf",
    [
        nested(200_000 // 8),
        nested(1_000),
        nested(300),
        entry(3).replace(b'"units":1', b'"units":1e2'),
        entry(3).replace(b'"units":1', b'"units":1.0'),
        entry(3).replace(b'"units":1', b'"units":1.5e300'),
        entry(3).replace(b'"units":1', b'"units":-0'),
        entry(3).replace(b'"units":1', b'"units":18446744073709551616'),
        entry(3).replace(b'"tier":"gold"', b'"tier":"\\ud800"'),
        entry(3).replace(b'"tier":"gold"', b'"tier":"\\u00e9"'),
        entry(3).replace(b'"tier":"gold"', b'"tier":"\xc3"'),
        entry(3).replace(b'"tier":"gold"', b'"tier":"a\\/b"'),
        entry(3).replace(b'"outcome":"DONE"', b'"outcome":["DONE"]'),
        entry(3).replace(b'"outcome":"DONE"', b'"outcome":{}'),
        b"\xef\xbb\xbf" + entry(3),
        entry(3) + b"\r",
        b"",
        b"null",
        b'"id"',
    ],
    ids=range(19),
)
def test_json_that_is_made_to_confuse_is_no_leaf(audit: Audit, tmp_path: Path, leaf: bytes) -> None:
    """However it was signed: an auditor's reader may understand it otherwise than ours."""
    log = Log([entry(0), leaf, entry(2)])
    for export in (log.as_lines(tmp_path / "lines"), log.as_tiles(tmp_path / "tiles")):
        done = audit("fsck", export, "--key", KEY)
        assert (done.code, len(done.faults)) == (UNSOUND, 1)
        assert "not a leaf" in done.err


def test_letters_that_look_alike_are_other_bytes(audit: Audit, tmp_path: Path) -> None:
    composed = entry(1, tier=unicodedata.normalize("NFC", "Zoé"))
    decomposed = entry(1, tier=unicodedata.normalize("NFD", "Zoé"))
    assert fields_of(composed) is not None
    assert fields_of(decomposed) is not None
    lines = Log([entry(0), composed]).as_lines(tmp_path)
    assert audit("fsck", lines, "--key", KEY).code == 0
    lines.write_bytes(lines.read_bytes().replace(composed, decomposed))
    assert audit("fsck", lines, "--key", KEY).code == UNSOUND


@pytest.mark.parametrize(("more", "code"), [(0, 0), (1, UNSOUND)])
def test_an_entry_is_of_65535_bytes_at_most(audit: Audit, tmp_path: Path, more: int, code: int) -> None:
    leaf = entry(1, tier="x" * (65_535 - len(entry(1, tier="")) + more))
    assert len(leaf) == 65_535 + more
    log = Log([entry(0), leaf, entry(2)])
    done = audit("fsck", log.as_lines(tmp_path), "--key", KEY)
    assert (done.code, "line 2 is too long" in done.err) == (code, code == UNSOUND)
    if not more:
        assert audit("fsck", log.as_tiles(tmp_path / "tiles"), "--key", KEY).code == 0


def test_two_entries_that_change_places_in_the_tiles_of_entries_alone_are_noticed(audit: Audit, tmp_path: Path) -> None:
    tiles = LOG.as_tiles(tmp_path)
    swapped = [*LOG.leaves[:10], LOG.leaves[11], LOG.leaves[10], *LOG.leaves[12:]]
    bundle = "tile/entries/000.p/40"
    (tiles / bundle).write_bytes(Log(swapped).tiles()[bundle])
    done = audit("fsck", tiles, "--key", KEY)
    assert done.code == UNSOUND
    assert "another hash of entry 10 than is derived" in done.err


def test_what_older_sizes_left_behind_and_files_of_others_change_nothing(audit: Audit, tmp_path: Path) -> None:
    log = small_log(600)
    for size in (3, 256, 300):
        log.first(size).as_tiles(tmp_path)
    log.as_tiles(tmp_path)
    (tmp_path / "tile" / "0" / "999").write_bytes(b"of nobody")
    (tmp_path / "README").write_text("a mirror")
    assert audit("fsck", tmp_path, "--key", KEY).code == 0
    moved = tmp_path / "elsewhere"
    (tmp_path / "tile" / "0" / "000").rename(moved)
    (tmp_path / "tile" / "0" / "000").symlink_to(moved)
    assert audit("fsck", tmp_path, "--key", KEY).code == 0
    moved.unlink()
    assert audit("fsck", tmp_path, "--key", KEY).code == UNSOUND
    moved.symlink_to(moved)
    assert audit("fsck", tmp_path, "--key", KEY).code == UNREADABLE


@pytest.mark.parametrize("where", ["tile/0/000.p/40", "tile/entries/000.p/40"])
def test_what_is_no_file_is_not_waited_for(audit: Audit, tmp_path: Path, where: str) -> None:
    """Out of an archive that somebody sent, a pipe would be read for ever."""
    tiles = LOG.as_tiles(tmp_path / "tiles")
    (tiles / where).unlink()
    os.mkfifo(tiles / where)
    ends: list[Ended] = []
    reading = threading.Thread(target=lambda: ends.append(audit("fsck", tiles, "--key", KEY)), daemon=True)
    reading.start()
    reading.join(5)
    if reading.is_alive():
        os.close(os.open(tiles / where, os.O_RDWR | os.O_NONBLOCK))  # lets the thread go
        pytest.fail("it waits for a pipe")
    assert ends[0].code == UNREADABLE
    assert where.rpartition("/")[2] in ends[0].err


def test_lines_that_extend_a_checkpoint_are_signed_with_it(audit: Audit, tmp_path: Path) -> None:
    lines = LOG.as_lines(tmp_path)
    beside = tmp_path / "log.jsonl.checkpoint"
    beside.write_text(sign_note(f"{LOG.checkpoint}more of it\n", LOG.origin, SEED))
    assert audit("fsck", lines, "--key", KEY).code == 0
    beside.write_text(beside.read_text().replace("more of it", "less of it"))
    assert audit("fsck", lines, "--key", KEY).code == UNSOUND


def test_a_checkpoint_of_more_than_can_be_ends_at_once(audit: Audit, tmp_path: Path) -> None:
    tiles, lines = LOG.as_tiles(tmp_path / "tiles"), LOG.as_lines(tmp_path / "lines")
    text = str(LOG.checkpoint).replace("\n40\n", f"\n{2**63 - 1}\n")
    for note in (tiles / "checkpoint", tmp_path / "lines" / "log.jsonl.checkpoint"):
        note.write_text(sign_note(text, LOG.origin, SEED))
    assert [audit("fsck", one, "--key", KEY).code for one in (tiles, lines)] == [UNSOUND, UNSOUND]
    assert audit("fsck", tiles, "--key", KEY, "--hashes-only").code == UNSOUND
    assert audit("mirror", tiles, tmp_path / "mirror", "--key", KEY).code == UNSOUND


@pytest.mark.parametrize("options", [("--proof", "{}", "--leaf-hash", "00" * 32), ("{}",)])
def test_a_file_of_any_bytes_is_not_sound_and_no_crash(audit: Audit, tmp_path: Path, options: tuple[str, ...]) -> None:
    for raw in (b"\xff\xfe\0", b"", b"\n\n\n", b"c2sp.org/tlog-proof@v1\nindex 0\n\n", os.urandom(5_000)):
        file = tmp_path / "file"
        file.write_bytes(raw)
        (tmp_path / "file.checkpoint").write_bytes(raw)
        done = audit("verify", *(one.format(file) for one in options), "--key", KEY)
        assert (done.code, len(done.faults)) == (UNSOUND, 1)


def test_a_token_that_is_no_text_is_told(audit: Audit, tmp_path: Path) -> None:
    for raw in (b"\xff\xfe\0", "tökén\n".encode(), b"two\nlines"):
        (tmp_path / "token").write_bytes(raw)
        done = audit("mirror", "https://127.0.0.1:1/log/", tmp_path / "m", "--token-file", tmp_path / "token")
        assert done.code == WRONG_USE
        assert "--token-file" in done.err


@contextmanager
def answering(headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A server that answers everything alike; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/log/"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", b"not packed at all"), ("gzip", gzip.compress(bytes(50_000_000)))]
)
def test_a_source_that_packs_what_it_should_not_is_unreadable(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, body: bytes
) -> None:
    monkeypatch.setattr("gateway.auditing.sources.PAUSE_SECONDS", 0.0)
    with answering({"content-encoding": encoding}, body) as address:
        done = audit("mirror", address, tmp_path / "m", "--key", KEY)
    assert (done.code, len(done.faults)) == (UNREADABLE, 1)


LISTED = small_log(10)
ONE = f"redemption_{redemption(3).hex}"


@pytest.fixture
def reconcile(audit: Audit, tmp_path: Path) -> Callable[..., Ended]:
    """`perks audit reconcile` of a log of ten redemptions with a list."""
    export = LISTED.as_lines(tmp_path)

    def ended(raw: bytes, *options: str | Path) -> Ended:
        (tmp_path / "list.csv").write_bytes(raw)
        return audit("reconcile", export, tmp_path / "list.csv", "--partner", str(PARTNER), *options)

    return ended


@pytest.mark.parametrize(
    "options",
    [
        ("--encoding", "rot13"),
        ("--encoding", "hex"),
        ("--encoding", "zlib"),
        ("--encoding", "no such"),
        ("--encoding", "a\0b"),
        ("--tolerance", "inf"),
        ("--tolerance", "nan"),
        ("--tolerance", "1e300"),
        ("--separator", '"'),
        ("--separator", "\n"),
        ("--zone", "/etc/passwd"),
        ("--zone", "../../etc/localtime"),
        ("--zone", "Europe"),
        ("--zone", "a\0b"),
    ],
)
def test_options_that_can_not_be_are_wrong_use(reconcile: Callable[..., Ended], options: tuple[str, ...]) -> None:
    done = reconcile(f"redemption,at\n{ONE},2026-05-01T12:00:03Z\n".encode(), *options)
    assert (done.code, len(done.faults)) == (WRONG_USE, 1)


@pytest.mark.parametrize("moment", ["0001-01-01", "0001-01-01 00:00:00", "9999-12-31", "9999-12-31 23:59:59"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_the_first_and_the_last_day_of_the_calendar_are_no_crash(
    reconcile: Callable[..., Ended], moment: str, zone: str
) -> None:
    """What spreadsheets and databases write where they know no time."""
    done = reconcile(f"redemption,at\n{ONE},{moment}\n".encode(), "--zone", zone)
    assert done.code == UNSOUND
    assert done.err == ""
    assert "line 2: " in done.out


@pytest.mark.parametrize(
    "raw",
    [
        f'redemption,units\n"{ONE},1\n'.encode() + b"x,1\n" * 100_000,
        f"redemption,units\n{ONE},1\0\n".encode(),
        b"redemption" + b"," * 999_985 + b"\n",
        b"redemption,units\n" + b"," * 1_100_000,
        b"\xff\xfe\0\0" + f"redemption,units\n{ONE},1\n".encode("utf-32-le"),
        b"\r\n\r\n",
        b'"redemption\n',
        b'redemption,"units\n' + b"x" * 200_000,
    ],
    ids=range(8),
)
def test_a_file_that_is_no_list_is_told_in_a_line(reconcile: Callable[..., Ended], raw: bytes) -> None:
    done = reconcile(raw)
    assert done.code in (UNSOUND, WRONG_USE)
    assert "Traceback" not in done.err
    assert len(done.faults) <= 1
    assert len(done.out + done.err) < 1_000, "what is said is for people"


def test_line_ends_of_every_kind_and_none_at_the_end_are_line_ends(reconcile: Callable[..., Ended]) -> None:
    rows = [f"redemption_{redemption(number).hex},{1 + number % 3}" for number in range(10)]
    mixed = "redemption,units\r\n" + "".join(row + ("\n", "\r\n", "\r")[at % 3] for at, row in enumerate(rows)).rstrip()
    assert reconcile(mixed.encode()).code == 0


def test_differences_never_replace_the_list_or_the_log(reconcile: Callable[..., Ended], tmp_path: Path) -> None:
    text = f"redemption,units\n{ONE},9\n".encode()
    for name in ("list.csv", "log.jsonl", "log.jsonl.checkpoint"):
        before = (tmp_path / name).read_bytes() if name != "list.csv" else text
        done = reconcile(text, "--csv", tmp_path / name)
        assert (done.code, "--csv" in done.err) == (WRONG_USE, True)
        assert (tmp_path / name).read_bytes() == before


def test_a_report_never_replaces_what_it_is_of(audit: Audit, tmp_path: Path) -> None:
    LOG.as_lines(tmp_path)
    (tmp_path / "names.csv").write_text("id,name\n")
    for name in ("log.jsonl", "log.jsonl.checkpoint", "names.csv"):
        before, out = (tmp_path / name).read_bytes(), tmp_path / name
        done = audit("report", tmp_path, "--names", tmp_path / "names.csv", "--out", out, "--key", KEY)
        assert (done.code, "--out" in done.err) == (WRONG_USE, True)
        assert out.read_bytes() == before


@pytest.mark.parametrize(
    "leaf",
    [
        entry(3, action="redemption.reversed", subject=str(redemption(77))),
        entry(3, action="redemption.reversed", subject=None),
        entry(3, subject="nobody"),
        entry(3, at="yesterday"),
        entry(3, units="many"),
        orjson.dumps(
            {name: value for name, value in orjson.loads(entry(3)).items() if name != "tier"},
            option=orjson.OPT_SORT_KEYS,
        ),
    ],
)
def test_a_log_that_signed_what_no_entry_says_is_not_sound_for_books(audit: Audit, tmp_path: Path, leaf: bytes) -> None:
    export = Log([entry(0), leaf]).as_lines(tmp_path)
    (tmp_path / "list.csv").write_text(f"redemption,units\n{ONE},1\n")
    done = audit("reconcile", export, tmp_path / "list.csv", "--partner", str(PARTNER), "--key", KEY)
    assert (done.code, len(done.faults)) == (UNSOUND, 1)
    assert "not sound" in done.err


def test_a_log_of_which_nothing_is_left_is_told_from_an_empty_one(tmp_path: Path) -> None:
    lines = small_log(0).as_lines(tmp_path)
    assert check_export(open_export(lines), [LOG.verifier]).sound
    lines.write_bytes(b"\n")
    assert not check_export(open_export(lines), [LOG.verifier]).sound


@pytest.mark.parametrize("log_secret", [None, "the log's own secret, which few processes have"])
def test_an_operator_verifies_by_the_secret_that_signs_the_log(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_secret: str | None
) -> None:
    """The secret of all, or the log's own, under which a log may have begun or to which it has moved."""
    secret = "a secret of this installation, long enough"
    monkeypatch.setenv("PERKS_SECRET", secret)
    if log_secret is not None:
        monkeypatch.setenv("PERKS_LOG_SECRET", log_secret)
    for one in {None, log_secret}:
        seed = derive_keys(secret.encode(), None if one is None else one.encode()).log
        assert audit("verify", Log(LOG.leaves, seed=seed).as_lines(tmp_path)).code == 0
    assert audit("verify", LOG.as_lines(tmp_path)).code == UNSOUND


@pytest.mark.parametrize(
    "fields",
    [
        {"checkpoint": 5},
        {"checkpoint": None},
        {"checkpoint": []},
        {"checkpoint": "no note"},
        {"checkpoint": f"{LOG.origin}\n{2**63}\n{'A' * 43}=\n\n— x AAAAAAAA\n"},
        {},
    ],
)
def test_a_first_entry_that_goes_on_from_nothing_is_not_sound(
    audit: Audit, tmp_path: Path, fields: dict[str, object]
) -> None:
    older = LOG.first(5).as_lines(tmp_path / "older")
    log = Log([entry(99, action="log.continued", **fields), *LOG.leaves], origin="second.example/log")
    for export in (log.as_lines(tmp_path / "lines"), log.as_tiles(tmp_path / "tiles")):
        done = audit("fsck", export, "--key", str(log.verifier))
        assert (done.code, len(done.faults)) == (UNSOUND, 1)
        compared = audit("consistency", older, export, "--key", KEY, "--key", str(log.verifier))
        assert (compared.code, len(compared.faults)) == (UNSOUND, 1)
