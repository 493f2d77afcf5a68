-- The audit entry of a change, once a member may have been erased. Statements are separated by a line "-- §".

CREATE OR REPLACE FUNCTION record_audit(
  p_at timestamptz, p_action text, p_outcome text, p_reasons text[], p_actor_kind text, p_actor_id text,
  p_partner uuid, p_perk uuid, p_member uuid, p_subject uuid, p_policy_version int, p_tier text,
  p_units int DEFAULT NULL, p_amount bigint DEFAULT NULL
) RETURNS bytea LANGUAGE sql VOLATILE AS $$
  -- Of a member whose salt is gone nothing is written any more, neither in the leaf nor beside it.
  WITH entry AS MATERIALIZED (
    SELECT fresh.id, m.id AS member, audit_leaf(fresh.id, p_at, p_action, p_outcome, p_reasons, p_actor_kind, p_actor_id,
      p_partner, p_perk, m.audit_salt, m.id, p_subject, p_policy_version, p_tier, p_units, p_amount) AS leaf
    FROM (SELECT new_id() AS id OFFSET 0) AS fresh LEFT JOIN member m ON m.id = p_member AND m.audit_salt <> ''
  ), written AS (
    INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id, member_id,
      subject_id, leaf, leaf_hash)
    SELECT id, p_at, p_action, p_outcome, p_reasons, p_actor_kind, p_actor_id, p_partner, p_perk, member,
      p_subject, leaf, leaf_hash(leaf) FROM entry
  )
  INSERT INTO outbox (entry_id, leaf_hash) SELECT id, leaf_hash(leaf) FROM entry RETURNING leaf_hash
$$;
