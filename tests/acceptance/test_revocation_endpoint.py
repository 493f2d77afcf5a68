"""A client ends its own tokens before their time, and nobody else's (RFC 7009)."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from auth.caller import CallerKind
from auth.revocations import TOKENS_LIVE_AT_MOST
from auth.tables import Revocation
from auth.tokens import LIFETIMES
from partners import tables
from partners.tables import ConsentState
from tests.api import Api, Voice
from tests.approved import Registered, approval_of, register, seconds
from tests.factories import Club


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def desk(api: Api, partner: tables.Partner) -> Registered:
    return await register(api, partner)


async def admitted(registered: Registered, token: str) -> bool:
    """Whether GraphQL accepts the token, in the process that has remembered its caller perhaps."""
    return (await Voice(registered.api.client, token)("{ __typename }")).status == 200


async def revocations(api: Api, since: set[str]) -> set[str]:
    async with api.service.database.sessions() as session:
        return set(await session.scalars(sa.select(Revocation.key))) - since  # type: ignore[call-overload]


async def test_a_revoked_access_token_is_refused_at_once_and_only_that_one(desk: Registered) -> None:
    approval = await desk.approval()
    token, other, refresh = desk.access_token(approval), desk.access_token(approval), await desk.refresh_token(approval)
    assert await admitted(desk, token)
    response = await desk.revoke(token)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["cache-control"] == "no-store"
    assert not await admitted(desk, token)
    assert await admitted(desk, other)
    assert (await desk.introspect(refresh))["active"] is True
    assert (await approval_of(desk.api, approval.id)).state == "ACTIVE"


async def test_a_revoked_refresh_token_takes_its_whole_approval_with_it(desk: Registered, now: datetime) -> None:
    approval = await desk.approval()
    access, refresh, older = (
        desk.access_token(approval),
        await desk.refresh_token(approval),
        await desk.refresh_token(approval, used_at=now),
    )
    assert await admitted(desk, access)
    assert (await desk.revoke(refresh)).status_code == 200
    ended = await approval_of(desk.api, approval.id)
    assert (ended.state, ended.reason, ended.revoked_at) == ("REVOKED", "BY_CLIENT", now)
    assert not await admitted(desk, access)
    for token in (refresh, older):
        assert await desk.introspect(token) == {"active": False}
    refreshed = await desk.post("/oauth/token", grant_type="refresh_token", refresh_token=refresh)
    assert (refreshed.status_code, refreshed.json()["error"]) == (400, "invalid_grant")


async def test_a_used_refresh_token_still_ends_its_family(desk: Registered, now: datetime) -> None:
    approval = await desk.approval()
    await desk.revoke(await desk.refresh_token(approval, used_at=now))
    assert (await approval_of(desk.api, approval.id)).state == "REVOKED"


async def test_revoking_a_token_leaves_the_consent_alone(
    api: Api, club: Club, desk: Registered, partner: tables.Partner
) -> None:
    member = await club.member()
    await club.consent(member, partner)
    approval = await desk.approval(member=member)
    await desk.revoke(await desk.refresh_token(approval))
    async with api.service.database.sessions() as session:
        consent = await session.get(tables.Consent, approval.consent_id)
    assert consent is not None
    assert (consent.state, consent.withdrawn_at) == (ConsentState.GRANTED, None)


async def test_a_public_client_revokes_its_own_by_its_id_alone(api: Api, partner: tables.Partner) -> None:
    public = await register(api, partner, public=True)
    approval = await public.approval()
    access = public.access_token(approval)
    assert (await public.revoke(access)).status_code == 200
    assert not await admitted(public, access)
    assert (await public.revoke(await public.refresh_token(approval))).status_code == 200
    assert (await approval_of(api, approval.id)).state == "REVOKED"


async def test_tokens_of_others_stay_as_they_are_whoever_asks(
    api: Api, club: Club, desk: Registered, partner: tables.Partner
) -> None:
    approval = await desk.approval()
    access, refresh = desk.access_token(approval), await desk.refresh_token(approval)
    strangers = [
        await register(api, partner),
        await register(api, await club.partner()),
        await register(api, None, CallerKind.STAFF),
        await register(api, partner, public=True),
    ]
    for stranger in strangers:
        for token in (access, refresh):
            response = await stranger.revoke(token)
            assert (response.status_code, response.content) == (200, b"")
    assert await admitted(desk, access)
    assert (await desk.introspect(refresh))["active"] is True


async def test_what_is_no_token_is_answered_alike_and_leaves_nothing(api: Api, desk: Registered, now: datetime) -> None:
    before = await revocations(api, set())
    earlier = replace(api, service=replace(api.service, clock=lambda: now - timedelta(minutes=11)))
    expired = replace(desk, api=earlier).own_token()
    for token in ("x", "ü", "a.b.c", "x" * 5000, desk.own_token()[:-2], expired):
        for hint in ("access_token", "refresh_token", "cookie"):
            response = await desk.revoke(token, token_type_hint=hint)
            assert (response.status_code, response.content) == (200, b"")
    assert await revocations(api, before) == set()


async def test_a_wrong_hint_does_not_matter(desk: Registered) -> None:
    approval = await desk.approval()
    access = desk.access_token(approval)
    await desk.revoke(access, token_type_hint="refresh_token")
    assert not await admitted(desk, access)
    await desk.revoke(await desk.refresh_token(approval), token_type_hint="access_token")
    assert (await approval_of(desk.api, approval.id)).state == "REVOKED"


async def test_revoking_twice_is_no_fault(desk: Registered) -> None:
    approval = await desk.approval()
    for token in (desk.access_token(approval), await desk.refresh_token(approval)):
        assert [(await desk.revoke(token)).status_code for _ in range(2)] == [200, 200]


async def test_a_token_is_remembered_as_revoked_no_longer_than_it_would_have_lived(
    api: Api, desk: Registered, now: datetime
) -> None:
    before = await revocations(api, set())
    approval = await desk.approval()
    await desk.revoke(desk.own_token())
    await desk.revoke(await desk.refresh_token(approval))
    async with api.service.database.sessions() as session:
        rows = list(await session.scalars(sa.select(Revocation)))
    ends = {row.kind: seconds(row.expires_at) for row in rows if row.key not in before}
    assert ends == {
        "token": seconds(now + LIFETIMES[CallerKind.PARTNER]),
        "approval": seconds(now + TOKENS_LIVE_AT_MOST),
    }


async def test_a_request_without_a_token_or_a_client_is_told_so(api: Api, desk: Registered) -> None:
    response = await desk.post("/oauth/revoke", token_type_hint="access_token")
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert "token is missing" in response.json()["error_description"]
    response = await replace(desk, secret="wrong").revoke(desk.own_token())
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
