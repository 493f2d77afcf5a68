-- Pools of codes: what shrinks one, and what happens when it is empty. What gives a code out is on_confirm.
-- Lock order as everywhere: the perk's capacity row first. A confirmation holds its hold and takes any code that
-- nobody else has locked; there are never fewer free codes than units that are held, so it finds one.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

CREATE FUNCTION withdraw_codes(
  p_perk uuid, p_hashes bytea[], p_now timestamptz, p_actor_kind text, p_actor_id text,
  OUT withdrawn int, OUT given int, OUT kept_back int, OUT unknown int
) LANGUAGE plpgsql AS $$
DECLARE
  v_partner uuid := (SELECT partner_id FROM perk WHERE id = p_perk);
  v_free int;
  v_known int;
BEGIN
  -- Takes codes that nobody has out of the pool, those of `p_hashes` or all, the newest first; as many as are held stay.
  -- ARRAY, not IN: a join may choose anew for each row it looks at, and so take more than LIMIT.
  PERFORM expire_holds(p_perk, p_now);  -- and locks the perk
  v_free := (SELECT greatest(0, units - taken) FROM capacity WHERE perk_id = p_perk);
  IF p_hashes IS NULL THEN
    WITH gone AS (
      DELETE FROM perk_code WHERE perk_id = p_perk AND hash = ANY (ARRAY(
        SELECT c.hash FROM perk_code c WHERE c.perk_id = p_perk AND c.redemption_id IS NULL
        ORDER BY c.number DESC LIMIT v_free FOR UPDATE SKIP LOCKED))
      RETURNING 1
    )
    SELECT count(*) INTO withdrawn FROM gone;
    given := 0;
    unknown := 0;
    kept_back := (SELECT count(*) FROM perk_code c WHERE c.perk_id = p_perk AND c.redemption_id IS NULL);
  ELSE
    SELECT count(*), count(c.redemption_id) INTO v_known, given
      FROM perk_code c WHERE c.perk_id = p_perk AND c.hash = ANY (p_hashes);
    WITH gone AS (
      DELETE FROM perk_code WHERE perk_id = p_perk AND hash = ANY (ARRAY(
        SELECT c.hash FROM perk_code c WHERE c.perk_id = p_perk AND c.hash = ANY (p_hashes) AND c.redemption_id IS NULL
        ORDER BY c.number DESC LIMIT v_free FOR UPDATE SKIP LOCKED))
      RETURNING 1
    )
    SELECT count(*) INTO withdrawn FROM gone;
    unknown := cardinality(p_hashes) - v_known;
    kept_back := v_known - given - withdrawn;
  END IF;
  IF withdrawn > 0 THEN
    UPDATE capacity SET units = units - withdrawn, kept = least(kept, units - withdrawn - taken) WHERE perk_id = p_perk;
    PERFORM record_audit(p_now, 'codes.withdrawn', 'DONE', '{}', p_actor_kind, p_actor_id, v_partner, p_perk, NULL,
      p_perk, NULL, NULL, withdrawn);
  END IF;
END $$;
-- §
CREATE FUNCTION pause_empty_pool(p_perk uuid, p_now timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_perk perk%ROWTYPE;
BEGIN
  -- The perk of a pool pauses where its partner wants that and every code is given out; what is held may come back.
  PERFORM FROM capacity WHERE perk_id = p_perk AND units > 0 AND taken = units FOR UPDATE;
  IF NOT FOUND OR EXISTS (SELECT FROM hold WHERE perk_id = p_perk AND state = 'HELD') THEN
    RETURN false;
  END IF;
  UPDATE perk SET state = 'PAUSED', version = version + 1 WHERE id = p_perk AND state = 'PUBLISHED' RETURNING * INTO v_perk;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM record_audit(p_now, 'perk.paused', 'DONE', ARRAY['CODE_POOL_EMPTY'], 'system', 'system', v_perk.partner_id, p_perk,
    NULL, p_perk, v_perk.policy_version, NULL);
  RETURN true;
END $$;
