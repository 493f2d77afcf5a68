"""Law 7 on a live database: every audit entry is in the log or on its way, and the log is what its head says."""

from datetime import datetime
from typing import Any

from asyncpg import Connection

from partners.errors import Unavailable
from partners.keys import Keys
from partners.laws.checks import Check, Finding, find, snapshot
from partners.log_keys import open_seed, require_own
from partners.merkle import CompactRange, Node
from partners.notes import NoteInvalid, Verifier, open_checkpoint, verifier_of

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


async def check_log(connection: "Connection[Any]", keys: Keys, now: datetime) -> list[Finding]:
    """The log against the audit entries, and its head and nodes against the log and the keys that the secret opens.

    Hashes everything again: seconds for a million entries.
    """
    async with snapshot(connection):
        findings = await find(connection, CHECKS, now)
        tree = await grow_again(connection)
        fault = await head_fault(connection, tree, keys)
        nodes = await count_node_faults(connection, tree.completed)
    if fault is not None:
        findings.append(Finding(7, "head_differs", fault, 1, ("1",)))
    if nodes:
        findings.append(Finding(7, "node_differs", "a root of 256, 65,536, … leaves is not theirs", nodes, ()))
    return findings


async def grow_again(connection: "Connection[Any]") -> CompactRange:
    """The tree of all leaf hashes."""
    tree = CompactRange()
    cursor = await connection.cursor("SELECT leaf_hash FROM log_leaf ORDER BY index")
    while rows := await cursor.fetch(HASHES_AT_ONCE):
        tree.append(row["leaf_hash"] for row in rows)
    return tree


async def head_fault(connection: "Connection[Any]", tree: CompactRange, keys: Keys) -> str | None:
    """Why the log's head is not the signed tree of its leaves; a log without leaves needs none."""
    head = await connection.fetchrow("SELECT origin, size, frontier, checkpoint FROM log_head WHERE size > 0")
    if head is None:
        return f"the log has {tree.size} leaves and no head" if tree.size else None
    if (head["size"], head["frontier"]) != (tree.size, tree.frontier):
        return f"the head of {head['size']} leaves is not that of the log's {tree.size}"
    try:
        verifiers = await trusted_verifiers(connection, head["origin"], head["checkpoint"], keys)
        signed = open_checkpoint(head["checkpoint"], *verifiers)
    except (NoteInvalid, Unavailable) as fault:
        return f"the head's checkpoint can't be trusted: {fault}"
    if (signed.size, signed.root) != (tree.size, tree.root()):
        return f"the head's checkpoint of {signed.size} leaves is not of the log's {tree.size}"
    return None


async def trusted_verifiers(connection: "Connection[Any]", origin: str, checkpoint: str, keys: Keys) -> list[Verifier]:
    """Of every key of the log, made from what is sealed: its verifier key beside it could be anybody's."""
    rows = await connection.fetch("SELECT label, sealed FROM log_key WHERE origin = $1", origin)
    if not rows:
        require_own(keys, origin, checkpoint)
        return [verifier_of(origin, keys.log)]
    return [verifier_of(origin, open_seed(keys, row["label"], row["sealed"])) for row in rows]


async def count_node_faults(connection: "Connection[Any]", completed: list[Node]) -> int:
    """How many nodes of the log are missing, wrong or too many."""
    rows = await connection.fetch("SELECT level, index, hash FROM log_node")
    stored = {(row["level"], row["index"]): row["hash"] for row in rows}
    wrong: int = sum(stored.pop((node.level, node.index), None) != node.hash for node in completed)
    return wrong + len(stored)
