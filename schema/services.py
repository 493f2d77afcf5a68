"""The mutations that move bespoke requests: each names the revision that its caller has seen."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from partners import tables
from partners.facts import Refusal, RefusalCode
from partners.forms import FormFault
from partners.services import answers as services
from partners.services import approvals as service_approvals
from partners.services.approvals import Means
from partners.services.matters import Asked
from schema.context import Context, Info
from schema.ids import SERVICE, read_id
from schema.outcomes import Refused, UserError, user_error
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type
from schema.service_requests import ServiceRequest, load_service_request
from schema.threads import MessageInput

MAY_OFFER_TERMS = Partners("redemptions:write")
MAY_AGREE = Partners("redemptions:write") | Members("me:claim")
MAY_RECALL = Members("me:claim")
MAY_CANCEL = Partners("redemptions:reverse") | Staff("partners:admin")
MAY_ASSIGN_OWNER = Partners("redemptions:write") | Staff("partners:admin")
MAY_SAY = Partners("redemptions:write") | Members("me:claim") | Staff("members:admin")


class Step(Protocol):
    """What every step's input has."""

    request: strawberry.ID
    revision: int


@object_type(permission=Authenticated, description="The request as it is now, and why nothing was done.")
class ServiceRequestPayload:
    service_request: ServiceRequest | None = field(description="The request as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it is done.")


def errors_of(refusals: Sequence[Refusal], path: list[str], faults: Sequence[FormFault] = ()) -> list[UserError]:
    """Every refusal about its input field; faults of the form stand for FORM_INVALID."""
    code = RefusalCode.FORM_INVALID
    told: list[UserError] = [
        user_error(one, ["revision"] if one.code is RefusalCode.STALE_REVISION else path)
        for one in refusals
        if one.code is not code
    ]
    return told + [
        Refused(code=code, message=one.message, path=["form", *one.path], eligible_again_at=None) for one in faults
    ]


def asked_of(context: Context, request: strawberry.ID, revision: int) -> Asked:
    """A step in the domain's words."""
    asker = context.asker("redemptions:write")
    return Asked(read_id(SERVICE, request), revision, context.actor, context.now, asker)


def means_of(context: Context) -> Means:
    """What approvals need."""
    return Means(context.resources.programme.ranks, context.resources.keys.codes)


async def stepped(
    info: Info, input: Step, step: Callable[[AsyncSession, Asked], Awaitable[list[Refusal]]]
) -> ServiceRequestPayload:
    """One step in one transaction; whatever came of it, the request as it is now."""
    asked = asked_of(info.context, input.request, input.revision)
    async with info.context.sessions.begin() as session:
        refusals = await step(session, asked)
    request = await load_service_request(info, asked.request_id, just_made=True)
    return ServiceRequestPayload(service_request=request, user_errors=errors_of(refusals, ["request"]))


@strawberry.input(description="One step of one request.")
class ServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")


@strawberry.input(description="What the partner offers; another quote replaces it.")
class QuoteServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    amount_minor: int = strawberry.field(description="For how much, in minor units of the perk's currency.")
    terms: str = strawberry.field(description="On which terms, 1 to 2,000 characters.")
    valid_until: datetime = strawberry.field(description="Until when the member may say yes; within a year.")


async def quote_service_request(info: Info, input: QuoteServiceRequestInput) -> ServiceRequestPayload:
    """The partner's offer."""
    quote = services.Quote(input.amount_minor, input.terms, input.valid_until)

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await services.quote_request(session, asked, quote)

    return await stepped(info, input, step)


async def approve_service_request(info: Info, input: ServiceRequestInput) -> ServiceRequestPayload:
    """The member's yes to an offer, or the partner's where the perk goes without."""

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await service_approvals.approve_request(session, asked, means_of(info.context))

    return await stepped(info, input, step)


@strawberry.input(description="A no.")
class DeclineServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    message: MessageInput | None = strawberry.field(default=None, description="Why, for the other side to read.")


async def decline_service_request(info: Info, input: DeclineServiceRequestInput) -> ServiceRequestPayload:
    """The partner's no, or the member's to an offer."""
    said = None if input.message is None else input.message.said()

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await services.decline_request(session, asked, said)

    return await stepped(info, input, step)


@strawberry.input(description="When it will be done.")
class ScheduleServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    scheduled_for: datetime = strawberry.field(description="When; within two years.")


async def schedule_service_request(info: Info, input: ScheduleServiceRequestInput) -> ServiceRequestPayload:
    """An appointment, or another one."""

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await services.schedule_request(session, asked, input.scheduled_for)

    return await stepped(info, input, step)


async def fulfil_service_request(info: Info, input: ServiceRequestInput) -> ServiceRequestPayload:
    """It is done."""
    return await stepped(info, input, services.fulfil_request)


async def recall_service_request(info: Info, input: ServiceRequestInput) -> ServiceRequestPayload:
    """The member thinks again."""
    return await stepped(info, input, services.recall_request)


@strawberry.input(description="An end by the partner or by staff; after a yes it takes the redemption back.")
class CancelServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters, for the member to read.")
    borne_by: tables.Bearer = strawberry.field(
        default=tables.Bearer.PARTNER, description="Who bears the cost of taking the redemption back."
    )


async def cancel_service_request(info: Info, input: CancelServiceRequestInput) -> ServiceRequestPayload:
    """Ends it, and gives back what it took."""

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await service_approvals.cancel_request(session, asked, input.reason, input.borne_by)

    return await stepped(info, input, step)


@strawberry.input(description="Who looks after a request.")
class AssignServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    owner: str = strawberry.field(description="A name for the member to ask for, 1 to 100 characters.")


async def assign_service_request(info: Info, input: AssignServiceRequestInput) -> ServiceRequestPayload:
    """One owner, by name."""

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await services.assign_request(session, asked, input.owner)

    return await stepped(info, input, step)


@strawberry.input(description="What one side says about a request.")
class AddServiceMessageInput:
    request: strawberry.ID = strawberry.field(description="Which.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    message: MessageInput = strawberry.field(description="What.")


async def add_service_message(info: Info, input: AddServiceMessageInput) -> ServiceRequestPayload:
    """One message."""
    said = input.message.said()

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await services.add_message(session, asked, said)

    return await stepped(info, input, step)
