"""Every flow by openid-client of npm, an OAuth client that others wrote; tests/outside/client.mjs is its side."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey
from pydantic import SecretStr

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.scopes import scopes_of
from auth.tables import ClientAuthentication, GrantType
from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from partners import tables
from partners.actors import SYSTEM
from tests.api import Api
from tests.browsers import Browser, person_of
from tests.factories import Club
from tests.node import installed
from tests.serving import serving

pytestmark = pytest.mark.long

BACK = "http://127.0.0.1:9/back"
WEB = (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN)


@dataclass
class Stage:
    """The service in real time, somebody of each kind who signs in, and what the script has to know."""

    api: Api
    people: dict[str, str]
    settings: dict[str, Any]

    async def perform(self, step: dict[str, Any]) -> str:
        """Plays the browser: the address that it ends at."""
        async with httpx.AsyncClient(base_url=self.api.service.settings.address) as client:
            visitor = Browser(client)
            page = await self.arrived(visitor, step["visit"], self.people[step["as"]])
            if "code" in step:
                page = await self.approved(visitor, page)
                return str(page.url)
            if page.status_code != 303:
                page = await visitor.send(page, page.url.path, "allow")
            return str(page.headers["location"])

    async def arrived(self, visitor: Browser, address: str, person: str) -> httpx.Response:
        """Where redirects and the sign-in lead to, without leaving the service."""
        response = await visitor.get(address)
        for _ in range(8):
            if response.status_code == 303:
                location = response.headers["location"]
                if location.startswith(BACK):
                    return response
                response = await visitor.get(location)
            elif response.url.path == "/sign-in":
                response = await visitor.sign_in(person, then=dict(response.url.params)["then"])
            else:
                break
        return response

    async def approved(self, visitor: Browser, page: httpx.Response) -> httpx.Response:
        """Through the pages of a point of sale: the code is filled in by its link, then somebody says yes."""
        question = await visitor.send(page, "/device", "look")
        answered = await visitor.send(question, "/device", "approve", place="Till 3")
        assert answered.status_code in (200, 303), answered.text
        return answered


async def registered(
    club: Club, partner: tables.Partner | None, kind: CallerKind, scopes: frozenset[str], **chosen: Any
) -> dict[str, str | None]:
    async with club.database.sessions.begin() as session:
        client, secret = await create_client(
            session,
            None if partner is None else partner.id,
            ClientSettings("An app", scopes, **chosen),
            Administrator(SYSTEM),
            club.now,
            kind=kind,
        )
        return {"id": client.id, "secret": secret}


@pytest.fixture
async def stage(servers: embedded.Servers, database: Database, secret: bytes, club: Club) -> AsyncIterator[Stage]:
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        built_in_sign_in=True,
    )
    partner, member = await club.partner(), await club.member()
    alias = await club.consent(member, partner)
    key = ECKey.generate_key("P-256", {"kid": "machine-1"})
    public = {"keys": [key.as_dict(private=False)]}
    bound = frozenset({"member.tier:read", "eligibility:read"})
    everything = scopes_of(CallerKind.PARTNER)
    async with serving(settings, work=True) as api:
        yield Stage(
            api,
            people={
                "member": await person_of(database, member=member),
                "administrator": await person_of(database, partner=partner),
            },
            settings={
                "issuer": api.service.authority.issuer,
                "audience": api.service.authority.audience,
                "redirect": BACK,
                "alias": alias,
                "shop": await registered(
                    club, partner, CallerKind.PARTNER, bound, grant_types=WEB, redirect_uris=(BACK,), requires_dpop=True
                ),
                "app": await registered(
                    club,
                    None,
                    CallerKind.MEMBER,
                    scopes_of(CallerKind.MEMBER),
                    grant_types=WEB,
                    redirect_uris=(BACK,),
                    authentication=ClientAuthentication.NONE,
                ),
                "till": await registered(
                    club,
                    partner,
                    CallerKind.PARTNER,
                    everything,
                    grant_types=(GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN),
                    authentication=ClientAuthentication.NONE,
                ),
                "machine": await registered(
                    club,
                    partner,
                    CallerKind.PARTNER,
                    everything,
                    authentication=ClientAuthentication.KEY,
                    public_keys=public,
                )
                | {"key": key.as_dict(private=True)},
            },
        )


async def followed(script: Process, stage: Stage) -> list[dict[str, Any]]:
    """What the script says, while its browser is played."""
    assert script.stdin is not None
    assert script.stdout is not None
    said = []
    async for line in script.stdout:
        said.append(step := json.loads(line))
        if "visit" in step:
            script.stdin.write((await stage.perform(step) + "\n").encode())
            await script.stdin.drain()
    return said


async def test_every_flow_works_with_openid_client(stage: Stage) -> None:
    environment = os.environ | {"PERKS_OUTSIDE": json.dumps(stage.settings)}
    folder = await asyncio.to_thread(installed)
    script = await asyncio.create_subprocess_exec(
        "node", "client.mjs", cwd=folder, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        said = await asyncio.wait_for(followed(script, stage), 120)
        assert script.stderr is not None
        faults = (await script.stderr.read()).decode()
        assert await script.wait() == 0, faults
    finally:
        if script.returncode is None:
            script.kill()
    assert [step["passed"] for step in said if "passed" in step] == [
        "client credentials by private_key_jwt, token validated by oauth4webapi",
        "code with PKCE, PAR and DPoP; refresh, introspection, revocation",
        "public client with PKCE and rotation",
        "device",
    ]
    assert said[-1] == {"done": True}
