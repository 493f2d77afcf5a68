"""Reversals: a redemption is taken back, all of it or a part."""

from uuid import UUID

import strawberry

from partners import redemptions, tables
from partners.errors import KeyReused
from partners.idempotency import checked_key, fingerprint
from schema.context import Info
from schema.ids import REDEMPTION, REVERSAL, read_id, show_id
from schema.outcomes import UserError, plain_error
from schema.permissions import Authenticated, field, object_type
from schema.redemptions import Redemption, Reversal, load_redemption


@strawberry.input(description="A redemption that is taken back.")
class ReverseRedemptionInput:
    redemption: strawberry.ID = strawberry.field(description="Its id.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters; no personal data.")
    borne_by: tables.Bearer = strawberry.field(default=tables.Bearer.PARTNER, description="Who bears the cost.")
    stock: tables.Stock = strawberry.field(default=tables.Stock.RESTOCK, description="What becomes of the units.")
    units: int | None = strawberry.field(
        default=None, description="How many; null: all that are left, or none where an amount is given."
    )
    amount_minor: int | None = strawberry.field(
        default=None, description="How much of its amount; with the last units it is all that is left."
    )
    returns_allowance: bool | None = strawberry.field(
        default=None, description="Whether the member may use it again in this period; null: as the perk says."
    )
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per reversal.")


@object_type(permission=Authenticated, description="A reversal, or why there is none.")
class ReverseRedemptionPayload:
    redemption: Redemption | None = field(description="The redemption as it is now.")
    reversal: Reversal | None = field(description="What took it back.")
    replayed: bool = field(description="Whether the key had acted before: this is the first answer again.")
    user_errors: list[UserError] = field(description="Why not; empty when it is reversed.")


async def reverse_redemption(info: Info, input: ReverseRedemptionInput) -> ReverseRedemptionPayload:
    """Takes a redemption back: by its partner within the window, by staff at any time."""
    context = info.context
    redemption_id = read_id(REDEMPTION, input.redemption)
    back = redemptions.Return(
        input.reason, input.borne_by, input.stock, input.units, input.amount_minor, input.returns_allowance
    )
    async with context.resources.connection() as connection:
        outcome = await redemptions.reverse_redemption(
            connection,
            redemption_id,
            back,
            actor=context.actor,
            key=checked_key(input.idempotency_key),
            fingerprint=fingerprint(
                "reverseRedemption",
                {"redemption": str(redemption_id), "back": [back.reason, back.borne_by, back.stock]}
                | {
                    name: value
                    for name in ("units", "amount", "returns_allowance")
                    if (value := getattr(back, name)) is not None
                },
            ),
            now=context.now,
        )
    context.resources.freed.set()
    if outcome.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if outcome.id is None:
        errors = plain_error(outcome.code, ["redemption"])
        return ReverseRedemptionPayload(redemption=None, reversal=None, replayed=False, user_errors=errors)
    redemption = await load_redemption(info, redemption_id, just_made=True)
    reversal = None if redemption is None else await reversal_of(info, redemption, outcome.id)
    return ReverseRedemptionPayload(redemption=redemption, reversal=reversal, replayed=outcome.replayed, user_errors=[])


async def reversal_of(info: Info, redemption: Redemption, id: UUID) -> Reversal | None:
    """What the key made: of what was reversed in parts it need not be the last."""
    last = redemption.reversal
    if last is not None and last.id == show_id(REVERSAL, id):
        return last
    async with info.context.reading() as session:
        row = await redemptions.find_reversal(session, id)
    return None if row is None else Reversal.of(row, info.context.actor)
