"""Refresh tokens: kept by who can keep a secret, replaced for who can not, and dead with what they hang from."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag

from auth.approvals import end_approval
from auth.caller import CallerKind
from auth.errors import Unauthenticated
from auth.refreshing import open_answer
from auth.tables import BrowserSession, ClientState, RefreshToken
from auth.withdrawal import withdraw_consent
from partners import tables
from partners.actors import SYSTEM
from partners.references import MemberRef
from partners.tables import PartnerState
from tests.factories import Club
from tests.flows import BOUND, HERE, App, Flows
from tests.holders import holder

MEMBER = CallerKind.MEMBER


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def app(flows: Flows, partner: tables.Partner) -> App:
    return await flows.app(partner)


@pytest.fixture
async def public(flows: Flows, partner: tables.Partner) -> App:
    return await flows.public_app(partner)


@pytest.fixture
async def person(flows: Flows, club: Club) -> BrowserSession:
    return await flows.member(await club.member(), "me:read")


def got(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refused(response: httpx.Response, error: str = "invalid_grant") -> None:
    assert (response.status_code, response.json()["error"]) == (400, error), response.text
    assert response.json()["error_description"]


async def revoked_for(flows: Flows, access_token: str) -> str | None:
    """Why the approval has ended; its tokens are then refused as well."""
    approval = await flows.approval(access_token)
    if approval.reason is not None:
        with pytest.raises(Unauthenticated, match="revoked"):
            await flows.caller(access_token)
    return approval.reason


async def test_a_confidential_client_keeps_its_refresh_token(flows: Flows, app: App, person: BrowserSession) -> None:
    first = await flows.tokens(app, person)
    approval = await flows.approval(first["access_token"])
    for _ in range(3):
        flows.clock.wait(minutes=10)
        again = got(await flows.refresh(app, first["refresh_token"]))
        assert "refresh_token" not in again
        assert (again["scope"], again["expires_in"]) == (BOUND, 600)
        caller = await flows.caller(again["access_token"])
        assert (caller.id, caller.approval_id) == (app.id, approval.id)
        assert caller.alias is not None


async def test_a_refresh_token_dies_30_days_after_its_last_use(flows: Flows, app: App, person: BrowserSession) -> None:
    token = (await flows.tokens(app, person))["refresh_token"]
    for _ in range(3):
        flows.clock.wait(days=29)
        got(await flows.refresh(app, token))
    flows.clock.wait(days=30, seconds=1)
    refused(await flows.refresh(app, token))


async def test_no_refreshing_goes_on_for_longer_than_the_approval(flows: Flows, club: Club) -> None:
    app = await flows.app(None, "me:read", kind=MEMBER)
    tokens = await flows.tokens(app, await flows.member(await club.member(), "me:read"))
    ends = (await flows.approval(tokens["access_token"])).expires_at
    assert ends == flows.now + timedelta(days=90)
    for _ in range(4):
        flows.clock.wait(days=20)
        got(await flows.refresh(app, tokens["refresh_token"]))
    flows.clock.at = ends
    refused(await flows.refresh(app, tokens["refresh_token"]))


async def test_a_public_client_gets_a_new_refresh_token_for_the_old(
    flows: Flows, public: App, person: BrowserSession
) -> None:
    first = await flows.tokens(public, person)
    second = got(await flows.refresh(public, first["refresh_token"]))
    third = got(await flows.refresh(public, second["refresh_token"]))
    assert len({one["refresh_token"] for one in (first, second, third)}) == 3
    assert (await flows.caller(third["access_token"])).scopes == set(BOUND.split())


async def test_a_lost_answer_is_repeated_byte_for_byte_for_60_seconds(
    flows: Flows, public: App, person: BrowserSession
) -> None:
    first = await flows.tokens(public, person)
    answered = await flows.refresh(public, first["refresh_token"])
    flows.clock.wait(seconds=60)
    again = await flows.refresh(public, first["refresh_token"])
    assert (again.content, again.status_code) == (answered.content, 200)
    assert await revoked_for(flows, first["access_token"]) is None
    got(await flows.refresh(public, got(again)["refresh_token"]))


async def test_after_60_seconds_the_same_token_ends_the_whole_family(
    flows: Flows, public: App, person: BrowserSession
) -> None:
    first = await flows.tokens(public, person)
    second = got(await flows.refresh(public, first["refresh_token"]))
    flows.clock.wait(seconds=61)
    refused(await flows.refresh(public, first["refresh_token"]))
    assert await revoked_for(flows, second["access_token"]) == "REFRESH_TOKEN_REUSED"
    refused(await flows.refresh(public, second["refresh_token"]))


async def test_once_the_successor_was_used_the_same_token_ends_the_whole_family(
    flows: Flows, public: App, person: BrowserSession
) -> None:
    first = await flows.tokens(public, person)
    second = got(await flows.refresh(public, first["refresh_token"]))
    third = got(await flows.refresh(public, second["refresh_token"]))
    refused(await flows.refresh(public, first["refresh_token"]))
    assert await revoked_for(flows, third["access_token"]) == "REFRESH_TOKEN_REUSED"
    refused(await flows.refresh(public, third["refresh_token"]))


async def test_the_kept_answer_opens_with_nothing_but_the_token_itself(
    flows: Flows, public: App, person: BrowserSession
) -> None:
    first = await flows.tokens(public, person)
    second = got(await flows.refresh(public, first["refresh_token"]))
    approval = await flows.approval(second["access_token"])
    async with flows.foundation.sessions() as session:
        rows = await session.scalars(sa.select(RefreshToken).where(sa.column("approval_id") == approval.id))
        [used] = [row for row in rows if row.used_at is not None]
    assert used.answer is not None
    assert open_answer(first["refresh_token"], used) == second
    assert second["refresh_token"].encode() not in used.answer
    with pytest.raises(InvalidTag):
        open_answer(second["refresh_token"], used)


async def test_a_refresh_token_is_of_use_to_its_own_client_alone(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    token = (await flows.tokens(app, person))["refresh_token"]
    foreign = await flows.refresh(await flows.app(partner), token)
    unknown = await flows.refresh(app, "x" * 43)
    refused(foreign)
    assert foreign.content == unknown.content
    got(await flows.refresh(app, token))


async def test_another_public_client_can_neither_use_nor_end_it(
    flows: Flows, public: App, partner: tables.Partner, person: BrowserSession
) -> None:
    first = await flows.tokens(public, person)
    second = got(await flows.refresh(public, first["refresh_token"]))
    flows.clock.wait(seconds=61)
    other = await flows.public_app(partner)
    for token in (first["refresh_token"], second["refresh_token"]):
        refused(await flows.refresh(other, token))
    got(await flows.refresh(public, second["refresh_token"]))


async def test_scopes_can_be_narrowed_for_one_token_and_never_widened(
    flows: Flows, public: App, person: BrowserSession
) -> None:
    token = (await flows.tokens(public, person))["refresh_token"]
    refused(await flows.refresh(public, token, scope=f"{BOUND} holds:write"), "invalid_scope")
    narrowed = got(await flows.refresh(public, token, scope="eligibility:read"))
    assert narrowed["scope"] == "eligibility:read"
    assert got(await flows.refresh(public, narrowed["refresh_token"]))["scope"] == BOUND


async def test_a_withdrawn_consent_refreshes_nothing(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    tokens = await flows.tokens(app, person)
    async with flows.foundation.sessions.begin() as session:
        await withdraw_consent(session, MemberRef(id=person.member_id), partner.id, actor=SYSTEM, now=flows.now)
    refused(await flows.refresh(app, tokens["refresh_token"]))
    assert await revoked_for(flows, tokens["access_token"]) == "CONSENT_WITHDRAWN"


async def test_an_expired_consent_refreshes_nothing(
    flows: Flows, club: Club, app: App, partner: tables.Partner
) -> None:
    member = await club.member()
    await club.consent(member, partner, expires_at=flows.now + timedelta(hours=1))
    token = (await flows.tokens(app, await flows.member(member)))["refresh_token"]
    got(await flows.refresh(app, token))
    flows.clock.wait(hours=1)
    refused(await flows.refresh(app, token))


async def test_a_consent_that_was_narrowed_narrows_the_tokens(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    token = (await flows.tokens(app, person))["refresh_token"]
    async with flows.foundation.sessions.begin() as session:
        consents = sa.update(tables.Consent).where(sa.column("partner_id") == partner.id)
        await session.execute(consents.values(scopes=["member.tier:read", "redemptions:read"]))
    assert got(await flows.refresh(app, token))["scope"] == "member.tier:read"
    refused(await flows.refresh(app, token, scope="eligibility:read"))


async def test_an_approval_that_was_ended_refreshes_nothing_and_leaves_the_consent(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    tokens = await flows.tokens(app, person)
    approval = await flows.approval(tokens["access_token"])
    async with flows.foundation.sessions.begin() as session:
        await end_approval(session, approval.id, SYSTEM, flows.now)
    refused(await flows.refresh(app, tokens["refresh_token"]))
    async with flows.foundation.sessions() as session:
        consent = await session.get(tables.Consent, approval.consent_id)
    assert consent is not None
    assert consent.state == "GRANTED"


async def test_a_stopped_client_and_a_suspended_partner_refresh_nothing(
    flows: Flows, partner: tables.Partner, app: App, public: App, person: BrowserSession
) -> None:
    tokens = {one: (await flows.tokens(one, person))["refresh_token"] for one in (app, public)}
    await flows.change(app, state=ClientState.DISABLED)
    response = await flows.refresh(app, tokens[app])
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
    async with flows.foundation.sessions.begin() as session:
        partners = sa.update(tables.Partner).where(sa.column("id") == partner.id)
        await session.execute(partners.values(state=PartnerState.SUSPENDED))
    response = await flows.refresh(public, tokens[public])
    assert (response.status_code, response.json()["error_description"]) == (401, "the partner is suspended")


async def test_scopes_that_the_client_lost_are_not_refreshed(flows: Flows, app: App, person: BrowserSession) -> None:
    token = (await flows.tokens(app, person))["refresh_token"]
    await flows.change(app, scopes=["eligibility:read"])
    assert got(await flows.refresh(app, token))["scope"] == "eligibility:read"
    await flows.change(app, scopes=["perks:read"])
    refused(await flows.refresh(app, token))


@pytest.mark.parametrize("is_public", [True, False])
async def test_the_first_proof_binds_all_that_follows_to_its_key(
    flows: Flows, app: App, public: App, person: BrowserSession, is_public: bool
) -> None:
    client, ours, other = public if is_public else app, holder(), holder()
    at, nonce = f"{HERE.issuer}/oauth/token", flows.foundation.proofs.nonce(flows.now)

    def by(one: Any) -> dict[str, str]:
        return {"DPoP": one.proof(flows.now, at, nonce)}

    code = await flows.code(client, person)
    first = got(await flows.post(client, code.form, headers=by(ours)))
    assert first["token_type"] == "DPoP"
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    refused(await flows.post(client, form))
    refused(await flows.post(client, form, headers=by(other)))
    again = got(await flows.post(client, form, headers=by(ours)))
    assert (await flows.caller(again["access_token"])).key_thumbprint == ours.thumbprint
    assert ("refresh_token" in again) is is_public
