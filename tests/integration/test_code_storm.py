"""Codes under everything at once: uploads, withdrawals, claims, confirmations, releases and reversals of one perk."""

import asyncio
import random
from uuid import UUID

from partners.actors import SYSTEM
from partners.holds import Held
from partners.pool_codes import Batch, add_codes, find_pool, withdraw_codes
from partners.references import PerkRef
from partners.tables import PerkKind, Stock
from tests.factories import Club, partner_actor

WORKERS, STEPS, MEMBERS = 12, 30, 40
COUNTED = """
SELECT c.units, c.taken, count(p.hash) AS codes, count(p.redemption_id) AS given,
  count(DISTINCT p.redemption_id) AS redemptions,
  (SELECT count(*) FROM hold WHERE perk_id = $1 AND state = 'HELD') AS held,
  (SELECT count(*) FROM redemption WHERE perk_id = $1) AS redeemed
FROM capacity c LEFT JOIN perk_code p ON p.perk_id = c.perk_id WHERE c.perk_id = $1 GROUP BY c.perk_id
"""


async def test_every_redemption_has_one_code_and_every_hold_one_to_come(club: Club) -> None:
    perk = await club.perk(kind=PerkKind.CODE, rules=[])
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner) for _ in range(MEMBERS)]
    outcomes: list[str] = []

    async def add(dice: random.Random) -> None:
        async with club.database.connection() as connection:
            batch = Batch(await find_pool(connection, PerkRef(id=perk.id), SYSTEM), club.keys.sealing)
            await batch.take([(line, f"CODE-{dice.randrange(400):03}") for line in range(1, 9)])
            async with connection.transaction():
                await add_codes(connection, batch, SYSTEM, club.now)

    async def withdraw(dice: random.Random) -> None:
        codes = None if dice.random() < 0.3 else [f"CODE-{dice.randrange(400):03}" for _ in range(20)]
        async with club.database.connection() as connection:
            pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
            await withdraw_codes(connection, pool, codes, club.keys.sealing, SYSTEM, club.now)

    async def work(seed: int) -> None:
        dice, held, redeemed = random.Random(seed), list[Held](), list[UUID]()
        for _ in range(STEPS):
            step = dice.random()
            if step < 0.2:
                await add(dice)
            elif step < 0.3:
                await withdraw(dice)
            elif step < 0.6:
                claimed = await club.claim(dice.choice(members), perk)
                if claimed.outcome == "HELD" and claimed.hold is not None:
                    held.append(claimed.hold)
            elif step < 0.8 and held:
                confirmed = await club.confirm(held.pop())
                outcomes.append(confirmed.code)
                redeemed += [] if confirmed.id is None else [confirmed.id]
            elif step < 0.9 and held:
                outcomes.append(await club.release(held.pop()))
            elif redeemed:
                outcomes.append((await club.reverse(redeemed.pop(), partner_actor(partner), stock=Stock.BURN)).code)

    await asyncio.gather(*(work(seed) for seed in range(WORKERS)))
    assert set(outcomes) == {"CONFIRMED", "RELEASED", "REVERSED"}
    [row] = await club.sql(COUNTED, perk.id)
    assert row["units"] == row["codes"]
    assert row["given"] == row["redemptions"] == row["redeemed"] == row["taken"] - row["held"]
    assert row["codes"] - row["given"] >= row["held"]
