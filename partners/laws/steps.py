"""Laws 3 and 4: a key acts at most once, and every hold, redemption, offer and right ends once and as it began."""

from partners.laws.checks import Check

CHECKS = (
    Check(
        3,
        "key_without_result",
        "an idempotency key leads to nothing",
        """
  SELECT k.owner || ' ' || k.key FROM idempotency_key k WHERE NOT EXISTS (SELECT FROM hold WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM redemption WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM reversal WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM waitlist_entry WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM access_use WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM check_in WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM service_request WHERE id = k.result_id)""",
    ),
    Check(
        3,
        "result_of_two_keys",
        "one hold, redemption or reversal came of two idempotency keys",
        "SELECT result_id FROM idempotency_key GROUP BY 1 HAVING count(*) > 1",
    ),
    Check(
        4,
        "hold_end_unclear",
        "a hold has ended without a time, or has a time and goes on",
        "SELECT id FROM hold WHERE (state = 'HELD') <> (ended_at IS NULL)",
    ),
    Check(
        4,
        "hold_extended_too_often",
        "a hold was extended more than twice",
        "SELECT id FROM hold WHERE extensions NOT BETWEEN 0 AND 2",
    ),
    Check(
        4,
        "confirmed_without_redemption",
        "a confirmed hold has no redemption, or more than one",
        """
  SELECT h.id FROM hold h LEFT JOIN redemption r ON r.hold_id = h.id WHERE h.state = 'CONFIRMED'
  GROUP BY h.id HAVING count(r.id) <> 1""",
    ),
    Check(
        4,
        "redemption_without_confirmed_hold",
        "a redemption's hold is not confirmed, is smaller, or is of another perk, partner, member, tier or policy",
        """
  SELECT r.id FROM redemption r LEFT JOIN hold h ON h.id = r.hold_id AND h.state = 'CONFIRMED'
    AND r.units <= h.units AND r.amount <= h.amount
  WHERE (h.perk_id, h.partner_id, h.member_id, h.policy_version, h.tier, h.option_id)
    IS DISTINCT FROM (r.perk_id, r.partner_id, r.member_id, r.policy_version, r.tier, r.option_id)""",
    ),
    Check(
        4,
        "reversal_without_redemption",
        "a reversal's redemption does not exist, or is of another perk",
        """
  SELECT v.id FROM reversal v LEFT JOIN redemption r ON r.id = v.redemption_id AND r.perk_id = v.perk_id
  WHERE r.id IS NULL""",
    ),
    Check(
        4,
        "reversals_miscounted",
        "what a redemption says was reversed of it is not what its reversals say",
        """
  SELECT r.id FROM redemption r LEFT JOIN (
    SELECT redemption_id, count(*) AS n, max(number) AS last, sum(units) AS units, sum(amount) AS amount
    FROM reversal GROUP BY 1
  ) AS v ON v.redemption_id = r.id
  WHERE (r.reversals, r.reversals, r.reversed_units, r.reversed_amount)
    IS DISTINCT FROM (coalesce(v.n, 0), coalesce(v.last, 0), coalesce(v.units, 0), coalesce(v.amount, 0))""",
    ),
    Check(
        4,
        "offer_not_its_holds",
        "what somebody who waits was offered is not held for them, or is held and not offered",
        """
  SELECT w.id FROM waitlist_entry w LEFT JOIN hold h ON h.id = w.hold_id AND h.entry_id = w.id
    AND h.member_id = w.member_id AND h.perk_id = w.perk_id
  WHERE CASE w.state WHEN 'OFFERED' THEN h.state IS DISTINCT FROM 'HELD'
      WHEN 'ACCEPTED' THEN h.state IS DISTINCT FROM 'CONFIRMED' ELSE h.state IN ('HELD', 'CONFIRMED') END
    OR (w.state IN ('WAITING', 'OFFERED')) <> (w.ended_at IS NULL)
  UNION SELECT h.entry_id FROM hold h LEFT JOIN waitlist_entry w ON w.id = h.entry_id AND w.hold_id = h.id
  WHERE h.entry_id IS NOT NULL AND h.state IN ('HELD', 'CONFIRMED') AND w.id IS NULL""",
    ),
    Check(
        4,
        "redemption_without_code",
        "a redemption of a perk of codes has none, or a code was given to what is no redemption of its perk",
        """
  SELECT coalesce(r.id, c.redemption_id)
  FROM (SELECT r.* FROM redemption r JOIN perk p ON p.id = r.perk_id AND p.kind = 'CODE') AS r
  FULL JOIN (SELECT * FROM perk_code WHERE redemption_id IS NOT NULL) AS c
    ON c.redemption_id = r.id AND c.perk_id = r.perk_id WHERE r.id IS NULL OR c.redemption_id IS NULL""",
    ),
    Check(
        4,
        "access_miscounted",
        "a standing right's uses are not those on record, or its redemption is not",
        """
  SELECT g.id FROM access_grant g
  LEFT JOIN redemption r ON r.id = g.redemption_id AND r.perk_id = g.perk_id AND r.member_id = g.member_id
  LEFT JOIN (SELECT grant_id, count(*) AS n FROM access_use GROUP BY 1) AS u ON u.grant_id = g.id
  WHERE r.id IS NULL OR g.used <> coalesce(u.n, 0)""",
    ),
    Check(
        4,
        "hold_overdue",
        "a hold is overdue by more than a minute: the next claim settles it, the sweeper should have",
        "SELECT id FROM hold, moment WHERE state = 'HELD' AND expires_at < moment.now - interval '60 seconds'",
        broken=False,
    ),
)
