"""What a message says: made from its audit entry when it is sent, thin, with the API's ids and nobody's name."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from partners.values import value
from partners.webhooks.events import EVENTS, KINDS

CONFIRMED, HOLD = "hold.confirmed", "HOLD:"
"""An entry of a confirmation names its hold as the code `HOLD:<id>`, for auditors."""


@value
class Told:
    """An entry as an endpoint's partner may know it: `alias` is None where there is no member, or none that lets the
    partner know it."""

    action: str
    at: datetime
    perk_id: UUID | None
    subject_id: UUID | None
    reasons: list[str]
    leaf: str
    leaf_hash: bytes
    staggered: bool
    alias: str | None


def body_of(told: Told) -> bytes:
    """The JSON that is sent and signed, the same bytes at every attempt while the member's consent is the same.

    Of a staggered event the day alone: no moment, no reason, and no hash, whose place in the public tiles would tell
    the moment.
    """
    about = EVENTS[told.action].about
    leaf = orjson.loads(told.leaf)
    data: dict[str, Any] = {"perk": named("perk", told.perk_id)}
    if about is not None:
        data[about] = named(KINDS[about], told.subject_id)
    holds = [code for code in told.reasons if code.startswith(HOLD)]
    if told.action == CONFIRMED:
        data["hold"] = named(KINDS["hold"], UUID(holds[0].removeprefix(HOLD)) if holds else None)
    data |= {
        "member": told.alias,
        "units": leaf.get("units"),
        "amountMinor": leaf.get("amount"),
        "reasons": [] if told.staggered else [code for code in told.reasons if code not in holds],
        "leafHash": None if told.staggered else told.leaf_hash.hex(),
    }
    at = told.at.astimezone(UTC)
    timestamp = (
        at.date().isoformat() if told.staggered else at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    )
    return orjson.dumps({"type": told.action, "timestamp": timestamp, "data": data})


def named(kind: str, id: UUID | None) -> str | None:
    """An id as the API shows it."""
    return None if id is None else f"{kind}_{id.hex}"
