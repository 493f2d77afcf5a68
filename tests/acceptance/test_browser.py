"""The pages in a real browser: without scripts, on a phone, by keyboard, and as assistive technology sees them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_core_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from pydantic import SecretStr

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.devices import ask_for_device
from auth.scopes import MEMBER_BOUND, scopes_of
from auth.tables import GrantType
from gateway import embedded
from gateway.database import open_database
from gateway.demo.checking import serving
from gateway.serving import listen
from gateway.settings import Settings
from partners import tables
from partners.actors import SYSTEM
from partners.keys import Keys
from partners.programme import Programme
from partners.tables import DisclosureKind
from partners.tables.columns import datetime
from tests.browsers import app_of, asking, person_of
from tests.factories import Club

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 320, "height": 568}
WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """() => [...document.querySelectorAll('button, .button, input:not([type=hidden]), select, nav a')]
    .map(one => [one.textContent || one.name, one.getBoundingClientRect()])
    .filter(([_, box]) => box.height < 44 || box.width < 44).map(([name, _]) => name)"""
OUTLINE = "() => getComputedStyle(document.activeElement).outlineStyle"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@dataclass(frozen=True)
class Place:
    """A running service with a club in it, an app that waits for browsers, and a browser."""

    address: str
    landing: str
    club: Club
    chromium: Browser
    partner: tables.Partner
    member: tables.Member
    people: dict[str, str]
    app: str

    @property
    def question(self) -> str:
        """Where the app sends its users."""
        return self.address + asking(self.app, redirect_uri=self.landing, state="<i>state</i>")

    async def device(self) -> str:
        """What a new point of sale shows."""
        settings = ClientSettings("Till 4", frozenset({"redemptions:write"}), grant_types=(GrantType.DEVICE_CODE,))
        club = self.club
        async with club.database.sessions.begin() as session:
            client, _ = await create_client(session, self.partner.id, settings, Administrator(SYSTEM), club.now)
            codes = await ask_for_device(
                session, club.keys.devices, client, client.scopes, place="Zurich", dpop_jkt=None, now=club.now
            )
        return codes.user_code


@pytest.fixture(scope="module")
async def place(
    new_database: Callable[[], Awaitable[str]],
    servers: embedded.Servers,
    programme: Programme,
    keys: Keys,
    now: datetime,
    secret: bytes,
) -> AsyncIterator[Place]:
    """One for all tests of this file, on a database of its own, since its workers work."""
    async with AsyncExitStack() as closing_all:
        url = await new_database()
        database = open_database(url, connections=5)
        closing_all.push_async_callback(database.engine.dispose)
        settings = Settings(
            database_url=url,
            redis_url=servers.redis_url,
            secret=SecretStr(secret.decode()),
            built_in_sign_in=True,
            port=0,
        )
        listener = closing_all.enter_context(closing(listen(settings)))
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        closing_all.enter_context(serving(settings, listener))
        landing = await closing_all.enter_async_context(await asyncio.start_server(land, "127.0.0.1", 0))
        back = f"http://127.0.0.1:{landing.sockets[0].getsockname()[1]}/back"
        club = Club(database, programme, keys, now)
        partner = await club.partner(name="Silverline Motor Club", handle="silverline")
        member = await club.member()
        own = scopes_of(CallerKind.PARTNER) - MEMBER_BOUND
        people = {
            "Ines": await person_of(database, member=member, name="Ines Keller"),
            "Marc": await person_of(database, partner=partner, name="Marc Vidal", scopes=own),
        }
        app = await app_of(club, partner, name="Silverline app", purpose="to treat you well", redirect_uri=back)
        playwright = await closing_all.enter_async_context(async_playwright())
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        closing_all.push_async_callback(chromium.close)
        yield Place(settings.address, back, club, chromium, partner, member, people, app)


async def land(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The app, as far as it matters: it answers whatever it is asked."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\napp")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.fixture
async def page(place: Place) -> AsyncIterator[Page]:
    """A page of a new browser on a phone, with scripts switched off."""
    context = await new_context(place, java_script_enabled=False)
    yield await context.new_page()
    await context.close()


async def new_context(place: Place, **options: Any) -> BrowserContext:
    context = await place.chromium.new_context(viewport=PHONE, **options)
    context.set_default_timeout(10_000)
    return context


async def sign_in(page: Page, place: Place, name: str, then: str = "/account") -> None:
    await page.goto(f"{place.address}/sign-in?then={then}")
    await page.get_by_role("button", name=f"Continue as {name}").click()
    await page.wait_for_url(place.address + then)


def landed(page: Page, place: Place) -> dict[str, str]:
    """What the app was told."""
    assert page.url.startswith(place.landing + "?"), page.url
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


async def test_a_member_signs_in_allows_an_app_and_withdraws_again(page: Page, place: Place) -> None:
    await page.goto(place.question)
    await page.get_by_role("button", name="Continue as Ines").click()
    await page.get_by_label("For how long").select_option("90 days")
    await page.get_by_role("button", name="Allow").click()
    told = landed(page, place)
    assert told.keys() == {"code", "state", "iss"}
    assert told["state"] == "<i>state</i>"
    await page.goto(place.address + "/consents")
    assert await page.get_by_role("heading", name="Silverline Motor Club").count() == 1
    await page.get_by_role("link", name="Withdraw what Silverline Motor Club may know").click()
    await page.get_by_role("button", name="Withdraw").click()
    assert "No partner knows anything of you." in await page.inner_text("main")


async def test_an_app_may_lead_on_to_another_host_of_its_own(page: Page, place: Place) -> None:
    async def lead_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {place.landing}?done\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(lead_on, "127.0.0.1", 0) as callback:
        back = f"http://127.0.0.1:{callback.sockets[0].getsockname()[1]}/back"
        app = await app_of(place.club, place.partner, name="Silverline app", redirect_uri=back)
        await sign_in(page, place, "Ines")
        await page.goto(place.address + asking(app, redirect_uri=back))
        await page.get_by_role("button", name="Allow").click()
        await page.wait_for_url(place.landing + "*")
        assert page.url == place.landing + "?done"


async def test_an_app_on_a_persons_machine_may_wait_at_an_ipv6_address(page: Page, place: Place) -> None:
    back = "http://[::1]:1/back"
    app = await app_of(place.club, place.partner, name="Silverline app", redirect_uri=back)
    await sign_in(page, place, "Ines")
    await page.goto(place.address + asking(app, redirect_uri=back))
    async with page.expect_request(back + "?code=*"):
        await page.get_by_role("button", name="Allow").click()


async def test_a_member_refuses_and_the_app_is_told(page: Page, place: Place) -> None:
    await sign_in(page, place, "Ines")
    await page.goto(place.question)
    await page.get_by_role("button", name="Refuse").click()
    assert landed(page, place)["error"] == "access_denied"


async def test_who_can_not_answer_signs_in_as_somebody_else(page: Page, place: Place) -> None:
    await sign_in(page, place, "Marc")
    await page.goto(place.question)
    await page.get_by_role("button", name="Sign in as somebody else").click()
    await page.get_by_role("button", name="Continue as Ines").click()
    assert "asks for your permission" in await page.inner_text("h1")
    await page.get_by_role("button", name="Allow").click()
    assert "code" in landed(page, place)


async def test_the_operators_own_app_gets_its_code_straight_from_the_sign_in(page: Page, place: Place) -> None:
    app = await app_of(place.club, kind=CallerKind.MEMBER, scopes=scopes_of(CallerKind.MEMBER))
    await page.goto(place.address + asking(app))
    async with page.expect_request("https://app.example/back?code=*"):
        await page.get_by_role("button", name="Continue as Ines").click()


async def test_an_own_app_on_a_persons_machine_is_asked_about(page: Page, place: Place) -> None:
    app = await app_of(
        place.club, kind=CallerKind.MEMBER, scopes=scopes_of(CallerKind.MEMBER), redirect_uri=place.landing
    )
    await page.goto(place.address + asking(app, redirect_uri=place.landing))
    await page.get_by_role("button", name="Continue as Ines").click()
    assert "Read your own membership" in await page.inner_text("main")
    await page.get_by_role("button", name="Allow").click()
    assert "code" in landed(page, place)


async def test_an_administrator_connects_a_device(page: Page, place: Place) -> None:
    code = await place.device()
    await sign_in(page, place, "Marc", "/device")
    await page.get_by_label("The code that the device shows").fill(code.lower())
    await page.get_by_role("button", name="Go on").click()
    assert code in await page.inner_text("main")
    await page.get_by_label("Where it stands").fill("")
    await page.get_by_role("button", name="Approve").click()
    assert await page.get_by_role("heading", name="Approve this device?").count() == 1  # the browser asks for a place
    await page.get_by_label("Where it stands").fill("Geneva, counter 2")
    await page.get_by_role("button", name="Approve").click()
    assert "connected at Geneva, counter 2" in await page.inner_text("main")


async def test_an_address_that_is_not_the_apps_is_never_gone_to(page: Page, place: Place) -> None:
    await page.goto(place.address + asking(place.app, redirect_uri="https://evil.example/back"))
    assert page.url.startswith(place.address)
    assert await page.get_by_role("heading", level=1).inner_text() == "The app sent you here with a mistake"


async def test_everything_works_by_keyboard_and_the_focus_is_seen(place: Place) -> None:
    context = await new_context(place)
    page = await context.new_page()
    await page.goto(place.question)
    await tab_to(page, "Continue as Ines")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#lasts")
    await tab_to(page, "lasts")
    await page.keyboard.press("ArrowUp")
    await tab_to(page, "Allow")
    await page.keyboard.press("Enter")
    await page.wait_for_url(place.landing + "**")
    assert "code" in landed(page, place)
    await context.close()


async def tab_to(page: Page, name: str) -> None:
    """Tabs until the focus is there; wherever it is on the way, it shows."""
    for _ in range(30):
        await page.keyboard.press("Tab")
        assert await page.evaluate(OUTLINE) == "solid"
        focused = await page.evaluate("() => document.activeElement.id + ' ' + document.activeElement.textContent")
        if name in focused:
            return
    raise AssertionError(f"the keyboard does not reach {name}")


async def test_the_first_tab_leads_past_the_navigation(place: Place) -> None:
    context = await new_context(place)
    page = await context.new_page()
    await sign_in(page, place, "Ines")
    await page.keyboard.press("Tab")
    assert await page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    assert await page.evaluate("() => document.activeElement.closest('main') !== null")
    await context.close()


async def test_a_foreign_page_can_not_sign_anybody_out(place: Place) -> None:
    context = await new_context(place)
    page = await context.new_page()
    await sign_in(page, place, "Ines")
    foreign = await context.new_page()
    await foreign.goto(place.landing.replace("127.0.0.1", "localhost"))
    await foreign.set_content(f'<form method="post" action="{place.address}/sign-out"><button>x</button></form>')
    await foreign.click("button")
    assert "This form has expired" in await foreign.inner_text("h1")
    await page.reload()
    assert "Signed in as Ines Keller" in await page.inner_text("footer")
    await context.close()


async def every_page(page: Page, place: Place) -> AsyncIterator[str]:
    """Stands at each page in turn, and names it."""
    for path in ("/account", "/sign-in", "/authorize/x"):
        await page.goto(place.address + path)
        yield path
    await page.goto(place.question)
    await page.get_by_role("button", name="Continue as Marc").click()
    yield "a question for somebody else"
    await page.goto(place.address + "/account")
    yield "an administrator's account"
    await page.goto(place.address + "/device")
    yield "/device"
    await page.fill("#user_code", "BBBB-BBBB")
    await page.get_by_role("button", name="Go on").click()
    yield "a wrong code"
    await page.goto(f"{place.address}/device?user_code={await place.device()}")
    await page.get_by_role("button", name="Go on").click()
    yield "a device"
    await sign_in(page, place, "Ines")
    yield "a member's account"
    await page.goto(place.question)
    yield "a question"
    await page.get_by_role("button", name="Allow").click()
    await page.goto(place.address + "/consents")
    yield "/consents"
    await page.goto(place.address + "/consents/silverline/withdraw")
    yield "a withdrawal"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_and_fits_a_small_phone(place: Place, scheme: Any) -> None:
    async with place.club.database.sessions.begin() as session:
        session.add(
            tables.Disclosure(
                member_id=place.member.id,
                at=place.club.now,
                partner_id=place.partner.id,
                client_id=place.app,
                kind=DisclosureKind.MEMBERSHIP,
            )
        )
    context = await new_context(place, color_scheme=scheme)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    seen = []
    async for name in every_page(page, place):
        seen.append(name)
        found = await Axe().run(page)
        broken = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
        assert (name, broken) == (name, [])
        assert len(found["passes"]) > 10
        assert (name, await page.evaluate(WIDE)) == (name, 0)
        assert (name, await page.evaluate(SMALL)) == (name, [])
        assert await page.evaluate("() => document.querySelectorAll('h1').length") == 1
    assert len(seen) == len(set(seen)) == 12
    assert complaints == []
    await context.close()
