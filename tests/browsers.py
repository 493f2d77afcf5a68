"""A browser as far as HTTP goes: it keeps cookies, reads forms and sends them, and follows nothing by itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import httpx

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.people import keep_person
from auth.scopes import scopes_of
from auth.tables import ClientAuthentication, GrantType
from gateway.database import Database
from partners import tables
from partners.actors import SYSTEM
from tests.api import Api
from tests.factories import Club
from tests.flows import challenge

SAME_ORIGIN = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}


@dataclass
class Form:
    """A form of a page with the values that it would send; a button's come with the button."""

    action: str
    values: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class Forms(HTMLParser):
    """All forms of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._open: Form | None = None
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            assert given["method"] == "post"
            self._open = Form(given["action"])
            self.found.append(self._open)
        if self._open is None:
            return
        if tag == "input":
            self._open.values[given["name"]] = given.get("value", "")
        if tag == "select":
            self._select = given["name"]
        if tag == "option" and ("selected" in given or self._select not in self._open.values):
            self._open.values[self._select] = given["value"]
        if tag == "button":
            self._open.buttons.append((given.get("name", ""), given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None


@dataclass
class Browser:
    """One browser at the service, with its own cookies."""

    client: httpx.AsyncClient

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def post(
        self, path: str, values: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return await self.client.post(path, data=dict(values), headers=SAME_ORIGIN if headers is None else headers)

    async def send(self, page: httpx.Response, action: str, button: str = "", **values: str) -> httpx.Response:
        """Sends the page's form with this action, by the button with this value."""
        for form in Forms(page.text).found:
            pressed = {name: value for name, value in form.buttons if value == button and name}
            if form.action == action and (pressed or not button):
                return await self.post(action, form.values | pressed | values)
        raise AssertionError(f"no form to {action} with {button or 'any button'}: {page.text}")

    async def sign_in(self, person: str, then: str = "/account") -> httpx.Response:
        """As one of the built-in people; the answer leads to `then`."""
        form = Forms((await self.get(f"/sign-in?then={then}")).text).found[0]
        return await self.post("/sign-in", form.values | {"person": person})


def browser(api: Api) -> Browser:
    """A fresh one."""
    transport = api.client._transport
    return Browser(httpx.AsyncClient(transport=transport, base_url=api.service.settings.address))


async def person_of(
    database: Database,
    *,
    member: tables.Member | None = None,
    partner: tables.Partner | None = None,
    name: str = "Ada",
    scopes: frozenset[str] | None = None,
) -> str:
    """Somebody for the built-in sign-in, by handle: of staff unless said otherwise."""
    kind = CallerKind.MEMBER if member else CallerKind.PARTNER if partner else CallerKind.STAFF
    handle = uuid4().hex
    async with database.sessions.begin() as session:
        await keep_person(
            session,
            handle,
            name,
            kind,
            member_id=member.id if member else None,
            partner_id=partner.id if partner else None,
            scopes=scopes_of(kind) if scopes is None else scopes,
        )
    return handle


def mark_of(page: httpx.Response) -> str:
    """What a form of the page carries."""
    return Forms(page.text).found[0].values["mark"]


def text_of(page: httpx.Response) -> str:
    """The page's text without its tags."""
    body = page.text.partition("<body>")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


VERIFIER = "a-verifier-of-43-or-more-characters-for-tests"


async def app_of(
    club: Club,
    partner: tables.Partner | None = None,
    *,
    kind: CallerKind = CallerKind.PARTNER,
    name: str = "The app",
    purpose: str = "perks",
    scopes: frozenset[str] = frozenset({"member.tier:read", "eligibility:read"}),
    redirect_uri: str = "https://app.example/back",
) -> str:
    """A public client that asks persons, by id."""
    settings = ClientSettings(
        name,
        scopes,
        grant_types=(GrantType.AUTHORIZATION_CODE,),
        authentication=ClientAuthentication.NONE,
        redirect_uris=(redirect_uri,),
        purpose=purpose,
    )
    async with club.database.sessions.begin() as session:
        partner_id = partner.id if partner else None
        client, _ = await create_client(session, partner_id, settings, Administrator(SYSTEM), club.now, kind=kind)
        return client.id


def asking(app: str, **changed: str) -> str:
    """The address that an app sends a browser to."""
    return "/oauth/authorize?" + urlencode(
        {
            "response_type": "code",
            "client_id": app,
            "redirect_uri": "https://app.example/back",
            "code_challenge": challenge(VERIFIER),
            "code_challenge_method": "S256",
            "state": "a state",
        }
        | changed
    )


def told(response: httpx.Response) -> dict[str, str]:
    """What an app is told by the address that the browser is sent back to."""
    assert response.status_code == 303, text_of(response)
    return dict(parse_qsl(urlsplit(response.headers["location"]).query))
