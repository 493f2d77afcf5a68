"""A mirror and its sources, good and bad: it copies what is new, proves it, and goes on where it was."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.auditing import sources
from gateway.auditing.files import NOTE_BYTES_MAX, Unsound, open_export
from gateway.auditing.fsck import check_export
from gateway.auditing.mirror import Mirrored, alone, mirror_log
from gateway.auditing.signed_tree import SignedTree
from gateway.auditing.sources import Address, Folder, Source, Unreachable
from partners.errors import BadInput
from partners.merkle import root_of
from partners.notes import sign_checkpoint, verifier_of
from partners.tiles import Tile
from tests.exported import Log, entry, small_log

LOG = small_log(700)


class Counted:
    """A source that counts what is asked of it, and may break after some."""

    def __init__(self, source: Source, breaks_after: int = 10**9) -> None:
        self.asked: list[str] = []
        self._source, self._left = source, breaks_after

    def read(self, name: str, bytes_max: int) -> bytes | None:
        self.asked.append(name)
        self._left -= 1
        if self._left < 0:
            raise Unreachable(f"{name}: the line is dead")
        return self._source.read(name, bytes_max)

    def close(self) -> None:
        self._source.close()


def mirrored(log: Log, tmp_path: Path, **settings: bool) -> Mirrored:
    """A mirror of a log at its size."""
    source = Folder(log.as_tiles(tmp_path / f"source {len(log.leaves)}"))
    return mirror_log(source, tmp_path / "mirror", [log.verifier], **settings)


def sound(folder: Path, **settings: bool) -> bool:
    return check_export(open_export(folder), [LOG.verifier], **settings).sound


def test_a_mirror_grows_with_its_log_and_is_whole_at_each_size(tmp_path: Path) -> None:
    before = 0
    for size in (1, 40, 255, 256, 257, 511, 512, 513, 700):
        done = mirrored(LOG.first(size), tmp_path)
        assert (done.checkpoint.size, done.before, done.believed) == (size, before, ())
        assert sound(tmp_path / "mirror")
        before = size
    files = {
        str(one.relative_to(tmp_path / "mirror")) for one in (tmp_path / "mirror").rglob("tile/**/*") if one.is_file()
    }
    assert files == {name for name in LOG.tiles() if name.startswith("tile")}
    assert len([*(tmp_path / "mirror" / "checkpoints").iterdir()]) == 9


def test_only_what_is_new_is_asked_for(tmp_path: Path) -> None:
    mirrored(LOG.first(600), tmp_path)
    source = Counted(Folder(LOG.as_tiles(tmp_path / "grown")))
    assert mirror_log(source, tmp_path / "mirror", []).files == 2
    assert sorted(set(source.asked)) == ["checkpoint", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/002.p/188"]
    source.asked.clear()
    assert mirror_log(source, tmp_path / "mirror", []).files == 0
    assert len(source.asked) == 3


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = Folder(LOG.as_tiles(tmp_path / "source"))
    mirrored(LOG.first(100), tmp_path)
    asked = 0
    for breaks_after in range(1, 40):
        source = Counted(folder, breaks_after)
        try:
            mirror_log(source, tmp_path / "mirror", [])
        except Unreachable:
            assert sound(tmp_path / "mirror")  # what it had before is still there, and whole
            asked += len(source.asked)
        else:
            break
    assert breaks_after < 12
    assert sound(tmp_path / "mirror")
    assert not [*(tmp_path / "mirror").rglob(".*.part")]


def test_a_source_that_forks_after_an_interrupted_run_is_noticed(tmp_path: Path) -> None:
    """The checkpoint was seen, though the tiles under it never came."""
    mirrored(LOG.first(100), tmp_path)
    with pytest.raises(Unreachable):
        mirror_log(Counted(Folder(LOG.as_tiles(tmp_path / "a")), 7), tmp_path / "mirror", [])
    forked = replace(LOG, leaves=[*LOG.leaves[:300], entry(9_000), *LOG.leaves[301:], entry(9_001)])
    with pytest.raises(Unsound, match="forked: of the source's 701 entries the first 700 are not those it signed"):
        mirror_log(Folder(forked.as_tiles(tmp_path / "b")), tmp_path / "mirror", [])
    with pytest.raises(Unsound, match="rolled back: the source is at 699 entries and was at 700"):
        mirror_log(Folder(LOG.first(699).as_tiles(tmp_path / "c")), tmp_path / "mirror", [])
    assert mirrored(LOG, tmp_path).before == 100


@pytest.mark.parametrize("name", sorted(name for name in LOG.tiles() if name.startswith("tile")))
@pytest.mark.parametrize("how", ["changed", "shorter", "longer", "missing"])
def test_no_file_of_the_source_is_taken_unproven(tmp_path: Path, name: str, how: str) -> None:
    source = LOG.as_tiles(tmp_path / "source")
    file = source / name
    raw = file.read_bytes()
    changes = {"changed": raw[:5] + bytes([raw[5] ^ 1]) + raw[6:], "shorter": raw[:-1], "longer": raw + b"\0"}
    file.unlink() if how == "missing" else file.write_bytes(changes[how])
    if how == "longer" and ".p" in name:
        mirror_log(Folder(source), tmp_path / "mirror", [LOG.verifier])
        assert sound(tmp_path / "mirror")  # of what has grown meanwhile the beginning is taken
    else:
        with pytest.raises((Unsound, Unreachable)):
            mirror_log(Folder(source), tmp_path / "mirror", [LOG.verifier])
        assert not (tmp_path / "mirror" / "checkpoint").exists()


def test_a_tile_that_was_filled_meanwhile_gives_its_first_part(tmp_path: Path) -> None:
    source = LOG.as_tiles(tmp_path / "source")
    (source / "checkpoint").write_text(LOG.first(600).note)
    for partial in [*source.rglob("*.p/*")]:
        partial.unlink()
    for name, raw in small_log(768).tiles().items():
        if ".p" not in name and name.startswith("tile"):
            (source / name).write_bytes(raw)
    (source / "tile" / "1" / "000.p" / "2").write_bytes(LOG.tiles()["tile/1/000.p/2"])
    assert mirror_log(Folder(source), tmp_path / "mirror", [LOG.verifier]).checkpoint.size == 600
    assert sound(tmp_path / "mirror")


def test_a_file_of_the_mirror_that_was_spoilt_is_mended(tmp_path: Path) -> None:
    mirrored(LOG, tmp_path)
    (tmp_path / "mirror" / "tile" / "0" / "001").write_bytes(b"x")
    (tmp_path / "mirror" / "tile" / "entries" / "000").unlink()
    assert not sound(tmp_path / "mirror")
    assert mirrored(LOG, tmp_path).files == 2
    assert sound(tmp_path / "mirror")


def test_a_checkpoint_of_the_mirror_that_was_spoilt_is_named(tmp_path: Path) -> None:
    mirrored(LOG.first(40), tmp_path)
    [seen] = (tmp_path / "mirror" / "checkpoints").iterdir()
    for file in (tmp_path / "mirror" / "checkpoint", seen):
        note = file.read_bytes()
        file.write_bytes(b"nonsense")
        with pytest.raises(Unsound, match=f"{file.name} of this mirror was spoilt: not a signed note"):
            mirrored(LOG, tmp_path)
        file.write_bytes(note)
    assert mirrored(LOG, tmp_path).before == 40


def test_a_mirror_believes_the_sources_keys_once_and_no_others_later(tmp_path: Path) -> None:
    source = Folder(LOG.as_tiles(tmp_path / "source"))
    assert mirror_log(source, tmp_path / "mirror", []).believed == (LOG.verifier,)
    assert mirror_log(source, tmp_path / "mirror", []).believed == ()
    other = replace(LOG, seed=bytes(32))
    with pytest.raises(Unsound, match="after a change of keys give the new one with --key"):
        mirror_log(Folder(other.as_tiles(tmp_path / "other")), tmp_path / "mirror", [])
    both = sign_checkpoint(LOG.checkpoint, LOG.seed, bytes(32))
    (tmp_path / "source" / "checkpoint").write_text(both)
    mirror_log(source, tmp_path / "mirror", [])
    done = mirror_log(Folder(tmp_path / "other"), tmp_path / "mirror", [verifier_of(LOG.origin, bytes(32))])
    assert done.checkpoint == LOG.checkpoint
    assert len((tmp_path / "mirror" / "keys").read_text().split()) == 2


def test_another_log_and_a_second_mirror_at_once_are_refused(tmp_path: Path) -> None:
    mirrored(LOG, tmp_path)
    stranger = small_log(origin="other.example/log")
    with pytest.raises(Unsound, match=r"another log: other\.example/log, and this mirrors perks\.example/log"):
        mirror_log(Folder(stranger.as_tiles(tmp_path / "other")), tmp_path / "mirror", [stranger.verifier])
    with alone(tmp_path / "mirror"), pytest.raises(Unreachable, match="another mirror is at work"):
        mirrored(LOG, tmp_path)


def test_hashes_alone_need_no_entries_and_entries_can_follow(tmp_path: Path) -> None:
    source = Folder(LOG.as_tiles(tmp_path / "source", entries=False))
    mirror_log(source, tmp_path / "mirror", [LOG.verifier], hashes_only=True)
    assert sound(tmp_path / "mirror", hashes_only=True)
    assert mirrored(LOG, tmp_path).files == 3
    assert sound(tmp_path / "mirror")


def test_a_signed_tree_knows_its_root_at_every_size_it_had() -> None:
    log = small_log(1_000)
    files = log.tiles()

    def read(tile: Tile, fits: Callable[[bytes], bool]) -> bytes:
        raw = files[f"tile/{tile.path}"]
        assert fits(raw)
        return raw

    tree = SignedTree(log.checkpoint, read)
    sizes = [*range(0, 1_000, 37), 255, 256, 257, 512, 999, 1_000]
    assert [size for size in sizes if tree.root_at(size) != root_of(log.hashes[:size])] == []
    with pytest.raises(Unsound, match="do not lead to the signed root"):
        SignedTree(replace(log.checkpoint, root=bytes(32)), read)


Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def closed_later() -> Iterator[Callable[[Address], Address]]:
    """Sources that are closed when the test is over."""
    with ExitStack() as closing:

        def later(source: Address) -> Address:
            closing.callback(source.close)
            return source

        yield later


@pytest.fixture
def served() -> Iterator[Callable[[Answer], str]]:
    """A server that answers as it is told; its address."""
    servers = []

    def serve(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/log"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def answered(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def test_what_may_pass_is_asked_for_again(
    served: Callable[[Answer], str], closed_later: Callable[[Address], Address], tmp_path: Path
) -> None:
    asked: list[str] = []
    files, slept = LOG.tiles(), []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        if asked.count(request.path) < 3:
            answered(request, 503)
        else:
            name = request.path.removeprefix("/log/")
            answered(request, 200 if name in files else 404, files.get(name, b""))

    source = closed_later(Address(served(answer), None, sleep=slept.append))
    assert mirror_log(source, tmp_path / "mirror", []).checkpoint == LOG.checkpoint
    assert sound(tmp_path / "mirror")
    assert set(slept) == {1.0, 2.0}
    assert source.read("none", 10) is None
    down = closed_later(Address(served(lambda request: answered(request, 500)), None, sleep=slept.append))
    with pytest.raises(Unreachable, match="log/checkpoint: it answers 500"):
        down.read("checkpoint", 10)
    assert slept[-4:] == [1, 2, 4, 8]


@pytest.mark.parametrize(("status", "words"), [(403, "--token-file"), (401, "--token-file"), (302, "it answers 302")])
def test_a_refusal_is_told_at_once(
    served: Callable[[Answer], str], closed_later: Callable[[Address], Address], status: int, words: str
) -> None:
    address = served(lambda request: answered(request, status, Location="http://127.0.0.1:1/"))
    source = closed_later(Address(address, "a token", sleep=lambda _: pytest.fail("it slept")))
    with pytest.raises(Unreachable, match=words):
        source.read("tile/entries/000", 10)


def test_answers_are_bounded_in_size_and_time(
    served: Callable[[Answer], str], closed_later: Callable[[Address], Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SECONDS_MAX", 0.3)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            try:
                request.wfile.write(bytes(100_000))
            except OSError:
                return

    def trickling(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            try:
                request.wfile.write(b"x")
                threading.Event().wait(0.05)
            except OSError:
                return

    for answer, words in ((endless, "longer than 1000000 bytes"), (trickling, r"not all there after 0\.3 s")):
        source = closed_later(Address(served(answer), None))
        with pytest.raises(Unreachable, match=f"checkpoint: {words}"):
            source.read("checkpoint", NOTE_BYTES_MAX)


def test_a_token_goes_over_https_alone() -> None:
    with pytest.raises(BadInput, match="a token goes over https alone"):
        Address("http://perks.example/log/", "a token")
    with pytest.raises(BadInput, match="an address is as https"):
        Address("file:///log", None)
    with pytest.raises(BadInput, match="an address is as https"):
        Address("https://perks.example:none/log", None)
