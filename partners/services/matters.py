"""A bespoke request under a step: how it is locked, what may bar the step, and how it is concluded on record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor, ActorKind
from partners.errors import NotFound
from partners.facts import Refusal, RefusalCode
from partners.kinds.service import Service
from partners.redemptions import consents_to
from partners.references import Asker
from partners.services.reading import reach
from partners.services.steps import ENDS, RECALL, SUBMIT, Step
from partners.tables import MemberState, PartnerState, PerkState
from partners.threads import clocks, hear_member, note_answer, note_end
from partners.values import value


@value
class Asked:
    """One step that a caller asks for: of which request, as it was at which revision, by whom and when."""

    request_id: UUID
    revision: int
    actor: Actor
    now: datetime
    asker: Asker | None = None


@dataclass(frozen=True, slots=True)
class Matter:
    """A request, locked, with its thread, the perk that is asked for, and which of its clocks stood already."""

    request: tables.ServiceRequest
    thread: tables.Thread
    perk: tables.Perk
    answered: bool = False
    solved: bool = False

    @property
    def service(self) -> Service:
        """The perk's settings."""
        return Service.model_validate(self.perk.settings)


async def lock_request(session: AsyncSession, asked: Asked, *, moves_units: bool = False) -> Matter:
    """A request within the actor's reach, locked so that its steps queue; NotFound."""
    request, thread, perk, capacity = tables.ServiceRequest, tables.Thread, tables.Perk, tables.Capacity
    if moves_units:
        locking = select(capacity.perk_id).join(request, col(request.perk_id) == capacity.perk_id)
        locking = reach(locking.where(request.id == asked.request_id), asked.actor)
        await session.execute(locking.with_for_update(of=capacity))
    query = (
        sa.select(request, thread, perk)
        .join(thread, col(thread.id) == request.id)
        .join(perk, col(perk.id) == request.perk_id)
        .where(col(request.id) == asked.request_id)
    )
    locked = reach(query, asked.actor).with_for_update(of=(request, thread))
    row = (await session.execute(locked.execution_options(populate_existing=True))).one_or_none()
    if row is None:
        raise NotFound("no such service request")
    found, its_thread, its_perk = row
    return Matter(found, its_thread, its_perk, its_thread.answered_at is not None, its_thread.solved_at is not None)


async def barred(session: AsyncSession, matter: Matter, step: Step, asked: Asked) -> list[Refusal]:
    """What stands in the way of a step: a revision that is not the last, a state that has no such step for this side,
    then whatever the step minds."""
    if matter.thread.revision != asked.revision:
        return [Refusal(RefusalCode.STALE_REVISION, "revision", current=str(matter.thread.revision))]
    if not step.allows(asked.actor.kind, matter.request.state):
        return [wrong_state(matter)]
    if not step.minds or asked.actor.kind is ActorKind.STAFF:
        return []
    found = await meanwhile(session, matter, asked.now)
    return [Refusal(code, "meanwhile") for code in step.minds if code in found]


def wrong_state(matter: Matter) -> Refusal:
    """There is no such step from here."""
    return Refusal(RefusalCode.WRONG_STATE, "state", current=matter.request.state)


async def meanwhile(session: AsyncSession, matter: Matter, now: datetime) -> set[RefusalCode]:
    """What has changed around a request since it was made, as it is now that the request is locked."""
    request, perk, partner, member = matter.request, tables.Perk, tables.Partner, tables.Member
    beholder = Actor(ActorKind.PARTNER, "", partner_id=request.partner_id)
    today = sa.cast(sa.func.timezone(col(perk.time_zone), now), sa.Date)
    consented = consents_to(beholder, request.member_id, "redemptions:write", now)
    columns = [
        (RefusalCode.CONSENT_MISSING, consented.is_(None)),
        (RefusalCode.MEMBERSHIP_SUSPENDED, col(member.state) != MemberState.ACTIVE),
        (RefusalCode.PARTNER_SUSPENDED, col(partner.state) != PartnerState.ACTIVE),
        (RefusalCode.PERK_PAUSED, col(perk.state) != PerkState.PUBLISHED),
        (RefusalCode.ENDED, today > col(perk.closes_on)),
    ]
    found = await session.execute(
        sa.select(*(column.label(code) for code, column in columns))
        .select_from(perk)
        .join(partner, col(partner.id) == perk.partner_id)
        .join(member, col(member.id) == request.member_id)
        .where(col(perk.id) == request.perk_id)
    )
    return {code for (code, _), holds in zip(columns, found.one(), strict=True) if holds}


async def conclude(
    session: AsyncSession,
    matter: Matter,
    step: Step,
    asked: Asked,
    refusals: Sequence[Refusal] = (),
    notes: Sequence[str] = (),
) -> list[Refusal]:
    """Puts a step on record, refused or done; what is done raises the revision and moves the state."""
    request, thread = matter.request, matter.thread
    if not refusals:
        thread.revision += 1
        if step.to is not None:
            request.state = step.to
        if step.to in ENDS:
            request.ended_at = asked.now
            note_end(thread, asked.now)
        if asked.actor.kind is ActorKind.MEMBER:
            hear_member(thread, asked.now)
        elif step.to is not None and step is not SUBMIT:
            note_answer(thread, asked.now)
        session.add_all([request, thread])
    codes = sorted({refusal.code.value for refusal in refusals})
    subject = subject_of(request, request.amount)
    told = [*notes, *stopped_clocks(matter, step, asked.now)]
    await audit.record(session, step.action, subject, asked.actor, asked.now, refused=codes, notes=told)
    return list(refusals)


def stopped_clocks(matter: Matter, step: Step, now: datetime) -> list[str]:
    """Which promises this step kept or missed, as codes of its entry: ANSWERED_IN_TIME, ANSWERED_LATE, SOLVED_IN_TIME,
    SOLVED_LATE. A member who thinks again in time leaves the promise neither kept nor missed."""
    thread, at = matter.thread, clocks(matter.thread, now)
    ended = thread.solved_at is not None and not matter.solved
    codes = []
    if at.answer_due_at is not None and not matter.answered and (ended or thread.answered_at is not None):
        if at.answer_breached:
            codes.append("ANSWERED_LATE")
        elif thread.answered_at is not None:
            codes.append("ANSWERED_IN_TIME")
    if at.solve_due_at is not None and ended:
        if at.solve_breached:
            codes.append("SOLVED_LATE")
        elif step is not RECALL:
            codes.append("SOLVED_IN_TIME")
    return codes


def subject_of(request: tables.ServiceRequest, amount: int | None) -> audit.Subject:
    """A request as the subject of an audit entry, which says how much and nothing of what was written."""
    return audit.Subject(request.partner_id, request.perk_id, request.member_id, request.id, amount=amount)
