"""What a client is told about a token, and how little about any other's (RFC 7662)."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from auth.caller import CallerKind
from auth.clients import Administrator, set_client_state, set_partner_state, update_client
from auth.tables import ClientState
from auth.tokens import LIFETIMES, Authority
from auth.withdrawal import withdraw_consent
from partners import tables
from partners.actors import SYSTEM
from partners.references import MemberRef
from partners.tables import PartnerState
from tests.api import Api
from tests.approved import Registered, change, register, seconds
from tests.factories import Club

INACTIVE = {"active": False}
SCOPE = "eligibility:read member.tier:read perks:read"
THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def desk(api: Api, partner: tables.Partner) -> Registered:
    return await register(api, partner)


async def test_a_client_is_told_all_that_its_own_token_says(api: Api, desk: Registered) -> None:
    authority, now = api.service.authority, api.service.clock()
    assert await desk.introspect(desk.own_token()) == {
        "active": True,
        "sub": desk.client.id,
        "client_id": desk.client.id,
        "scope": SCOPE,
        "iat": seconds(now),
        "exp": seconds(now) + LIFETIMES[CallerKind.PARTNER].total_seconds(),
        "iss": authority.issuer,
        "aud": authority.audience,
        "token_type": "Bearer",
    }


async def test_a_token_of_the_token_endpoint_is_active(desk: Registered) -> None:
    token = (await desk.post("/oauth/token", grant_type="client_credentials")).json()["access_token"]
    assert (await desk.introspect(token))["client_id"] == desk.client.id


async def test_a_member_is_named_by_the_alias_and_never_otherwise(api: Api, club: Club, desk: Registered) -> None:
    member = await club.member()
    alias = await club.consent(member, await partner_of(club, desk))
    approval = await desk.approval(member=member)
    answers = [
        await desk.introspect(desk.access_token(approval, alias)),
        await desk.introspect(await desk.refresh_token(approval)),
    ]
    assert [answer["sub"] for answer in answers] == [alias, alias]
    shown = json.dumps(answers)
    assert str(member.id) not in shown
    assert member.external_id not in shown


async def partner_of(club: Club, registered: Registered) -> tables.Partner:
    assert registered.client.partner_id is not None
    return club.partners[registered.client.partner_id]


async def test_a_refresh_token_is_active_for_as_long_as_it_may_be_used(api: Api, desk: Registered) -> None:
    approval, now = await desk.approval(dpop_jkt=THUMBPRINT, lives=timedelta(days=7)), api.service.clock()
    assert await desk.introspect(await desk.refresh_token(approval)) == {
        "active": True,
        "sub": "ada@brand",
        "client_id": desk.client.id,
        "scope": SCOPE,
        "iat": seconds(now),
        "exp": seconds(now + timedelta(days=7)),
        "iss": api.service.authority.issuer,
        "cnf": {"jkt": THUMBPRINT},
    }


async def test_a_token_that_is_bound_to_a_key_says_so(desk: Registered) -> None:
    token = desk.access_token(await desk.approval(), key=THUMBPRINT)
    answer = await desk.introspect(token)
    assert (answer["token_type"], answer["cnf"]) == ("DPoP", {"jkt": THUMBPRINT})


async def test_a_point_of_sale_is_named_as_the_client_that_it_is(desk: Registered) -> None:
    approval = await desk.approval(place="Zurich, counter 2")
    token, refresh = desk.access_token(approval), await desk.refresh_token(approval)
    assert [(await desk.introspect(one))["sub"] for one in (token, refresh)] == [desk.client.id] * 2


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "something_else"])
async def test_a_wrong_hint_does_not_matter(desk: Registered, hint: str) -> None:
    refresh = await desk.refresh_token(await desk.approval())
    for token in (desk.own_token(), refresh):
        assert (await desk.introspect(token, token_type_hint=hint))["active"] is True


async def test_another_client_of_the_same_partner_sees_the_tokens(
    api: Api, desk: Registered, partner: tables.Partner
) -> None:
    colleague = await register(api, partner)
    refresh = await desk.refresh_token(await desk.approval())
    for token in (desk.own_token(), refresh):
        assert (await colleague.introspect(token))["client_id"] == desk.client.id


async def test_another_partner_and_the_operators_apps_see_nothing(api: Api, club: Club, desk: Registered) -> None:
    strangers = [
        await register(api, await club.partner()),
        await register(api, None, CallerKind.MEMBER),
        await register(api, None, CallerKind.STAFF),
    ]
    tokens = [desk.own_token(), await desk.refresh_token(await desk.approval())]
    assert [await stranger.introspect(token) for stranger in strangers for token in tokens] == [INACTIVE] * 6


@pytest.mark.parametrize("kind", [CallerKind.MEMBER, CallerKind.STAFF])
async def test_an_app_of_the_operator_sees_its_own_tokens_and_not_another_apps(
    api: Api, club: Club, kind: CallerKind
) -> None:
    app, other = await register(api, None, kind), await register(api, None, kind)
    approval = await app.approval(member=await club.member() if kind is CallerKind.MEMBER else None)
    caller = app.access_token(approval)
    refresh = await app.refresh_token(approval)
    for token in (caller, refresh):
        assert (await app.introspect(token))["sub"] == approval.subject
        assert await other.introspect(token) == INACTIVE
    assert (await app.introspect(caller))["aud"] == api.service.authority.audience_of(kind)


async def test_what_is_no_token_is_inactive(api: Api, desk: Registered) -> None:
    token = desk.own_token()
    foreign = Authority("https://other.example", "https://other.example/graphql", "https://other.example/staff")
    elsewhere = replace(api, service=replace(api.service, authority=foreign))
    for other in ("x", "ü", "a.b.c", token[:-2], token + "A", "x" * 5000, replace(desk, api=elsewhere).own_token()):
        assert await desk.introspect(other) == INACTIVE


async def test_an_expired_token_is_inactive(api: Api, desk: Registered, now: datetime) -> None:
    earlier = replace(api, service=replace(api.service, clock=lambda: now - timedelta(minutes=11)))
    assert await desk.introspect(replace(desk, api=earlier).own_token()) == INACTIVE
    approval = await desk.approval()
    assert await desk.introspect(await desk.refresh_token(approval, expires_at=now)) == INACTIVE


async def test_a_used_refresh_token_is_inactive(desk: Registered, now: datetime) -> None:
    approval = await desk.approval()
    assert await desk.introspect(await desk.refresh_token(approval, used_at=now)) == INACTIVE


@pytest.mark.parametrize("end", ["approval_revoked", "approval_expired", "approval_gone"])
async def test_with_its_approval_everything_ends(api: Api, desk: Registered, now: datetime, end: str) -> None:
    approval = await desk.approval()
    refresh, access = await desk.refresh_token(approval), desk.access_token(approval)
    if end == "approval_revoked":
        await change(api, approval, state="REVOKED")
    elif end == "approval_expired":
        await change(api, approval, expires_at=now)
    else:
        approval.id = uuid4()
        access, refresh = desk.access_token(approval), "gone"
    assert [await desk.introspect(token) for token in (access, refresh)] == [INACTIVE, INACTIVE]


async def test_withdrawn_or_expired_consent_ends_what_hangs_from_it_at_once(
    api: Api, club: Club, desk: Registered, partner: tables.Partner, now: datetime
) -> None:
    for ends_at in (None, now - timedelta(seconds=1)):
        member = await club.member()
        alias = await club.consent(member, partner)
        approval = await desk.approval(member=member)
        tokens = [desk.access_token(approval, alias), await desk.refresh_token(approval)]
        assert [(await desk.introspect(token))["active"] for token in tokens] == [True, True]
        async with api.service.database.sessions.begin() as session:
            if ends_at is None:
                await withdraw_consent(session, MemberRef(id=member.id), partner.id, actor=SYSTEM, now=now)
            else:
                consent = await session.get(tables.Consent, approval.consent_id)
                assert consent is not None
                consent.expires_at = ends_at
        assert [await desk.introspect(token) for token in tokens] == [INACTIVE, INACTIVE]


async def test_the_scope_is_what_client_approval_consent_and_token_agree_on(
    api: Api, club: Club, desk: Registered, partner: tables.Partner
) -> None:
    member = await club.member()
    alias = await club.consent(member, partner)
    approval = await desk.approval(member=member)
    async with api.service.database.sessions.begin() as session:
        consent = await session.get(tables.Consent, approval.consent_id)
        assert consent is not None
        consent.scopes = ["eligibility:read"]
    for token in (desk.access_token(approval, alias), await desk.refresh_token(approval)):
        assert (await desk.introspect(token))["scope"] == "eligibility:read"
    assert await desk.introspect(desk.access_token(approval, alias, ["member.tier:read"])) == INACTIVE


async def test_a_disabled_or_restricted_client_has_no_living_token(
    api: Api, desk: Registered, partner: tables.Partner, now: datetime
) -> None:
    colleague = await register(api, partner)
    token, staff = desk.own_token(), Administrator(SYSTEM)
    async with api.service.database.sessions.begin() as session:
        await update_client(session, desk.client.id, {"scopes": frozenset({"perks:read"})}, staff, now)
    # As in a process that has not heard of it yet.
    api.service.denied._clients.pop(desk.client.id)
    assert await colleague.introspect(token) == INACTIVE
    refresh = await desk.refresh_token(await desk.approval())
    async with api.service.database.sessions.begin() as session:
        await set_client_state(session, desk.client.id, ClientState.DISABLED, staff, now)
    assert await colleague.introspect(refresh) == INACTIVE


async def test_a_revocation_counts_before_this_process_has_heard_of_it(api: Api, desk: Registered) -> None:
    token = desk.own_token()
    await desk.revoke(token)
    heard = dict(api.service.denied._tokens)
    api.service.denied._tokens.clear()
    assert await desk.introspect(token) == INACTIVE
    api.service.denied._tokens.update(heard)
    assert await desk.introspect(token) == INACTIVE


async def test_a_suspended_partner_is_told_nothing_more(
    api: Api, desk: Registered, partner: tables.Partner, now: datetime
) -> None:
    token = desk.own_token()
    async with api.service.database.sessions.begin() as session:
        await set_partner_state(session, partner.id, PartnerState.SUSPENDED, actor=SYSTEM, now=now)
    response = await desk.post("/oauth/introspect", token=token)
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


async def test_a_public_client_may_not_introspect(api: Api, partner: tables.Partner) -> None:
    public = await register(api, partner, public=True)
    response = await public.post("/oauth/introspect", token=await public.refresh_token(await public.approval()))
    assert (response.status_code, response.json()["error"]) == (400, "unauthorized_client")


async def test_nobody_introspects_without_proof_of_who_it_is(api: Api, desk: Registered) -> None:
    token = desk.own_token()
    for asked in (replace(desk, secret="wrong"), replace(desk, secret=None)):
        response = await asked.post("/oauth/introspect", token=token)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


async def test_a_request_without_a_token_is_told_so(desk: Registered) -> None:
    response = await desk.post("/oauth/introspect", token_type_hint="access_token")
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
    assert "token is missing" in response.json()["error_description"]
