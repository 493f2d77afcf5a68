"""Scarce things: options, pools, amounts, waitlists, services, codes and standing rights.

Down again loses what only these tables hold, and allowances begin anew; a redemption that was reversed in several parts
stops it.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "sql" / "0003_scarce.sql"
FURTHER_FUNCTIONS = tuple(FUNCTIONS.with_name(f"0003_{noun}.sql") for noun in ("waitlist", "codes", "access"))
FORMER_FUNCTIONS = (FUNCTIONS.with_name("0001_claims.sql"), FUNCTIONS.with_name("0002_callers.sql"))
REPLACED = (
    "record_audit",
    "audit_leaf",
    "expire_holds",
    "claim_perk",
    "confirm_hold",
    "release_hold",
    "reverse_redemption",
)
ADDED = (
    *("give_back", "drawn_back", "less", "lapse_offers", "own_hold", "on_confirm", "on_reverse", "extend_hold"),
    *("keep_for_waiting", "reweigh_waitlist", "lock_waitlist", "join_waitlist", "end_waiting", "leave_waitlist"),
    *("lock_code", "withdraw_codes", "pause_empty_pool"),
    *("use_access", "revoke_access", "find_access", "settle_access", "access_at", "tier_drop_end", "start_of_day"),
)
FILLED = (
    ("capacity", "kept"),
    ("capacity", "waiting"),
    ("hold", "units"),
    ("hold", "counted"),
    ("hold", "amount"),
    ("hold", "counted_amount"),
    ("hold", "extensions"),
    ("member", "labels"),
    ("member", "score"),
    ("member", "reviews"),
    ("perk", "settings"),
    ("perk", "units_max"),
    ("perk", "self_service"),
    ("perk", "pooled"),
    ("policy", "needs"),
    ("redemption", "units"),
    ("redemption", "amount"),
    ("redemption", "reversals"),
    ("redemption", "reversed_units"),
    ("redemption", "reversed_amount"),
    ("reversal", "number"),
    ("reversal", "units"),
    ("reversal", "amount"),
    ("reversal", "returns_allowance"),
    ("perk", "returns_allowance"),
)
CHECKS = (
    ("capacity", "never_oversold", "taken >= 0 AND kept >= 0 AND (units IS NULL OR taken + kept <= units)"),
    (
        "disclosure",
        "kind",
        "kind IN ('MEMBERSHIP', 'ELIGIBILITY', 'CATALOGUE', 'REDEMPTIONS', 'ADDRESS', 'SERVICE')",
    ),
    ("member", "birth_month", "birth_month BETWEEN 1 AND 12"),
    (
        "hold",
        "counted",
        "units > 0 AND amount >= 0 AND counted BETWEEN 0 AND units AND counted_amount BETWEEN 0 AND amount",
    ),
    (
        "redemption",
        "never_below_what_was_taken",
        "units > 0 AND reversed_units BETWEEN 0 AND units AND reversed_amount BETWEEN 0 AND amount",
    ),
    ("reversal", "something", "units >= 0 AND amount >= 0 AND units + amount > 0"),
)
# What was used counts on as it did; a unit that was to go to a waitlist before there was any goes to everybody.
CARRIED_OVER = (
    """UPDATE hold h SET counted = 0 WHERE state IN ('RELEASED', 'EXPIRED') OR EXISTS (
        SELECT FROM redemption r JOIN reversal v ON v.redemption_id = r.id WHERE r.hold_id = h.id)""",
    """UPDATE redemption r SET reversals = 1, reversed_units = 1
        WHERE EXISTS (SELECT FROM reversal v WHERE v.redemption_id = r.id)""",
    """UPDATE capacity c SET taken = c.taken - v.n
        FROM (SELECT perk_id, count(*) AS n FROM reversal WHERE stock = 'WAITLIST' GROUP BY perk_id) AS v
        WHERE v.perk_id = c.perk_id""",
    # A perk of codes that anybody had gave none and was counted by hand, so it goes on as what it was; of any other the
    # codes that its partner adds are what can be claimed.
    """UPDATE perk p SET kind = 'SAMPLE' WHERE kind = 'CODE' AND EXISTS (SELECT FROM hold h WHERE h.perk_id = p.id)""",
    """UPDATE capacity c SET units = 0 FROM perk p WHERE p.id = c.perk_id AND p.kind = 'CODE'""",
    """UPDATE policy p SET member_window = CASE a.period WHEN 'DAY' THEN 3 WHEN 'WEEK' THEN 9 WHEN 'MONTH' THEN 33
        WHEN 'YEAR' THEN 368 ELSE 36525 END * 86400
        FROM (SELECT perk_id, version, jsonb_path_query_first(rules, '$[*] ? (@.kind == "allowance")') ->> 'period'
          AS period FROM policy) AS a
        WHERE a.perk_id = p.perk_id AND a.version = p.version AND a.period IS NOT NULL""",
)


def statements_of(file: Path) -> list[str]:
    """The file's statements."""
    return file.read_text(encoding="utf-8").split("-- §\n")


def upgrade() -> None:
    op.create_table(
        "access_grant",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("redemption_id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("on_tier_drop", sa.Text(), nullable=False),
        sa.Column("keep_days", sa.Integer(), nullable=False),
        sa.Column("uses_max", sa.Integer(), nullable=True),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("ended_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('GRANTED', 'LAPSED', 'REVOKED')", name=op.f("ck_access_grant_state")),
        sa.CheckConstraint(
            "used >= 0 AND (uses_max IS NULL OR used <= uses_max)", name=op.f("ck_access_grant_never_overused")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_grant")),
        sa.UniqueConstraint("redemption_id", name=op.f("uq_access_grant_redemption_id")),
    )
    op.create_index(
        "ix_access_grant_due", "access_grant", ["ends_at"], unique=False, postgresql_where=sa.text("state = 'GRANTED'")
    )
    op.create_index(
        "ix_access_grant_watched",
        "access_grant",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'GRANTED' AND on_tier_drop <> 'KEEP'"),
    )
    op.create_index("ix_access_grant_member", "access_grant", ["member_id", "id"], unique=False)
    op.create_index("ix_access_grant_partner", "access_grant", ["partner_id", "id"], unique=False)
    op.create_table(
        "access_use",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_by", sa.Text(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_use")),
    )
    op.create_index("ix_access_use_grant", "access_use", ["grant_id", "id"], unique=False)
    op.create_table(
        "fulfilment",
        sa.Column("redemption_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.Text(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("address", sa.LargeBinary(), nullable=True),
        sa.Column("address_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("carrier", sa.Text(), nullable=True),
        sa.Column("tracking", sa.Text(), nullable=True),
        sa.Column("checked_in", sa.Integer(), nullable=False),
        sa.Column("fulfilled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("method IN ('PICKUP', 'SHIPPING')", name=op.f("ck_fulfilment_method")),
        sa.CheckConstraint("checked_in >= 0", name=op.f("ck_fulfilment_checked_in")),
        sa.CheckConstraint(
            "(address IS NULL) = (address_until IS NULL)", name=op.f("ck_fulfilment_address_has_an_end")
        ),
        sa.PrimaryKeyConstraint("redemption_id", name=op.f("pk_fulfilment")),
    )
    op.create_index(
        "ix_fulfilment_address",
        "fulfilment",
        ["address_until"],
        unique=False,
        postgresql_where=sa.text("address_until IS NOT NULL"),
    )
    op.create_table(
        "check_in",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("redemption_id", sa.Uuid(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("checked_in_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked_in_by", sa.Text(), nullable=False),
        sa.CheckConstraint("units > 0", name=op.f("ck_check_in_units")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_in")),
    )
    op.create_index("ix_check_in_redemption", "check_in", ["redemption_id"], unique=False)
    op.create_table(
        "perk_code",
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("redemption_id", sa.Uuid(), nullable=True),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("perk_id", "hash", name=op.f("pk_perk_code")),
    )
    op.create_index(
        "ix_perk_code_free",
        "perk_code",
        ["perk_id", "number"],
        unique=False,
        postgresql_where=sa.text("redemption_id IS NULL"),
    )
    op.create_index("uq_perk_code_redemption", "perk_code", ["redemption_id"], unique=True)
    op.create_table(
        "thread",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("answer_within", sa.Integer(), nullable=True),
        sa.Column("solve_within", sa.Integer(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("solved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_before_answer", sa.Integer(), nullable=False),
        sa.Column("paused_seconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thread")),
    )
    op.create_table(
        "waitlist_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("option_id", sa.Uuid(), nullable=True),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("offers", sa.SmallInteger(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=True),
        sa.Column("joined_by", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('WAITING', 'OFFERED', 'ACCEPTED', 'LAPSED', 'WITHDRAWN')", name=op.f("ck_waitlist_entry_state")
        ),
        sa.CheckConstraint("units > 0 AND amount >= 0", name=op.f("ck_waitlist_entry_units")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waitlist_entry")),
    )
    op.create_index(
        "ix_waitlist_entry_order",
        "waitlist_entry",
        ["perk_id", sa.literal_column("weight DESC"), "joined_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'WAITING'"),
    )
    op.create_index(
        "uq_waitlist_entry_live",
        "waitlist_entry",
        ["member_id", "perk_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('WAITING', 'OFFERED')"),
    )
    op.create_table(
        "message",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("thread_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("files", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("author IN ('PARTNER', 'MEMBER', 'STAFF')", name=op.f("ck_message_author")),
        sa.ForeignKeyConstraint(["thread_id"], ["thread.id"], name=op.f("fk_message_thread_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
    )
    op.create_index("ix_message_thread", "message", ["thread_id", "id"], unique=False)
    op.create_table(
        "perk_option",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cut_off_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("ends_at >= starts_at", name=op.f("ck_perk_option_ends_after_start")),
        sa.ForeignKeyConstraint(["perk_id"], ["perk.id"], name=op.f("fk_perk_option_perk_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_perk_option")),
        sa.UniqueConstraint("perk_id", "handle", name=op.f("uq_perk_option_perk_id_handle")),
    )
    op.create_index(
        "ix_perk_option_ends",
        "perk_option",
        [sa.literal_column("COALESCE(ends_at, starts_at)")],
        unique=False,
        postgresql_where=sa.text("starts_at IS NOT NULL"),
    )
    op.create_table(
        "review",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('OPEN', 'CLEARED', 'UPHELD')", name=op.f("ck_review_state")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_review_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_review_partner_id")),
        sa.ForeignKeyConstraint(["perk_id"], ["perk.id"], name=op.f("fk_review_perk_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
    )
    op.create_index(
        "uq_review_open",
        "review",
        ["member_id", "partner_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('OPEN', 'UPHELD')"),
    )
    op.create_table(
        "service_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("member_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("form", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("quote", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("redemption_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('DRAFT', 'SUBMITTED', 'QUOTED', 'APPROVED', 'DECLINED', 'SCHEDULED', 'FULFILLED', 'RECALLED',"
            " 'CANCELLED')",
            name=op.f("ck_service_request_state"),
        ),
        sa.ForeignKeyConstraint(["id"], ["thread.id"], name=op.f("fk_service_request_id")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_service_request_member_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partner.id"], name=op.f("fk_service_request_partner_id")),
        sa.ForeignKeyConstraint(["perk_id"], ["perk.id"], name=op.f("fk_service_request_perk_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_request")),
    )
    op.create_index("ix_service_request_member", "service_request", ["member_id", "id"], unique=False)
    op.create_index("ix_service_request_partner", "service_request", ["partner_id", "id"], unique=False)
    op.create_index("ix_service_request_perk", "service_request", ["perk_id", "id"], unique=False)
    op.create_index("ix_service_request_redemption", "service_request", ["redemption_id"], unique=False)
    op.create_table(
        "pool",
        sa.Column("perk_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("option_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=True),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("shrink_to", sa.Integer(), nullable=True),
        sa.Column("schedule", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "taken >= 0 AND kept >= 0 AND (units IS NULL OR taken + kept <= units)", name=op.f("ck_pool_never_oversold")
        ),
        sa.ForeignKeyConstraint(["option_id"], ["perk_option.id"], name=op.f("fk_pool_option_id")),
        sa.ForeignKeyConstraint(["perk_id"], ["perk.id"], name=op.f("fk_pool_perk_id")),
        sa.PrimaryKeyConstraint("perk_id", "number", name=op.f("pk_pool")),
        postgresql_with={"fillfactor": "50"},
    )
    op.add_column("capacity", sa.Column("kept", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("capacity", sa.Column("waiting", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("capacity", sa.Column("low_at", sa.Integer(), nullable=True))
    op.add_column("capacity", sa.Column("shrink_to", sa.Integer(), nullable=True))
    op.create_index(
        "ix_capacity_kept", "capacity", ["perk_id"], unique=False, postgresql_where=sa.text("waiting > 0 OR kept > 0")
    )
    op.add_column("hold", sa.Column("units", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("hold", sa.Column("counted", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("hold", sa.Column("amount", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("hold", sa.Column("counted_amount", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("hold", sa.Column("option_id", sa.Uuid(), nullable=True))
    op.add_column("hold", sa.Column("pools", postgresql.ARRAY(sa.SmallInteger()), nullable=True))
    op.add_column("hold", sa.Column("pool_units", postgresql.ARRAY(sa.Integer()), nullable=True))
    op.add_column("hold", sa.Column("household", sa.Text(), nullable=True))
    op.add_column("hold", sa.Column("device", sa.LargeBinary(), nullable=True))
    op.add_column("hold", sa.Column("exclusion", sa.Text(), nullable=True))
    op.add_column("hold", sa.Column("entry_id", sa.Uuid(), nullable=True))
    op.add_column("hold", sa.Column("extensions", sa.SmallInteger(), nullable=False, server_default="0"))
    op.drop_index(op.f("uq_hold_allowance"), table_name="hold", postgresql_where="(slot IS NOT NULL)")
    op.create_index(
        "ix_hold_device",
        "hold",
        ["device", "perk_id", "held_at"],
        unique=False,
        postgresql_where=sa.text("counted > 0 AND device IS NOT NULL"),
    )
    op.create_index(
        "ix_hold_entry", "hold", ["entry_id"], unique=False, postgresql_where=sa.text("entry_id IS NOT NULL")
    )
    op.create_index(
        "ix_hold_exclusion",
        "hold",
        ["member_id", "partner_id", "exclusion"],
        unique=False,
        postgresql_where=sa.text("counted > 0 AND exclusion IS NOT NULL"),
    )
    op.create_index(
        "ix_hold_household",
        "hold",
        ["household", "perk_id", "held_at"],
        unique=False,
        postgresql_where=sa.text("counted > 0 AND household IS NOT NULL"),
    )
    op.create_index(
        "ix_hold_uses",
        "hold",
        ["member_id", "perk_id", "held_at"],
        unique=False,
        postgresql_where=sa.text("counted > 0"),
    )
    op.drop_column("hold", "period")
    op.drop_column("hold", "slot")
    op.add_column("member", sa.Column("household", sa.Text(), nullable=True))
    op.add_column("member", sa.Column("birth_month", sa.SmallInteger(), nullable=True))
    op.add_column("member", sa.Column("labels", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}"))
    op.add_column("member", sa.Column("score", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("member", sa.Column("reviews", postgresql.ARRAY(sa.Uuid()), nullable=False, server_default="{}"))
    op.add_column(
        "perk", sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}")
    )
    op.add_column("perk", sa.Column("waitlist", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("perk", sa.Column("currency", sa.Text(), nullable=True))
    op.add_column("perk", sa.Column("units_max", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("perk", sa.Column("self_service", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("perk", sa.Column("returns_allowance", sa.Boolean(), nullable=False, server_default="true"))
    op.add_column("perk", sa.Column("pooled", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("policy", sa.Column("time_zone", sa.Text(), nullable=True))
    op.add_column("policy", sa.Column("member_window", sa.BigInteger(), nullable=True))
    op.add_column("policy", sa.Column("household_window", sa.BigInteger(), nullable=True))
    op.add_column("policy", sa.Column("device_window", sa.BigInteger(), nullable=True))
    op.add_column("policy", sa.Column("needs", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}"))
    op.add_column("redemption", sa.Column("units", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("redemption", sa.Column("amount", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("redemption", sa.Column("currency", sa.Text(), nullable=True))
    op.add_column("redemption", sa.Column("option_id", sa.Uuid(), nullable=True))
    op.add_column("redemption", sa.Column("reversals", sa.SmallInteger(), nullable=False, server_default="0"))
    op.add_column("redemption", sa.Column("reversed_units", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("redemption", sa.Column("reversed_amount", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index(
        "ix_redemption_option",
        "redemption",
        ["option_id"],
        unique=False,
        postgresql_where=sa.text(
            "option_id IS NOT NULL AND fulfilment IN ('PENDING', 'SCHEDULED') AND reversed_units < units"
        ),
    )
    op.add_column("reversal", sa.Column("number", sa.SmallInteger(), nullable=False, server_default="1"))
    op.add_column("reversal", sa.Column("units", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("reversal", sa.Column("amount", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("reversal", sa.Column("returns_allowance", sa.Boolean(), nullable=False, server_default="true"))
    op.drop_constraint(op.f("uq_reversal_redemption_id"), "reversal", type_="unique")
    op.create_unique_constraint(op.f("uq_reversal_redemption_id_number"), "reversal", ["redemption_id", "number"])
    for statement in CARRIED_OVER:
        op.execute(statement)
    for table, column in FILLED:
        op.alter_column(table, column, server_default=None)
    for table, name in (("capacity", "never_oversold"), ("disclosure", "kind")):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    for table, name, condition in CHECKS:
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
    for file in (FUNCTIONS, *FURTHER_FUNCTIONS):
        for statement in statements_of(file):
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    for name in (*REPLACED, *ADDED):
        op.execute(f"DROP FUNCTION {name}")
    for table, name, _ in CHECKS:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    op.execute("DELETE FROM disclosure WHERE kind IN ('ADDRESS', 'SERVICE')")
    op.execute("UPDATE reversal SET stock = 'RESTOCK' WHERE stock = 'WAITLIST'")
    op.create_check_constraint(
        op.f("ck_disclosure_kind"), "disclosure", "kind IN ('MEMBERSHIP', 'ELIGIBILITY', 'CATALOGUE', 'REDEMPTIONS')"
    )
    op.drop_constraint(op.f("uq_reversal_redemption_id_number"), "reversal", type_="unique")
    op.create_unique_constraint(
        op.f("uq_reversal_redemption_id"), "reversal", ["redemption_id"], postgresql_nulls_not_distinct=False
    )
    op.drop_column("reversal", "returns_allowance")
    op.drop_column("reversal", "amount")
    op.drop_column("reversal", "units")
    op.drop_column("reversal", "number")
    op.drop_index(
        "ix_redemption_option",
        table_name="redemption",
        postgresql_where=sa.text(
            "option_id IS NOT NULL AND fulfilment IN ('PENDING', 'SCHEDULED') AND reversed_units < units"
        ),
    )
    op.drop_column("redemption", "reversed_amount")
    op.drop_column("redemption", "reversed_units")
    op.drop_column("redemption", "reversals")
    op.drop_column("redemption", "option_id")
    op.drop_column("redemption", "currency")
    op.drop_column("redemption", "amount")
    op.drop_column("redemption", "units")
    op.drop_column("policy", "needs")
    op.drop_column("policy", "device_window")
    op.drop_column("policy", "household_window")
    op.drop_column("policy", "member_window")
    op.drop_column("policy", "time_zone")
    op.drop_column("perk", "pooled")
    op.drop_column("perk", "returns_allowance")
    op.drop_column("perk", "self_service")
    op.drop_column("perk", "units_max")
    op.drop_column("perk", "currency")
    op.drop_column("perk", "waitlist")
    op.drop_column("perk", "settings")
    op.drop_column("member", "reviews")
    op.drop_column("member", "score")
    op.drop_column("member", "labels")
    op.drop_column("member", "birth_month")
    op.drop_column("member", "household")
    op.add_column("hold", sa.Column("slot", sa.SMALLINT(), autoincrement=False, nullable=True))
    op.add_column("hold", sa.Column("period", sa.TEXT(), autoincrement=False, nullable=True))
    op.drop_index("ix_hold_uses", table_name="hold", postgresql_where=sa.text("counted > 0"))
    op.drop_index(
        "ix_hold_household", table_name="hold", postgresql_where=sa.text("counted > 0 AND household IS NOT NULL")
    )
    op.drop_index(
        "ix_hold_exclusion", table_name="hold", postgresql_where=sa.text("counted > 0 AND exclusion IS NOT NULL")
    )
    op.drop_index("ix_hold_entry", table_name="hold", postgresql_where=sa.text("entry_id IS NOT NULL"))
    op.drop_index("ix_hold_device", table_name="hold", postgresql_where=sa.text("counted > 0 AND device IS NOT NULL"))
    op.create_index(
        op.f("uq_hold_allowance"),
        "hold",
        ["member_id", "perk_id", "period", "slot"],
        unique=True,
        postgresql_where="(slot IS NOT NULL)",
    )
    op.drop_column("hold", "extensions")
    op.drop_column("hold", "entry_id")
    op.drop_column("hold", "exclusion")
    op.drop_column("hold", "device")
    op.drop_column("hold", "household")
    op.drop_column("hold", "pool_units")
    op.drop_column("hold", "pools")
    op.drop_column("hold", "option_id")
    op.drop_column("hold", "counted_amount")
    op.drop_column("hold", "amount")
    op.drop_column("hold", "counted")
    op.drop_column("hold", "units")
    op.drop_index("ix_capacity_kept", table_name="capacity", postgresql_where=sa.text("waiting > 0 OR kept > 0"))
    op.drop_column("capacity", "shrink_to")
    op.drop_column("capacity", "low_at")
    op.drop_column("capacity", "waiting")
    op.drop_column("capacity", "kept")
    op.drop_table("pool")
    op.drop_index("ix_service_request_redemption", table_name="service_request")
    op.drop_index("ix_service_request_perk", table_name="service_request")
    op.drop_index("ix_service_request_partner", table_name="service_request")
    op.drop_index("ix_service_request_member", table_name="service_request")
    op.drop_table("service_request")
    op.drop_index("uq_review_open", table_name="review", postgresql_where=sa.text("state IN ('OPEN', 'UPHELD')"))
    op.drop_table("review")
    op.drop_index("ix_perk_option_ends", table_name="perk_option", postgresql_where=sa.text("starts_at IS NOT NULL"))
    op.drop_table("perk_option")
    op.drop_index("ix_message_thread", table_name="message")
    op.drop_table("message")
    op.drop_index(
        "uq_waitlist_entry_live",
        table_name="waitlist_entry",
        postgresql_where=sa.text("state IN ('WAITING', 'OFFERED')"),
    )
    op.drop_index("ix_waitlist_entry_order", table_name="waitlist_entry", postgresql_where=sa.text("state = 'WAITING'"))
    op.drop_table("waitlist_entry")
    op.drop_table("thread")
    op.drop_index("uq_perk_code_redemption", table_name="perk_code")
    op.drop_index("ix_perk_code_free", table_name="perk_code", postgresql_where=sa.text("redemption_id IS NULL"))
    op.drop_table("perk_code")
    op.drop_index("ix_check_in_redemption", table_name="check_in")
    op.drop_table("check_in")
    op.drop_index(
        "ix_fulfilment_address", table_name="fulfilment", postgresql_where=sa.text("address_until IS NOT NULL")
    )
    op.drop_table("fulfilment")
    op.drop_index("ix_access_use_grant", table_name="access_use")
    op.drop_table("access_use")
    op.drop_index(
        "ix_access_grant_watched",
        table_name="access_grant",
        postgresql_where=sa.text("state = 'GRANTED' AND on_tier_drop <> 'KEEP'"),
    )
    op.drop_index("ix_access_grant_partner", table_name="access_grant")
    op.drop_index("ix_access_grant_member", table_name="access_grant")
    op.drop_index("ix_access_grant_due", table_name="access_grant", postgresql_where=sa.text("state = 'GRANTED'"))
    op.drop_table("access_grant")
    op.create_check_constraint(
        op.f("ck_capacity_never_oversold"), "capacity", "taken >= 0 AND (units IS NULL OR taken <= units)"
    )
    restored: dict[str, str] = {}
    for file in FORMER_FUNCTIONS:
        for statement in statements_of(file):
            for name in REPLACED:
                if f"CREATE FUNCTION {name}(" in statement:
                    restored[name] = statement
    # An SQL function is parsed when it is made, so those that others call come first.
    for name in sorted(REPLACED, key=lambda one: ("audit_leaf", "record_audit", one).index(one)):
        op.get_bind().exec_driver_sql(restored[name])
