"""Pushed authorization requests (RFC 9126): who may push what, and what becomes of the address."""

import re
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth import authorization
from auth.authorization import PageError
from auth.tables import GrantType
from partners import tables
from tests.factories import Club
from tests.flows import BACK, HERE, App, Flows
from tests.holders import holder

URN = "urn:ietf:params:oauth:request_uri:"


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def app(flows: Flows, partner: tables.Partner) -> App:
    return await flows.app(partner)


async def pushed(flows: Flows, app: App, **changed: str | None) -> dict[str, str]:
    response = await flows.push(app, flows.asking(app, **changed))
    assert response.status_code == 201, response.text
    return {"client_id": app.id, "request_uri": response.json()["request_uri"]}


async def test_a_request_is_kept_for_90_seconds_under_256_random_bits(flows: Flows, app: App) -> None:
    response = await flows.push(app, flows.asking(app))
    body = response.json()
    assert (response.status_code, body["expires_in"]) == (201, 90)
    assert len(body["request_uri"]) == len(URN) + 43
    assert body["request_uri"].startswith(URN)
    assert response.headers["cache-control"] == "no-store"


async def test_a_pushed_request_can_not_be_changed_by_the_browser(
    flows: Flows, app: App, partner: tables.Partner
) -> None:
    brought = await pushed(flows, app, scope="member.tier:read")
    request_id = await flows.begin(brought | {"scope": "holds:write", "redirect_uri": "https://evil.example/"})
    async with flows.foundation.sessions() as session:
        question = await authorization.question_of(session, request_id, flows.now)
    assert [scope for scope, _ in question.scopes] == ["member.tier:read"]
    assert "evil" not in question.redirect_uri


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"redirect_uri": "https://evil.example/back"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "audit:read"}, "invalid_scope"),
        ({"request": "eyJ.eyJ.c2ln"}, "request_not_supported"),
        ({"request_uri": URN + "x" * 43}, "invalid_request"),
        ({"state": "x" * 513}, "invalid_request"),
    ],
)
async def test_what_could_not_be_asked_can_not_be_pushed(
    flows: Flows, app: App, changed: dict[str, str | None], error: str
) -> None:
    response = await flows.push(app, flows.asking(app, **changed))
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert "location" not in response.headers


async def test_only_the_client_itself_can_push(flows: Flows, app: App, partner: tables.Partner) -> None:
    form = flows.asking(app)
    for credentials in ({}, {"client_secret": "a guess"}):
        response = await flows.http.post("/oauth/par", data=form | credentials)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
    public = await flows.public_app(partner)
    assert (await flows.push(public, flows.asking(public))).status_code == 201
    machine = await flows.app(partner, grants=(GrantType.CLIENT_CREDENTIALS,))
    response = await flows.push(machine, flows.asking(app))
    assert (response.status_code, response.json()["error"]) == (400, "unauthorized_client")


async def test_a_client_that_is_named_beside_its_basic_credentials_must_be_the_same(
    flows: Flows, app: App, partner: tables.Partner
) -> None:
    other = await flows.app(partner)
    response = await flows.http.post("/oauth/par", data=flows.asking(app), auth=(other.id, other.secret or ""))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


async def test_another_client_can_not_use_the_address(flows: Flows, app: App, partner: tables.Partner) -> None:
    brought = await pushed(flows, app)
    other = await flows.app(partner)
    with pytest.raises(PageError, match="works once"):
        await flows.begin(brought | {"client_id": other.id})
    assert await flows.begin(brought)


async def test_the_key_of_the_proof_at_the_push_binds_the_code(flows: Flows, app: App, club: Club) -> None:
    ours, at = holder(), f"{HERE.issuer}/oauth/par"
    nonce = flows.foundation.proofs.nonce(flows.now)
    other = flows.asking(app, dpop_jkt=holder().thumbprint)
    response = await flows.push(app, other, headers={"DPoP": ours.proof(flows.now, at, nonce)})
    assert response.json()["error_description"] == "dpop_jkt is not the key of the DPoP proof"
    response = await flows.push(app, flows.asking(app), headers={"DPoP": ours.proof(flows.now, at, nonce)})
    assert response.headers["dpop-nonce"] == nonce
    brought = {"client_id": app.id, "request_uri": response.json()["request_uri"]}
    url = await flows.allow(await flows.begin(brought), await flows.member(await club.member()))
    code = url.partition("code=")[2].partition("&")[0]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": "v" * 43}
    redirect = {"redirect_uri": flows.asking(app)["redirect_uri"]}
    refused = await flows.post(app, form | redirect)
    assert refused.json()["error_description"] == "the grant is bound to another key"
    proof = ours.proof(flows.now, f"{HERE.issuer}/oauth/token", nonce)
    assert (await flows.post(app, form | redirect, headers={"DPoP": proof})).status_code == 200


async def test_a_proof_without_a_nonce_is_told_the_nonce_and_the_client_tries_again(flows: Flows, app: App) -> None:
    ours, at = holder(), f"{HERE.issuer}/oauth/par"
    first = await flows.push(app, flows.asking(app), headers={"DPoP": ours.proof(flows.now, at, None)})
    assert (first.status_code, first.json()["error"]) == (400, "use_dpop_nonce")
    proof = ours.proof(flows.now, at, first.headers["dpop-nonce"])
    assert (await flows.push(app, flows.asking(app), headers={"DPoP": proof})).status_code == 201


ASKED = ["response_type", "response_mode", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"]
NAMES = st.sampled_from(
    [*ASKED, "dpop_jkt", "request", "request_uri", "prompt", "grant_type", "code", "code_verifier", "refresh_token"]
)
VALUES = st.text(max_size=50) | st.sampled_from(
    [
        "code",
        "S256",
        BACK,
        "x" * 43,
        "none",
        URN,
        "authorization_code",
        "refresh_token",
        "\ud800",
        "perks:read",
        "x" * 600,
    ]
)


@given(
    st.sampled_from(["/oauth/par", "/oauth/token"]),
    st.dictionaries(NAMES, VALUES, max_size=8),
    st.sampled_from(["authorization_code", "refresh_token", None]),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_that_a_client_sends_is_a_fault_of_ours(
    flows: Flows, app: App, path: str, changed: dict[str, str], grant_type: str | None
) -> None:
    form = flows.asking(app, grant_type=grant_type) | changed | app.proof
    body = urlencode(form, errors="surrogatepass").encode()
    response = await flows.http.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert response.status_code in (200, 201, 400)
    assert response.headers["cache-control"] == "no-store"
    if response.status_code == 400:
        assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,300}", response.json()["error_description"])
