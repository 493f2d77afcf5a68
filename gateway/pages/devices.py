"""A point of sale waits for a person's yes: what it is, for which partner and where is shown before."""

from starlette.responses import Response

from auth.attempts import address_of
from auth.devices import (
    PLACE_CHARACTERS_MAX,
    DeviceQuestion,
    approve_device,
    check_place,
    deny_device,
    find_pending,
)
from auth.tables import BrowserSession
from gateway.pages.account import may_connect
from gateway.pages.visits import Stop, Visit
from partners.errors import BadInput

WRONG_CODE = "There is no device with this code, or it waits no longer"
NO_PLACE = f"Say where the device stands, in 1 to {PLACE_CHARACTERS_MAX} characters"


async def ask(visit: Visit) -> Response:
    """GET /device: the code is typed; from a link that holds it, it is filled in and still has to be sent."""
    code = visit.request.query_params.get("user_code", "")[:20]
    person(visit, f"/device?user_code={code}" if code else "/device")
    return visit.show("device_code.html", user_code=code, faults={})


async def answer(visit: Visit) -> Response:
    """POST /device: looks a code up, approves or denies."""
    who = person(visit, "/device")
    form = await visit.form()
    code, key = form.get("user_code", ""), visit.service.keys.devices
    attempt = await visit.service.limits.user_code(who.subject, address_of(visit.request.scope))
    async with visit.service.database.reading() as session:
        question = await find_pending(session, key, code, who, visit.now)
    if question is None:
        return visit.show("device_code.html", 400, user_code=code, faults={"user_code": WRONG_CODE})
    await attempt.succeeded()
    if form.get("answer") == "approve":
        return await approve(visit, who, code, question, form.get("place", ""))
    if form.get("answer") == "deny":
        async with visit.service.database.sessions.begin() as session:
            denied = await deny_device(session, key, code, who, visit.now)
        return done(visit, "Denied", f"{question.client} gets nothing.") if denied else late(visit)
    return looked_at(visit, code, question, question.place or "", {})


async def approve(visit: Visit, who: BrowserSession, code: str, question: DeviceQuestion, place: str) -> Response:
    """The yes, which needs a place."""
    try:
        place = check_place(place)
    except BadInput:
        return looked_at(visit, code, question, place, {"place": NO_PLACE}, 400)
    async with visit.service.database.sessions.begin() as session:
        approved = await approve_device(session, visit.service.keys.devices, code, who, place, visit.now)
    if not approved:
        return late(visit)
    return done(visit, "Approved", f"{question.client} of {question.partner} is connected at {place}.")


def person(visit: Visit, then: str) -> BrowserSession:
    """Who is signed in and may approve points of sale."""
    who = visit.signed_in(then)
    if not may_connect(who):
        raise Stop("This page is for partners", f"You are signed in as {who.name}, who can’t connect devices.", 403)
    return who


def looked_at(
    visit: Visit, code: str, question: DeviceQuestion, place: str, faults: dict[str, str], status: int = 200
) -> Response:
    """What is asked for, before anybody says yes."""
    letters = "".join(filter(str.isalpha, code.upper()))
    return visit.show(
        "device.html",
        status,
        user_code=f"{letters[:4]}-{letters[4:]}",
        client=question.client,
        partner=question.partner,
        scopes=[words for _, words in question.scopes],
        place=place,
        expires_at=question.expires_at,
        faults=faults,
    )


def done(visit: Visit, title: str, message: str) -> Response:
    """It is settled."""
    return visit.show("message.html", title=title, message=message, sign_in=None)


def late(visit: Visit) -> Response:
    """Somebody else was faster."""
    return visit.show("device_code.html", 409, user_code="", faults={"user_code": WRONG_CODE})
