"""The audit entries that staff search, newest first, and follow as they get their places in the log."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

import strawberry

from partners import entries
from partners.entries import Entry, EntryFilter, Extent
from partners.errors import BadInput
from partners.feeds import Seen
from partners.live import THE_LOG, read_extent
from partners.proofs import Proof, prove_entries
from schema.context import Info
from schema.ids import ENTRY, MEMBER, PARTNER, PERK, optional_id, show_id, split_id
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor, show_cursor
from schema.permissions import Staff, field, object_type
from schema.proofs import AuditProof
from schema.selection import selected


@object_type(permission=Staff("audit:read"), description="One append-only record of a state change or a refusal.")
class AuditEntry(Node):
    at: datetime = field(description="When.")
    action: str = field(description="What, as `perk.claimed`.")
    outcome: str = field(description="DONE or REFUSED.")
    reasons: list[str] = field(description="Codes: why it was refused, or what kind of change it was.")
    actor_kind: str = field(description="partner, member, staff or system.")
    actor_id: str = field(description="Which client, member or person of staff.")
    partner_id: strawberry.ID | None = field(description="The partner concerned.")
    perk_id: strawberry.ID | None = field(description="The perk concerned.")
    member_id: strawberry.ID | None = field(description="The member concerned; null once erased.")
    subject_id: str | None = field(description="The row that changed: a hold, a redemption, an assignment, …")
    leaf: str = field(description="The canonical JSON (RFC 8785) that the log holds.")
    leaf_hash: str = field(description="SHA-256 of 0x00 and the leaf, in hexadecimal (RFC 6962).")
    index: int | None = field(description="Its place in the log, from 0 on; null in the moment before it has one.")
    proof: AuditProof | None = field(description="That it is in the log; null in the moment before it is.")

    @classmethod
    def of(cls, row: Entry, proof: Proof | None = None) -> "AuditEntry":
        """An entry as staff see it."""

        def shown(kind: str, id: UUID | None) -> strawberry.ID | None:
            return None if id is None else strawberry.ID(show_id(kind, id))

        return cls(
            id=strawberry.ID(show_id(ENTRY, row.id)),
            at=row.at,
            action=row.action,
            outcome=row.outcome,
            reasons=row.reasons,
            actor_kind=row.actor_kind,
            actor_id=row.actor_id,
            partner_id=shown(PARTNER, row.partner_id),
            perk_id=shown(PERK, row.perk_id),
            member_id=shown(MEMBER, row.member_id),
            subject_id=None if row.subject_id is None else row.subject_id.hex,
            leaf=row.leaf,
            leaf_hash=row.leaf_hash.hex(),
            index=row.index,
            proof=None if proof is None else AuditProof.of(proof, row.leaf, row.leaf_hash),
        )


@strawberry.input(description="Which entries; every condition that is given must hold.")
class AuditFilter:
    action: str | None = strawberry.field(default=None, description="As `perk.claimed`.")
    actions: list[str] | None = strawberry.field(default=None, description="Any of these, at most 20.")
    outcome: str | None = strawberry.field(default=None, description="DONE or REFUSED.")
    partner: strawberry.ID | None = strawberry.field(default=None, description="Concerning this partner.")
    perk: strawberry.ID | None = strawberry.field(default=None, description="Concerning this perk.")
    member: strawberry.ID | None = strawberry.field(default=None, description="Concerning this member.")
    subject: strawberry.ID | None = strawberry.field(default=None, description="Of this hold, redemption, …")
    actor: str | None = strawberry.field(default=None, description="By this client, member or person of staff.")
    since: datetime | None = strawberry.field(default=None, description="At or after.")
    until: datetime | None = strawberry.field(default=None, description="Before.")

    def conditions(self) -> EntryFilter:
        """The same in the domain's words; BadInput."""
        subject = None if self.subject is None else split_id(self.subject)
        if subject is None and self.subject is not None:
            raise BadInput("subject: not the id of anything")
        actions = self.actions
        if self.action is not None:
            actions = [self.action] if actions is None or self.action in actions else []
        return EntryFilter(
            actions=actions,
            outcome=self.outcome,
            partner_id=optional_id(PARTNER, self.partner),
            perk_id=optional_id(PERK, self.perk),
            member_id=optional_id(MEMBER, self.member),
            subject_id=None if subject is None else subject[1],
            actor_id=self.actor,
            since=self.since,
            until=self.until,
        )


async def find_entries(
    info: Info, filter: AuditFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[AuditEntry]:
    """A page of entries: one statement, up to four where few fit, and two more where proofs are asked for."""
    size, wanted = page_size(first), (filter or AuditFilter()).conditions()
    async with info.context.resources.connection() as connection:
        found = await entries.search_entries(connection, wanted, first=size, after=read_cursor(after))
        proven = await prove_entries(connection, found.rows[:size]) if "proof" in selected(info) else {}
    await vouch_for(info, proven)
    page: Connection[AuditEntry] = connect(
        found.rows,
        size,
        after,
        id_of=lambda row: row.id,
        node_of=lambda row: AuditEntry.of(row, proven.get(row.leaf_hash)),
    )
    if found.looked_to is not None:
        page.page_info.has_next_page, page.page_info.end_cursor = True, show_cursor(found.looked_to)
    return page


async def follow_entries(
    info: Info, filter: AuditFilter | None = None, from_index: int | None = None
) -> AsyncGenerator[AuditEntry, None]:
    """Every entry in the order of the log. Who reads slowly is read for slowly, 500 places at a time."""
    context, wanted, place = info.context, (filter or AuditFilter()).conditions(), None
    prove = prove_entries if "proof" in selected(info) else prove_nothing
    connection_of, clock = context.resources.connection, context.resources.feeds.clock

    async def read(now: datetime) -> Seen[Extent]:
        async with connection_of() as connection:
            return await read_extent(connection, now)

    async with aclosing(context.resources.feeds.follow(THE_LOG, (THE_LOG,), read)) as extents:
        async for seen in extents:
            if place is None:
                place = seen.state if from_index is None else Extent(seen.state.number, from_index)
            before = None
            while place not in (seen.state, before):
                context.now, before = clock(), place
                async with connection_of() as connection:
                    rows, place = await entries.next_entries(connection, wanted, place)
                    proven = await prove(connection, rows)
                await vouch_for(info, proven)
                for row in rows:
                    yield AuditEntry.of(row, proven.get(row.leaf_hash))


async def vouch_for(info: Info, proven: Mapping[bytes, Proof]) -> None:
    """All proofs of one answer are of one checkpoint, which this host keeps in mind before it tells it."""
    for note in {proof.note for proof in proven.values()}:
        await info.context.resources.vouch(note)


async def prove_nothing(_: object, __: object) -> dict[bytes, Proof]:
    """For who did not ask."""
    return {}


async def load_entry(info: Info, id: UUID) -> AuditEntry | None:
    """One entry."""
    async with info.context.resources.connection() as connection:
        entry = await entries.find_entry(connection, id)
        wanted = entry is not None and "proof" in selected(info)
        proven = await prove_entries(connection, [entry]) if entry is not None and wanted else {}
    await vouch_for(info, proven)
    return None if entry is None else AuditEntry.of(entry, proven.get(entry.leaf_hash))
