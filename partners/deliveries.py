"""How a sample reaches its member: picked up, or sent to an address that the partner reads only to send it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.actors import Actor, ActorKind
from partners.addresses import Address, checked_address, open_address, seal_address
from partners.errors import BadInput
from partners.fulfilments import PENDING, Promise, keep, lock_promise, refuse
from partners.members import lock_member
from partners.redemptions import Outcome
from partners.references import Asker, MemberRef
from partners.tables import FulfilmentMethod, PerkKind
from partners.tables.columns import new_id

ADDRESS_KEPT = timedelta(days=30)
ERASED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """PICKUP at one of the perk's locations, or SHIPPING to an address."""

    method: FulfilmentMethod
    location: str | None = None
    address: Address | None = None


async def choose_delivery(
    session: AsyncSession, redemption_id: UUID, delivery: Delivery, *, key: bytes, actor: Actor, now: datetime
) -> Outcome:
    """How the member wants it, said by the member, or by the partner for a member at its counter: CHOSEN.

    Choosing again replaces what was chosen, as long as the partner has not begun. `key` seals the address.

    Refusals: NOT_AVAILABLE (unknown, another's), ALREADY_REVERSED (all of it), WRONG_STATE (no sample, or no longer
    PENDING), CONSENT_MISSING (a partner acts only for a member that lets it). BadInput names every fault.
    """
    address = None if delivery.address is None else checked_address(delivery.address)
    if (delivery.method is FulfilmentMethod.SHIPPING) != (address is not None):
        raise BadInput("address: for SHIPPING, and only for that")
    if (delivery.method is FulfilmentMethod.PICKUP) != (delivery.location is not None):
        raise BadInput("location: for PICKUP, and only for that")
    promise = await lock_promise(session, actor, now, id=redemption_id)
    refusal = "NOT_AVAILABLE" if promise is None else await refused_to_choose(session, promise, actor, now)
    if promise is None or refusal is not None:
        return await refuse(session, "delivery.chosen", promise, refusal or "NOT_AVAILABLE", actor, now)
    check_offered(promise.perk, delivery)
    if actor.kind is not ActorKind.PARTNER:
        # Of who is erased nothing is written. A partner has the consent locked by now, which comes after members.
        await lock_member(session, MemberRef(id=promise.redemption.member_id))
    known = promise.fulfilment
    known.method, known.location = delivery.method.value, delivery.location
    known.address = None if address is None else seal_address(key, redemption_id, address)
    known.address_until = None if address is None else now + ADDRESS_KEPT
    await keep(session, promise, "delivery.chosen", delivery.method.value, actor, now)
    return Outcome("CHOSEN", redemption_id)


async def refused_to_choose(session: AsyncSession, promise: Promise, actor: Actor, now: datetime) -> str | None:
    """Why nothing can be chosen now; None when it can."""
    if promise.units_left == 0:
        return "ALREADY_REVERSED"
    if promise.perk.kind != PerkKind.SAMPLE or promise.state is not PENDING:
        return "WRONG_STATE"
    if actor.kind is not ActorKind.PARTNER:
        return None
    consent = tables.Consent
    # Locked, so that a withdrawal is either before this or waits for it.
    live = select(consent.id).where(
        consent.member_id == promise.redemption.member_id,
        consent.partner_id == actor.partner_id,
        tables.IS_GRANTED,
        sa.or_(col(consent.expires_at).is_(None), col(consent.expires_at) > now),
        sa.literal("redemptions:write") == sa.any_(col(consent.scopes)),
    )
    return None if await session.scalar(live.with_for_update(read=True)) is not None else "CONSENT_MISSING"


def check_offered(perk: tables.Perk, delivery: Delivery) -> None:
    """BadInput for a way that the perk's settings don't offer (partners/kinds/sample.py)."""
    if delivery.method is FulfilmentMethod.SHIPPING:
        if not perk.settings.get("shipping"):
            raise BadInput("method: this perk is not sent to anybody")
    elif delivery.location not in {one["handle"] for one in perk.settings.get("pickup_locations", ())}:
        raise BadInput("location: the handle of one of the perk's pick-up locations")


@dataclass(frozen=True, slots=True)
class Shown:
    """A fulfilment as one caller may see it."""

    method: str | None
    location: str | None
    scheduled_at: datetime | None
    carrier: str | None
    tracking: str | None
    checked_in: int
    fulfilled_at: datetime | None
    reason: str | None
    address: Address | None


COLUMNS = """f.redemption_id, f.method, f.location, f.scheduled_at, f.carrier, f.tracking, f.checked_in,
    f.fulfilled_at, f.reason"""
WITHOUT_ADDRESS = sa.text(f"SELECT {COLUMNS}, NULL AS address FROM fulfilment f WHERE f.redemption_id = ANY (:ids)")  # noqa: S608
OWN = sa.text(
    f"""SELECT {COLUMNS}, CASE WHEN f.address_until > :now AND r.member_id = :member THEN f.address END AS address
FROM fulfilment f JOIN redemption r ON r.id = f.redemption_id WHERE f.redemption_id = ANY (:ids)"""  # noqa: S608
)
# What a partner is told is kept by the statement that finds it (docs/decisions/0008-disclosures.md).
TOLD = sa.text(
    f"""
WITH answer AS MATERIALIZED (
  SELECT {COLUMNS}, r.member_id, r.perk_id, CASE WHEN f.method = 'SHIPPING' AND f.address_until > :now
      AND r.partner_id = :partner AND r.fulfilment IN ('PENDING', 'SCHEDULED') AND r.reversed_units < r.units
      AND EXISTS (SELECT FROM consent c WHERE c.member_id = r.member_id AND c.partner_id = r.partner_id
        AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > :now) AND :scope = ANY (c.scopes))
    THEN f.address END AS address
  FROM fulfilment f JOIN redemption r ON r.id = f.redemption_id WHERE f.redemption_id = ANY (:ids)
), told AS (
  INSERT INTO disclosure (member_id, id, at, partner_id, client_id, kind, perk_id)
  SELECT member_id, (CAST(:fresh AS uuid[]))[row_number() OVER ()], :now, :partner, :client, 'ADDRESS', perk_id
  FROM answer WHERE address IS NOT NULL
)
SELECT * FROM answer"""  # noqa: S608  constants alone
)


async def show_fulfilments(
    session: AsyncSession,
    ids: Collection[UUID],
    *,
    with_address: bool,
    asker: Asker | None,
    member_id: UUID | None,
    key: bytes,
    now: datetime,
) -> dict[UUID, Shown]:
    """What is known of the fulfilment of these redemptions, which are within the caller's reach, by one statement.

    Addresses only when asked for: a member reads its own, a partner as `asker` those that it has to send something to
    and whose members let it, each kept as a disclosure; nobody else any. `key` opens them.
    """
    about: dict[str, Any] = {"ids": list(ids)}
    if with_address and asker is not None:
        fresh = [new_id() for _ in ids]
        about |= {"partner": asker.partner_id, "scope": asker.scope, "client": asker.client_id, "fresh": fresh}
        rows = await session.execute(TOLD, about | {"now": now})
    elif with_address and member_id is not None:
        rows = await session.execute(OWN, about | {"member": member_id, "now": now})
    else:
        rows = await session.execute(WITHOUT_ADDRESS, about)
    return {row.redemption_id: shown(row, key) for row in rows}


def shown(row: Any, key: bytes) -> Shown:
    """One row of any of them."""
    names = [name for name in Shown.__slots__ if name != "address"]
    address = None if row.address is None else open_address(key, row.redemption_id, row.address)
    return Shown(**{name: getattr(row, name) for name in names}, address=address)


ERASE = f"""UPDATE fulfilment SET address = NULL, address_until = NULL WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM fulfilment WHERE address_until <= $1 ORDER BY address_until LIMIT {ERASED_MAX}
  FOR UPDATE SKIP LOCKED))"""  # noqa: S608  constants alone


async def erase_addresses(connection: "Connection[Any]", now: datetime) -> int:
    """Erases up to 1,000 addresses that were kept for as long as they may be; how many."""
    return int((await connection.execute(ERASE, now)).removeprefix("UPDATE "))
