-- Standing rights: what one is worth at a moment, and its uses. What makes one is on_confirm.
-- The right's own row is its lock; nothing here touches capacity. What a right is, is a function of rows at any moment
-- (access_at); settling writes it down with its audit entry, whoever comes first: a use, or the worker.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

CREATE FUNCTION start_of_day(p_day date, p_zone text) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
  -- The first instant of a calendar day: of a midnight that clocks show twice the first, where they skip it the first
  -- that exists (as partners/facts.py).
  SELECT min(i.instant) FROM (SELECT p_day::timestamp AT TIME ZONE p_zone AS later) AS midnight,
    LATERAL (VALUES (later), (later - interval '30 minutes'), (later - interval '1 hour'), (later - interval '2 hours'))
      AS i(instant)
  WHERE i.instant = later OR (i.instant AT TIME ZONE p_zone) = p_day::timestamp
$$;
-- §
CREATE FUNCTION tier_drop_end(
  p_member uuid, p_tier text, p_since timestamptz, p_keep_days int, p_zone text, p_now timestamptz
) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  -- When a right that was given under p_tier ended because the member's tier fell below: at the drop itself, or after
  -- p_keep_days (the last day included) through which the tier was not back. Null: not until now.
  WITH ranked AS (
    SELECT a.starts_at, a.ends_at, lead(a.starts_at, 1, 'infinity') OVER (ORDER BY a.starts_at, a.id) AS next, t.rank
    FROM tier_assignment a JOIN tier t ON t.handle = a.tier
    WHERE a.member_id = p_member AND (a.ends_at IS NULL OR a.ends_at > a.starts_at)
  ), piece AS (
    SELECT starts_at AS starts, least(coalesce(ends_at, 'infinity'), next) AS ends, rank FROM ranked
    UNION ALL
    SELECT ends_at, next, 0 FROM ranked WHERE ends_at < next
  ), low AS (
    SELECT greatest(starts, p_since) AS starts, ends FROM piece
    WHERE rank < (SELECT rank FROM tier WHERE handle = p_tier) AND ends > p_since AND starts <= p_now AND ends > starts
  ), begun AS (
    SELECT starts, ends, CASE WHEN starts = lag(ends) OVER (ORDER BY starts) THEN 0 ELSE 1 END AS first FROM low
  ), numbered AS (
    SELECT starts, ends, sum(first) OVER (ORDER BY starts) AS number FROM begun
  ), drop AS (
    SELECT max(ends) AS back, CASE WHEN p_keep_days = 0 THEN min(starts)
      ELSE start_of_day((min(starts) AT TIME ZONE p_zone)::date + 1 + p_keep_days, p_zone) END AS ends
    FROM numbered GROUP BY number
  )
  SELECT min(ends) FROM drop WHERE ends <= p_now AND ends < back
$$;
-- §
CREATE FUNCTION access_at(
  p_grant access_grant, p_now timestamptz, OUT state text, OUT ended_at timestamptz, OUT reason text
) LANGUAGE plpgsql STABLE AS $$
BEGIN
  -- What a right is at a moment, settled or not.
  state := p_grant.state;
  ended_at := p_grant.ended_at;
  reason := p_grant.ended_reason;
  IF state <> 'GRANTED' THEN
    RETURN;
  END IF;
  IF p_grant.on_tier_drop <> 'KEEP' AND p_grant.tier IS NOT NULL THEN
    ended_at := tier_drop_end(p_grant.member_id, p_grant.tier, p_grant.starts_at, p_grant.keep_days,
      (SELECT k.time_zone FROM perk k WHERE k.id = p_grant.perk_id), p_now);
  END IF;
  IF p_grant.ends_at <= p_now AND (ended_at IS NULL OR p_grant.ends_at <= ended_at) THEN
    state := 'LAPSED';
    ended_at := p_grant.ends_at;
    reason := 'TERM_OVER';
  ELSIF ended_at IS NOT NULL THEN
    state := 'REVOKED';
    reason := 'TIER_DROP';
  END IF;
END $$;
-- §
CREATE FUNCTION settle_access(p_grant uuid, p_now timestamptz) RETURNS access_grant LANGUAGE plpgsql AS $$
DECLARE
  v_grant access_grant%ROWTYPE;
  v_is record;
BEGIN
  -- Locks a right and writes down what it is.
  SELECT * INTO v_grant FROM access_grant WHERE id = p_grant FOR UPDATE;
  v_is := access_at(v_grant, p_now);
  IF v_is.state <> v_grant.state THEN
    UPDATE access_grant SET state = v_is.state, ended_at = v_is.ended_at, ended_by = 'system', ended_reason = v_is.reason
      WHERE id = p_grant RETURNING * INTO v_grant;
    PERFORM record_audit(p_now, CASE v_is.state WHEN 'LAPSED' THEN 'access.lapsed' ELSE 'access.revoked' END, 'DONE',
      ARRAY[v_is.reason], 'system', 'system', v_grant.partner_id, v_grant.perk_id, v_grant.member_id, v_grant.id, NULL,
      v_grant.tier);
  END IF;
  RETURN v_grant;
END $$;
-- §
CREATE FUNCTION find_access(p_grant uuid, p_code bytea, p_partner uuid, p_alias text) RETURNS uuid
LANGUAGE plpgsql STABLE AS $$
BEGIN
  -- A right by its id or by the code of the hold that it came from, within the reach of p_partner and p_alias.
  IF p_code IS NOT NULL THEN
    p_grant := (SELECT g.id FROM hold h JOIN redemption r ON r.hold_id = h.id JOIN access_grant g ON g.redemption_id = r.id
      WHERE h.code_hash = p_code);
  END IF;
  RETURN (SELECT g.id FROM access_grant g WHERE g.id = p_grant AND (p_partner IS NULL OR g.partner_id = p_partner)
    AND (p_alias IS NULL OR g.member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias)));
END $$;
-- §
CREATE FUNCTION use_access(
  p_grant uuid, p_code bytea, p_partner uuid, p_alias text, p_owner text, p_key text, p_fingerprint bytea,
  p_now timestamptz, p_actor_kind text, p_actor_id text, p_use uuid
) RETURNS TABLE (outcome text, grant_id uuid, use_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_grant access_grant%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_consented boolean;
  v_refusal text;
  v_leaf bytea;
BEGIN
  -- One use. The lock on the right makes many at once come one after the other.
  SELECT * INTO v_grant FROM settle_access(find_access(p_grant, p_code, p_partner, p_alias), p_now);
  SELECT * INTO v_key FROM idempotency_key k WHERE k.owner = p_owner AND k.key = p_key;
  IF FOUND THEN
    RETURN QUERY SELECT CASE WHEN v_key.fingerprint = p_fingerprint THEN 'REPLAYED' ELSE 'KEY_REUSED' END,
      (SELECT u.grant_id FROM access_use u WHERE u.id = v_key.result_id), v_key.result_id;
    RETURN;
  END IF;
  -- Locked, so that a withdrawal is either before this or waits for it.
  PERFORM FROM consent c WHERE c.member_id = v_grant.member_id AND c.partner_id = v_grant.partner_id
    AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > p_now) AND 'redemptions:write' = ANY (c.scopes)
    FOR SHARE;
  v_consented := FOUND;
  v_refusal := CASE
    WHEN v_grant.id IS NULL THEN 'NOT_AVAILABLE'
    WHEN NOT v_consented THEN 'CONSENT_MISSING'
    WHEN EXISTS (SELECT FROM member m WHERE m.id = v_grant.member_id AND m.state <> 'ACTIVE') THEN 'MEMBERSHIP_SUSPENDED'
    WHEN EXISTS (SELECT FROM partner p WHERE p.id = v_grant.partner_id AND p.state <> 'ACTIVE') THEN 'PARTNER_SUSPENDED'
    WHEN v_grant.state = 'LAPSED' THEN 'ENDED'
    WHEN v_grant.state = 'REVOKED' AND v_grant.ended_by = 'system' AND v_grant.ended_reason = 'TIER_DROP' THEN
      CASE WHEN EXISTS (SELECT FROM (SELECT a.ends_at FROM tier_assignment a WHERE a.member_id = v_grant.member_id
          AND a.starts_at <= p_now AND (a.ends_at IS NULL OR a.ends_at > a.starts_at)
          ORDER BY a.starts_at DESC, a.id DESC LIMIT 1) AS t WHERE t.ends_at IS NULL OR t.ends_at > p_now)
        THEN 'TIER_TOO_LOW' ELSE 'TIER_EXPIRED' END
    WHEN v_grant.state = 'REVOKED' THEN 'NOT_AVAILABLE'
    WHEN v_grant.used >= v_grant.uses_max THEN 'ALLOWANCE_EXHAUSTED'
  END;
  IF v_refusal IS NULL THEN
    INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at)
      VALUES (p_owner, p_key, p_fingerprint, p_use, p_now) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      -- The key was bound meanwhile, to another right, for this one is locked.
      RETURN QUERY SELECT 'KEY_REUSED', NULL::uuid, NULL::uuid;
      RETURN;
    END IF;
    UPDATE access_grant SET used = used + 1 WHERE id = v_grant.id;
  END IF;
  v_leaf := record_audit(p_now, 'access.used', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN '{}' ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_grant.partner_id, p_partner), v_grant.perk_id, v_grant.member_id, v_grant.id, NULL, v_grant.tier, 1);
  IF v_refusal IS NULL THEN
    INSERT INTO access_use (id, grant_id, used_at, used_by, leaf_hash) VALUES (p_use, v_grant.id, p_now, p_owner, v_leaf);
  END IF;
  RETURN QUERY SELECT coalesce(v_refusal, 'USED'), v_grant.id, CASE WHEN v_refusal IS NULL THEN p_use END;
END $$;
-- §
CREATE FUNCTION revoke_access(
  p_grant uuid, p_partner uuid, p_alias text, p_owner text, p_reason text, p_now timestamptz, p_actor_kind text,
  p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_grant access_grant%ROWTYPE;
  v_refusal text;
BEGIN
  -- Takes a right away, within the reach of p_partner and p_alias. One that has ended is over already.
  SELECT * INTO v_grant FROM settle_access(find_access(p_grant, NULL, p_partner, p_alias), p_now);
  v_refusal := CASE
    WHEN v_grant.id IS NULL THEN 'NOT_AVAILABLE'
    -- A partner whom the member lets know nothing any more does not learn of a tier drop like this, either.
    WHEN v_grant.state = 'REVOKED' AND v_grant.ended_by = 'system' AND v_grant.ended_reason = 'TIER_DROP'
      AND p_partner IS NOT NULL AND NOT live_consent(v_grant.member_id, p_partner, p_now, 'redemptions:read') THEN NULL
    WHEN v_grant.state <> 'GRANTED' THEN 'WRONG_STATE'
  END;
  IF v_refusal IS NULL THEN
    UPDATE access_grant SET state = 'REVOKED', ended_at = p_now, ended_by = p_owner, ended_reason = p_reason
      WHERE id = v_grant.id;
  END IF;
  PERFORM record_audit(p_now, 'access.revoked', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN '{}' ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_grant.partner_id, p_partner), v_grant.perk_id, v_grant.member_id, v_grant.id, NULL, v_grant.tier);
  RETURN coalesce(v_refusal, 'REVOKED');
END $$;
