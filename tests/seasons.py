"""Three months of one partner's business, by chance, for what counts it: statements, and the report of the log."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from gateway.auditing.figures import Figures, Window
from partners import tables
from partners.facts import Circumstances
from partners.holds import Held
from partners.statements import Statement, make_statement
from partners.tables import Bearer, Stock
from tests.factories import STAFF, Club
from tests.fulfilling import Redeemed

CURRENCIES = {"wine": "CHF", "spa": "EUR", "talk": None}


@dataclass
class Season:
    """A partner with three perks, each in a currency of its own or in none."""

    club: Club
    partner: tables.Partner
    perks: dict[str, tables.Perk]
    redeemed: list[tuple[UUID, datetime]] = field(default_factory=list)

    @classmethod
    async def opened(cls, club: Club, since: datetime) -> "Season":
        partner = await club.partner()
        await club.sql("UPDATE partner SET created_at = $1 WHERE id = $2", since, partner.id)
        perks = {
            name: await club.perk(partner, handle=name, units_max=9, currency=currency, hold_seconds=3_600)
            for name, currency in CURRENCIES.items()
        }
        return cls(club, partner, perks)

    async def claim(self, name: str, at: datetime, *, units: int = 1, amount: int = 0, tier: str = "gold") -> Held:
        member = await self.club.member(self.partner, tier=tier)
        amount = amount if CURRENCIES[name] else 0
        said = Circumstances(units=units, amount=amount)
        return await self.club.hold(member, self.perks[name], now=at, said=said)

    async def redeem(self, name: str, at: datetime, *, units: int = 1, amount: int = 0) -> UUID:
        return await self.club.redeemed(await self.claim(name, at, units=units, amount=amount), now=at)

    async def reverse(self, id: UUID, at: datetime, borne_by: Bearer = Bearer.PARTNER, **parts: Any) -> str:
        outcome = await self.club.reverse(id, STAFF, now=at, borne_by=borne_by, **parts)
        return outcome.code

    async def play(self, chance: Random, since: datetime, days: int, steps: int) -> None:
        """Steps at rising times: most claims are confirmed, whole or in part, and some of it is taken back."""
        for at in sorted(since + timedelta(seconds=chance.randrange(days * 86_400)) for _ in range(steps)):
            what = chance.choices(["claim", "reverse", "fulfil"], [10, 4, 3])[0]
            if what == "claim" or not self.redeemed:
                name, units = chance.choice(list(self.perks)), chance.randint(1, 4)
                tier, amount = chance.choice(["silver", "gold", "black"]), chance.randint(0, 50_000)
                hold = await self.claim(name, at, units=units, amount=amount, tier=tier)
                await self.end(hold, at + timedelta(seconds=chance.randrange(3_700)), chance)
            else:
                await self.go_on(what, at, chance)

    async def end(self, hold: Held, at: datetime, chance: Random) -> None:
        """Confirmed now and then too late, released, or left to expire."""
        what = chance.choices(["confirm", "release", "leave"], [8, 1, 1])[0]
        if what == "release":
            await self.club.release(hold, now=at)
        elif what == "confirm":
            units, amount = chance.randint(1, hold.units), chance.randint(0, hold.amount)
            done = await self.club.confirm(hold, now=at, units=units, amount=amount)
            if done.id is not None:
                self.redeemed.append((done.id, at))

    async def go_on(self, what: str, at: datetime, chance: Random) -> None:
        id, since = chance.choice(self.redeemed)
        at = max(at, since)
        if what == "reverse":
            parts = chance.choice([{}, {"units": 1}, {"amount": 1}])
            await self.reverse(id, at, chance.choice(list(Bearer)), stock=chance.choice(list(Stock)), **parts)
            return
        [row] = await self.club.sql("SELECT * FROM redemption WHERE id = $1", id)
        perk = self.club.perks[row["perk_id"]]
        member = tables.Member(id=row["member_id"], external_id="", joined_at=at, audit_salt=b"")
        await Redeemed(self.club, id, row["hold_id"], perk, member, "").update("FULFILLED", now=at)

    async def statement(self, month: str, now: datetime) -> Statement:
        async with self.club.database.connection() as connection:
            return await make_statement(connection, STAFF, month, now, id=self.partner.id)

    async def leaves(self) -> list[bytes]:
        """What the log will hold of the partner, in the order it was written."""
        rows = await self.club.sql("SELECT leaf FROM audit_entry WHERE partner_id = $1 ORDER BY id", self.partner.id)
        return [row["leaf"].encode() for row in rows]

    async def figures(self, window: Window) -> Figures:
        figures = Figures(window)
        for index, leaf in enumerate(await self.leaves()):
            figures.take(index, leaf)
        return figures
