"""What a caller says about a claim beyond who and what: the input, and what it means to the domain."""

import hashlib
import hmac

import strawberry

from partners.errors import BadInput
from partners.facts import NOTHING_SAID, Circumstances
from partners.rules import AMOUNT_MAX
from schema.context import Context

DEVICE_LENGTH_MAX = 200
UNITS_MAX = 2**31 - 1
LATITUDE_MAX = 90_000_000
LONGITUDE_MAX = 180_000_000


@strawberry.input(description="A place on earth (WGS 84), in millionths of a degree.")
class PlaceInput:
    latitude: int = strawberry.field(description="North is positive: -90,000,000 to 90,000,000.")
    longitude: int = strawberry.field(description="East is positive: -180,000,000 to 180,000,000.")


@strawberry.input(description="What a claim is for, beyond who and what.")
class ClaimDetailsInput:
    units: int = strawberry.field(default=1, description="How many, all or none: a party, a set.")
    option: str | None = strawberry.field(
        default=None, description="The handle of the variant or session; needed where the perk has several."
    )
    amount_minor: int = strawberry.field(
        default=0, description="An amount in minor units of the perk's currency, where the perk counts amounts."
    )
    device: str | None = strawberry.field(
        default=None, description="What tells the device from others, 1 to 200 characters; kept as a keyed hash."
    )
    place: PlaceInput | None = strawberry.field(default=None, description="Where the member is.")


def circumstances_of(context: Context, details: ClaimDetailsInput | None) -> Circumstances:
    """In the domain's words; BadInput names what can't be."""
    if details is None:
        return NOTHING_SAID
    if not 0 <= details.amount_minor <= AMOUNT_MAX:
        raise BadInput(f"details.amountMinor: 0 to {AMOUNT_MAX}")
    device = details.device
    if device is not None and (not 1 <= len(device) <= DEVICE_LENGTH_MAX or not device.isprintable()):
        raise BadInput(f"details.device: 1 to {DEVICE_LENGTH_MAX} printable characters")
    place = details.place
    if place is not None and (abs(place.latitude) > LATITUDE_MAX or abs(place.longitude) > LONGITUDE_MAX):
        raise BadInput("details.place: millionths of a degree")
    return Circumstances(
        units=details.units,
        option=details.option,
        amount=details.amount_minor,
        device=None if device is None else device_hash(context.resources.keys.pairwise, device),
        place=None if place is None else (place.latitude, place.longitude),
    )


def device_hash(key: bytes, device: str) -> bytes:
    """HMAC-SHA-256: devices are told apart, and not known."""
    return hmac.digest(key, b"device/1\0" + device.encode(), hashlib.sha256)


def content_of(said: Circumstances) -> dict[str, object]:
    """What was said, for the fingerprint of an idempotency key; nothing where nothing was."""
    if said == NOTHING_SAID:
        return {}
    device = None if said.device is None else said.device.hex()
    return {"details": [said.units, said.option, said.amount, device, said.place]}
