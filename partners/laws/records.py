"""Law 6, every change has its audit entry and every entry its change, and law 0, nothing refers to nothing."""

from partners.laws.checks import Check

CHECKS = (
    Check(
        6,
        "change_without_entry",
        "a change of a hold, a redemption, a place on a waitlist or a right left no audit entry",
        "SELECT subject FROM (TABLE change EXCEPT ALL TABLE entry) AS missing",
    ),
    Check(
        6,
        "entry_without_change",
        "an audit entry tells of a change that was not made, or that another entry tells already",
        "SELECT subject FROM (TABLE entry EXCEPT ALL TABLE change) AS extra",
    ),
    Check(
        6,
        "answered_leaf_differs",
        "the leaf hash that a caller was given is of no audit entry of the change",
        # Reversals of one redemption share its id: each has the entry that has its leaf.
        """
  SELECT a.id FROM (
    SELECT id, 'perk.claimed' AS action, id AS subject_id, leaf_hash FROM hold
    UNION ALL SELECT id, 'hold.confirmed', id, leaf_hash FROM redemption
    UNION ALL SELECT id, 'redemption.reversed', redemption_id, leaf_hash FROM reversal
    UNION ALL SELECT id, 'access.used', grant_id, leaf_hash FROM access_use
  ) AS a WHERE EXISTS (SELECT FROM audit_entry e WHERE e.action = a.action AND e.subject_id = a.subject_id
      AND e.outcome = 'DONE')
    AND NOT EXISTS (SELECT FROM audit_entry e WHERE e.action = a.action AND e.subject_id = a.subject_id
      AND e.outcome = 'DONE' AND e.leaf_hash = a.leaf_hash)""",
    ),
    Check(
        0,
        "hold_refers_to_nothing",
        "a hold's perk (of its partner), capacity, member, policy or option does not exist",
        """
  SELECT h.id FROM hold h LEFT JOIN perk p ON p.id = h.perk_id AND p.partner_id = h.partner_id
  LEFT JOIN capacity c ON c.perk_id = h.perk_id LEFT JOIN member m ON m.id = h.member_id
  LEFT JOIN policy y ON y.perk_id = h.perk_id AND y.version = h.policy_version
  LEFT JOIN perk_option o ON o.id = h.option_id AND o.perk_id = h.perk_id
  WHERE p.id IS NULL OR c.perk_id IS NULL OR m.id IS NULL OR y.perk_id IS NULL
    OR o.id IS DISTINCT FROM h.option_id""",
    ),
    Check(
        0,
        "waiting_refers_to_nothing",
        "the perk (of its partner), member or option of somebody who waits does not exist",
        """
  SELECT w.id FROM waitlist_entry w LEFT JOIN perk p ON p.id = w.perk_id AND p.partner_id = w.partner_id
  LEFT JOIN member m ON m.id = w.member_id LEFT JOIN perk_option o ON o.id = w.option_id AND o.perk_id = w.perk_id
  WHERE p.id IS NULL OR m.id IS NULL OR o.id IS DISTINCT FROM w.option_id""",
    ),
    Check(
        0,
        "entry_refers_to_nothing",
        "an audit entry's partner, perk or member does not exist",
        """
  SELECT e.id FROM audit_entry e LEFT JOIN partner b ON b.id = e.partner_id LEFT JOIN perk p ON p.id = e.perk_id
  LEFT JOIN member m ON m.id = e.member_id
  WHERE (e.partner_id, e.perk_id, e.member_id) IS DISTINCT FROM (b.id, p.id, m.id)""",
    ),
)
