"""What people say to each other about one thing: threads with clocks, service requests and reviews of claims."""

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, document, identity, moment, one_of, reference, state, text


class Thread(SQLModel, table=True):
    """One owner, messages, clocks and a revision that rises with every change, so that nobody overwrites unseen work.

    The clocks count seconds from `opened_at` without those it waited on the member: `paused_seconds` so far, and
    since `waiting_since` where that is set. A breach is a function of these columns (partners/threads.py).
    """

    __tablename__ = "thread"

    id: UUID = identity()
    owner: str | None = text(nullable=True, default=None)
    revision: int = Field(default=1)
    answer_within: int | None = Field(default=None)
    solve_within: int | None = Field(default=None)
    opened_at: datetime | None = moment(nullable=True, default=None)
    answered_at: datetime | None = moment(nullable=True, default=None)
    solved_at: datetime | None = moment(nullable=True, default=None)
    waiting_since: datetime | None = moment(nullable=True, default=None)
    paused_before_answer: int = Field(default=0)
    paused_seconds: int = Field(default=0)


class MessageAuthor(StrEnum):
    """On whose behalf something was said."""

    PARTNER = "PARTNER"
    MEMBER = "MEMBER"
    STAFF = "STAFF"


class Message(SQLModel, table=True):
    """What one side said; `files` are references (name, address, SHA-256), never the files."""

    __tablename__ = "message"
    __table_args__ = (one_of("author", MessageAuthor), sa.Index("ix_message_thread", "thread_id", "id"))

    id: UUID = identity()
    thread_id: UUID = reference("thread.id")
    at: datetime = moment()
    author: str = state()
    author_id: str = text()
    text: str = text()
    files: list[dict[str, Any]] = document(default_factory=list)


class ServiceState(StrEnum):
    """The way of a bespoke request; partners/services/ says who may take which step."""

    DRAFT = "DRAFT"
    SUBMITTED = "SUBMITTED"
    QUOTED = "QUOTED"
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    SCHEDULED = "SCHEDULED"
    FULFILLED = "FULFILLED"
    RECALLED = "RECALLED"
    CANCELLED = "CANCELLED"


class ServiceRequest(SQLModel, table=True):
    """A member asks a SERVICE perk for something of its own; its id is its thread's.

    `form` fits the perk's JSON Schema once it is submitted. Approval makes the redemption, whose amount is the quote.
    """

    __tablename__ = "service_request"
    __table_args__ = (
        one_of("state", ServiceState),
        sa.Index("ix_service_request_partner", "partner_id", "id"),
        sa.Index("ix_service_request_perk", "perk_id", "id"),
        sa.Index("ix_service_request_member", "member_id", "id"),
        sa.Index("ix_service_request_redemption", "redemption_id"),
    )

    id: UUID = reference("thread.id", primary_key=True)
    perk_id: UUID = reference("perk.id")
    partner_id: UUID = reference("partner.id")
    member_id: UUID = reference("member.id")
    state: str = state(ServiceState.DRAFT)
    form: dict[str, Any] = document(default_factory=dict)
    amount: int | None = Field(default=None, sa_type=sa.BigInteger)
    currency: str | None = text(nullable=True, default=None)
    quote: dict[str, Any] | None = Field(default=None, sa_type=JSONB, nullable=True)
    automatic: bool = Field(default=False)
    scheduled_for: datetime | None = moment(nullable=True, default=None)
    redemption_id: UUID | None = Field(default=None, sa_type=sa.Uuid)
    created_at: datetime = moment()
    submitted_at: datetime | None = moment(nullable=True, default=None)
    ended_at: datetime | None = moment(nullable=True, default=None)


class ReviewState(StrEnum):
    """OPEN and UPHELD keep the member from the partner's perks; CLEARED lets it claim again."""

    OPEN = "OPEN"
    CLEARED = "CLEARED"
    UPHELD = "UPHELD"


class Review(SQLModel, table=True):
    """Staff look into one member's claims on one partner's perks: opened by a velocity rule that refused a claim."""

    __tablename__ = "review"
    __table_args__ = (
        one_of("state", ReviewState),
        sa.Index(
            "uq_review_open",
            "member_id",
            "partner_id",
            unique=True,
            postgresql_where=sa.text("state IN ('OPEN', 'UPHELD')"),
        ),
    )

    id: UUID = identity()
    member_id: UUID = reference("member.id")
    partner_id: UUID = reference("partner.id")
    perk_id: UUID = reference("perk.id")
    state: str = state(ReviewState.OPEN)
    opened_at: datetime = moment()
    closed_at: datetime | None = moment(nullable=True, default=None)
    closed_by: str | None = text(nullable=True, default=None)
    note: str | None = text(nullable=True, default=None)
