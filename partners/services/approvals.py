"""Bespoke requests where units and amounts move: approved and cancelled.

A yes claims and confirms by the statements of every other perk, in the transaction of the step, so that allowances,
capacity, consent and the audit log hold as everywhere; a no there leaves the request as it was. The perk's capacity
row is locked before the request, as by everybody who takes or gives back units.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from partners.actors import Actor, ActorKind
from partners.eligibility import Decision, Known, Question, decide, learn
from partners.errors import TryAgain
from partners.facts import Circumstances, Refusal, RefusalCode
from partners.holds import Claim, claim_batch, release_hold
from partners.idempotency import fingerprint
from partners.kinds.service import Approval
from partners.policies import faulty
from partners.redemptions import REASON_LENGTH_MAX, Return, confirm_hold, reverse_redemption
from partners.references import MemberRef, PerkRef
from partners.reviews import came_too_fast, open_review
from partners.services.matters import Asked, Matter, barred, conclude, lock_request, wrong_state
from partners.services.steps import APPROVE, CANCEL, QUOTED
from partners.tables import Bearer
from partners.tables.columns import new_id
from partners.threads import UNWRITABLE, Said, say
from partners.values import value

if TYPE_CHECKING:
    from asyncpg import Connection

TRIES = 4
DESK = Actor(ActorKind.SYSTEM, "services")


@value
class Means:
    """What a claim needs beside its facts: the ranks of tiers, and the key of hold codes."""

    ranks: Mapping[str, int]
    codes: bytes


async def bare(session: AsyncSession) -> "Connection[Any]":
    """The session's own connection, in its transaction, which a statement before this one has begun."""
    raw = await (await session.connection()).get_raw_connection()
    connection: Connection[Any] | None = raw.driver_connection
    assert connection is not None
    return connection


async def approve_request(session: AsyncSession, asked: Asked, means: Means) -> list[Refusal]:
    """The member's yes to an offer, or the partner's to a request: it makes the redemption, of the amount agreed."""
    matter = await lock_request(session, asked, moves_units=True)
    refusals = await barred(session, matter, APPROVE, asked) or refused_approval(matter, asked)
    refusals = refusals or await redeem(session, matter, asked, means)
    return await conclude(session, matter, APPROVE, asked, refusals)


def lapsed(matter: Matter, now: datetime) -> bool:
    """Whether what was offered or asked for no longer holds: its time is over, or the perk has another currency now."""
    request = matter.request
    changed = request.currency != matter.perk.currency
    if request.state != QUOTED or request.quote is None:
        return changed and bool(request.amount)
    return changed or now >= datetime.fromisoformat(request.quote["valid_until"])


def refused_approval(matter: Matter, asked: Asked) -> list[Refusal]:
    """Why nobody may say yes here: a perk that goes by quotes has none of the partner's own, and offers end."""
    if asked.actor.kind is ActorKind.PARTNER and matter.service.approval is Approval.BY_QUOTE:
        return [wrong_state(matter)]
    return [Refusal(RefusalCode.QUOTE_EXPIRED, "quote")] if lapsed(matter, asked.now) else []


async def redeem(session: AsyncSession, matter: Matter, asked: Asked, means: Means) -> list[Refusal]:
    """Claims and confirms for a locked request; all that refuses, and then nothing is taken.

    A partner is told what it may know (law 9): of a member who no longer consents, that alone.
    """
    request, now = matter.request, asked.now
    asker = None if asked.asker is None else replace(asked.asker, scope="redemptions:write")
    said = Circumstances(amount=request.amount or 0)
    connection = await bare(session)
    for _ in range(TRIES):
        question = Question(MemberRef(id=request.member_id), PerkRef(id=request.perk_id), now, asker, said)
        [known] = await learn(connection, [question])
        assert known is not None
        if known.member is None:
            return [Refusal(RefusalCode.CONSENT_MISSING, "consent")]
        decision = await decided(session, known, means, now)
        if decision.refusals:
            return list(decision.refusals)
        claim = Claim(DESK, new_id().hex, content_of(matter), now, known, decision)
        [claimed] = await claim_batch(connection, request.perk_id, [claim], means.codes, means.ranks)
        if claimed.hold is not None:
            return await confirm(connection, matter, claimed.hold.id, now)
        if claimed.outcome != "STALE":
            return [Refusal(RefusalCode(reason), "claim") for reason in claimed.reasons]
        asker = None if asker is None else replace(asker, client_id=None)  # told once, however often asked
    raise TryAgain("the facts keep changing; try again")


async def decided(session: AsyncSession, known: Known, means: Means, now: datetime) -> Decision:
    """What the rules say; a claim that comes too fast opens a review, as any other would."""
    decision = decide(known, means.ranks, now)
    if known.member_id is not None and came_too_fast(decision):
        await open_review(session, known.member_id, known.partner_id, known.perk_id, now)
    return decision


async def confirm(connection: "Connection[Any]", matter: Matter, hold_id: UUID, now: datetime) -> list[Refusal]:
    """Confirms what was claimed a moment ago; what refuses now (a consent withdrawn in between) gives it back."""
    outcome = await confirm_hold(
        connection,
        hold_id=hold_id,
        code=None,
        actor=DESK,
        key=new_id().hex,
        fingerprint=content_of(matter),
        now=now,
    )
    if outcome.id is None:
        await release_hold(connection, hold_id, DESK, now)
        return [Refusal(RefusalCode(outcome.code), "confirm")]
    matter.request.redemption_id = outcome.id
    return []


def content_of(matter: Matter) -> bytes:
    """What the keys of one approval stand for."""
    return fingerprint("approveServiceRequest", {"request": str(matter.request.id)})


async def cancel_request(
    session: AsyncSession, asked: Asked, reason: str, borne_by: Bearer = Bearer.PARTNER
) -> list[Refusal]:
    """Ends a request for a reason that the member reads; after a yes this takes the redemption back, all that is left
    of it. REVERSAL_WINDOW_CLOSED for a partner that comes too late."""
    if not 1 <= len(reason.strip()) <= REASON_LENGTH_MAX or UNWRITABLE.search(reason):
        raise faulty([f"reason: 1 to {REASON_LENGTH_MAX} characters"])
    matter = await lock_request(session, asked, moves_units=True)
    refusals = await barred(session, matter, CANCEL, asked)
    if not refusals and matter.request.redemption_id is not None:
        refusals = await take_back(session, matter, asked, Return(reason, borne_by))
    if not refusals:
        say(session, matter.thread, Said(reason), asked.actor, asked.now)
    return await conclude(session, matter, CANCEL, asked, refusals)


async def take_back(session: AsyncSession, matter: Matter, asked: Asked, back: Return) -> list[Refusal]:
    """Reverses the redemption; one that was reversed by itself is no obstacle."""
    assert matter.request.redemption_id is not None
    outcome = await reverse_redemption(
        await bare(session),
        matter.request.redemption_id,
        back,
        actor=asked.actor,
        key=new_id().hex,
        fingerprint=content_of(matter),
        now=asked.now,
    )
    done = outcome.code in ("REVERSED", RefusalCode.ALREADY_REVERSED)
    return [] if done else [Refusal(RefusalCode(outcome.code), "reversal")]
