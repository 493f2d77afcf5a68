"""The memory of what was used once: one winner among many, and no answer at all when it can't be asked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from auth.replays import use_once
from gateway import embedded
from partners.errors import Unavailable

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def cache(servers: embedded.Servers) -> AsyncIterator[Redis]:
    assert servers.redis_url is not None
    opened = Redis.from_url(servers.redis_url)
    yield opened
    await opened.aclose()


async def test_of_fifty_uses_at_once_one_is_the_first(cache: Redis) -> None:
    key = uuid4().hex
    answers = await asyncio.gather(*(use_once(cache, "proof", key, MINUTE) for _ in range(50)))
    assert answers.count(True) == 1
    assert await use_once(cache, "proof", key, MINUTE) is False


async def test_kinds_and_keys_are_apart(cache: Redis) -> None:
    key = uuid4().hex
    assert await use_once(cache, "proof", key, MINUTE)
    assert await use_once(cache, "assertion", key, MINUTE)
    assert await use_once(cache, "proof", key + " ", MINUTE)
    assert await use_once(cache, "proof", key + "\ud800", MINUTE)


async def test_a_use_is_forgotten_after_its_lifetime(cache: Redis) -> None:
    key, lifetime = uuid4().hex, timedelta(milliseconds=50)
    assert await use_once(cache, "proof", key, lifetime)
    assert not await use_once(cache, "proof", key, lifetime)
    await asyncio.sleep(0.1)
    assert await use_once(cache, "proof", key, lifetime)


async def test_the_memory_holds_hashes_and_no_keys(cache: Redis) -> None:
    key = f"client_a {uuid4().hex}"
    await use_once(cache, "proof", key, MINUTE)
    assert [name async for name in cache.scan_iter(f"*{key}*")] == []


async def test_without_the_memory_nothing_counts_as_the_first_use() -> None:
    async with Redis(host="127.0.0.1", port=1, socket_connect_timeout=1) as gone:
        with pytest.raises(Unavailable, match="used once can't be reached"):
            await use_once(gone, "proof", "key", MINUTE)
