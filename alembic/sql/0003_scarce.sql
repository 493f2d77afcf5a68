-- Units, amounts, pools and waitlists: the steps of a hold once more, each replacing its namesake of 0001 and 0002.
-- Lock order everywhere: the perk's capacity row, then holds and redemptions, then members in the order of their ids.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

DROP FUNCTION record_audit(timestamptz, text, text, text[], text, text, uuid, uuid, uuid, uuid, int, text);
-- §
DROP FUNCTION audit_leaf(uuid, timestamptz, text, text, text[], text, text, uuid, uuid, bytea, uuid, uuid, int, text);
-- §
CREATE FUNCTION audit_leaf(
  p_id uuid, p_at timestamptz, p_action text, p_outcome text, p_reasons text[], p_actor_kind text, p_actor_id text,
  p_partner uuid, p_perk uuid, p_salt bytea, p_member uuid, p_subject uuid, p_policy_version int, p_tier text,
  p_units int, p_amount bigint
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  -- Canonical JSON (RFC 8785: sorted keys, no spaces). The member is a salted hash that differs from partner to
  -- partner, so that two partners' proofs share nothing, and that means nothing once the salt is erased.
  -- Version 2 says how many units, and how much in minor units of the perk's currency.
  SELECT concat(
    '{"action":', to_json(p_action),
    ',"actor":', to_json(CASE p_actor_kind WHEN 'partner' THEN 'partner:' || p_actor_id ELSE p_actor_kind END),
    ',"amount":', coalesce(p_amount::text, 'null'),
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
    ',"units":', coalesce(p_units::text, 'null'),
    ',"v":2}')
$$;
-- §
CREATE FUNCTION record_audit(
  p_at timestamptz, p_action text, p_outcome text, p_reasons text[], p_actor_kind text, p_actor_id text,
  p_partner uuid, p_perk uuid, p_member uuid, p_subject uuid, p_policy_version int, p_tier text,
  p_units int DEFAULT NULL, p_amount bigint DEFAULT NULL
) RETURNS bytea LANGUAGE sql VOLATILE AS $$
  WITH entry AS MATERIALIZED (
    SELECT id, audit_leaf(id, p_at, p_action, p_outcome, p_reasons, p_actor_kind, p_actor_id, p_partner, p_perk,
      (SELECT audit_salt FROM member WHERE member.id = p_member), p_member, p_subject, p_policy_version, p_tier,
      p_units, p_amount) AS leaf
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
CREATE FUNCTION give_back(p_perk uuid, p_units int, p_pools smallint[], p_pool_units int[], p_waitlist boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_capacity capacity%ROWTYPE;
  v_burnt int := 0;
  v_kept int := 0;
BEGIN
  -- Units come back. A capacity that is to shrink keeps none of them; else, where somebody waits and `p_waitlist`, they
  -- are kept for those who wait, until the waitlist was asked (partners/waitlist.py). The perk's lock is the caller's.
  SELECT * INTO v_capacity FROM capacity WHERE perk_id = p_perk;
  IF p_pools IS NULL THEN
    v_burnt := coalesce(least(p_units, greatest(0, v_capacity.units - v_capacity.shrink_to)), 0);
    IF p_waitlist AND v_capacity.waiting > 0 AND v_capacity.units IS NOT NULL THEN
      v_kept := p_units - v_burnt;
    END IF;
  ELSE
    WITH back AS (
      SELECT u.pool, sum(u.n)::int AS n FROM unnest(p_pools, p_pool_units) AS u(pool, n) GROUP BY u.pool
    ), share AS (
      SELECT b.pool, b.n, coalesce(least(b.n, greatest(0, p.units - p.shrink_to)), 0) AS burnt, p.units IS NOT NULL AS limited
      FROM back b JOIN pool p ON p.perk_id = p_perk AND p.number = b.pool
    ), changed AS (
      UPDATE pool p SET taken = p.taken - s.n, units = p.units - s.burnt,
        kept = p.kept + CASE WHEN p_waitlist AND v_capacity.waiting > 0 AND s.limited THEN s.n - s.burnt ELSE 0 END
      FROM share s WHERE p.perk_id = p_perk AND p.number = s.pool
      RETURNING s.burnt, CASE WHEN p_waitlist AND v_capacity.waiting > 0 AND s.limited THEN s.n - s.burnt ELSE 0 END AS kept
    )
    SELECT coalesce(sum(c.burnt), 0), coalesce(sum(c.kept), 0) INTO v_burnt, v_kept FROM changed c;
  END IF;
  UPDATE capacity SET taken = taken - p_units, units = units - v_burnt, kept = kept + v_kept WHERE perk_id = p_perk;
END $$;
-- §
CREATE FUNCTION drawn_back(p_pool_units int[], p_units int) RETURNS int[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_back int[] := p_pool_units;
  v_left int := p_units;
BEGIN
  -- How many of `p_units` go back to each pool: to the one they came from last first.
  FOR i IN REVERSE coalesce(cardinality(p_pool_units), 0)..1 LOOP
    v_back[i] := least(p_pool_units[i], v_left);
    v_left := v_left - v_back[i];
  END LOOP;
  RETURN v_back;
END $$;
-- §
CREATE FUNCTION less(p_units int[], p_back int[]) RETURNS int[] LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_units IS NOT NULL THEN
    ARRAY(SELECT u - b FROM unnest(p_units, p_back) WITH ORDINALITY AS d(u, b, place) ORDER BY place) END
$$;
-- §
CREATE FUNCTION lapse_offers(p_perk uuid, p_entries uuid[], p_now timestamptz, p_declined boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_offers int := (SELECT coalesce((waitlist ->> 'offers')::int, 1) FROM perk WHERE id = p_perk);
  v_back int;
BEGIN
  -- Offers that were not taken: whoever has more coming waits again, behind its equals; declining is the end.
  WITH ended AS (
    UPDATE waitlist_entry e SET hold_id = NULL,
      state = CASE WHEN NOT p_declined AND e.offers < v_offers THEN 'WAITING' ELSE 'LAPSED' END,
      joined_at = CASE WHEN NOT p_declined AND e.offers < v_offers THEN p_now ELSE e.joined_at END,
      ended_at = CASE WHEN NOT p_declined AND e.offers < v_offers THEN NULL ELSE p_now END
    WHERE e.id = ANY (p_entries) AND e.state = 'OFFERED'
    RETURNING e.id, e.partner_id, e.member_id, e.state, e.tier, e.units
  ), recorded AS MATERIALIZED (
    SELECT state, record_audit(p_now, 'waitlist.lapsed', 'DONE', ARRAY[state], 'system', 'system', partner_id, p_perk,
      member_id, id, NULL, tier, units) FROM ended
  )
  SELECT count(*) INTO v_back FROM recorded WHERE state = 'WAITING';
  IF v_back > 0 THEN
    UPDATE capacity SET waiting = waiting + v_back WHERE perk_id = p_perk;
  END IF;
END $$;
-- §
DROP FUNCTION expire_holds(uuid, timestamptz);
-- §
CREATE FUNCTION expire_holds(p_perk uuid, p_now timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  v_expired int;
  v_units int;
  v_entries uuid[];
  v_pools smallint[];
  v_pool_units int[];
BEGIN
  -- Settles what is overdue on one perk. Called by claims before they count and by the sweeper.
  PERFORM FROM capacity WHERE perk_id = p_perk FOR UPDATE;
  WITH ended AS (
    UPDATE hold SET state = 'EXPIRED', counted = 0, counted_amount = 0, ended_at = p_now
    WHERE perk_id = p_perk AND state = 'HELD' AND expires_at <= p_now
    RETURNING id, partner_id, member_id, policy_version, tier, units, amount, entry_id, pools, pool_units
  ), recorded AS MATERIALIZED (
    SELECT record_audit(p_now, 'hold.expired', 'DONE', '{}', 'system', 'system', partner_id, p_perk, member_id, id,
      policy_version, tier, units, amount) FROM ended
  ), drawn AS (
    SELECT u.pool, sum(u.n)::int AS n FROM ended e, unnest(e.pools, e.pool_units) AS u(pool, n) GROUP BY u.pool
  )
  SELECT (SELECT count(*) FROM recorded), (SELECT coalesce(sum(units), 0) FROM ended),
      (SELECT array_agg(entry_id) FROM ended WHERE entry_id IS NOT NULL),
      (SELECT array_agg(pool ORDER BY pool) FROM drawn), (SELECT array_agg(n ORDER BY pool) FROM drawn)
    INTO v_expired, v_units, v_entries, v_pools, v_pool_units;
  IF v_expired > 0 THEN
    IF v_entries IS NOT NULL THEN
      PERFORM lapse_offers(p_perk, v_entries, p_now, false);
    END IF;
    PERFORM give_back(p_perk, v_units, v_pools, v_pool_units, true);
  END IF;
  RETURN v_expired;
END $$;
-- §
DROP FUNCTION claim_perk(uuid, uuid[], text[], text[], bytea[], timestamptz[], uuid[], int[], int[], text[], text[],
  int[], timestamptz[], bytea[], text[], text[], text[]);
-- §
CREATE FUNCTION own_hold(
  p_perk uuid, p_member uuid, p_units int, p_amount bigint, p_option uuid, p_now timestamptz, p_actor_kind text,
  OUT same uuid, OUT any_hold uuid
) LANGUAGE sql STABLE AS $$
  -- What the member holds of this perk already: the hold that is just what is asked for again, and any. A partner is told
  -- of what it made, and of what the member made where it may see that.
  SELECT (array_agg(h.id ORDER BY h.id DESC) FILTER (WHERE h.units = p_units AND h.amount = p_amount
      AND (p_option IS NULL OR h.option_id = p_option)))[1], (array_agg(h.id))[1]
  FROM hold h WHERE h.member_id = p_member AND h.perk_id = p_perk AND h.counted > 0 AND h.state = 'HELD'
    AND h.expires_at > p_now AND (p_actor_kind <> 'partner' OR starts_with(h.claimed_by, 'partner:')
      OR live_consent(h.member_id, h.partner_id, p_now, 'redemptions:read'))
$$;
-- §
CREATE FUNCTION claim_perk(
  p_perk uuid, p_holds uuid[], p_owners text[], p_keys text[], p_fingerprints bytea[], p_nows timestamptz[],
  p_members uuid[], p_member_versions int[], p_perk_versions int[], p_tiers text[], p_units int[], p_amounts bigint[],
  p_options uuid[], p_pools text[], p_households text[], p_devices bytea[], p_exclusions text[], p_entries uuid[],
  p_expires timestamptz[], p_codes bytea[], p_actor_kinds text[], p_actor_ids text[], p_refusals text[],
  m_claims int[], m_subjects text[], m_starts timestamptz[], m_ends timestamptz[], m_limits bigint[], m_amounts boolean[],
  m_codes text[]
) RETURNS TABLE (
  ordinal bigint, outcome text, reasons text[], id uuid, state text, member_id uuid, tier text, policy_version int,
  held_at timestamptz, expires_at timestamptz, ended_at timestamptz, leaf_hash bytea, units int, amount bigint,
  option_id uuid, entry_id uuid, extensions smallint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_partner uuid;
  v_kind text;
  v_suspended boolean;
  v_pooled boolean;
  v_waitlist boolean;
  v_paced boolean;
  v_version int;
  v_policy int;
  v_capacity capacity%ROWTYPE;
  v_now timestamptz := (SELECT max(n) FROM unnest(p_nows) n);
  v_verdicts text[];
  v_bound uuid[];
  v_salts bytea[];
  v_reasons text[];
  v_draws text[];
  v_free bigint[];
  v_kept bigint[];
  v_before bigint;
  v_taken int := 0;
  v_from_kept int := 0;
  v_pool_taken int[];
  v_pool_kept int[];
  v_numbers smallint[];
  v_draw int[];
  v_need int;
  v_part int;
  v_room bigint;
  v_place int;
  v_one record;
BEGIN
  -- One batch of claims on one perk, no two of them for one member, household or device. `p_refusals` is what the rules
  -- said (codes joined by commas, '' for a yes); the versions say which facts they were asked about: a claim judged on
  -- older facts comes back STALE. `p_pools` are the numbers of the pools open to the claim, as '{1,0}', in the order to
  -- draw from. `m_…` are the allowances that claims are under, of the claim m_claims[i] of this batch: no more than
  -- m_limits units (or, with m_amounts, minor units) of its member, household or device from m_starts until before m_ends.
  SELECT * INTO v_capacity FROM capacity c WHERE c.perk_id = p_perk FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM hold h WHERE h.perk_id = p_perk AND h.state = 'HELD' AND h.expires_at <= v_now) THEN
    PERFORM expire_holds(p_perk, v_now);
    SELECT * INTO v_capacity FROM capacity c WHERE c.perk_id = p_perk;
  END IF;
  SELECT p.partner_id, p.kind, b.state <> 'ACTIVE', p.version, p.policy_version, p.pooled, p.waitlist IS NOT NULL,
      'claims' = ANY (y.needs)
    INTO v_partner, v_kind, v_suspended, v_version, v_policy, v_pooled, v_waitlist, v_paced
    FROM perk p JOIN partner b ON b.id = p.partner_id
      JOIN policy y ON y.perk_id = p.id AND y.version = p.policy_version WHERE p.id = p_perk;
  IF v_paced THEN
    -- The same member may claim the partner's other perks at this moment: it queues here, and each of its claims makes
    -- stale what the next was judged by, for a velocity counts them all.
    PERFORM FROM member m WHERE m.id = ANY (p_members) ORDER BY m.id FOR NO KEY UPDATE;
  END IF;

  SELECT array_agg(c.verdict ORDER BY c.ordinal), array_agg(c.bound ORDER BY c.ordinal), array_agg(c.salt ORDER BY c.ordinal)
    INTO v_verdicts, v_bound, v_salts
  FROM (
    SELECT c.ordinal, k.result_id AS bound, m.audit_salt AS salt, CASE
        WHEN k.fingerprint = c.fingerprint THEN 'REPLAYED'
        WHEN k.fingerprint IS NOT NULL THEN 'KEY_REUSED'
        WHEN m.version IS DISTINCT FROM c.member_version OR v_version <> c.perk_version THEN 'STALE'
        WHEN c.refusals <> '' THEN 'REFUSED'
        WHEN v_suspended THEN 'STALE'
        WHEN c.entry IS NOT NULL AND NOT EXISTS (SELECT FROM waitlist_entry w WHERE w.id = c.entry AND w.state = 'WAITING')
          THEN 'STALE'
        ELSE 'WANTED' END AS verdict
    FROM unnest(p_owners, p_keys, p_fingerprints, p_members, p_member_versions, p_perk_versions, p_refusals, p_entries)
      WITH ORDINALITY AS c(owner, key, fingerprint, member, member_version, perk_version, refusals, entry, ordinal)
    LEFT JOIN idempotency_key k ON k.owner = c.owner AND k.key = c.key
    LEFT JOIN member m ON m.id = c.member
  ) AS c;
  v_reasons := p_refusals;
  v_draws := array_fill(NULL::text, ARRAY[cardinality(p_holds)]);

  IF cardinality(m_claims) > 0 THEN
    FOR v_one IN
      SELECT m.claim, string_agg(m.code, ',' ORDER BY m.code) AS codes
      FROM unnest(m_claims, m_subjects, m_starts, m_ends, m_limits, m_amounts, m_codes)
        AS m(claim, subject, starts, ends, allowed, by_amount, code)
      WHERE v_verdicts[m.claim] = 'WANTED'
        AND m.allowed < CASE WHEN m.by_amount THEN p_amounts[m.claim] ELSE p_units[m.claim] END + coalesce(CASE m.subject
          WHEN 'member' THEN (SELECT sum(CASE WHEN m.by_amount THEN h.counted_amount ELSE h.counted END) FROM hold h
            WHERE h.member_id = p_members[m.claim] AND h.perk_id = p_perk AND h.counted > 0
              AND h.held_at >= coalesce(m.starts, '-infinity') AND h.held_at < coalesce(m.ends, 'infinity'))
          WHEN 'household' THEN (SELECT sum(CASE WHEN m.by_amount THEN h.counted_amount ELSE h.counted END) FROM hold h
            WHERE h.household = p_households[m.claim] AND h.perk_id = p_perk AND h.counted > 0
              AND h.held_at >= coalesce(m.starts, '-infinity') AND h.held_at < coalesce(m.ends, 'infinity'))
          ELSE (SELECT sum(CASE WHEN m.by_amount THEN h.counted_amount ELSE h.counted END) FROM hold h
            WHERE h.device = p_devices[m.claim] AND h.perk_id = p_perk AND h.counted > 0
              AND h.held_at >= coalesce(m.starts, '-infinity') AND h.held_at < coalesce(m.ends, 'infinity'))
          END, 0)
      GROUP BY m.claim
    LOOP
      v_verdicts[v_one.claim] := 'LIMITED';
      v_reasons[v_one.claim] := v_one.codes;
    END LOOP;
  END IF;

  IF EXISTS (SELECT FROM unnest(p_exclusions) AS x WHERE x IS NOT NULL) THEN
    -- The same member may claim another perk of the group at this moment, under that perk's lock: it queues here.
    PERFORM FROM member m WHERE m.id IN (SELECT c.member FROM unnest(p_members, p_exclusions) AS c(member, exclusion)
      WHERE c.exclusion IS NOT NULL) ORDER BY m.id FOR NO KEY UPDATE;
    FOR v_one IN
      SELECT c.ordinal FROM unnest(p_members, p_exclusions) WITH ORDINALITY AS c(member, exclusion, ordinal)
      WHERE v_verdicts[c.ordinal] = 'WANTED' AND EXISTS (SELECT FROM hold h WHERE h.member_id = c.member
        AND h.partner_id = v_partner AND h.exclusion = c.exclusion AND h.perk_id <> p_perk AND h.counted > 0
        AND (h.state <> 'HELD' OR h.expires_at > v_now))
    LOOP
      v_verdicts[v_one.ordinal] := 'LIMITED';
      v_reasons[v_one.ordinal] := 'CONFLICTS_WITH_HELD_PERK';
    END LOOP;
  END IF;

  IF v_waitlist THEN
    -- Who claims just what the waitlist offers it accepts that hold, whatever else there is.
    FOR v_one IN
      SELECT c.ordinal, h.id AS offered
      FROM unnest(p_members, p_units, p_amounts, p_options, p_entries, p_actor_kinds)
        WITH ORDINALITY AS c(member, units, amount, option, entry, actor_kind, ordinal)
      JOIN waitlist_entry w ON w.member_id = c.member AND w.perk_id = p_perk AND w.state = 'OFFERED'
      JOIN hold h ON h.id = w.hold_id AND h.state = 'HELD' AND h.expires_at > v_now
      WHERE v_verdicts[c.ordinal] = 'WANTED' AND c.entry IS NULL AND h.units = c.units AND h.amount = c.amount
        AND (c.option IS NULL OR h.option_id = c.option)
        AND (c.actor_kind <> 'partner' OR live_consent(c.member, v_partner, v_now, 'redemptions:read'))
    LOOP
      v_verdicts[v_one.ordinal] := 'RESUMED';
      v_bound[v_one.ordinal] := v_one.offered;
    END LOOP;
  END IF;

  -- First come, first served, all or nothing; who waits may also draw what is kept for those who wait.
  IF v_pooled THEN
    -- Arrays from 1 on: pool n at n + 1.
    SELECT array_agg(coalesce(p.units - p.taken - p.kept, 2147483647)::bigint ORDER BY p.number),
        array_agg(p.kept::bigint ORDER BY p.number), array_agg(p.number ORDER BY p.number)
      INTO v_free, v_kept, v_numbers FROM pool p WHERE p.perk_id = p_perk;
    v_pool_taken := array_fill(0, ARRAY[cardinality(v_free)]);
    v_pool_kept := v_pool_taken;
  ELSE
    v_free := ARRAY[coalesce(v_capacity.units - v_capacity.taken - v_capacity.kept, 2147483647)];
    v_kept := ARRAY[v_capacity.kept];
  END IF;
  v_before := coalesce(v_capacity.units - v_capacity.taken, 2147483647);
  FOR i IN 1..cardinality(p_holds) LOOP
    CONTINUE WHEN v_verdicts[i] <> 'WANTED';
    IF v_pooled THEN
      v_room := 0;
      v_draw := '{}';
      FOREACH v_place IN ARRAY p_pools[i]::int[] LOOP
        v_room := v_room + v_free[v_place + 1] + CASE WHEN p_entries[i] IS NULL THEN 0 ELSE v_kept[v_place + 1] END;
      END LOOP;
    ELSE
      v_room := v_free[1] + CASE WHEN p_entries[i] IS NULL THEN 0 ELSE v_kept[1] END;
    END IF;
    IF p_units[i] > v_room THEN
      v_verdicts[i] := 'LIMITED';
      v_reasons[i] := CASE v_kind WHEN 'CODE' THEN 'CODE_POOL_EMPTY' ELSE 'CAPACITY_EXHAUSTED' END;
      CONTINUE;
    END IF;
    v_verdicts[i] := 'HELD';
    v_need := p_units[i];
    v_taken := v_taken + v_need;
    IF NOT v_pooled THEN
      v_part := CASE WHEN p_entries[i] IS NULL THEN 0 ELSE least(v_need, v_kept[1]) END;
      v_kept[1] := v_kept[1] - v_part;
      v_free[1] := v_free[1] - (v_need - v_part);
      v_from_kept := v_from_kept + v_part;
      CONTINUE;
    END IF;
    FOREACH v_place IN ARRAY p_pools[i]::int[] LOOP
      v_part := CASE WHEN p_entries[i] IS NULL THEN 0 ELSE least(v_need, v_kept[v_place + 1]) END;
      v_kept[v_place + 1] := v_kept[v_place + 1] - v_part;
      v_pool_kept[v_place + 1] := v_pool_kept[v_place + 1] + v_part;
      v_from_kept := v_from_kept + v_part;
      v_room := least(v_need - v_part, v_free[v_place + 1]);
      v_free[v_place + 1] := v_free[v_place + 1] - v_room;
      v_pool_taken[v_place + 1] := v_pool_taken[v_place + 1] + v_part + v_room;
      v_draw := v_draw || (v_part + v_room)::int;
      v_need := v_need - v_part - v_room::int;
    END LOOP;
    v_draws[i] := v_draw::text;
  END LOOP;

  -- A key that a batch on another perk binds meanwhile comes back as KEY_RACE: the caller asks again and is answered.
  FOR v_one IN
    WITH keyed AS (
      INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at)
      SELECT c.owner, c.key, c.fingerprint, c.hold, c.now
      FROM unnest(p_owners, p_keys, p_fingerprints, p_holds, p_nows, v_verdicts)
        AS c(owner, key, fingerprint, hold, now, verdict)
      WHERE c.verdict = 'HELD' ORDER BY c.owner, c.key ON CONFLICT DO NOTHING RETURNING result_id
    )
    SELECT c.ordinal FROM unnest(p_holds, v_verdicts) WITH ORDINALITY AS c(hold, verdict, ordinal)
    WHERE c.verdict = 'HELD' AND c.hold NOT IN (SELECT k.result_id FROM keyed k)
  LOOP
    v_verdicts[v_one.ordinal] := 'KEY_RACE';
    v_taken := v_taken - p_units[v_one.ordinal];
    IF v_pooled THEN
      v_draw := v_draws[v_one.ordinal]::int[];
      v_place := 0;
      FOREACH v_part IN ARRAY p_pools[v_one.ordinal]::int[] LOOP
        v_place := v_place + 1;
        v_pool_taken[v_part + 1] := v_pool_taken[v_part + 1] - v_draw[v_place];
      END LOOP;
    END IF;
  END LOOP;

  -- Nobody is locked out by its own hold: who asks again for what it holds gets that hold (RESUMED); who asks for
  -- something else is told that it holds one.
  FOR v_one IN
    SELECT c.ordinal, o.same, o.any_hold
    FROM unnest(p_members, p_units, p_amounts, p_options, p_entries, p_nows, p_actor_kinds)
      WITH ORDINALITY AS c(member, units, amount, option, entry, now, actor_kind, ordinal),
      LATERAL own_hold(p_perk, c.member, c.units, c.amount, c.option, c.now, c.actor_kind) AS o
    WHERE v_verdicts[c.ordinal] IN ('LIMITED', 'REFUSED') AND c.entry IS NULL AND o.any_hold IS NOT NULL
      AND string_to_array(v_reasons[c.ordinal], ',') <@ ARRAY['ALLOWANCE_EXHAUSTED', 'VALUE_LIMIT_REACHED',
        'HOUSEHOLD_LIMIT_REACHED', 'DEVICE_ALREADY_USED', 'CAPACITY_EXHAUSTED', 'CODE_POOL_EMPTY']
  LOOP
    IF v_one.same IS NOT NULL THEN
      v_verdicts[v_one.ordinal] := 'RESUMED';
      v_bound[v_one.ordinal] := v_one.same;
    ELSE
      v_reasons[v_one.ordinal] := concat_ws(',', nullif(v_reasons[v_one.ordinal], ''), 'ALREADY_HELD');
    END IF;
  END LOOP;

  IF v_taken > 0 THEN
    UPDATE capacity c SET taken = c.taken + v_taken, kept = c.kept - v_from_kept WHERE c.perk_id = p_perk;
    IF v_paced THEN
      UPDATE member m SET version = m.version + 1 FROM unnest(p_members, v_verdicts) AS c(member, verdict)
      WHERE m.id = c.member AND c.verdict = 'HELD';
    END IF;
    IF v_pooled THEN
      UPDATE pool p SET taken = p.taken + d.taken, kept = p.kept - d.kept
      FROM unnest(v_numbers, v_pool_taken, v_pool_kept) AS d(number, taken, kept)
      WHERE p.perk_id = p_perk AND p.number = d.number AND d.taken > 0;
    END IF;
    IF EXISTS (SELECT FROM unnest(p_entries) AS e WHERE e IS NOT NULL) THEN
      WITH offered AS (
        UPDATE waitlist_entry w SET state = 'OFFERED', offers = w.offers + 1, hold_id = c.hold
        FROM unnest(p_entries, p_holds, v_verdicts) AS c(entry, hold, verdict)
        WHERE w.id = c.entry AND c.verdict = 'HELD' RETURNING 1
      )
      UPDATE capacity c SET waiting = c.waiting - (SELECT count(*) FROM offered) WHERE c.perk_id = p_perk;
    END IF;
    IF v_capacity.low_at IS NOT NULL AND v_before > v_capacity.low_at AND v_before - v_taken <= v_capacity.low_at THEN
      PERFORM record_audit(v_now, 'capacity.low', 'DONE', '{}', 'system', 'system', v_partner, p_perk, NULL, p_perk,
        v_policy, NULL, (v_before - v_taken)::int);
    END IF;
  END IF;

  RETURN QUERY
  WITH claim AS (
    SELECT * FROM unnest(p_holds, p_owners, p_keys, p_fingerprints, p_nows, p_members, p_tiers, p_units, p_amounts,
      p_options, p_pools, p_households, p_devices, p_exclusions, p_entries, p_expires, p_codes, p_actor_kinds, p_actor_ids,
      v_verdicts, v_bound, v_salts, v_reasons, v_draws)
    WITH ORDINALITY AS c(hold, owner, key, fingerprint, now, member, tier, units, amount, option, pools, household, device,
      exclusion, entry, expires, code, actor_kind, actor_id, verdict, bound, salt, reasons, draw, ordinal)
  ), entry AS MATERIALIZED (
    SELECT e.*, leaf_hash(e.leaf) AS hash FROM (
      SELECT d.*, audit_leaf(d.entry_id, d.now, 'perk.claimed', d.result, d.codes, d.actor_kind, d.actor_id, v_partner,
        p_perk, d.salt, d.member, CASE d.verdict WHEN 'HELD' THEN d.hold END, v_policy, d.tier, d.units, d.amount) AS leaf
      FROM (
        SELECT r.*, new_id() AS entry_id, CASE r.verdict WHEN 'HELD' THEN 'DONE' ELSE 'REFUSED' END AS result,
          CASE r.verdict WHEN 'HELD' THEN '{}' ELSE string_to_array(r.reasons, ',') END AS codes
        FROM claim r WHERE r.verdict IN ('HELD', 'REFUSED', 'LIMITED')
        OFFSET 0
      ) AS d OFFSET 0
    ) AS e
  ), held AS (
    INSERT INTO hold (id, perk_id, partner_id, member_id, state, claimed_by, tier, policy_version, units, counted, amount,
      counted_amount, option_id, pools, pool_units, household, device, exclusion, entry_id, extensions, code_hash,
      leaf_hash, held_at, expires_at)
    SELECT e.hold, p_perk, v_partner, e.member, 'HELD', e.owner, e.tier, v_policy, e.units, e.units, e.amount, e.amount,
      e.option, CASE WHEN v_pooled THEN e.pools::smallint[] END, e.draw::int[], e.household, e.device, e.exclusion, e.entry,
      0, e.code, e.hash, e.now, e.expires
    FROM entry e WHERE e.verdict = 'HELD'
  ), audited AS (
    INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id, member_id,
      subject_id, leaf, leaf_hash)
    SELECT e.entry_id, e.now, 'perk.claimed', e.result, e.codes, e.actor_kind, e.actor_id, v_partner, p_perk, e.member,
      CASE e.verdict WHEN 'HELD' THEN e.hold END, e.leaf, e.hash FROM entry e
  ), outboxed AS (
    INSERT INTO outbox (entry_id, leaf_hash) SELECT e.entry_id, e.hash FROM entry e
  )
  SELECT r.ordinal, CASE WHEN r.verdict = 'LIMITED' THEN split_part(r.reasons, ',', 1) ELSE r.verdict END,
    string_to_array(r.reasons, ','),
    coalesce(h.id, r.hold), coalesce(h.state, 'HELD'), coalesce(h.member_id, r.member), coalesce(h.tier, r.tier),
    coalesce(h.policy_version, v_policy), coalesce(h.held_at, r.now), coalesce(h.expires_at, r.expires), h.ended_at,
    coalesce(h.leaf_hash, e.hash), coalesce(h.units, r.units), coalesce(h.amount, r.amount),
    CASE WHEN h.id IS NULL THEN r.option ELSE h.option_id END, CASE WHEN h.id IS NULL THEN r.entry ELSE h.entry_id END,
    coalesce(h.extensions, 0::smallint)
  FROM claim r LEFT JOIN entry e ON e.ordinal = r.ordinal LEFT JOIN hold h ON h.id = r.bound;
END $$;
-- §
CREATE FUNCTION lock_code(p_perk uuid) RETURNS bytea LANGUAGE sql VOLATILE AS $$
  -- A free code, for the caller alone. No more is held than there are free ones (withdraw_codes sees to it), and who
  -- confirms or withdraws at this moment has others: of those that nobody has locked, the first that was added.
  SELECT c.hash FROM perk_code c WHERE c.perk_id = p_perk AND c.redemption_id IS NULL
  ORDER BY c.number LIMIT 1 FOR UPDATE SKIP LOCKED
$$;
-- §
CREATE FUNCTION on_confirm(
  p_redemption uuid, p_code bytea, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_redemption redemption%ROWTYPE;
  v_perk perk%ROWTYPE;
  v_grant uuid := new_id();
BEGIN
  -- What a kind does when a hold is confirmed, with the code that lock_code found; a refusal undoes the confirmation.
  SELECT * INTO v_redemption FROM redemption WHERE id = p_redemption;
  SELECT * INTO v_perk FROM perk WHERE id = v_redemption.perk_id;
  IF v_perk.kind = 'CODE' THEN
    UPDATE perk_code SET redemption_id = p_redemption WHERE perk_id = v_perk.id AND hash = p_code;
    IF NOT FOUND THEN
      RETURN 'CODE_POOL_EMPTY';
    END IF;
  ELSIF v_perk.kind = 'ACCESS' THEN
    INSERT INTO access_grant (id, redemption_id, perk_id, partner_id, member_id, state, tier, on_tier_drop, keep_days,
        uses_max, used, starts_at, ends_at)
      VALUES (v_grant, p_redemption, v_perk.id, v_redemption.partner_id, v_redemption.member_id, 'GRANTED',
        v_redemption.tier, coalesce(v_perk.settings ->> 'on_tier_drop', 'KEEP'),
        coalesce((v_perk.settings ->> 'keep_days')::int, 0), (v_perk.settings ->> 'uses')::int, 0, p_now,
        -- So many days after this one, the last inclusive, in the perk's own zone.
        start_of_day((p_now AT TIME ZONE v_perk.time_zone)::date + 1 + (v_perk.settings ->> 'term_days')::int,
          v_perk.time_zone));
    PERFORM record_audit(p_now, 'access.granted', 'DONE', '{}', p_actor_kind, p_actor_id, v_redemption.partner_id,
      v_perk.id, v_redemption.member_id, v_grant, v_redemption.policy_version, v_redemption.tier);
  END IF;
  RETURN NULL;
END $$;
-- §
CREATE FUNCTION on_reverse(
  p_redemption uuid, p_units_left int, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_leaf bytea;
BEGIN
  -- What a kind does when a redemption is taken back: a right ends with the last unit of what it came from, and nothing
  -- is sent to anybody's address.
  IF p_units_left = 0 THEN
    UPDATE fulfilment SET address = NULL, address_until = NULL WHERE redemption_id = p_redemption;
    WITH ended AS (
      UPDATE access_grant SET state = 'REVOKED', ended_at = p_now, ended_by = 'system', ended_reason = 'REVERSED'
      WHERE redemption_id = p_redemption AND state = 'GRANTED' RETURNING id, partner_id, perk_id, member_id, tier
    )
    SELECT record_audit(p_now, 'access.revoked', 'DONE', '{REVERSED}', p_actor_kind, p_actor_id, partner_id, perk_id,
      member_id, id, NULL, tier) INTO v_leaf FROM ended;
  END IF;
END $$;
-- §
DROP FUNCTION confirm_hold(uuid, bytea, uuid, text, text, text, bytea, timestamptz, text, text, uuid);
-- §
CREATE FUNCTION confirm_hold(
  p_hold uuid, p_code bytea, p_partner uuid, p_alias text, p_member uuid, p_owner text, p_key text, p_fingerprint bytea,
  p_now timestamptz, p_actor_kind text, p_actor_id text, p_redemption uuid, p_units int, p_amount bigint
) RETURNS TABLE (outcome text, redemption_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_hold hold%ROWTYPE;
  v_perk perk%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_consented boolean;
  v_refusal text;
  v_leaf bytea;
  v_units int;
  v_amount bigint;
  v_code bytea;
  v_back int[];
BEGIN
  -- Confirms by id or by code within the reach of p_partner and p_alias, or of p_member where members confirm by
  -- themselves. All of it takes no capacity and locks the hold and the consent; the sweeper locks capacity and then the
  -- hold, and neither waits for what the other has. A part (p_units, p_amount; null: all) gives the rest back, so it
  -- locks capacity first, as everybody.
  SELECT * INTO v_hold FROM hold h WHERE (h.id = p_hold OR h.code_hash = p_code)
    AND (p_partner IS NULL OR h.partner_id = p_partner) AND (p_member IS NULL OR h.member_id = p_member)
    AND (p_alias IS NULL OR h.member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias));
  IF FOUND THEN
    IF p_units < v_hold.units THEN
      PERFORM FROM capacity c WHERE c.perk_id = v_hold.perk_id FOR UPDATE;
    END IF;
    SELECT * INTO v_hold FROM hold h WHERE h.id = v_hold.id FOR UPDATE;
  END IF;
  SELECT * INTO v_key FROM idempotency_key k WHERE k.owner = p_owner AND k.key = p_key;
  IF FOUND THEN
    RETURN QUERY SELECT CASE WHEN v_key.fingerprint = p_fingerprint THEN 'REPLAYED' ELSE 'KEY_REUSED' END, v_key.result_id;
    RETURN;
  END IF;
  SELECT * INTO v_perk FROM perk k WHERE k.id = v_hold.perk_id;
  v_units := coalesce(p_units, v_hold.units);
  v_amount := coalesce(p_amount, v_hold.amount);
  -- Locked, so that a withdrawal is either before this or waits for it: none that was answered is overtaken.
  PERFORM FROM consent c WHERE c.member_id = v_hold.member_id AND c.partner_id = v_hold.partner_id
    AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > p_now) AND 'redemptions:write' = ANY (c.scopes)
    FOR SHARE;
  v_consented := FOUND;
  v_refusal := CASE
    WHEN v_hold.id IS NULL OR (p_member IS NOT NULL AND NOT v_perk.self_service) THEN 'NOT_AVAILABLE'
    WHEN v_hold.state = 'EXPIRED' OR (v_hold.state = 'HELD' AND v_hold.expires_at <= p_now) THEN 'HOLD_EXPIRED'
    WHEN v_hold.state <> 'HELD' THEN 'NOT_AVAILABLE'
    WHEN NOT v_consented THEN 'CONSENT_MISSING'
    WHEN EXISTS (SELECT FROM member m WHERE m.id = v_hold.member_id AND m.state <> 'ACTIVE') THEN 'MEMBERSHIP_SUSPENDED'
    WHEN EXISTS (SELECT FROM partner p WHERE p.id = v_hold.partner_id AND p.state <> 'ACTIVE') THEN 'PARTNER_SUSPENDED'
    WHEN v_units > v_hold.units THEN 'UNITS_EXCEEDED'
    WHEN v_amount > v_hold.amount THEN 'AMOUNT_EXCEEDED'
  END;
  IF v_refusal IS NULL AND v_perk.kind = 'CODE' THEN
    -- Once: a second one in hand would be missing to whoever confirms at this moment.
    v_code := lock_code(v_perk.id);
    v_refusal := CASE WHEN v_code IS NULL THEN 'CODE_POOL_EMPTY' END;
  END IF;
  IF v_refusal IS NULL THEN
    INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at)
      VALUES (p_owner, p_key, p_fingerprint, p_redemption, p_now) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      -- The key was bound meanwhile, to another hold, for this one is locked.
      RETURN QUERY SELECT 'KEY_REUSED', NULL::uuid;
      RETURN;
    END IF;
    v_back := drawn_back(v_hold.pool_units, v_hold.units - v_units);
    UPDATE hold SET state = 'CONFIRMED', ended_at = p_now, counted = v_units, counted_amount = v_amount,
      pool_units = less(v_hold.pool_units, v_back) WHERE id = v_hold.id;
    IF v_units < v_hold.units THEN
      PERFORM give_back(v_hold.perk_id, v_hold.units - v_units, v_hold.pools, v_back, true);
    END IF;
    IF v_hold.entry_id IS NOT NULL THEN
      UPDATE waitlist_entry SET state = 'ACCEPTED', ended_at = p_now WHERE id = v_hold.entry_id AND state = 'OFFERED';
    END IF;
  END IF;
  v_leaf := record_audit(p_now, 'hold.confirmed', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN '{}' ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_hold.partner_id, p_partner), v_hold.perk_id, v_hold.member_id,
    CASE WHEN v_refusal IS NULL THEN p_redemption ELSE v_hold.id END, v_hold.policy_version, v_hold.tier, v_units, v_amount);
  IF v_refusal IS NULL THEN
    INSERT INTO redemption (id, hold_id, perk_id, partner_id, member_id, tier, policy_version, fulfilment, confirmed_by,
        confirmed_at, leaf_hash, units, amount, currency, option_id, reversals, reversed_units, reversed_amount)
      VALUES (p_redemption, v_hold.id, v_hold.perk_id, v_hold.partner_id, v_hold.member_id, v_hold.tier,
        v_hold.policy_version, 'PENDING', p_owner, p_now, v_leaf, v_units, v_amount, v_perk.currency, v_hold.option_id,
        0, 0, 0);
    v_refusal := on_confirm(p_redemption, v_code, p_now, p_actor_kind, p_actor_id);
    IF v_refusal IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'PK001', MESSAGE = v_refusal;  -- undoes all of it
    END IF;
  END IF;
  RETURN QUERY SELECT coalesce(v_refusal, 'CONFIRMED'), CASE WHEN v_refusal IS NULL THEN p_redemption END;
END $$;
-- §
CREATE FUNCTION extend_hold(
  p_hold uuid, p_partner uuid, p_alias text, p_member uuid, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_hold hold%ROWTYPE;
  v_perk perk%ROWTYPE;
  v_cut_off timestamptz;
  v_refusal text;
BEGIN
  -- Within the reach of p_partner and p_alias, or of p_member: as long again from now, at most twice, never past the
  -- option's cut-off. What the waitlist offered is not extended, for others wait.
  SELECT * INTO v_hold FROM hold WHERE id = p_hold AND (p_partner IS NULL OR partner_id = p_partner)
    AND (p_member IS NULL OR member_id = p_member)
    AND (p_alias IS NULL OR member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias)) FOR UPDATE;
  SELECT * INTO v_perk FROM perk WHERE id = v_hold.perk_id;
  v_cut_off := (SELECT coalesce(o.cut_off_at, o.starts_at) FROM perk_option o WHERE o.id = v_hold.option_id);
  v_refusal := CASE
    WHEN v_hold.id IS NULL THEN 'NOT_AVAILABLE'
    WHEN v_hold.state = 'EXPIRED' OR (v_hold.state = 'HELD' AND v_hold.expires_at <= p_now) THEN 'HOLD_EXPIRED'
    WHEN v_hold.state <> 'HELD' THEN 'NOT_AVAILABLE'
    WHEN NOT live_consent(v_hold.member_id, v_hold.partner_id, p_now, 'redemptions:write') THEN 'CONSENT_MISSING'
    WHEN EXISTS (SELECT FROM member m WHERE m.id = v_hold.member_id AND m.state <> 'ACTIVE') THEN 'MEMBERSHIP_SUSPENDED'
    WHEN EXISTS (SELECT FROM partner p WHERE p.id = v_hold.partner_id AND p.state <> 'ACTIVE') THEN 'PARTNER_SUSPENDED'
    WHEN v_perk.state <> 'PUBLISHED' THEN 'PERK_PAUSED'
    WHEN (p_now AT TIME ZONE v_perk.time_zone)::date > v_perk.closes_on OR p_now >= v_cut_off THEN 'ENDED'
    WHEN v_hold.extensions >= 2 OR v_hold.entry_id IS NOT NULL THEN 'EXTENSION_LIMIT_REACHED'
  END;
  IF v_refusal IS NULL THEN
    UPDATE hold SET extensions = extensions + 1, expires_at = greatest(expires_at,
      least(p_now + make_interval(secs => v_perk.hold_seconds), coalesce(v_cut_off, 'infinity'))) WHERE id = v_hold.id;
  END IF;
  PERFORM record_audit(p_now, 'hold.extended', CASE WHEN v_refusal IS NULL THEN 'DONE' ELSE 'REFUSED' END,
    CASE WHEN v_refusal IS NULL THEN '{}' ELSE ARRAY[v_refusal] END, p_actor_kind, p_actor_id,
    coalesce(v_hold.partner_id, p_partner), v_hold.perk_id, v_hold.member_id, v_hold.id, v_hold.policy_version,
    v_hold.tier, v_hold.units, v_hold.amount);
  RETURN coalesce(v_refusal, 'EXTENDED');
END $$;
-- §
DROP FUNCTION release_hold(uuid, uuid, text, uuid, timestamptz, text, text);
-- §
CREATE FUNCTION release_hold(
  p_hold uuid, p_partner uuid, p_alias text, p_member uuid, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_hold hold%ROWTYPE;
  v_refusal text;
BEGIN
  -- Within the reach of p_partner and p_alias, or of p_member (null for no bound). Releasing what is released changes
  -- nothing; releasing what the waitlist offered declines it.
  SELECT * INTO v_hold FROM hold WHERE id = p_hold AND (p_partner IS NULL OR partner_id = p_partner)
    AND (p_member IS NULL OR member_id = p_member)
    AND (p_alias IS NULL OR member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias));
  IF FOUND THEN
    PERFORM expire_holds(v_hold.perk_id, p_now);
  END IF;
  UPDATE hold SET state = 'RELEASED', counted = 0, counted_amount = 0, ended_at = p_now
    WHERE id = v_hold.id AND state = 'HELD';
  IF FOUND THEN
    IF v_hold.entry_id IS NOT NULL THEN
      PERFORM lapse_offers(v_hold.perk_id, ARRAY[v_hold.entry_id], p_now, true);
    END IF;
    PERFORM give_back(v_hold.perk_id, v_hold.units, v_hold.pools, v_hold.pool_units, true);
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
    v_hold.tier, v_hold.units, v_hold.amount);
  RETURN coalesce(v_refusal, 'RELEASED');
END $$;
-- §
DROP FUNCTION reverse_redemption(uuid, uuid, text, text, text, bytea, timestamptz, text, text, uuid, text, text, text);
-- §
CREATE FUNCTION reverse_redemption(
  p_redemption uuid, p_partner uuid, p_alias text, p_owner text, p_key text, p_fingerprint bytea, p_now timestamptz,
  p_actor_kind text, p_actor_id text, p_reversal uuid, p_reason text, p_borne_by text, p_stock text,
  p_units int, p_amount bigint, p_returns_allowance boolean
) RETURNS TABLE (outcome text, reversal_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_redemption redemption%ROWTYPE;
  v_perk perk%ROWTYPE;
  v_hold hold%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_refusal text;
  v_leaf bytea;
  v_units int;
  v_amount bigint;
  v_returns boolean;
  v_back int[];
BEGIN
  -- Within the reach of p_partner and p_alias and the partner's window; staff (null) may reverse at any time. Consent
  -- is not asked for: what was taken goes back to the member. Null units: all that are left, with all of the amount that
  -- is left; null allowance: as the perk says.
  SELECT * INTO v_redemption FROM redemption r
    WHERE r.id = p_redemption AND (p_partner IS NULL OR r.partner_id = p_partner)
      AND (p_alias IS NULL OR r.member_id = (SELECT a.member_id FROM member_alias a
        WHERE a.partner_id = p_partner AND a.alias = p_alias));
  IF FOUND THEN
    PERFORM FROM capacity c WHERE c.perk_id = v_redemption.perk_id FOR UPDATE;
    SELECT * INTO v_redemption FROM redemption r WHERE r.id = p_redemption;
  END IF;
  SELECT * INTO v_key FROM idempotency_key k WHERE k.owner = p_owner AND k.key = p_key;
  IF FOUND THEN
    RETURN QUERY SELECT CASE WHEN v_key.fingerprint = p_fingerprint THEN 'REPLAYED' ELSE 'KEY_REUSED' END, v_key.result_id;
    RETURN;
  END IF;
  SELECT * INTO v_perk FROM perk k WHERE k.id = v_redemption.perk_id;
  v_units := coalesce(p_units, CASE WHEN p_amount IS NULL THEN v_redemption.units - v_redemption.reversed_units ELSE 0 END);
  v_amount := CASE WHEN v_units = v_redemption.units - v_redemption.reversed_units AND v_units > 0
    THEN v_redemption.amount - v_redemption.reversed_amount ELSE coalesce(p_amount, 0) END;
  v_returns := coalesce(p_returns_allowance, v_perk.returns_allowance);
  v_refusal := CASE
    WHEN v_redemption.id IS NULL THEN 'NOT_AVAILABLE'
    WHEN v_redemption.reversed_units = v_redemption.units THEN 'ALREADY_REVERSED'
    WHEN p_partner IS NOT NULL AND p_now > v_redemption.confirmed_at + make_interval(hours => 24 * v_perk.reversal_days)
      THEN 'REVERSAL_WINDOW_CLOSED'
    WHEN v_units > v_redemption.units - v_redemption.reversed_units THEN 'UNITS_EXCEEDED'
    WHEN greatest(v_amount, coalesce(p_amount, 0)) > v_redemption.amount - v_redemption.reversed_amount
      THEN 'AMOUNT_EXCEEDED'
    -- A code that somebody has seen is never given to another.
    WHEN v_perk.kind = 'CODE' AND p_stock <> 'BURN' AND v_units > 0 THEN 'NOT_RESTOCKABLE'
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
    v_redemption.policy_version, v_redemption.tier, v_units, v_amount);
  IF v_refusal IS NULL THEN
    UPDATE redemption SET reversals = reversals + 1, reversed_units = reversed_units + v_units,
      reversed_amount = reversed_amount + v_amount WHERE id = p_redemption;
    INSERT INTO reversal (id, redemption_id, number, perk_id, reason, borne_by, stock, reversed_by, reversed_at, leaf_hash,
        units, amount, returns_allowance)
      VALUES (p_reversal, p_redemption, v_redemption.reversals + 1, v_redemption.perk_id, p_reason, p_borne_by, p_stock,
        p_owner, p_now, v_leaf, v_units, v_amount, v_returns);
    SELECT * INTO v_hold FROM hold h WHERE h.id = v_redemption.hold_id FOR UPDATE;
    IF p_stock <> 'BURN' AND v_units > 0 THEN
      v_back := drawn_back(v_hold.pool_units, v_units);
      PERFORM give_back(v_redemption.perk_id, v_units, v_hold.pools, v_back, p_stock = 'WAITLIST');
    END IF;
    UPDATE hold SET pool_units = CASE WHEN v_back IS NULL THEN pool_units ELSE less(pool_units, v_back) END,
      counted = CASE WHEN v_returns THEN greatest(0, counted - v_units) ELSE counted END,
      counted_amount = CASE WHEN v_returns THEN greatest(0, counted_amount - v_amount) ELSE counted_amount END
      WHERE id = v_redemption.hold_id;
    PERFORM on_reverse(p_redemption, v_redemption.units - v_redemption.reversed_units - v_units, p_now, p_actor_kind,
      p_actor_id);
  END IF;
  RETURN QUERY SELECT coalesce(v_refusal, 'REVERSED'), CASE WHEN v_refusal IS NULL THEN p_reversal END;
END $$;
