"""Bespoke requests as they begin: drawn up by the member, and submitted once the form fits and the rules agree."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor, ActorKind
from partners.eligibility import Known, Question, learn
from partners.errors import BadInput, Conflict, KeyReused, NotFound
from partners.facts import Circumstances, Facts, Refusal, RefusalCode
from partners.forms import FORM_BYTES_MAX, FormFault, document_faults, dotted, form_faults
from partners.idempotency import fingerprint
from partners.kinds.service import Approval, Service
from partners.members import lock_member
from partners.policies import faulty
from partners.references import Asker, MemberRef, PerkRef
from partners.services.answers import amount_faults
from partners.services.approvals import DESK, Means, bare, decided, redeem
from partners.services.matters import Asked, Matter, barred, conclude, lock_request
from partners.services.reading import reach
from partners.services.steps import APPROVE, DRAFT, DRAW_UP, SUBMIT, UNDECIDED, Step
from partners.tables import PerkKind, PerkState
from partners.tables.columns import new_id
from partners.threads import open_thread
from partners.values import value

OPEN_MAX = 20  # of one member on one perk, with those that the actor does not see left out


@value
class Opening:
    """A request that is new: which perk, for whom, what the form says and how much is asked for (minor units)."""

    perk: PerkRef
    member: MemberRef
    form: Any
    amount: int
    key: str
    actor: Actor
    now: datetime
    asker: Asker | None = None

    def content(self, step: Step) -> bytes:
        """What its idempotency key stands for."""
        what = [str(self.perk.id), self.perk.handle, str(self.member.id), self.member.alias, self.amount]
        return fingerprint(step.action, {"what": what, "form": self.form})


@value
class Opened:
    """The request, or why there is none: FORM_INVALID stands for all the `faults` of the form. `replayed`: the key had
    acted before."""

    request_id: UUID | None
    refusals: Sequence[Refusal] = ()
    faults: Sequence[FormFault] = ()
    replayed: bool = False


async def draft_request(session: AsyncSession, opening: Opening) -> Opened:
    """A draft of a member's own, which nobody else sees and no rule has judged. NotFound, BadInput, Conflict for too
    many that are open, KeyReused."""
    perk = await find_service(session, opening)
    check_content(opening.form, opening.amount, perk)
    assert opening.member.id is not None
    request_id = new_id()
    bound = await bind_key(session, opening, DRAW_UP, request_id)
    if bound is not None:
        return bound
    await lock_member(session, opening.member)  # a token outlives its member for some minutes
    await check_open(session, opening.actor, opening.member.id, perk.id)
    matter = await new_matter(session, opening, opening.member.id, perk, request_id)
    await conclude(session, matter, DRAW_UP, Asked(request_id, 0, opening.actor, opening.now))
    return Opened(request_id)


async def change_draft(session: AsyncSession, asked: Asked, form: Any, amount: int) -> list[Refusal]:
    """What a draft says from now on, whole."""
    matter = await lock_request(session, asked)
    await lock_member(session, MemberRef(id=matter.request.member_id))
    check_content(form, amount, matter.perk)
    refusals = await barred(session, matter, DRAW_UP, asked)
    if not refusals:
        matter.request.form, matter.request.amount = form, amount
        matter.request.currency = matter.perk.currency
    return await conclude(session, matter, DRAW_UP, asked, refusals)


async def submit_request(session: AsyncSession, opening: Opening, means: Means) -> Opened:
    """A new request, by the member or by a partner on behalf of one who lets it claim. A refusal leaves nothing but
    its entry, and does not use up the key."""
    perk = await find_service(session, opening)
    check_content(opening.form, opening.amount, perk)
    request_id = new_id()
    bound = await bind_key(session, opening, SUBMIT, request_id)
    if bound is not None:
        return bound
    said = Circumstances(amount=opening.amount)
    question = Question(opening.member, PerkRef(id=perk.id), opening.now, opening.asker, said)
    known, refusals, faults = await judge(session, question, perk, opening.form, means)
    if refusals or known.member_id is None:
        await forget_key(session, opening)
        subject = audit.Subject(perk.partner_id, perk.id, known.member_id, amount=opening.amount)
        codes = sorted({refusal.code.value for refusal in refusals})
        await audit.record(session, SUBMIT.action, subject, opening.actor, opening.now, refused=codes)
        return Opened(None, refusals, faults)
    await check_open(session, opening.actor, known.member_id, perk.id)
    matter = await new_matter(session, opening, known.member_id, perk, request_id)
    await enter(session, matter, Asked(request_id, 0, opening.actor, opening.now, opening.asker), known, means)
    return Opened(request_id)


async def submit_draft(session: AsyncSession, asked: Asked, means: Means) -> Opened:
    """A draft of the member's becomes a request."""
    matter = await lock_request(session, asked, moves_units=True)
    request = matter.request
    check_content(request.form, request.amount or 0, matter.perk)
    if request.state == DRAFT and request.amount and request.currency != matter.perk.currency:
        raise faulty([f"amountMinor: the perk counts in {matter.perk.currency} now: say again how much"])
    refusals = await barred(session, matter, SUBMIT, asked)
    faults: Sequence[FormFault] = ()
    if not refusals:
        said = Circumstances(amount=request.amount or 0)
        question = Question(MemberRef(id=request.member_id), PerkRef(id=request.perk_id), asked.now, None, said)
        known, refusals, faults = await judge(session, question, matter.perk, request.form, means)
    if refusals:
        await conclude(session, matter, SUBMIT, asked, refusals)
    else:
        await enter(session, matter, asked, known, means)
    return Opened(request.id, refusals, faults)


async def judge(
    session: AsyncSession, question: Question, perk: tables.Perk, form: Any, means: Means
) -> tuple[Known, list[Refusal], list[FormFault]]:
    """What the rules say of it, and in what the form does not fit; FORM_INVALID for all of the latter."""
    [known] = await learn(await bare(session), [question])
    assert known is not None
    refusals = list((await decided(session, known, means, question.now)).refusals)
    faults = form_faults(Service.model_validate(perk.settings).form, form)
    if faults:
        refusals.append(Refusal(RefusalCode.FORM_INVALID, "form"))
    return known, refusals, faults


async def enter(session: AsyncSession, matter: Matter, asked: Asked, known: Known, means: Means) -> None:
    """Submits what was judged: its clocks start. Whom the partner trusts has its answer in the same transaction."""
    service = matter.service
    matter.request.submitted_at = asked.now
    open_thread(matter.thread, service.answer_within_seconds, service.solve_within_seconds, asked.now)
    await conclude(session, matter, SUBMIT, asked)
    if is_trusted(service, known, means, asked.now):
        refusals = await redeem(session, matter, asked, means)
        matter.request.automatic = not refusals
        await conclude(session, matter, APPROVE, replace(asked, actor=DESK), refusals, notes=["AUTOMATIC"])


def is_trusted(service: Service, known: Known, means: Means, now: datetime) -> bool:
    """Whether the perk answers this member by itself. Where a policy counts amounts, who does not say how much would
    have it for nothing."""
    if service.approval is not Approval.AUTOMATIC or service.trust is None or known.member is None:
        return False
    if not known.said.amount and any(allowance.by_amount for allowance in known.policy.allowances):
        return False
    return service.trust.suffices(Facts(now, means.ranks, known.member, known.perk, known.uses, known.said))


async def find_service(session: AsyncSession, opening: Opening) -> tables.Perk:
    """The SERVICE perk within the actor's sight, with its capacity row locked, so that units may be taken and requests
    are counted one after the other. NotFound, and BadInput for a perk of another kind."""
    perk, capacity, actor, named = tables.Perk, tables.Capacity, opening.actor, opening.perk
    query = select(perk).where(perk.id == named.id if named.id is not None else perk.handle == named.handle)
    if actor.kind is ActorKind.PARTNER:
        query = query.where(perk.partner_id == actor.partner_id)
    else:
        query = query.where(perk.state != PerkState.DRAFT)
    of_perk = query.with_only_columns(col(perk.id)).scalar_subquery()
    await session.execute(select(capacity.perk_id).where(capacity.perk_id == of_perk).with_for_update())
    found = await session.scalar(query)
    if found is None:
        raise NotFound("no such perk")
    if found.kind != PerkKind.SERVICE:
        raise BadInput(f"perk: it is a {found.kind}, which is claimed by claimPerk")
    return found


def check_content(form: Any, amount: int, perk: tables.Perk) -> None:
    """BadInput for what could not be kept, whatever the schema says."""
    faults = [f"form.{dotted(one)}" for one in document_faults(form, FORM_BYTES_MAX)]
    if not isinstance(form, dict):
        faults = ["form: a JSON object"]
    if faults := faults + amount_faults(amount, perk):
        raise faulty(faults)


async def check_open(session: AsyncSession, actor: Actor, member_id: UUID, perk_id: UUID) -> None:
    """Conflict: nobody has any number of requests that wait for a word; a partner is not told of drafts by it."""
    request = tables.ServiceRequest
    counting = select(sa.func.count()).where(
        request.member_id == member_id, request.perk_id == perk_id, col(request.state).in_([DRAFT, *UNDECIDED])
    )
    if (await session.scalar(reach(counting, actor)) or 0) >= OPEN_MAX:
        raise Conflict(f"{OPEN_MAX} requests for this perk are open already", limit=OPEN_MAX)


async def new_matter(
    session: AsyncSession, opening: Opening, member_id: UUID, perk: tables.Perk, request_id: UUID
) -> Matter:
    """The rows of a new request, not yet at its first revision."""
    request = tables.ServiceRequest(
        id=request_id,
        perk_id=perk.id,
        partner_id=perk.partner_id,
        member_id=member_id,
        form=opening.form,
        amount=opening.amount,
        currency=perk.currency,
        created_at=opening.now,
    )
    thread = tables.Thread(id=request_id, revision=0)
    session.add(thread)
    await session.flush()  # the request refers to it
    return Matter(request, thread, perk)


async def bind_key(session: AsyncSession, opening: Opening, step: Step, request_id: UUID) -> Opened | None:
    """None for a key that is new; else what it made before. KeyReused for another content (law 3)."""
    key, owner, content = tables.IdempotencyKey, opening.actor.owner, opening.content(step)
    fresh = key(owner=owner, key=opening.key, fingerprint=content, result_id=request_id, created_at=opening.now)
    statement = insert(key).values(fresh.model_dump()).on_conflict_do_nothing().returning(col(key.result_id))
    if await session.scalar(statement) is not None:
        return None
    bound = await session.scalar(select(key).where(key.owner == owner, key.key == opening.key))
    if bound is None or bound.fingerprint != content:
        raise KeyReused("this idempotency key was used for something else")
    return Opened(bound.result_id, replayed=True)


async def forget_key(session: AsyncSession, opening: Opening) -> None:
    """A refusal does not use up the key."""
    key = tables.IdempotencyKey
    named = sa.and_(col(key.owner) == opening.actor.owner, col(key.key) == opening.key)
    await session.execute(sa.delete(key).where(named))
