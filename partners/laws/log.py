"""Law 7 on a live database: every audit entry is in the log or on its way, and the log is what its head says."""

from datetime import datetime
from typing import Any

from asyncpg import Connection

from partners.laws.checks import Check, Finding, find, snapshot
from partners.merkle import CompactRange
from partners.notes import Checkpoint, NoteInvalid, note_text, open_checkpoint, verifier_of

HASHES_AT_ONCE = 10_000

CHECKS = (
    Check(
        7,
        "entry_not_on_its_way",
        "an audit entry is neither in the outbox nor in the log, or is in both",
        """
  SELECT e.id FROM audit_entry e LEFT JOIN outbox o ON o.entry_id = e.id LEFT JOIN log_leaf l ON l.entry_id = e.id
  WHERE (o.entry_id IS NULL) = (l.entry_id IS NULL)""",
    ),
    Check(
        7,
        "leaf_without_entry",
        "the outbox or the log has a leaf hash that is not its audit entry's",
        """
  SELECT entry_id FROM (SELECT entry_id, leaf_hash FROM outbox UNION ALL SELECT entry_id, leaf_hash FROM log_leaf) AS p
  WHERE NOT EXISTS (SELECT FROM audit_entry e WHERE e.id = p.entry_id AND e.leaf_hash = p.leaf_hash)""",
    ),
    Check(
        7,
        "leaf_changed",
        "an audit entry's leaf is not the one that was hashed",
        "SELECT id FROM audit_entry WHERE leaf_hash <> leaf_hash(leaf)",
    ),
    Check(
        7,
        "entry_not_as_its_leaf",
        "an audit entry can be found under what its leaf does not say",
        # Canonical JSON has its names in order, so a pattern does, and it can't fail on a leaf that is no JSON.
        """
  SELECT id FROM audit_entry WHERE leaf NOT LIKE concat(
    '{"action":', to_json(action), ',%"id":"', id, '",%"outcome":', to_json(outcome),
    ',%"partner":', coalesce(to_json(partner_id)::text, 'null'), ',%"perk":', coalesce(to_json(perk_id)::text, 'null'),
    ',%"subject":', coalesce(to_json(subject_id)::text, 'null'), ',%') ESCAPE ''""",
    ),
    Check(
        7,
        "log_gap",
        "the log's indexes leave one out before this one",
        """
  SELECT index FROM (SELECT index, lag(index, 1, -1::bigint) OVER (ORDER BY index) AS before FROM log_leaf) AS one
  WHERE before <> index - 1""",
    ),
)


async def check_log(connection: "Connection[Any]", key: bytes, now: datetime) -> list[Finding]:
    """The log against the audit entries, and its head against the log and `key`, the seed of 32 bytes.

    Hashes everything again: seconds for a million entries.
    """
    async with snapshot(connection):
        findings = await find(connection, CHECKS, now)
        fault = await head_fault(connection, key)
    return findings if fault is None else [*findings, Finding(7, "head_differs", fault, 1, ("1",))]


async def head_fault(connection: "Connection[Any]", key: bytes) -> str | None:
    """Why the log's head is not the signed tree of its leaves; a log without leaves needs none."""
    tree = CompactRange()
    cursor = await connection.cursor("SELECT leaf_hash FROM log_leaf ORDER BY index")
    while rows := await cursor.fetch(HASHES_AT_ONCE):
        tree.append(row["leaf_hash"] for row in rows)
    head = await connection.fetchrow("SELECT size, frontier, checkpoint FROM log_head WHERE size > 0")
    if head is None:
        return f"the log has {tree.size} leaves and no head" if tree.size else None
    if (head["size"], head["frontier"]) != (tree.size, tree.frontier):
        return f"the head of {head['size']} leaves is not that of the log's {tree.size}"
    try:
        origin = Checkpoint.parse(note_text(head["checkpoint"])).origin
        signed = open_checkpoint(head["checkpoint"], verifier_of(origin, key))
    except NoteInvalid as fault:
        return f"the head's checkpoint can't be trusted: {fault}"
    if (signed.size, signed.root) != (tree.size, tree.root()):
        return f"the head's checkpoint of {signed.size} leaves is not of the log's {tree.size}"
    return None
