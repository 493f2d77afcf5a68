"""The page that says who is signed in, and what from here."""

from starlette.responses import Response

from auth.caller import CallerKind
from auth.scopes import SCOPES
from auth.tables import BrowserSession
from gateway.pages.visits import Visit
from partners.tables import Partner


async def show(visit: Visit) -> Response:
    """GET /account."""
    if visit.who is None:
        return visit.show("account.html")
    words = SCOPES[CallerKind(visit.who.kind)]
    return visit.show(
        "account.html",
        role=await role_of(visit, visit.who),
        rights=[words[scope] for scope in visit.who.scopes if scope in words],
        connects=may_connect(visit.who),
    )


async def role_of(visit: Visit, who: BrowserSession) -> str:
    """What somebody is here, in a few words."""
    club = visit.service.programme.name
    if who.partner_id is None:
        return f"{'Member' if who.kind == CallerKind.MEMBER else 'Staff'} of {club}"
    async with visit.service.database.reading() as session:
        partner = await session.get(Partner, who.partner_id)
    return f"Administrator of {partner.name if partner else 'a partner'}"


def may_connect(who: BrowserSession) -> bool:
    """Whether somebody can approve points of sale."""
    return {CallerKind.PARTNER: "devices:enrol", CallerKind.STAFF: "partners:admin"}.get(
        CallerKind(who.kind), ""
    ) in who.scopes
