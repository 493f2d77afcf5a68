"""Exports: a partner asks for its redemptions as a file, staff for everything, and both see how far it is."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from partners import exports, tables
from partners.exports import Ask, Wanted
from partners.tables import ExportFormat, ExportKind, ExportState, FulfilmentState
from schema.context import Info
from schema.ids import EXPORT, PARTNER, PERK, optional_id, read_id, show_id
from schema.nodes import Node
from schema.outcomes import UserError, plain_error
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Partners, Staff, field, object_type

MAY_EXPORT = Partners("redemptions:read") | Staff("audit:read")
READ_TIERS = "member.tier:read"

strawberry.enum(ExportKind, description="What is exported; audit entries are for staff.")
strawberry.enum(ExportFormat, description="How it is written (docs/exports.md); Parquet where it is installed.")
strawberry.enum(ExportState, description="Of an EXPIRED or CANCELLED one the file is gone; FAILED never had one.")


@object_type(permission=MAY_EXPORT, description="A file that is made in the background and kept for seven days.")
class Export(Node):
    kind: ExportKind = field(description="Of what.")
    format: ExportFormat = field(description="How it is written.")
    state: ExportState = field(description="How far it is.")
    rows: int = field(description="How many rows are written.")
    total: int | None = field(description="How many there will be; null until they are counted.")
    bytes: float = field(description="How long the file is so far, a whole number.")
    since: datetime | None = field(description="Rows of this moment or later.")
    until: datetime | None = field(description="Rows before this moment.")
    partner_id: strawberry.ID | None = field(description="Of this partner alone.")
    perk_id: strawberry.ID | None = field(description="Of this perk alone.")
    requested_by: str = field(description="Which client, or person of staff, asked for it.")
    created_at: datetime = field(description="When: rows that came later are not in it.")
    ended_at: datetime | None = field(description="When it was done, failed or was cancelled.")
    expires_at: datetime | None = field(description="When the file will be thrown away.")
    fault: str | None = field(description="The code of what went wrong (docs/errors.md), also while it is tried again.")
    download_url: str | None = field(
        description="Where the file is, below the address of this service, once it is DONE: for GET with a token."
    )

    @classmethod
    def of(cls, row: tables.Export) -> "Export":
        """As its owner sees it."""
        wanted = Wanted.model_validate(row.wanted)

        def shown(kind: str, id: UUID | None) -> strawberry.ID | None:
            return None if id is None else strawberry.ID(show_id(kind, id))

        done = row.state == ExportState.DONE
        return cls(
            id=strawberry.ID(show_id(EXPORT, row.id)),
            kind=ExportKind(row.kind),
            format=ExportFormat(row.format),
            state=ExportState(row.state),
            rows=row.rows,
            total=row.total,
            bytes=row.bytes,
            since=wanted.since,
            until=wanted.until,
            partner_id=shown(PARTNER, wanted.partner_id),
            perk_id=shown(PERK, wanted.perk_id),
            requested_by=row.requested_by,
            created_at=row.created_at,
            ended_at=row.ended_at,
            expires_at=row.expires_at,
            fault=row.fault,
            download_url=f"/exports/{show_id(EXPORT, row.id)}" if done else None,
        )


async def load_export(info: Info, id: UUID) -> Export | None:
    """One export within reach."""
    async with info.context.reading() as session:
        row = await exports.find_export(session, id, info.context.actor)
    return None if row is None else Export.of(row)


async def find_export(info: Info, id: strawberry.ID) -> Export | None:
    """The same by global id."""
    return await load_export(info, read_id(EXPORT, id))


async def find_exports(info: Info, first: int | None = None, after: str | None = None) -> Connection[Export]:
    """A page of exports within reach, newest first: one statement."""
    size = page_size(first)
    async with info.context.reading() as session:
        rows: Sequence[tables.Export] = await exports.list_exports(
            session, info.context.actor, first=size + 1, after=read_cursor(after)
        )
    page: Connection[Export] = connect(rows, size, after, id_of=lambda row: row.id, node_of=Export.of)
    return page


@strawberry.input(description="What to export; every condition that is given must hold.")
class RequestExportInput:
    kind: ExportKind = strawberry.field(description="Of what.")
    format: ExportFormat = strawberry.field(default=ExportFormat.CSV, description="How it is to be written.")
    since: datetime | None = strawberry.field(default=None, description="Confirmed, or recorded, at or after.")
    until: datetime | None = strawberry.field(default=None, description="Before.")
    partner: strawberry.ID | None = strawberry.field(default=None, description="Of this partner; for staff to say.")
    perk: strawberry.ID | None = strawberry.field(default=None, description="Of this perk.")
    fulfilment: FulfilmentState | None = strawberry.field(default=None, description="Redemptions that are so far.")
    reversed: bool | None = strawberry.field(default=None, description="Redemptions that were taken back, or not.")


@strawberry.input(description="Which export.")
class CancelExportInput:
    export: strawberry.ID = strawberry.field(description="Which.")


@object_type(permission=MAY_EXPORT, description="The export, or why there is none.")
class ExportPayload:
    export: Export | None = field(description="The export as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it was done.")


async def request_export(info: Info, input: RequestExportInput) -> ExportPayload:
    """Queues an export."""
    context = info.context
    wanted = Wanted(
        since=input.since,
        until=input.until,
        partner_id=optional_id(PARTNER, input.partner),
        perk_id=optional_id(PERK, input.perk),
        fulfilment=input.fulfilment,
        reversed=input.reversed,
        client_id=context.caller.client_id or context.caller.id,
        tiers=READ_TIERS in context.caller.scopes,
    )
    async with context.sessions.begin() as session:
        ask = Ask(input.kind, input.format, wanted)
        row, refused = await exports.request_export(session, ask, actor=context.actor, now=context.now)
    export = None if row is None else Export.of(row)
    return ExportPayload(export=export, user_errors=[] if refused is None else plain_error(refused, ["kind"]))


async def cancel_export(info: Info, input: CancelExportInput) -> ExportPayload:
    """Stops an export, or throws its file away."""
    context = info.context
    async with context.sessions.begin() as session:
        row, refused = await exports.cancel_export(
            session, read_id(EXPORT, input.export), actor=context.actor, now=context.now
        )
    errors = [] if refused is None else plain_error(refused, ["export"])
    return ExportPayload(export=Export.of(row), user_errors=errors)
