"""Law 12, of who was erased nothing is left that identifies, and nothing leads back."""

from partners.laws.checks import Check

CHECKS = (
    Check(
        12,
        "erased_member_known",
        "an erased member's row or activities still say who it was, or a partner may know it",
        """
  SELECT m.id FROM member m WHERE m.erased_at IS NOT NULL AND (m.state <> 'ERASED'
    OR m.external_id <> 'erased:' || m.id OR m.market IS NOT NULL OR m.household IS NOT NULL
    OR m.birth_month IS NOT NULL OR m.labels <> '{}'
    OR EXISTS (SELECT FROM consent c WHERE c.member_id = m.id AND c.state = 'GRANTED')
    OR EXISTS (SELECT FROM activity a WHERE a.member_id = m.id)
    OR EXISTS (SELECT FROM pass p WHERE p.member_id = m.id))""",
    ),
    Check(
        12,
        "forgotten_member_named",
        "a forgotten member has an alias, a consent or an audit entry, or something of its life in words",
        """
  SELECT m.id FROM member m WHERE m.audit_salt = '' AND (
    EXISTS (SELECT FROM member_alias a WHERE a.member_id = m.id)
    OR EXISTS (SELECT FROM consent c WHERE c.member_id = m.id)
    OR EXISTS (SELECT FROM audit_entry e WHERE e.member_id = m.id)
    OR EXISTS (SELECT FROM disclosure d WHERE d.member_id = m.id)
    OR EXISTS (SELECT FROM hold h WHERE h.member_id = m.id AND (h.household IS NOT NULL OR h.device IS NOT NULL))
    OR EXISTS (SELECT FROM waitlist_entry w WHERE w.member_id = m.id AND w.device IS NOT NULL)
    OR EXISTS (SELECT FROM service_request s LEFT JOIN message t ON t.thread_id = s.id
      WHERE s.member_id = m.id AND (s.form <> '{}' OR s.quote IS NOT NULL OR t.text <> ''))
    OR EXISTS (SELECT FROM redemption r JOIN fulfilment f ON f.redemption_id = r.id
      WHERE r.member_id = m.id AND (f.address IS NOT NULL OR f.tracking IS NOT NULL OR f.reason IS NOT NULL)))""",
    ),
)
