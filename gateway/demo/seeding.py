"""Puts the demo's club into a database, by the functions that imports use: what is there already stays."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, func, select

from gateway.app import Service
from gateway.demo.club import PARTNERS, PERKS, TIERS, PerkEntry, members
from partners import catalogue, tables
from partners.actors import SYSTEM, Actor, ActorKind
from partners.eligibility import Known, Question, decide, learn
from partners.errors import Conflict
from partners.holds import Claim, claim_batch
from partners.idempotency import fingerprint
from partners.import_rows import MemberRow
from partners.imports import Import, import_members
from partners.perk_imports import import_perk
from partners.pool_codes import Batch, add_codes, find_pool
from partners.redemptions import confirm_hold
from partners.references import MemberRef, PerkRef
from partners.tables.columns import UUID, new_id

CANDIDATES_MAX = 60


class NotTheDemo(Conflict):
    """The database or the programme is somebody's own, and the demo keeps its hands off."""


async def seed(service: Service) -> None:
    """The three partners, their perks as of today, the members who are missing, and the first redemptions.

    NotTheDemo where another club lives, or the programme has other tiers.
    """
    if missing := set(TIERS) - service.programme.ranks.keys():
        raise NotTheDemo(f"the demo needs the programme that ships: yours has no {', '.join(sorted(missing))}")
    now, programme = service.clock(), service.programme
    people = members(now.date(), programme.time_zone)
    async with service.database.connection() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('perks.demo'))")
        async with service.database.sessions.begin() as session:
            partners = await keep_partners(session, now)
            for entry in PERKS:
                await import_perk(session, entry.row(now.date()), programme=programme, actor=SYSTEM, now=now)
        brought = Import(programme, SYSTEM, partners, service.keys.pairwise, "to be treated well")
        await import_members(connection, await new_among(connection, people), brought, now)
        for entry in PERKS:
            await keep_codes(connection, entry, service.keys.sealing, now)
    for entry in PERKS:
        if entry.uses:
            await keep_uses(service, entry, people, now)


async def keep_partners(session: AsyncSession, now: datetime) -> dict[str, UUID]:
    """The ids of the three brands by handle."""
    handles = [entry.handle for entry in PARTNERS]
    stored = await session.scalars(select(tables.Partner).where(col(tables.Partner.handle).in_(handles)))
    found = {partner.handle: partner.id for partner in stored}
    if not found and await session.scalar(select(func.count()).select_from(tables.Member)):
        raise NotTheDemo("this database holds another club: the demo needs one of its own")
    for entry in PARTNERS:
        if entry.handle not in found:
            made = await catalogue.create_partner(
                session, handle=entry.handle, name=entry.name, kind=entry.kind, actor=SYSTEM, now=now
            )
            found[entry.handle] = made.id
    return found


async def keep_codes(connection: "Connection[Any]", entry: PerkEntry, key: bytes, now: datetime) -> None:
    """The codes of a perk's pool, the same ones every time."""
    if entry.codes:
        batch = Batch(await find_pool(connection, PerkRef(handle=entry.handle), SYSTEM), key)
        await batch.take([(number, f"DEMO-{number:06}") for number in range(1, entry.codes + 1)])
        await add_codes(connection, batch, SYSTEM, now)


async def new_among(connection: "Connection[Any]", people: Sequence[MemberRow]) -> list[MemberRow]:
    """Those who are not enrolled yet: what became of the others is theirs."""
    rows = await connection.fetch(
        "SELECT external_id FROM member WHERE external_id = ANY ($1)", [one.external_id for one in people]
    )
    stored = {row["external_id"] for row in rows}
    return [one for one in people if one.external_id not in stored]


async def keep_uses(service: Service, entry: PerkEntry, people: Sequence[MemberRow], now: datetime) -> None:
    """Redemptions by members who may: claimed by themselves, confirmed by the partner, as anybody's are."""
    async with service.database.connection() as connection:
        taken = await connection.fetchval(
            "SELECT c.taken FROM capacity c JOIN perk p ON p.id = c.perk_id WHERE p.handle = $1", entry.handle
        )
        if taken >= entry.uses:
            return
        ranks, perk = service.programme.ranks, PerkRef(handle=entry.handle)
        likely = [one for one in reversed(people) if entry.partner in one.consents]
        likely.sort(key=lambda one: ranks.get(one.tier or "", 0), reverse=True)
        asked = [Question(MemberRef(external_id=one.external_id), perk, now) for one in likely[:CANDIDATES_MAX]]
        claims = [
            Claim(member_of(known), f"demo-{new_id()}", fingerprint("demo", {}), now, known, decision)
            for known in await learn(connection, asked)
            if known is not None and (decision := decide(known, ranks, now)).eligible
        ][: entry.uses - taken]
        claimed = (
            await claim_batch(connection, claims[0].known.perk_id, claims, service.keys.codes, ranks) if claims else []
        )
        for hold in (one.hold for one in claimed if one.hold is not None):
            await confirm_hold(
                connection,
                hold_id=hold.id,
                code=None,
                actor=Actor(ActorKind.PARTNER, "demo", partner_id=claims[0].known.partner_id),
                key=f"demo-{hold.id}",
                fingerprint=fingerprint("demo", {}),
                now=now,
            )


def member_of(known: Known) -> Actor:
    """The member that a claim is by and for."""
    return Actor(ActorKind.MEMBER, str(known.member_id), member_id=known.member_id)
