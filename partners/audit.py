"""Every state change and every refusal leaves an entry, in the transaction of what it tells (law 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from partners.actors import Actor

RECORD = text(
    "SELECT record_audit(:at, :action, :outcome, :reasons, :actor_kind, :actor_id, :partner, :perk, :member, :subject,"
    " :policy_version, :tier, CAST(:units AS int), CAST(:amount AS bigint))"
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What an entry is about: any of partner, perk and member, and the row that changed."""

    partner_id: UUID | None = None
    perk_id: UUID | None = None
    member_id: UUID | None = None
    subject_id: UUID | None = None
    policy_version: int | None = None
    tier: str | None = None
    units: int | None = None
    amount: int | None = None


async def record(
    session: AsyncSession,
    action: str,
    subject: Subject,
    actor: Actor,
    now: datetime,
    *,
    refused: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> bytes:
    """Writes an entry and puts it into the outbox; returns its leaf hash.

    `action` is the event's name (`tier.assigned`). `refused` makes it a refusal for those reasons; `notes` are
    codes of a change that was done. Neither holds anything that identifies a person.
    """
    leaf_hash: bytes | None = await session.scalar(
        RECORD,
        {
            "at": now,
            "action": action,
            "outcome": "REFUSED" if refused else "DONE",
            "reasons": list(refused or notes),
            "actor_kind": actor.kind.value,
            "actor_id": actor.id,
            "partner": subject.partner_id,
            "perk": subject.perk_id,
            "member": subject.member_id,
            "subject": subject.subject_id,
            "policy_version": subject.policy_version,
            "tier": subject.tier,
            "units": subject.units,
            "amount": subject.amount,
        },
    )
    assert leaf_hash is not None
    return leaf_hash
