"""The record of everything: audit entries of what changed, and disclosures of what partners were told."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, identity, moment, new_id, one_of, state, text, texts

# What claims write is not worth an index by action, which would cost each of them: who looks for it soon finds it.
BUSY_ACTIONS = ("perk.claimed", "hold.confirmed", "hold.expired", "hold.released")
IS_NOT_BUSY = f"action <> ALL ('{{{','.join(BUSY_ACTIONS)}}}'::text[])"


class AuditEntry(SQLModel, table=True):
    """One state change or refusal, written in the transaction of what it tells (law 6).

    `leaf` is the canonical JSON that the log holds; the columns beside it are for searching.
    `member_id` is not in the leaf, so that a member can be erased.
    """

    __tablename__ = "audit_entry"
    __table_args__ = (
        sa.Index("ix_audit_entry_partner", "partner_id", "id"),
        sa.Index("ix_audit_entry_perk", "perk_id", "id"),
        sa.Index("ix_audit_entry_member", "member_id", "id"),
        sa.Index("ix_audit_entry_subject", "subject_id", "id"),
        sa.Index("ix_audit_entry_action", "action", "id", postgresql_where=sa.text(IS_NOT_BUSY)),
        sa.Index("ix_audit_entry_actor", "actor_id", "id"),
        sa.Index("ix_audit_entry_refused", "id", postgresql_where=sa.text("outcome = 'REFUSED'")),
    )

    id: UUID = identity()
    at: datetime = moment()
    action: str = text()
    outcome: str = text()
    reasons: list[str] = texts()
    actor_kind: str = text()
    actor_id: str = text()
    partner_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    perk_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    member_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    subject_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    leaf: str = text()
    leaf_hash: bytes = digest()


class DisclosureKind(StrEnum):
    """What a partner was told about a member who consents."""

    MEMBERSHIP = "MEMBERSHIP"
    ELIGIBILITY = "ELIGIBILITY"
    CATALOGUE = "CATALOGUE"
    REDEMPTIONS = "REDEMPTIONS"
    ADDRESS = "ADDRESS"
    SERVICE = "SERVICE"


class Disclosure(SQLModel, table=True):
    """One answer that a partner was given about a member: when, to which client, of which kind, about which perk.

    Only who asks for a member finds its rows, so that they have one index, which is their key.
    """

    __tablename__ = "disclosure"
    __table_args__ = (one_of("kind", DisclosureKind), sa.PrimaryKeyConstraint("member_id", "id"))

    member_id: UUID = Field(sa_type=sa.Uuid)
    id: UUID = Field(default_factory=new_id, sa_type=sa.Uuid)
    at: datetime = moment()
    partner_id: UUID = Field(sa_type=sa.Uuid)
    client_id: str = text()
    kind: str = state()
    perk_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
