"""How far a partner is with what it promised, and where it sends it, to whom that may be shown."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import strawberry

from partners import addresses, deliveries
from partners.tables import FulfilmentMethod
from schema.context import Info
from schema.permissions import Authenticated, Members, Partners, field, object_type
from schema.selection import selected

ADDRESS_SCOPE = "member.address:read"
MAY_SEE_ADDRESS = Partners(ADDRESS_SCOPE) | Members("me:read")

strawberry.enum(FulfilmentMethod, description="How a sample reaches its member.")


@object_type(permission=MAY_SEE_ADDRESS, description="Where something is sent to.")
class Address:
    name: str = field(description="Who.")
    lines: list[str] = field(description="Street and number, 1 to 4 lines.")
    postal_code: str = field(description="As the country writes it.")
    city: str = field(description="The town.")
    region: str | None = field(description="State or province.")
    country_code: str = field(description="ISO 3166-1 alpha-2.")
    phone: str | None = field(description="For the carrier.")

    @classmethod
    def of(cls, address: addresses.Address) -> "Address":
        """As it was given."""
        return cls(
            name=address.name,
            lines=list(address.lines),
            postal_code=address.postal_code,
            city=address.city,
            region=address.region,
            country_code=address.country_code,
            phone=address.phone,
        )


@object_type(permission=Authenticated, description="How a partner keeps its promise of one redemption.")
class Fulfilment:
    method: FulfilmentMethod | None = field(description="Picked up or sent; null until it is chosen.")
    location: str | None = field(description="The handle of the pick-up location.")
    scheduled_at: datetime | None = field(description="When it is to be.")
    carrier: str | None = field(description="Who carries it.")
    tracking: str | None = field(description="The carrier's number of it.")
    checked_in: int = field(description="How many of the party came.")
    fulfilled_at: datetime | None = field(description="When it was fulfilled, or the first of the party came.")
    reason: str | None = field(description="Why it failed.")
    address: Address | None = field(
        permission=MAY_SEE_ADDRESS,
        description="Where it is sent to. A partner is told while it has to send it and the member lets it "
        "(`member.address:read`), and each time the member can see that it was told. Erased after.",
    )

    @classmethod
    def of(cls, shown: deliveries.Shown) -> "Fulfilment":
        """As the caller may see it."""
        return cls(
            method=None if shown.method is None else FulfilmentMethod(shown.method),
            location=shown.location,
            scheduled_at=shown.scheduled_at,
            carrier=shown.carrier,
            tracking=shown.tracking,
            checked_in=shown.checked_in,
            fulfilled_at=shown.fulfilled_at,
            reason=shown.reason,
            address=None if shown.address is None else Address.of(shown.address),
        )


NOTHING_YET = deliveries.Shown(None, None, None, None, None, 0, None, None, None)


async def fulfilments_by_id(info: Info, ids: Collection[UUID]) -> dict[UUID, Fulfilment]:
    """The fulfilments of redemptions that are within reach, where they are selected: one statement, or none."""
    context, names = info.context, selected(info)
    if not ids or "fulfilmentDetails" not in names:
        return {}
    async with context.reading() as session:
        found = await deliveries.show_fulfilments(
            session,
            ids,
            with_address="fulfilmentDetails.address" in names,
            asker=context.asker(ADDRESS_SCOPE),
            member_id=context.caller.member_id,
            key=context.resources.keys.sealing,
            now=context.now,
        )
    return {id: Fulfilment.of(found.get(id, NOTHING_YET)) for id in ids}
