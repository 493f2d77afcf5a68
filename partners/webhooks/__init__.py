"""Webhooks: which partners are told what of what happened, when, how it is signed, and what becomes of each telling.

`keys` is always `partners.keys.Keys` (resources.keys). Sessions as everywhere: nothing here commits. `actor` scopes: a
partner reaches its own endpoints, staff all; another's is NotFound. Who may is for permissions to say.

events.py     EVENTS: dict[str, Event], the closed list. Event(type, when, about, sentence): `when` is AT_ONCE or
              STAGGERED, or by whom it was done.
              public_id(keys, entry_id) -> UUID, entry_of(keys, public_id) -> UUID: the UUID of `evt_<hex>`, which is
              the `webhook-id` and the one name of a message outside. An entry's own id tells its millisecond (law 8),
              so that neither it nor the index in the log is ever shown.
content.py    body_of(told) -> bytes
signing.py    new_secret(kind) -> Secret, read_secret(text) -> Secret, headers_of(signers, name, timestamp, body)
endpoints.py  create_endpoint(session, partner_id, EndpointSettings(url, description, events), *, keys, actor, now,
                private=PUBLIC_ONLY) -> tuple[WebhookEndpoint, MadeSecret]
              change_endpoint(session, endpoint_id, changes: Mapping[str, Any], *, actor, now, private=…)
                -> WebhookEndpoint
              set_endpoint_state(session, endpoint_id, EndpointState, *, actor, now) -> WebhookEndpoint
              delete_endpoint(session, endpoint_id, *, actor, now) -> None
              test_endpoint(session, endpoint_id, *, keys, actor, now) -> UUID   (the public id of what will be sent)
reach.py      list_endpoints(session, actor, *, id=None, partner_id=None, first, after) -> list[WebhookEndpoint]
secrets.py    secrets_of(session, endpoint_ids, now) -> dict[UUID, list[WebhookSecret]]   (live ones, oldest first)
              add_secret(session, endpoint_id, kind, *, keys, actor, now, given: str | None = None) -> MadeSecret
              rotate_secret(session, endpoint_id, kind, overlap: timedelta, *, keys, actor, now) -> MadeSecret
              retire_secret(session, endpoint_id, secret_id, *, actor, now) -> None
              MadeSecret(row: WebhookSecret, shown: str): `whsec_…` (HMAC) once, or `whpk_…` (ED25519) for ever
reading.py    list_messages(session, actor, MessageFilter(endpoint_id, state=None, event=None, id=None), *, keys, first,
                after: UUID | None, now) -> list[Message], newest first; `id` and `after` are public ids.
              Message(id, endpoint_id, event, state, attempts, replays, told_at, due_at, ended_at, staggered)
              list_attempts(session, actor, endpoint_id, message: UUID | None, *, keys, first, after)
                -> list[Tried(id, message, number, at, duration_ms, status, fault)], newest first
              backlogs(session, endpoint_ids, now) -> dict[UUID, Backlog(pending, parked, oldest_at)]
replays.py    replay(session, endpoint_id, Replay(ids=None, since=None, until=None, after=None, parked=False), *, keys,
                actor, now) -> Replayed(count, goes_on_after: UUID | None)
              One of: public `ids` (at most 100; resending one is a list of one), a time range, `after` one that was
              received (a public id), or all that are `parked`. At most 10,000 at once, then again from `goes_on_after`.
              NotFound names ids that are no message of the endpoint's partner.
schedule.py   delay_after(attempts, chance, asked), Health: the breaker: pure functions
messages.py   the worker's statements: made from the log, leased, ended, parked, pruned
"""
