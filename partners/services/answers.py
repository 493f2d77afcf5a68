"""Bespoke requests, step by step: quoted, declined, recalled, scheduled, fulfilled, assigned and talked about.

Every step names the revision that its caller has seen. Those that move units are in partners/services/approvals.py.
"""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from partners import fulfilments, tables
from partners.facts import Refusal, RefusalCode
from partners.fulfilments import SCHEDULE_MAX, Update
from partners.policies import faulty
from partners.rules import AMOUNT_MAX
from partners.services.matters import Asked, Matter, barred, conclude, lock_request
from partners.services.steps import ASSIGN, DECLINE, FULFIL, QUOTE, RECALL, SAY, SCHEDULE, Step
from partners.tables import FulfilmentState
from partners.threads import UNWRITABLE, Said, check_owner, check_said, note_answer, say, wait_for_member
from partners.values import value

TERMS_LENGTH_MAX = 2_000
QUOTE_MAX = timedelta(days=366)


@value
class Quote:
    """What the partner offers: an amount in minor units of the perk's currency, on which terms, until when."""

    amount: int
    terms: str
    valid_until: datetime


async def quote_request(session: AsyncSession, asked: Asked, quote: Quote) -> list[Refusal]:
    """The partner's offer, which replaces an earlier one; the clocks wait for the member. BadInput names each fault."""
    matter = await lock_request(session, asked)
    check_quote(quote, matter.perk, asked.now)
    refusals = await barred(session, matter, QUOTE, asked)
    if not refusals:
        request = matter.request
        request.amount, request.currency = quote.amount, matter.perk.currency
        request.quote = {"terms": quote.terms.strip(), "valid_until": quote.valid_until.isoformat()}
        note_answer(matter.thread, asked.now)
        wait_for_member(matter.thread, asked.now)
    return await conclude(session, matter, QUOTE, asked, refusals)


def check_quote(quote: Quote, perk: tables.Perk, now: datetime) -> None:
    """BadInput for what is no offer."""
    faults = amount_faults(quote.amount, perk)
    if not 1 <= len(quote.terms.strip()) <= TERMS_LENGTH_MAX or UNWRITABLE.search(quote.terms):
        faults.append(f"terms: 1 to {TERMS_LENGTH_MAX} characters")
    if not now < quote.valid_until <= now + QUOTE_MAX:
        faults.append(f"validUntil: to come, within {QUOTE_MAX.days} days")
    if faults:
        raise faulty(faults)


def amount_faults(amount: int, perk: tables.Perk) -> list[str]:
    """Why a perk can't have this amount."""
    if not 0 <= amount <= AMOUNT_MAX:
        return [f"amountMinor: 0 to {AMOUNT_MAX}"]
    return ["amountMinor: the perk counts no amounts"] if amount and perk.currency is None else []


async def decline_request(session: AsyncSession, asked: Asked, said: Said | None = None) -> list[Refusal]:
    """The partner's no, or the member's to an offer, perhaps in words."""
    return await end_request(session, asked, DECLINE, said)


async def recall_request(session: AsyncSession, asked: Asked) -> list[Refusal]:
    """The member thinks again, before anybody has said yes."""
    return await end_request(session, asked, RECALL, None)


async def end_request(session: AsyncSession, asked: Asked, step: Step, said: Said | None) -> list[Refusal]:
    """An end that takes nothing back."""
    if said is not None:
        check_said(said)
    matter = await lock_request(session, asked)
    refusals = await barred(session, matter, step, asked)
    if not refusals and said is not None:
        say(session, matter.thread, said, asked.actor, asked.now)
    return await conclude(session, matter, step, asked, refusals)


async def schedule_request(session: AsyncSession, asked: Asked, at: datetime) -> list[Refusal]:
    """When it will be done; again for another time. The redemption's fulfilment follows."""
    if not asked.now < at <= asked.now + SCHEDULE_MAX:
        raise faulty([f"scheduledFor: to come, within {SCHEDULE_MAX.days} days"])
    matter = await lock_request(session, asked)
    refusals = await barred(session, matter, SCHEDULE, asked)
    refusals = refusals or await follow(session, matter, Update(FulfilmentState.SCHEDULED, scheduled_at=at), asked)
    if not refusals:
        matter.request.scheduled_for = at
    return await conclude(session, matter, SCHEDULE, asked, refusals)


async def fulfil_request(session: AsyncSession, asked: Asked) -> list[Refusal]:
    """It is done, and so is the redemption's fulfilment."""
    matter = await lock_request(session, asked)
    refusals = await barred(session, matter, FULFIL, asked)
    refusals = refusals or await follow(session, matter, Update(FulfilmentState.FULFILLED), asked)
    return await conclude(session, matter, FULFIL, asked, refusals)


async def follow(session: AsyncSession, matter: Matter, update: Update, asked: Asked) -> list[Refusal]:
    """The same step of the redemption; ALREADY_REVERSED where that was taken back by itself."""
    assert matter.request.redemption_id is not None
    outcome = await fulfilments.update_fulfilment(
        session, matter.request.redemption_id, update, actor=asked.actor, now=asked.now
    )
    return [] if outcome.code == "UPDATED" else [Refusal(RefusalCode(outcome.code), "fulfilment")]


async def assign_request(session: AsyncSession, asked: Asked, owner: str) -> list[Refusal]:
    """Who looks after it, by a name that the member may read."""
    name = check_owner(owner)
    matter = await lock_request(session, asked)
    refusals = await barred(session, matter, ASSIGN, asked)
    if not refusals:
        matter.thread.owner = name
    return await conclude(session, matter, ASSIGN, asked, refusals)


async def add_message(session: AsyncSession, asked: Asked, said: Said) -> list[Refusal]:
    """One side says something. BadInput names every fault of it."""
    check_said(said)
    matter = await lock_request(session, asked)
    refusals = await barred(session, matter, SAY, asked)
    if not refusals:
        say(session, matter.thread, said, asked.actor, asked.now)
    return await conclude(session, matter, SAY, asked, refusals)
