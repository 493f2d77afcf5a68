-- The confirmation of a hold once more: its entry names the hold, as the code `HOLD:<id>`, beside the redemption that is
-- its subject, so that who has nothing but the log can tell which hold ended, and how long it took.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

CREATE OR REPLACE FUNCTION confirm_hold(
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
    ARRAY[coalesce(v_refusal, 'HOLD:' || v_hold.id)], p_actor_kind, p_actor_id,
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
