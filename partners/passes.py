"""What a member shows at a counter instead of a name: a code that is good once, for a minute, at one till."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from partners import tables
from partners.codes import code_hash, random_code
from partners.members import lock_member
from partners.references import MemberRef
from partners.tables import MemberState

PASSES_LIVE = timedelta(seconds=60)
NEW_PASS_EVERY = timedelta(seconds=30)
"""Half a pass's life: the one before stays good while somebody is still reading it."""
LIVE_PASSES_MAX = 5


@dataclass(frozen=True, slots=True)
class ShownPass:
    """A new pass, in clear this once. `next_at` is when to ask for another."""

    code: str = field(repr=False)
    expires_at: datetime
    next_at: datetime


@dataclass(frozen=True, slots=True)
class PassHolder:
    """The member who showed a pass, as one partner may know them: the live consent and what it lets the partner do."""

    member_id: UUID
    alias: str
    consent_id: UUID
    scopes: frozenset[str]


# SKIP LOCKED: a till that is using a pass needs the member's row next, which is locked here.
END_OLDER = text("""
UPDATE pass SET expires_at = :now WHERE id IN (SELECT id FROM pass
  WHERE member_id = :member AND used_at IS NULL AND expires_at > :now
  ORDER BY expires_at DESC, id DESC OFFSET :kept FOR UPDATE SKIP LOCKED)
""")


async def create_pass(
    session: AsyncSession, member_id: UUID, *, ends_others: bool = False, now: datetime
) -> ShownPass | None:
    """A new pass of the member; None when the membership is suspended. NotFound when there is no such member.

    Of a member's unused passes the newest five are good, or with `ends_others` this one alone.
    """
    member = await lock_member(session, MemberRef(id=member_id))
    if member.state != MemberState.ACTIVE:
        return None
    kept = 0 if ends_others else LIVE_PASSES_MAX - 1
    await session.execute(END_OLDER, {"member": member_id, "now": now, "kept": kept})
    shown = ShownPass(random_code(), now + PASSES_LIVE, now + NEW_PASS_EVERY)
    session.add(
        tables.Pass(member_id=member_id, hash=code_hash(shown.code), created_at=now, expires_at=shown.expires_at)
    )
    await session.flush()
    return shown


# The locks make whoever withdraws the consent wait until what is made from it can be seen, and then end that too. The
# member comes first, as it does there.
USE = text("""
WITH shown AS (UPDATE pass SET used_at = :now
  WHERE hash = :hash AND used_at IS NULL AND expires_at > :now RETURNING member_id)
SELECT m.id AS member_id, a.alias, c.id AS consent_id, c.scopes FROM shown
JOIN member m ON m.id = shown.member_id AND m.state = 'ACTIVE'
JOIN consent c ON c.member_id = m.id AND c.partner_id = :partner AND c.state = 'GRANTED'
  AND (c.expires_at IS NULL OR c.expires_at > :now)
JOIN member_alias a ON a.member_id = m.id AND a.partner_id = :partner
FOR KEY SHARE OF m FOR SHARE OF c
""")


async def use_pass(session: AsyncSession, code: str, partner_id: UUID, now: datetime) -> PassHolder | None:
    """Uses a pass up at a partner: who showed it, or None. One statement, whatever is wrong.

    None is the answer to an unknown, used or expired pass, to a suspended member and to one who has not consented to
    this partner (law 9). A live pass is used up in each case: it was shown, and somebody else may have seen it.
    """
    row = (await session.execute(USE, {"hash": code_hash(code), "partner": partner_id, "now": now})).one_or_none()
    return None if row is None else PassHolder(row.member_id, row.alias, row.consent_id, frozenset(row.scopes))
