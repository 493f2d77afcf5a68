"""What was promised and what came of it: each step on record, nobody let in twice, no address kept for nothing."""

from partners.laws.checks import Check

CHECKS = (
    Check(
        6,
        "fulfilment_without_entry",
        "a redemption is in a state of fulfilment that no audit entry tells of",
        """
  SELECT r.id FROM redemption r WHERE r.fulfilment <> 'PENDING' AND NOT EXISTS (SELECT FROM audit_entry e
    WHERE e.subject_id = r.id AND e.outcome = 'DONE' AND e.action IN ('fulfilment.updated', 'redemption.checked_in')
      AND e.reasons = ARRAY[r.fulfilment])""",
    ),
    Check(
        1,
        "guests_miscounted",
        "more guests were checked in than had places, or than are counted",
        """
  SELECT coalesce(f.redemption_id, c.redemption_id) FROM fulfilment f
  FULL JOIN (SELECT redemption_id, sum(units) AS units FROM check_in GROUP BY 1) c ON c.redemption_id = f.redemption_id
  LEFT JOIN redemption r ON r.id = f.redemption_id
  WHERE f.redemption_id IS NULL OR f.checked_in > r.units OR c.units > f.checked_in""",
    ),
    Check(
        8,
        "address_kept",
        "an address is kept though nothing is to be sent to it, or for too long",
        """
  SELECT f.redemption_id FROM fulfilment f LEFT JOIN redemption r ON r.id = f.redemption_id, moment m
  WHERE f.address IS NOT NULL AND (f.method IS DISTINCT FROM 'SHIPPING' OR r.fulfilment NOT IN ('PENDING', 'SCHEDULED')
    OR r.reversed_units = r.units OR f.address_until < m.now - interval '1 hour')""",
    ),
)
