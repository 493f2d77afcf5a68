"""The mutations by which bespoke requests begin: drawn up, changed and submitted."""

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.scalars import JSON

from partners.errors import BadInput
from partners.facts import Refusal
from partners.idempotency import checked_key
from partners.references import reachable_member
from partners.services import openings as service_openings
from partners.services.matters import Asked
from partners.services.openings import Opened, Opening
from schema.context import Context, Info
from schema.outcomes import UserError
from schema.permissions import Authenticated, Members, Partners, field, object_type
from schema.references import MemberBy, PerkBy
from schema.service_requests import ServiceRequest, load_service_request
from schema.services import ServiceRequestInput, ServiceRequestPayload, asked_of, errors_of, means_of, stepped

MAY_ASK_FOR = Partners("holds:write") | Members("me:claim")
MAY_DRAW_UP = Members("me:claim")


@object_type(permission=Authenticated, description="The request as it is now, or why there is none.")
class SubmitServiceRequestPayload:
    service_request: ServiceRequest | None = field(description="The request as it is now.")
    replayed: bool = field(description="Whether the key had acted before.")
    user_errors: list[UserError] = field(
        description="Every rule that refused and every fault of the form, each with its path; empty when it is done."
    )


@strawberry.input(description="What a member asks for.")
class NewServiceRequestInput:
    perk: PerkBy = strawberry.field(description="Of which SERVICE perk.")
    form: JSON = strawberry.field(description="The perk's form, filled in: a JSON object of at most 16 kB.")
    amount_minor: int = strawberry.field(
        default=0, description="How much is asked for, in minor units of the perk's currency."
    )
    member: MemberBy | None = strawberry.field(default=None, description="Partners: for whom. Members leave it out.")
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per request.")


def opening_of(context: Context, input: NewServiceRequestInput) -> Opening:
    """A new request in the domain's words."""
    member = reachable_member(context.actor, None if input.member is None else input.member.reference())
    return Opening(
        perk=input.perk.reference(),
        member=member,
        form=input.form,
        amount=input.amount_minor,
        key=checked_key(input.idempotency_key),
        actor=context.actor,
        now=context.now,
        asker=context.asker("holds:write"),
    )


async def draft_service_request(info: Info, input: NewServiceRequestInput) -> SubmitServiceRequestPayload:
    """A draft, which only its member sees and no rule has judged."""
    opening = opening_of(info.context, input)
    async with info.context.sessions.begin() as session:
        opened = await service_openings.draft_request(session, opening)
    return await opened_payload(info, opened)


@strawberry.input(description="What a draft says from now on, whole.")
class UpdateServiceRequestInput:
    request: strawberry.ID = strawberry.field(description="The draft.")
    revision: int = strawberry.field(description="The revision that you have seen.")
    form: JSON = strawberry.field(description="All of the form.")
    amount_minor: int = strawberry.field(default=0, description="See draftServiceRequest.")


async def update_service_request(info: Info, input: UpdateServiceRequestInput) -> ServiceRequestPayload:
    """Changes a draft."""

    async def step(session: AsyncSession, asked: Asked) -> list[Refusal]:
        return await service_openings.change_draft(session, asked, input.form, input.amount_minor)

    return await stepped(info, input, step)


@strawberry.input(one_of=True, description="A draft, or something new.")
class SubmitServiceRequestInput:
    draft: strawberry.Maybe[ServiceRequestInput] = strawberry.field(description="Members: a draft, as it is.")
    new: strawberry.Maybe[NewServiceRequestInput] = strawberry.field(description="A request without a draft.")


async def submit_service_request(info: Info, input: SubmitServiceRequestInput) -> SubmitServiceRequestPayload:
    """Submits; whom the perk trusts has its approval in the same answer."""
    context = info.context
    means = means_of(context)
    if input.new is not None:
        opening = opening_of(context, input.new.value)
        async with context.sessions.begin() as session:
            opened = await service_openings.submit_request(session, opening, means)
        return await opened_payload(info, opened)
    if input.draft is None:
        raise BadInput("a draft, or something new")
    asked = asked_of(context, input.draft.value.request, input.draft.value.revision)
    async with context.sessions.begin() as session:
        opened = await service_openings.submit_draft(session, asked, means)
    return await opened_payload(info, opened)


async def opened_payload(info: Info, opened: Opened) -> SubmitServiceRequestPayload:
    """What became of a request that begins."""
    request = None
    if opened.request_id is not None:
        request = await load_service_request(info, opened.request_id, just_made=True)
    errors = errors_of(opened.refusals, ["perk"], opened.faults)
    return SubmitServiceRequestPayload(service_request=request, replayed=opened.replayed, user_errors=errors)
