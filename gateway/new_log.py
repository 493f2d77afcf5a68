"""After entries were lost for good: the log goes on under a new name, and this host's mark with it."""

from dataclasses import dataclass
from typing import Any

from asyncpg import Connection, Record

from gateway.high_water import HighWater
from gateway.sequencer import Sequencer
from partners.actors import Actor
from partners.errors import BadInput, Conflict
from partners.log_continuing import continue_log, next_name
from partners.log_forks import LogForked, continued_logs, require_head_onward
from partners.notes import Checkpoint, is_name, note_text
from partners.sequencing import CREATE

HEAD = "SELECT origin, size, frontier, checkpoint FROM log_head FOR UPDATE"
NAMED = "SELECT EXISTS (SELECT FROM log_key WHERE origin = $1)"


@dataclass(frozen=True, slots=True)
class NewLog:
    """The log that begins, its size, the name of the one that ends, and how many entries of that were signed."""

    origin: str
    size: int
    continued: str
    signed: int


async def begin_new_log(sequencer: Sequencer, origin: str | None, actor: Actor) -> NewLog:
    """Goes on under `origin`, by default the next name, in one transaction; running sequencers go on by themselves.

    Where the database's log has another name than the one that this host knows, both were told to somebody, and it goes
    on from both. BadInput for a name that can't be or was used; Conflict while the log is empty, and without a name
    where nothing forces a new one.
    """
    async with sequencer.database.connection() as connection:
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(CREATE)
            head = await connection.fetchrow(HEAD)
            assert head is not None
            last = await last_note(connection, head, sequencer.high_water, named=origin is not None)
            old = Checkpoint.parse(note_text(last))
            new = old.origin if origin is None else origin
            if head["checkpoint"] and head["origin"] != old.origin:
                between = await unused_name(connection, head["origin"], {old.origin, new})
                await continue_log(
                    connection, head, head["checkpoint"], between, sequencer.keys, actor, sequencer.clock()
                )
                head = await connection.fetchrow(HEAD)
                assert head is not None
            new = await unused_name(connection, old.origin, {head["origin"]}) if origin is None else origin
            await require_new(connection, new, {old.origin, head["origin"]})
            note = await continue_log(connection, head, last, new, sequencer.keys, actor, sequencer.clock())
        await sequencer.high_water.keep(note)
    return NewLog(new, Checkpoint.parse(note_text(note)).size, old.origin, old.size)


async def unused_name(connection: "Connection[Any]", origin: str, used: set[str]) -> str:
    """The first of the names after a log's that none had."""
    name = next_name(origin)
    while await was_used(connection, name, used):
        name = next_name(name)
    return name


async def was_used(connection: "Connection[Any]", origin: str, used: set[str]) -> bool:
    """Whether a log of the database had the name, or it is one of those."""
    named: bool = await connection.fetchval(NAMED, origin)
    return named or origin in used or origin in await continued_logs(connection)


async def last_note(connection: "Connection[Any]", head: "Record", mark: HighWater, *, named: bool) -> str:
    """The last checkpoint that was signed, as a note: the database's unless the mark knows of entries it has lost."""
    own: str = head["checkpoint"]
    forked = not await is_onward(connection, await mark.known())
    kept = mark.read()
    if forked and kept is not None and not await is_onward(connection, Checkpoint.parse(note_text(kept))):
        return kept
    if not own:
        raise Conflict("the log is empty: there is nothing to go on from")
    if not forked and not named:
        raise Conflict(
            "the log goes on from what was signed last, so nothing forces a new one: give --origin to begin one anyway"
        )
    return own


async def is_onward(connection: "Connection[Any]", known: Checkpoint | None) -> bool:
    """Whether the database's log continues a checkpoint."""
    try:
        await require_head_onward(connection, known)
    except LogForked:
        return False
    return True


async def require_new(connection: "Connection[Any]", origin: str, used: set[str]) -> None:
    """BadInput for a name that no log may have, or that one had."""
    if not is_name(origin):
        raise BadInput(f"--origin: {origin!r} can't name a log: no space and no + in it")
    if await was_used(connection, origin, used):
        raise BadInput(f"--origin: {origin} was the name of a log already: another tree under it would be a fork")
