"""Reads what a storm left behind, for the checker of histories."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from asyncpg import Connection


@dataclass
class Ending:
    """What the database and its audit log hold after the storm; ids as text."""

    holds: dict[str, Any] = field(default_factory=dict)
    redemptions: dict[str, Any] = field(default_factory=dict)
    reversals: dict[str, Any] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    leaves: frozenset[str] = frozenset()


async def read_ending(connection: "Connection[Any]") -> Ending:
    """Everything that is there: what the answers are held against."""
    holds = await connection.fetch("SELECT id::text, perk_id::text AS perk, state, units, claimed_by AS who FROM hold")
    redemptions = await connection.fetch("SELECT id::text, hold_id::text AS hold, units FROM redemption")
    reversals = await connection.fetch("SELECT id::text, redemption_id::text AS redemption, units, stock FROM reversal")
    taken = await connection.fetch("SELECT perk_id::text AS perk, taken FROM capacity")
    entries = await connection.fetch(
        "SELECT action, outcome, subject_id::text AS subject, encode(leaf_hash, 'hex') AS leaf FROM audit_entry"
    )
    return Ending(
        holds={row["id"]: dict(row) for row in holds},
        redemptions={row["id"]: dict(row) for row in redemptions},
        reversals={row["id"]: dict(row) for row in reversals},
        taken={row["perk"]: row["taken"] for row in taken},
        done=Counter((one["action"], one["subject"]) for one in entries if one["outcome"] == "DONE"),
        refused=Counter(one["action"] for one in entries if one["outcome"] == "REFUSED"),
        leaves=frozenset(one["leaf"] for one in entries),
    )
