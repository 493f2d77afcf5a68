"""Redemptions that wait to be fulfilled, and short ways to take them further."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.database import Database
from partners import check_ins, deliveries, fulfilments, tables
from partners.actors import Actor
from partners.addresses import Address
from partners.codes import hold_code
from partners.deliveries import Delivery
from partners.facts import Circumstances
from partners.fulfilments import Update
from partners.idempotency import fingerprint
from partners.redemptions import Outcome
from partners.references import Asker
from partners.tables import FulfilmentMethod, PerkKind
from tests.factories import Club, member_actor, partner_actor

SETTINGS = {"shipping": True, "pickup_locations": [{"handle": "old-town", "name": "Old Town 7"}]}
HOME = Address("Rosa Example", ("Unter den Weiden 77", "c/o Holm"), "8001", "Zürich", "CH", "ZH", "+41 44 555 01 23")
PICKUP = Delivery(FulfilmentMethod.PICKUP, location="old-town")
SHIPPING = Delivery(FulfilmentMethod.SHIPPING, address=HOME)


@dataclass(frozen=True)
class Redeemed:
    """One redemption with everybody it is about."""

    club: Club
    id: UUID
    hold_id: UUID
    perk: tables.Perk
    member: tables.Member
    alias: str

    @property
    def partner(self) -> tables.Partner:
        return self.club.partners[self.perk.partner_id]

    @property
    def partner_actor(self) -> Actor:
        return partner_actor(self.partner)

    @property
    def member_actor(self) -> Actor:
        return member_actor(self.member)

    @property
    def code(self) -> str:
        return hold_code(self.club.keys.codes, self.hold_id)

    async def choose(self, delivery: Delivery, *, actor: Actor | None = None, now: datetime | None = None) -> Outcome:
        async with self.club.database.sessions.begin() as session:
            return await deliveries.choose_delivery(
                session,
                self.id,
                delivery,
                key=self.club.keys.sealing,
                actor=actor or self.member_actor,
                now=now or self.club.now,
            )

    async def update(self, state: str, *, actor: Actor | None = None, now: datetime | None = None, **more: Any) -> str:
        async with self.club.database.sessions.begin() as session:
            update = Update(tables.FulfilmentState(state), **more)
            outcome = await fulfilments.update_fulfilment(
                session, self.id, update, actor=actor or self.partner_actor, now=now or self.club.now
            )
        return outcome.code

    async def check_in(
        self,
        units: int | None = None,
        *,
        by_id: bool = False,
        code: str | None = None,
        key: str | None = None,
        actor: Actor | None = None,
        now: datetime | None = None,
    ) -> str:
        async with self.club.database.sessions.begin() as session:
            outcome = await check_ins.check_in(
                session,
                id=self.id if by_id else None,
                code=None if by_id else code or self.code,
                units=units,
                key=key or uuid4().hex,
                fingerprint=fingerprint("checkIn", {"redemption": str(self.id), "units": units}),
                actor=actor or self.partner_actor,
                now=now or self.club.now,
            )
        return outcome.code

    async def shown(
        self, *, to_partner: bool = False, to_member: bool = False, now: datetime | None = None
    ) -> deliveries.Shown:
        async with self.club.database.reading() as session:
            return await self.shown_by(session, to_partner=to_partner, to_member=to_member, now=now)

    async def shown_by(
        self, session: AsyncSession, *, to_partner: bool = False, to_member: bool = False, now: datetime | None = None
    ) -> deliveries.Shown:
        found = await deliveries.show_fulfilments(
            session,
            [self.id],
            with_address=True,
            asker=Asker(self.partner.id, "member.address:read", "till") if to_partner else None,
            member_id=self.member.id if to_member else None,
            key=self.club.keys.sealing,
            now=now or self.club.now,
        )
        return found[self.id]

    async def row(self) -> dict[str, Any]:
        [found] = await self.club.sql(
            "SELECT r.fulfilment AS state, f.* FROM redemption r LEFT JOIN fulfilment f ON f.redemption_id = r.id"
            " WHERE r.id = $1",
            self.id,
        )
        return dict(found)

    async def disclosures(self) -> list[str]:
        rows = await self.club.sql("SELECT kind FROM disclosure WHERE member_id = $1 ORDER BY id", self.member.id)
        return [row["kind"] for row in rows]


async def redeemed(
    club: Club, perk: tables.Perk, *, member: tables.Member | None = None, units: int = 1, option: str | None = None
) -> Redeemed:
    """A confirmed claim of a member who lets the partner do everything; a place was claimed the day before."""
    member = member or await club.member()
    alias = await club.consent(member, club.partners[perk.partner_id])
    then = club.now if option is None else club.now - timedelta(days=1)
    hold = await club.hold(member, perk, said=Circumstances(units=units, option=option), now=then)
    return Redeemed(club, await club.redeemed(hold, now=then), hold.id, perk, member, alias)


async def a_sample(club: Club, units: int = 1) -> Redeemed:
    """A sample that is picked up or sent."""
    perk = await club.perk(units=50, units_max=10, settings=SETTINGS)
    return await redeemed(club, perk, units=units)


async def an_event(
    club: Club,
    partner: tables.Partner | None = None,
    *,
    begins: timedelta = timedelta(0),
    lasts: timedelta | None = timedelta(hours=3),
) -> tables.Perk:
    """An event of one session, `tonight`, which begins so long after the tests' moment."""
    starts = (club.now + begins).replace(microsecond=0)
    times: dict[str, Any] = {"starts_at": starts.replace(tzinfo=None).isoformat()}
    if lasts is not None:
        times["ends_at"] = (starts + lasts).replace(tzinfo=None).isoformat()
    session = {"handle": "tonight", "title": "Tonight", "places": 100} | times
    return await club.perk(partner, kind=PerkKind.EVENT, units_max=10, settings={"sessions": [session]})


async def a_party(club: Club, units: int = 1, **session: Any) -> Redeemed:
    """A party that has its places, and stands before the door at the tests' moment."""
    return await redeemed(club, await an_event(club, **session), units=units, option="tonight")


class Statements(list[str]):
    """The statements that run inside of it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._engine = database.engine.sync_engine

    def _note(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.append(statement)

    def __enter__(self) -> "Statements":
        sa.event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, "before_cursor_execute", self._note)
