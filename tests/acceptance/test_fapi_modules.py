"""The modules of the FAPI 2.0 Security Profile's conformance plan that are about requests, codes and refreshing.

The suite itself can't run here. Those about assertions and proofs of possession stand in test_fapi_keys.py.
"""

import pytest

from auth import authorization
from auth.authorization import PageError
from auth.errors import Unauthenticated
from auth.tables import BrowserSession
from partners import tables
from tests.factories import Club
from tests.flows import HERE, App, Flows, answer, challenge

INVALID = (400, "invalid_grant")


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def app(flows: Flows, partner: tables.Partner) -> App:
    """As FAPI 2.0 wants its clients: confidential, and every request pushed."""
    return await flows.app(partner, requires_pushed=True)


@pytest.fixture
async def person(flows: Flows, club: Club) -> BrowserSession:
    return await flows.member(await club.member())


async def outcome(flows: Flows, app: App, form: dict[str, str]) -> tuple[int, str | None]:
    response = await flows.post(app, form)
    return response.status_code, response.json().get("error")


async def pushing(flows: Flows, app: App, **changed: str | None) -> tuple[int, str | None]:
    response = await flows.push(app, flows.asking(app, **changed))
    return response.status_code, response.json().get("error")


async def test_happy_flow(flows: Flows, app: App, person: BrowserSession) -> None:
    tokens = await flows.tokens(app, person)
    assert (await flows.caller(tokens["access_token"])).id == app.id
    assert (await flows.refresh(app, tokens["refresh_token"])).status_code == 200


async def test_user_rejects_authentication(flows: Flows, app: App) -> None:
    pushed = await flows.push(app, flows.asking(app))
    request_id = await flows.begin({"client_id": app.id, "request_uri": pushed.json()["request_uri"]})
    async with flows.foundation.sessions.begin() as session:
        told = answer(await authorization.refuse(session, request_id, HERE.issuer, flows.now))
    assert (told["error"], told["iss"]) == ("access_denied", HERE.issuer)


async def test_ensure_authorization_response_holds_iss(flows: Flows, app: App, person: BrowserSession) -> None:
    pushed = await flows.push(app, flows.asking(app))
    request_id = await flows.begin({"client_id": app.id, "request_uri": pushed.json()["request_uri"]})
    told = answer(await flows.allow(request_id, person))
    assert (told["iss"], told["state"]) == (HERE.issuer, "a state/?&")
    assert len(told["code"]) == 43


async def test_state_only_outside_request_is_not_used(flows: Flows, app: App, person: BrowserSession) -> None:
    pushed = await flows.push(app, flows.asking(app, state=None))
    brought = {"client_id": app.id, "request_uri": pushed.json()["request_uri"], "state": "from the browser"}
    assert "state" not in answer(await flows.allow(await flows.begin(brought), person))


async def test_attempt_reuse_of_authorization_code(flows: Flows, app: App, person: BrowserSession) -> None:
    code = await flows.code(app, person)
    tokens = (await flows.post(app, code.form)).json()
    assert await outcome(flows, app, code.form) == INVALID
    assert (await flows.approval(tokens["access_token"])).reason == "CODE_REUSED"
    with pytest.raises(Unauthenticated, match="revoked"):
        await flows.caller(tokens["access_token"])
    assert (await flows.refresh(app, tokens["refresh_token"])).status_code == 400


async def test_attempt_reuse_of_authorization_code_after_it_expired(
    flows: Flows, app: App, person: BrowserSession
) -> None:
    code = await flows.code(app, person)
    tokens = (await flows.post(app, code.form)).json()
    flows.clock.wait(seconds=61)
    assert await outcome(flows, app, code.form) == INVALID
    assert (await flows.approval(tokens["access_token"])).reason == "CODE_REUSED"


async def test_authorization_code_expires(flows: Flows, app: App, person: BrowserSession) -> None:
    codes = [await flows.code(app, person) for _ in range(2)]
    flows.clock.wait(seconds=59)
    assert (await outcome(flows, app, codes[0].form))[0] == 200
    flows.clock.wait(seconds=1)
    assert await outcome(flows, app, codes[1].form) == INVALID


async def test_ensure_authorization_code_is_bound_to_client(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    code, other = await flows.code(app, person), await flows.app(partner)
    assert await outcome(flows, other, code.form) == INVALID
    tokens = (await flows.post(app, code.form)).json()
    assert await outcome(flows, other, code.form) == INVALID
    assert (await flows.approval(tokens["access_token"])).reason is None


async def test_ensure_redirect_uri_in_authorization_request(flows: Flows, app: App) -> None:
    assert await pushing(flows, app, redirect_uri=None) == (400, "invalid_request")


async def test_ensure_registered_redirect_uri(flows: Flows, app: App) -> None:
    for uri in ("https://app.example/other", "https://app.example/back", "https://evil.example/back?kept=a%2Fb"):
        assert await pushing(flows, app, redirect_uri=uri) == (400, "invalid_request")


async def test_ensure_unregistered_redirect_uri_is_never_redirected_to(flows: Flows, partner: tables.Partner) -> None:
    app = await flows.app(partner)
    for changed in ({}, {"response_type": "token"}, {"scope": "nonsense"}, {"code_challenge": None}):
        with pytest.raises(PageError, match="mistake"):
            await flows.begin(flows.asking(app, redirect_uri="https://evil.example/", **changed))


async def test_ensure_redirect_uri_is_the_same_at_the_token_endpoint(
    flows: Flows, app: App, person: BrowserSession
) -> None:
    code = await flows.code(app, person)
    assert await outcome(flows, app, code.form | {"redirect_uri": "https://app.example/back"}) == INVALID


async def test_par_without_code_challenge(flows: Flows, app: App) -> None:
    assert await pushing(flows, app, code_challenge=None, code_challenge_method=None) == (400, "invalid_request")


async def test_par_with_plain_code_challenge_method(flows: Flows, app: App) -> None:
    for method in ("plain", "s256", None):
        assert await pushing(flows, app, code_challenge_method=method) == (400, "invalid_request")


async def test_par_with_malformed_code_challenge(flows: Flows, app: App) -> None:
    for wrong in ("x" * 42, "x" * 44, challenge("v") + "=", "x" * 42 + "ñ", "x" * 42 + "."):
        assert await pushing(flows, app, code_challenge=wrong) == (400, "invalid_request")


async def test_authorization_request_without_pkce(flows: Flows, partner: tables.Partner) -> None:
    for app in (await flows.app(partner), await flows.public_app(partner)):
        told = await flows.refusal(flows.asking(app, code_challenge=None, code_challenge_method=None))
        assert told["error"] == "invalid_request"


async def test_token_request_without_code_verifier(flows: Flows, app: App, person: BrowserSession) -> None:
    form = (await flows.code(app, person)).form
    del form["code_verifier"]
    assert await outcome(flows, app, form) == (400, "invalid_request")


async def test_token_request_with_incorrect_code_verifier(flows: Flows, app: App, person: BrowserSession) -> None:
    code = await flows.code(app, person)
    assert await outcome(flows, app, code.form | {"code_verifier": "w" * 64}) == INVALID
    assert await outcome(flows, app, code.form | {"code_verifier": challenge(code.verifier)}) == INVALID
    assert (await outcome(flows, app, code.form))[0] == 200


async def test_par_attempt_reuse_request_uri(flows: Flows, app: App) -> None:
    pushed = await flows.push(app, flows.asking(app))
    brought = {"client_id": app.id, "request_uri": pushed.json()["request_uri"]}
    await flows.begin(brought)
    with pytest.raises(PageError, match="works once"):
        await flows.begin(brought)


async def test_par_attempt_to_use_expired_request_uri(flows: Flows, app: App) -> None:
    pushed = await flows.push(app, flows.asking(app))
    flows.clock.wait(seconds=90)
    with pytest.raises(PageError, match="works once"):
        await flows.begin({"client_id": app.id, "request_uri": pushed.json()["request_uri"]})


async def test_par_attempt_to_use_request_uri_for_different_client(
    flows: Flows, app: App, partner: tables.Partner
) -> None:
    pushed = await flows.push(app, flows.asking(app))
    other = await flows.app(partner)
    with pytest.raises(PageError, match="works once"):
        await flows.begin({"client_id": other.id, "request_uri": pushed.json()["request_uri"]})


async def test_par_attempt_to_use_request_uri_without_client_id(flows: Flows, app: App) -> None:
    pushed = await flows.push(app, flows.asking(app))
    with pytest.raises(PageError, match="not known"):
        await flows.begin({"request_uri": pushed.json()["request_uri"]})


async def test_par_request_uri_inside_pushed_request(flows: Flows, app: App) -> None:
    pushed = await flows.push(app, flows.asking(app))
    assert await pushing(flows, app, request_uri=pushed.json()["request_uri"]) == (400, "invalid_request")


async def test_ensure_request_without_par_fails(flows: Flows, app: App) -> None:
    assert (await flows.refusal(flows.asking(app)))["error"] == "invalid_request"


async def test_response_type_other_than_code(flows: Flows, app: App) -> None:
    for response_type in ("token", "id_token", "code id_token", "none"):
        assert await pushing(flows, app, response_type=response_type) == (400, "unsupported_response_type")


async def test_refresh_token_is_not_rotated(flows: Flows, app: App, person: BrowserSession) -> None:
    tokens = await flows.tokens(app, person)
    for _ in range(2):
        refreshed = (await flows.refresh(app, tokens["refresh_token"])).json()
        assert refreshed.get("refresh_token", tokens["refresh_token"]) == tokens["refresh_token"]
        assert refreshed["access_token"] != tokens["access_token"]


async def test_refresh_token_is_bound_to_client(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    tokens, other = await flows.tokens(app, person), await flows.app(partner)
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert await outcome(flows, other, form) == INVALID


async def test_refresh_token_reuse_by_public_client(
    flows: Flows, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.public_app(partner)
    first = await flows.tokens(app, person)
    second = (await flows.refresh(app, first["refresh_token"])).json()
    flows.clock.wait(seconds=61)
    for token in (first["refresh_token"], second["refresh_token"]):
        form = {"grant_type": "refresh_token", "refresh_token": token}
        assert await outcome(flows, app, form) == INVALID
    assert (await flows.approval(second["access_token"])).reason == "REFRESH_TOKEN_REUSED"


async def test_client_authentication_is_needed_at_par_and_token(flows: Flows, app: App, person: BrowserSession) -> None:
    code = await flows.code(app, person)
    unproven = App(app.id, None)
    assert await outcome(flows, unproven, code.form) == (401, "invalid_client")
    assert await pushing(flows, unproven) == (401, "invalid_client")
    assert (await outcome(flows, app, code.form))[0] == 200
