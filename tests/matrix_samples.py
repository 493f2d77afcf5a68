"""What the permission matrix asks: one question for each root field, about rows of one partner and one member."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from auth.caller import Caller, CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.tables import Approval
from partners import tables, transfers
from partners.actors import SYSTEM
from partners.facts import Circumstances
from partners.reviews import open_review
from partners.webhooks import endpoints
from partners.webhooks.events import public_id
from partners.webhooks.reach import list_endpoints
from partners.webhooks.secrets import add_secret
from schema.scalars import show_moment
from tests.factories import Club, partner_actor
from tests.fulfilling import SETTINGS, an_event
from tests.sequencing import sequencer_on

Asked = tuple[str, dict[str, Any]]
Sample = Callable[[Club, "Rows", Caller], Awaitable[Asked]]


@dataclass(frozen=True)
class Rows:
    """What the questions are about, and the strangers to it."""

    partner: tables.Partner
    another: tables.Partner
    member: tables.Member
    another_member: tables.Member
    perk: tables.Perk
    alias: str
    another_alias: str

    @classmethod
    async def made(cls, club: Club) -> "Rows":
        perk = await club.perk()
        partner = club.partners[perk.partner_id]
        member, another = await club.member(), await club.member()
        alias, another_alias = await club.consent(member, partner), await club.consent(another, partner)
        return cls(partner, await club.partner(), member, another, perk, alias, another_alias)


def whom(rows: Rows, caller: Caller) -> dict[str, Any] | None:
    """The member as this caller would name it."""
    if caller.kind is CallerKind.PARTNER:
        return None if caller.alias is not None else {"alias": rows.alias}
    return {"id": f"member_{rows.member.id.hex}"} if caller.kind is CallerKind.STAFF else None


def perk_id(rows: Rows) -> str:
    return f"perk_{rows.perk.id.hex}"


async def new_hold(club: Club, rows: Rows) -> str:
    return f"hold_{(await club.hold(rows.member, rows.perk)).id.hex}"


async def new_redemption(club: Club, rows: Rows) -> str:
    return f"redemption_{(await club.redeemed(await club.hold(rows.member, rows.perk))).hex}"


def plain(query: str, **variables: Any) -> Sample:
    """A question without rows of its own."""

    async def asked(_: Club, __: Rows, ___: Caller) -> Asked:
        return query, variables

    return asked


def about(query: str, ask: Callable[[Rows, Caller], dict[str, Any]]) -> Sample:
    """A question about the rows that are there."""

    async def asked(_: Club, rows: Rows, caller: Caller) -> Asked:
        return query, ask(rows, caller)

    return asked


def fresh(query: str, make: Callable[[Club, Rows], Awaitable[dict[str, Any]]]) -> Sample:
    """A question about a row that is made for it."""

    async def asked(club: Club, rows: Rows, _: Caller) -> Asked:
        return query, await make(club, rows)

    return asked


def command(name: str, input: str, answer: str = "__typename") -> str:
    """A mutation on one input."""
    return f"mutation($input: {input}!) {{ {name}(input: $input) {{ {answer} }} }}"


def given(make: Callable[[Rows, Caller], dict[str, Any]]) -> Callable[[Rows, Caller], dict[str, Any]]:
    """The variables of a mutation."""
    return lambda rows, caller: {"input": make(rows, caller)}


def unique() -> str:
    return uuid4().hex


async def to_confirm(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"hold": {"id": await new_hold(club, rows)}, "idempotencyKey": unique()}}


async def to_release(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"hold": await new_hold(club, rows)}}


async def to_reverse(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"redemption": await new_redemption(club, rows), "reason": "spoiled", "idempotencyKey": unique()}}


async def to_choose(club: Club, rows: Rows) -> dict[str, Any]:
    perk = await club.perk(rows.partner, settings=SETTINGS)
    redemption = await club.redeemed(await club.hold(rows.member, perk))
    return {"input": {"redemption": f"redemption_{redemption.hex}", "method": "PICKUP", "location": "old-town"}}


async def to_fulfil(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"redemption": await new_redemption(club, rows), "state": "FULFILLED"}}


async def to_check_in(club: Club, rows: Rows) -> dict[str, Any]:
    """A place that was claimed the day before."""
    perk, then = await an_event(club, rows.partner), club.now - timedelta(days=1)
    hold = await club.hold(rows.member, perk, said=Circumstances(option="tonight"), now=then)
    redemption = await club.redeemed(hold, now=then)
    return {"input": {"redemption": {"id": f"redemption_{redemption.hex}"}, "idempotencyKey": unique()}}


async def new_client(club: Club, rows: Rows) -> str:
    """A client of the partner that any administrator of it may manage."""
    settings = ClientSettings("A client", frozenset({"clients:manage"}))
    async with club.database.sessions.begin() as session:
        client, _ = await create_client(session, rows.partner.id, settings, Administrator(SYSTEM), club.now)
        return client.id


async def new_approval(club: Club, rows: Rows) -> str:
    """What the member approved that client for."""
    client_id = await new_client(club, rows)
    async with club.database.sessions.begin() as session:
        approval = Approval(
            client_id=client_id,
            kind=CallerKind.PARTNER,
            subject=str(rows.member.id),
            partner_id=rows.partner.id,
            member_id=rows.member.id,
            scopes=["eligibility:read"],
            created_at=club.now,
            expires_at=club.now + timedelta(days=1),
        )
        session.add(approval)
        return f"approval_{approval.id.hex}"


def on_client(**more: Any) -> Callable[[Club, Rows], Awaitable[dict[str, Any]]]:
    """A mutation on a client that is made for it."""

    async def made(club: Club, rows: Rows) -> dict[str, Any]:
        return {"input": {"client": await new_client(club, rows)} | more}

    return made


async def to_revoke(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"approval": await new_approval(club, rows)}}


async def one_client(club: Club, rows: Rows) -> dict[str, Any]:
    return {"id": await new_client(club, rows)}


async def to_carry_over(club: Club, rows: Rows) -> dict[str, Any]:
    """A member of a brand that the partner has bought."""
    seller, member = await club.partner(), await club.member()
    async with club.database.sessions.begin() as session:
        await transfers.open_transfer(session, seller, rows.partner, reason="sold", actor=SYSTEM, now=club.now)
    return {"input": {"alias": await club.consent(member, seller)}}


async def to_transfer(club: Club, rows: Rows) -> dict[str, Any]:
    seller = await club.partner()
    return {"input": {"from": {"handle": seller.handle}, "to": {"handle": rows.partner.handle}, "reason": "sold"}}


async def any_partner(club: Club, _: Rows) -> dict[str, Any]:
    return {"input": {"partner": {"handle": (await club.partner()).handle}}}


async def any_perk(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"perk": {"id": f"perk_{(await club.perk(rows.partner)).id.hex}"}}}


def about_consent(query: str) -> Sample:
    """A withdrawal of a consent that is made for it."""

    async def asked(club: Club, rows: Rows, caller: Caller) -> Asked:
        partner = await club.partner()
        await club.consent(rows.member, partner)
        return query, {"input": {"partner": {"handle": partner.handle}, "member": whom(rows, caller)}}

    return asked


async def code_perk(club: Club, rows: Rows) -> str:
    """A perk of the partner's that gives codes."""
    return f"perk_{(await club.perk(rows.partner, kind=tables.PerkKind.CODE)).id.hex}"


async def to_add_codes(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"perk": {"id": await code_perk(club, rows)}, "codes": ["GIFT-1"]}}


async def to_withdraw_codes(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"perk": {"id": await code_perk(club, rows)}}}


def to_grant(query: str) -> Sample:
    """A right of a perk that is made for it."""

    async def asked(club: Club, rows: Rows, caller: Caller) -> Asked:
        perk = await club.perk(rows.partner, kind=tables.PerkKind.ACCESS)
        member = whom(rows, caller)
        return query, {"input": {"perk": {"id": f"perk_{perk.id.hex}"}, "member": member, "idempotencyKey": unique()}}

    return asked


async def new_right(club: Club, rows: Rows) -> str:
    """A standing right of the member's."""
    perk = await club.perk(rows.partner, kind=tables.PerkKind.ACCESS)
    redemption = await club.redeemed(await club.hold(rows.member, perk))
    [right] = await club.sql("SELECT id FROM access_grant WHERE redemption_id = $1", redemption)
    return f"access_{right['id'].hex}"


async def to_use(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"access": {"id": await new_right(club, rows)}, "idempotencyKey": unique()}}


async def to_revoke_access(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"access": await new_right(club, rows), "reason": "closed"}}


def about_rights(query: str) -> Sample:
    """The rights of a perk of which the member has one."""

    async def asked(club: Club, rows: Rows, _: Caller) -> Asked:
        right = UUID(hex=(await new_right(club, rows)).removeprefix("access_"))
        [grant] = await club.sql("SELECT perk_id FROM access_grant WHERE id = $1", right)
        return query, {"filter": {"perk": f"perk_{grant['perk_id'].hex}"}}

    return asked


async def redeemed_once(club: Club, rows: Rows) -> dict[str, Any]:
    return {"id": await new_redemption(club, rows)}


async def held_once(club: Club, rows: Rows) -> dict[str, Any]:
    return {"id": await new_hold(club, rows)}


async def waited_once(club: Club, rows: Rows) -> dict[str, Any]:
    """Somebody who waits at a perk of its own."""
    perk = await club.perk(rows.partner)
    entry = tables.WaitlistEntry(
        perk_id=perk.id, partner_id=rows.partner.id, member_id=rows.member.id, joined_by="member", joined_at=club.now
    )
    async with club.database.sessions.begin() as session:
        session.add(entry)
        return {"id": f"wait_{entry.id.hex}"}


def to_wait(query: str) -> Sample:
    """A wait for a perk that is all taken."""

    async def asked(club: Club, rows: Rows, caller: Caller) -> Asked:
        perk = await club.perk(rows.partner, units=0, waitlist={})
        return query, {"input": {"perk": {"id": f"perk_{perk.id.hex}"}, "member": whom(rows, caller)}}

    return asked


async def to_leave(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"entry": (await waited_once(club, rows))["id"]}}


async def requested_once(club: Club, rows: Rows) -> dict[str, Any]:
    """A bespoke request that was submitted."""
    thread = tables.Thread(opened_at=club.now)
    async with club.database.sessions.begin() as session:
        session.add(thread)
        await session.flush()
        request = tables.ServiceRequest(
            id=thread.id,
            perk_id=rows.perk.id,
            partner_id=rows.partner.id,
            member_id=rows.member.id,
            state=tables.ServiceState.SUBMITTED,
            created_at=club.now,
            submitted_at=club.now,
        )
        session.add(request)
        return {"id": f"service_{thread.id.hex}"}


async def new_service(club: Club, rows: Rows, state: tables.ServiceState) -> str:
    """A bespoke request for a perk of its own, in a state that it has come to."""
    perk = await club.perk(rows.partner, kind=tables.PerkKind.SERVICE, settings={"approval": "BY_PARTNER"})
    approved = state is tables.ServiceState.APPROVED
    redemption = await club.redeemed(await club.hold(rows.member, perk)) if approved else None
    thread = tables.Thread(opened_at=club.now)
    async with club.database.sessions.begin() as session:
        session.add(thread)
        await session.flush()
        request = tables.ServiceRequest(
            id=thread.id,
            perk_id=perk.id,
            partner_id=rows.partner.id,
            member_id=rows.member.id,
            state=state,
            redemption_id=redemption,
            created_at=club.now,
            submitted_at=None if state is tables.ServiceState.DRAFT else club.now,
        )
        session.add(request)
    return f"service_{thread.id.hex}"


def on_service(state: tables.ServiceState, **more: Any) -> Callable[[Club, Rows], Awaitable[dict[str, Any]]]:
    """A step of a bespoke request that is made for it."""

    async def made(club: Club, rows: Rows) -> dict[str, Any]:
        return {"input": {"request": await new_service(club, rows, state), "revision": 1} | more}

    return made


async def one_service(club: Club, rows: Rows) -> dict[str, Any]:
    return {"id": await new_service(club, rows, tables.ServiceState.SUBMITTED)}


async def to_quote(club: Club, rows: Rows) -> dict[str, Any]:
    valid_until = show_moment(club.now + timedelta(days=1))
    make = on_service(tables.ServiceState.SUBMITTED, amountMinor=0, terms="All in.", validUntil=valid_until)
    return await make(club, rows)


async def to_schedule(club: Club, rows: Rows) -> dict[str, Any]:
    scheduled_for = show_moment(club.now + timedelta(days=1))
    return await on_service(tables.ServiceState.APPROVED, scheduledFor=scheduled_for)(club, rows)


def about_service(query: str, *, new: bool) -> Sample:
    """A bespoke request that begins."""

    async def asked(club: Club, rows: Rows, caller: Caller) -> Asked:
        perk = await club.perk(rows.partner, kind=tables.PerkKind.SERVICE)
        begun: dict[str, Any] = {"perk": {"handle": perk.handle}, "form": {}, "idempotencyKey": unique()}
        begun["member"] = whom(rows, caller)
        return query, {"input": {"new": begun} if new else begun}

    return asked


def service_samples() -> dict[str, Sample]:
    """Those about bespoke requests."""
    draft, submitted, approved = (
        tables.ServiceState.DRAFT,
        tables.ServiceState.SUBMITTED,
        tables.ServiceState.APPROVED,
    )
    step = "ServiceRequestInput"
    draw_up = command("draftServiceRequest", "NewServiceRequestInput", ERRORS)
    submit = command("submitServiceRequest", "SubmitServiceRequestInput", ERRORS)
    made = {
        "updateServiceRequest": ("UpdateServiceRequestInput", on_service(draft, form={})),
        "quoteServiceRequest": ("QuoteServiceRequestInput", to_quote),
        "approveServiceRequest": (step, on_service(submitted)),
        "declineServiceRequest": ("DeclineServiceRequestInput", on_service(submitted)),
        "scheduleServiceRequest": ("ScheduleServiceRequestInput", to_schedule),
        "fulfilServiceRequest": (step, on_service(approved)),
        "recallServiceRequest": (step, on_service(submitted)),
        "cancelServiceRequest": ("CancelServiceRequestInput", on_service(submitted, reason="closed")),
        "assignServiceRequest": ("AssignServiceRequestInput", on_service(submitted, owner="Ms Meier")),
        "addServiceMessage": ("AddServiceMessageInput", on_service(submitted, message={"text": "Hello."})),
    }
    return {
        "Query.serviceRequest": fresh("query($id: ID!) { serviceRequest(id: $id) { id } }", one_service),
        "Query.serviceRequests": fresh(
            "query($id: ID) { serviceRequests(filter: {partner: $id}) { nodes { id } } }", one_services_partner
        ),
        "Mutation.draftServiceRequest": about_service(draw_up, new=False),
        "Mutation.submitServiceRequest": about_service(submit, new=True),
    } | {f"Mutation.{name}": fresh(command(name, input, ERRORS), make) for name, (input, make) in made.items()}


async def one_services_partner(club: Club, rows: Rows) -> dict[str, Any]:
    """The partner of a request that is made for it."""
    await new_service(club, rows, tables.ServiceState.SUBMITTED)
    return {"id": f"partner_{rows.partner.id.hex}"}


async def new_endpoint(club: Club, rows: Rows, *, logged: bool = False) -> tables.WebhookEndpoint:
    """A webhook endpoint of the partner, perhaps with a message and an attempt; those made before it are gone, but
    for the first."""
    settings = endpoints.EndpointSettings("https://hooks.brand.example/")
    async with club.database.sessions.begin() as session:
        for former in (await list_endpoints(session, SYSTEM, partner_id=rows.partner.id, first=99))[1:]:
            await endpoints.delete_endpoint(session, former.id, actor=SYSTEM, now=club.now)
        made, _ = await endpoints.create_endpoint(
            session, rows.partner.id, settings, keys=club.keys, actor=SYSTEM, now=club.now
        )
    if logged:
        [entry] = await club.sql("SELECT id FROM audit_entry WHERE partner_id = $1 LIMIT 1", rows.partner.id)
        message = tables.WebhookMessage(
            endpoint_id=made.id,
            entry_id=entry["id"],
            index=0,
            action="perk.created",
            lane=rows.perk.id,
            told_at=club.now,
            pending_since=club.now,
            due_at=club.now,
        )
        attempt = tables.WebhookDelivery(
            endpoint_id=made.id, entry_id=entry["id"], number=1, at=club.now, duration_ms=9, status=500
        )
        async with club.database.sessions.begin() as session:
            session.add_all([message, attempt])
    return made


def endpoint_id(endpoint: tables.WebhookEndpoint) -> str:
    return f"endpoint_{endpoint.id.hex}"


def on_endpoint(**more: Any) -> Callable[[Club, Rows], Awaitable[dict[str, Any]]]:
    """A mutation on an endpoint that is made for it."""

    async def made(club: Club, rows: Rows) -> dict[str, Any]:
        return {"input": {"endpoint": endpoint_id(await new_endpoint(club, rows))} | more}

    return made


async def one_endpoint(club: Club, rows: Rows) -> dict[str, Any]:
    return {"id": endpoint_id(await new_endpoint(club, rows, logged=True))}


async def to_create_endpoint(club: Club, rows: Rows) -> dict[str, Any]:
    await new_endpoint(club, rows)
    return {"input": {"url": "https://hooks.brand.example/more"}}


async def to_enable(club: Club, rows: Rows) -> dict[str, Any]:
    made = await new_endpoint(club, rows)
    async with club.database.sessions.begin() as session:
        await endpoints.set_endpoint_state(session, made.id, tables.EndpointState.DISABLED, actor=SYSTEM, now=club.now)
    return {"input": {"endpoint": endpoint_id(made)}}


async def to_retire(club: Club, rows: Rows) -> dict[str, Any]:
    made = await new_endpoint(club, rows)
    async with club.database.sessions.begin() as session:
        secret = await add_secret(
            session, made.id, tables.SecretKind.ED25519, keys=club.keys, actor=SYSTEM, now=club.now
        )
    return {"input": {"endpoint": endpoint_id(made), "secret": f"secret_{secret.row.id.hex}"}}


async def to_resend(club: Club, rows: Rows) -> dict[str, Any]:
    made = await new_endpoint(club, rows)
    entries = "SELECT id FROM audit_entry WHERE partner_id = $1 AND action = 'perk.created' LIMIT 1"
    [entry] = await club.sql(entries, rows.partner.id)
    await sequencer_on(club.database, club.keys).carry_over()
    return {"input": {"endpoint": endpoint_id(made), "eventId": f"evt_{public_id(club.keys, entry['id']).hex}"}}


def webhook_samples() -> dict[str, Sample]:
    """Those about webhooks."""
    one, more, secret = "WebhookEndpointInput", "endpoint { id } userErrors { code }", "secret userErrors { code }"
    made = {
        "createWebhookEndpoint": ("CreateWebhookEndpointInput", secret, to_create_endpoint),
        "updateWebhookEndpoint": ("UpdateWebhookEndpointInput", more, on_endpoint(description="x")),
        "disableWebhookEndpoint": (one, more, on_endpoint()),
        "enableWebhookEndpoint": (one, more, to_enable),
        "deleteWebhookEndpoint": (one, "deletedId", on_endpoint()),
        "addWebhookSecret": ("AddWebhookSecretInput", secret, on_endpoint(kind="ED25519")),
        "rotateWebhookSecret": ("RotateWebhookSecretInput", secret, on_endpoint()),
        "retireWebhookSecret": ("RetireWebhookSecretInput", more, to_retire),
        "sendTestEvent": (one, "eventId", on_endpoint()),
        "resendWebhookMessage": ("ResendWebhookMessageInput", "count", to_resend),
        "replayWebhookMessages": ("ReplayWebhookMessagesInput", "count", on_endpoint(messages={"parked": True})),
    }
    asked = {
        "webhookEndpoint": "query($id: ID!) { webhookEndpoint(id: $id) { id } }",
        "webhookMessages": "query($id: ID!) { webhookMessages(endpoint: $id) { nodes { eventId } } }",
        "webhookDeliveries": "query($id: ID!) { webhookDeliveries(endpoint: $id) { nodes { id } } }",
    }
    return (
        {"Query.webhookEventTypes": plain("{ webhookEventTypes { type } }")}
        | {
            "Query.webhookEndpoints": fresh(
                "query($by: PartnerBy) { webhookEndpoints(partner: $by) { nodes { id } } }", one_endpoints_partner
            )
        }
        | {f"Query.{name}": fresh(query, one_endpoint) for name, query in asked.items()}
        | {
            f"Mutation.{name}": fresh(command(name, input, answer), make)
            for name, (input, answer, make) in made.items()
        }
    )


async def one_endpoints_partner(club: Club, rows: Rows) -> dict[str, Any]:
    await new_endpoint(club, rows)
    return {"by": {"handle": rows.partner.handle}}


NAMED = "($by: {kind}!) {{ {name}(by: $by) {{ id }} }}"
DECISION = "eligible refusals { code }"
ERRORS = "userErrors { code }"
"""Which answer of a mutation tells a refusal."""


def samples() -> dict[str, Sample]:
    """One question per root field; a new one without an entry fails the matrix."""
    return (
        service_samples()
        | webhook_samples()
        | {
            "Query.viewer": plain("{ viewer { kind } }"),
            "Query.node": about("query($id: ID!) { node(id: $id) { id } }", lambda rows, _: {"id": perk_id(rows)}),
            "Query.me": plain("{ me { id } }"),
            "Query.member": about(
                "query($by: MemberBy!) { member(by: $by) { id } }",
                lambda rows, caller: {"by": whom(rows, caller) or {"alias": rows.alias}},
            ),
            "Query.eligibility": about(
                "query($perk: PerkBy!, $member: MemberBy) { "
                f"eligibility(perk: $perk, member: $member) {{ {DECISION} }} }}",
                lambda rows, caller: {"perk": {"id": perk_id(rows)}, "member": whom(rows, caller)},
            ),
            "Query.eligibilities": about(
                "query($checks: [EligibilityCheckInput!]!) { eligibilities(checks: $checks) "
                f"{{ error decision {{ {DECISION} }} }} }}",
                lambda rows, caller: {"checks": [{"perk": {"id": perk_id(rows)}, "member": whom(rows, caller)}]},
            ),
            "Query.perk": about(
                "query" + NAMED.format(kind="PerkBy", name="perk"), lambda rows, _: {"by": {"id": perk_id(rows)}}
            ),
            "Query.perks": about(
                "query($filter: PerkFilter) { perks(filter: $filter) { nodes { id } } }",
                lambda rows, _: {"filter": {"partner": f"partner_{rows.partner.id.hex}"}},
            ),
            "Query.partner": about(
                "query" + NAMED.format(kind="PartnerBy", name="partner"),
                lambda rows, _: {"by": {"handle": rows.partner.handle}},
            ),
            "Query.perkKinds": plain("{ perkKinds { kind } }"),
            "Query.partners": plain("{ partners { nodes { id } } }"),
            "Query.consents": plain("{ consents { id } }"),
            "Query.redemption": fresh("query($id: ID!) { redemption(id: $id) { id } }", redeemed_once),
            "Query.redemptions": about(
                "query($filter: RedemptionFilter) { redemptions(filter: $filter) { nodes { id } } }",
                lambda rows, _: {"filter": {"perk": perk_id(rows)}},
            ),
            "Query.export": fresh("query($id: ID!) { export(id: $id) { id } }", export_once),
            "Query.exports": fresh("{ exports { nodes { id } } }", export_once),
            "Mutation.requestExport": fresh(command("requestExport", "RequestExportInput", ERRORS), to_export),
            "Mutation.cancelExport": fresh(command("cancelExport", "CancelExportInput", ERRORS), to_cancel_export),
            "Query.ruleKinds": plain("{ ruleKinds { kind } }"),
            "Query.policyDryRun": about(
                "query($perk: PerkBy!) { policyDryRun(perk: $perk, rules: []) { members } }",
                lambda rows, _: {"perk": {"id": perk_id(rows)}},
            ),
            "Query.reviews": plain("{ reviews { nodes { id } } }"),
            "Mutation.closeReview": fresh(command("closeReview", "CloseReviewInput", ERRORS), to_close),
            "Query.auditProof": fresh("query($id: ID!) { auditProof(redemptionId: $id) { index } }", logged_once),
            "Query.auditCheckpoint": fresh("{ auditCheckpoint { size } }", nothing_but_logged),
            "Subscription.auditEntry": fresh("subscription { auditEntry(fromIndex: 0) { index } }", nothing_but_logged),
            "Query.statement": about(
                "query($month: String!, $partner: PartnerBy) { statement(month: $month, partner: $partner) { month } }",
                lambda rows, _: {
                    "month": f"{rows.partner.created_at:%Y-%m}",
                    "partner": {"id": f"partner_{rows.partner.id.hex}"},
                },
            ),
            "Query.auditEntries": plain("{ auditEntries { nodes { id } } }"),
            "Mutation.claimPerk": about(
                command("claimPerk", "ClaimPerkInput", ERRORS),
                given(
                    lambda rows, caller: {
                        "perk": {"id": perk_id(rows)},
                        "member": whom(rows, caller),
                        "idempotencyKey": unique(),
                    }
                ),
            ),
            "Mutation.confirmHold": fresh(command("confirmHold", "ConfirmHoldInput", ERRORS), to_confirm),
            "Mutation.extendHold": fresh(command("extendHold", "ExtendHoldInput", ERRORS), to_release),
            "Mutation.releaseHold": fresh(command("releaseHold", "ReleaseHoldInput", ERRORS), to_release),
            "Mutation.joinWaitlist": to_wait(command("joinWaitlist", "JoinWaitlistInput", ERRORS)),
            "Mutation.leaveWaitlist": fresh(command("leaveWaitlist", "LeaveWaitlistInput", ERRORS), to_leave),
            "Query.waitlistEntries": fresh("{ waitlistEntries { nodes { id } } }", waited_once),
            "Mutation.reverseRedemption": fresh(
                command("reverseRedemption", "ReverseRedemptionInput", ERRORS), to_reverse
            ),
            "Mutation.chooseDelivery": fresh(command("chooseDelivery", "ChooseDeliveryInput", ERRORS), to_choose),
            "Mutation.updateFulfilment": fresh(command("updateFulfilment", "UpdateFulfilmentInput", ERRORS), to_fulfil),
            "Mutation.checkIn": fresh(command("checkIn", "CheckInInput", ERRORS), to_check_in),
            "Mutation.createPass": about(command("createPass", "CreatePassInput", ERRORS), given(lambda _, __: {})),
            "Query.consentsGiven": plain("{ consentsGiven { nodes { alias } } }"),
            "Query.disclosures": about(
                "query($member: MemberBy) { disclosures(member: $member) { pageInfo { hasNextPage } } }",
                lambda rows, caller: {"member": whom(rows, caller)},
            ),
            "Query.client": fresh("query($id: ID!) { client(id: $id) { id } }", one_client),
            "Query.clients": about(
                "query($partner: PartnerBy) { clients(partner: $partner) { pageInfo { hasNextPage } } }",
                lambda rows, caller: {
                    "partner": {"handle": rows.partner.handle} if caller.kind is CallerKind.STAFF else None
                },
            ),
            "Mutation.createPartner": about(
                command("createPartner", "CreatePartnerInput"),
                given(lambda _, __: {"handle": f"brand-{unique()[:12]}", "name": "A brand", "kind": "OTHER"}),
            ),
            "Mutation.suspendPartner": fresh(command("suspendPartner", "PartnerInput"), any_partner),
            "Mutation.reinstatePartner": fresh(command("reinstatePartner", "PartnerInput"), any_partner),
            "Mutation.transferPartner": fresh(command("transferPartner", "TransferPartnerInput"), to_transfer),
            "Mutation.transferMember": fresh(command("transferMember", "TransferMemberInput"), to_carry_over),
            "Mutation.createClient": about(
                command("createClient", "CreateClientInput"),
                given(
                    lambda rows, caller: {
                        "name": "A client",
                        "scopes": ["clients:manage"],
                        "partner": {"handle": rows.partner.handle} if caller.kind is CallerKind.STAFF else None,
                    }
                ),
            ),
            "Mutation.updateClient": fresh(
                command("updateClient", "UpdateClientInput"), on_client(name="Another name")
            ),
            "Mutation.rotateClientSecret": fresh(command("rotateClientSecret", "RotateClientSecretInput"), on_client()),
            "Mutation.disableClient": fresh(command("disableClient", "ClientInput"), on_client()),
            "Mutation.enableClient": fresh(command("enableClient", "ClientInput"), on_client()),
            "Mutation.revokeApproval": fresh(command("revokeApproval", "RevokeApprovalInput"), to_revoke),
            "Mutation.createPerk": about(
                command("createPerk", "CreatePerkInput"),
                given(
                    lambda rows, caller: {
                        "handle": f"perk-{unique()[:12]}",
                        "kind": "SAMPLE",
                        "title": "A perk",
                        "timeZone": "UTC",
                        "partner": {"handle": rows.partner.handle} if caller.kind is CallerKind.STAFF else None,
                    }
                ),
            ),
            "Mutation.updatePerk": about(
                command("updatePerk", "UpdatePerkInput"),
                given(lambda rows, _: {"perk": {"id": perk_id(rows)}, "title": "A perk"}),
            ),
            "Mutation.publishPerk": about(
                command("publishPerk", "PerkInput"), given(lambda rows, _: {"perk": {"id": perk_id(rows)}})
            ),
            "Mutation.pausePerk": fresh(command("pausePerk", "PerkInput"), any_perk),
            "Mutation.addCodes": fresh(command("addCodes", "AddCodesInput"), to_add_codes),
            "Mutation.withdrawCodes": fresh(command("withdrawCodes", "WithdrawCodesInput"), to_withdraw_codes),
            "Mutation.grantAccess": to_grant(command("grantAccess", "GrantAccessInput", ERRORS)),
            "Mutation.useAccess": fresh(command("useAccess", "UseAccessInput", ERRORS), to_use),
            "Mutation.revokeAccess": fresh(command("revokeAccess", "RevokeAccessInput", ERRORS), to_revoke_access),
            "Query.accessGrants": about_rights(
                "query($filter: AccessFilter) { accessGrants(filter: $filter) { nodes { id } } }"
            ),
            "Mutation.enrolMember": about(
                command("enrolMember", "EnrolMemberInput"), given(lambda _, __: {"externalId": unique()})
            ),
            "Mutation.exportMember": about(
                command("exportMember", "ExportMemberInput"),
                given(lambda rows, _: {"member": {"id": f"member_{rows.member.id.hex}"}}),
            ),
            "Mutation.eraseMember": about(
                command("eraseMember", "EraseMemberInput"),
                given(lambda rows, _: {"member": {"externalId": "nobody of this name"}}),
            ),
            "Mutation.assignTier": about(
                command("assignTier", "AssignTierInput"),
                given(lambda rows, _: {"member": {"id": f"member_{rows.member.id.hex}"}, "tier": "gold"}),
            ),
            "Mutation.grantConsent": about(
                command("grantConsent", "GrantConsentInput"),
                given(lambda rows, caller: {"partner": {"handle": rows.partner.handle}, "member": whom(rows, caller)}),
            ),
            "Mutation.withdrawConsent": about_consent(command("withdrawConsent", "WithdrawConsentInput")),
            "Subscription.perkAvailability": about(
                "subscription($perk: PerkBy!) { perkAvailability(perk: $perk) { perk } }",
                lambda rows, _: {"perk": {"id": perk_id(rows)}},
            ),
            "Subscription.holdState": fresh("subscription($id: ID!) { holdState(hold: $id) { id } }", held_once),
            "Subscription.waitlistPosition": fresh(
                "subscription($id: ID!) { waitlistPosition(entry: $id) { id } }", waited_once
            ),
            "Subscription.serviceThread": fresh(
                "subscription($id: ID!) { serviceThread(request: $id) { id } }", requested_once
            ),
        }
    )


async def logged_once(club: Club, rows: Rows) -> dict[str, Any]:
    """A redemption that has its place in the log."""
    given = {"id": await new_redemption(club, rows)}
    return given | await nothing_but_logged(club, rows)


async def nothing_but_logged(club: Club, _: Rows) -> dict[str, Any]:
    """No variables, about a log that is not empty."""
    await sequencer_on(club.database, club.keys).carry_over()
    return {}


async def new_export(rows: Rows, club: Club, *, open: bool = False) -> str:
    """An export of the partner's, the only one that counts."""
    async with club.database.sessions.begin() as session:
        await session.execute(sa.update(tables.Export).values(state=tables.ExportState.EXPIRED, expires_at=None))
        export = tables.Export(
            partner_id=rows.partner.id,
            requested_by="client",
            kind=tables.ExportKind.REDEMPTIONS,
            format=tables.ExportFormat.CSV,
            wanted={},
            state=tables.ExportState.QUEUED if open else tables.ExportState.FAILED,
            created_at=club.now,
        )
        session.add(export)
        return f"export_{export.id.hex}"


async def export_once(club: Club, rows: Rows) -> dict[str, Any]:
    return {"id": await new_export(rows, club)}


async def to_export(club: Club, rows: Rows) -> dict[str, Any]:
    await new_export(rows, club)
    return {"input": {"kind": "REDEMPTIONS"}}


async def to_cancel_export(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"export": await new_export(rows, club, open=True)}}


async def new_review(club: Club, rows: Rows) -> str:
    """Of the member's claims at another partner, since it would stand in the way here."""
    perk = await club.perk()
    async with club.database.sessions.begin() as session:
        opened = await open_review(session, rows.member.id, perk.partner_id, perk.id, club.now)
    assert opened is not None
    return f"review_{opened.hex}"


async def to_close(club: Club, rows: Rows) -> dict[str, Any]:
    return {"input": {"review": await new_review(club, rows), "cleared": True}}


async def node_ids(club: Club, rows: Rows) -> dict[str, str]:
    """The global id of one row of each type that `node` finds, all of the one partner and member."""
    [entry] = await club.sql("SELECT id FROM audit_entry WHERE member_id = $1 LIMIT 1", rows.member.id)
    [consent] = await club.sql("SELECT id FROM consent WHERE member_id = $1 LIMIT 1", rows.member.id)
    redemption = await club.redeemed(await club.hold(rows.member, rows.perk))
    reversal = await club.reverse(redemption, partner_actor(rows.partner))
    assert reversal.id is not None
    return {
        "Consent": f"consent_{consent['id'].hex}",
        "Reversal": f"reversal_{reversal.id.hex}",
        "Perk": perk_id(rows),
        "Partner": f"partner_{rows.partner.id.hex}",
        "Member": f"member_{rows.member.id.hex}",
        "Hold": await new_hold(club, rows),
        "WaitlistEntry": (await waited_once(club, rows))["id"],
        "Redemption": await new_redemption(club, rows),
        "ServiceRequest": await new_service(club, rows, tables.ServiceState.SUBMITTED),
        "AuditEntry": f"entry_{entry['id'].hex}",
        "AccessGrant": await new_right(club, rows),
        "Review": await new_review(club, rows),
        "Export": await new_export(rows, club),
        "WebhookEndpoint": endpoint_id(await new_endpoint(club, rows)),
    }
