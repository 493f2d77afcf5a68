"""An export into a file of this machine, of any length, that an interruption leaves where it can go on."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

from pydantic import BaseModel, ValidationError

from partners import audit
from partners.actors import Actor
from partners.errors import BadInput
from partners.export_formats import WRITERS, Writer
from partners.export_making import PATIENCE
from partners.export_rows import Source
from partners.exports import Ask, Wanted, bound, check_ask
from partners.tables import ExportFormat, ExportKind

if TYPE_CHECKING:
    from gateway.app import Service

SETTLED = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= CAST($1::text AS xid8)"
LOOK = timedelta(milliseconds=100)


class Progress(BaseModel):
    """How far a file is, as it stands beside its draft."""

    kind: ExportKind
    format: ExportFormat
    wanted: Wanted
    total: int
    cursor: UUID | None = None
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that takes its name at the end; until then it and its progress are hidden beside the place."""

    file: Path

    @property
    def body(self) -> Path:
        """What is written so far."""
        return self.file.with_name(f".{self.file.name}.part")

    @property
    def state(self) -> Path:
        """How far that is."""
        return self.file.with_name(f".{self.file.name}.part.json")

    def begun(self, ask: Ask) -> Progress | None:
        """Where to go on; None where nothing was begun, or it can't go on. BadInput when it was something else."""
        try:
            progress = Progress.model_validate_json(self.state.read_bytes())
            long_enough = self.body.stat().st_size >= progress.bytes
        except (FileNotFoundError, ValidationError):
            return None
        given = ask.wanted.model_dump(exclude={"last", "settled"})
        kept = progress.wanted.model_dump(exclude={"last", "settled"})
        if (progress.kind, progress.format, kept) != (ask.kind, ask.format, given):
            raise BadInput("--resume: what was begun there was another export; give the same options, or none of it")
        return progress if long_enough and progress.format is not ExportFormat.PARQUET else None

    def open(self, progress: Progress) -> BinaryIO:
        """The draft, cut off where its progress ends."""
        out = self.body.open("r+b" if progress.bytes else "wb")
        out.truncate(progress.bytes)
        out.seek(progress.bytes)
        return out

    def keep(self, out: BinaryIO, piece: bytes, progress: Progress) -> None:
        """Adds a piece, and then says so: what was said is on the disk."""
        out.write(piece)
        out.flush()
        os.fsync(out.fileno())
        fresh = self.state.with_suffix(".new")
        fresh.write_text(progress.model_dump_json(), encoding="utf-8")
        fresh.replace(self.state)

    def finish(self) -> None:
        """The draft becomes the file."""
        self.body.replace(self.file)
        self.state.unlink(missing_ok=True)


async def export_to_file(
    service: "Service", ask: Ask, file: Path, actor: Actor, *, resume: bool, tell: Callable[[Progress], None]
) -> Progress:
    """Writes an export; `tell` hears of each step. BadInput, ParquetUnavailable, OSError of the disk."""
    draft = Draft(file)
    progress = draft.begun(ask) if resume else None
    if progress is None:
        progress = await begin(service, ask, actor)
    source = Source(progress.kind, progress.wanted)
    writer = WRITERS[progress.format](source.columns)
    with draft.open(progress) as out:
        while progress.cursor is None or progress.cursor < progress.wanted.last:
            progress, piece = await step(service, source, writer, progress)
            await asyncio.to_thread(draft.keep, out, piece, progress)
            tell(progress)
    draft.finish()
    return progress


async def begin(service: "Service", ask: Ask, actor: Actor) -> Progress:
    """Bounds what is wanted, waits for what was under way, and keeps that it was asked for."""
    now = service.clock()
    check_ask(ask, actor)
    async with service.database.sessions.begin() as session:
        wanted = await bound(session, ask.kind, ask.wanted)
        subject = audit.Subject(partner_id=wanted.partner_id, perk_id=wanted.perk_id)
        await audit.record(session, "export.requested", subject, actor, now, notes=[ask.kind.value, ask.format.value])
    for _ in range(PATIENCE // LOOK):
        async with service.database.connection() as connection:
            if await connection.fetchval(SETTLED, str(wanted.settled)):
                break
        await asyncio.sleep(LOOK.total_seconds())
    async with service.database.connection() as connection:
        total = await Source(ask.kind, wanted).count(connection)
    return Progress(kind=ask.kind, format=ask.format, wanted=wanted, total=total)


async def step(service: "Service", source: Source, writer: Writer, progress: Progress) -> tuple[Progress, bytes]:
    """The next rows, as they are written."""
    async with service.database.connection() as connection:
        batch = await source.read(connection, progress.cursor, service.clock())
    piece = (writer.head() if progress.cursor is None else b"") + await asyncio.to_thread(writer.add, batch.rows())
    if batch.cursor >= source.wanted.last:
        piece += writer.tail()
    rows, size = progress.rows + len(batch.records), progress.bytes + len(piece)
    return progress.model_copy(update={"cursor": batch.cursor, "rows": rows, "bytes": size}), piece
