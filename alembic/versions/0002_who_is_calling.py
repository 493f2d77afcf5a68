"""Who is calling: clients of every kind, approvals and what hangs from them, revocations, sessions, disclosures."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "sql" / "0002_callers.sql"
FORMER_FUNCTIONS = FUNCTIONS.with_name("0001_claims.sql")
REPLACED = ("live_consent", "confirm_hold", "release_hold", "reverse_redemption")
CONSENTED = (
    "'{eligibility:read,holds:write,member.tier.history:read,member.tier:read,"
    "redemptions:read,redemptions:reverse,redemptions:write}'"
)


def upgrade() -> None:
    op.create_table(
        "disclosure",
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('MEMBERSHIP', 'ELIGIBILITY', 'CATALOGUE', 'REDEMPTIONS')", name=op.f("ck_disclosure_kind")
        ),
        sa.PrimaryKeyConstraint("member_id", "id", name=op.f("pk_disclosure")),
    )
    op.create_table(
        "revocation",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('token', 'approval', 'client')", name=op.f("ck_revocation_kind")),
        sa.PrimaryKeyConstraint("kind", "key", "version", name=op.f("pk_revocation")),
    )
    op.create_index("ix_revocation_due", "revocation", ["expires_at"], unique=False)
    op.create_index(
        "ix_revocation_waiting", "revocation", ["at"], unique=False, postgresql_where=sa.text("NOT announced")
    )
    op.create_table(
        "browser_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('partner', 'member', 'staff')", name=op.f("ck_browser_session_kind")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_browser_session_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_browser_session_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_session")),
        sa.UniqueConstraint("hash", name=op.f("uq_browser_session_hash")),
    )
    op.create_index("ix_browser_session_due", "browser_session", ["expires_at"], unique=False)
    op.create_table(
        "partner_transfer",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("from_partner_id", sa.Uuid(), nullable=False),
        sa.Column("to_partner_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("from_partner_id <> to_partner_id", name=op.f("ck_partner_transfer_two_partners")),
        sa.ForeignKeyConstraint(["from_partner_id"], ["partner.id"], name=op.f("fk_partner_transfer_from_partner_id")),
        sa.ForeignKeyConstraint(["to_partner_id"], ["partner.id"], name=op.f("fk_partner_transfer_to_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner_transfer")),
    )
    op.create_index("ix_partner_transfer_to", "partner_transfer", ["to_partner_id", "ends_at"], unique=False)
    op.create_table(
        "pass",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_pass_member_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pass")),
        sa.UniqueConstraint("hash", name=op.f("uq_pass_hash")),
    )
    op.create_index("ix_pass_due", "pass", ["expires_at"], unique=False)
    op.create_index("ix_pass_member", "pass", ["member_id", "expires_at"], unique=False)
    op.create_table(
        "person",
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.CheckConstraint("kind IN ('partner', 'member', 'staff')", name=op.f("ck_person_kind")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_person_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_person_partner_id")),
        sa.PrimaryKeyConstraint("handle", name=op.f("pk_person")),
    )
    op.create_table(
        "approval",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("member_id", sa.Uuid(), nullable=True),
        sa.Column("consent_id", sa.Uuid(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("dpop_jkt", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('partner', 'member', 'staff')", name=op.f("ck_approval_kind")),
        sa.CheckConstraint("state IN ('ACTIVE', 'REVOKED')", name=op.f("ck_approval_state")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_approval_client_id")),
        sa.ForeignKeyConstraint(["consent_id"], ["consent.id"], name=op.f("fk_approval_consent_id")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_approval_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_approval_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
    )
    op.create_index("ix_approval_client", "approval", ["client_id", "id"], unique=False)
    op.create_index("ix_approval_consent", "approval", ["consent_id"], unique=False)
    op.create_index("ix_approval_due", "approval", ["expires_at"], unique=False)
    op.create_index("ix_approval_member", "approval", ["member_id", "id"], unique=False)
    op.create_table(
        "authorization_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("client_state", sa.Text(), nullable=True),
        sa.Column("code_challenge", sa.Text(), nullable=False),
        sa.Column("dpop_jkt", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approval_id", sa.Uuid(), nullable=True),
        sa.Column("code_hash", sa.LargeBinary(), nullable=True),
        sa.Column("code_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name=op.f("fk_authorization_request_approval_id")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_authorization_request_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorization_request")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_authorization_request_code_hash")),
        sa.UniqueConstraint("request_hash", name=op.f("uq_authorization_request_request_hash")),
    )
    op.create_index("ix_authorization_request_due", "authorization_request", ["expires_at"], unique=False)
    op.create_index(
        "ix_authorization_request_approval",
        "authorization_request",
        ["approval_id"],
        unique=False,
        postgresql_where=sa.text("approval_id IS NOT NULL"),
    )
    op.create_table(
        "device_authorization",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("dpop_jkt", sa.Text(), nullable=True),
        sa.Column("device_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("approval_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("polled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("interval_s", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "state IN ('PENDING', 'APPROVED', 'DENIED', 'USED')", name=op.f("ck_device_authorization_state")
        ),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name=op.f("fk_device_authorization_approval_id")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_device_authorization_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_authorization")),
        sa.UniqueConstraint("device_hash", name=op.f("uq_device_authorization_device_hash")),
        sa.UniqueConstraint("user_code_hash", name=op.f("uq_device_authorization_user_code_hash")),
    )
    op.create_index("ix_device_authorization_due", "device_authorization", ["expires_at"], unique=False)
    op.create_index(
        "ix_device_authorization_approval",
        "device_authorization",
        ["approval_id"],
        unique=False,
        postgresql_where=sa.text("approval_id IS NOT NULL"),
    )
    op.create_table(
        "refresh_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("approval_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("successor_id", sa.Uuid(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name=op.f("fk_refresh_token_approval_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_refresh_token_hash")),
    )
    op.create_index("ix_refresh_token_approval", "refresh_token", ["approval_id"], unique=False)
    op.create_index("ix_refresh_token_due", "refresh_token", ["expires_at"], unique=False)
    for table, column, former in (
        ("client", sa.Column("kind", sa.Text(), nullable=False), "'partner'"),
        ("client", sa.Column("grant_types", postgresql.ARRAY(sa.Text()), nullable=False), "'{client_credentials}'"),
        ("client", sa.Column("authentication", sa.Text(), nullable=False), "'SECRET'"),
        ("client", sa.Column("redirect_uris", postgresql.ARRAY(sa.Text()), nullable=False), "'{}'"),
        ("client", sa.Column("requires_pushed", sa.Boolean(), nullable=False), "false"),
        ("client", sa.Column("requires_dpop", sa.Boolean(), nullable=False), "false"),
        ("client", sa.Column("purpose", sa.Text(), nullable=False), "'perks'"),
        ("client", sa.Column("version", sa.Integer(), nullable=False), "1"),
        ("consent", sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False), CONSENTED),
        ("consent", sa.Column("version", sa.Integer(), nullable=False), "1"),
        ("signing_key", sa.Column("active_at", sa.DateTime(timezone=True), nullable=False), "'-infinity'"),
    ):
        # What was there before gets its meaning from then; new rows say it themselves.
        column.server_default = sa.DefaultClause(sa.text(former))
        op.add_column(table, column)
        op.alter_column(table, column.name, server_default=None)
    op.execute("UPDATE signing_key SET active_at = created_at")
    op.add_column("client", sa.Column("public_keys", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.alter_column("client", "partner_id", existing_type=sa.Uuid(), nullable=True)
    op.create_check_constraint(op.f("ck_client_kind"), "client", "kind IN ('partner', 'member', 'staff')")
    op.create_check_constraint(
        op.f("ck_client_authentication"), "client", "authentication IN ('SECRET', 'KEY', 'NONE')"
    )
    op.create_check_constraint(
        op.f("ck_client_partner_of_kind"), "client", "(kind = 'partner') = (partner_id IS NOT NULL)"
    )
    op.add_column("consent", sa.Column("moved_from", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_consent_moved_from"), "consent", "consent", ["moved_from"], ["id"])
    for statement in statements_of(FUNCTIONS):
        op.get_bind().exec_driver_sql(statement)


def statements_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split("-- §\n")


def downgrade() -> None:
    for name in REPLACED:
        op.execute(f"DROP FUNCTION {name}")
    for statement in statements_of(FORMER_FUNCTIONS):
        if statement.startswith(tuple(f"CREATE FUNCTION {name}(" for name in REPLACED)):
            op.get_bind().exec_driver_sql(statement)
    op.drop_column("signing_key", "active_at")
    op.drop_constraint(op.f("fk_consent_moved_from"), "consent", type_="foreignkey")
    op.drop_column("consent", "moved_from")
    op.drop_column("consent", "version")
    op.drop_column("consent", "scopes")
    for name in ("kind", "authentication", "partner_of_kind"):
        op.drop_constraint(op.f(f"ck_client_{name}"), "client", type_="check")
    op.execute("DELETE FROM client WHERE partner_id IS NULL")
    op.alter_column("client", "partner_id", existing_type=sa.Uuid(), nullable=False)
    op.drop_column("client", "version")
    op.drop_column("client", "purpose")
    op.drop_column("client", "requires_dpop")
    op.drop_column("client", "requires_pushed")
    op.drop_column("client", "redirect_uris")
    op.drop_column("client", "public_keys")
    op.drop_column("client", "authentication")
    op.drop_column("client", "grant_types")
    op.drop_column("client", "kind")
    op.drop_index("ix_refresh_token_due", table_name="refresh_token")
    op.drop_index("ix_refresh_token_approval", table_name="refresh_token")
    op.drop_table("refresh_token")
    op.drop_index("ix_device_authorization_due", table_name="device_authorization")
    op.drop_table("device_authorization")
    op.drop_index("ix_authorization_request_due", table_name="authorization_request")
    op.drop_table("authorization_request")
    op.drop_index("ix_approval_member", table_name="approval")
    op.drop_index("ix_approval_consent", table_name="approval")
    op.drop_index("ix_approval_client", table_name="approval")
    op.drop_table("approval")
    op.drop_table("person")
    op.drop_index("ix_pass_member", table_name="pass")
    op.drop_index("ix_pass_due", table_name="pass")
    op.drop_table("pass")
    op.drop_index("ix_partner_transfer_to", table_name="partner_transfer")
    op.drop_table("partner_transfer")
    op.drop_index("ix_browser_session_due", table_name="browser_session")
    op.drop_table("browser_session")
    op.drop_index("ix_revocation_waiting", table_name="revocation", postgresql_where=sa.text("NOT announced"))
    op.drop_index("ix_revocation_due", table_name="revocation")
    op.drop_table("revocation")
    op.drop_table("disclosure")
