"""Laws 1, 2 and 5: capacity and allowances are never exceeded; what is taken was held and did not come back."""

from partners.laws.checks import Check

CHECKS = (
    Check(
        1,
        "capacity_exceeded",
        "a perk has more taken and kept than it has units, or fewer than none",
        "SELECT perk_id FROM capacity WHERE taken < 0 OR kept < 0 OR taken + kept > units",
    ),
    Check(
        1,
        "pool_exceeded",
        "a pool of a perk has more taken and kept than it has units, or fewer than none",
        "SELECT perk_id FROM pool WHERE taken < 0 OR kept < 0 OR taken + kept > units",
    ),
    Check(
        1,
        "pools_not_the_capacity",
        "the capacity of a perk with pools is not their sum, or a perk without has some",
        """
  SELECT c.perk_id FROM capacity c JOIN perk p ON p.id = c.perk_id LEFT JOIN (
    SELECT perk_id, CASE WHEN count(units) = count(*) THEN sum(units) END AS units, sum(taken) AS taken,
      sum(kept) AS kept FROM pool GROUP BY perk_id
  ) AS s ON s.perk_id = c.perk_id
  WHERE CASE WHEN p.pooled THEN (c.units, c.taken, c.kept) IS DISTINCT FROM (s.units, s.taken, s.kept)
    ELSE s.perk_id IS NOT NULL END""",
    ),
    Check(
        2,
        "allowance_exceeded",
        "more counts in a period than the tier and the policy of the last claim in it allow",
        """
  SELECT id FROM (
    SELECT id, sum(n) OVER (PARTITION BY perk_id, period, week_starts, per, measure, nth, subject, bucket
        ORDER BY policy_version) AS used,
      max(allowed) OVER (PARTITION BY perk_id, period, week_starts, per, measure, nth, subject, bucket,
        policy_version) AS allowed
    FROM use WHERE period <> 'ROLLING'
  ) AS counted WHERE used > allowed""",
    ),
    Check(
        2,
        "rolling_allowance_exceeded",
        "more counts in the hours after a claim than the tier and the policy of the last claim in them allow",
        # The hours are the unit of the axis, less half a µs: a use just so many hours ago counts no more.
        """
  SELECT id FROM (
    SELECT id, sum(n) OVER hours AS used, (max(ARRAY[policy_version, allowed]) OVER hours)[2] AS allowed
    FROM use WHERE period = 'ROLLING'
    WINDOW hours AS (PARTITION BY perk_id, use.hours, per, measure, nth, subject
      ORDER BY (extract(epoch FROM held_at) * 1000000)::numeric(40, 20) / (3600000000 * use.hours - 0.5)
      RANGE BETWEEN CURRENT ROW AND 1 FOLLOWING)
  ) AS counted WHERE used > allowed""",
    ),
    Check(
        2,
        "allowance_miscounted",
        "what counts of a hold is not what is held, or confirmed and not given back",
        """
  SELECT h.id FROM hold h LEFT JOIN redemption r ON r.hold_id = h.id LEFT JOIN returned b ON b.redemption_id = r.id
  WHERE (h.counted, h.counted_amount) IS DISTINCT FROM CASE h.state WHEN 'HELD' THEN (h.units, h.amount)
    WHEN 'CONFIRMED' THEN (r.units - coalesce(b.units, 0)::int, r.amount - coalesce(b.amount, 0)::bigint)
    ELSE (0, 0::bigint) END""",
    ),
    Check(
        5,
        "capacity_not_conserved",
        "what a perk has taken is not what is held and confirmed less what came back",
        """
  SELECT perk_id FROM capacity c
  LEFT JOIN (SELECT perk_id, sum(units) AS n FROM live GROUP BY 1) AS used USING (perk_id)
  WHERE c.taken <> coalesce(used.n, 0)""",
    ),
    Check(
        5,
        "pool_not_conserved",
        "what a pool has taken is not what is held and confirmed of it less what came back",
        """
  SELECT o.perk_id FROM pool o FULL JOIN (
    SELECT perk_id, d.pool, sum(d.n) AS n FROM live, unnest(pools, pool_units) AS d(pool, n) GROUP BY 1, 2
  ) AS used ON used.perk_id = o.perk_id AND used.pool = o.number
  WHERE o.taken IS DISTINCT FROM coalesce(used.n, 0)""",
    ),
    Check(
        5,
        "hold_drawn_otherwise",
        "the units that a hold takes are not those it drew from pools, or a perk with pools has one that drew none",
        """
  SELECT l.id FROM live l JOIN perk p ON p.id = l.perk_id
  WHERE CASE WHEN p.pooled THEN l.units IS DISTINCT FROM (SELECT sum(n) FROM unnest(l.pool_units) AS n)
      OR cardinality(l.pools) <> cardinality(l.pool_units) OR 0 > ANY (l.pool_units)
    ELSE l.pools IS NOT NULL END""",
    ),
    Check(
        5,
        "waiting_miscounted",
        "a perk's count of those who wait is not how many wait",
        """
  SELECT perk_id FROM capacity c
  LEFT JOIN (SELECT perk_id, count(*) AS n FROM waitlist_entry WHERE state = 'WAITING' GROUP BY 1) AS w USING (perk_id)
  WHERE c.waiting <> coalesce(w.n, 0)""",
    ),
    Check(
        5,
        "kept_for_nobody",
        "units are kept for those who wait where nobody waits: the promoter should have let them go",
        "SELECT perk_id FROM capacity WHERE kept > 0 AND waiting = 0",
        broken=False,
    ),
)
