-- Who waits for a perk: joining, leaving, and what the promoter sees and does under the perk's lock.
-- Lock order as in 0003_scarce.sql: the capacity row, then holds, then entries, then members in the order of their ids.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

CREATE FUNCTION keep_for_waiting(p_perk uuid, p_pools smallint[], p_kept int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  -- So many units of each pool (null: none) are kept for those who wait; all others are for everybody or, where there
  -- are to be fewer, gone. A perk without pools is its own pool 0. The perk's lock is the caller's.
  UPDATE pool p SET kept = k.kept,
      units = CASE WHEN p.shrink_to < p.units THEN greatest(p.shrink_to, p.taken + k.kept) ELSE p.units END
    FROM (SELECT number, coalesce(n, 0) AS kept FROM unnest(p_pools, p_kept) AS u(number, n)) AS k
    WHERE p.perk_id = p_perk AND p.number = k.number AND p.kept <> k.kept;
  UPDATE capacity c SET kept = k.kept, units = CASE
      WHEN c.shrink_to < c.units THEN coalesce((SELECT sum(p.units)::int FROM pool p WHERE p.perk_id = p_perk),
        greatest(c.shrink_to, c.taken + k.kept)) ELSE c.units END
    FROM (SELECT coalesce(sum(n), 0)::int AS kept FROM unnest(p_kept) AS n) AS k
    WHERE c.perk_id = p_perk AND (c.kept <> k.kept OR c.shrink_to < c.units);
END $$;
-- §
CREATE FUNCTION reweigh_waitlist(p_perk uuid, p_now timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_entries uuid[];
  v_tiers text[];
  v_weights int[];
BEGIN
  -- The weight of who waits is the rank of the tier in force now. Most have the one they had: only where some have not
  -- the perk is locked. Whether any had not.
  SELECT array_agg(e.id), array_agg(d.handle), array_agg(coalesce(d.rank, 0)) INTO v_entries, v_tiers, v_weights
  FROM waitlist_entry e
  LEFT JOIN LATERAL (SELECT a.tier, a.ends_at FROM tier_assignment a WHERE a.member_id = e.member_id
    AND a.starts_at <= p_now AND (a.ends_at IS NULL OR a.ends_at > a.starts_at)
    ORDER BY a.starts_at DESC, a.id DESC LIMIT 1) AS t ON t.ends_at IS NULL OR t.ends_at > p_now
  LEFT JOIN tier d ON d.handle = t.tier
  WHERE e.perk_id = p_perk AND e.state = 'WAITING'
    AND (e.weight <> coalesce(d.rank, 0) OR e.tier IS DISTINCT FROM d.handle);
  IF v_entries IS NOT NULL THEN
    PERFORM FROM capacity WHERE perk_id = p_perk FOR UPDATE;
    UPDATE waitlist_entry w SET weight = n.weight, tier = n.tier
    FROM unnest(v_entries, v_tiers, v_weights) AS n(id, tier, weight) WHERE w.id = n.id AND w.state = 'WAITING';
  END IF;
  RETURN v_entries IS NOT NULL;
END $$;
-- §
CREATE FUNCTION lock_waitlist(p_perk uuid, p_now timestamptz) RETURNS TABLE (
  perk_version int, waitlist text, waiting int, places text, held_options uuid[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_capacity capacity%ROWTYPE;
BEGIN
  -- The perk's lock, what is overdue settled, and what there is: `places` lists [number, free, kept] of each pool (of
  -- pool 0 for a perk without; free is null without a limit), `held_options` the options (null: none) of which
  -- something is held, so that it may come back by itself.
  PERFORM FROM capacity c WHERE c.perk_id = p_perk FOR UPDATE;
  PERFORM expire_holds(p_perk, p_now);
  SELECT * INTO v_capacity FROM capacity c WHERE c.perk_id = p_perk;
  RETURN QUERY SELECT p.version, p.waitlist::text, v_capacity.waiting,
    CASE WHEN p.pooled THEN (SELECT json_agg(json_build_array(o.number, o.units - o.taken - o.kept, o.kept)
        ORDER BY o.number)::text FROM pool o WHERE o.perk_id = p.id)
      ELSE json_build_array(json_build_array(0, v_capacity.units - v_capacity.taken - v_capacity.kept,
        v_capacity.kept))::text END,
    ARRAY(SELECT DISTINCT h.option_id FROM hold h WHERE h.perk_id = p.id AND h.state = 'HELD')
  FROM perk p WHERE p.id = p_perk;
END $$;
-- §
CREATE FUNCTION join_waitlist(
  p_entry uuid, p_perk uuid, p_partner uuid, p_member uuid, p_member_version int, p_perk_version int, p_option uuid,
  p_units int, p_amount bigint, p_device bytea, p_pools smallint[], p_tier text, p_weight int, p_refusals text,
  p_owner text, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS TABLE (outcome text, entry_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_live waitlist_entry%ROWTYPE;
  v_perk perk%ROWTYPE;
  v_room bigint;
  v_outcome text;
BEGIN
  -- `p_refusals`, the pools and the versions are as for claim_perk. Who waits for just this already is answered again;
  -- nobody waits for what is there.
  PERFORM FROM capacity c WHERE c.perk_id = p_perk FOR UPDATE;
  PERFORM expire_holds(p_perk, p_now);
  SELECT * INTO v_perk FROM perk k WHERE k.id = p_perk;
  SELECT * INTO v_live FROM waitlist_entry w
    WHERE w.member_id = p_member AND w.perk_id = p_perk AND w.state IN ('WAITING', 'OFFERED');
  IF v_live.units = p_units AND v_live.amount = p_amount AND v_live.option_id IS NOT DISTINCT FROM p_option THEN
    RETURN QUERY SELECT 'REPLAYED', v_live.id;
    RETURN;
  END IF;
  IF v_perk.version <> p_perk_version
    OR (SELECT m.version FROM member m WHERE m.id = p_member) IS DISTINCT FROM p_member_version THEN
    RETURN QUERY SELECT 'STALE', NULL::uuid;
    RETURN;
  END IF;
  v_room := CASE WHEN v_perk.pooled
    THEN (SELECT coalesce(sum(coalesce(o.units - o.taken - o.kept, 2147483647)), 0) FROM pool o
      WHERE o.perk_id = p_perk AND o.number = ANY (p_pools))
    ELSE (SELECT coalesce(c.units - c.taken - c.kept, 2147483647) FROM capacity c WHERE c.perk_id = p_perk) END;
  v_outcome := CASE
    WHEN p_refusals <> '' THEN 'REFUSED'
    WHEN NOT live_consent(p_member, p_partner, p_now, 'redemptions:write') THEN 'CONSENT_MISSING'
    WHEN v_live.id IS NOT NULL THEN 'ALREADY_WAITING'
    WHEN v_perk.waitlist IS NULL THEN 'WAITLIST_CLOSED'
    WHEN v_room >= p_units THEN 'WRONG_STATE'
    ELSE 'JOINED'
  END;
  IF v_outcome = 'JOINED' THEN
    INSERT INTO waitlist_entry (id, perk_id, partner_id, member_id, option_id, units, amount, device, state, weight, tier,
        offers, joined_by, joined_at)
      VALUES (p_entry, p_perk, p_partner, p_member, p_option, p_units, p_amount, p_device, 'WAITING', p_weight, p_tier, 0,
        p_owner, p_now);
    UPDATE capacity SET waiting = waiting + 1 WHERE perk_id = p_perk;
  END IF;
  PERFORM record_audit(p_now, 'waitlist.joined', CASE v_outcome WHEN 'JOINED' THEN 'DONE' ELSE 'REFUSED' END,
    CASE v_outcome WHEN 'JOINED' THEN '{}' WHEN 'REFUSED' THEN string_to_array(p_refusals, ',') ELSE ARRAY[v_outcome] END,
    p_actor_kind, p_actor_id, p_partner, p_perk, p_member, CASE v_outcome WHEN 'JOINED' THEN p_entry ELSE v_live.id END,
    v_perk.policy_version, p_tier, p_units, p_amount);
  RETURN QUERY SELECT v_outcome, CASE v_outcome WHEN 'JOINED' THEN p_entry ELSE v_live.id END;
END $$;
-- §
CREATE FUNCTION end_waiting(
  p_perk uuid, p_entries uuid[], p_states text[], p_reasons text[], p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  v_released uuid[];
  v_units int;
  v_pools smallint[];
  v_pool_units int[];
  v_ended int;
  v_waited int;
BEGIN
  -- Ends live entries, each with its own state (WITHDRAWN, LAPSED) and reason ('' for none). What was offered to them is
  -- released to those who wait on.
  PERFORM FROM capacity WHERE perk_id = p_perk FOR UPDATE;
  WITH released AS (
    UPDATE hold h SET state = 'RELEASED', counted = 0, counted_amount = 0, ended_at = p_now
    FROM waitlist_entry w WHERE w.id = ANY (p_entries) AND w.state = 'OFFERED' AND h.id = w.hold_id AND h.state = 'HELD'
    RETURNING h.id, h.partner_id, h.member_id, h.policy_version, h.tier, h.units, h.amount, h.pools, h.pool_units
  ), recorded AS MATERIALIZED (
    SELECT id, record_audit(p_now, 'hold.released', 'DONE', '{}', p_actor_kind, p_actor_id, partner_id, p_perk,
      member_id, id, policy_version, tier, units, amount) FROM released
  ), drawn AS (
    SELECT u.pool, sum(u.n)::int AS n FROM released r, unnest(r.pools, r.pool_units) AS u(pool, n) GROUP BY u.pool
  )
  SELECT (SELECT array_agg(id) FROM recorded), (SELECT coalesce(sum(units), 0) FROM released),
      (SELECT array_agg(pool ORDER BY pool) FROM drawn), (SELECT array_agg(n ORDER BY pool) FROM drawn)
    INTO v_released, v_units, v_pools, v_pool_units;
  WITH live AS (
    SELECT w.id, w.state AS was, e.state, e.reason
    FROM unnest(p_entries, p_states, p_reasons) AS e(id, state, reason) JOIN waitlist_entry w ON w.id = e.id
    WHERE w.perk_id = p_perk AND (w.state = 'WAITING' OR w.hold_id = ANY (v_released)) FOR UPDATE OF w
  ), ended AS (
    UPDATE waitlist_entry w SET state = l.state, hold_id = NULL, ended_at = p_now FROM live l WHERE w.id = l.id
    RETURNING w.id, w.partner_id, w.member_id, w.tier, w.units, w.amount, l.was, l.state, l.reason
  ), recorded AS MATERIALIZED (
    SELECT was, record_audit(p_now, 'waitlist.' || lower(state), 'DONE',
      CASE reason WHEN '' THEN '{}' ELSE ARRAY[reason] END, p_actor_kind, p_actor_id, partner_id, p_perk, member_id, id,
      NULL, tier, units, amount) FROM ended
  )
  SELECT count(*), count(*) FILTER (WHERE was = 'WAITING') INTO v_ended, v_waited FROM recorded;
  IF v_waited > 0 THEN
    UPDATE capacity SET waiting = waiting - v_waited WHERE perk_id = p_perk;
  END IF;
  IF v_units > 0 THEN
    PERFORM give_back(p_perk, v_units, v_pools, v_pool_units, true);
  END IF;
  IF EXISTS (SELECT FROM capacity WHERE perk_id = p_perk AND waiting = 0 AND kept > 0) THEN
    -- Nobody is left to keep anything for.
    PERFORM keep_for_waiting(p_perk, ARRAY(SELECT number FROM pool WHERE perk_id = p_perk AND kept > 0), '{}');
  END IF;
  RETURN v_ended;
END $$;
-- §
CREATE FUNCTION leave_waitlist(
  p_entry uuid, p_partner uuid, p_alias text, p_member uuid, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_entry waitlist_entry%ROWTYPE;
  v_outcome text := 'NOT_AVAILABLE';
BEGIN
  -- Within the reach of p_partner and p_alias, or of p_member (null for no bound). Leaving twice is leaving once.
  SELECT * INTO v_entry FROM waitlist_entry WHERE id = p_entry AND (p_partner IS NULL OR partner_id = p_partner)
    AND (p_member IS NULL OR member_id = p_member)
    AND (p_alias IS NULL OR member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias));
  IF FOUND THEN
    PERFORM expire_holds(v_entry.perk_id, p_now);
    IF end_waiting(v_entry.perk_id, ARRAY[v_entry.id], ARRAY['WITHDRAWN'], ARRAY[''], p_now, p_actor_kind,
        p_actor_id) = 1 THEN
      RETURN 'WITHDRAWN';
    END IF;
    SELECT CASE state WHEN 'WITHDRAWN' THEN state ELSE 'WRONG_STATE' END INTO v_outcome
      FROM waitlist_entry WHERE id = v_entry.id;
    IF v_outcome = 'WITHDRAWN' THEN
      RETURN v_outcome;
    END IF;
  END IF;
  PERFORM record_audit(p_now, 'waitlist.withdrawn', 'REFUSED', ARRAY[v_outcome], p_actor_kind, p_actor_id,
    coalesce(v_entry.partner_id, p_partner), v_entry.perk_id, v_entry.member_id, v_entry.id, NULL, v_entry.tier,
    v_entry.units, v_entry.amount);
  RETURN v_outcome;
END $$;
