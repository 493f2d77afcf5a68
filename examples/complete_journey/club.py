"""The club of the journey on a running service: who speaks there, with which token, and whom partners know."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
from sqlalchemy import text

from auth.caller import Caller, CallerKind
from auth.clients import register_client
from auth.scopes import scopes_of
from auth.tokens import mint_access_token
from examples.complete_journey.files import external_id
from gateway.app import Service
from partners.catalogue import list_partners

CONNECTIONS = 16
TOKEN_LIFETIME = timedelta(hours=1)
CLIENT_NAME = "complete-journey"
PARTNER_SCOPES = (
    "perks:read",
    "perks:write",
    "member.tier:read",
    "eligibility:read",
    "holds:write",
    "redemptions:read",
    "redemptions:write",
)
FIND_PARTNER = "query ($handle: String!) { partner(by: {handle: $handle}) { id } }"
CREATE_PARTNER = "mutation ($input: CreatePartnerInput!) { createPartner(input: $input) { partner { id } } }"
KNOWN = """
SELECT m.external_id, m.id, p.handle, a.alias FROM member m
LEFT JOIN consent c ON c.member_id = m.id AND c.state = 'GRANTED' LEFT JOIN partner p ON p.id = c.partner_id
LEFT JOIN member_alias a ON a.member_id = m.id AND a.partner_id = c.partner_id
"""


class Unanswered(Exception):
    """The service answered with an error where the replay expects none."""


@dataclass(frozen=True, slots=True)
class Voice:
    """One caller with its token: called with a document and its variables it returns the data, or raises Unanswered."""

    http: aiohttp.ClientSession
    token: str

    async def __call__(self, document: str, **variables: object) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}"}
        request = {"query": document, "variables": variables}
        async with self.http.post("/graphql", json=request, headers=headers) as response:
            body: dict[str, Any] = await response.json()
        if "errors" in body:
            error = body["errors"][0]
            raise Unanswered(f"{error['extensions']['code']}: {error['message']}")
        data: dict[str, Any] = body["data"]
        return data


@dataclass
class Club:
    """Everybody who speaks: `partners` by handle, members by the number of their household, who are known to a partner
    by `aliases` once they consented."""

    service: Service
    http: aiohttp.ClientSession
    partners: dict[str, Voice] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    members: dict[int, Voice] = field(default_factory=dict)

    def staff(self) -> Voice:
        """The partner desk, for the minutes that it takes."""
        return self.voice(Caller(CallerKind.STAFF, "desk", frozenset({"partners:admin"}), client_id=CLIENT_NAME))

    def member(self, household: int) -> Voice:
        """A household's own voice, its token minted as `perks tokens mint` does."""
        if household not in self.members:
            member = self.ids[external_id(household)]
            scopes = scopes_of(CallerKind.MEMBER)
            self.members[household] = self.voice(
                Caller(CallerKind.MEMBER, str(member), scopes, client_id=CLIENT_NAME, member_id=member)
            )
        return self.members[household]

    def voice(self, caller: Caller) -> Voice:
        """A voice with a token of its own."""
        service = self.service
        token = mint_access_token(service.ring, service.authority, caller, service.clock(), TOKEN_LIFETIME)
        return Voice(self.http, token)

    async def learn_members(self) -> None:
        """The members' ids, and the aliases under which partners know those who consented."""
        async with self.service.database.sessions() as session:
            for member, id, partner, alias in await session.execute(text(KNOWN)):
                self.ids[member] = id
                if partner is not None:
                    self.aliases[partner, member] = alias


async def create_partners(club: Club, handles: Iterable[str]) -> None:
    """One partner for each type of campaign, where there is none yet."""
    staff = club.staff()
    for handle in handles:
        if (await staff(FIND_PARTNER, handle=handle))["partner"] is None:
            name = f"Campaigns of {handle.replace('-', ' ')}"
            await staff(CREATE_PARTNER, input={"handle": handle, "name": name, "kind": "OTHER"})


async def sign_in_partners(club: Club, handles: Iterable[str], credentials: Path | None) -> None:
    """Every partner's token by client credentials (RFC 6749 section 4.4).

    The clients are those of the file; it is written when it is not there. Idempotency keys belong to a client, so that
    running again replays only with the same ones.
    """
    clients = read_clients(credentials)
    if not clients:
        clients = [await add_client(club, handle) for handle in handles]
        if credentials is not None:
            keep_private(credentials, {"baseUrl": club.service.authority.issuer, "clients": clients})
    for client in clients:
        form = {
            "grant_type": "client_credentials",
            "client_id": client["id"],
            "client_secret": client["secret"],
        }
        async with club.http.post("/oauth/token", data=form) as response:
            if not response.ok:
                raise Unanswered(f"no token for {client['id']} of {credentials}: {await response.text()}")
            club.partners[client["partner"]] = Voice(club.http, (await response.json())["access_token"])


def read_clients(file: Path | None) -> list[dict[str, str]]:
    """The clients of an earlier run; none where there was none."""
    if file is None or not file.exists():
        return []
    clients: list[dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))["clients"]
    return clients


async def add_client(club: Club, handle: str) -> dict[str, str]:
    """A new client of the partner, as `perks clients add` makes it."""
    async with club.service.database.sessions.begin() as session:
        [partner] = await list_partners(session, None, handle=handle, first=1, after=None)
        client, secret = await register_client(session, partner, CLIENT_NAME, PARTNER_SCOPES, club.service.clock())
    return {"partner": handle, "id": client.id, "secret": secret}


def keep_private(file: Path, credentials: Mapping[str, Any]) -> None:
    """Writes them for their owner's eyes alone, in the shape of `build/demo.json`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump(credentials, out, indent=2)


async def abreast(work: Callable[[Any], Any], items: Iterable[Any], width: int = CONNECTIONS) -> list[Any]:
    """What `work` makes of each item, in order, `width` of them at a time; the first fault ends it."""
    places = asyncio.Semaphore(width)

    async def placed(item: Any) -> Any:
        async with places:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(placed(item)) for item in items]
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]
