"""What happens after a redemption is confirmed: the partner schedules and fulfils it, or fails to."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor, ActorKind
from partners.codes import code_hash
from partners.errors import BadInput
from partners.redemptions import Outcome, named_by
from partners.tables import FulfilmentState, PerkKind

PENDING, SCHEDULED, FULFILLED, FAILED, NO_SHOW = FulfilmentState
STEPS = {
    PENDING: {SCHEDULED, FULFILLED, FAILED},
    SCHEDULED: {PENDING, SCHEDULED, FULFILLED, FAILED},
    FULFILLED: set[FulfilmentState](),
    FAILED: {PENDING},
    NO_SHOW: {FULFILLED},
}
"""Where a partner or staff may take a fulfilment from each state; NO_SHOW is what the sweeper finds."""
OPEN = (PENDING, SCHEDULED)

NAME_LENGTH_MAX = 100
REASON_LENGTH_MAX = 500
SCHEDULE_MAX = timedelta(days=2 * 365)


@dataclass(frozen=True, slots=True)
class Update:
    """The next state and what is known with it; what is None stays as it is. `units` of a party came to an event."""

    state: FulfilmentState
    scheduled_at: datetime | None = None
    carrier: str | None = None
    tracking: str | None = None
    reason: str | None = None
    units: int | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """A redemption, locked, with what is known of its fulfilment; the row of that is new where nothing was."""

    redemption: tables.Redemption
    perk: tables.Perk
    option: tables.PerkOption | None
    fulfilment: tables.Fulfilment

    @property
    def units_left(self) -> int:
        """Units that were not taken back."""
        return self.redemption.units - self.redemption.reversed_units

    @property
    def state(self) -> FulfilmentState:
        """How far the partner is."""
        return FulfilmentState(self.redemption.fulfilment)


async def lock_promise(
    session: AsyncSession, actor: Actor, now: datetime, *, id: UUID | None = None, code: str | None = None
) -> Promise | None:
    """The redemption of this id, or of the hold with this code, within the actor's reach, so that its changes queue."""
    redemption, option, hold = tables.Redemption, tables.PerkOption, tables.Hold
    query = select(redemption, tables.Perk, option).join(tables.Perk, col(tables.Perk.id) == redemption.perk_id)
    query = query.join(option, col(option.id) == redemption.option_id, isouter=True)
    if code is None:
        query = query.where(redemption.id == id)
    else:
        held = select(hold.id).where(hold.code_hash == code_hash(code)).scalar_subquery()
        query = query.where(redemption.hold_id == held)
    if actor.kind is ActorKind.PARTNER:
        query = query.where(redemption.partner_id == actor.partner_id)
    if actor.kind is ActorKind.MEMBER:
        query = query.where(redemption.member_id == actor.member_id)
    if actor.alias is not None:
        query = query.where(redemption.member_id == named_by(actor, actor.alias))
    query = query.with_for_update(of=redemption).execution_options(populate_existing=True)
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return None
    # A statement of its own: it has to see what was done by whoever had the lock before.
    known = await session.get(tables.Fulfilment, row[0].id, populate_existing=True)
    if known is None:
        known = tables.Fulfilment(redemption_id=row[0].id, updated_at=now, updated_by=actor.owner)
    return Promise(row[0], row[1], row[2], known)


async def update_fulfilment(
    session: AsyncSession, redemption_id: UUID, update: Update, *, actor: Actor, now: datetime
) -> Outcome:
    """The next step of a fulfilment: UPDATED, also when all of it was so already.

    Refusals: NOT_AVAILABLE (unknown or another partner's), ALREADY_REVERSED (all of it), WRONG_STATE (STEPS),
    UNITS_EXCEEDED. BadInput names every fault.
    """
    promise = await lock_promise(session, actor, now, id=redemption_id)
    if faults := list(faults_of(update, promise, now)):
        raise BadInput("; ".join(faults), faults=faults)
    refusal = None if promise is None else refused_to_update(promise, update)
    if promise is None or refusal is not None:
        return await refuse(session, "fulfilment.updated", promise, refusal or "NOT_AVAILABLE", actor, now)
    if not is_so_already(promise, update):
        apply(promise, update, now)
        await keep(session, promise, "fulfilment.updated", update.state.value, actor, now, units=update.units)
    return Outcome("UPDATED", redemption_id)


def faults_of(update: Update, promise: Promise | None, now: datetime) -> Iterator[str]:
    """What can't be, each with its path."""
    for path, text in (("carrier", update.carrier), ("tracking", update.tracking)):
        if text is not None and not (1 <= len(text.strip()) <= NAME_LENGTH_MAX and text.isprintable()):
            yield f"{path}: 1 to {NAME_LENGTH_MAX} printable characters"
    reason = update.reason
    if update.state is FAILED:
        if reason is None or not 1 <= len(reason.strip()) <= REASON_LENGTH_MAX or not reason.isprintable():
            yield f"reason: 1 to {REASON_LENGTH_MAX} printable characters"
    elif reason is not None:
        yield "reason: for what FAILED only"
    if update.state is PENDING and (update.scheduled_at or update.carrier or update.tracking):
        yield "state: what is PENDING is not scheduled"
    if update.scheduled_at is not None and abs(update.scheduled_at - now) > SCHEDULE_MAX:
        yield "scheduledAt: within two years"
    if update.units is not None and update.units < 1:
        yield "units: at least 1"
    if promise is None:
        return
    known = promise.fulfilment
    if update.state is SCHEDULED and not (update.scheduled_at or update.carrier or known.scheduled_at or known.carrier):
        yield "scheduledAt: when, or which carrier has it"
    if update.units is not None and (promise.perk.kind != PerkKind.EVENT or update.state is not FULFILLED):
        yield "units: for an EVENT that was FULFILLED only"


def refused_to_update(promise: Promise, update: Update) -> str | None:
    """Why a redemption can't be taken to this state; None when it can."""
    if promise.units_left == 0:
        return "ALREADY_REVERSED"
    if not is_so_already(promise, update) and update.state not in STEPS[promise.state]:
        return "WRONG_STATE"
    return "UNITS_EXCEEDED" if update.units is not None and update.units > promise.units_left else None


def is_so_already(promise: Promise, update: Update) -> bool:
    """Whether an update says nothing new, as when it is sent again because its answer was lost."""
    known = promise.fulfilment
    told = {
        "scheduled_at": update.scheduled_at,
        "carrier": update.carrier and update.carrier.strip(),
        "tracking": update.tracking and update.tracking.strip(),
        "reason": update.reason and update.reason.strip(),
        "checked_in": update.units,
    }
    return promise.state is update.state and all(
        said is None or said == getattr(known, name) for name, said in told.items()
    )


def apply(promise: Promise, update: Update, now: datetime) -> None:
    """Takes the rows to the next state; where nothing is to be sent any more, the address goes."""
    known = promise.fulfilment
    promise.redemption.fulfilment = update.state
    known.reason = update.reason and update.reason.strip()
    if update.state is PENDING:
        known.scheduled_at = known.carrier = known.tracking = None
    known.scheduled_at = update.scheduled_at or known.scheduled_at
    known.carrier = known.carrier if update.carrier is None else update.carrier.strip()
    known.tracking = known.tracking if update.tracking is None else update.tracking.strip()
    if update.state is FULFILLED:
        known.fulfilled_at = now
        if promise.perk.kind == PerkKind.EVENT:
            known.checked_in = update.units or promise.units_left
    if update.state not in OPEN:
        known.address = known.address_until = None


async def keep(
    session: AsyncSession,
    promise: Promise,
    action: str,
    note: str,
    actor: Actor,
    now: datetime,
    *,
    units: int | None = None,
) -> None:
    """Writes the rows and the entry about them, with a code; what is said in words stays out of it."""
    promise.fulfilment.updated_at, promise.fulfilment.updated_by = now, actor.owner
    session.add(promise.fulfilment)
    await audit.record(session, action, subject_of(promise, units), actor, now, notes=[note])


async def refuse(
    session: AsyncSession, action: str, promise: Promise | None, code: str, actor: Actor, now: datetime
) -> Outcome:
    """A refusal, on record."""
    subject = audit.Subject(partner_id=actor.partner_id) if promise is None else subject_of(promise, None)
    await audit.record(session, action, subject, actor, now, refused=[code])
    return Outcome(code, None)


def subject_of(promise: Promise, units: int | None) -> audit.Subject:
    """A redemption as the subject of an audit entry."""
    row = promise.redemption
    return audit.Subject(row.partner_id, row.perk_id, row.member_id, row.id, row.policy_version, row.tier, units=units)
