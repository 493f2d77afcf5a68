"""The first cut: every table, and the functions of alembic/sql/0001_claims.sql."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "sql" / "0001_claims.sql"


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("perk_id", sa.Uuid(), nullable=True),
        sa.Column("member_id", sa.Uuid(), nullable=True),
        sa.Column("subject_id", sa.Uuid(), nullable=True),
        sa.Column("leaf", sa.Text(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
    )
    op.create_index("ix_audit_entry_member", "audit_entry", ["member_id", "id"], unique=False)
    op.create_index("ix_audit_entry_partner", "audit_entry", ["partner_id", "id"], unique=False)
    op.create_index("ix_audit_entry_perk", "audit_entry", ["perk_id", "id"], unique=False)
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject_id", "id"], unique=False)
    op.create_table(
        "hold",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("period", sa.Text(), nullable=True),
        sa.Column("slot", sa.SmallInteger(), nullable=True),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('HELD', 'CONFIRMED', 'RELEASED', 'EXPIRED')", name=op.f("ck_hold_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
    )
    op.create_index(
        "ix_hold_due", "hold", ["perk_id", "expires_at"], unique=False, postgresql_where=sa.text("state = 'HELD'")
    )
    op.create_index("ix_hold_member", "hold", ["member_id", "id"], unique=False)
    op.create_index(
        "uq_hold_allowance",
        "hold",
        ["member_id", "perk_id", "period", "slot"],
        unique=True,
        postgresql_where=sa.text("slot IS NOT NULL"),
    )
    op.create_index("uq_hold_code", "hold", ["code_hash"], unique=True)
    op.create_table(
        "idempotency_key",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_log_head_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "log_leaf",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_log_leaf")),
        sa.UniqueConstraint("entry_id", name=op.f("uq_log_leaf_entry_id")),
    )
    op.create_table(
        "member",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("market", sa.Text(), nullable=True),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("audit_salt", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("state IN ('ACTIVE', 'SUSPENDED')", name=op.f("ck_member_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_member")),
        sa.UniqueConstraint("external_id", name=op.f("uq_member_external_id")),
    )
    op.create_table(
        "outbox",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "partner",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('CAR_CLUB', 'COSMETICS', 'TRAVEL', 'OTHER')", name=op.f("ck_partner_kind")),
        sa.CheckConstraint("state IN ('ACTIVE', 'SUSPENDED')", name=op.f("ck_partner_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner")),
        sa.UniqueConstraint("handle", name=op.f("uq_partner_handle")),
    )
    op.create_table(
        "programme",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_programme_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_programme")),
    )
    op.create_table(
        "redemption",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("fulfilment", sa.Text(), nullable=False),
        sa.Column("confirmed_by", sa.Text(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "fulfilment IN ('PENDING', 'SCHEDULED', 'FULFILLED', 'FAILED', 'NO_SHOW')",
            name=op.f("ck_redemption_fulfilment"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemption")),
        sa.UniqueConstraint("hold_id", name=op.f("uq_redemption_hold_id")),
    )
    op.create_index("ix_redemption_member", "redemption", ["member_id", "id"], unique=False)
    op.create_index("ix_redemption_partner", "redemption", ["partner_id", "id"], unique=False)
    op.create_index("ix_redemption_perk", "redemption", ["perk_id", "id"], unique=False)
    op.create_table(
        "reversal",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("redemption_id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("borne_by", sa.Text(), nullable=False),
        sa.Column("stock", sa.Text(), nullable=False),
        sa.Column("reversed_by", sa.Text(), nullable=False),
        sa.Column("reversed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("borne_by IN ('PARTNER', 'PROGRAMME', 'MEMBER')", name=op.f("ck_reversal_borne_by")),
        sa.CheckConstraint("stock IN ('RESTOCK', 'WAITLIST', 'BURN')", name=op.f("ck_reversal_stock")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reversal")),
        sa.UniqueConstraint("redemption_id", name=op.f("uq_reversal_redemption_id")),
    )
    op.create_index("ix_reversal_perk", "reversal", ["perk_id"], unique=False)
    op.create_table(
        "signing_key",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("public_jwk", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_key")),
    )
    op.create_index(
        "uq_signing_key_current",
        "signing_key",
        ["algorithm"],
        unique=True,
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "tier",
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("handle", name=op.f("pk_tier")),
        sa.UniqueConstraint("rank", name=op.f("uq_tier_rank")),
    )
    op.create_table(
        "activity",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("indicator", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_activity_member_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activity")),
        sa.UniqueConstraint("member_id", "indicator", "source", name=op.f("uq_activity_member_id_indicator_source")),
    )
    op.create_index("ix_activity_member", "activity", ["member_id", "at"], unique=False)
    op.create_table(
        "client",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('ACTIVE', 'DISABLED')", name=op.f("ck_client_state")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_client_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client")),
    )
    op.create_index("ix_client_partner", "client", ["partner_id", "id"], unique=False)
    op.create_table(
        "consent",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('GRANTED', 'WITHDRAWN')", name=op.f("ck_consent_state")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_consent_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_consent_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent")),
    )
    op.create_index(
        "uq_consent_live",
        "consent",
        ["member_id", "partner_id"],
        unique=True,
        postgresql_where=sa.text("state = 'GRANTED'"),
    )
    op.create_table(
        "member_alias",
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_member_alias_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_member_alias_partner_id")),
        sa.PrimaryKeyConstraint("partner_id", "member_id", name=op.f("pk_member_alias")),
        sa.UniqueConstraint("partner_id", "alias", name=op.f("uq_member_alias_partner_id_alias")),
    )
    op.create_index("ix_member_alias_member", "member_alias", ["member_id"], unique=False)
    op.create_table(
        "perk",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("opens_on", sa.Date(), nullable=True),
        sa.Column("closes_on", sa.Date(), nullable=True),
        sa.Column("hold_seconds", sa.Integer(), nullable=False),
        sa.Column("reversal_days", sa.Integer(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('SAMPLE', 'EVENT', 'SERVICE', 'CODE', 'ACCESS')", name=op.f("ck_perk_kind")),
        sa.CheckConstraint("state IN ('DRAFT', 'PUBLISHED', 'PAUSED')", name=op.f("ck_perk_state")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_perk_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_perk")),
        sa.UniqueConstraint("handle", name=op.f("uq_perk_handle")),
    )
    op.create_index("ix_perk_partner", "perk", ["partner_id", "id"], unique=False)
    op.create_table(
        "tier_assignment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "cause IN ('EARNED', 'INVITED', 'PAID', 'STAFF', 'IMPORTED')", name=op.f("ck_tier_assignment_cause")
        ),
        sa.CheckConstraint("ends_at >= starts_at", name=op.f("ck_tier_assignment_ends_after_start")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_tier_assignment_member_id")),
        sa.ForeignKeyConstraint(["tier"], ["tier.handle"], name=op.f("fk_tier_assignment_tier")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tier_assignment")),
    )
    op.create_index("ix_tier_assignment_member", "tier_assignment", ["member_id", "starts_at"], unique=False)
    op.create_table(
        "capacity",
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=True),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.CheckConstraint("taken >= 0 AND (units IS NULL OR taken <= units)", name=op.f("ck_capacity_never_oversold")),
        sa.ForeignKeyConstraint(["perk_id"], ["perk.id"], name=op.f("fk_capacity_perk_id")),
        sa.PrimaryKeyConstraint("perk_id", name=op.f("pk_capacity")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "client_secret",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_client_secret_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_secret")),
    )
    op.create_index(op.f("ix_client_secret_client_id"), "client_secret", ["client_id"], unique=False)
    op.create_table(
        "policy",
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["perk_id"], ["perk.id"], name=op.f("fk_policy_perk_id")),
        sa.PrimaryKeyConstraint("perk_id", "version", name=op.f("pk_policy")),
    )
    for statement in FUNCTIONS.read_text(encoding="utf-8").split("-- §\n"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    for name in (
        "reverse_redemption",
        "release_hold",
        "confirm_hold",
        "live_consent",
        "claim_perk",
        "expire_holds",
        "record_audit",
        "leaf_hash",
        "audit_leaf",
        "new_id",
    ):
        op.execute(f"DROP FUNCTION {name}")
    op.drop_table("policy")
    op.drop_index(op.f("ix_client_secret_client_id"), table_name="client_secret")
    op.drop_table("client_secret")
    op.drop_table("capacity")
    op.drop_index("ix_tier_assignment_member", table_name="tier_assignment")
    op.drop_table("tier_assignment")
    op.drop_index("ix_perk_partner", table_name="perk")
    op.drop_table("perk")
    op.drop_index("ix_member_alias_member", table_name="member_alias")
    op.drop_table("member_alias")
    op.drop_index("uq_consent_live", table_name="consent", postgresql_where=sa.text("state = 'GRANTED'"))
    op.drop_table("consent")
    op.drop_index("ix_client_partner", table_name="client")
    op.drop_table("client")
    op.drop_index("ix_activity_member", table_name="activity")
    op.drop_table("activity")
    op.drop_table("tier")
    op.drop_index("uq_signing_key_current", table_name="signing_key", postgresql_where=sa.text("retired_at IS NULL"))
    op.drop_table("signing_key")
    op.drop_index("ix_reversal_perk", table_name="reversal")
    op.drop_table("reversal")
    op.drop_index("ix_redemption_perk", table_name="redemption")
    op.drop_index("ix_redemption_partner", table_name="redemption")
    op.drop_index("ix_redemption_member", table_name="redemption")
    op.drop_table("redemption")
    op.drop_table("programme")
    op.drop_table("partner")
    op.drop_table("outbox")
    op.drop_table("member")
    op.drop_table("log_leaf")
    op.drop_table("log_head")
    op.drop_table("idempotency_key")
    op.drop_index("uq_hold_code", table_name="hold")
    op.drop_index("uq_hold_allowance", table_name="hold", postgresql_where=sa.text("slot IS NOT NULL"))
    op.drop_index("ix_hold_member", table_name="hold")
    op.drop_index("ix_hold_due", table_name="hold", postgresql_where=sa.text("state = 'HELD'"))
    op.drop_table("hold")
    op.drop_index("ix_audit_entry_subject", table_name="audit_entry")
    op.drop_index("ix_audit_entry_perk", table_name="audit_entry")
    op.drop_index("ix_audit_entry_partner", table_name="audit_entry")
    op.drop_index("ix_audit_entry_member", table_name="audit_entry")
    op.drop_table("audit_entry")
