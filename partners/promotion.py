"""Offers to those who wait, in their order, and an end to waits that can come to nothing. partners/turns.py decides.

Nobody is asked about under the perk's lock. What was judged before is acted upon within it, and only where the facts
are still those that were judged: so two promoters at once make no offer twice and none out of turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Connection

from partners.eligibility import Question, learn
from partners.facts import Circumstances, RefusalCode
from partners.holds import claim_batch
from partners.perk_settings import Waitlist
from partners.references import MemberRef, PerkRef
from partners.turns import ENDING, PROMOTER, Entry, Line, Turn, Verdict, plan_offers, verdict_of
from partners.values import value

PAGE = 256
FEW = 16


async def judge(
    connection: "Connection[Any]",
    perk_id: UUID,
    entries: Sequence[Entry],
    waitlist: Waitlist,
    ranks: Mapping[str, int],
    now: datetime,
) -> dict[UUID, Verdict]:
    """What the rules say of those who wait, by one statement."""
    questions = [
        Question(
            MemberRef(id=one.member_id),
            PerkRef(id=perk_id),
            now,
            said=Circumstances(one.units, one.option, one.amount, one.device, waited=True),
        )
        for one in entries
    ]
    answers = await learn(connection, questions)
    return {
        entry.id: verdict_of(entry, known, waitlist, ranks, now)
        for entry, known in zip(entries, answers, strict=True)
        if known is not None
    }


ORDER = """
SELECT w.id, w.member_id, m.version AS member_version, w.option_id, o.handle AS option, w.units, w.amount, w.device,
  w.offers
FROM waitlist_entry w JOIN member m ON m.id = w.member_id LEFT JOIN perk_option o ON o.id = w.option_id
WHERE w.perk_id = $1 AND w.state = 'WAITING' ORDER BY w.weight DESC, w.joined_at, w.id LIMIT $2
"""


async def reweigh(connection: "Connection[Any]", perk_id: UUID, now: datetime) -> bool:
    """Puts those who wait into the order of the tiers that they have now; whether they were in another."""
    changed: bool = await connection.fetchval("SELECT reweigh_waitlist($1, $2)", perk_id, now)
    return changed


async def lock_line(connection: "Connection[Any]", perk_id: UUID, now: datetime, known: int) -> Line:
    """Locks the perk for the transaction and looks: as many of those who wait as are `known`, and some more."""
    state = await connection.fetchrow("SELECT * FROM lock_waitlist($1, $2)", perk_id, now)
    assert state is not None
    places = orjson.loads(state["places"])
    room = PAGE if any(free is None for _, free, _ in places) else sum(free + kept for _, free, kept in places)
    rows = await connection.fetch(ORDER, perk_id, known + min(PAGE, max(FEW, known, room)))
    return Line(
        state["perk_version"],
        Waitlist.model_validate_json(state["waitlist"] or "{}"),
        state["waiting"],
        tuple(Entry(*row.values()) for row in rows),
        {number: free for number, free, _ in places},
        {number: kept for number, _, kept in places},
        frozenset(state["held_options"]),
    )


@value
class Settled:
    """One step: how many offers were made, and whom to ask about before the next one; None: there is no next one."""

    offered: int
    waitlist: Waitlist
    unknown: tuple[Entry, ...] | None


async def settle_waitlist(
    connection: "Connection[Any]",
    perk_id: UUID,
    verdicts: dict[UUID, Verdict],
    *,
    codes: bytes,
    ranks: Mapping[str, int],
    now: datetime,
) -> Settled:
    """Does what the verdicts allow, within the caller's transaction; those that turn out to be wrong are struck."""
    line = await lock_line(connection, perk_id, now, len(verdicts))
    plan = plan_offers(line, verdicts)
    if plan.ends:
        codes_of = [verdicts[one.id].code for one in plan.ends]
        await end_entries(connection, perk_id, [one.id for one in plan.ends], codes_of, now)
    offers, whole = plan.offers[:PAGE], len(plan.offers) <= PAGE and plan.kept is not None
    stale = await changed_members(connection, offers)
    if stale:
        for entry_id in stale:
            del verdicts[entry_id]
    # Whoever rose since, perhaps from behind the last that was looked at, is not overtaken.
    if stale or (offers and await reweigh(connection, perk_id, now)):
        return Settled(0, line.waitlist, ())
    offered = await offer(connection, perk_id, offers, verdicts, codes=codes, ranks=ranks)
    if not whole or offered < len(offers):
        return Settled(offered, line.waitlist, plan.unknown)
    assert plan.kept is not None
    await connection.execute(
        "SELECT keep_for_waiting($1, $2::smallint[], $3::int[])", perk_id, list(plan.kept), list(plan.kept.values())
    )
    return Settled(offered, line.waitlist, None)


async def changed_members(connection: "Connection[Any]", offers: Sequence[Entry]) -> list[UUID]:
    """The entries whose members have changed since they were read; the others can't until the transaction ends."""
    if not offers:
        return []
    rows = await connection.fetch(
        "SELECT id, version FROM member WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        [one.member_id for one in offers],
    )
    versions = {row["id"]: row["version"] for row in rows}
    return [one.id for one in offers if versions.get(one.member_id) != one.member_version]


async def offer(
    connection: "Connection[Any]",
    perk_id: UUID,
    offers: Sequence[Entry],
    verdicts: dict[UUID, Verdict],
    *,
    codes: bytes,
    ranks: Mapping[str, int],
) -> int:
    """Holds for those whose turn it is; who has no allowance left after all is passed over. Returns how many."""
    claims = [claim for one in offers if (claim := verdicts[one.id].claim) is not None]
    if not claims:
        return 0
    made = 0
    for entry, claimed in zip(offers, await claim_batch(connection, perk_id, claims, codes, ranks), strict=True):
        if claimed.outcome == "HELD":
            made += 1
        elif claimed.reasons and claimed.outcome not in ("STALE", "KEY_RACE", "KEY_REUSED"):
            verdicts[entry.id] = replace(verdicts[entry.id], turn=Turn.PASSED, claim=None)
        else:
            del verdicts[entry.id]
    return made


async def end_entries(
    connection: "Connection[Any]",
    perk_id: UUID,
    entries: Sequence[UUID],
    codes: Sequence[RefusalCode | None],
    now: datetime,
) -> int:
    """Ends live entries of a perk for reasons of `ENDING`; what was offered to them goes to those behind. How many."""
    reasons = [RefusalCode.ENDED if code is None else code for code in codes]
    ended: int = await connection.fetchval(
        "SELECT end_waiting($1, $2::uuid[], $3::text[], $4::text[], $5, $6, $7)",
        perk_id,
        list(entries),
        [ENDING[reason].value for reason in reasons],
        [reason.value for reason in reasons],
        now,
        PROMOTER.kind.value,
        PROMOTER.id,
    )
    return ended


# Reached again by every sweep, so found by the index on live entries alone.
DEPARTED = """
SELECT w.perk_id, array_agg(w.id ORDER BY w.id) AS entries, array_agg(CASE WHEN c.id IS NULL THEN 'CONSENT_MISSING'
    WHEN m.state <> 'ACTIVE' THEN 'MEMBERSHIP_SUSPENDED' ELSE 'ENDED' END ORDER BY w.id) AS reasons
FROM waitlist_entry w JOIN member m ON m.id = w.member_id JOIN perk p ON p.id = w.perk_id
LEFT JOIN perk_option o ON o.id = w.option_id
LEFT JOIN consent c ON c.member_id = w.member_id AND c.partner_id = w.partner_id AND c.state = 'GRANTED'
  AND (c.expires_at IS NULL OR c.expires_at > $1) AND 'redemptions:write' = ANY (c.scopes)
WHERE w.state IN ('WAITING', 'OFFERED') AND (c.id IS NULL OR m.state <> 'ACTIVE'
  OR (w.state = 'WAITING' AND (coalesce(o.cut_off_at, o.starts_at) <= $1
    OR ($1 AT TIME ZONE p.time_zone)::date > p.closes_on)))
GROUP BY w.perk_id ORDER BY w.perk_id
"""


async def end_departed(connection: "Connection[Any]", now: datetime) -> int:
    """Ends the waits, and the offers, of members who withdrew their consent or are suspended, and the waits for what is
    over; perk by perk, each in its own transaction. How many."""
    ended = 0
    for row in await connection.fetch(DEPARTED, now):
        codes = [RefusalCode(reason) for reason in row["reasons"]]
        ended += await end_entries(connection, row["perk_id"], row["entries"], codes, now)
    return ended


WAITED_ON = """
SELECT c.perk_id, p.version, c.units, c.taken, c.kept, c.waiting FROM capacity c JOIN perk p ON p.id = c.perk_id
WHERE (c.waiting > 0 OR c.kept > 0) AND (c.kept > 0 OR c.units IS NULL OR c.taken < c.units) ORDER BY c.perk_id
"""


async def find_waited_on(connection: "Connection[Any]") -> list[tuple[UUID, tuple[object, ...]]]:
    """The perks of which something is there while somebody waits, or is kept for nobody; with what a look at each
    depends on, but for time and members."""
    return [(row["perk_id"], tuple(row.values())) for row in await connection.fetch(WAITED_ON)]
