"""One request of a browser: who is signed in with it, what its forms must carry, and how it is answered."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import structlog
from authlib.oauth2.rfc6749 import OAuth2Error  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from auth.authorization import PageError
from auth.errors import Throttled
from auth.forms import read_form
from auth.sessions import Marks, find_session, is_secret, new_secret
from auth.tables import BrowserSession
from gateway.pages.showing import Renderer, leading_to, page
from partners.errors import NotFound, PerksError, Unavailable

if TYPE_CHECKING:
    from auth.sign_in import Provider
    from gateway.app import Service

log = structlog.get_logger()

DESTINATION = re.compile(
    r"/(account|consents(/[a-z0-9-]{1,63}/withdraw)?|device(\?user_code=[A-Za-z0-9-]{1,20})?|authorize/[0-9a-f.-]{1,200})"
)
HOME = "/account"
FORM = "form"
RETRY_SECONDS = 5


class Stop(Exception):
    """The visit ends with a page that says why; nothing was changed."""

    def __init__(self, title: str, message: str, status: int = 400) -> None:
        super().__init__(title)
        self.title, self.message, self.status = title, message, status


class SignInNeeded(Exception):
    """Somebody has to sign in first; then it goes on at `then`."""

    def __init__(self, then: str) -> None:
        super().__init__(then)
        self.then = then


@dataclass(frozen=True, slots=True)
class Site:
    """What all pages work with."""

    service: "Service"
    marks: Marks
    render: Renderer
    provider: "Provider | None"

    @property
    def built_in(self) -> bool:
        """Whether the built-in sign-in is on."""
        return self.service.settings.built_in_sign_in

    @property
    def secure(self) -> bool:
        """Whether browsers reach us by https; on plain http, which is this machine alone, cookies can't demand it."""
        return self.service.settings.address.startswith("https://")

    def cookie(self, name: str) -> str:
        """A cookie's whole name: `__Host-` keeps other hosts from setting it (RFC 6265bis section 4.1.3.2)."""
        return f"__Host-{name}" if self.secure else name

    def set_cookie(self, response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
        """A cookie for us alone; without `seconds` it is gone with the browser."""
        response.set_cookie(
            self.cookie(name), value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def drop_cookie(self, response: Response, name: str) -> None:
        """Takes a cookie away."""
        response.delete_cookie(self.cookie(name), path="/", secure=self.secure, httponly=True, samesite="lax")


SESSION, BROWSER = "perks", "perks-browser"


@dataclass(frozen=True, slots=True)
class Visit:
    """`browser` is the random cookie that every browser has; `secret` the one of who is signed in."""

    site: Site
    request: Request
    now: datetime
    browser: str
    secret: str | None
    who: BrowserSession | None

    @property
    def service(self) -> "Service":
        """What the process holds."""
        return self.site.service

    @property
    def mark(self) -> str:
        """What every form of a page carries: it fits this browser and this sign-in only."""
        return self.site.marks.make(self._cookie, FORM)

    @property
    def _cookie(self) -> str:
        return self.secret if self.who is not None and self.secret is not None else self.browser

    def signed_in(self, then: str) -> BrowserSession:
        """Who is signed in; SignInNeeded."""
        if self.who is None:
            raise SignInNeeded(then)
        return self.who

    async def form(self) -> dict[str, str]:
        """What a page of ours sent from this browser and this sign-in; Stop for anything else."""
        # no-referrer makes browsers send `Origin: null`; where they do not tell the site either, the mark decides.
        origin = self.request.headers.get("origin", "null")
        site = self.request.headers.get("sec-fetch-site")
        foreign = site != "same-origin" if site is not None else origin not in ("null", self.service.settings.address)
        form = await read_form(self.request)
        if foreign or not self.site.marks.holds(form.get("mark", ""), self._cookie, FORM):
            raise Stop(
                "This form has expired",
                "It was made for another sign-in or came from another site. Nothing was changed.",
                403,
            )
        return form

    def show(self, template: str, status: int = 200, *, form_targets: Iterable[str] = (), **values: Any) -> Response:
        """A page."""
        shared = {"who": self.who, "mark": self.mark, "path": self.request.url.path}
        return page(self.site.render(template, shared | values), status, form_targets=form_targets)


def destination(asked: str | None) -> str:
    """Where to go on: one of our own pages, whatever was asked for."""
    return asked if asked is not None and DESTINATION.fullmatch(asked) else HOME


Handler = Callable[[Visit], Awaitable[Response]]


def endpoint(site: Site, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler as Starlette calls it: whatever happens, a person sees a page of ours."""

    async def answer(request: Request) -> Response:
        known = request.cookies.get(site.cookie(BROWSER))
        browser = known if known is not None and is_secret(known) else new_secret()
        secret, now = request.cookies.get(site.cookie(SESSION)), site.service.clock()
        visit = Visit(site, request, now, browser, secret, None)
        try:
            async with site.service.database.reading() as session:
                visit = Visit(site, request, now, browser, secret, await find_session(session, secret, now))
            response = await handler(visit)
        except SignInNeeded as needed:
            response = led_to_sign_in(visit, needed.then)
        except Exception as fault:
            response = explained(visit, fault)
        # Browsers keep it from foreign forms, whose answer must not take the place of the one that there is.
        if browser != known and request.method != "POST":
            site.set_cookie(response, BROWSER, browser)
        return response

    return answer


def led_to_sign_in(visit: Visit, then: str) -> Response:
    """To the sign-in; from a form by a link, since browsers hold what follows a form to `form-action`."""
    address = f"/sign-in?{urlencode({'then': then})}"
    if visit.request.method != "POST":
        return leading_to(address)
    message = "Your sign-in has ended, so nothing was changed."
    return visit.show("message.html", 403, title="Please sign in again", message=message, sign_in=address)


def explained(visit: Visit, fault: Exception) -> Response:
    """A page for what went wrong; what is ours to mend is only logged."""
    wait = fault.details["retryAfter"] if isinstance(fault, Throttled) else RETRY_SECONDS
    if isinstance(fault, OAuth2Error):
        fault = Stop(
            "This can’t be read", fault.get_error_description() or "The request is malformed.", fault.status_code
        )
    elif isinstance(fault, PageError):
        fault = Stop(fault.title, fault.message)
    elif isinstance(fault, Throttled):
        fault = Stop("Too many attempts", f"Please wait {wait} seconds, then try again.", 429)
    elif isinstance(fault, NotFound):
        fault = Stop("There is no such page", "It may have been there before.", 404)
    elif isinstance(fault, PerksError) and not isinstance(fault, Unavailable):
        fault = Stop("That is not possible", fault.message)
    elif isinstance(fault, (Unavailable, SQLAlchemyError, OSError)):
        reason = fault.message if isinstance(fault, Unavailable) else type(fault).__name__
        log.error("page_unavailable", path=visit.request.scope["route"].path, reason=reason)
        fault = Stop("We will be back in a moment", "Something that we need can’t be reached. Please try again.", 503)
    elif not isinstance(fault, Stop):
        log.error("page_failed", path=visit.request.scope["route"].path, exc_info=fault)
        fault = Stop("That should not have happened", "It is our mistake, and it is noted. Nothing was changed.", 500)
    response = visit.show("message.html", fault.status, title=fault.title, message=fault.message, sign_in=None)
    if fault.status in (429, 503):
        response.headers["Retry-After"] = str(wait)
    return response
