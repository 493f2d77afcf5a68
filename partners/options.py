"""How many there are of what: a perk's units, its options and its pools, brought to what its settings say.

Everything here runs under the perk's lock, its `capacity` row. What is taken stays taken: nothing falls below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.errors import Conflict
from partners.kinds import OptionPlan, PoolPlan
from partners.perk_settings import Terms
from partners.tables import WaitlistState

Stock = tables.Capacity | tables.Pool
SPARE = ""


@dataclass(slots=True)
class Fitting:
    """One change of how many there are: whether people wait, whether it may stop claims, and what does not fit."""

    waiting: bool
    stop_claims: bool
    short: list[dict[str, Any]] = field(default_factory=list)

    def fit(self, path: str, stock: Stock, units: int | None) -> None:
        """Makes it so many units (None: no limit).

        Fewer than are taken and kept is noted as short; or, where claims are to stop, they shrink to it as units
        come back. What is more is kept for those who wait, while anybody does.
        """
        bound = stock.taken + stock.kept
        if units == wished(stock):
            return
        if units is not None and units < bound:
            if not self.stop_claims:
                self.short.append({"path": path, "wanted": units, "taken": stock.taken, "kept": stock.kept})
                return
            stock.units, stock.shrink_to = bound, units
            return
        if units is None:
            stock.kept = 0
        elif self.waiting and stock.units is not None:
            stock.kept += max(0, units - stock.units)
        stock.units, stock.shrink_to = units, None

    def settle(self) -> None:
        """Conflict with the figures of everything that is short."""
        if self.short:
            message = "; ".join(f"{one['path']}: {told(one)}, so it can't be {one['wanted']}" for one in self.short)
            raise Conflict(
                message,
                taken=sum(one["taken"] for one in self.short),
                short=self.short,
            )


def told(figures: Mapping[str, Any]) -> str:
    """What is taken, in words."""
    kept = f" and {figures['kept']} kept for those who wait" if figures["kept"] else ""
    return f"{figures['taken']} are taken{kept}"


def wished(stock: Stock) -> int | None:
    """How many there are to be: less than there are while units have yet to come back."""
    return stock.units if stock.shrink_to is None else stock.shrink_to


async def keep_units(
    session: AsyncSession,
    perk: tables.Perk,
    capacity: tables.Capacity,
    terms: Terms,
    units: int | None,
    *,
    stop_claims: bool = False,
) -> None:
    """Brings a locked perk's units, options and pools to its terms; Conflict with the figures when they can't be so."""
    fitting = Fitting(capacity.waiting > 0, stop_claims)
    pooled = bool(terms.options or terms.pools)
    if perk.pooled != pooled:
        redeemed = await count(session, tables.Redemption, tables.Redemption.perk_id == perk.id)
        if capacity.taken + capacity.kept + redeemed > 0:
            raise Conflict(
                f"{told({'taken': capacity.taken, 'kept': capacity.kept})} and {redeemed} redeemed: units can't be put"
                " into options or pools, or out of them, any more",
                taken=capacity.taken,
                kept=capacity.kept,
                redeemed=redeemed,
            )
    if perk.pooled or pooled:
        await keep_pools(session, perk, capacity, terms, fitting)
        perk.pooled = pooled
    if not pooled and terms.kind.counted_by_hand:
        fitting.fit("capacity", capacity, units)
    fitting.settle()


async def keep_pools(
    session: AsyncSession, perk: tables.Perk, capacity: tables.Capacity, terms: Terms, fitting: Fitting
) -> None:
    """Options by handle and pools by their names within an option; the capacity is their sum."""
    pool = tables.Pool
    pools = list(await session.scalars(select(pool).where(pool.perk_id == perk.id).order_by(col(pool.number))))
    options = await keep_options(session, perk, terms.options, pools)
    wanted = [(None, "", one) for one in terms.pools] + [
        (options[plan.handle].id, f"{plan.handle}.", one) for plan in terms.options for one in plan.pools
    ]
    stored = {(one.option_id, one.name): one for one in pools if one.name != SPARE}
    for key in stored.keys() - {(option_id, plan.name) for option_id, _, plan in wanted}:
        vacate(stored[key])
    spare = iter([one for one in pools if one.name == SPARE])
    for option_id, prefix, plan in wanted:
        row = stored.get((option_id, plan.name)) or next(spare, None)
        if row is None:
            row = tables.Pool(perk_id=perk.id, number=len(pools), name=plan.name, units=0)
            pools.append(row)
            session.add(row)
        row.option_id, row.name, row.schedule = option_id, plan.name, schedule_of(plan)
        fitting.fit(f"settings.{prefix}{plan.name}", row, plan.units)
    used = [one for one in pools if one.name != SPARE]
    if not used:
        capacity.shrink_to = None
        await session.execute(sa.delete(pool).where(col(pool.perk_id) == perk.id))
    else:
        limits = [one.units for one in used]
        capacity.units = None if None in limits else sum(one for one in limits if one is not None)
        capacity.taken, capacity.kept = sum(one.taken for one in used), sum(one.kept for one in used)
        wishes = [wished(one) for one in used]
        whole = None if None in wishes else sum(one for one in wishes if one is not None)
        capacity.shrink_to = None if whole == capacity.units else whole


def schedule_of(plan: PoolPlan) -> list[dict[str, Any]]:
    """As it is stored."""
    return [{"tier": tier, "until": until.isoformat()} for tier, until in plan.schedule]


def vacate(pool: tables.Pool) -> None:
    """Nothing in it, for nobody: its number is kept for the next one, since holds know pools by number.

    Conflict when something of it is taken: its tiers' turn may be ended instead.
    """
    if pool.taken + pool.kept > 0:
        raise Conflict(
            f"the pool {pool.name}: {told({'taken': pool.taken, 'kept': pool.kept})}, so it can't go;"
            " let its tiers' turns end instead",
            taken=pool.taken,
            kept=pool.kept,
        )
    pool.option_id, pool.name, pool.units, pool.shrink_to, pool.schedule = None, SPARE, 0, None, []


async def keep_options(
    session: AsyncSession, perk: tables.Perk, plans: Sequence[OptionPlan], pools: Sequence[tables.Pool]
) -> dict[str, tables.PerkOption]:
    """The options by handle, as the plans have them; Conflict for one that has to go and can't."""
    option = tables.PerkOption
    rows = list(await session.scalars(select(option).where(option.perk_id == perk.id)))
    stored = {row.handle: row for row in rows}
    gone = [row for row in rows if row.handle not in {plan.handle for plan in plans}]
    for row in gone:
        await check_unused(session, perk, row, [pool for pool in pools if pool.option_id == row.id])
    if gone:
        await session.flush()
        await session.execute(sa.delete(option).where(col(option.id).in_([row.id for row in gone])))
    for position, plan in enumerate(plans):
        if plan.handle not in stored:
            stored[plan.handle] = option(perk_id=perk.id, handle=plan.handle, title=plan.title, position=position)
            session.add(stored[plan.handle])
        row = stored[plan.handle]
        row.position = position
        for name in ("title", "open", "location", "starts_at", "ends_at", "cut_off_at"):
            setattr(row, name, getattr(plan, name))
    await session.flush()
    return stored


async def check_unused(
    session: AsyncSession, perk: tables.Perk, option: tables.PerkOption, pools: Sequence[tables.Pool]
) -> None:
    """Empties the pools of an option that nobody has, had or waits for; Conflict otherwise: it may be closed."""
    taken, kept = sum(pool.taken for pool in pools), sum(pool.kept for pool in pools)
    redemption, entry = tables.Redemption, tables.WaitlistEntry
    redeemed = await count(session, redemption, redemption.perk_id == perk.id, redemption.option_id == option.id)
    live = col(entry.state).in_([WaitlistState.WAITING.value, WaitlistState.OFFERED.value])
    waiting = await count(session, entry, entry.perk_id == perk.id, entry.option_id == option.id, live)
    if taken or kept or redeemed or waiting:
        raise Conflict(
            f"the option {option.handle}: {taken} are taken, {redeemed} redeemed and {waiting} waited for, so it can't"
            " go; close it with open: false",
            option=option.handle,
            taken=taken,
            redeemed=redeemed,
            waiting=waiting,
        )
    for pool in pools:
        vacate(pool)


async def count(session: AsyncSession, table: type[Any], *conditions: Any) -> int:
    """How many rows there are of a kind."""
    return await session.scalar(select(sa.func.count()).select_from(table).where(*conditions)) or 0
