"""The laws of a live database: a clean history breaks none, and every seeded fault is found by its name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from asyncpg import UniqueViolationError

from gateway.database import Database, open_database
from partners.holds import expire_overdue, release_hold
from partners.keys import Keys
from partners.laws import CHECKS, Finding, check_laws
from partners.log import sequence
from partners.log_laws import CHECKS as LOG_CHECKS
from partners.log_laws import check_log
from partners.programme import Programme
from partners.redemptions import Return, confirm_hold, reverse_redemption
from partners.tables import Stock
from tests.factories import Club, member_actor, partner_actor

ORIGIN = "perks.example/log"
ALLOWANCE = {"kind": "allowance", "period": "MONTH", "units": {"gold": 8}, "otherwise": 1}


@pytest.fixture(scope="module")
async def history(
    new_database: Callable[[], Awaitable[str]], programme: Programme, keys: Keys, request: pytest.FixtureRequest
) -> AsyncIterator[Club]:
    """A club in which every kind of thing has happened; tests change it only in transactions that they roll back."""
    opened = open_database(await new_database(), connections=4)
    club = Club(opened, programme, keys, request.getfixturevalue("now"))
    perk = await club.perk(units=10, rules=[ALLOWANCE, {"kind": "tier_at_least", "tier": "silver"}])
    partner = club.partners[perk.partner_id]
    gold, silver = await club.member(partner), await club.member(partner, tier="silver")
    for member, taken in ((gold, 7), (silver, 1)):
        await live(club, [(await club.claim(member, perk)).hold for _ in range(taken)], member_actor(member))
    assert (await club.claim(silver, perk)).outcome == "REFUSED"
    free = await club.perk(partner)
    assert (await club.claim(gold, free)).outcome == "HELD"
    # A stricter policy and a lower tier afterwards break nothing of what was claimed before.
    await club.revise(free, rules=[{**ALLOWANCE, "units": {"gold": 1}}])
    assert (await club.claim(gold, free)).outcome == "HELD"
    await club.assign(gold, "silver")
    async with opened.connection() as connection:
        assert await sequence(connection, keys.log, ORIGIN) > 10
    assert (await club.claim(gold, free)).outcome == "REFUSED"  # and its entry waits in the outbox
    yield club
    await opened.engine.dispose()
