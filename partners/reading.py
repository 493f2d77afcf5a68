"""The facts of a question as rows of the database: what is read for rules, and what it means."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from partners.facts import MemberFacts, OptionFacts, PerkFacts, PoolFacts, Use

# Holds that are overdue but not yet swept count as given back: what the claim would do first is foreseen here. Of a
# capacity that is to shrink only what is more than that comes back to be claimed.
# A tier that another replaced before it began was never in force. A member who does not let the asker know is not
# looked at, so that the answer about one costs what it costs about nobody (law 9). Where no partner asks, consent
# is that to the redemption which a claim leads to.
USES = """
  CASE WHEN y.{0}_window IS NOT NULL THEN (SELECT array_agg(ARRAY[(extract(epoch FROM h.held_at) * 1000000)::bigint,
      h.counted, h.counted_amount]) FROM hold h
    WHERE h.{1} AND h.perk_id = p.id AND h.counted > 0 AND h.held_at > q.now - make_interval(secs => y.{0}_window)
      AND (h.state <> 'HELD' OR h.expires_at > q.now)) END AS {0}_uses"""
# What is overdue counts as given back, to those who wait where anybody does.
POOLS = """
  CASE WHEN p.pooled THEN (SELECT json_agg(json_build_array(o.number, o.option_id, o.units, o.taken - CASE
        WHEN c.waiting > 0 THEN 0 ELSE greatest(0, coalesce((SELECT sum(d.n)
          FROM hold h, unnest(h.pools, h.pool_units) AS d(pool, n)
          WHERE h.perk_id = p.id AND h.state = 'HELD' AND h.expires_at <= q.now AND d.pool = o.number), 0)
          - coalesce(greatest(0, o.units - o.shrink_to), 0)) END,
      o.kept, o.schedule) ORDER BY o.number)::text FROM pool o WHERE o.perk_id = p.id) END AS pools,
  CASE WHEN p.pooled THEN (SELECT json_agg(
      json_build_array(o.id, o.handle, o.open, o.starts_at, o.ends_at, o.cut_off_at)
      ORDER BY o.position)::text FROM perk_option o WHERE o.perk_id = p.id) END AS options"""
NEEDED = """
  CASE WHEN 'claims' = ANY (y.needs) THEN (SELECT array_agg(h.held_at ORDER BY h.held_at) FROM hold h
    WHERE h.member_id = m.id AND h.partner_id = p.partner_id AND h.held_at > greatest(q.now - interval '31 days',
      (SELECT max(v.closed_at) FROM review v WHERE v.member_id = m.id AND v.partner_id = p.partner_id
        AND v.state = 'CLEARED'))) END AS claimed_at,
  CASE WHEN 'exclusions' = ANY (y.needs) THEN (SELECT array_agg(DISTINCT h.exclusion) FROM hold h
    WHERE h.member_id = m.id AND h.partner_id = p.partner_id AND h.exclusion IS NOT NULL AND h.perk_id <> p.id
      AND h.counted > 0 AND (h.state <> 'HELD' OR h.expires_at > q.now)) END AS exclusions"""
COLUMNS = f"""
SELECT p.id AS perk_id, p.partner_id, p.version AS perk_version, p.policy_version, p.hold_seconds,
  p.state AS perk_state, p.time_zone, p.opens_on, p.closes_on, b.state AS partner_state, y.rules::text,
  p.kind, p.units_max, p.currency, p.waitlist IS NOT NULL AS waitlist, c.waiting, c.kept,
  c.units, CASE WHEN c.units IS NULL THEN 0 WHEN c.waiting > 0 THEN c.taken ELSE c.taken - greatest(0, (
    SELECT coalesce(sum(h.units), 0) FROM hold h
    WHERE h.perk_id = p.id AND h.state = 'HELD' AND h.expires_at <= q.now)
    - coalesce(greatest(0, c.units - c.shrink_to), 0)) END AS taken,
  m.id AS member_id, m.version AS member_version, m.state AS member_state, m.market, m.joined_at, m.household,
  m.birth_month, m.labels, m.score, p.partner_id = ANY (m.reviews) AS under_review,
  t.tier, t.ends_at, s.id IS NOT NULL AS consented, s.expires_at AS consent_expires_at, s.granted_at,
  q.scope IS NULL OR 'member.tier:read' = ANY (s.scopes) AS tells_tier,
  {POOLS}, {NEEDED}, {USES.format("member", "member_id = m.id")}, {USES.format("household", "household = m.household")}
"""  # noqa: S608  constants alone
DEVICE_USES = USES.format("device", "device = q.device")
# To a partner a stranger is a member without consent: its own id stands for the member that is not there, so that the
# same look-ups are made, in the same time (law 9).
POLICY = "LEFT JOIN policy y ON y.perk_id = p.id AND y.version = p.policy_version"
JOINS = f"""
LEFT JOIN partner b ON b.id = p.partner_id
{POLICY}
LEFT JOIN capacity c ON c.perk_id = p.id
LEFT JOIN consent s ON s.member_id = q.member AND s.partner_id = p.partner_id AND s.state = 'GRANTED'
  AND (s.expires_at IS NULL OR s.expires_at > q.now) AND coalesce(q.scope, 'redemptions:write') = ANY (s.scopes)
LEFT JOIN member m ON m.id = q.member AND (q.scope IS NULL OR s.id IS NOT NULL)
LEFT JOIN LATERAL (SELECT a.tier, a.ends_at FROM tier_assignment a WHERE a.member_id = m.id AND a.starts_at <= q.now
  AND (a.ends_at IS NULL OR a.ends_at > a.starts_at) ORDER BY a.starts_at DESC, a.id DESC LIMIT 1) AS t ON true
"""  # noqa: S608  constants alone
KNOWN = f"""
WITH answer AS MATERIALIZED ({COLUMNS}, {DEVICE_USES}, q.ordinal, q.now, q.client
  FROM (SELECT u.partner, u.scope, u.client, u.now, u.ordinal, u.device,
      coalesce(u.perk, (SELECT id FROM perk WHERE handle = u.handle)) AS perk,
      coalesce(u.member,
        (SELECT a.member_id FROM member_alias a WHERE a.partner_id = u.partner AND a.alias = u.alias),
        (SELECT e.id FROM member e WHERE e.external_id = u.external), u.partner) AS member
    FROM unnest($1::bytea[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::uuid[],
        $9::text[], $10::timestamptz[])
      WITH ORDINALITY AS u(device, partner, scope, client, alias, member, external, perk, handle, now, ordinal)) AS q
  LEFT JOIN perk p ON p.id = q.perk AND (q.partner IS NULL OR p.partner_id = q.partner)
  {JOINS}
), told AS (
  INSERT INTO disclosure (member_id, id, at, partner_id, client_id, kind, perk_id)
  SELECT member_id, ($11::uuid[])[ordinal], now, partner_id, client, 'ELIGIBILITY', perk_id FROM answer
  WHERE client IS NOT NULL AND member_id IS NOT NULL
)
SELECT * FROM answer ORDER BY ordinal
"""  # noqa: S608  constants alone


def perk_of(row: Mapping[str, Any]) -> PerkFacts:
    """The perk's part of a row."""
    pools, options = row["pools"], row["options"]
    return PerkFacts(
        row["perk_state"],
        row["partner_state"],
        row["time_zone"],
        row["opens_on"],
        row["closes_on"],
        row["units"],
        row["taken"],
        row["kept"],
        row["kind"],
        row["units_max"],
        row["currency"],
        row["waitlist"],
        row["waiting"],
        () if options is None else tuple(option_of(*one) for one in orjson.loads(options)),
        () if pools is None else tuple(pool_of(*one) for one in orjson.loads(pools)),
    )


def option_of(
    id: str, handle: str, open: bool, starts_at: str | None, ends_at: str | None, cut_off_at: str | None
) -> OptionFacts:
    """An option as JSON has it."""
    return OptionFacts(UUID(id), handle, open, *(instant_of(one) for one in (starts_at, ends_at, cut_off_at)))


def pool_of(
    number: int, option_id: str | None, units: int | None, taken: int, kept: int, schedule: list[dict[str, str]]
) -> PoolFacts:
    """A pool as JSON has it."""
    steps = tuple((step["tier"], datetime.fromisoformat(step["until"])) for step in schedule)
    return PoolFacts(number, None if option_id is None else UUID(option_id), units, taken, kept, steps)


def instant_of(text: str | None) -> datetime | None:
    """An instant as JSON has it, in UTC."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def uses_of(row: Mapping[str, Any]) -> dict[str, tuple[Use, ...]]:
    """What counts already, by subject; instants are µs since 1970."""
    found: dict[str, tuple[Use, ...]] = {}
    for subject in ("member", "household", "device"):
        if uses := row.get(f"{subject}_uses"):
            found[subject] = tuple(Use(EPOCH + timedelta(microseconds=at), units, amount) for at, units, amount in uses)
    return found


def member_of(row: Mapping[str, Any], partner_asks: bool, now: datetime) -> MemberFacts:
    """The member's part of a row; a tier whose end has passed has lapsed."""
    ends_at = row["ends_at"]
    lapsed = ends_at is not None and ends_at <= now
    consent_ends_at = row["consent_expires_at"]
    joined_at, linked_at = row["joined_at"], row["granted_at"]
    if partner_asks:
        joined_at, linked_at = whole_day(joined_at), None if linked_at is None else whole_day(linked_at)
        ends_at = ends_at if ends_at is None or lapsed else coarse(ends_at, now)
        consent_ends_at = None if consent_ends_at is None else coarse(consent_ends_at, now)
    return MemberFacts(
        state=row["member_state"],
        joined_at=joined_at,
        market=row["market"],
        tier=None if lapsed else row["tier"],
        tier_ends_at=None if lapsed else ends_at,
        tier_lapsed=lapsed,
        consented=row["consented"],
        consent_expires_at=consent_ends_at,
        linked_at=linked_at,
        household=row["household"],
        birth_month=row["birth_month"],
        labels=frozenset(row["labels"] or ()),
        score=row["score"],
        under_review=row["under_review"],
        claimed_at=tuple(row["claimed_at"] or ()),
        exclusions=frozenset(row["exclusions"] or ()),
        to_partner=partner_asks,
    )


def whole_day(instant: datetime) -> datetime:
    """An instant that has passed, as rules for a partner may know it: the end of its UTC day, or the midnight it is.

    A partner that asked in one zone after the other would find the hour (law 8). What was imported as a date keeps that
    date in the zone it was meant in.
    """
    day = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day == instant else day + timedelta(days=1)


def coarse(instant: datetime, now: datetime) -> datetime:
    """An instant to come, as a partner may know it: the start of its UTC day, or this very moment on the last day.

    Every partner that a member consented to sees the same tier, and consents may end together; exact instants would let
    them match the member (law 8).
    """
    return max(day_of(instant), now + timedelta(microseconds=1))


def coarse_past(instant: datetime, since: datetime) -> datetime:
    """An instant that has passed, as a partner may know it (law 8): the start of its UTC day, never before `since`."""
    return max(day_of(instant), since)


def day_of(instant: datetime) -> datetime:
    """The start of an instant's UTC day."""
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
