"""An app asks for leave: the question belongs to the browser it was first shown in, and is answered by a person."""

import re
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from auth import authorization
from auth.authorization import PageError, Period, Question, RedirectError
from auth.caller import CallerKind
from auth.forms import read_form, read_query
from auth.tables import BrowserSession
from gateway.pages.showing import leading_to
from gateway.pages.visits import Visit
from partners.consents import SCOPES, live_consent

TICKET = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9a-f]{64})")
PERIODS = {
    "quarter": ("90 days", timedelta(days=90)),
    "year": ("1 year", timedelta(days=365)),
    "open": ("Until I withdraw it", None),
}
WANTED = {
    CallerKind.MEMBER: "a member",
    CallerKind.PARTNER: "an administrator of {partner}",
    CallerKind.STAFF: "somebody of staff",
}


async def begin(visit: Visit) -> Response:
    """GET /oauth/authorize (RFC 6749 section 3.1)."""
    parameters = read_query(visit.request)
    try:
        async with visit.service.database.sessions.begin() as session:
            issuer = visit.service.authority.issuer
            request = await authorization.begin(session, parameters, issuer, visit.now)
    except RedirectError as refused:
        return leading_to(refused.url)
    return leading_to(f"/authorize/{request.id}.{visit.site.marks.make(visit.browser, purpose(request.id))}")


async def begin_by_form(visit: Visit) -> Response:
    """POST /oauth/authorize: as GET, so that the browser sends its cookies, which it keeps from foreign forms."""
    return leading_to(f"/oauth/authorize?{urlencode(await read_form(visit.request))}")


async def ask(visit: Visit) -> Response:
    """GET /authorize/{ticket}: the operator's own apps are not asked about, where the address that the code goes to is
    surely theirs. On a person's own machine any program can pose as them (RFC 8252 section 8.6)."""
    request_id, question = await question_of(visit)
    who = visit.signed_in(visit.request.url.path)
    if not question.is_for(who):
        wanted = WANTED[question.who].format(partner=question.partner.name if question.partner else "")
        targets = [question.redirect_uri]
        return visit.show("somebody_else.html", 403, form_targets=targets, client=question.client, wanted=wanted)
    if question.partner is None and question.redirect_uri.startswith("https://"):
        return leading_to(await allow(visit, request_id, who, None))
    return await asked(visit, question, who, {})


async def answer(visit: Visit) -> Response:
    """POST /authorize/{ticket}: yes or no, once."""
    request_id, question = await question_of(visit)
    who = visit.signed_in(visit.request.url.path)
    form = await visit.form()
    if form.get("answer") == "refuse":
        async with visit.service.database.sessions.begin() as session:
            address = await authorization.refuse(session, request_id, visit.service.authority.issuer, visit.now)
        return leading_to(address)
    period = None
    if has_period(question):
        if form.get("lasts") not in PERIODS:
            return await asked(visit, question, who, {"lasts": "Choose for how long"})
        lasts = PERIODS[form["lasts"]][1]
        period = Period(None if lasts is None else visit.now + lasts)
    if form.get("answer") != "allow":
        return await asked(visit, question, who, {"answer": "Choose whether to allow it"})
    return leading_to(await allow(visit, request_id, who, period))


async def allow(visit: Visit, request_id: UUID, who: BrowserSession, period: Period | None) -> str:
    """The yes: where it leads to."""
    service = visit.service
    async with service.database.sessions.begin() as session:
        return await authorization.allow(
            session,
            request_id,
            who,
            pairwise_key=service.keys.pairwise,
            issuer=service.authority.issuer,
            now=visit.now,
            period=period,
        )


async def asked(visit: Visit, question: Question, who: BrowserSession, faults: dict[str, str]) -> Response:
    """The question to a person whom it is for."""
    return visit.show(
        "question.html",
        400 if faults else 200,
        form_targets=[question.redirect_uri],
        asking=question.partner.name if question.partner else question.client,
        client=question.client,
        purpose=question.purpose if question.partner else None,
        scopes=[words for _, words in question.scopes],
        kept=await kept(visit, question, who),
        bound=has_period(question),
        periods={name: label for name, (label, _) in PERIODS.items()},
        lasts="year",
        faults=faults,
    )


async def kept(visit: Visit, question: Question, who: BrowserSession) -> list[str]:
    """What the member has let the partner do before, in words: the period that is chosen now holds for it too."""
    if question.partner is None or who.member_id is None:
        return []
    async with visit.service.database.reading() as session:
        former = await live_consent(session, who.member_id, question.partner.id)
    if former is None or (former.expires_at is not None and former.expires_at <= visit.now):
        return []
    added = dict(question.scopes)
    return [words for scope, words in SCOPES.items() if scope in former.scopes and scope not in added]


def has_period(question: Question) -> bool:
    """Whether a yes is a member's consent to a partner, which ends at some time or never."""
    return question.partner is not None and question.who is CallerKind.MEMBER


async def question_of(visit: Visit) -> tuple[UUID, Question]:
    """The question of the address, if it is this browser's; PageError."""
    found = TICKET.fullmatch(visit.request.path_params["ticket"])
    if found is None or not visit.site.marks.holds(found[2], visit.browser, purpose(UUID(found[1]))):
        message = "Go back to the app and start again. If this goes on, let your browser accept our cookies."
        raise PageError("This page belongs to another browser", message)
    request_id = UUID(found[1])
    async with visit.service.database.reading() as session:
        return request_id, await authorization.question_of(session, request_id, visit.now)


def purpose(request_id: UUID) -> str:
    """What the mark of a ticket is for."""
    return f"request:{request_id}"


async def leads_to(visit: Visit, then: str) -> tuple[str | None, list[str]]:
    """The app that a sign-in is for, and the address that it goes back to: a sign-in may lead straight there."""
    found = TICKET.fullmatch(then.removeprefix("/authorize/"))
    if found is None:
        return None, []
    try:
        async with visit.service.database.reading() as session:
            question = await authorization.question_of(session, UUID(found[1]), visit.now)
    except PageError:
        return None, []
    return question.client, [question.redirect_uri]
