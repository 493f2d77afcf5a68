"""The modules of the FAPI 2.0 conformance suite that are about keys of clients, over real HTTP with two processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from examples.complete_journey.replay import free_port, serving
from gateway.database import Database, open_database
from gateway.embedded import Servers
from gateway.settings import Settings
from tests.holders import MISSING, KeyClient, encoded, holder, key_client

AT_ONCE = 50
TOKEN = "/oauth/token"


@pytest.fixture(scope="module")
async def running(
    servers: Servers, new_database: Callable[[], Awaitable[str]], secret: bytes
) -> AsyncIterator[tuple[Settings, Database]]:
    """The service in two processes of its own, with the real clock."""
    address = await new_database()
    settings = Settings(
        database_url=address,
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        port=free_port(),
        log_level="WARNING",
    )
    database = open_database(address, connections=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERKS_WORKERS", "2")
        with serving(settings):
            yield settings, database
    await database.engine.dispose()


@pytest.fixture(scope="module")
async def client(running: tuple[Settings, Database]) -> AsyncIterator[KeyClient]:
    settings, database = running
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=settings.address, limits=limits, timeout=30) as http:
        yield await key_client(database, http, settings.address, lambda: datetime.now(UTC))


@pytest.fixture(scope="module")
async def nonce(client: KeyClient) -> str:
    return await client.nonce()


@pytest.fixture(scope="module")
async def token(client: KeyClient, nonce: str) -> str:
    return await client.bound_token(nonce)


def refused(response: httpx.Response, error: str, status: int) -> None:
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["error_description"]


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


async def test_happy_path_with_private_key_jwt_and_dpop(client: KeyClient, nonce: str) -> None:
    token = await client.bound_token(nonce)
    answered = await client.ask(f"DPoP {token}", client.proof("/graphql", nonce, token=token))
    assert answered.json() == {"data": {"viewer": {"id": client.client_id}}}


async def test_of_fifty_uses_at_once_of_one_assertion_exactly_one_succeeds(client: KeyClient) -> None:
    assertion = client.assertion()
    answers = await asyncio.gather(*(client.post(assertion) for _ in range(AT_ONCE)))
    assert statuses(answers) == {200: 1, 401: AT_ONCE - 1}


async def test_of_fifty_uses_at_once_of_one_proof_at_the_token_endpoint_exactly_one_succeeds(
    client: KeyClient, nonce: str
) -> None:
    proof = client.proof(TOKEN, nonce)
    answers = await asyncio.gather(*(client.post(client.assertion(), proof) for _ in range(AT_ONCE)))
    assert statuses(answers) == {200: 1, 400: AT_ONCE - 1}
    assert {answer.json()["error"] for answer in answers if answer.status_code == 400} == {"invalid_dpop_proof"}


async def test_of_fifty_uses_at_once_of_one_proof_at_the_api_exactly_one_succeeds(
    client: KeyClient, nonce: str, token: str
) -> None:
    proof = client.proof("/graphql", nonce, token=token)
    answers = await asyncio.gather(*(client.ask(f"DPoP {token}", proof) for _ in range(AT_ONCE)))
    assert statuses(answers) == {200: 1, 401: AT_ONCE - 1}


async def test_fifty_proofs_of_one_key_at_once_all_succeed(client: KeyClient, nonce: str, token: str) -> None:
    proofs = [client.proof("/graphql", nonce, token=token) for _ in range(AT_ONCE)]
    assert statuses(await asyncio.gather(*(client.ask(f"DPoP {token}", proof) for proof in proofs))) == {200: AT_ONCE}


ASSERTION_MODULES: dict[str, Callable[[float], dict[str, Any]]] = {
    "ensure-client-assertion-with-wrong-aud-fails": lambda at: {"aud": "https://other-server.example"},
    "ensure-client-assertion-with-array-of-two-aud-fails": lambda at: {"aud": ["https://other-server.example"] * 2},
    "ensure-client-assertion-with-no-aud-fails": lambda at: {"aud": MISSING},
    "ensure-client-assertion-with-exp-missing-fails": lambda at: {"exp": MISSING},
    "ensure-client-assertion-with-exp-is-5-minutes-in-past-fails": lambda at: {"iat": at - 600, "exp": at - 300},
    "ensure-client-assertion-with-exp-is-too-far-ahead-fails": lambda at: {"exp": at + 3600},
    "ensure-client-assertion-with-iat-is-65-seconds-in-the-future-fails": lambda at: {"iat": at + 65},
    "ensure-client-assertion-with-nbf-is-65-seconds-in-the-future-fails": lambda at: {"nbf": at + 65},
    "ensure-client-assertion-with-no-sub-fails": lambda at: {"sub": MISSING},
    "ensure-client-assertion-with-iss-and-sub-of-another-client-fails": lambda at: {"iss": "other", "sub": "other"},
    "ensure-client-assertion-with-jti-missing-fails": lambda at: {"jti": MISSING},
    "ensure-client-assertion-signed-by-another-key-fails": lambda at: {"by": holder()},
    "ensure-client-assertion-with-alg-none-fails": lambda at: {"header": {"alg": "none"}},
}


@pytest.mark.parametrize("module", ASSERTION_MODULES)
async def test_module_of_client_assertions(client: KeyClient, module: str) -> None:
    given = ASSERTION_MODULES[module](client.clock().timestamp())
    refused(await client.post(client.assertion(**given)), "invalid_client", 401)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_ensure_client_assertion_from_8_seconds_in_the_future_is_accepted(client: KeyClient, claim: str) -> None:
    given: dict[str, Any] = {claim: client.clock().timestamp() + 8}
    assert (await client.post(client.assertion(**given))).status_code == 200


async def test_client_assertion_jti_reused(client: KeyClient) -> None:
    assertion = client.assertion(jti="8f2c")
    assert (await client.post(assertion)).status_code == 200
    refused(await client.post(client.assertion(jti="8f2c")), "invalid_client", 401)


DPOP_MODULES: dict[str, tuple[dict[str, Any], str]] = {
    "dpop-nonce-missing": ({"nonce": MISSING}, "use_dpop_nonce"),
    "dpop-nonce-wrong": ({"nonce": encoded(b"n" * 16)}, "use_dpop_nonce"),
    "dpop-proof-with-private-key-in-jwk-fails": (
        {"header": {"jwk": dict(holder().key.as_dict(private=True))}},
        "invalid_dpop_proof",
    ),
    "dpop-proof-signed-by-another-key-fails": ({"header": {"jwk": holder().public_jwk}}, "invalid_dpop_proof"),
    "dpop-proof-with-wrong-typ-fails": ({"header": {"typ": "JWT"}}, "invalid_dpop_proof"),
    "dpop-proof-with-alg-none-fails": ({"header": {"alg": "none"}}, "invalid_dpop_proof"),
    "dpop-proof-with-wrong-htm-fails": ({"htm": "GET"}, "invalid_dpop_proof"),
    "dpop-proof-with-wrong-htu-fails": ({"htu": "https://other-server.example/oauth/token"}, "invalid_dpop_proof"),
    "dpop-proof-with-iat-missing-fails": ({"iat": MISSING}, "invalid_dpop_proof"),
    "dpop-proof-with-iat-in-the-past-fails": ({"iat": 1_600_000_000}, "invalid_dpop_proof"),
    "dpop-proof-with-jti-missing-fails": ({"jti": MISSING}, "invalid_dpop_proof"),
}


@pytest.mark.parametrize("module", DPOP_MODULES)
async def test_module_of_dpop_at_the_token_endpoint(client: KeyClient, nonce: str, module: str) -> None:
    given, error = DPOP_MODULES[module]
    answered = await client.post(client.assertion(), client.proof(TOKEN, **({"nonce": nonce} | given)))
    refused(answered, error, 400)
    assert answered.headers["dpop-nonce"]


@pytest.mark.parametrize("module", DPOP_MODULES)
async def test_module_of_dpop_at_the_api(client: KeyClient, nonce: str, token: str, module: str) -> None:
    given, error = DPOP_MODULES[module]
    answered = await client.ask(f"DPoP {token}", client.proof("/graphql", **({"nonce": nonce} | given), token=token))
    assert answered.status_code == 401
    assert answered.headers["www-authenticate"].startswith(f'DPoP error="{error}"')
    assert answered.headers["dpop-nonce"]


async def test_dpop_proof_replay_fails(client: KeyClient, nonce: str) -> None:
    proof = client.proof(TOKEN, nonce)
    assert (await client.post(client.assertion(), proof)).status_code == 200
    refused(await client.post(client.assertion(), proof), "invalid_dpop_proof", 400)


async def test_dpop_proof_missing_for_a_client_that_requires_it_fails(
    running: tuple[Settings, Database], client: KeyClient
) -> None:
    bound = await key_client(running[1], client.http, client.issuer, client.clock, requires_dpop=True)
    refused(await bound.post(bound.assertion()), "invalid_dpop_proof", 400)


async def test_dpop_bound_token_with_wrong_ath_or_key_or_as_bearer_fails(
    client: KeyClient, nonce: str, token: str
) -> None:
    for authorization, proof in (
        (f"DPoP {token}", client.proof("/graphql", nonce, token="another")),
        (f"DPoP {token}", client.proof("/graphql", nonce, holder(), token=token)),
        (f"Bearer {token}", client.proof("/graphql", nonce, token=token)),
    ):
        assert (await client.ask(authorization, proof)).status_code == 401
    assert (await client.ask(f"DPoP {token}")).status_code == 401
    assert (await client.ask(f"Bearer {token}")).status_code == 401
