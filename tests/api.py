"""The API over ASGI as each kind of caller, for acceptance tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from auth.caller import Caller, CallerKind
from auth.scopes import MEMBER_BOUND, scopes_of
from auth.tokens import mint_access_token
from gateway.app import Service
from partners import tables


@dataclass(frozen=True)
class Answer:
    """One response: the status and the body."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def data(self) -> dict[str, Any]:
        assert "errors" not in self.body, self.body["errors"]
        found: dict[str, Any] = self.body["data"]
        return found

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(self.body["errors"][0]["extensions"]["code"])

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["errors"][0]
        return found


@dataclass(frozen=True)
class Voice:
    """One caller with its token; called with a query it answers."""

    client: httpx.AsyncClient
    token: str | None

    async def __call__(self, query: str, **variables: Any) -> Answer:
        headers = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        response = await self.client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        return Answer(response.status_code, response.json(), response.headers)


@dataclass(frozen=True)
class Api:
    """The running service and a voice for each kind of caller."""

    service: Service
    client: httpx.AsyncClient

    def anonymous(self) -> Voice:
        return Voice(self.client, None)

    def partner(self, partner: tables.Partner, *scopes: str, name: str = "client") -> Voice:
        client_id = f"client_{name}_{partner.handle}"
        return self.voice(
            Caller(
                CallerKind.PARTNER,
                client_id,
                frozenset(scopes) or scopes_of(CallerKind.PARTNER),
                client_id=client_id,
                partner_id=partner.id,
            )
        )

    def bound(self, partner: tables.Partner, alias: str, *scopes: str) -> Voice:
        """The partner's client with a token that speaks for the member of this alias alone."""
        client_id = f"client_client_{partner.handle}"
        return self.voice(
            Caller(
                CallerKind.PARTNER,
                client_id,
                frozenset(scopes) or MEMBER_BOUND,
                client_id=client_id,
                partner_id=partner.id,
                alias=alias,
            )
        )

    def member(self, member: tables.Member, *scopes: str) -> Voice:
        return self.voice(
            Caller(
                CallerKind.MEMBER,
                str(member.id),
                frozenset(scopes) or scopes_of(CallerKind.MEMBER),
                client_id="app",
                member_id=member.id,
            )
        )

    def staff(self, *scopes: str) -> Voice:
        return self.voice(
            Caller(CallerKind.STAFF, "auditor", frozenset(scopes) or scopes_of(CallerKind.STAFF), client_id="desk")
        )

    def voice(self, caller: Caller) -> Voice:
        return Voice(
            self.client, mint_access_token(self.service.ring, self.service.authority, caller, self.service.clock())
        )
