"""Valid rows by one call each: a test passes only what it is about."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import text

from gateway.database import Database
from partners import catalogue, consents, eligibility, members, tables, tiers
from partners.actors import SYSTEM, Actor, ActorKind
from partners.entries import EntryFilter, search_entries
from partners.facts import NOTHING_SAID, Circumstances
from partners.holds import Claim, Claimed, Held, claim_batch, extend_hold, release_hold
from partners.idempotency import fingerprint
from partners.keys import Keys
from partners.perk_settings import PerkSettings
from partners.programme import Programme
from partners.redemptions import Outcome, Return, confirm_hold, reverse_redemption
from partners.references import MemberRef, PerkRef
from partners.tables import AssignmentCause, PartnerKind, PerkKind, PerkState, Stock

Answer = TypeVar("Answer")


@dataclass
class Club:
    """A programme on a database, with short ways to fill it."""

    database: Database
    programme: Programme
    keys: Keys
    now: datetime
    partners: dict[UUID, tables.Partner] = field(default_factory=dict)
    perks: dict[UUID, tables.Perk] = field(default_factory=dict)

    async def partner(self, **given: Any) -> tables.Partner:
        async with self.database.sessions.begin() as session:
            values = {"handle": f"brand-{uuid4().hex[:12]}", "name": "A brand", "kind": PartnerKind.OTHER}
            made = await catalogue.create_partner(session, **(values | given), actor=SYSTEM, now=self.now)
        self.partners[made.id] = made
        return made

    async def perk(
        self,
        partner: tables.Partner | None = None,
        *,
        handle: str | None = None,
        kind: PerkKind = PerkKind.SAMPLE,
        state: PerkState = PerkState.PUBLISHED,
        rules: Sequence[Mapping[str, Any]] = (),
        **settings: Any,
    ) -> tables.Perk:
        partner = partner or await self.partner()
        whole = PerkSettings(**({"title": "A perk", "time_zone": "UTC"} | settings), rules=rules)
        async with self.database.sessions.begin() as session:
            perk = await catalogue.create_perk(
                session,
                partner,
                handle=handle or f"perk-{uuid4().hex[:12]}",
                kind=kind,
                settings=whole,
                programme=self.programme,
                actor=SYSTEM,
                now=self.now,
            )
            perk_id = perk.id
        if state is not PerkState.DRAFT:
            await self.set_state(perk_id, PerkState.PUBLISHED)
        if state is PerkState.PAUSED:
            await self.set_state(perk_id, PerkState.PAUSED)
        async with self.database.sessions() as session:
            found = await session.get(tables.Perk, perk_id)
        assert found is not None
        self.perks[perk_id] = found
        return found

    async def set_state(self, perk_id: UUID, state: PerkState) -> None:
        async with self.database.sessions.begin() as session:
            offer = await catalogue.lock_offer(session, PerkRef(id=perk_id), SYSTEM)
            await catalogue.set_perk_state(session, offer, state, actor=SYSTEM, now=self.now)

    async def member(
        self, *consenting_to: tables.Partner, tier: str | None = "gold", days: int = 400, market: str | None = "CH"
    ) -> tables.Member:
        joined = self.now - timedelta(days=days)
        async with self.database.sessions.begin() as session:
            member = await members.enrol_member(
                session, external_id=uuid4().hex, market=market, joined_at=joined, actor=SYSTEM, now=self.now
            )
        if tier is not None:
            await self.assign(member, tier, now=joined)
        for partner in consenting_to:
            await self.consent(member, partner)
        return member

    async def assign(
        self, member: tables.Member, tier: str, *, now: datetime | None = None, ends_at: datetime | None = None
    ) -> None:
        async with self.database.sessions.begin() as session:
            await tiers.assign_tier(
                session,
                MemberRef(id=member.id),
                tier,
                programme=self.programme,
                cause=AssignmentCause.STAFF,
                ends_at=ends_at,
                note=None,
                actor=SYSTEM,
                now=now or self.now,
            )

    async def consent(
        self,
        member: tables.Member,
        partner: tables.Partner,
        *,
        expires_at: datetime | None = None,
        scopes: Iterable[str] = consents.SCOPES,
    ) -> str:
        async with self.database.sessions.begin() as session:
            _, alias = await consents.grant_consent(
                session,
                MemberRef(id=member.id),
                partner.id,
                purpose="perks",
                scopes=list(scopes),
                expires_at=expires_at,
                pairwise_key=self.keys.pairwise,
                actor=SYSTEM,
                now=self.now - timedelta(days=1),
            )
        return alias

    async def withdraw(self, member: tables.Member, partner: tables.Partner) -> None:
        async with self.database.sessions.begin() as session:
            await consents.withdraw_consent(session, MemberRef(id=member.id), partner.id, actor=SYSTEM, now=self.now)

    async def known(
        self,
        member: tables.Member,
        perk: tables.Perk,
        *,
        now: datetime | None = None,
        said: Circumstances = NOTHING_SAID,
    ) -> eligibility.Known:
        question = eligibility.Question(MemberRef(id=member.id), PerkRef(id=perk.id), now or self.now, said=said)
        async with self.database.connection() as connection:
            [known] = await eligibility.learn(connection, [question])
        assert known is not None
        return known

    async def decision(
        self, member: tables.Member, perk: tables.Perk, *, now: datetime | None = None
    ) -> eligibility.Decision:
        known = await self.known(member, perk, now=now)
        return eligibility.decide(known, self.programme.ranks, now or self.now)

    async def claim_of(
        self,
        member: tables.Member,
        perk: tables.Perk,
        *,
        key: str | None = None,
        now: datetime | None = None,
        said: Circumstances = NOTHING_SAID,
    ) -> Claim:
        now = now or self.now
        known = await self.known(member, perk, now=now, said=said)
        return Claim(
            actor=member_actor(member),
            key=key or uuid4().hex,
            fingerprint=fingerprint("claimPerk", {"perk": str(perk.id)}),
            now=now,
            known=known,
            decision=eligibility.decide(known, self.programme.ranks, now),
        )

    async def claim(
        self,
        member: tables.Member,
        perk: tables.Perk,
        *,
        key: str | None = None,
        now: datetime | None = None,
        said: Circumstances = NOTHING_SAID,
    ) -> Claimed:
        claim = await self.claim_of(member, perk, key=key, now=now, said=said)
        [claimed] = await self.claim_all([claim])
        return claimed

    async def hold(
        self,
        member: tables.Member,
        perk: tables.Perk,
        *,
        now: datetime | None = None,
        said: Circumstances = NOTHING_SAID,
    ) -> Held:
        """A claim that must succeed."""
        claimed = await self.claim(member, perk, now=now, said=said)
        assert claimed.hold is not None, claimed.outcome
        return claimed.hold

    async def claim_all(self, claims: Sequence[Claim]) -> list[Claimed]:
        async with self.database.connection() as connection:
            return await claim_batch(connection, claims[0].known.perk_id, claims, self.keys.codes, self.programme.ranks)

    def partner_of(self, hold: Held) -> Actor:
        return partner_actor(self.partners[self.perks[hold.perk_id].partner_id])

    async def confirm(
        self,
        hold: Held,
        *,
        code: str | None = None,
        key: str | None = None,
        actor: Actor | None = None,
        now: datetime | None = None,
        units: int | None = None,
        amount: int | None = None,
    ) -> Outcome:
        """By id, or by `code` when there is one."""
        hold_id = hold.id if code is None else None
        async with self.database.connection() as connection:
            return await confirm_hold(
                connection,
                hold_id=hold_id,
                code=code,
                actor=actor or self.partner_of(hold),
                key=key or uuid4().hex,
                fingerprint=fingerprint("confirmHold", {"hold": str(hold_id), "code": code, "parts": [units, amount]}),
                now=now or self.now,
                units=units,
                amount=amount,
            )

    async def release(self, hold: Held, *, actor: Actor | None = None, now: datetime | None = None) -> str:
        async with self.database.connection() as connection:
            return await release_hold(connection, hold.id, actor or self.partner_of(hold), now or self.now)

    async def extend(self, hold: Held, *, actor: Actor | None = None, now: datetime | None = None) -> str:
        async with self.database.connection() as connection:
            return await extend_hold(connection, hold.id, actor or self.partner_of(hold), now or self.now)

    async def redeemed(self, hold: Held, *, now: datetime | None = None) -> UUID:
        confirmed = await self.confirm(hold, now=now)
        assert confirmed.code == "CONFIRMED"
        assert confirmed.id is not None
        return confirmed.id

    async def reverse(
        self,
        redemption: UUID,
        actor: Actor,
        *,
        stock: Stock = Stock.RESTOCK,
        key: str | None = None,
        now: datetime | None = None,
        **parts: Any,
    ) -> Outcome:
        async with self.database.connection() as connection:
            return await reverse_redemption(
                connection,
                redemption,
                Return("spoiled", stock=stock, **parts),
                actor=actor,
                key=key or uuid4().hex,
                fingerprint=fingerprint("reverseRedemption", {"redemption": str(redemption), "stock": stock, **parts}),
                now=now or self.now,
            )

    async def entries(self, perk: tables.Perk, action: str) -> list[tuple[str, list[str]]]:
        """What the audit log says about one action on a perk, oldest first: DONE or REFUSED, and why."""
        wanted = EntryFilter(perk_id=perk.id, actions=[action])
        async with self.database.connection() as connection:
            found = await search_entries(connection, wanted, first=1000, after=None)
        return [(entry.outcome, entry.reasons) for entry in reversed(found.rows)]

    async def sql(self, statement: str, *given: Any) -> list[Any]:
        """Rows of a statement: for what only the database knows, and for states that no function makes yet."""
        async with self.database.connection() as connection:
            return list(await connection.fetch(statement, *given))

    async def at_once(self, row: str, calls: Iterable[Coroutine[Any, Any, Answer]]) -> list[Answer]:
        """Answers of calls that truly meet: a lock on `row` (as `hold WHERE id = …`) holds them up until all wait."""
        async with self.database.sessions() as session:
            await session.execute(text(f"SELECT FROM {row} FOR UPDATE"))
            tasks = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0.2)
            await session.rollback()
        return list(await asyncio.gather(*tasks))

    async def taken(self, perk: tables.Perk) -> int:
        async with self.database.sessions() as session:
            capacity = await session.get(tables.Capacity, perk.id)
        assert capacity is not None
        return capacity.taken


def member_actor(member: tables.Member) -> Actor:
    return Actor(ActorKind.MEMBER, str(member.id), member_id=member.id)


def partner_actor(partner: tables.Partner) -> Actor:
    return Actor(ActorKind.PARTNER, f"client_of_{partner.handle}", partner_id=partner.id)


STAFF = Actor(ActorKind.STAFF, "desk")


def today(now: datetime, days: int = 0) -> date:
    return now.date() + timedelta(days=days)
