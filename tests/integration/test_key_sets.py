"""Keys of issuers outside, over real HTTP: one fetch for all, floors, limits, and what stays while they are away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from auth import key_sets
from auth.key_sets import FLOOR, FLOOR_AFTER_FAULT, KeySet, open_web
from partners.errors import Unavailable
from tests.issuers import OutsideIssuer, new_key, outside_issuer, public

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def serving() -> Iterator[OutsideIssuer]:
    with outside_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(serving: OutsideIssuer) -> OutsideIssuer:
    serving.reset()
    return serving


@pytest.fixture
async def web() -> AsyncIterator[httpx.AsyncClient]:
    async with open_web() as client:
        yield client


@pytest.fixture
def keys(issuer: OutsideIssuer, web: httpx.AsyncClient) -> KeySet:
    return KeySet(web, issuer.address, f"{issuer.address}/keys")


def answering(response: Callable[[], Response], *, after_s: float = 0) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        await asyncio.sleep(after_s)
        return response()

    return answer


def kid(issuer: OutsideIssuer) -> str:
    assert issuer.key.kid is not None
    return issuer.key.kid


async def test_an_issuer_is_not_asked_before_a_key_is_wanted(issuer: OutsideIssuer, keys: KeySet) -> None:
    assert issuer.asked.total() == 0
    assert await keys.find(kid(issuer), NOW) is not None
    assert issuer.asked == {"/keys": 1}


async def test_the_keys_are_found_by_the_issuers_own_description(issuer: OutsideIssuer, web: httpx.AsyncClient) -> None:
    keys = KeySet(web, issuer.address)
    assert await keys.find(kid(issuer), NOW) is not None
    assert (await keys.metadata(NOW))["issuer"] == issuer.address
    assert issuer.asked == {DISCOVERY: 1, "/keys": 1}


async def test_an_issuer_below_a_path_that_only_speaks_oauth_is_found_too(
    issuer: OutsideIssuer, web: httpx.AsyncClient
) -> None:
    name = f"{issuer.address}/realms/club"
    described = {"issuer": name, "jwks_uri": f"{issuer.address}/keys"}
    inserted = "/.well-known/oauth-authorization-server/realms/club"
    issuer.answers[inserted] = answering(lambda: JSONResponse(described))
    assert await KeySet(web, name).find(kid(issuer), NOW) is not None
    assert issuer.asked == {"/realms/club" + DISCOVERY: 1, inserted: 1, "/keys": 1}


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "{issuer}/", "jwks_uri": "{issuer}/keys"},
        {"issuer": "https://evil.example", "jwks_uri": "{issuer}/keys"},
        {"issuer": "{issuer}"},
        {"issuer": "{issuer}", "jwks_uri": "http://evil.example/keys"},
        {"issuer": "{issuer}", "jwks_uri": "file:///keys"},
        {"issuer": "{issuer}", "jwks_uri": "https://user:word@evil.example/keys"},
    ],
)
async def test_a_description_of_another_issuer_or_without_a_safe_address_is_refused(
    issuer: OutsideIssuer, web: httpx.AsyncClient, described: dict[str, str]
) -> None:
    filled = {name: value.replace("{issuer}", issuer.address) for name, value in described.items()}
    issuer.answers[DISCOVERY] = answering(lambda: JSONResponse(filled))
    with pytest.raises(Unavailable):
        await KeySet(web, issuer.address).find(kid(issuer), NOW)
    assert issuer.asked == {DISCOVERY: 1}


async def test_fifty_who_miss_at_once_make_one_fetch(issuer: OutsideIssuer, web: httpx.AsyncClient) -> None:
    keys = KeySet(web, issuer.address)
    issuer.answers["/keys"] = answering(lambda: JSONResponse({"keys": issuer.published}), after_s=0.1)
    found = await asyncio.gather(*(keys.find(kid(issuer), NOW) for _ in range(50)))
    assert None not in found
    assert issuer.asked == {DISCOVERY: 1, "/keys": 1}


async def test_fifty_who_miss_at_once_wait_for_one_failure(issuer: OutsideIssuer, keys: KeySet) -> None:
    issuer.answers["/keys"] = answering(lambda: Response(status_code=500), after_s=0.1)
    found = await asyncio.gather(*(keys.find(kid(issuer), NOW) for _ in range(50)), return_exceptions=True)
    assert {type(one) for one in found} == {Unavailable}
    assert issuer.asked["/keys"] == 1


async def test_a_flood_of_unknown_key_ids_makes_one_fetch_per_floor(issuer: OutsideIssuer, keys: KeySet) -> None:
    for second in range(91):
        assert await keys.find(f"invented-{second}", NOW + timedelta(seconds=second)) is None
    assert issuer.asked["/keys"] == 4
    assert await keys.find(kid(issuer), NOW + timedelta(seconds=91)) is not None
    assert issuer.asked["/keys"] == 4


async def test_a_new_key_is_picked_up_when_the_floor_has_passed(issuer: OutsideIssuer, keys: KeySet) -> None:
    former = kid(issuer)
    await keys.find(former, NOW)
    issuer.rotate()
    assert await keys.find(kid(issuer), NOW + FLOOR - timedelta(seconds=1)) is None
    assert await keys.find(kid(issuer), NOW + FLOOR) is not None
    assert await keys.find(former, NOW + FLOOR) is None


@pytest.mark.parametrize(
    ("said", "minutes"), [("", 10), ("max-age=3600", 60), ("max-age=0", 1), ("no-store", 1), ("max-age=9999999", 1440)]
)
async def test_a_withdrawn_key_is_gone_when_the_set_is_no_longer_fresh(
    issuer: OutsideIssuer, keys: KeySet, said: str, minutes: int
) -> None:
    former, issuer.headers["Cache-Control"] = kid(issuer), said
    await keys.find(former, NOW)
    issuer.rotate()
    late = NOW + timedelta(minutes=minutes)
    assert await keys.find(former, late - timedelta(seconds=1)) is not None
    assert issuer.asked["/keys"] == 1
    assert await keys.find(former, late) is None


async def test_known_keys_verify_for_a_day_while_the_issuer_is_away(issuer: OutsideIssuer, keys: KeySet) -> None:
    await keys.find(kid(issuer), NOW)
    issuer.answers["/keys"] = answering(lambda: Response(status_code=503))
    assert await keys.find(kid(issuer), NOW + timedelta(hours=1)) is not None
    assert await keys.find(kid(issuer), NOW + timedelta(hours=23.9)) is not None
    assert issuer.asked["/keys"] == 3
    with pytest.raises(Unavailable, match="can't be fetched; try again later"):
        await keys.find(kid(issuer), NOW + timedelta(hours=24))


async def test_a_key_that_may_be_new_is_unavailable_while_the_issuer_is_away(
    issuer: OutsideIssuer, keys: KeySet
) -> None:
    await keys.find(kid(issuer), NOW)
    issuer.answers["/keys"] = answering(lambda: Response(status_code=503))
    with pytest.raises(Unavailable, match="issuer can't be reached"):
        await keys.find("new", NOW + timedelta(hours=1))


async def test_an_issuer_that_was_away_is_asked_again_soon(issuer: OutsideIssuer, keys: KeySet) -> None:
    issuer.answers["/keys"] = answering(lambda: Response(status_code=500))
    for second in (0, 1, 9):
        with pytest.raises(Unavailable):
            await keys.find(kid(issuer), NOW + timedelta(seconds=second))
    assert issuer.asked["/keys"] == 1
    issuer.answers.clear()
    assert await keys.find(kid(issuer), NOW + FLOOR_AFTER_FAULT) is not None


async def test_nobody_waits_behind_who_asks_an_issuer_that_is_away(issuer: OutsideIssuer, keys: KeySet) -> None:
    late = NOW + timedelta(hours=1)
    await keys.find(kid(issuer), NOW)
    issuer.answers["/keys"] = answering(lambda: Response(status_code=500))
    await keys.find(kid(issuer), late)
    issuer.answers["/keys"] = answering(lambda: Response(status_code=500), after_s=0.5)
    asking = asyncio.create_task(keys.find(kid(issuer), late + FLOOR_AFTER_FAULT))
    await asyncio.sleep(0.1)
    started = time.perf_counter()
    assert await keys.find(kid(issuer), late + FLOOR_AFTER_FAULT) is not None
    assert time.perf_counter() - started < 0.2
    assert await asking is not None


async def test_who_goes_away_while_fetching_leaves_the_fetch_to_the_next(issuer: OutsideIssuer, keys: KeySet) -> None:
    issuer.answers["/keys"] = answering(lambda: JSONResponse({"keys": issuer.published}), after_s=0.3)
    first = asyncio.create_task(keys.find(kid(issuer), NOW))
    await asyncio.sleep(0.1)
    first.cancel()
    assert await keys.find(kid(issuer), NOW) is not None
    assert issuer.asked["/keys"] == 2


async def dripping() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b" "
        await asyncio.sleep(0.05)


BAD_ANSWERS: dict[str, Callable[[], Response]] = {
    "an error": lambda: Response(status_code=500),
    "not there": lambda: Response(status_code=404),
    "a redirect": lambda: RedirectResponse("/elsewhere"),
    "nothing": lambda: Response(),
    "a page": lambda: PlainTextResponse("<html>"),
    "invalid UTF-8": lambda: Response(b'{"keys": ["\xff"]}'),
    "a list": lambda: JSONResponse([]),
    "no set": lambda: JSONResponse({"keys": {}}),
    "deeply nested": lambda: Response(b"[" * 200_000),
    "too many keys": lambda: JSONResponse({"keys": [public(new_key())] * 51}),
    "too large": lambda: Response(b" " * (256 * 1024 + 1)),
    "endless": lambda: StreamingResponse(b" " * 65536 for _ in range(10**6)),
    "compressed": lambda: Response(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    "drop by drop": lambda: StreamingResponse(dripping()),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_an_answer_that_is_no_key_set_is_unavailable(
    issuer: OutsideIssuer, keys: KeySet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(key_sets, "FETCH_SECONDS_MAX", 1.0)
    issuer.answers["/keys"] = answering(BAD_ANSWERS[name])
    started = time.perf_counter()
    with pytest.raises(Unavailable, match="can't be fetched"):
        await keys.find(kid(issuer), NOW)
    assert time.perf_counter() - started < 3
    assert issuer.asked == {"/keys": 1}


async def test_an_issuer_that_answers_too_late_is_unavailable(
    issuer: OutsideIssuer, keys: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_sets, "FETCH_SECONDS_MAX", 0.2)
    issuer.answers["/keys"] = answering(lambda: JSONResponse({"keys": issuer.published}), after_s=1)
    with pytest.raises(Unavailable):
        await keys.find(kid(issuer), NOW)


async def test_an_issuer_that_is_not_there_is_unavailable(web: httpx.AsyncClient) -> None:
    with pytest.raises(Unavailable):
        await KeySet(web, "http://127.0.0.1:9").find("any", NOW)
