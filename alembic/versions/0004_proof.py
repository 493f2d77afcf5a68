"""Proof: the tree of the log and its keys, webhooks, exports, erased members.

Down again loses endpoints, exports and the witnesses' words; members that were erased stay as suspended ones.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The roots of full subtrees of 256 leaves, and of 256 of those, as the sequencer keeps them from now on.
FILL_NODES = """
DO $$
DECLARE
  v_level int := 1;
  v_height int;
BEGIN
  CREATE TEMP TABLE subtree ON COMMIT DROP AS SELECT index, leaf_hash AS hash FROM log_leaf;
  WHILE (SELECT count(*) FROM subtree) >= 256 LOOP
    FOR v_height IN 1..8 LOOP
      CREATE TEMP TABLE higher ON COMMIT DROP AS
        SELECT l.index / 2 AS index, sha256('\\x01'::bytea || l.hash || r.hash) AS hash
        FROM subtree l JOIN subtree r ON r.index = l.index + 1 WHERE l.index % 2 = 0;
      DROP TABLE subtree;
      ALTER TABLE higher RENAME TO subtree;
    END LOOP;
    INSERT INTO log_node (level, index, hash) SELECT v_level, index, hash FROM subtree;
    v_level := v_level + 1;
  END LOOP;
END $$
"""
SQL = Path(__file__).parent.parent / "sql"
FUNCTIONS = (SQL / "0004_erasure.sql", SQL / "0004_confirm.sql")
FORMER_FUNCTIONS = SQL / "0003_scarce.sql"
REPLACED = ("record_audit", "confirm_hold")
IS_NOT_BUSY = "action <> ALL ('{perk.claimed,hold.confirmed,hold.expired,hold.released}'::text[])"
MEMBER_STATES = ("ACTIVE", "SUSPENDED")


def member_states(*names: str) -> None:
    """Replaces the list of what a member's state may be."""
    op.drop_constraint(op.f("ck_member_state"), "member", type_="check")
    op.create_check_constraint(op.f("ck_member_state"), "member", f"state IN ({', '.join(map(repr, names))})")


def statements_of(file: Path) -> list[str]:
    """The statements of a file, which are separated by lines of `-- §`."""
    return file.read_text(encoding="utf-8").split("-- §\n")


def upgrade() -> None:
    op.create_table(
        "export",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("wanted", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.Uuid(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("format IN ('CSV', 'JSONL', 'PARQUET')", name=op.f("ck_export_format")),
        sa.CheckConstraint("kind IN ('REDEMPTIONS', 'ENTRIES')", name=op.f("ck_export_kind")),
        sa.CheckConstraint(
            "state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED', 'CANCELLED', 'EXPIRED')", name=op.f("ck_export_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export")),
    )
    op.create_index(
        "ix_export_due", "export", ["expires_at"], unique=False, postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    op.create_index(
        "ix_export_open",
        "export",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING')"),
    )
    op.create_index("ix_export_partner", "export", ["partner_id", "id"], unique=False)
    op.create_table(
        "log_key",
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("label", name=op.f("pk_log_key")),
    )
    op.create_table(
        "log_node",
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_log_node")),
    )
    op.create_table(
        "webhook_cursor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_webhook_cursor_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_cursor")),
    )
    op.execute("INSERT INTO webhook_cursor (id, index) SELECT 1, coalesce(max(size), 0) FROM log_head")
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
    )
    op.create_index("ix_webhook_delivery_at", "webhook_delivery", ["at"], unique=False)
    op.create_index("ix_webhook_delivery_endpoint", "webhook_delivery", ["endpoint_id", "id"], unique=False)
    op.create_index("ix_webhook_delivery_message", "webhook_delivery", ["endpoint_id", "entry_id", "id"], unique=False)
    op.create_table(
        "webhook_message",
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("lane", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("replays", sa.SmallInteger(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pending_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('PENDING', 'DELIVERED', 'PARKED')", name=op.f("ck_webhook_message_state")),
        sa.PrimaryKeyConstraint("endpoint_id", "entry_id", name=op.f("pk_webhook_message")),
    )
    op.create_index(
        "ix_webhook_message_due",
        "webhook_message",
        ["endpoint_id", "due_at", "index"],
        unique=False,
        postgresql_where=sa.text("state = 'PENDING'"),
    )
    op.create_index(
        "ix_webhook_message_ended",
        "webhook_message",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'PENDING'"),
    )
    op.create_index("ix_webhook_message_list", "webhook_message", ["endpoint_id", "told_at", "entry_id"], unique=False)
    op.create_index(
        "ix_webhook_message_order",
        "webhook_message",
        ["endpoint_id", "lane", "index"],
        unique=False,
        postgresql_where=sa.text("state = 'PENDING'"),
    )
    op.create_index(
        "ix_webhook_message_parked",
        "webhook_message",
        ["endpoint_id", "ended_at"],
        unique=False,
        postgresql_where=sa.text("state = 'PARKED'"),
    )
    op.create_table(
        "witnessed_checkpoint",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("witnesses", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("origin", "size", name=op.f("pk_witnessed_checkpoint")),
    )
    op.create_table(
        "export_part",
        sa.Column("export_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id"], ["export.id"], name=op.f("fk_export_part_export_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("export_id", "number", name=op.f("pk_export_part")),
    )
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("actions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('ENABLED', 'DISABLED')", name=op.f("ck_webhook_endpoint_state")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_webhook_endpoint_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoint")),
    )
    op.create_index("ix_webhook_endpoint_partner", "webhook_endpoint", ["partner_id", "id"], unique=False)
    op.create_table(
        "webhook_secret",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("public", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('HMAC', 'ED25519')", name=op.f("ck_webhook_secret_kind")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoint.id"], name=op.f("fk_webhook_secret_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secret")),
    )
    op.create_index("ix_webhook_secret_endpoint", "webhook_secret", ["endpoint_id"], unique=False)
    op.create_index(
        "ix_audit_entry_action", "audit_entry", ["action", "id"], unique=False, postgresql_where=sa.text(IS_NOT_BUSY)
    )
    op.create_index("ix_audit_entry_actor", "audit_entry", ["actor_id", "id"], unique=False)
    op.create_index(
        "ix_audit_entry_refused", "audit_entry", ["id"], unique=False, postgresql_where=sa.text("outcome = 'REFUSED'")
    )
    op.add_column("log_head", sa.Column("origin", sa.Text(), nullable=False, server_default=""))
    op.alter_column("log_head", "origin", server_default=None)
    op.add_column("log_head", sa.Column("number", sa.SmallInteger(), nullable=False, server_default="1"))
    op.execute("UPDATE log_head SET origin = split_part(checkpoint, chr(10), 1)")
    op.execute(FILL_NODES)
    op.drop_index("ix_reversal_perk", table_name="reversal")
    op.create_index("ix_reversal_month", "reversal", ["perk_id", "reversed_at"], unique=False)
    op.create_index("ix_redemption_month", "redemption", ["perk_id", "confirmed_at"], unique=False)
    op.create_index(
        "ix_hold_held_at",
        "hold",
        ["held_at"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": True},
    )
    member_states(*MEMBER_STATES, "ERASED")
    for file in FUNCTIONS:
        for statement in statements_of(file):
            op.get_bind().exec_driver_sql(statement)
    op.add_column("member", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_member_erased",
        "member",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'ERASED' AND audit_salt <> ''"),
    )


def downgrade() -> None:
    op.drop_index("ix_hold_held_at", table_name="hold", postgresql_using="brin")
    op.drop_index("ix_redemption_month", table_name="redemption")
    op.drop_index("ix_reversal_month", table_name="reversal")
    op.create_index("ix_reversal_perk", "reversal", ["perk_id"], unique=False)
    for statement in statements_of(FORMER_FUNCTIONS):
        if statement.startswith(tuple(f"CREATE FUNCTION {name}(" for name in REPLACED)):
            op.get_bind().exec_driver_sql(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
    op.execute("UPDATE member SET state = 'SUSPENDED' WHERE state = 'ERASED'")
    member_states(*MEMBER_STATES)
    op.drop_index("ix_member_erased", table_name="member")
    op.drop_column("member", "erased_at")
    op.drop_column("log_head", "number")
    op.drop_column("log_head", "origin")
    op.drop_index("ix_audit_entry_refused", table_name="audit_entry", postgresql_where=sa.text("outcome = 'REFUSED'"))
    op.drop_index("ix_audit_entry_actor", table_name="audit_entry")
    op.drop_index("ix_audit_entry_action", table_name="audit_entry", postgresql_where=sa.text(IS_NOT_BUSY))
    op.drop_index("ix_webhook_secret_endpoint", table_name="webhook_secret")
    op.drop_table("webhook_secret")
    op.drop_index("ix_webhook_endpoint_partner", table_name="webhook_endpoint")
    op.drop_table("webhook_endpoint")
    op.drop_table("export_part")
    op.drop_table("witnessed_checkpoint")
    op.drop_index(
        "ix_webhook_message_order", table_name="webhook_message", postgresql_where=sa.text("state = 'PENDING'")
    )
    op.drop_index("ix_webhook_message_list", table_name="webhook_message")
    op.drop_index(
        "ix_webhook_message_ended", table_name="webhook_message", postgresql_where=sa.text("state <> 'PENDING'")
    )
    op.drop_index(
        "ix_webhook_message_parked", table_name="webhook_message", postgresql_where=sa.text("state = 'PARKED'")
    )
    op.drop_index("ix_webhook_message_due", table_name="webhook_message", postgresql_where=sa.text("state = 'PENDING'"))
    op.drop_table("webhook_message")
    op.drop_index("ix_webhook_delivery_message", table_name="webhook_delivery")
    op.drop_index("ix_webhook_delivery_endpoint", table_name="webhook_delivery")
    op.drop_index("ix_webhook_delivery_at", table_name="webhook_delivery")
    op.drop_table("webhook_delivery")
    op.drop_table("webhook_cursor")
    op.drop_table("log_node")
    op.drop_table("log_key")
    op.drop_index("ix_export_partner", table_name="export")
    op.drop_index("ix_export_open", table_name="export", postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING')"))
    op.drop_index("ix_export_due", table_name="export", postgresql_where=sa.text("expires_at IS NOT NULL"))
    op.drop_table("export")
