"""Clients of every kind, what persons approved to them, and the tokens that hang from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa
from sqlmodel import col

from auth.approvals import LIFETIMES, caller_of_approval
from auth.caller import Caller, CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, caller_of, create_client
from auth.issuing import new_refresh_token
from auth.tables import Approval, Client, ClientAuthentication, GrantType, RefreshToken
from auth.tokens import mint_access_token
from partners import tables
from partners.actors import SYSTEM
from partners.tables import Consent, ConsentState
from tests.api import Api

SCOPES = {
    CallerKind.PARTNER: {"perks:read", "member.tier:read", "eligibility:read"},
    CallerKind.MEMBER: {"me:read", "me:claim"},
    CallerKind.STAFF: {"audit:read"},
}
REDIRECT = "https://app.example/back"


@dataclass(frozen=True)
class Registered:
    """A client with its secret, if it has one, as it posts to the authorization server."""

    api: Api
    client: Client
    secret: str | None

    async def post(self, path: str, **form: str) -> httpx.Response:
        if self.secret is None:
            return await self.api.client.post(path, data={"client_id": self.client.id, **form})
        return await self.api.client.post(path, data=form, auth=(self.client.id, self.secret))

    async def introspect(self, token: str, **form: str) -> dict[str, Any]:
        response = await self.post("/oauth/introspect", token=token, **form)
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        answer: dict[str, Any] = response.json()
        return answer

    async def revoke(self, token: str, **form: str) -> httpx.Response:
        return await self.post("/oauth/revoke", token=token, **form)

    def own_token(self) -> str:
        """An access token by client credentials."""
        return self.minted(caller_of(self.client, frozenset(self.client.scopes)))

    def minted(self, caller: Caller) -> str:
        service = self.api.service
        return mint_access_token(service.ring, service.authority, caller, service.clock())

    async def approval(
        self,
        *,
        subject: str = "ada@brand",
        member: tables.Member | None = None,
        place: str | None = None,
        dpop_jkt: str | None = None,
        lives: timedelta | None = None,
    ) -> Approval:
        """Somebody's yes to this client; that of a member binds a partner's client to the member's live consent."""
        now, kind = self.api.service.clock(), CallerKind(self.client.kind)
        async with self.api.service.database.sessions.begin() as session:
            consent = await session.scalar(
                sa.select(Consent).where(
                    col(Consent.member_id) == (None if member is None else member.id),
                    col(Consent.partner_id) == self.client.partner_id,
                    col(Consent.state) == ConsentState.GRANTED,
                )
            )
            approval = Approval(
                client_id=self.client.id,
                kind=kind,
                subject=subject if member is None else str(member.id),
                partner_id=self.client.partner_id,
                member_id=None if member is None else member.id,
                consent_id=None if consent is None else consent.id,
                scopes=sorted(SCOPES[kind]),
                place=place,
                dpop_jkt=dpop_jkt,
                created_at=now,
                expires_at=now + (lives or LIFETIMES[kind]),
            )
            session.add(approval)
        return approval

    def access_token(
        self, approval: Approval, alias: str | None = None, scopes: Sequence[str] = (), key: str | None = None
    ) -> str:
        return self.minted(caller_of_approval(approval, self.client, frozenset(scopes or approval.scopes), alias, key))

    async def refresh_token(self, approval: Approval, **changed: Any) -> str:
        row, token = new_refresh_token(approval, self.api.service.clock())
        for name, value in changed.items():
            setattr(row, name, value)
        async with self.api.service.database.sessions.begin() as session:
            session.add(row)
        return token


async def register(
    api: Api,
    partner: tables.Partner | None,
    kind: CallerKind = CallerKind.PARTNER,
    *,
    public: bool = False,
    **settings: Any,
) -> Registered:
    """A client of a partner, or one of the operator's own."""
    grants = [GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN]
    if partner is not None and not public:
        grants.append(GrantType.CLIENT_CREDENTIALS)
    chosen: Mapping[str, Any] = {
        "name": "a client",
        "scopes": frozenset(SCOPES[kind]),
        "grant_types": grants,
        "authentication": ClientAuthentication.NONE if public else ClientAuthentication.SECRET,
        "redirect_uris": [REDIRECT],
    }
    async with api.service.database.sessions.begin() as session:
        client, secret = await create_client(
            session,
            None if partner is None else partner.id,
            ClientSettings(**{**chosen, **settings}),
            Administrator(SYSTEM),
            api.service.clock(),
            kind=kind,
        )
    return Registered(api, client, secret)


async def approval_of(api: Api, id: UUID) -> Approval:
    """As it stands now."""
    async with api.service.database.sessions() as session:
        found = await session.get(Approval, id)
    assert found is not None
    return found


async def change(api: Api, row: Approval | Client | RefreshToken | tables.Partner, **values: Any) -> None:
    """Changes a row behind the product's back."""
    async with api.service.database.sessions.begin() as session:
        found = await session.merge(row)
        for name, value in values.items():
            setattr(found, name, value)


def seconds(moment: datetime) -> int:
    """A time as a claim has it."""
    return int(moment.timestamp())
