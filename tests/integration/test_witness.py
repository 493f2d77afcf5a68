"""The witness: each rule of C2SP's tlog-witness, many logs at once, and killed at any moment, it never signs a fork."""

import asyncio
import random
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from gateway.witness import serving
from gateway.witness.cosigning import Witness, open_witness
from gateway.witness.identity import open_identity
from gateway.witness.submissions import render
from partners.errors import BadInput
from partners.notes import (
    COSIGNATURE,
    Verifier,
    cosignature_line,
    encoded,
    open_checkpoint,
    read_signatures,
    sign_note,
    signature_line,
    verifier_of,
)
from tests.commands import Perks, ended
from tests.trees import Log
from tests.witnesses import running_witness

LOG = Log.of(100)
FORKED = Log(entries=[*LOG.entries[:20], *Log.of(100, word="forged").entries[20:]])
BRANCHES = (Log.of(5_000), Log(entries=[*LOG.entries[:20], *Log.of(5_000, word="forged").entries[20:]]))
NEW_KEY = bytes([1]) * 32
NAME = "witness.example/w1"
NOW = datetime(2026, 11, 22, 12, 0, 7, 999_999, tzinfo=UTC)
SIZE_TYPE = "text/x.tlog.size"


def witness_in(folder: Path, *keys: Verifier) -> Witness:
    return open_witness(folder, open_identity(folder, NAME), map(str, keys or [LOG.verifier]), lambda: NOW)


@pytest.fixture
def witness(folder: Path) -> Witness:
    return witness_in(folder, LOG.verifier, verifier_of("others.example/log", LOG.key))


@pytest.fixture
async def asked(witness: Witness) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(serving.application(witness))
    async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
        yield client


async def submit(asked: httpx.AsyncClient, log: Log, old: int, size: int) -> httpx.Response:
    proof = log.consistency(old, size) if old <= size else []
    return await asked.post("/add-checkpoint", content=render(old, proof, log.note(size)))


async def test_a_log_that_grows_is_signed_each_time(asked: httpx.AsyncClient, witness: Witness) -> None:
    old = 0
    for size in (0, 1, 2, 3, 7, 8, 64, 65, 100):
        answer = await submit(asked, LOG, old, size)
        assert (answer.status_code, answer.text.count("\n")) == (200, 1)
        [signature] = read_signatures(LOG.note(size) + answer.text, witness.identity.verifier)
        assert signature.time == int(NOW.timestamp())
        old = size


async def test_the_newest_is_told_to_monitors(asked: httpx.AsyncClient, witness: Witness) -> None:
    assert (await asked.get(f"/checkpoint/{LOG.origin}")).status_code == 404
    await submit(asked, LOG, 0, 7)
    told = await asked.get(f"/checkpoint/{LOG.origin}")
    key = Verifier.parse((await asked.get("/")).text)
    assert key == witness.identity.verifier
    assert open_checkpoint(told.text, LOG.verifier, key) == LOG.checkpoint(7)
    assert len(read_signatures(told.text, key)) == 1
    assert (await asked.get("/checkpoint/unknown.example/log")).status_code == 404


async def test_the_same_tree_is_signed_again(asked: httpx.AsyncClient) -> None:
    for _ in range(2):
        await submit(asked, LOG, 0, 7)
        assert (await submit(asked, LOG, 7, 7)).status_code == 200


async def test_who_begins_elsewhere_is_told_the_size(asked: httpx.AsyncClient) -> None:
    await submit(asked, LOG, 0, 7)
    for old, size in [(0, 7), (6, 9), (8, 9), (0, 0), (3, 5)]:
        answer = await submit(asked, LOG, old, size)
        assert (answer.status_code, answer.text, answer.headers["content-type"]) == (409, "7\n", SIZE_TYPE)


async def test_another_tree_of_the_same_size_is_a_conflict_and_kept_as_proof(
    asked: httpx.AsyncClient, folder: Path
) -> None:
    await submit(asked, LOG, 0, 30)
    with capture_logs() as lines:
        answer = await asked.post("/add-checkpoint", content=render(30, [], FORKED.note(30)))
    assert answer.status_code == 409
    assert not answer.headers["content-type"].startswith(SIZE_TYPE)
    assert [(line["event"], line["log_level"]) for line in lines] == [("witness.fork", "error")]
    [proof] = (folder / "logs").glob("*.conflict")
    [record] = (folder / "logs").glob("*.checkpoint")
    assert open_checkpoint(proof.read_text(), LOG.verifier) == FORKED.checkpoint(30)
    assert open_checkpoint(record.read_text(), LOG.verifier) == LOG.checkpoint(30)


async def test_a_fork_is_not_signed_whatever_proof_comes_with_it(asked: httpx.AsyncClient) -> None:
    await submit(asked, LOG, 0, 30)
    for proof in (FORKED.consistency(30, 40), LOG.consistency(30, 40), [], [bytes(32)] * 63):
        answer = await asked.post("/add-checkpoint", content=render(30, proof, FORKED.note(40)))
        assert answer.status_code == 422
    assert (await submit(asked, LOG, 30, 40)).status_code == 200


async def test_a_wrong_proof_of_a_right_tree_is_not_signed(asked: httpx.AsyncClient) -> None:
    await submit(asked, LOG, 0, 30)
    proof = LOG.consistency(30, 47)
    for wrong in (proof[1:], [*proof, bytes(32)], proof[::-1], []):
        answer = await asked.post("/add-checkpoint", content=render(30, wrong, LOG.note(47)))
        assert answer.status_code == 422
    assert (await asked.post("/add-checkpoint", content=render(30, [bytes(32)], LOG.note(30)))).status_code == 422


async def test_a_first_checkpoint_needs_an_empty_proof(asked: httpx.AsyncClient) -> None:
    assert (await asked.post("/add-checkpoint", content=render(0, [bytes(32)], LOG.note(7)))).status_code == 422
    assert (await submit(asked, LOG, 0, 7)).status_code == 200


async def test_an_empty_tree_has_one_root(asked: httpx.AsyncClient) -> None:
    wrong = sign_note(str(replace(LOG.checkpoint(0), root=bytes(32))), LOG.origin, LOG.key)
    assert (await asked.post("/add-checkpoint", content=render(0, [], wrong))).status_code == 409


async def test_a_log_that_is_not_watched_is_not_found(asked: httpx.AsyncClient) -> None:
    assert (await submit(asked, Log.of(3, "unknown.example/log"), 0, 3)).status_code == 404


@pytest.mark.parametrize("key", ["stranger", "other log", "wrong signature beside a right one", "witness alone"])
async def test_what_the_log_did_not_sign_is_forbidden(asked: httpx.AsyncClient, key: str) -> None:
    text = str(LOG.checkpoint(3))
    note = {
        "stranger": LOG.note(3, NEW_KEY),
        "other log": sign_note(text, "others.example/log", LOG.key),
        "wrong signature beside a right one": LOG.note(3) + signature_line(text + "x\n", LOG.origin, LOG.key),
        "witness alone": f"{text}\n{cosignature_line(text, LOG.origin, LOG.key, 1)}",
    }[key]
    assert (await asked.post("/add-checkpoint", content=render(0, [], note))).status_code == 403


async def test_either_key_of_a_log_that_replaces_its_key_will_do(folder: Path) -> None:
    new = verifier_of(LOG.origin, NEW_KEY)
    both = witness_in(folder, LOG.verifier, new)
    for old, size, keys in [(0, 3, [LOG.key]), (3, 5, [LOG.key, NEW_KEY]), (5, 9, [NEW_KEY])]:
        note = LOG.note(size, *keys)
        line = both.sign(render(old, LOG.consistency(old, size), note))
        assert read_signatures(note + line, both.identity.verifier)
    assert open_checkpoint(both.newest(LOG.origin) or "", new) == LOG.checkpoint(9)


GOOD = render(0, [], LOG.note(3))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"old 0\n",
        b"old 0\n\n",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.replace(b"old 0", b"old 00"),
        GOOD.replace(b"old 0", b"old -1"),
        GOOD.replace(b"old 0", b"old 9223372036854775808"),
        GOOD.replace(b"old 0", b"old  0"),
        GOOD.replace(b"old 0", b"Old 0"),
        GOOD.replace(b"old 0", b"old 4"),
        GOOD.replace(b"old 0\n", b"old 0\nAAAA\n"),
        GOOD.replace(b"old 0\n", b"old 0\n" + f"{encoded(bytes(32))}\n".encode() * 64),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n3\n", b"\n03\n"),
        GOOD.replace(b"\n3\n", b"\n-3\n"),
        GOOD + b"not a signature\n",
        b"\xff" + GOOD,
        GOOD.decode().encode("utf-16"),
    ],
)
async def test_a_body_that_is_none_is_a_bad_request(asked: httpx.AsyncClient, body: bytes) -> None:
    answer = await asked.post("/add-checkpoint", content=body)
    assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-store")
    assert (await submit(asked, LOG, 0, 3)).status_code == 200


async def test_bodies_are_bounded_in_size_and_time(asked: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    many = render(0, [], LOG.note(3) + 10_000 * signature_line("x\n", "stranger.example", NEW_KEY))
    assert (await asked.post("/add-checkpoint", content=many)).status_code == 413
    monkeypatch.setattr(serving, "BODY_SECONDS_MAX", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield GOOD[:1]
        await asyncio.sleep(1)

    assert (await asked.post("/add-checkpoint", content=slow())).status_code == 408
    assert (await asked.get("/add-checkpoint")).status_code == 405


@asynccontextmanager
async def listening(witness: Witness) -> AsyncIterator[int]:
    """The witness on a real port of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(serving.config(witness))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@pytest.mark.parametrize("sent", [b"", b"POST /add-checkpoint HTTP/1.1\r\nhost:"])
async def test_who_says_nothing_is_cut_off_and_keeps_nobody_out(
    witness: Witness, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS_MAX", 0.2)
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 5)
    async with listening(witness) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as asked:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        for _, writer in idle:
            writer.write(sent)
        async with asyncio.timeout(5):
            assert [await reader.read() for reader, _ in idle] == [b""] * 10
        assert (await submit(asked, LOG, 0, 7)).status_code == 200
        await asyncio.sleep(0.3)
        assert (await submit(asked, LOG, 7, 9)).status_code == 200
        for _, writer in idle:
            writer.close()


async def test_signatures_of_others_are_not_remembered(asked: httpx.AsyncClient, witness: Witness) -> None:
    forged = cosignature_line("x\n", NAME, witness.identity.seed, 1)
    note = LOG.note(3) + forged + signature_line(str(LOG.checkpoint(3)), "stranger.example", NEW_KEY)
    assert (await asked.post("/add-checkpoint", content=render(0, [], note))).status_code == 200
    assert (await submit(asked, LOG, 3, 5)).status_code == 200
    assert "stranger" not in (witness.newest(LOG.origin) or "")


@pytest.mark.parametrize("damage", ["cut", "flipped", "other log", "emptied"])
async def test_a_witness_that_lost_its_memory_signs_nothing(
    asked: httpx.AsyncClient, folder: Path, damage: str
) -> None:
    await submit(asked, LOG, 0, 30)
    [record] = (folder / "logs").glob("*.checkpoint")
    whole = record.read_text()
    other = Log.of(31, "others.example/log")
    await submit(asked, other, 0, 30)
    [others] = set((folder / "logs").glob("*.checkpoint")) - {record}
    record.write_text(
        {
            "cut": whole[:-10],
            "flipped": whole.replace("\n30\n", "\n10\n"),
            "other log": others.read_text(),
            "emptied": "",
        }[damage]
    )
    with capture_logs() as lines:
        for log, old, size in [(LOG, 30, 40), (LOG, 0, 40), (FORKED, 10, 40)]:
            assert (await submit(asked, log, old, size)).status_code == 500
        assert (await asked.get(f"/checkpoint/{LOG.origin}")).status_code == 500
    assert {line["event"] for line in lines} == {"witness.failed"}
    assert (await submit(asked, other, 30, 31)).status_code == 200


async def test_of_fifty_at_once_each_signed_tree_contains_the_one_before(
    folder: Path,
) -> None:
    """Two witnesses on one folder are two processes to each other: they share nothing but files."""
    witnesses = [witness_in(folder), witness_in(folder)]
    dice = random.Random(5)

    async def insist(number: int) -> list[tuple[int, bool]]:
        log = FORKED if number % 2 else LOG
        old, signed = 0, []
        for size in sorted(dice.sample(range(21, 101), 4)):
            for _ in range(4):
                body = render(old, log.consistency(old, max(old, size)), log.note(max(old, size)))
                try:
                    await asyncio.to_thread(witnesses[number // 2 % 2].sign, body)
                except Exception as refusal:
                    told = getattr(refusal, "size", None)
                    if told is None:
                        break
                    old = told
                else:
                    old = max(old, size)
                    signed.append((old, log is FORKED))
                    break
        return signed

    signed = [one for some in await asyncio.gather(*(insist(number) for number in range(50))) for one in some]
    assert len(signed) >= 10
    assert len({forked for _, forked in signed}) == 1
    newest = open_checkpoint(witnesses[0].newest(LOG.origin) or "", LOG.verifier)
    assert newest.size == max(size for size, _ in signed)


def test_the_key_is_made_once_for_its_user_alone(folder: Path) -> None:
    first = open_identity(folder / "new" / "deep", NAME)
    file = folder / "new" / "deep" / "witness.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["witness.key"]
    assert open_identity(file.parent, None) == open_identity(file.parent, NAME) == first
    assert encoded(first.seed) not in repr(first)
    assert first.verifier.kind == COSIGNATURE


def test_of_witnesses_that_start_at_once_all_have_one_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as each of them sees it before any has written
    assert len({open_identity(folder, NAME).seed for _ in range(5)}) == 1


@pytest.mark.parametrize(
    ("name", "fault"), [(None, "needs one"), ("a b", "needs one"), ("a+b", "needs one"), ("", "needs one")]
)
def test_a_new_witness_needs_a_name(folder: Path, name: str | None, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        open_identity(folder, name)
    assert list(folder.iterdir()) == []


def test_a_witness_keeps_its_name(folder: Path) -> None:
    open_identity(folder, NAME)
    with pytest.raises(BadInput, match=r"the witness in .* is witness.example/w1"):
        open_identity(folder, "witness.example/w2")
    (folder / "witness.key").write_text("nothing")
    with pytest.raises(BadInput, match="is not the key of a witness"):
        open_identity(folder, NAME)


@pytest.mark.parametrize("key", ["", "nothing", str(LOG.verifier)[:-1], str(verifier_of(NAME, NEW_KEY, COSIGNATURE))])
def test_what_is_no_key_of_a_log_is_refused(folder: Path, key: str) -> None:
    with pytest.raises(BadInput, match="--log: "):
        open_witness(folder, open_identity(folder, NAME), [key], lambda: NOW)


def test_the_command_tells_the_key_and_what_is_wrong(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    perks = Perks("no database", capsys)
    assert perks("witness", "key", "--folder", folder).code == 2
    told = perks("witness", "key", "--folder", folder, "--name", NAME)
    assert Verifier.parse(told.out).name == NAME
    assert perks("witness", "key", "--folder", folder).out == told.out
    wrong = perks("witness", "serve", "--folder", folder, "--log", "nothing")
    assert (wrong.code, wrong.faults) == (2, ["perks: --log: not a verifier key: name+id+base64 of an Ed25519 key"])
    assert perks("witness", "serve", "--folder", folder).code == 2


async def test_the_command_serves_until_it_is_told_to_stop(folder: Path) -> None:
    with running_witness(folder, NAME, LOG.verifier) as (process, address):
        async with httpx.AsyncClient(base_url=address) as asked:
            assert (await submit(asked, LOG, 0, 7)).status_code == 200
        process.terminate()
        stopped = await asyncio.to_thread(ended, process)
    assert (stopped.code, stopped.err) == (0, "")


async def submit_more(asked: httpx.AsyncClient, address: str, log: Log, signed: list[tuple[int, bytes]]) -> None:
    """One larger tree after the other, from wherever the witness says, until it is gone; what it signed."""
    old = 0
    with suppress(httpx.HTTPError):
        key = Verifier.parse((await asked.get(address)).text)
        while old < len(log.entries):
            size = max(old, 20) + 1
            body = render(old, log.consistency(old, size), log.note(size))
            answer = await asked.post(f"{address}/add-checkpoint", content=body)
            if answer.status_code == 200:
                assert read_signatures(log.note(size) + answer.text, key)
                signed.append((size, log.root(size)))
                old = size
            elif answer.headers["content-type"] == SIZE_TYPE:
                old = int(answer.text)
            else:
                await asyncio.sleep(0.01)


async def killed_again_and_again(folder: Path, rounds: int, dice: random.Random) -> list[tuple[int, bytes]]:
    """Two processes on one folder, asked by two branches of one log and killed at any moment; all that was signed."""
    signed: list[tuple[int, bytes]] = []
    async with httpx.AsyncClient() as asked:
        for _ in range(rounds):
            with ExitStack() as running:
                witnesses = [running.enter_context(running_witness(folder, NAME, LOG.verifier)) for _ in range(2)]
                for _, address in witnesses:
                    await asked.get(address)
                asking = [
                    asyncio.create_task(submit_more(asked, address, log, signed))
                    for _, address in witnesses
                    for log in BRANCHES
                ]
                enough = len(signed) + 5
                async with asyncio.timeout(30):
                    while len(signed) < enough:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                for process, _ in witnesses:
                    await asyncio.sleep(dice.uniform(0.05, 0.15))
                    process.kill()
                await asyncio.gather(*asking)
    return signed


def require_one_branch(signed: list[tuple[int, bytes]], folder: Path) -> None:
    """All that was ever signed is of one tree, and no more than the witness remembers."""
    assert len(signed) > 3
    branches = [log for log in BRANCHES if all(log.root(size) == root for size, root in signed)]
    assert len(branches) == 1
    newest = open_checkpoint(witness_in(folder).newest(LOG.origin) or "", LOG.verifier)
    assert newest.size >= max(size for size, _ in signed)
    assert newest.root == branches[0].root(newest.size)


async def test_killed_at_any_moment_it_never_signs_a_fork(folder: Path) -> None:
    signed = await killed_again_and_again(folder, 1, random.Random())
    require_one_branch(signed, folder)


@pytest.mark.long
async def test_killed_thirty_times_it_never_signs_a_fork(folder: Path) -> None:
    signed = await killed_again_and_again(folder, 15, random.Random())
    require_one_branch(signed, folder)
