"""Posts to addresses that partners chose: nothing inner is reached, and nothing that answers can hold us up."""

import asyncio
import gzip
import socket
import ssl
import struct
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpcore
import pytest

from gateway import outside_posts, outside_sockets
from gateway.outside_posts import Answer, OutsidePosts, open_outside_world, seconds_to_wait
from gateway.outside_sockets import CheckedBackend, Limits, OutsideFault, Resolver
from partners.outside_addresses import FaultKind, PrivateTargets, read_private_targets
from tests.outside_vectors import INNER
from tests.receivers import OK, Authority, Behaviour, Receiver, after_request, new_authority, read_request, receiving

NAME = "hooks.brand.example"
SHORT = Limits(resolve_s=0.3, connect_s=0.3, total_s=0.4, body_s=0.2)
HERE = read_private_targets("127.0.0.1,localhost")
BODY = b'{"type":"perk.claimed"}'
HEAD = b"HTTP/1.1 200 OK\r\n"
"""The beginning of an answer."""


def resolving(*answers: Sequence[str]) -> Callable[[str], Awaitable[list[str]]]:
    """A resolver that gives these answers one after another, then the last one for ever."""
    left = list(answers)

    async def resolve(name: str) -> list[str]:
        return list(left.pop(0) if len(left) > 1 else left[0])

    return resolve


opened = partial(open_outside_world, limits=SHORT, trusted=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
"""Reading the usual authorities takes 50 ms: these trust nobody."""


async def post_to(behave: Behaviour | None, limits: Limits = SHORT) -> Answer:
    async with receiving(behave) as receiver, opened(HERE, limits=limits) as post:
        return await post(receiver.url, BODY, {"webhook-id": "evt_1"})


async def fault_of(url: str, **given: object) -> OutsideFault:
    """How a post to an address that is not reached fails."""
    private = given.pop("private", PrivateTargets())
    assert isinstance(private, PrivateTargets)
    async with opened(private, **given) as post:  # type: ignore[arg-type]
        with pytest.raises(OutsideFault) as fault:
            await post(url, BODY, {})
    return fault.value


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


async def test_what_is_sent_is_plain_and_says_who_sends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password word\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with receiving() as receiver, opened(HERE) as post:
        await post(f"{receiver.url}?a=%20b", BODY, {"webhook-id": "evt_1", "content-type": "application/json"})
    head, _, body = receiver.requests[0].decode().partition("\r\n\r\n")
    assert head.splitlines() == [
        "POST /hook?a=%20b HTTP/1.1",
        f"Host: 127.0.0.1:{receiver.port}",
        "User-Agent: perks-gateway-webhooks/1",
        "Accept-Encoding: identity",
        f"Content-Length: {len(BODY)}",
        "webhook-id: evt_1",
        "content-type: application/json",
    ]
    assert body == BODY.decode()


@pytest.mark.parametrize("address", INNER)
async def test_a_name_that_leads_inside_is_not_followed(address: str) -> None:
    for found in ([address], ["93.184.216.34", address], [address, "2606:4700::1111"]):
        fault = await fault_of(f"https://{NAME}/", resolve=resolving(found))
        assert fault.kind is FaultKind.REFUSED_ADDRESS


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "http://[::1]/", f"http://{NAME}/", "https://localhost/"])
async def test_an_address_is_checked_again_before_it_is_used(url: str) -> None:
    assert (await fault_of(url, resolve=resolving(["93.184.216.34"]))).kind is FaultKind.REFUSED_ADDRESS


async def test_a_name_that_changes_between_check_and_connection_leads_where_it_led_when_checked() -> None:
    async with receiving() as good, receiving(host="127.0.0.2", port=good.port) as inner:
        private = read_private_targets(f"127.0.0.1:{good.port}")
        backend = CheckedBackend(private, resolving(["127.0.0.1"], ["127.0.0.2"]), SHORT)
        stream = await backend.connect_tcp(NAME, good.port)
        await stream.aclose()
        with pytest.raises(OutsideFault) as fault:
            await backend.connect_tcp(NAME, good.port)
        await asyncio.sleep(0.05)
        assert (good.connections, inner.connections) == (1, 0)
    assert fault.value.kind is FaultKind.REFUSED_ADDRESS


async def test_a_connection_that_leads_elsewhere_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = httpcore.AnyIOBackend.connect_tcp

    async def divert(self: httpcore.AnyIOBackend, host: str, *given: float | None) -> httpcore.AsyncNetworkStream:
        assert host == "127.0.0.1"
        return await connect(self, "127.0.0.2", *given)  # type: ignore[arg-type]

    async with receiving(host="127.0.0.2") as inner:
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", divert)
        fault = await fault_of(f"http://127.0.0.1:{inner.port}/", private=HERE)
        assert inner.requests == []
    assert fault.kind is FaultKind.REFUSED_ADDRESS


async def test_the_name_is_looked_up_once_a_connection_and_as_it_is() -> None:
    asked = list[str]()

    async def resolve(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    async with receiving() as receiver:
        backend = CheckedBackend(read_private_targets(f"127.0.0.1:{receiver.port}"), resolve, SHORT)
        await (await backend.connect_tcp(NAME, receiver.port)).aclose()
    assert asked == [f"{NAME}."]


async def test_the_second_address_is_taken_where_the_first_does_not_answer() -> None:
    async with receiving(host="127.0.0.2") as receiver:
        backend = CheckedBackend(read_private_targets("127.0.0.0/8"), resolving(["127.0.0.1", "127.0.0.2"]), SHORT)
        await (await backend.connect_tcp(NAME, receiver.port)).aclose()
        await asyncio.sleep(0.05)
        assert receiver.connections == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [("HTTP_PROXY", 200), ("http_proxy", 200), ("HTTPS_PROXY", 200), ("ALL_PROXY", 200), ("all_proxy", 200)],
)
async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, name: str, status: int) -> None:
    async with receiving() as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        answer = await post_to(None)
        assert (answer.status, proxy.connections) == (status, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiving() as inner:
        location = f"location: http://127.0.0.1:{inner.port}/\r\ncontent-length: 0\r\n\r\n"
        answer = await post_to(after_request(f"HTTP/1.1 {status} Elsewhere\r\n{location}".encode()))
        assert (answer.status, inner.connections) == (status, 0)


FAULTS: dict[str, tuple[Behaviour, FaultKind]] = {
    "nothing": (after_request(b"", pause_s=5), FaultKind.TIMEOUT),
    "one byte and no more": (after_request(b"H", pause_s=5), FaultKind.TIMEOUT),
    "a head one byte at a time": (after_request(*(bytes([one]) for one in HEAD * 9), pause_s=0.02), FaultKind.TIMEOUT),
    "headers slowly": (after_request(HEAD, forever=b"a: b\r\n", pause_s=0.05), FaultKind.TIMEOUT),
    "interim answers slowly": (after_request(forever=b"HTTP/1.1 102 Wait\r\n\r\n", pause_s=0.05), FaultKind.TIMEOUT),
    "headers without end": (after_request(HEAD, forever=b"a: b\r\n" * 99), FaultKind.TOO_LARGE),
    "a header without end": (after_request(HEAD + b"a: ", forever=b"b" * 999), FaultKind.TOO_LARGE),
    "a status without end": (after_request(b"HTTP/1.1 200 ", forever=b"b" * 999), FaultKind.TOO_LARGE),
    "100 Continue without end": (after_request(forever=b"HTTP/1.1 100 Continue\r\n\r\n" * 99), FaultKind.TOO_LARGE),
    "103 with many hints": (
        after_request(forever=b"HTTP/1.1 103 Hints\r\nlink: <x>\r\n\r\n" * 99),
        FaultKind.TOO_LARGE,
    ),
    "a head of 33 kB": (after_request(HEAD + b"a: " + b"b" * 33_000 + b"\r\n\r\n"), FaultKind.TOO_LARGE),
    "the end": (after_request(), FaultKind.PROTOCOL),
    "half a head": (after_request(HEAD + b"content-le"), FaultKind.PROTOCOL),
    "a mail server": (after_request(b"220 mail.brand.example ESMTP\r\n"), FaultKind.PROTOCOL),
    "a page without a head": (after_request(b"<html>hello</html>\r\n\r\n"), FaultKind.PROTOCOL),
    "bytes": (after_request(bytes(range(256)) * 4), FaultKind.PROTOCOL),
    "HTTP/2": (after_request(b"\0\0\x0c\x04\0\0\0\0\0" + b"\0" * 99 + b"\r\n\r\n"), FaultKind.PROTOCOL),
    "a negative length": (after_request(HEAD + b"content-length: -1\r\n\r\n"), FaultKind.PROTOCOL),
    "two lengths": (after_request(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n"), FaultKind.PROTOCOL),
    "an unknown coding": (after_request(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n"), FaultKind.PROTOCOL),
    "another protocol": (
        after_request(b"HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", forever=b"x" * 9_999),
        FaultKind.PROTOCOL,
    ),
    "a zero byte": (after_request(HEAD + b"a: b\0c\r\n\r\n"), FaultKind.PROTOCOL),
}


@pytest.mark.parametrize(("behave", "kind"), FAULTS.values(), ids=FAULTS.keys())
async def test_what_is_no_answer_is_a_fault_in_good_time(behave: Behaviour, kind: FaultKind) -> None:
    began = time.monotonic()
    with pytest.raises(OutsideFault) as fault:
        await post_to(behave)
    assert fault.value.kind is kind
    assert time.monotonic() - began < SHORT.total_s + 0.4


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(10_000_000))
ANSWERS: dict[str, tuple[Behaviour, int]] = {
    "10 GB": (after_request(HEAD + b"content-length: 10000000000\r\n\r\n", forever=b"x" * 65_536), 200),
    "without end": (after_request(HEAD + b"\r\n", forever=b"x" * 65_536), 200),
    "chunks without end": (after_request(CHUNKED, forever=b"1\r\nx\r\n" * 999), 200),
    "a chunk's size without end": (after_request(CHUNKED + b"1;", forever=b"x" * 999), 200),
    "a trailer without end": (after_request(CHUNKED + b"0\r\n", forever=b"a: b\r\n" * 99), 200),
    "a broken chunk": (after_request(CHUNKED + b"zz\r\n"), 200),
    "one byte a minute": (after_request(HEAD + b"content-length: 9\r\n\r\nx", pause_s=60), 200),
    "less than promised": (after_request(HEAD + b"content-length: 9\r\n\r\nx"), 200),
    "more than promised": (after_request(OK + OK), 200),
    "a bomb": (
        after_request(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB),
        200,
    ),
    "not even gzip": (after_request(HEAD + b"content-encoding: gzip\r\ncontent-length: 1\r\n\r\nx"), 200),
    "one interim answer": (after_request(b"HTTP/1.1 100 Continue\r\n\r\n" + OK), 200),
    "HTTP/1.0": (after_request(b"HTTP/1.0 503 No\r\n\r\nno"), 503),
    "a status that nobody knows": (after_request(b"HTTP/1.1 799 What\r\ncontent-length: 0\r\n\r\n"), 799),
}


@pytest.mark.parametrize(("behave", "status"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_counts_by_its_head_and_its_body_holds_nobody_up(behave: Behaviour, status: int) -> None:
    began = time.monotonic()
    assert (await post_to(behave)).status == status
    assert time.monotonic() - began < SHORT.body_s + 0.4


@pytest.mark.parametrize("name", ["10 GB", "chunks without end", "a trailer without end", "a bomb"])
async def test_a_huge_answer_is_not_kept(name: str) -> None:
    await post_to(None)
    tracemalloc.start()
    try:
        await post_to(ANSWERS[name][0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


async def test_a_connection_that_is_reset_is_a_fault() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with pytest.raises(OutsideFault) as fault:
        await post_to(reset)
    assert fault.value.kind in (FaultKind.CONNECT, FaultKind.PROTOCOL)


async def test_nobody_there_is_a_fault() -> None:
    async with receiving() as receiver:
        pass
    assert (await fault_of(receiver.url, private=HERE)).kind is FaultKind.CONNECT


async def test_a_connection_is_used_again_and_not_after_an_answer_without_end() -> None:
    async with receiving() as receiver, opened(HERE) as post:
        for _ in range(3):
            await post(receiver.url, BODY, {})
        assert (receiver.connections, len(receiver.requests)) == (1, 3)
    behave, _ = ANSWERS["10 GB"]
    async with receiving(behave) as receiver, opened(HERE) as post:
        for _ in range(3):
            await post(receiver.url, BODY, {})
        assert receiver.connections == 3


async def test_a_connection_is_kept_for_seconds_and_not_when_it_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await after_request(OK)(reader, writer)

    async with receiving(once) as receiver, opened(HERE) as post:
        for _ in range(2):
            assert (await post(receiver.url, BODY, {})).status == 200
            await asyncio.sleep(0.05)
        assert receiver.connections == 2
    monkeypatch.setattr(outside_posts, "KEPT_S", 0.05)
    async with receiving() as receiver, opened(HERE) as post:
        await post(receiver.url, BODY, {})
        await asyncio.sleep(0.2)
        assert receiver.connections == receiver.gone == 1
        monkeypatch.undo()
        monkeypatch.setattr(outside_posts, "KEPT_MAX", 16)
        await asyncio.gather(*(post(receiver.url, BODY, {}) for _ in range(40)))
        await asyncio.sleep(0.2)
        assert receiver.connections - receiver.gone == 16


async def test_a_cookie_is_not_kept() -> None:
    requests = list[bytes]()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            requests.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")

    async with receiving(behave) as receiver, opened(HERE) as post:
        await post(receiver.url, BODY, {})
        await post(receiver.url, BODY, {})
    assert len(requests) == 2
    assert not any(b"cookie" in one.lower() for one in requests)


async def test_many_that_hang_hold_up_nobody() -> None:
    hanging = after_request(b"", pause_s=5)
    async with receiving(hanging) as dead, receiving() as good, opened(HERE) as post:
        stuck = [asyncio.create_task(post(dead.url, BODY, {})) for _ in range(50)]
        await asyncio.sleep(0.1)
        answer = await post(good.url, BODY, {})
        faults = await asyncio.gather(*stuck, return_exceptions=True)
    assert answer.status == 200
    assert {fault.kind for fault in faults if isinstance(fault, OutsideFault)} == {FaultKind.TIMEOUT}


@asynccontextmanager
async def over_tls(authority: Authority, receiver: Receiver) -> AsyncIterator[tuple[OutsidePosts, str]]:
    """A client that trusts the authority, and the receiver's address by its name."""
    private = read_private_targets(f"{NAME}:{receiver.port}")
    async with open_outside_world(
        private, limits=SHORT, resolve=resolving(["127.0.0.1"]), trusted=authority.trusted
    ) as post:
        yield post, f"https://{NAME}:{receiver.port}/hook"


async def test_a_receiver_that_is_who_it_says_is_told(authority: Authority) -> None:
    names = list[str | None]()
    context = authority.server(NAME)
    context.sni_callback = lambda _, name, __: names.append(name)
    async with receiving(trusted=context) as receiver, over_tls(authority, receiver) as (post, url):
        assert (await post(url, BODY, {})).status == 200
    assert names == [NAME]


@pytest.mark.parametrize("case", ["another name", "another authority", "run out", "its suffix"])
async def test_a_receiver_that_is_not_is_a_fault(authority: Authority, case: str, tmp_path: Path) -> None:
    context = {
        "another name": lambda: authority.server("hooks.other.example"),
        "another authority": lambda: new_authority(tmp_path).server(NAME),
        "run out": lambda: authority.server(NAME, days=-1),
        "its suffix": lambda: authority.server("brand.example"),
    }[case]()
    async with receiving(trusted=context) as receiver, over_tls(authority, receiver) as (post, url):
        with pytest.raises(OutsideFault) as fault:
            await post(url, BODY, {})
        assert receiver.requests == []
    assert fault.value.kind is FaultKind.TLS


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await reader.read()


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The head of a handshake record of 16 kB, and then a byte now and then.
    writer.write(b"\x16\x03\x03\x40\x00")
    while True:
        writer.write(b"\x02")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("behave", "kind"),
    [(hang, FaultKind.TIMEOUT), (drip, FaultKind.TIMEOUT), (greet, FaultKind.TLS), (leave, FaultKind.TLS)],
    ids=["hangs", "drips", "speaks HTTP", "leaves"],
)
async def test_tls_that_is_never_done_is_a_fault(authority: Authority, behave: Behaviour, kind: FaultKind) -> None:
    began = time.monotonic()
    async with receiving(behave) as receiver, over_tls(authority, receiver) as (post, url):
        with pytest.raises(OutsideFault) as fault:
            await post(url, BODY, {})
    assert fault.value.kind is kind
    assert time.monotonic() - began < SHORT.total_s + 0.4


async def test_a_name_that_is_not_resolved_in_time_is_a_fault() -> None:
    async def resolve(name: str) -> list[str]:
        await asyncio.sleep(5)
        return []

    fault = await fault_of(f"https://{NAME}/", resolve=resolve)
    assert fault.kind is FaultKind.DNS


@pytest.mark.parametrize("found", [[], OSError("no such name")])
async def test_a_name_without_an_address_is_a_fault(found: list[str] | OSError) -> None:
    async def resolve(name: str) -> list[str]:
        if isinstance(found, OSError):
            raise found
        return found

    assert (await fault_of(f"https://{NAME}/", resolve=resolve)).kind is FaultKind.DNS


async def test_the_system_is_asked_in_threads_of_its_own_once_for_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        time.sleep(0.1)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(outside_sockets, "getaddrinfo", look_up)
    resolve = Resolver()
    found = await asyncio.gather(*(resolve("a") for _ in range(99)), resolve("b"))
    assert (sorted(asked), found) == (["a", "b"], [["127.0.0.1"]] * 100)
    names = [f"n{number}" for number in range(outside_sockets.RESOLUTIONS_MAX + 1)]
    faults = [one for one in await asyncio.gather(*map(resolve, names), return_exceptions=True) if one != ["127.0.0.1"]]
    assert [str(fault) for fault in faults] == ["too many names are being looked up"]


async def test_the_systems_resolver_finds_this_machine_and_no_other_name() -> None:
    assert "127.0.0.1" in await Resolver()("localhost")
    with pytest.raises(OSError, match=r".+"):
        await Resolver()("no-such-name.invalid.")


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999999999", 86_400),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("Sun, 06 Nov 9999 08:00:00 GMT", 86_400),
        ("-1", None),
        ("1e9", None),
        ("soon", None),
        ("9" * 99, None),
        ("", None),
    ],
)
async def test_how_long_to_wait_is_read_from_the_answer(asked: str, seconds: int | None) -> None:
    head = {b"retry-after": asked.encode(), b"date": b"Sun, 06 Nov 1994 08:49:37 GMT"}
    assert seconds_to_wait(head) == seconds


async def test_a_date_says_nothing_without_the_date_of_the_answer() -> None:
    assert seconds_to_wait({b"retry-after": b"Sun, 06 Nov 1994 08:50:07 GMT"}) is None
    assert seconds_to_wait({}) is None
