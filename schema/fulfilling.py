"""Choose a delivery, update a fulfilment, check in: what members and partners do after a redemption is confirmed."""

from datetime import datetime

import strawberry

from partners import check_ins, deliveries, fulfilments, tables
from partners.addresses import Address
from partners.errors import KeyReused
from partners.idempotency import checked_key, fingerprint
from partners.redemptions import Outcome
from schema.context import Info
from schema.ids import REDEMPTION, read_id
from schema.outcomes import UserError, plain_error
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type
from schema.redemptions import Redemption, load_redemption

MAY_CHOOSE = Partners("redemptions:write") | Members("me:claim")
MAY_FULFIL = Partners("redemptions:write") | Staff("partners:admin")


@strawberry.input(description="Where something is sent to.")
class AddressInput:
    name: str = strawberry.field(description="Who, 1 to 100 characters.")
    lines: list[str] = strawberry.field(description="Street and number: 1 to 4 lines of 1 to 100 characters.")
    postal_code: str = strawberry.field(description="1 to 20 characters.")
    city: str = strawberry.field(description="1 to 100 characters.")
    country_code: str = strawberry.field(description="ISO 3166-1 alpha-2, as CH.")
    region: str | None = strawberry.field(default=None, description="State or province, 1 to 100 characters.")
    phone: str | None = strawberry.field(default=None, description="For the carrier, 1 to 30 characters.")

    def address(self) -> Address:
        """In the domain's words."""
        return Address(
            self.name, tuple(self.lines), self.postal_code, self.city, self.country_code, self.region, self.phone
        )


@strawberry.input(description="How a sample is to reach its member.")
class ChooseDeliveryInput:
    redemption: strawberry.ID = strawberry.field(description="Its id.")
    method: tables.FulfilmentMethod = strawberry.field(description="Picked up or sent.")
    location: str | None = strawberry.field(default=None, description="PICKUP: the handle of one of the perk's.")
    address: AddressInput | None = strawberry.field(
        default=None, description="SHIPPING: where to. Kept sealed until it is sent, at most 30 days."
    )


@strawberry.input(description="The next step of a fulfilment; what is left out stays as it is.")
class UpdateFulfilmentInput:
    redemption: strawberry.ID = strawberry.field(description="Its id.")
    state: tables.FulfilmentState = strawberry.field(
        description="SCHEDULED, FULFILLED or FAILED; PENDING takes it back. NO_SHOW comes by itself after an event."
    )
    scheduled_at: datetime | None = strawberry.field(default=None, description="When it is to be.")
    carrier: str | None = strawberry.field(default=None, description="Who carries it, 1 to 100 characters.")
    tracking: str | None = strawberry.field(default=None, description="The carrier's number, 1 to 100 characters.")
    reason: str | None = strawberry.field(
        default=None, description="Why it FAILED, 1 to 500 characters; no personal data."
    )
    units: int | None = strawberry.field(
        default=None, description="FULFILLED, of an event: how many of the party came after all; null: all."
    )


@strawberry.input(one_of=True, description="One redemption.")
class RedemptionBy:
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="Its id.")
    code: strawberry.Maybe[str] = strawberry.field(
        description="The code of its hold, which the member shows; case, spaces and hyphens do not matter."
    )


@strawberry.input(description="Guests are at the door.")
class CheckInInput:
    redemption: RedemptionBy = strawberry.field(description="Whose, by id or by code.")
    units: int | None = strawberry.field(
        default=None, description="How many of the party come in now; null: all who have not yet."
    )
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per arrival.")


@object_type(permission=Authenticated, description="The redemption, or why nothing changed.")
class FulfilmentPayload:
    redemption: Redemption | None = field(description="The redemption as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it is done.")


@object_type(permission=Authenticated, description="The redemption, or why nobody comes in.")
class CheckInPayload:
    redemption: Redemption | None = field(description="The redemption as it is now.")
    replayed: bool = field(description="Whether the key had acted before: nobody was counted again.")
    user_errors: list[UserError] = field(description="Why not; empty when they are in.")


async def choose_delivery(info: Info, input: ChooseDeliveryInput) -> FulfilmentPayload:
    """Picked up or sent, as the member says."""
    context = info.context
    redemption_id = read_id(REDEMPTION, input.redemption)
    address = None if input.address is None else input.address.address()
    async with context.sessions.begin() as session:
        outcome = await deliveries.choose_delivery(
            session,
            redemption_id,
            deliveries.Delivery(input.method, input.location, address),
            key=context.resources.keys.sealing,
            actor=context.actor,
            now=context.now,
        )
    return await payload_of(info, outcome)


async def update_fulfilment(info: Info, input: UpdateFulfilmentInput) -> FulfilmentPayload:
    """Scheduled, fulfilled or failed; saying it twice is the same as once."""
    context = info.context
    update = fulfilments.Update(
        input.state, input.scheduled_at, input.carrier, input.tracking, input.reason, input.units
    )
    redemption_id = read_id(REDEMPTION, input.redemption)
    async with context.sessions.begin() as session:
        outcome = await fulfilments.update_fulfilment(
            session, redemption_id, update, actor=context.actor, now=context.now
        )
    return await payload_of(info, outcome)


async def payload_of(info: Info, outcome: Outcome) -> FulfilmentPayload:
    """What came of it."""
    if outcome.id is None:
        return FulfilmentPayload(redemption=None, user_errors=plain_error(outcome.code, ["redemption"]))
    return FulfilmentPayload(redemption=await load_redemption(info, outcome.id, just_made=True), user_errors=[])


async def check_in(info: Info, input: CheckInInput) -> CheckInPayload:
    """By id or code. Wrong codes all get NOT_AVAILABLE, and too many of them THROTTLED."""
    context = info.context
    key = checked_key(input.idempotency_key)
    code = None if input.redemption.code is None else input.redemption.code.value
    id = None if input.redemption.id is None else read_id(REDEMPTION, input.redemption.id.value)
    if code is not None:
        await context.resources.try_code(context.caller.id)
    async with context.sessions.begin() as session:
        outcome = await check_ins.check_in(
            session,
            id=id,
            code=code,
            units=input.units,
            key=key,
            fingerprint=fingerprint("checkIn", {"redemption": str(id), "code": code, "units": input.units}),
            actor=context.actor,
            now=context.now,
        )
    if code is not None and outcome.code != "NOT_AVAILABLE":
        await context.resources.right_code(context.caller.id)
    if outcome.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if outcome.id is None:
        errors = plain_error(outcome.code, ["redemption"])
        return CheckInPayload(redemption=None, replayed=False, user_errors=errors)
    redemption = await load_redemption(info, outcome.id, just_made=True)
    return CheckInPayload(redemption=redemption, replayed=outcome.replayed, user_errors=[])
