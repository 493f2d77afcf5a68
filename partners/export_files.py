"""The file of an export that is done: who may have it, what it is called, and its bytes from anywhere on."""

from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from partners import tables
from partners.actors import Actor
from partners.errors import NotFound, PerksError
from partners.exports import OPEN, find_export
from partners.tables import ExportKind, ExportState

RETRY_SECONDS = 5
FIRST_PART = """
SELECT number FROM export_part WHERE export_id = $1 AND "offset" <= $2 ORDER BY number DESC LIMIT 1
"""
PART = 'SELECT "offset", body FROM export_part WHERE export_id = $1 AND number = $2'


class NotReady(PerksError):
    """The file is still being made; `retryAfter` in seconds."""

    code = "EXPORT_NOT_READY"


class Gone(PerksError):
    """There is no file any more: it was kept for long enough or cancelled, or making it failed."""

    code = "EXPORT_GONE"


async def find_file(session: AsyncSession, export_id: UUID, actor: Actor, now: datetime) -> tables.Export:
    """An export whose file is there, within reach; NotFound, NotReady, Gone."""
    export = await find_export(session, export_id, actor)
    if export is None:
        raise NotFound("no such export")
    if export.state in OPEN:
        raise NotReady("the file is still being made: ask again", retryAfter=RETRY_SECONDS)
    if export.state != ExportState.DONE or export.expires_at is None or export.expires_at <= now:
        raise Gone(f"the file is not there: the export is {export.state}, ask for a new one")
    return export


def needs_tiers(export: tables.Export) -> bool:
    """Whether members' tiers are in it, so that a partner needs the right to read them, too."""
    of_partner = export.partner_id is not None and export.kind == ExportKind.REDEMPTIONS
    return of_partner and bool(export.wanted.get("tiers"))


def file_name(export: tables.Export) -> str:
    """As it is offered for saving, in ASCII."""
    return f"{export.kind.lower()}-{export.created_at:%Y%m%d}-{export.id.hex[-8:]}.{export.format.lower()}"


async def find_part(connection: "Connection[Any]", export_id: UUID, position: int) -> int | None:
    """The number of the part with this byte; None when the file is gone."""
    found: int | None = await connection.fetchval(FIRST_PART, export_id, position)
    return found


async def read_part(connection: "Connection[Any]", export_id: UUID, number: int) -> tuple[int, bytes] | None:
    """Where a part begins, and its bytes; None when the file is gone."""
    row = await connection.fetchrow(PART, export_id, number)
    return None if row is None else (row["offset"], row["body"])
