"""Budgets on the real cache: a flood is stopped, and it stops nobody else."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from auth.attempts import address_of
from auth.errors import Throttled
from gateway import embedded
from gateway.app import open_cache
from gateway.rate_limits import CLIENT, CLIENT_ADDRESS, HOLD_CODES, SIGN_IN, TRUSTED_SECONDS, USER_CODE, RateLimits
from partners.errors import Unavailable


@pytest.fixture
async def cache(servers: embedded.Servers) -> AsyncIterator[Redis]:
    async with open_cache(str(servers.redis_url)) as opened:
        yield opened


@pytest.fixture
def limits(cache: Redis) -> RateLimits:
    return RateLimits(cache)


@pytest.fixture
def address() -> str:
    """A source of the test's own."""
    return f"test-{uuid4().hex}"


async def flood(limits: RateLimits, client_id: str, address: str, attempts: int) -> int:
    """Wrong attempts, all at once; how many of them were let through."""
    ended = await asyncio.gather(*(limits.client(client_id, address) for _ in range(attempts)), return_exceptions=True)
    return sum(not isinstance(one, Throttled) for one in ended)


async def test_many_wrong_secrets_at_once_are_let_through_up_to_the_budget_and_no_more(
    limits: RateLimits, address: str
) -> None:
    assert await flood(limits, "client_x", address, CLIENT.attempts + 50) == CLIENT.attempts
    with pytest.raises(Throttled) as refused:
        await limits.client("client_x", address)
    assert 0 < refused.value.details["retryAfter"] <= CLIENT.seconds


async def test_a_flood_from_elsewhere_does_not_reach_the_client(limits: RateLimits, address: str) -> None:
    await flood(limits, "client_x", address, CLIENT.attempts + 1)
    attempt = await limits.client("client_x", "another " + address)
    await attempt.succeeded()
    assert await flood(limits, "client_x", address, 1) == 0


async def test_who_was_right_within_a_day_is_let_through_whatever_floods_its_name_and_address(
    limits: RateLimits, address: str
) -> None:
    await (await limits.client("client_x", address)).succeeded()
    assert await flood(limits, "client_x", address, CLIENT.attempts * 2) == CLIENT.attempts * 2
    for n in range(10):
        await flood(limits, f"client_{n}", address, CLIENT.attempts)
    assert await flood(limits, "client_new", address, 1) == 0
    assert await flood(limits, "client_x", address, 1) == 1


async def test_one_broken_client_leaves_its_neighbours_the_rest_of_the_address(
    limits: RateLimits, address: str
) -> None:
    for _ in range(CLIENT_ADDRESS.attempts // CLIENT.attempts + 1):
        await flood(limits, "client_broken", address, CLIENT.attempts)
    assert await flood(limits, "client_new", address, 1) == 1


async def test_an_attempt_that_was_right_or_neither_does_not_count(
    limits: RateLimits, cache: Redis, address: str
) -> None:
    for _ in range(CLIENT.attempts + 10):
        await (await limits.client("client_x", address)).give_back()
    key = CLIENT.key_of("client_x", address)
    assert await cache.get(key) == b"0"
    assert not await cache.exists(f"{key}:trusted")
    await (await limits.client("client_x", address)).succeeded()
    assert await cache.get(key) == b"0"
    assert await cache.ttl(f"{key}:trusted") > TRUSTED_SECONDS - 60


async def test_trust_is_renewed_before_it_ends_and_only_by_being_right(
    limits: RateLimits, cache: Redis, address: str
) -> None:
    trusted = f"{CLIENT.key_of('client_x', address)}:trusted"
    await cache.set(trusted, "1", ex=100)
    await (await limits.client("client_x", address)).give_back()
    assert await cache.ttl(trusted) <= 100
    await (await limits.client("client_x", address)).succeeded()
    assert await cache.ttl(trusted) > TRUSTED_SECONDS - 60


async def test_giving_back_after_the_time_was_over_leaves_no_counter_that_never_ends(
    limits: RateLimits, cache: Redis, address: str
) -> None:
    attempt = await limits.client("client_x", address)
    key = CLIENT.key_of("client_x", address)
    assert 0 < await cache.ttl(key) <= CLIENT.seconds
    await cache.delete(key)
    await attempt.succeeded()
    assert not await cache.exists(key)


async def test_user_codes_are_counted_by_person_even_after_a_right_one(limits: RateLimits, address: str) -> None:
    await (await limits.user_code("anna", address)).succeeded()
    for _ in range(USER_CODE.attempts):
        await limits.user_code("anna", address)
    with pytest.raises(Throttled):
        await limits.user_code("anna", "another " + address)
    await limits.user_code("bert", address)


async def test_starts_of_a_sign_in_are_counted_by_address(limits: RateLimits, address: str) -> None:
    for _ in range(SIGN_IN.attempts):
        await limits.sign_in(address)
    with pytest.raises(Throttled):
        await limits.sign_in(address)
    await limits.sign_in("another " + address)


async def test_hold_codes_are_counted_by_client(limits: RateLimits, address: str) -> None:
    for _ in range(HOLD_CODES.attempts * 2):
        await limits.hold_code(address)
        await limits.right_hold_code(address)
    for _ in range(HOLD_CODES.attempts):
        await limits.hold_code(address)
    with pytest.raises(Throttled):
        await limits.hold_code(address)


async def test_a_decision_is_one_command(limits: RateLimits, cache: Redis, address: str) -> None:
    await (await limits.client("client_y", address)).succeeded()  # the scripts are loaded now
    async with cache.monitor() as seen:
        await (await limits.client("client_x", address)).succeeded()
        await limits.client("client_x", address)
        commands = list[str]()
        while len(commands) < 3:
            command = await seen.next_command()
            if command["client_type"] != "lua" and CLIENT.key_of("client_x", address) in command["command"]:
                commands.append(command["command"].split()[0])
    assert commands == ["EVALSHA"] * 3


async def test_without_a_cache_only_short_codes_are_refused(address: str) -> None:
    async with open_cache("redis://127.0.0.1:1/0") as nowhere:
        limits = RateLimits(nowhere)
        await (await limits.client("client_x", address)).succeeded()
        await (await limits.sign_in(address)).give_back()
        await limits.hold_code("client_x")
        await limits.right_hold_code("client_x")
        with pytest.raises(Unavailable):
            await limits.user_code("anna", address)


@pytest.mark.parametrize(
    ("client", "source"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 1), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("", 0), "local"),
        (None, "local"),
    ],
)
def test_a_source_is_an_address_or_a_network_of_ipv6(client: tuple[str, int] | None, source: str) -> None:
    assert address_of({"type": "http", "client": client}) == source
