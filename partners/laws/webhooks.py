"""Law 11: of everything that is told, each endpoint has its message; what was sent is pruned after 30 days."""

from partners.laws.checks import Check
from partners.webhooks.events import IS_WANTED

CHECKS = (
    Check(
        11,
        "event_without_message",
        "an enabled endpoint has no message of an event that it wants, though the log was read past it",
        # What may be pruned is left out.
        f"""
  SELECT e.id FROM webhook_endpoint p JOIN audit_entry e ON e.partner_id = p.partner_id
  JOIN log_leaf l ON l.entry_id = e.id, webhook_cursor c, moment m
  WHERE p.state = 'ENABLED' AND l.index >= p.since AND l.index < c.index AND e.at > m.now - interval '29 days'
    AND {IS_WANTED} AND NOT EXISTS (
      SELECT FROM webhook_message w WHERE w.endpoint_id = p.id AND w.entry_id = e.id)""",  # noqa: S608  constants
    ),
    Check(
        11,
        "message_overdue",
        "a message has been due for an hour and was not tried, though nothing stands in its way",
        """
  SELECT w.entry_id FROM webhook_message w JOIN webhook_endpoint p ON p.id = w.endpoint_id
  JOIN partner o ON o.id = p.partner_id, moment m
  WHERE w.state = 'PENDING' AND w.due_at < m.now - interval '1 hour' AND p.state = 'ENABLED' AND o.state = 'ACTIVE'
    AND p.failures = 0 AND NOT EXISTS (SELECT FROM webhook_message b WHERE b.endpoint_id = w.endpoint_id
      AND b.lane = w.lane AND b.state = 'PENDING' AND b.index < w.index)""",
        broken=False,
    ),
)
