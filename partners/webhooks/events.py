"""ADD AN EVENT HERE: the closed list of what partners are told, and what they are not told and why.

An event's type is the action of its audit entry. Refusals are no events: they change nothing, who asked has the answer,
and what a member tried in vain is nobody's business.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from partners.keys import Keys, derive
from partners.values import value

TESTED = "webhook.tested"
PREFIX = "evt_"


class When(StrEnum):
    """STAGGERED is told at a moment of the next 24 hours that means nothing, with the day alone, without a reason and
    without the leaf's hash: what the system, staff or the member does at several partners at once would else let them
    match the member (law 8). OWN is at once where the partner did it itself, BY_HAND where it or the member did, and
    staggered otherwise."""

    AT_ONCE = "AT_ONCE"
    OWN = "OWN"
    BY_HAND = "BY_HAND"
    STAGGERED = "STAGGERED"


@value
class Event:
    """`about` is what its subject is, by the name that the API has for it; None: no more than the perk or the partner.
    What an entry of one of the `exactly` reasons tells is known to the moment already where it was done by hand, so
    that it goes at once."""

    type: str
    about: str | None
    sentence: str
    when: When = When.AT_ONCE
    exactly: tuple[str, ...] = ()


KINDS: Mapping[str, str] = {
    "hold": "hold",
    "redemption": "redemption",
    "waitlistEntry": "wait",
    "accessGrant": "access",
    "serviceRequest": "service",
    "approval": "approval",
    "transfer": "transfer",
    "client": "client",
    "endpoint": "endpoint",
}
"""What an event can be about, and how the API's ids of it begin."""

EVENTS: Mapping[str, Event] = {
    event.type: event
    for event in (
        Event("perk.claimed", "hold", "A perk was set aside for a member."),
        Event("hold.extended", "hold", "A hold lasts longer."),
        Event("hold.confirmed", "redemption", "A hold was confirmed: here is the redemption."),
        Event("hold.released", "hold", "A hold was given back.", When.BY_HAND),
        Event("hold.expired", "hold", "A hold was not confirmed in time."),
        Event("redemption.reversed", "redemption", "A redemption was taken back, wholly or in part.", When.BY_HAND),
        Event("redemption.checked_in", "redemption", "Guests of a redemption came in."),
        Event("fulfilment.updated", "redemption", "How far what was promised is; the reason names the state."),
        Event("delivery.chosen", "redemption", "It was said how a sample is to be handed over."),
        Event("waitlist.joined", "waitlistEntry", "A member waits for a perk."),
        Event("waitlist.withdrawn", "waitlistEntry", "A member waits no longer.", When.OWN),
        Event("waitlist.lapsed", "waitlistEntry", "A wait, or an offer made to who waits, is over.", When.OWN),
        Event("access.granted", "accessGrant", "A member has a standing right."),
        Event("access.used", "accessGrant", "A standing right was used."),
        Event("access.lapsed", "accessGrant", "The term of a standing right is over."),
        Event("access.revoked", "accessGrant", "A standing right was taken away.", When.OWN, ("REVERSED",)),
        Event("service.submitted", "serviceRequest", "A member asks for something of its own."),
        Event("service.quoted", "serviceRequest", "The partner made an offer."),
        Event("service.approved", "serviceRequest", "A request was agreed upon."),
        Event("service.declined", "serviceRequest", "A request was declined by one of both."),
        Event("service.scheduled", "serviceRequest", "A request has its date."),
        Event("service.fulfilled", "serviceRequest", "A request is fulfilled."),
        Event("service.recalled", "serviceRequest", "The member took a request back."),
        Event("service.cancelled", "serviceRequest", "A request was called off.", When.OWN),
        Event("service.assigned", "serviceRequest", "A request has another owner."),
        Event("service.messaged", "serviceRequest", "Somebody wrote about a request."),
        Event("consent.granted", None, "A member lets the partner know it.", When.STAGGERED),
        Event("consent.withdrawn", None, "A member lets the partner know nothing any more.", When.STAGGERED),
        Event("consent.moved", None, "A consent went with the brand to its buyer.", When.STAGGERED),
        Event("pass.shown", "approval", "A member's pass was taken."),
        Event("client.approved", "approval", "Somebody let a client act."),
        Event("approval.revoked", "approval", "A client may act no longer for who let it.", When.OWN),
        Event("perk.created", None, "A perk was drawn up."),
        Event("perk.updated", None, "A perk was changed."),
        Event("perk.published", None, "A perk can be claimed."),
        Event("perk.paused", None, "A perk can't be claimed; the reason says whether it was by itself."),
        Event("capacity.low", None, "Few units of a perk are left: as many as are told."),
        Event("codes.added", None, "Codes were added to a perk's pool: as many as are told."),
        Event("codes.withdrawn", None, "Codes were taken out of a perk's pool: as many as are told."),
        Event("client.created", "client", "The partner has another OAuth client."),
        Event("client.changed", "client", "A client's settings were changed; the reasons name them."),
        Event("client.disabled", "client", "A client was stopped."),
        Event("client.enabled", "client", "A client may have tokens again."),
        Event("client.secret_rotated", "client", "A client has another secret."),
        Event("device.approved", "approval", "A point of sale was let in."),
        Event("device.denied", None, "A point of sale was turned away."),
        Event("partner.created", None, "The partner joined."),
        Event("partner.suspended", None, "The partner was suspended: told once it is reinstated."),
        Event("partner.reinstated", None, "The partner is active again."),
        Event("partner.transferred", "transfer", "A brand is being sold."),
        Event(TESTED, "endpoint", "The test that was asked for, to its endpoint alone, whatever it wants to be told."),
    )
}

UNTOLD: Mapping[str, str] = {
    "service.drafted": "a draft is its member's alone",
    "review.opened": "whether staff look into a member is theirs to know",
    "review.cleared": "as review.opened",
    "review.upheld": "as review.opened",
    "member.enrolled": "of no partner",
    "member.updated": "of no partner",
    "member.suspended": "of no partner: each sees what of its own ended",
    "member.reinstated": "of no partner",
    "member.exported": "of no partner",
    "member.erased": "of no partner: each hears that its consent has ended",
    "tier.assigned": "of no partner",
    "activity.imported": "of no partner",
    "token.revoked": "of no partner",
    "signing_key.rotated": "of no partner",
    "log.continued": "of no partner",
    "log_key.rotated": "of no partner",
    "log_key.retired": "of no partner",
    "export.requested": "who asks for an export follows it, and what staff look into is theirs to know",
    "export.cancelled": "as export.requested",
    "export.downloaded": "as export.requested",
    "webhook.endpoint_created": "whoever has an endpoint would be told by it of itself",
    "webhook.endpoint_changed": "as webhook.endpoint_created",
    "webhook.endpoint_enabled": "as webhook.endpoint_created",
    "webhook.endpoint_disabled": "as webhook.endpoint_created",
    "webhook.endpoint_deleted": "as webhook.endpoint_created",
    "webhook.secret_added": "as webhook.endpoint_created",
    "webhook.secret_retired": "as webhook.endpoint_created",
    "webhook.replayed": "as webhook.endpoint_created",
}
"""Actions of which partners are told nothing, and why."""


def listed(types: Iterable[str]) -> str:
    """Constants for a statement."""
    return ", ".join(f"'{type}'" for type in types)


def types_told(when: When) -> str:
    """Those that are told so."""
    return listed(event.type for event in EVENTS.values() if event.when is when)


BY_HAND = "e.actor_kind IN ('partner', 'member')"


def exactly(event: Event) -> str:
    """An array for a statement."""
    return f"ARRAY[{listed(event.exactly)}]"


EXACT = [event for event in EVENTS.values() if event.exactly]

# Of the entry `e`.
IS_EVENT = f"""(e.outcome = 'DONE' AND e.action IN ({listed(EVENTS)})
  AND (NOT starts_with(e.action, 'service.') OR EXISTS (
    SELECT FROM service_request s WHERE s.id = e.subject_id AND s.submitted_at IS NOT NULL)))"""
# Of the entry `e` and the endpoint `p` of its partner.
IS_WANTED = f"""({IS_EVENT} AND CASE e.action WHEN '{TESTED}' THEN e.subject_id = p.id
  ELSE cardinality(p.actions) = 0 OR e.action = ANY (p.actions) END)"""
IS_STAGGERED = f"""(CASE WHEN e.action IN ({types_told(When.AT_ONCE)}) THEN false
  WHEN e.action IN ({types_told(When.STAGGERED)}) THEN true
  {" ".join(f"WHEN {BY_HAND} AND e.action = '{one.type}' AND e.reasons && {exactly(one)} THEN false" for one in EXACT)}
  WHEN e.action IN ({types_told(When.BY_HAND)}) THEN NOT ({BY_HAND})
  ELSE e.actor_kind <> 'partner' END)"""
# When a staggered entry is due, as long as nothing of the same lane is told before: the same for every endpoint and
# every replay, and for all that one moment did to a member at a partner, since the least of several would come near the
# moment itself. `$key` is `Names.delays`.
# To the microsecond: whole seconds would leave the fraction, which is the same at all partners of one moment.
DAY_MICROSECONDS = 86_400_000_000
WHAT = "uuid_send(e.partner_id) || uuid_send(coalesce(e.member_id, e.id)) || timestamptz_send(e.at)"
TOLD_AT = f"""(e.at + CASE WHEN {IS_STAGGERED} THEN interval '1 microsecond' *
  (('x' || encode(substr(sha256({{key}} || {WHAT}), 1, 6), 'hex'))::bit(48)::bigint % {DAY_MICROSECONDS})
  ELSE interval '0' END)"""
LANE = f"coalesce(e.member_id, CASE WHEN {IS_STAGGERED} THEN e.id ELSE e.perk_id END, e.partner_id)"


@value
class Names:
    """What hides the moments of entries: `ids` of 32 bytes, under which their ids are shown, and `delays` of 32, which
    draws how late staggered ones are told."""

    ids: bytes
    delays: bytes


@lru_cache(maxsize=8)
def names_of(keys: Keys) -> Names:
    """Derived from the key that seals: both are needed for as long as anybody may ask for a message again."""
    return Names(derive(keys.sealing, b"webhook-ids/1"), derive(keys.sealing, b"webhook-delays/1"))


def public_id(keys: Keys, entry_id: UUID) -> UUID:
    """The name of an entry outside: one block of AES-256, so that it can be read back and tells no time.

    One block is a permutation of 128-bit numbers; there is no mode to speak of.
    """
    encryptor = Cipher(AES256(names_of(keys).ids), ECB()).encryptor()  # noqa: S305  a single block
    return UUID(bytes=encryptor.update(entry_id.bytes) + encryptor.finalize())


def entry_of(keys: Keys, shown: UUID) -> UUID:
    """The entry that has this name; any id at all is one of some entry's, which need not be there."""
    decryptor = Cipher(AES256(names_of(keys).ids), ECB()).decryptor()  # noqa: S305  a single block
    return UUID(bytes=decryptor.update(shown.bytes) + decryptor.finalize())


def message_name(keys: Keys, entry_id: UUID) -> str:
    """The `webhook-id` of an entry, the same at every endpoint, attempt and replay."""
    return f"{PREFIX}{public_id(keys, entry_id).hex}"
