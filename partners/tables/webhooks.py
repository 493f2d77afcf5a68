"""Where partners want to be told of what happens, what they are to be told, and each attempt to tell them."""

from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from partners.tables.columns import UUID, datetime, digest, identity, moment, one_of, reference, state, text, texts


class EndpointState(StrEnum):
    """DISABLED by its partner, or by its own answer 410; it is told nothing until it is enabled again."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class WebhookEndpoint(SQLModel, table=True):
    """An address of a partner, told of events of its `actions` (none named: of all).

    `failures` counts attempts that failed one after another since `failing_since`; nothing is tried before `retry_at`
    (the breaker). What came before the log had the size `since` is not told, unless it is replayed.
    """

    __tablename__ = "webhook_endpoint"
    __table_args__ = (one_of("state", EndpointState), sa.Index("ix_webhook_endpoint_partner", "partner_id", "id"))

    id: UUID = identity()
    partner_id: UUID = reference("partner.id")
    url: str = text()
    description: str = text(default="")
    actions: list[str] = texts()
    state: str = state(EndpointState.ENABLED)
    reason: str | None = text(nullable=True, default=None)
    since: int = Field(default=0, sa_type=sa.BigInteger)
    version: int = Field(default=1)
    failures: int = Field(default=0)
    failing_since: datetime | None = moment(nullable=True, default=None)
    retry_at: datetime | None = moment(nullable=True, default=None)
    created_by: str = text()
    created_at: datetime = moment()


class SecretKind(StrEnum):
    """Standard Webhooks' two signatures: a shared secret (`v1`), or a key pair whose private half is ours (`v1a`)."""

    HMAC = "HMAC"
    ED25519 = "ED25519"


class WebhookSecret(SQLModel, table=True):
    """What an endpoint's messages are signed with, sealed; several sign at once while one takes over from another."""

    __tablename__ = "webhook_secret"
    __table_args__ = (one_of("kind", SecretKind), sa.Index("ix_webhook_secret_endpoint", "endpoint_id"))

    id: UUID = identity()
    endpoint_id: UUID = reference("webhook_endpoint.id", ondelete="CASCADE")
    kind: str = state(SecretKind.HMAC)
    sealed: bytes = digest()
    public: str | None = text(nullable=True, default=None)
    created_at: datetime = moment()
    retires_at: datetime | None = moment(nullable=True, default=None)


class MessageState(StrEnum):
    """PARKED is what was given up for now: kept, listed, and sent again on demand."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    PARKED = "PARKED"


class WebhookMessage(SQLModel, table=True):
    """One audit entry that one endpoint is told of. Its content is made from the entry when it is sent, so that no
    personal data is kept here.

    `index` is the entry's place in the log. Messages of one `lane` (a member's; or, where an entry is of none, its
    perk's or its partner's) are sent in that order, each after the end of the one before. `told_at` is when it was
    first due, and all that its partner may know of when; `pending_since` begins the time after which it is given up. An
    attempt is under way until `leased_until`; the next is due at `due_at`. `attempts` counts since the last replay.
    """

    __tablename__ = "webhook_message"
    __table_args__ = (
        one_of("state", MessageState),
        sa.PrimaryKeyConstraint("endpoint_id", "entry_id"),
        sa.Index("ix_webhook_message_list", "endpoint_id", "told_at", "entry_id"),
        sa.Index(
            "ix_webhook_message_due",
            "endpoint_id",
            "due_at",
            "index",
            postgresql_where=sa.text("state = 'PENDING'"),
        ),
        sa.Index(
            "ix_webhook_message_order", "endpoint_id", "lane", "index", postgresql_where=sa.text("state = 'PENDING'")
        ),
        sa.Index("ix_webhook_message_parked", "endpoint_id", "ended_at", postgresql_where=sa.text("state = 'PARKED'")),
        sa.Index("ix_webhook_message_ended", "ended_at", postgresql_where=sa.text("state <> 'PENDING'")),
    )

    endpoint_id: UUID = Field(sa_type=sa.Uuid)
    entry_id: UUID = Field(sa_type=sa.Uuid)
    index: int = Field(sa_type=sa.BigInteger)
    action: str = text()
    lane: UUID = Field(sa_type=sa.Uuid)
    state: str = state(MessageState.PENDING)
    attempts: int = Field(default=0, sa_type=sa.SmallInteger)
    replays: int = Field(default=0, sa_type=sa.SmallInteger)
    told_at: datetime = moment()
    pending_since: datetime = moment()
    due_at: datetime = moment()
    leased_until: datetime | None = moment(nullable=True, default=None)
    ended_at: datetime | None = moment(nullable=True, default=None)


class WebhookDelivery(SQLModel, table=True):
    """One attempt to tell an endpoint: the answer's status, or the fault without one, and how long it took in ms."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        sa.Index("ix_webhook_delivery_endpoint", "endpoint_id", "id"),
        sa.Index("ix_webhook_delivery_message", "endpoint_id", "entry_id", "id"),
        sa.Index("ix_webhook_delivery_at", "at"),
    )

    id: UUID = identity()
    endpoint_id: UUID = Field(sa_type=sa.Uuid)
    entry_id: UUID = Field(sa_type=sa.Uuid)
    number: int = Field(sa_type=sa.SmallInteger)
    at: datetime = moment()
    duration_ms: int
    status: int | None = Field(default=None, sa_type=sa.SmallInteger)
    fault: str | None = text(nullable=True, default=None)


class WebhookCursor(SQLModel, table=True):
    """How far the log has been made into messages; its lock lets one process do it."""

    __tablename__ = "webhook_cursor"
    __table_args__ = (sa.CheckConstraint("id = 1", name="only_one"),)

    id: int = Field(default=1, primary_key=True)
    index: int = Field(default=0, sa_type=sa.BigInteger)
