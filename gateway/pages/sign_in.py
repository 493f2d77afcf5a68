"""Who are you? By the operator's identity provider, or by choosing among the built-in people where that is on."""

from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from auth.attempts import address_of
from auth.caller import CallerKind
from auth.errors import Unauthenticated
from auth.forms import read_query
from auth.id_tokens import who_is
from auth.people import find_person, list_people
from auth.sessions import SESSION_LASTS, SignedIn, end_session, is_secret, start_session
from auth.sign_in import FLOW_LASTS, Provider
from auth.tables import Person
from gateway.pages.authorization import leads_to
from gateway.pages.showing import leading_to
from gateway.pages.visits import SESSION, Stop, Visit, destination

FLOW = "perks-sign-in"
TITLES = {CallerKind.MEMBER: "Members", CallerKind.PARTNER: "Partners", CallerKind.STAFF: "Staff"}


async def ask(visit: Visit) -> Response:
    """GET /sign-in: straight to the identity provider where there is nothing to choose."""
    site, query = visit.site, visit.request.query_params
    then = destination(query.get("then"))
    start = f"/sign-in/start?{urlencode({'then': then, 'again': query.get('again', '')})}"
    if not site.built_in and site.provider is None:
        raise Stop("Nobody can sign in here yet", "The operator has not named an identity provider.", 503)
    if not site.built_in and "again" not in query:
        return leading_to(start)
    people = await everybody(visit)
    groups = [(title, [one for one in people if one.kind == kind]) for kind, title in TITLES.items()]
    client, target = await leads_to(visit, then)
    values: dict[str, Any] = {"built_in": site.built_in, "then": then, "client": client}
    values |= {"groups": [group for group in groups if group[1]], "provider": start if site.provider else None}
    return visit.show("sign_in.html", form_targets=target, **values)


async def everybody(visit: Visit) -> list[Person]:
    """The built-in people, where they are on."""
    if not visit.site.built_in:
        return []
    async with visit.service.database.reading() as session:
        return await list_people(session)


async def answer(visit: Visit) -> Response:
    """POST /sign-in: one of the built-in people."""
    form = await visit.form()
    attempt = await visit.service.limits.sign_in(address_of(visit.request.scope))
    if not visit.site.built_in:
        raise Stop("There is no such page", "The built-in sign-in is off.", 404)
    async with visit.service.database.reading() as session:
        who = await find_person(session, form.get("person", ""))
    if who is None:
        raise Stop("There is nobody of that name", "Please choose again.")
    await attempt.succeeded()
    return await signed_in(visit, who, destination(form.get("then")))


async def start(visit: Visit) -> Response:
    """GET /sign-in/start: off to the identity provider, with a sealed note of what may come back."""
    provider, query = provider_of(visit), visit.request.query_params
    await visit.service.limits.sign_in(address_of(visit.request.scope))
    then = destination(query.get("then"))
    address, state, sealed = await provider.begin(then, visit.now, again=bool(query.get("again")))
    response = leading_to(address)
    visit.site.set_cookie(response, flow_cookie(state), sealed, seconds=int(FLOW_LASTS.total_seconds()))
    return response


async def finish(visit: Visit) -> Response:
    """GET /sign-in/callback: what the identity provider says."""
    provider, query = provider_of(visit), read_query(visit.request)
    cookie = flow_cookie(query.get("state", ""))
    sealed = visit.request.cookies.get(visit.site.cookie(cookie), "")
    try:
        claims, then = await provider.finish(sealed, query, visit.now)
    except Unauthenticated as fault:
        raise Stop(
            "You are not signed in", f"The sign-in did not work: {fault.message}. Please try again.", 403
        ) from None
    async with visit.service.database.reading() as session:
        who = await who_is(session, claims, provider.declared)
    if who is None:
        message = "We know who you are, but you are neither a member here, nor of a partner or of staff."
        raise Stop(f"You are not of {visit.service.programme.name}", message, 403)
    response = await signed_in(visit, who, then)
    visit.site.drop_cookie(response, cookie)
    return response


def provider_of(visit: Visit) -> Provider:
    """The identity provider; Stop where none is named."""
    if visit.site.provider is None:
        raise Stop("There is no such page", "No identity provider is named.", 404)
    return visit.site.provider


def flow_cookie(state: str) -> str:
    """A cookie for each sign-in that is under way, so that two tabs do not take each other's."""
    return f"{FLOW}-{sha256(state.encode()).hexdigest()[:8]}"


async def leave(visit: Visit) -> Response:
    """POST /sign-out; with a page to go on at, somebody else signs in for it."""
    form = await visit.form()
    if visit.secret is not None:
        async with visit.service.database.sessions.begin() as session:
            await end_session(session, visit.secret)
    then = destination(form.get("then"))
    again = urlencode({"then": then, "again": "1"})
    response = leading_to(f"/sign-in?{again}" if then.startswith("/authorize/") else "/account")
    visit.site.drop_cookie(response, SESSION)
    return response


async def signed_in(visit: Visit, who: SignedIn, then: str) -> Response:
    """A new session, and on."""
    former = visit.secret if is_secret(visit.secret) else None
    async with visit.service.database.sessions.begin() as session:
        secret = await start_session(session, who, visit.now, former=former)
    response = leading_to(then)
    visit.site.set_cookie(response, SESSION, secret, seconds=int(SESSION_LASTS.total_seconds()))
    return response
