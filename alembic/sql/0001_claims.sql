-- The statements that move units, as functions: one round trip each, and one transaction each when called alone.
-- Lock order everywhere: the perk's capacity row first, then holds. docs/decisions/0005-claims.md says why.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  -- UUIDv7 (RFC 9562): PostgreSQL has its own from 18 on, and we run on 15. The 12 bits after the version hold the
  -- fraction of the millisecond (section 6.2, method 3), so that ids of consecutive steps sort as they happened.
  SELECT encode(overlay(uuid_send(gen_random_uuid())
    PLACING int8send(((us / 1000) << 16) | (7 << 12) | ((us % 1000) * 4096 / 1000)) FROM 1 FOR 8), 'hex')::uuid
  FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) AS clock
$$;
-- §
CREATE FUNCTION audit_leaf(
  p_id uuid, p_at timestamptz, p_action text, p_outcome text, p_reasons text[], p_actor_kind text, p_actor_id text,
  p_partner uuid, p_perk uuid, p_salt bytea, p_member uuid, p_subject uuid, p_policy_version int, p_tier text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  -- Canonical JSON (RFC 8785: sorted keys, no spaces). The member is a salted hash that differs from partner to
  -- partner, so that two partners' proofs share nothing, and that means nothing once the salt is erased.
  SELECT concat(
    '{"action":', to_json(p_action),
    ',"actor":', to_json(CASE p_actor_kind WHEN 'partner' THEN 'partner:' || p_actor_id ELSE p_actor_kind END),
    ',"at":"', to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    '","id":"', p_id,
    '","member":', coalesce('"' || encode(
        sha256(p_salt || coalesce(uuid_send(p_partner), ''::bytea) || uuid_send(p_member)), 'hex') || '"', 'null'),
    ',"outcome":', to_json(p_outcome),
    ',"partner":', coalesce('"' || p_partner || '"', 'null'),
    ',"perk":', coalesce('"' || p_perk || '"', 'null'),
    ',"policyVersion":', coalesce(p_policy_version::text, 'null'),
    ',"reasons":', array_to_json(p_reasons),
    ',"subject":', coalesce('"' || p_subject || '"', 'null'),
    ',"tier":', coalesce(to_json(p_tier)::text, 'null'),
    ',"v":1}')
$$;
-- §
CREATE FUNCTION leaf_hash(p_leaf text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT sha256('\x00'::bytea || convert_to(p_leaf, 'UTF8'))  -- RFC 6962 section 2.1
$$;
-- §
CREATE FUNCTION record_audit(
  p_at timestamptz, p_action text, p_outcome text, p_reasons text[], p_actor_kind text, p_actor_id text,
  p_partner uuid, p_perk uuid, p_member uuid, p_subject uuid, p_policy_version int, p_tier text
) RETURNS bytea LANGUAGE sql VOLATILE AS $$
  WITH entry AS MATERIALIZED (
    SELECT id, audit_leaf(id, p_at, p_action, p_outcome, p_reasons, p_actor_kind, p_actor_id, p_partner, p_perk,
      (SELECT audit_salt FROM member WHERE member.id = p_member), p_member, p_subject, p_policy_version, p_tier) AS leaf
    FROM (SELECT new_id() AS id OFFSET 0) AS fresh
  ), written AS (
    INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id, member_id,
      subject_id, leaf, leaf_hash)
    SELECT id, p_at, p_action, p_outcome, p_reasons, p_actor_kind, p_actor_id, p_partner, p_perk, p_member,
      p_subject, leaf, leaf_hash(leaf) FROM entry
  )
  INSERT INTO outbox (entry_id, leaf_hash) SELECT id, leaf_hash(leaf) FROM entry RETURNING leaf_hash
$$;
-- §
CREATE FUNCTION expire_holds(p_perk uuid, p_now timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  v_expired int;
BEGIN
  -- Settles what is overdue on one perk. Called by claims before they count and by the sweeper.
  PERFORM FROM capacity WHERE perk_id = p_perk FOR UPDATE;
  WITH ended AS (
    UPDATE hold SET state = 'EXPIRED', slot = NULL, ended_at = p_now
    WHERE perk_id = p_perk AND state = 'HELD' AND expires_at <= p_now
    RETURNING id, partner_id, member_id, policy_version, tier
  ), recorded AS MATERIALIZED (
    SELECT record_audit(p_now, 'hold.expired', 'DONE', '{}', 'system', 'system', partner_id, p_perk, member_id, id,
      policy_version, tier) FROM ended
  )
  SELECT count(*) INTO v_expired FROM recorded;
  IF v_expired > 0 THEN
    UPDATE capacity SET taken = taken - v_expired WHERE perk_id = p_perk;
  END IF;
  RETURN v_expired;
END $$;
-- §
CREATE FUNCTION claim_perk(
  p_perk uuid, p_holds uuid[], p_owners text[], p_keys text[], p_fingerprints bytea[], p_nows timestamptz[],
  p_members uuid[], p_member_versions int[], p_perk_versions int[], p_tiers text[], p_periods text[], p_allowed int[],
  p_expires timestamptz[], p_codes bytea[], p_actor_kinds text[], p_actor_ids text[], p_refusals text[]
) RETURNS TABLE (
  ordinal bigint, outcome text, id uuid, state text, member_id uuid, tier text, policy_version int,
  held_at timestamptz, expires_at timestamptz, ended_at timestamptz, leaf_hash bytea
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_partner uuid;
  v_suspended boolean;
  v_version int;
  v_policy int;
  v_left bigint;
  v_now timestamptz := (SELECT max(n) FROM unnest(p_nows) n);
BEGIN
  -- One batch of claims on one perk. `p_refusals` is what the rules said (codes joined by commas, '' for a yes);
  -- the versions say which facts they were asked about: a claim judged on older facts comes back STALE.
  PERFORM FROM capacity c WHERE c.perk_id = p_perk FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM hold h WHERE h.perk_id = p_perk AND h.state = 'HELD' AND h.expires_at <= v_now) THEN
    PERFORM expire_holds(p_perk, v_now);
  END IF;
  SELECT p.partner_id, b.state <> 'ACTIVE', p.version, p.policy_version, coalesce(c.units - c.taken, 2147483647)
    INTO v_partner, v_suspended, v_version, v_policy, v_left
    FROM perk p JOIN capacity c ON c.perk_id = p.id JOIN partner b ON b.id = p.partner_id WHERE p.id = p_perk;
  RETURN QUERY
  WITH claim AS (
    SELECT * FROM unnest(p_holds, p_owners, p_keys, p_fingerprints, p_nows, p_members, p_member_versions,
      p_perk_versions, p_tiers, p_periods, p_allowed, p_expires, p_codes, p_actor_kinds, p_actor_ids, p_refusals)
    WITH ORDINALITY AS c(hold, owner, key, fingerprint, now, member, member_version, perk_version, tier, period,
      allowed, expires, code, actor_kind, actor_id, refusals, ordinal)
  ), checked AS (
    SELECT c.*, m.audit_salt, k.result_id AS bound, CASE
        WHEN k.fingerprint = c.fingerprint THEN 'REPLAYED'
        WHEN k.fingerprint IS NOT NULL THEN 'KEY_REUSED'
        WHEN row_number() OVER (PARTITION BY c.owner, c.key ORDER BY c.ordinal) > 1 THEN 'KEY_RACE'
        WHEN m.version IS DISTINCT FROM c.member_version OR v_version <> c.perk_version THEN 'STALE'
        WHEN c.refusals <> '' THEN 'REFUSED'
        WHEN v_suspended THEN 'STALE'
        ELSE 'WANTED' END AS verdict
    FROM claim c
    LEFT JOIN idempotency_key k ON k.owner = c.owner AND k.key = c.key
    LEFT JOIN member m ON m.id = c.member
  ), counted AS (
    SELECT c.*, row_number() OVER (PARTITION BY c.verdict, c.member, c.period ORDER BY c.ordinal) AS nth FROM checked c
  ), allowed AS (
    SELECT c.*, a.free[c.nth] AS slot, CASE
        WHEN c.verdict = 'WANTED' AND c.period IS NOT NULL AND a.used + c.nth > c.allowed THEN 'ALLOWANCE_EXHAUSTED'
        ELSE c.verdict END AS permitted
    FROM counted c
    LEFT JOIN LATERAL (
      SELECT u.used, ARRAY(SELECT s FROM generate_series(1, c.allowed) s WHERE s <> ALL (u.slots)
          ORDER BY s LIMIT c.nth) AS free
      FROM (SELECT count(*) AS used, coalesce(array_agg(h.slot), '{}') AS slots FROM hold h
        WHERE h.member_id = c.member AND h.perk_id = p_perk AND h.period = c.period AND h.slot IS NOT NULL) AS u
    ) a ON c.verdict = 'WANTED' AND c.period IS NOT NULL
  ), ranked AS MATERIALIZED (
    SELECT a.*, CASE
        WHEN a.permitted <> 'WANTED' THEN a.permitted
        WHEN row_number() OVER (PARTITION BY a.permitted ORDER BY a.ordinal) <= v_left THEN 'HELD'
        ELSE 'CAPACITY_EXHAUSTED' END AS ending
    FROM allowed a
  ), keyed AS (
    INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at)
    SELECT r.owner, r.key, r.fingerprint, r.hold, r.now FROM ranked r WHERE r.ending = 'HELD' ORDER BY r.owner, r.key
    ON CONFLICT DO NOTHING RETURNING owner, key, fingerprint
  ), entry AS MATERIALIZED (
    SELECT e.*, leaf_hash(e.leaf) AS hash FROM (
      SELECT d.*, audit_leaf(d.entry_id, d.now, 'perk.claimed', d.result, d.reasons, d.actor_kind, d.actor_id, v_partner,
        p_perk, d.audit_salt, d.member, CASE d.ending WHEN 'HELD' THEN d.hold END, v_policy, d.tier) AS leaf
      FROM (
        SELECT r.*, new_id() AS entry_id,
          CASE r.ending WHEN 'HELD' THEN 'DONE' ELSE 'REFUSED' END AS result,
          CASE r.ending WHEN 'HELD' THEN '{}' WHEN 'REFUSED' THEN string_to_array(r.refusals, ',')
            ELSE ARRAY[r.ending] END AS reasons
        FROM ranked r LEFT JOIN keyed k ON k.owner = r.owner AND k.key = r.key AND k.fingerprint = r.fingerprint
        WHERE r.ending IN ('REFUSED', 'ALLOWANCE_EXHAUSTED', 'CAPACITY_EXHAUSTED') OR (r.ending = 'HELD' AND k.key IS NOT NULL)
        OFFSET 0
      ) AS d OFFSET 0
    ) AS e
  ), held AS (
    INSERT INTO hold (id, perk_id, partner_id, member_id, state, claimed_by, tier, policy_version, period, slot, code_hash,
      leaf_hash, held_at, expires_at)
    SELECT e.hold, p_perk, v_partner, e.member, 'HELD', e.owner, e.tier, v_policy, e.period, e.slot, e.code, e.hash, e.now,
      e.expires
    FROM entry e WHERE e.ending = 'HELD' RETURNING 1
  ), audited AS (
    INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id, member_id,
      subject_id, leaf, leaf_hash)
    SELECT e.entry_id, e.now, 'perk.claimed', e.result, e.reasons, e.actor_kind, e.actor_id, v_partner, p_perk, e.member,
      CASE e.ending WHEN 'HELD' THEN e.hold END, e.leaf, e.hash FROM entry e
  ), outboxed AS (
    INSERT INTO outbox (entry_id, leaf_hash) SELECT e.entry_id, e.hash FROM entry e
  ), taken AS (
    UPDATE capacity c SET taken = c.taken + (SELECT count(*) FROM held)
    WHERE c.perk_id = p_perk AND EXISTS (SELECT FROM held)
  )
  -- A key that this or another batch binds meanwhile comes back as KEY_RACE: the caller asks again and is answered.
  SELECT r.ordinal, CASE WHEN r.ending = 'HELD' AND e.ordinal IS NULL THEN 'KEY_RACE' ELSE r.ending END,
    coalesce(h.id, e.hold), coalesce(h.state, 'HELD'), coalesce(h.member_id, r.member), coalesce(h.tier, r.tier),
    coalesce(h.policy_version, v_policy), coalesce(h.held_at, r.now), coalesce(h.expires_at, r.expires), h.ended_at,
    coalesce(h.leaf_hash, e.hash)
  FROM ranked r LEFT JOIN entry e ON e.ordinal = r.ordinal LEFT JOIN hold h ON h.id = r.bound;
END $$;
-- §
CREATE FUNCTION live_consent(p_member uuid, p_partner uuid, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM consent c WHERE c.member_id = p_member AND c.partner_id = p_partner AND c.state = 'GRANTED'
    AND (c.expires_at IS NULL OR c.expires_at > p_now))
$$;
-- §
CREATE FUNCTION confirm_hold(
  p_hold uuid, p_code bytea, p_partner uuid, p_owner text, p_key text, p_fingerprint bytea, p_now timestamptz,
  p_actor_kind text, p_actor_id text, p_redemption uuid
) RETURNS TABLE (outcome text, redemption_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_hold hold%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_refusal text;
  v_leaf bytea;
BEGIN
  -- Confirms by id or by code within the reach of p_partner (null for staff). Takes no capacity, so it locks the
  -- hold alone; the sweeper locks capacity and then the hold, and neither waits for what the other has.
  SELECT * INTO v_hold FROM hold h
    WHERE (h.id = p_hold OR h.code_hash = p_code) AND (p_partner IS NULL OR h.partner_id = p_partner) FOR UPDATE;
  SELECT * INTO v_key FROM idempotency_key k WHERE k.owner = p_owner AND k.key = p_key;
  IF FOUND THEN
    RETURN QUERY SELECT CASE WHEN v_key.fingerprint = p_fingerprint THEN 'REPLAYED' ELSE 'KEY_REUSED' END, v_key.result_id;
    RETURN;
  END IF;
  v_refusal := CASE
    WHEN v_hold.id IS NULL THEN 'NOT_AVAILABLE'
    WHEN v_hold.state = 'EXPIRED' OR (v_hold.state = 'HELD' AND v_hold.expires_at <= p_now) THEN 'HOLD_EXPIRED'
    WHEN v_hold.state <> 'HELD' THEN 'NOT_AVAILABLE'
    WHEN NOT live_consent(v_hold.member_id, v_hold.partner_id, p_now) THEN 'CONSENT_MISSING'
    WHEN EXISTS (SELECT FROM member m WHERE m.id = v_hold.member_id AND m.state <> 'ACTIVE') THEN 'MEMBERSHIP_SUSPENDED'
    WHEN EXISTS (SELECT FROM partner p WHERE p.id = v_hold.partner_id AND p.state <> 'ACTIVE') THEN 'PARTNER_SUSPENDED'
  END;
  IF v_refusal IS NULL THEN
    INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at)
      VALUES (p_owner, p_key, p_fingerprint, p_redemption, p_now) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      -- The key was bound meanwhile, to another hold, for this one is locked.
      RETURN QUERY SELECT 'KEY_REUSED', NULL::uuid;
      RETURN;
    END IF;
  END IF;
  v_leaf := record_audit(p_now, 'hold.confirmed', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN '{}' ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_hold.partner_id, p_partner), v_hold.perk_id, v_hold.member_id,
    CASE WHEN v_refusal IS NULL THEN p_redemption ELSE v_hold.id END, v_hold.policy_version, v_hold.tier);
  IF v_refusal IS NULL THEN
    UPDATE hold SET state = 'CONFIRMED', ended_at = p_now WHERE id = v_hold.id;
    INSERT INTO redemption (id, hold_id, perk_id, partner_id, member_id, tier, policy_version, fulfilment, confirmed_by,
        confirmed_at, leaf_hash)
      VALUES (p_redemption, v_hold.id, v_hold.perk_id, v_hold.partner_id, v_hold.member_id, v_hold.tier,
        v_hold.policy_version, 'PENDING', p_owner, p_now, v_leaf);
  END IF;
  RETURN QUERY SELECT coalesce(v_refusal, 'CONFIRMED'), CASE WHEN v_refusal IS NULL THEN p_redemption END;
END $$;
-- §
CREATE FUNCTION release_hold(
  p_hold uuid, p_partner uuid, p_member uuid, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_hold hold%ROWTYPE;
  v_refusal text;
BEGIN
  -- Within the reach of p_partner or p_member (null for no bound). Releasing what is released changes nothing.
  SELECT * INTO v_hold FROM hold WHERE id = p_hold AND (p_partner IS NULL OR partner_id = p_partner)
    AND (p_member IS NULL OR member_id = p_member);
  IF FOUND THEN
    PERFORM expire_holds(v_hold.perk_id, p_now);
  END IF;
  UPDATE hold SET state = 'RELEASED', slot = NULL, ended_at = p_now WHERE id = v_hold.id AND state = 'HELD';
  IF FOUND THEN
    UPDATE capacity SET taken = taken - 1 WHERE perk_id = v_hold.perk_id;
  ELSE
    SELECT state INTO v_hold.state FROM hold WHERE id = v_hold.id;
    IF v_hold.state = 'RELEASED' THEN
      RETURN 'RELEASED';
    END IF;
    v_refusal := CASE v_hold.state WHEN 'EXPIRED' THEN 'HOLD_EXPIRED' ELSE 'NOT_AVAILABLE' END;
  END IF;
  PERFORM record_audit(p_now, 'hold.released', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN '{}' ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_hold.partner_id, p_partner), v_hold.perk_id, v_hold.member_id, v_hold.id, v_hold.policy_version,
    v_hold.tier);
  RETURN coalesce(v_refusal, 'RELEASED');
END $$;
-- §
CREATE FUNCTION reverse_redemption(
  p_redemption uuid, p_partner uuid, p_owner text, p_key text, p_fingerprint bytea, p_now timestamptz,
  p_actor_kind text, p_actor_id text, p_reversal uuid, p_reason text, p_borne_by text, p_stock text
) RETURNS TABLE (outcome text, reversal_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_redemption redemption%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_refusal text;
  v_leaf bytea;
BEGIN
  -- Within the reach and the window of p_partner; staff (null) may reverse at any time.
  SELECT * INTO v_redemption FROM redemption r
    WHERE r.id = p_redemption AND (p_partner IS NULL OR r.partner_id = p_partner);
  IF FOUND THEN
    PERFORM FROM capacity c WHERE c.perk_id = v_redemption.perk_id FOR UPDATE;
  END IF;
  SELECT * INTO v_key FROM idempotency_key k WHERE k.owner = p_owner AND k.key = p_key;
  IF FOUND THEN
    RETURN QUERY SELECT CASE WHEN v_key.fingerprint = p_fingerprint THEN 'REPLAYED' ELSE 'KEY_REUSED' END, v_key.result_id;
    RETURN;
  END IF;
  v_refusal := CASE
    WHEN v_redemption.id IS NULL THEN 'NOT_AVAILABLE'
    WHEN EXISTS (SELECT FROM reversal v WHERE v.redemption_id = p_redemption) THEN 'ALREADY_REVERSED'
    WHEN p_partner IS NOT NULL AND p_now > v_redemption.confirmed_at + make_interval(hours => 24 *
      (SELECT k.reversal_days FROM perk k WHERE k.id = v_redemption.perk_id)) THEN 'REVERSAL_WINDOW_CLOSED'
  END;
  IF v_refusal IS NULL THEN
    INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at)
      VALUES (p_owner, p_key, p_fingerprint, p_reversal, p_now) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      RETURN QUERY SELECT 'KEY_REUSED', NULL::uuid;
      RETURN;
    END IF;
  END IF;
  v_leaf := record_audit(p_now, 'redemption.reversed', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN ARRAY[p_stock, p_borne_by] ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_redemption.partner_id, p_partner), v_redemption.perk_id, v_redemption.member_id, v_redemption.id,
    v_redemption.policy_version, v_redemption.tier);
  IF v_refusal IS NULL THEN
    INSERT INTO reversal (id, redemption_id, perk_id, reason, borne_by, stock, reversed_by, reversed_at, leaf_hash)
      VALUES (p_reversal, p_redemption, v_redemption.perk_id, p_reason, p_borne_by, p_stock, p_owner, p_now, v_leaf);
    UPDATE hold SET slot = NULL WHERE id = v_redemption.hold_id;  -- the member's allowance comes back
    IF p_stock = 'RESTOCK' THEN
      UPDATE capacity SET taken = taken - 1 WHERE perk_id = v_redemption.perk_id;
    END IF;
  END IF;
  RETURN QUERY SELECT coalesce(v_refusal, 'REVERSED'), CASE WHEN v_refusal IS NULL THEN p_reversal END;
END $$;
