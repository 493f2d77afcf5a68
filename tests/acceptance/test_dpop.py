"""Tokens that are bound to a key, at the API: only who proves the key gets in, each time anew."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway import embedded
from gateway.app import Gateway
from gateway.database import Database
from gateway.settings import Settings
from tests.api import Api
from tests.holders import MISSING, KeyClient, encoded, holder, key_client

PATH = "/graphql"
ALGORITHMS = 'algs="ES256 PS256 RS256 Ed25519 EdDSA"'


@pytest.fixture(scope="module")
async def client(api: Api, database: Database) -> KeyClient:
    return await key_client(database, api.client, api.service.settings.address, api.service.clock)


@pytest.fixture(scope="module")
async def nonce(client: KeyClient) -> str:
    return await client.nonce()


@pytest.fixture(scope="module")
async def token(client: KeyClient, nonce: str) -> str:
    return await client.bound_token(nonce)


def refused(response: httpx.Response, error: str, message: str) -> None:
    """401 under the scheme DPoP, with all that a client needs to do better."""
    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert message in response.json()["errors"][0]["message"]
    assert response.headers["www-authenticate"] == f'DPoP error="{error}", {ALGORITHMS}'
    assert response.headers["dpop-nonce"]


async def test_who_proves_the_key_gets_in_and_hears_the_nonce(client: KeyClient, nonce: str, token: str) -> None:
    for _ in range(2):  # the second time the token is known already
        answered = await client.ask(f"DPoP {token}", client.proof(PATH, nonce, token=token))
        assert answered.json() == {"data": {"viewer": {"id": client.client_id}}}
        assert answered.headers["dpop-nonce"] == nonce


@pytest.mark.parametrize(
    ("algorithm", "bits"), [("PS256", 2048), ("RS256", 4096), ("PS256", 4096), ("Ed25519", 0), ("EdDSA", 0)]
)
async def test_every_algorithm_of_the_metadata_gets_in(
    client: KeyClient, nonce: str, algorithm: str, bits: int
) -> None:
    by = holder(algorithm, bits)
    answered = await client.post(client.assertion(), client.proof("/oauth/token", nonce, by))
    token = answered.json()["access_token"]
    assert (await client.ask(f"dpop {token}", client.proof(PATH, nonce, by, token=token))).status_code == 200


async def test_a_question_by_get_needs_a_proof_for_get(client: KeyClient, nonce: str, token: str) -> None:
    headers = {"authorization": f"DPoP {token}"}
    for method, status in (("POST", 401), ("GET", 200)):
        proof = client.proof(PATH, nonce, token=token, method=method)
        answered = await client.http.get(PATH, params={"query": "{ viewer { id } }"}, headers=headers | {"dpop": proof})
        assert answered.status_code == status


OTHER = holder()
BAD_PROOFS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no nonce": ({"nonce": None}, "use_dpop_nonce", "needs the nonce"),
    "a guessed nonce": ({"nonce": "guess"}, "use_dpop_nonce", "needs the nonce"),
    "no hash of the token": ({"ath": MISSING}, "invalid_dpop_proof", "ath is not the hash"),
    "the hash of another token": ({"ath": encoded(b"x" * 32)}, "invalid_dpop_proof", "ath is not the hash"),
    "another endpoint": ({"htu": "http://127.0.0.1:8000/oauth/token"}, "invalid_dpop_proof", "htu is not the address"),
    "another host": ({"htu": "https://evil.example/graphql"}, "invalid_dpop_proof", "htu is not the address"),
    "another method": ({"htm": "GET"}, "invalid_dpop_proof", "htm is not the method"),
    "an old proof": ({"iat": 1}, "invalid_dpop_proof", "iat is not within 60 s"),
    "another key": ({"by": OTHER}, "invalid_token", "another key than the access token is bound to"),
    "another key in name only": ({"header": {"jwk": OTHER.public_jwk}}, "invalid_dpop_proof", "did not sign it"),
}


@pytest.mark.parametrize("name", BAD_PROOFS)
async def test_a_proof_that_does_not_hold_is_told_why(client: KeyClient, nonce: str, token: str, name: str) -> None:
    given, error, message = BAD_PROOFS[name]
    proof = client.proof(PATH, **({"nonce": nonce} | given), token=token)
    refused(await client.ask(f"DPoP {token}", proof), error, message)


async def test_the_host_that_a_request_names_is_not_believed(client: KeyClient, nonce: str, token: str) -> None:
    proof = client.holder.proof(client.clock(), "https://evil.example/graphql", nonce, token=token)
    headers = {"host": "evil.example", "authorization": f"DPoP {token}", "dpop": proof}
    refused(
        await client.http.post(PATH, json={"query": "{ viewer { id } }"}, headers=headers), "invalid_dpop_proof", "htu"
    )


async def test_a_proof_works_once(client: KeyClient, nonce: str, token: str) -> None:
    proof = client.proof(PATH, nonce, token=token)
    assert (await client.ask(f"DPoP {token}", proof)).status_code == 200
    refused(await client.ask(f"DPoP {token}", proof), "invalid_dpop_proof", "was used before")


async def test_a_proof_is_missing_or_one_too_many(client: KeyClient, nonce: str, token: str) -> None:
    refused(await client.ask(f"DPoP {token}"), "invalid_dpop_proof", "needs a DPoP header")
    proofs = [client.proof(PATH, nonce, token=token) for _ in range(2)]
    refused(await client.ask(f"DPoP {token}", *proofs), "invalid_dpop_proof", "more than one DPoP header")


async def test_a_bound_token_is_no_bearer_token(client: KeyClient, nonce: str, token: str) -> None:
    for proofs in ((), (client.proof(PATH, nonce, token=token),)):
        answered = await client.ask(f"Bearer {token}", *proofs)
        assert answered.status_code == 401
        assert "bound to a key: send it as DPoP" in answered.json()["errors"][0]["message"]
        challenges = answered.headers.get_list("www-authenticate")
        assert challenges == ['Bearer error="invalid_token"', f"DPoP {ALGORITHMS}"]


async def test_a_token_that_is_bound_to_no_key_is_not_sent_as_one_that_is(client: KeyClient, nonce: str) -> None:
    token = (await client.post(client.assertion())).json()["access_token"]
    proof = client.proof(PATH, nonce, token=token)
    refused(await client.ask(f"DPoP {token}", proof), "invalid_token", "bound to no key")
    assert (await client.ask(f"Bearer {token}")).status_code == 200
    assert "dpop-nonce" not in (await client.ask(f"Bearer {token}")).headers


async def test_a_broken_token_is_told_under_the_scheme_it_came_with(client: KeyClient, nonce: str, token: str) -> None:
    proof = client.proof(PATH, nonce, token="x.y.z")
    refused(await client.ask("DPoP x.y.z", proof), "invalid_token", "is not a JWT")


async def test_a_scope_that_is_missing_is_told_under_the_scheme_too(client: KeyClient, nonce: str, token: str) -> None:
    proof = client.proof(PATH, nonce, token=token)
    answered = await client.ask(f"DPoP {token}", proof, query='{ client(id: "x") { name } }')
    challenge = answered.headers.get("www-authenticate", "")
    assert (answered.status_code, challenge) == (403, 'DPoP error="insufficient_scope", scope="clients:manage"')
    assert answered.headers["dpop-nonce"] == nonce


async def test_a_client_that_must_prove_its_key_gets_no_other_token(
    api: Api, database: Database, client: KeyClient
) -> None:
    bound = await key_client(database, api.client, client.issuer, client.clock, requires_dpop=True)
    answered = await bound.post(bound.assertion())
    assert (answered.status_code, answered.json()["error"]) == (400, "invalid_dpop_proof")
    assert "has to prove its key" in answered.json()["error_description"]
    token = await bound.bound_token(await bound.nonce())
    assert (await bound.ask(f"Bearer {token}")).status_code == 401


async def test_asking_for_a_nonce_uses_up_no_assertion(client: KeyClient, nonce: str) -> None:
    assertion = client.assertion()
    first = await client.post(assertion, client.proof("/oauth/token", None))
    assert (first.json()["error"], first.headers["dpop-nonce"]) == ("use_dpop_nonce", nonce)
    second = await client.post(assertion, client.proof("/oauth/token", nonce))
    assert (second.status_code, second.headers["dpop-nonce"]) == (200, nonce)


async def test_the_nonce_before_the_current_one_is_taken_and_an_older_one_is_not(
    api: Api, client: KeyClient, token: str, now: datetime
) -> None:
    statuses = []
    for minutes in (0, 5, 10):
        old = api.service.proofs.nonce(now - timedelta(minutes=minutes))
        statuses.append((await client.ask(f"DPoP {token}", client.proof(PATH, old, token=token))).status_code)
    assert statuses == [200, 200, 401]


@pytest.fixture
def short_lived(tmp_path: Path) -> Iterator[embedded.Servers]:
    with embedded.start(tmp_path / "valkey", database=False, durable=False) as started:
        yield started


async def test_without_valkey_no_proof_and_no_assertion_is_taken(
    short_lived: embedded.Servers, database: Database, secret: bytes
) -> None:
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=short_lived.redis_url,
        secret=SecretStr(secret.decode()),
    )
    gateway = Gateway(settings, work=False)
    transport = httpx.ASGITransport(gateway)
    async with gateway.living() as service, httpx.AsyncClient(transport=transport, base_url=settings.address) as http:
        client = await key_client(database, http, settings.address, service.clock)
        nonce = await client.nonce()
        token = await client.bound_token(nonce)
        short_lived.stop()
        assertion, proof = client.assertion(), client.proof(PATH, nonce, token=token)
        for asked in (
            await client.post(assertion),
            await client.post(client.assertion(), client.proof("/oauth/token", nonce)),
        ):
            assert (asked.status_code, asked.json()["error"]) == (503, "temporarily_unavailable")
        answered = await client.ask(f"DPoP {token}", proof)
        assert (answered.status_code, answered.json()["errors"][0]["extensions"]["code"]) == (503, "UNAVAILABLE")
