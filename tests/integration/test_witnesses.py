"""The log shows itself to witnesses: what they sign is kept, what contradicts it stops it, their faults do not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway import embedded, witnesses
from gateway.app import Gateway
from gateway.database import Database
from gateway.new_log import begin_new_log
from gateway.sequencer import Sequencer
from gateway.settings import Settings, SettingsInvalid, read_settings
from gateway.witness.addresses import WitnessAddress, read_witnesses
from gateway.witness.cosigning import Witness, open_witness
from gateway.witness.identity import open_identity
from gateway.witness.serving import application
from gateway.witnesses import Witnesses
from partners.actors import SYSTEM
from partners.keys import Keys
from partners.log_forks import LogForked
from partners.notes import (
    COSIGNATURE,
    Verifier,
    cosignature_line,
    open_checkpoint,
    read_signatures,
    verifier_of,
)
from tests.sequencing import ORIGIN, sequencer_on, write
from tests.witnesses import running_witness

NAME = "witness.example/w1"
Answer = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]


class Club:
    """A database with a log, and its own host."""

    def __init__(self, database: Database, keys: Keys, folder: Path, now: datetime) -> None:
        self.database, self.keys, self.folder, self.now = database, keys, folder, now
        self.sequencer: Sequencer = sequencer_on(database, keys, folder / "host")
        self.log_key = verifier_of(ORIGIN, keys.log)

    async def grow(self, count: int = 1) -> None:
        await write(self.database, self.now, count)
        await self.sequencer.carry_over()

    def witness(self, name: str = NAME, *keys: Verifier) -> Witness:
        folder = self.folder / name.replace("/", "-")
        known = map(str, keys or [self.log_key])
        return open_witness(folder, open_identity(folder, name), known, lambda: self.now)

    def asking(self, *asked: Witness, every_s: float = 60) -> Witnesses:
        addresses = [
            WitnessAddress(one.identity.verifier, f"http://{number}.example/w") for number, one in enumerate(asked)
        ]
        return Witnesses(addresses, self.database, self.sequencer.high_water, lambda: self.now, every_s=every_s)

    async def kept(self) -> list[tuple[int, str, int]]:
        async with self.database.connection() as connection:
            rows = await connection.fetch("SELECT size, note, witnesses FROM witnessed_checkpoint ORDER BY size")
        return [(row["size"], row["note"], row["witnesses"]) for row in rows]


@pytest.fixture
def club(empty_database: Database, keys: Keys, folder: Path, now: datetime) -> Club:
    return Club(empty_database, keys, folder, now)


@asynccontextmanager
async def reaching(*answering: Witness | Answer) -> AsyncIterator[tuple[httpx.AsyncClient, list[bytes]]]:
    """A client to hosts 0.example, 1.example, …; and what it sent."""
    sent: list[bytes] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/w")
        one = answering[int(request.url.host.removesuffix(".example"))]
        if (request.method, path) == ("POST", "/add-checkpoint"):
            sent.append(request.content)
        else:
            assert (request.method, path) == ("GET", f"/checkpoint/{ORIGIN}")
        if isinstance(one, Witness):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(application(one))) as client:
                given: Any = await client.request(request.method, f"http://w{path}", content=request.content)
        else:
            given = one(request)
            given = await given if asyncio.iscoroutine(given) else given
        return unread(given)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=False) as web:
        yield web, sent


def unread(answer: httpx.Response) -> httpx.Response:
    """As it comes from the network."""
    return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))


def events(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines if line["event"] in ("witness.fault", "witness.signs_again")]


async def test_each_checkpoint_is_kept_with_every_witness_that_signed_it(club: Club) -> None:
    one, two = club.witness(), club.witness("witness.example/w2")
    asking = club.asking(one, two)
    async with reaching(one, two) as (web, sent):
        await asking.ask_all(web)
        assert (sent, await club.kept()) == ([], [])
        for count in (1, 6, 300):
            await club.grow(count)
            await asking.ask_all(web)
    kept = await club.kept()
    assert [(size, witnesses) for size, _, witnesses in kept] == [(1, 2), (7, 2), (307, 2)]
    for size, note, _ in kept:
        keys = (club.log_key, one.identity.verifier, two.identity.verifier)
        assert open_checkpoint(note, *keys).size == size
        assert len(read_signatures(note, *keys)) == 3
    assert len(sent) == 6
    assert sent[-1].startswith(b"old 7\n")


async def test_an_idle_log_is_signed_again_with_the_time(club: Club) -> None:
    one = club.witness()
    asking = club.asking(one)
    await club.grow(3)
    async with reaching(one) as (web, _):
        await asking.ask_all(web)
        club.now += timedelta(minutes=1)
        await asking.ask_all(web)
    [(_, note, witnesses)] = await club.kept()
    [signature] = read_signatures(note, one.identity.verifier)
    assert (witnesses, signature.time) == (1, int(club.now.timestamp()))


async def test_a_process_that_knows_nothing_learns_what_the_witness_has_seen(club: Club) -> None:
    one = club.witness()
    async with reaching(one) as (web, sent):
        for count in (3, 4):
            await club.grow(count)
            await club.asking(one).ask_all(web)
    assert [body.split(b"\n")[0] for body in sent] == [b"old 0", b"old 0", b"old 3"]
    assert [size for size, *_ in await club.kept()] == [3, 7]


async def test_a_witness_that_other_processes_showed_more_is_no_contradiction(club: Club) -> None:
    one = club.witness()
    slow, fast = club.asking(one), club.asking(one)
    await club.grow(3)
    async with reaching(one) as (web, _):

        async def overtaken(request: httpx.Request) -> httpx.Response:
            await club.grow(4)
            await fast.ask_all(web)
            return unread(await web.post(str(request.url), content=request.content))

        async with httpx.AsyncClient(transport=httpx.MockTransport(overtaken)) as late:
            with capture_logs() as lines:
                await slow.ask_all(late)
    assert events(lines) == []
    await club.grow()
    assert [size for size, *_ in await club.kept()] == [7]


LOSE = """
WITH head AS (DELETE FROM log_head), leaves AS (DELETE FROM log_leaf)
INSERT INTO outbox SELECT id, sha256('\\x00' || convert_to(leaf, 'UTF8')) FROM audit_entry ORDER BY id LIMIT $1
"""


async def lose(club: Club, left: int) -> None:
    """What a restored backup looks like on a host without a mark: the log is that of the first so many entries."""
    async with club.database.connection() as connection:
        await connection.execute(LOSE, left)
    club.sequencer = sequencer_on(club.database, club.keys, club.folder / "another host")
    await club.sequencer.carry_over()


@pytest.mark.parametrize(("left", "more"), [(5, 0), (5, 2), (5, 3), (5, 9)])
async def test_a_log_that_lost_what_a_witness_signed_is_signed_no_more(club: Club, left: int, more: int) -> None:
    one = club.witness()
    await club.grow(8)
    async with reaching(one) as (web, _):
        await club.asking(one).ask_all(web)
        await lose(club, left)
        if more:
            await club.grow(more)
        with capture_logs() as lines:
            asking = club.asking(one)
            for _ in range(3):
                await asking.ask_all(web)
    assert events(lines) == ["witness.fault"]
    assert "8 entries" in next(line["fault"] for line in lines if line["event"] == "witness.fault")
    with pytest.raises(LogForked, match="new-log"):
        await club.grow()
    again = sequencer_on(club.database, club.keys, club.folder / "another host")
    with pytest.raises(LogForked):
        await again.carry_over()
    assert [size for size, *_ in await club.kept()] == [8]


async def test_a_new_log_goes_on_from_what_the_witness_shows(club: Club) -> None:
    one = club.witness()
    await club.grow(8)
    asking = club.asking(one)
    async with reaching(one) as (web, _):
        await asking.ask_all(web)
        await lose(club, 5)
        await club.grow(2)
        await club.asking(one).ask_all(web)
        assert open_checkpoint(club.sequencer.high_water.read(), club.log_key).size == 8
        made = await begin_new_log(club.sequencer, None, SYSTEM)
        assert (made.continued, made.signed, made.size) == (ORIGIN, 8, 8)  # seven that are left, and the old one's end
        await club.grow()
        with capture_logs() as lines:
            await club.asking(one).ask_all(web)
    assert [line["fault"] for line in lines if line["event"] == "witness.fault"] == [
        "status 404: 'this witness does not watch that log'"
    ]
    await club.grow()


async def test_a_witness_that_signs_again_lets_the_log_go_on(club: Club) -> None:
    one = club.witness()
    await club.grow(8)
    asking = club.asking(one)

    def lying(_: httpx.Request) -> httpx.Response:
        return httpx.Response(409, headers={"content-type": "text/x.tlog.size"}, content=b"99\n")

    async with reaching(lying) as (web, _):
        await asking.ask_all(web)
    with pytest.raises(LogForked, match="99 were signed"):
        await club.grow()
    async with reaching(one) as (web, _):
        with capture_logs() as lines:
            await asking.ask_all(web)
    assert events(lines) == ["witness.signs_again"]
    await club.grow()


async def test_a_witness_that_is_asked_no_more_holds_nothing_up(club: Club) -> None:
    one = club.witness()
    await club.grow(8)
    await club.sequencer.high_water.doubts.add(one.identity.verifier.label, ORIGIN, 99)
    with pytest.raises(LogForked):
        await club.grow()
    await club.asking().keep_asking(asyncio.Event())
    await club.sequencer.carry_over()


def status(code: int, content: bytes = b"no", kind: str = "text/plain") -> Answer:
    return lambda _: httpx.Response(code, headers={"content-type": kind}, content=content)


def raising(fault: Exception) -> Answer:
    def answer(_: httpx.Request) -> httpx.Response:
        raise fault

    return answer


async def hanging(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(60)
    return httpx.Response(200)


def signed_by(seed: bytes, at: int | None = None) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        text = request.content.decode().split("\n\n")[1] + "\n"
        return httpx.Response(200, text=cosignature_line(text, NAME, seed, at or 1))

    return answer


OTHER_SEED = bytes([9]) * 32
SIZE = "text/x.tlog.size"


REDIRECT = httpx.Response(302, headers={"location": "http://1.example/w/add-checkpoint"})
FAULTY: list[tuple[Answer, str]] = [
    (status(500), "status 500: 'no'"),
    (status(404), "status 404: 'no'"),
    (status(403), "status 403: 'no'"),
    (lambda _: REDIRECT, "status 302: ''"),
    (raising(httpx.ConnectError("refused")), "no answer: ConnectError"),
    (raising(httpx.ReadTimeout("late")), "no answer: ReadTimeout"),
    (raising(RuntimeError("odd")), "RuntimeError: odd"),
    (hanging, "no answer: TimeoutError"),
    (status(200, b""), "did not sign"),
    (status(200, b"hello\n"), "a signature line can't be read"),
    (status(200, "\n— a b\n".encode()), "not lines of signatures"),
    (status(200, b"\xff"), "not text in UTF-8"),
    (status(200, b"x" * 70_000), "more than 65536 bytes"),
    (signed_by(OTHER_SEED), "did not sign"),
    (status(409, b"", SIZE), "409 without a size"),
    (status(409, b"007\n", SIZE), "409 without a size"),
    (status(409, b"2\n", SIZE), "ever other sizes"),
]


async def test_faulty_witnesses_hold_up_neither_the_log_nor_the_others(
    club: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "ANSWER_SECONDS_MAX", 0.1)
    good, faulty = club.witness(), [club.witness(f"witness.example/faulty{number}") for number in range(len(FAULTY))]
    asking = club.asking(good, *faulty)
    await club.grow(3)
    with capture_logs() as lines:
        async with reaching(good, *(answer for answer, _ in FAULTY)) as (web, sent):
            for _ in range(6):
                await asking.ask_all(web)
                await club.grow()
                club.now += timedelta(seconds=61)
    told = {line["witness"]: line["fault"] for line in lines if line["event"] == "witness.fault"}
    assert len(events(lines)) == len(FAULTY)
    for one, (_, fault) in zip(faulty, FAULTY, strict=True):
        assert fault in told[one.identity.verifier.label]
    assert [(size, witnesses) for size, _, witnesses in await club.kept()] == [(size, 1) for size in range(3, 9)]
    # The faulty ones are asked in the first, second and fourth round, and one of them asks back each time.
    assert len(sent) == 6 + 3 * (len(FAULTY) - 1 + witnesses.ATTEMPTS_MAX)


async def test_a_witness_whose_clock_is_wrong_is_not_believed(club: Club) -> None:
    one = club.witness()
    asking = club.asking(one)
    await club.grow(3)
    with capture_logs() as lines:
        async with reaching(signed_by(one.identity.seed, 1)) as (web, _):
            await asking.ask_all(web)
    assert [line["fault"] for line in lines if line["event"] == "witness.fault"] == [
        "it signed for another time: are the clocks right?"
    ]
    assert await club.kept() == []


async def test_of_two_processes_one_asks_until_it_ends(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    await club.grow(3)
    asked: list[Witnesses] = []

    async def ask_all(self: Witnesses, _: httpx.AsyncClient) -> None:
        asked.append(self)

    monkeypatch.setattr(Witnesses, "ask_all", ask_all)
    first, second = (club.asking(club.witness(), every_s=0.01) for _ in range(2))
    stop_first, stop_second = asyncio.Event(), asyncio.Event()
    one = asyncio.create_task(first.keep_asking(stop_first))
    await asyncio.sleep(0.15)
    two = asyncio.create_task(second.keep_asking(stop_second))
    await asyncio.sleep(0.15)
    assert set(asked) == {first}
    stop_first.set()
    await one
    await asyncio.sleep(0.1)
    stop_second.set()
    await two
    assert set(asked) == {first, second}


async def test_old_witnessed_checkpoints_are_forgotten_and_never_the_newest(club: Club) -> None:
    one = club.witness()
    asking = club.asking(one)
    async with reaching(one) as (web, _):
        for days in (0, 1, 95, 300):
            await club.grow()
            club.now += timedelta(days=days)
            await asking.ask_all(web)
        assert [size for size, *_ in await club.kept()] == [4]
        club.now += timedelta(days=300)
        await asking.ask_all(web)
    assert [size for size, *_ in await club.kept()] == [4]


KEY = str(verifier_of(NAME, OTHER_SEED, COSIGNATURE))
SECOND = str(verifier_of("witness.example/w2", OTHER_SEED, COSIGNATURE))


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY} https://one.example/w,{SECOND} http://127.0.0.1:8100",
        f"{KEY} https://one.example/w/ , {SECOND}  http://127.0.0.1:8100/\n",
        f"\n{KEY} https://one.example/w\n{SECOND} http://127.0.0.1:8100\n\n",
    ],
)
def test_witnesses_are_a_list_of_keys_and_addresses(text: str) -> None:
    assert [(str(one.verifier), one.url) for one in read_witnesses(text)] == [
        (KEY, "https://one.example/w"),
        (SECOND, "http://127.0.0.1:8100"),
    ]
    assert read_witnesses("") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (KEY, "its address is https"),
        (f"{KEY} http://one.example", "its address is https"),
        (f"{KEY} https://one.example/?a=b", "its address is https"),
        (f"{KEY} https://user:password@one.example", "its address is https"),
        (f"{KEY} ftp://one.example", "its address is https"),
        ("nothing https://one.example", "not a verifier key"),
        (f"{verifier_of(ORIGIN, OTHER_SEED)} https://one.example", "the key of a log"),
        (f"{KEY} https://one.example,{KEY} https://two.example", "is there twice"),
    ],
)
def test_a_list_that_can_not_be_is_refused_at_start(text: str, fault: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"PERKS_WITNESSES: .*{fault}"):
        read_settings(witnesses=text)


async def test_a_service_shows_what_a_witness_that_runs_elsewhere_has_signed(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, secret: bytes, folder: Path, keys: Keys
) -> None:
    log_key = verifier_of(ORIGIN, keys.log)
    with running_witness(folder / "witness", NAME, log_key) as (_, address):
        async with httpx.AsyncClient() as asked:
            key = (await asked.get(address)).text.strip()
        settings = Settings(
            database_url=await new_database(),
            redis_url=servers.redis_url,
            secret=SecretStr(secret.decode()),
            base_url=f"https://{ORIGIN.removesuffix('/log')}",
            data_folder=folder / "service",
            witnesses=f"{key} {address}",
            witness_seconds=1,
        )
        gateway = Gateway(settings)
        transport = httpx.ASGITransport(gateway)
        async with gateway.living() as service, httpx.AsyncClient(transport=transport, base_url="http://perks") as api:
            await write(service.database, service.clock(), 7)
            async with asyncio.timeout(15):
                while (answer := await api.get("/log/witnessed")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
    assert open_checkpoint(answer.text, log_key, Verifier.parse(key)).size == 7
    assert len(read_signatures(answer.text, Verifier.parse(key))) == 1
