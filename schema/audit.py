"""The audit entries that staff search, newest first."""

from datetime import datetime

import strawberry

from partners import audit, tables
from partners.audit import EntryFilter
from schema.context import Info
from schema.ids import ENTRY, MEMBER, PARTNER, PERK, optional_id, show_id, split_id
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Staff, field, object_type


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

    @classmethod
    def of(cls, row: tables.AuditEntry) -> "AuditEntry":
        """An entry as staff see it."""

        def shown(kind: str, id: tables.columns.UUID | None) -> strawberry.ID | None:
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
        )


@strawberry.input(description="Which entries; every condition that is given must hold.")
class AuditFilter:
    action: str | None = strawberry.field(default=None, description="As `perk.claimed`.")
    outcome: str | None = strawberry.field(default=None, description="DONE or REFUSED.")
    partner: strawberry.ID | None = strawberry.field(default=None, description="Concerning this partner.")
    perk: strawberry.ID | None = strawberry.field(default=None, description="Concerning this perk.")
    member: strawberry.ID | None = strawberry.field(default=None, description="Concerning this member.")
    subject: strawberry.ID | None = strawberry.field(default=None, description="Of this hold, redemption, …")
    actor: str | None = strawberry.field(default=None, description="By this client, member or person of staff.")
    since: datetime | None = strawberry.field(default=None, description="At or after.")
    until: datetime | None = strawberry.field(default=None, description="Before.")


async def find_entries(
    info: Info, filter: AuditFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[AuditEntry]:
    """A page of entries: one statement."""
    size, wanted = page_size(first), filter or AuditFilter()
    subject = None if wanted.subject is None else split_id(wanted.subject)
    conditions = EntryFilter(
        action=wanted.action,
        outcome=wanted.outcome,
        partner_id=optional_id(PARTNER, wanted.partner),
        perk_id=optional_id(PERK, wanted.perk),
        member_id=optional_id(MEMBER, wanted.member),
        subject_id=None if subject is None else subject[1],
        actor_id=wanted.actor,
        since=wanted.since,
        until=wanted.until,
    )
    async with info.context.reading() as session:
        rows = await audit.search_entries(session, conditions, first=size, after=read_cursor(after))
    page: Connection[AuditEntry] = connect(rows, size, after, id_of=lambda row: row.id, node_of=AuditEntry.of)
    return page
