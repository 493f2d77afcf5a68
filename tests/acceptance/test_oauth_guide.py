"""The guide to tokens is true: each of its commands runs as it stands, one after the other, over real HTTP."""

import asyncio
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from auth import authorization
from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.devices import approve_device
from auth.tables import BrowserSession, ClientAuthentication, GrantType
from partners import tables
from partners.actors import SYSTEM
from tests.api import Api
from tests.factories import Club
from tests.flows import challenge

GUIDE = Path(__file__).parents[2] / "docs" / "oauth.md"
TILL_SCOPES = "eligibility:read redemptions:write"
BACK = "https://app.example/back"


@dataclass
class Reader:
    """Somebody who follows the guide: the commands, in order, and what was learnt on the way."""

    api: Api
    club: Club
    known: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=lambda: re.findall(r"```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.S))

    async def next(self) -> dict[str, Any]:
        """Runs the next command of the guide; what it answers."""
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            self.commands.pop(0),
            env={"PATH": os.environ["PATH"]} | self.known,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        answer: dict[str, Any] = json.loads(out)
        return answer

    async def client(
        self, name: str, partner: tables.Partner | None, scopes: str, *grants: str, **settings: Any
    ) -> None:
        kind = CallerKind.MEMBER if partner is None else CallerKind.PARTNER
        chosen = ClientSettings(name, frozenset(scopes.split()), grant_types=grants, **settings)
        async with self.club.database.sessions.begin() as session:
            client, secret = await create_client(
                session,
                None if partner is None else partner.id,
                chosen,
                Administrator(SYSTEM),
                self.api.service.clock(),
                kind=kind,
            )
        self.known |= {f"{name}_ID": client.id, f"{name}_SECRET": secret or ""}

    async def approve_till(self, user_code: str, partner: tables.Partner) -> None:
        person = await self.signed_in(CallerKind.PARTNER, partner=partner)
        async with self.club.database.sessions.begin() as session:
            assert await approve_device(
                session, self.club.keys.devices, user_code, person, "Counter 2", self.api.service.clock()
            )

    async def allow_app(self, request_uri: str, member: tables.Member) -> str:
        """The browser's part: the code."""
        service, now = self.api.service, self.api.service.clock()
        person = await self.signed_in(CallerKind.MEMBER, member=member)
        async with service.database.sessions.begin() as session:
            pushed = {"client_id": self.known["APP_ID"], "request_uri": request_uri}
            request = await authorization.begin(session, pushed, service.authority.issuer, now)
            address = await authorization.allow(
                session,
                request.id,
                person,
                pairwise_key=service.keys.pairwise,
                issuer=service.authority.issuer,
                now=now,
            )
        return parse_qs(urlsplit(address).query)["code"][0]

    async def signed_in(
        self, kind: CallerKind, *, partner: tables.Partner | None = None, member: tables.Member | None = None
    ) -> BrowserSession:
        now = self.api.service.clock()
        return BrowserSession(
            hash=secrets.token_bytes(32),
            kind=kind,
            subject="ana" if member is None else str(member.id),
            name="Ana",
            partner_id=None if partner is None else partner.id,
            member_id=None if member is None else member.id,
            scopes=["devices:enrol"] if member is None else ["me:read"],
            created_at=now,
            expires_at=now,
        )


async def test_every_command_of_the_guide_runs_and_gets_what_the_guide_says(live: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    reader = Reader(live, club, {"PERKS": str(live.client.base_url).rstrip("/")})
    known, verifier = reader.known, secrets.token_urlsafe(48)
    await reader.client("CLIENT", partner, "eligibility:read perks:read", GrantType.CLIENT_CREDENTIALS)
    till = (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN, GrantType.TOKEN_EXCHANGE)
    await reader.client("TILL", partner, TILL_SCOPES, *till, authentication=ClientAuthentication.NONE)
    await reader.client("APP", None, "me:read", GrantType.AUTHORIZATION_CODE, redirect_uris=(BACK,))

    own = await reader.next()
    assert (own["token_type"], own["expires_in"], own["scope"]) == ("Bearer", 600, "eligibility:read")
    known["ACCESS_TOKEN"] = own["access_token"]
    assert (await reader.next())["data"]["viewer"] == {"kind": "PARTNER", "scopes": ["eligibility:read"]}

    asked = await reader.next()
    assert (asked["expires_in"], asked["interval"]) == (600, 5)
    await reader.approve_till(asked["user_code"], partner)
    known["DEVICE_CODE"] = asked["device_code"]
    enrolled = await reader.next()
    assert (enrolled["expires_in"], enrolled["scope"]) == (300, TILL_SCOPES)
    known |= {"TILL_TOKEN": enrolled["access_token"], "REFRESH_TOKEN": enrolled["refresh_token"]}

    known["MEMBER_TOKEN"] = str(live.member(member).token)
    known["PASS"] = (await reader.next())["data"]["createPass"]["pass"]["code"]
    exchanged = await reader.next()
    assert (exchanged["expires_in"], exchanged["scope"]) == (120, TILL_SCOPES)

    known |= {"REDIRECT_URI": BACK, "CODE_CHALLENGE": challenge(verifier), "CODE_VERIFIER": verifier}
    pushed = await reader.next()
    assert pushed["expires_in"] == 90
    known["CODE"] = await reader.allow_app(pushed["request_uri"], member)
    signed_in = await reader.next()
    assert (signed_in["expires_in"], signed_in["scope"]) == (300, "me:read")

    renewed = await reader.next()
    assert renewed["refresh_token"] != known["REFRESH_TOKEN"]
    assert reader.commands == []


def test_the_guides_links_lead_somewhere() -> None:
    text = GUIDE.read_text("utf-8")
    headings = {
        re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_the_guides_answers_are_json() -> None:
    blocks = re.findall(r"```json\n(.*?)```", GUIDE.read_text("utf-8"), re.S)
    assert [sorted(json.loads(block))[0] for block in blocks] == ["access_token", "device_code", "access_token"]
