"""The pages that people see in a browser, a file per noun: plain HTML that works without scripts and on a phone."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from auth.people import require_this_machine
from auth.sessions import Marks
from auth.sign_in import Provider
from gateway.pages import account, authorization, consents, devices, sign_in
from gateway.pages.showing import STYLES_PATH, renderer, stylesheet
from gateway.pages.visits import Handler, Site, endpoint

if TYPE_CHECKING:
    from gateway.app import Service

PAGES: dict[tuple[str, str], Handler] = {
    ("GET", "/account"): account.show,
    ("GET", "/sign-in"): sign_in.ask,
    ("POST", "/sign-in"): sign_in.answer,
    ("GET", "/sign-in/start"): sign_in.start,
    ("GET", "/sign-in/callback"): sign_in.finish,
    ("POST", "/sign-out"): sign_in.leave,
    ("GET", "/oauth/authorize"): authorization.begin,
    ("POST", "/oauth/authorize"): authorization.begin_by_form,
    ("GET", "/authorize/{ticket}"): authorization.ask,
    ("POST", "/authorize/{ticket}"): authorization.answer,
    ("GET", "/device"): devices.ask,
    ("POST", "/device"): devices.answer,
    ("GET", "/consents"): consents.show,
    ("GET", "/consents/{partner}/withdraw"): consents.ask,
    ("POST", "/consents/{partner}/withdraw"): consents.withdraw,
}


def routes(service: "Service") -> list[Route]:
    """All of them. BadInput when the built-in sign-in is on and the service is not of this machine alone."""
    settings, programme = service.settings, service.programme
    if settings.built_in_sign_in:
        require_this_machine(settings.address)
    assert settings.secret is not None
    secret, outside = settings.secret.get_secret_value().encode(), service.outside
    provider = None
    if outside.identity.sign_in is not None and outside.web is not None:
        provider = Provider(outside.identity.sign_in, outside.web, settings.address, secret)
    site = Site(service, Marks(secret), renderer(programme.name, programme.time_zone), provider)

    async def styles(_: Request) -> Response:
        return stylesheet()

    pages = [Route(path, endpoint(site, page), methods=[method]) for (method, path), page in PAGES.items()]
    return [*pages, Route(STYLES_PATH, styles)]
