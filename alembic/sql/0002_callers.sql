-- The steps of a hold for callers that speak for one member alone, under consent that says what for. Each replaces
-- its namesake of 0001_claims.sql; `p_alias` is the member that a partner's token is bound to, null for one that is
-- bound to none, and an alias that nobody has reaches nothing.
-- A file here is frozen once released: a change is a new file with a new migration. Statements end at a line "-- §".

DROP FUNCTION live_consent(uuid, uuid, timestamptz);
-- §
CREATE FUNCTION live_consent(p_member uuid, p_partner uuid, p_now timestamptz, p_scope text) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM consent c WHERE c.member_id = p_member AND c.partner_id = p_partner AND c.state = 'GRANTED'
    AND (c.expires_at IS NULL OR c.expires_at > p_now) AND p_scope = ANY (c.scopes))
$$;
-- §
DROP FUNCTION confirm_hold(uuid, bytea, uuid, text, text, bytea, timestamptz, text, text, uuid);
-- §
CREATE FUNCTION confirm_hold(
  p_hold uuid, p_code bytea, p_partner uuid, p_alias text, p_owner text, p_key text, p_fingerprint bytea,
  p_now timestamptz, p_actor_kind text, p_actor_id text, p_redemption uuid
) RETURNS TABLE (outcome text, redemption_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_hold hold%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_consented boolean;
  v_refusal text;
  v_leaf bytea;
BEGIN
  -- Confirms by id or by code within the reach of p_partner and p_alias. Takes no capacity, so it locks the hold and
  -- the consent; the sweeper locks capacity and then the hold, and neither waits for what the other has.
  SELECT * INTO v_hold FROM hold h WHERE (h.id = p_hold OR h.code_hash = p_code)
    AND (p_partner IS NULL OR h.partner_id = p_partner)
    AND (p_alias IS NULL OR h.member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias))
    FOR UPDATE;
  SELECT * INTO v_key FROM idempotency_key k WHERE k.owner = p_owner AND k.key = p_key;
  IF FOUND THEN
    RETURN QUERY SELECT CASE WHEN v_key.fingerprint = p_fingerprint THEN 'REPLAYED' ELSE 'KEY_REUSED' END, v_key.result_id;
    RETURN;
  END IF;
  -- Locked, so that a withdrawal is either before this or waits for it: none that was answered is overtaken.
  PERFORM FROM consent c WHERE c.member_id = v_hold.member_id AND c.partner_id = v_hold.partner_id
    AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > p_now) AND 'redemptions:write' = ANY (c.scopes)
    FOR SHARE;
  v_consented := FOUND;
  v_refusal := CASE
    WHEN v_hold.id IS NULL THEN 'NOT_AVAILABLE'
    WHEN v_hold.state = 'EXPIRED' OR (v_hold.state = 'HELD' AND v_hold.expires_at <= p_now) THEN 'HOLD_EXPIRED'
    WHEN v_hold.state <> 'HELD' THEN 'NOT_AVAILABLE'
    WHEN NOT v_consented THEN 'CONSENT_MISSING'
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
DROP FUNCTION release_hold(uuid, uuid, uuid, timestamptz, text, text);
-- §
CREATE FUNCTION release_hold(
  p_hold uuid, p_partner uuid, p_alias text, p_member uuid, p_now timestamptz, p_actor_kind text, p_actor_id text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_hold hold%ROWTYPE;
  v_refusal text;
BEGIN
  -- Within the reach of p_partner and p_alias, or of p_member (null for no bound). Releasing what is released changes
  -- nothing.
  SELECT * INTO v_hold FROM hold WHERE id = p_hold AND (p_partner IS NULL OR partner_id = p_partner)
    AND (p_member IS NULL OR member_id = p_member)
    AND (p_alias IS NULL OR member_id = (SELECT a.member_id FROM member_alias a
      WHERE a.partner_id = p_partner AND a.alias = p_alias));
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
DROP FUNCTION reverse_redemption(uuid, uuid, text, text, bytea, timestamptz, text, text, uuid, text, text, text);
-- §
CREATE FUNCTION reverse_redemption(
  p_redemption uuid, p_partner uuid, p_alias text, p_owner text, p_key text, p_fingerprint bytea, p_now timestamptz,
  p_actor_kind text, p_actor_id text, p_reversal uuid, p_reason text, p_borne_by text, p_stock text
) RETURNS TABLE (outcome text, reversal_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_redemption redemption%ROWTYPE;
  v_key idempotency_key%ROWTYPE;
  v_refusal text;
  v_leaf bytea;
BEGIN
  -- Within the reach of p_partner and p_alias and the partner's window; staff (null) may reverse at any time. Consent
  -- is not asked for: what was taken goes back to the member.
  SELECT * INTO v_redemption FROM redemption r
    WHERE r.id = p_redemption AND (p_partner IS NULL OR r.partner_id = p_partner)
      AND (p_alias IS NULL OR r.member_id = (SELECT a.member_id FROM member_alias a
        WHERE a.partner_id = p_partner AND a.alias = p_alias));
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
