"""Exports: files that a partner asks for of its own redemptions, or staff of everything, made in the background."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor, ActorKind
from partners.errors import BadInput, NotFound, PerksError
from partners.facts import RefusalCode
from partners.reading import day_of
from partners.tables import ExportFormat, ExportKind, ExportState, FulfilmentState

OPEN_MAX = 2
KEPT_MAX = 20
"""Of one partner, or of one person of staff: exports that are being made, and those whose file is kept, both kinds."""
KEPT = timedelta(days=7)
OPEN = (ExportState.QUEUED, ExportState.RUNNING)
HELD = (*OPEN, ExportState.DONE)
START = UUID(int=0)


class ParquetUnavailable(PerksError):
    """This installation lacks what writes Parquet."""

    code = "PARQUET_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("Parquet needs the extra `parquet`: pip install 'perks-gateway[parquet]'; CSV and JSONL don't")


class OutOfReach(PerksError):
    """A token that speaks for one member alone exports nothing."""

    code = "FORBIDDEN"


class Wanted(BaseModel, frozen=True):
    """What is exported, as it stands in `export.wanted`; times are half-open, from `since` until before `until`.

    `partner_id` and `perk_id` bound it, the latter two hold for redemptions. Rows end with `last`: the newest
    redemption's id, or UUID(int=n) for the first n leaves of the log. Making it waits until every transaction below
    `settled` has ended, so that none of them still adds a row before `last`.
    """

    since: datetime | None = None
    until: datetime | None = None
    partner_id: UUID | None = None
    perk_id: UUID | None = None
    fulfilment: FulfilmentState | None = None
    reversed: bool | None = None
    last: UUID = START
    settled: int = 0
    client_id: str | None = None
    tiers: bool = True


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: a kind, a format and a filter."""

    kind: ExportKind
    format: ExportFormat
    wanted: Wanted


def check_ask(ask: Ask, actor: Actor) -> Wanted:
    """The filter as far as the actor reaches. BadInput for what can't be, OutOfReach, ParquetUnavailable."""
    wanted, partner = ask.wanted, actor.kind is ActorKind.PARTNER
    if actor.alias is not None or actor.kind is ActorKind.MEMBER:
        raise OutOfReach("a token that speaks for one member exports nothing")
    if partner and ask.kind is ExportKind.ENTRIES:
        raise BadInput("kind: audit entries are for staff; a partner exports its redemptions")
    if partner and wanted.partner_id not in (None, actor.partner_id):
        raise BadInput("partner: a partner exports its own redemptions, leave it out")
    if ask.kind is ExportKind.ENTRIES and (wanted.fulfilment, wanted.reversed) != (None, None):
        raise BadInput("fulfilment, reversed: these are filters of redemptions")
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise BadInput("since: earlier than until")
    if ask.format is ExportFormat.PARQUET and find_spec("pyarrow") is None:
        raise ParquetUnavailable
    return wanted.model_copy(update={"partner_id": actor.partner_id}) if partner else wanted


async def bound(session: AsyncSession, kind: ExportKind, wanted: Wanted) -> Wanted:
    """The same filter with the end of one consistent cut: rows that are made from now on are not in it."""
    if kind is ExportKind.ENTRIES:
        size: int | None = await session.scalar(select(tables.LogHead.size))
        last: UUID | None = UUID(int=size or 0)
    else:
        redemption = tables.Redemption
        query = select(redemption.id).order_by(col(redemption.id).desc()).limit(1)
        if wanted.partner_id is not None:
            query = query.where(redemption.partner_id == wanted.partner_id)
        last = await session.scalar(query)
    settled = await session.scalar(sa.text("SELECT CAST(pg_current_xact_id() AS text)"))
    return wanted.model_copy(update={"last": last or START, "settled": int(settled or 0)})


async def request_export(
    session: AsyncSession, ask: Ask, *, actor: Actor, now: datetime
) -> tuple[tables.Export | None, RefusalCode | None]:
    """Queues an export; None and EXPORT_LIMIT_REACHED when the partner, or the person of staff, has too many.

    BadInput for an impossible filter, OutOfReach, ParquetUnavailable.
    """
    wanted = check_ask(ask, actor)
    subject = audit.Subject(partner_id=wanted.partner_id, perk_id=wanted.perk_id)
    notes = [ask.kind.value, ask.format.value]
    if await has_too_many(session, actor):
        refused = RefusalCode.EXPORT_LIMIT_REACHED
        await audit.record(session, "export.requested", subject, actor, now, refused=[refused])
        return None, refused
    wanted = await bound(session, ask.kind, wanted)
    export = tables.Export(
        partner_id=actor.partner_id,
        requested_by=actor.id,
        kind=ask.kind,
        format=ask.format,
        wanted=wanted.model_dump(mode="json", exclude_none=True),
        created_at=now,
    )
    session.add(export)
    await session.flush()
    about = audit.Subject(partner_id=wanted.partner_id, perk_id=wanted.perk_id, subject_id=export.id)
    await audit.record(session, "export.requested", about, actor, now, notes=notes)
    return export, None


async def has_too_many(session: AsyncSession, actor: Actor) -> bool:
    """Whether the limits are reached; whoever asks for the same owner at the same time waits here."""
    owner = f"export {actor.partner_id or actor.id}"
    await session.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))"), {"owner": owner})
    export = tables.Export
    query = sa.select(sa.func.count(), sa.func.count().filter(col(export.state).in_(OPEN)))
    query = query.where(reached(actor), col(export.state).in_(HELD))
    if actor.kind is ActorKind.STAFF:
        query = query.where(col(export.requested_by) == actor.id)
    kept, opened = (await session.execute(query)).one()
    return kept >= KEPT_MAX or opened >= OPEN_MAX


def reached(actor: Actor) -> Any:
    """Which exports are within reach: a partner's own, staff's for staff, none for a token of one member."""
    if actor.alias is not None or actor.kind is ActorKind.MEMBER:
        return sa.false()
    return col(tables.Export.partner_id).is_not_distinct_from(actor.partner_id)


async def list_exports(session: AsyncSession, actor: Actor, *, first: int, after: UUID | None) -> list[tables.Export]:
    """Exports within reach, newest first, as many as `first`."""
    export = tables.Export
    query = select(export).where(reached(actor)).order_by(col(export.id).desc()).limit(first)
    if after is not None:
        query = query.where(col(export.id) < after)
    return list(await session.scalars(query))


async def find_export(session: AsyncSession, export_id: UUID, actor: Actor) -> tables.Export | None:
    """One export within reach."""
    return await session.scalar(select(tables.Export).where(tables.Export.id == export_id, reached(actor)))


async def cancel_export(
    session: AsyncSession, export_id: UUID, *, actor: Actor, now: datetime
) -> tuple[tables.Export, RefusalCode | None]:
    """Stops an export, or throws away the file of one that is done; what was cancelled before is left as it is.

    WRONG_STATE for one that failed or whose file is gone; NotFound.
    """
    query = select(tables.Export).where(tables.Export.id == export_id, reached(actor)).with_for_update()
    export = await session.scalar(query.execution_options(populate_existing=True))
    if export is None:
        raise NotFound("no such export")
    if export.state == ExportState.CANCELLED:
        return export, None
    subject = audit.Subject(partner_id=export.partner_id, subject_id=export.id)
    if export.state not in HELD:
        refused = RefusalCode.WRONG_STATE
        await audit.record(session, "export.cancelled", subject, actor, now, refused=[refused])
        return export, refused
    export.state, export.ended_at, export.expires_at = ExportState.CANCELLED, export.ended_at or now, now
    await audit.record(session, "export.cancelled", subject, actor, now)
    return export, None


async def record_download(
    session: AsyncSession, export: tables.Export, *, resumed: bool, actor: Actor, now: datetime
) -> None:
    """Keeps that a download began; one that is `resumed` is kept only where this caller has not begun any before."""
    entry = tables.AuditEntry
    if resumed:
        begun = select(entry.id).where(
            entry.subject_id == export.id, entry.action == "export.downloaded", entry.actor_id == actor.id
        )
        if await session.scalar(begun.limit(1)) is not None:
            return
    subject = audit.Subject(partner_id=export.partner_id, subject_id=export.id)
    await audit.record(session, "export.downloaded", subject, actor, now)


async def expire_exports_of(session: AsyncSession, partner_ids: list[UUID], now: datetime) -> int:
    """A member is erased: files of these partners, and of staff, may tell of it and go; those that are being made begin
    anew. Returns how many. The bytes follow within seconds (`partners.export_making.remove_due`).

    Called in the transaction that erases, which keeps waiting exports from being begun, and once more after its commit
    for what was asked for meanwhile.
    """
    export = tables.Export
    theirs = sa.or_(col(export.partner_id).in_(partner_ids), col(export.partner_id).is_(None))
    over = (
        sa.update(export)
        .where(theirs, col(export.state) == ExportState.DONE)
        # Not the moment, which is the same at all partners of the member (law 8).
        .values(state=ExportState.EXPIRED, expires_at=sa.func.greatest(day_of(now), col(export.ended_at)))
        .returning(col(export.id))
    )
    again = (
        sa.update(export)
        .where(theirs, col(export.state).in_(OPEN))
        .values(state=ExportState.QUEUED, cursor=None, rows=0, leased_until=None)
        .returning(col(export.id))
    )
    return len((await session.execute(over)).all()) + len((await session.execute(again)).all())
