"""Clients that sign instead of sharing a secret: at the token endpoint, at PAR, and with more than one key."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from auth.assertions import ASSERTION_TYPE
from auth.clients import Administrator, set_client_state, update_client
from auth.tables import ClientState, GrantType
from gateway.database import Database
from partners.actors import SYSTEM
from tests.api import Api
from tests.holders import KeyClient, encoded, holder, key_client

GRANT = {"grant_type": "client_credentials"}
BACK = "https://brand.example/back"
PUSHED = {
    "response_type": "code",
    "scope": "perks:read",
    "redirect_uri": BACK,
    "code_challenge": encoded(b"c" * 32),
    "code_challenge_method": "S256",
}


@pytest.fixture(scope="module")
async def client(api: Api, database: Database) -> KeyClient:
    return await new_client(api, database)


async def new_client(api: Api, database: Database, *keys: Any, **settings: Any) -> KeyClient:
    return await key_client(database, api.client, api.service.settings.address, api.service.clock, *keys, **settings)


def refused(response: httpx.Response, description: str, error: str = "invalid_client", status: int = 401) -> None:
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert description in response.json()["error_description"]


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "RS256", "Ed25519", "EdDSA"])
async def test_a_client_gets_a_token_by_each_algorithm(api: Api, database: Database, algorithm: str) -> None:
    client = await new_client(api, database, holder(algorithm))
    answered = await client.post(client.assertion())
    assert (answered.status_code, answered.json()["token_type"]) == (200, "Bearer")
    viewer = await client.ask(f"Bearer {answered.json()['access_token']}")
    assert viewer.json()["data"] == {"viewer": {"id": client.client_id}}


async def test_the_audience_is_the_issuer_or_its_token_endpoint_alone_or_in_a_list_of_one(client: KeyClient) -> None:
    for audience in (client.issuer, f"{client.issuer}/oauth/token", [client.issuer]):
        assert (await client.post(client.assertion(audience=audience))).status_code == 200


async def test_clocks_may_be_half_a_minute_apart(client: KeyClient) -> None:
    at = client.clock().timestamp() + 30
    assert (await client.post(client.assertion(iat=at, nbf=at, exp=at + 300))).status_code == 200


async def test_an_assertion_works_once_whatever_it_was_used_for(api: Api, database: Database) -> None:
    client = await new_client(api, database, grant_types=[GrantType.AUTHORIZATION_CODE], redirect_uris=[BACK])
    assertion = client.assertion()
    assert (await client.post(assertion, path="/oauth/par", form=PUSHED)).status_code == 201
    refused(await client.post(assertion, path="/oauth/par", form=PUSHED), "its jti was used before")
    refused(await client.post(assertion), "its jti was used before")


async def test_two_clients_may_choose_the_same_jti(api: Api, database: Database, client: KeyClient) -> None:
    other, jti = await new_client(api, database), uuid4().hex
    for one in (client, other):
        assert (await one.post(one.assertion(jti=jti))).status_code == 200


async def test_a_kid_names_one_of_several_keys_and_is_needed_among_equals(api: Api, database: Database) -> None:
    first, second, rsa = holder(), holder(), holder("PS256")
    keys = [first.public_jwk | {"kid": "first"}, second.public_jwk | {"kid": "second"}, rsa.public_jwk]
    client = await new_client(api, database, first, public_keys={"keys": keys})
    assert (await client.post(client.assertion(header={"kid": "first"}))).status_code == 200
    assert (await client.post(client.assertion(second, header={"kid": "second"}))).status_code == 200
    assert (await client.post(client.assertion(rsa))).status_code == 200
    refused(await client.post(client.assertion(second, header={"kid": "first"})), "unknown client or wrong key")
    refused(await client.post(client.assertion()), "kid names one of several")


async def test_a_key_that_is_replaced_signs_no_more(api: Api, database: Database) -> None:
    former, later = holder(), holder()
    client = await new_client(api, database, former)
    keys = {"public_keys": {"keys": [later.public_jwk]}}
    async with database.sessions.begin() as session:
        await update_client(session, client.client_id, keys, Administrator(SYSTEM), client.clock())
    refused(await client.post(client.assertion(former)), "unknown client or wrong key")
    assert (await client.post(client.assertion(later))).status_code == 200


async def test_only_who_proves_to_be_the_client_hears_that_it_is_disabled(api: Api, database: Database) -> None:
    client = await new_client(api, database)
    async with database.sessions.begin() as session:
        await set_client_state(session, client.client_id, ClientState.DISABLED, Administrator(SYSTEM), client.clock())
    refused(await client.post(client.assertion()), "the client is disabled")
    refused(await client.post(client.assertion(holder())), "unknown client or wrong key")


async def test_an_unknown_client_and_a_wrong_key_get_the_same_answer(client: KeyClient) -> None:
    wrong = await client.post(client.assertion(holder()))
    unknown = await client.post(client.assertion(sub="client_unknown", iss="client_unknown"))
    refused(unknown, "unknown client or wrong key")
    assert (wrong.content, wrong.headers) == (unknown.content, unknown.headers)


@pytest.mark.parametrize("odd", ["\0", "\ud800", "ñ", "\u202e"])
async def test_odd_characters_in_an_assertion_are_no_outage(client: KeyClient, odd: str) -> None:
    refused(await client.post(client.assertion(iss=odd, sub=odd)), "sub is not the id of a client")
    refused(await client.post(client.assertion(header={"kid": odd})), "unknown client or wrong key")
    answered = await client.post(client.assertion(jti=odd + uuid4().hex))
    assert answered.status_code == 200


async def test_a_client_with_keys_has_no_other_way(client: KeyClient) -> None:
    by_secret = await client.http.post("/oauth/token", data=GRANT, auth=(client.client_id, "secret"))
    refused(by_secret, "unknown client or wrong secret")
    by_name = await client.http.post("/oauth/token", data=GRANT | {"client_id": client.client_id})
    refused(by_name, "authenticate with")


@pytest.mark.parametrize(
    ("form", "auth", "description"),
    [
        ({"client_secret": "secret"}, None, "in one way only"),
        ({}, ("client", "secret"), "in one way only"),
        ({"client_assertion_type": "urn:other"}, None, "sent as client_assertion with the type"),
        ({"client_assertion_type": ""}, None, "sent as client_assertion with the type"),
        ({"client_assertion": ""}, None, "sent as client_assertion with the type"),
    ],
)
async def test_an_assertion_comes_alone_and_whole(
    client: KeyClient, form: dict[str, str], auth: Any, description: str
) -> None:
    sent = GRANT | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": client.assertion()} | form
    answered = await client.http.post("/oauth/token", data=sent, auth=auth)
    refused(answered, description, "invalid_request", 400)


async def test_the_client_of_the_form_is_the_one_that_signed(client: KeyClient) -> None:
    form = GRANT | {"client_id": client.client_id}
    assert (await client.post(client.assertion(), form=form)).status_code == 200
    refused(await client.post(client.assertion(), form=form | {"client_id": "client_b"}), "must be the same")


async def test_a_pushed_request_is_bound_to_the_key_that_it_proves_or_names(api: Api, database: Database) -> None:
    client = await new_client(api, database, grant_types=[GrantType.AUTHORIZATION_CODE], redirect_uris=[BACK])
    nonce, key = await client.nonce(), client.holder.thumbprint

    async def push(form: dict[str, str], *proofs: str) -> httpx.Response:
        return await client.post(client.assertion(), *proofs, path="/oauth/par", form=PUSHED | form)

    assert (await push({"dpop_jkt": key})).status_code == 201
    assert (await push({"dpop_jkt": key}, client.proof("/oauth/par", nonce))).status_code == 201
    mismatch = await push({"dpop_jkt": holder().thumbprint}, client.proof("/oauth/par", nonce))
    refused(mismatch, "dpop_jkt is not the key of the DPoP proof", "invalid_request", 400)
    elsewhere = await push({}, client.proof("/oauth/token", nonce))
    refused(elsewhere, "htu is not the address", "invalid_dpop_proof", 400)


async def test_an_assertion_is_remembered_for_as_long_as_it_could_be_accepted(api: Api, client: KeyClient) -> None:
    before = await remembered(api)
    expires_at = client.clock() + timedelta(seconds=329)
    assert (await client.post(client.assertion(exp=int(expires_at.timestamp())))).status_code == 200
    (new,) = await remembered(api) - before
    assert await api.service.cache.ttl(new) > 329


async def remembered(api: Api) -> set[bytes]:
    return {name async for name in api.service.cache.scan_iter("once:assertion:*")}
