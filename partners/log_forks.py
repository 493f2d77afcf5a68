"""Is the log in the database still the one that was signed last? What a restore or a failover lost shows here."""

from typing import Any

import orjson
from asyncpg import Connection

from partners.errors import Conflict
from partners.log import read_ranges
from partners.merkle import CompactRange
from partners.notes import Checkpoint, note_text

CONTINUED = "log.continued"
CONTINUATIONS_MAX = 100
WHAT_TO_DO = (
    "Nothing is signed until you decide: bring back the database that has all of them, or run `perks audit new-log` to"
    " go on under a new name (docs/log.md)."
)
FIRST_LEAVES = """
SELECT e.leaf FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id WHERE l.index < $1 ORDER BY l.index
"""


class LogForked(Conflict):
    """The database's log is not a continuation of the last checkpoint that is known; the message says what to do."""

    code = "LOG_FORKED"


async def require_onward(
    connection: "Connection[Any]", origin: str, tree: CompactRange, known: Checkpoint | None
) -> None:
    """LogForked unless the tree begins with the one of the checkpoint `known`, or continues that log under a new name.

    Costs a statement only where the tree is larger or its name another.
    """
    if known is None:
        return
    if origin != known.origin:
        last = (await continued_logs(connection)).get(known.origin)
        if last is None:
            has = f"the log {origin}" if origin else "no log yet"
            raise LogForked(f"the database has {has}, and {known.origin} was signed here last. {WHAT_TO_DO}")
        # What only a witness says (without a root) was weighed when the new log began.
        if known.root and (known.size > last.size or (known.size == last.size and known.root != last.root)):
            raise LogForked(
                f"the log {origin} goes on from {last.size} entries of {known.origin}, and {known.size} were signed"
                f" here, or others: what was lost is not told in it. {WHAT_TO_DO}"
            )
    elif tree.size < known.size:
        raise LogForked(
            f"the database has {tree.size} entries of the log {origin}, and {known.size} were signed: an older state"
            f" of it was restored, or a failover lost what came last. {WHAT_TO_DO}"
        )
    elif await root_at(connection, tree, known.size) != known.root:
        raise LogForked(
            f"the first {known.size} entries of the log {origin} are not those that were signed: entries were lost and"
            f" others came in their places. {WHAT_TO_DO}"
        )


async def require_head_onward(connection: "Connection[Any]", known: Checkpoint | None) -> str:
    """The log's name; LogForked unless the log as it is now goes on from a checkpoint."""
    head = await connection.fetchrow("SELECT origin, size, frontier FROM log_head")
    origin: str
    origin, size, frontier = ("", 0, b"") if head is None else head
    await require_onward(connection, origin, CompactRange(size, frontier), known)
    return origin


async def root_at(connection: "Connection[Any]", tree: CompactRange, size: int) -> bytes | None:
    """The root that the log had at an earlier size; None when its hashes are not all there."""
    if size in (0, tree.size):
        return tree.root() if size else CompactRange().root()
    try:
        [root] = await read_ranges(connection, [(0, size)])
    except LookupError:
        return None
    return root


async def continued_logs(connection: "Connection[Any]") -> dict[str, Checkpoint]:
    """The names that the database's log had before, from the entries that it begins with, and the largest checkpoint
    under each that they tell."""
    logs: dict[str, Checkpoint] = {}
    for row in await connection.fetch(FIRST_LEAVES, CONTINUATIONS_MAX):
        leaf = orjson.loads(row["leaf"])
        if leaf["action"] != CONTINUED:
            break
        told = Checkpoint.parse(note_text(leaf["checkpoint"]))
        if told.origin not in logs or told.size > logs[told.origin].size:
            logs[told.origin] = told
    return logs
