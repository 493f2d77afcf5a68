"""Law 12, of who was erased nothing is left that identifies, and nothing leads back."""

from partners.laws.checks import Check

CHECKS = (
    Check(
        12,
        "erased_member_known",
        "an erased member's row or activities still say who it was",
        """
  SELECT m.id FROM member m WHERE m.erased_at IS NOT NULL AND (m.state <> 'ERASED'
    OR m.external_id <> 'erased:' || m.id OR m.household IS NOT NULL OR m.birth_month IS NOT NULL OR m.labels <> '{}'
    OR EXISTS (SELECT FROM activity a WHERE a.member_id = m.id)
    OR EXISTS (SELECT FROM pass p WHERE p.member_id = m.id))""",
    ),
    Check(
        12,
        "forgotten_member_named",
        "a forgotten member has an alias, a consent or an audit entry",
        """
  SELECT m.id FROM member m WHERE m.audit_salt = '' AND (
    EXISTS (SELECT FROM member_alias a WHERE a.member_id = m.id)
    OR EXISTS (SELECT FROM consent c WHERE c.member_id = m.id)
    OR EXISTS (SELECT FROM audit_entry e WHERE e.member_id = m.id))""",
    ),
)
