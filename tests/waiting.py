"""Members who wait, by one call each, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.waitlists import Promoter
from partners import tables
from partners.actors import Actor
from partners.eligibility import decide
from partners.facts import Circumstances
from partners.holds import Held
from partners.promotion import end_departed
from partners.waitlist import Joined, join_waitlist, leave_waitlist
from tests.factories import Club, member_actor

WAITLIST: dict[str, Any] = {"offer_seconds": 3600, "skip": True}


@dataclass
class Queue:
    """The waitlist of one perk; `now` may be moved."""

    club: Club
    perk: tables.Perk
    now: datetime

    @classmethod
    async def at(cls, club: Club, **given: Any) -> "Queue":
        """Of a new perk, with members to be made by `member`."""
        perk = await club.perk(**({"units": 1, "waitlist": WAITLIST} | given))
        return cls(club, perk, club.now)

    @property
    def partner(self) -> tables.Partner:
        return self.club.partners[self.perk.partner_id]

    async def member(self, tier: str | None = "gold") -> tables.Member:
        return await self.club.member(self.partner, tier=tier)

    async def ask(self, member: tables.Member, *, actor: Actor | None = None, **said: Any) -> Joined:
        known = await self.club.known(member, self.perk, now=self.now, said=Circumstances(**said))
        ranks = self.club.programme.ranks
        async with self.club.database.connection() as connection:
            return await join_waitlist(
                connection,
                known,
                decide(known, ranks, self.now),
                actor=actor or member_actor(member),
                ranks=ranks,
                now=self.now,
            )

    async def join(self, member: tables.Member | None = None, *, tier: str | None = "gold", **said: Any) -> UUID:
        """An entry that must be made."""
        joined = await self.ask(member or await self.member(tier), **said)
        assert joined.outcome == "JOINED", joined
        assert joined.entry_id is not None
        return joined.entry_id

    async def leave(self, entry: UUID, actor: Actor) -> str:
        async with self.club.database.connection() as connection:
            return await leave_waitlist(connection, entry, actor, self.now)

    def promoter(self) -> Promoter:
        return Promoter(self.club.database, self.club.programme, self.club.keys, lambda: self.now)

    async def promote(self) -> int:
        """One look; how many offers were made."""
        return (await self.promoter().promote(self.perk.id))[0]

    async def sweep(self) -> int:
        async with self.club.database.connection() as connection:
            return await end_departed(connection, self.now)

    async def fill(self, units: int = 1) -> list[Held]:
        """Holds of others, one unit each."""
        return [await self.club.hold(await self.member(), self.perk, now=self.now) for _ in range(units)]

    async def release(self, *holds: Held) -> None:
        for hold in holds:
            assert await self.club.release(hold, now=self.now) == "RELEASED"

    async def state(self, *entries: UUID) -> list[str]:
        rows = await self.club.sql("SELECT id, state FROM waitlist_entry WHERE id = ANY ($1::uuid[])", list(entries))
        states = {row["id"]: row["state"] for row in rows}
        return [states[entry] for entry in entries]

    async def offered(self, entry: UUID) -> Any:
        """The hold that an entry was offered last."""
        [row] = await self.club.sql("SELECT * FROM hold WHERE entry_id = $1 ORDER BY id DESC LIMIT 1", entry)
        return row

    async def counts(self) -> tuple[int, int, int]:
        """Taken, kept, waiting."""
        [row] = await self.club.sql("SELECT taken, kept, waiting FROM capacity WHERE perk_id = $1", self.perk.id)
        return row["taken"], row["kept"], row["waiting"]

    async def entries(self, action: str) -> Sequence[tuple[str, list[str]]]:
        return await self.club.entries(self.perk, action)
