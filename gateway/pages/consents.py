"""What a member lets partners know, who asked, and the end of it."""

from uuid import UUID

from starlette.responses import Response

from auth.caller import CallerKind
from auth.names import names_of_clients
from auth.tables import BrowserSession
from auth.withdrawal import withdraw_consent
from gateway.pages.showing import leading_to
from gateway.pages.visits import Stop, Visit
from partners import tables
from partners.actors import Actor, ActorKind
from partners.consents import SCOPES, list_consents
from partners.disclosures import Shown, list_disclosures
from partners.errors import NotFound
from partners.references import MemberRef
from partners.tables import DisclosureKind

PAGE = 20
SENTENCES = {
    DisclosureKind.MEMBERSHIP: "{partner} was told about your membership",
    DisclosureKind.ELIGIBILITY: "{partner} was told whether you may have {perk}",
    DisclosureKind.CATALOGUE: "{partner} was told which of its perks you may have",
    DisclosureKind.REDEMPTIONS: "{partner} was told what you used",
    DisclosureKind.ADDRESS: "{partner} was told where to send {perk}",
    DisclosureKind.SERVICE: "{partner} read what you asked for with {perk}",
}


async def show(visit: Visit) -> Response:
    """GET /consents."""
    who = member(visit, "/consents")
    before = read_id(visit.request.query_params.get("before"))
    assert who.member_id is not None
    async with visit.service.database.reading() as session:
        consents = await list_consents(session, who.member_id, visit.now)
        told = await list_disclosures(session, who.member_id, first=PAGE + 1, after=before)
        clients = await names_of_clients(session, {one.disclosure.client_id for one in told})
    return visit.show(
        "consents.html",
        entries=[described(consent, partner) for consent, partner in consents],
        disclosures=[sentence(one, clients) for one in told[:PAGE]],
        earlier=told[PAGE - 1].disclosure.id if len(told) > PAGE else None,
        paged=before is not None,
    )


async def ask(visit: Visit) -> Response:
    """GET /consents/{partner}/withdraw: nothing is withdrawn by one click."""
    _, partner = await named(visit)
    return visit.show("withdraw.html", partner=partner.name)


async def withdraw(visit: Visit) -> Response:
    """POST /consents/{partner}/withdraw."""
    who, partner = await named(visit)
    await visit.form()
    actor = Actor(ActorKind.MEMBER, who.subject, member_id=who.member_id)
    async with visit.service.database.sessions.begin() as session:
        await withdraw_consent(session, MemberRef(id=who.member_id), partner.id, actor=actor, now=visit.now)
    return leading_to("/consents")


def member(visit: Visit, then: str) -> BrowserSession:
    """The member who is signed in; consents are nobody else's."""
    who = visit.signed_in(then)
    if who.kind != CallerKind.MEMBER or who.member_id is None:
        raise Stop("This page is for members", f"You are signed in as {who.name}, who is not a member.", 403)
    return who


async def named(visit: Visit) -> tuple[BrowserSession, tables.Partner]:
    """The member, and the partner of the address that it consents to; NotFound."""
    who = member(visit, visit.request.url.path)
    assert who.member_id is not None
    async with visit.service.database.reading() as session:
        consents = await list_consents(session, who.member_id, visit.now)
    for _, partner in consents:
        if partner.handle == visit.request.path_params["partner"]:
            return who, partner
    raise NotFound("no live consent for this partner")


def read_id(text: str | None) -> UUID | None:
    """An id of ours in an address; None for what is not one."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def described(consent: tables.Consent, partner: tables.Partner) -> dict[str, object]:
    """A consent in words."""
    return {
        "handle": partner.handle,
        "partner": partner.name,
        "purpose": consent.purpose,
        "since": consent.granted_at,
        "until": consent.expires_at,
        "scopes": [words for scope, words in SCOPES.items() if scope in consent.scopes],
    }


def sentence(shown: Shown, clients: dict[str, str]) -> dict[str, object]:
    """A disclosure in words."""
    told = shown.disclosure
    words = SENTENCES[DisclosureKind(told.kind)]
    perk = f"“{shown.perk_title}”" if shown.perk_title else "one of its perks"
    return {
        "sentence": words.format(partner=shown.partner.name, perk=perk),
        "client": clients.get(told.client_id, told.client_id),
        "at": told.at,
    }
