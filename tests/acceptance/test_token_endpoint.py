"""The token endpoint over HTTP, as honest clients, careless clients and attackers use it."""

import logging
import re
import warnings
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from auth.caller import CallerKind
from auth.clients import register_client
from auth.routes import routes
from auth.scopes import scopes_of
from auth.server import Foundation
from auth.tables import Client, ClientState, GrantType
from auth.tokens import Authority
from gateway import embedded
from partners import tables
from partners.errors import BadInput
from partners.tables import PartnerKind, PartnerState
from tests.flows import HERE, Clock, lay_foundation, reach

Sessions = async_sessionmaker[AsyncSession]
TOKEN = "/oauth/token"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRANT = {"grant_type": "client_credentials"}
SCOPES = ["eligibility:read", "perks:read", "redemptions:read"]
ALLOWED_IN_DESCRIPTIONS = r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,300}"  # RFC 6749 section 5.2
ERRORS = {"invalid_request", "invalid_client", "unsupported_grant_type", "invalid_scope"}


@dataclass
class Endpoint:
    """The authorization server as a client reaches it, and one client of a partner of its own."""

    http: httpx.AsyncClient
    foundation: Foundation
    client: Client
    secret: str

    @property
    def basic(self) -> tuple[str, str]:
        return self.client.id, self.secret

    async def post(self, form: Mapping[str, str], **options: Any) -> httpx.Response:
        return await self.http.post(TOKEN, data=form, **({"auth": self.basic} | options))

    async def raw(
        self, body: bytes, headers: Mapping[str, str] = FORM, authorization: bytes | None = None
    ) -> httpx.Response:
        sent = {name.encode(): value.encode() for name, value in headers.items()}
        sent[b"Authorization"] = authorization or basic(*self.basic)
        return await self.http.post(TOKEN, content=body, headers=sent)


def basic(client_id: str, secret: str) -> bytes:
    return b"Basic " + b64encode(f"{client_id}:{secret}".encode())


@pytest.fixture(scope="module")
async def partner(sessions: Sessions, now: datetime) -> tables.Partner:
    row = tables.Partner(handle=f"brand-{now.timestamp()}", name="A brand", kind=PartnerKind.OTHER, created_at=now)
    async with sessions.begin() as session:
        session.add(row)
    return row


@pytest.fixture(scope="module")
async def endpoint(
    servers: embedded.Servers, sessions: Sessions, secret: bytes, now: datetime, partner: tables.Partner
) -> AsyncIterator[Endpoint]:
    foundation = await lay_foundation(sessions, str(servers.redis_url), secret, Clock())
    async with sessions.begin() as session:
        client, client_secret = await register_client(session, partner, "server", SCOPES, now)
    async with reach(foundation) as http:
        yield Endpoint(http, foundation, client, client_secret)
    await foundation.cache.aclose()


def refused(response: httpx.Response, status: int, error: str, description: str) -> None:
    body = response.json()
    assert (response.status_code, body["error"]) == (status, error)
    assert description in body["error_description"]
    assert re.fullmatch(ALLOWED_IN_DESCRIPTIONS, body["error_description"])
    assert response.headers["cache-control"] == "no-store"
    assert (response.headers.get("www-authenticate", "").partition(" ")[0] == "Basic") is (status == 401)


async def test_a_client_gets_a_token_that_the_service_accepts(endpoint: Endpoint) -> None:
    response = await endpoint.post(GRANT)
    assert response.status_code == 200
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    body = response.json()
    token = body.pop("access_token")
    assert body == {"token_type": "Bearer", "expires_in": 600, "scope": " ".join(SCOPES)}
    caller = await endpoint.foundation.verifier.caller(b"Bearer " + token.encode(), datetime.now(UTC))
    assert (caller.id, caller.partner_id) == (endpoint.client.id, endpoint.client.partner_id)
    assert caller.scopes == set(SCOPES)


async def test_the_published_keys_verify_the_token(endpoint: Endpoint) -> None:
    token = (await endpoint.post(GRANT)).json()["access_token"]
    published = await endpoint.http.get("/.well-known/jwks.json")
    decoded = jwt.decode(token, KeySet.import_key_set(published.json()), algorithms=["ES256"])
    assert (decoded.header["typ"], decoded.claims["iss"]) == ("at+jwt", HERE.issuer)
    assert published.headers["cache-control"] == "public, max-age=300"
    assert all("d" not in key for key in published.json()["keys"])


async def test_the_metadata_says_what_is_there_and_nothing_else(endpoint: Endpoint) -> None:
    response = await endpoint.http.get("/.well-known/oauth-authorization-server")
    assert response.headers["cache-control"] == "public, max-age=300"
    algorithms = ["ES256", "PS256", "RS256", "Ed25519", "EdDSA"]
    proven = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
    assert response.json() == {
        "issuer": "https://perks.example",
        "authorization_endpoint": "https://perks.example/oauth/authorize",
        "pushed_authorization_request_endpoint": "https://perks.example/oauth/par",
        "require_pushed_authorization_requests": False,
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint": "https://perks.example/oauth/token",
        "device_authorization_endpoint": "https://perks.example/oauth/device_authorization",
        "introspection_endpoint": "https://perks.example/oauth/introspect",
        "introspection_endpoint_auth_methods_supported": proven,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": "https://perks.example/oauth/revoke",
        "revocation_endpoint_auth_methods_supported": [*proven, "none"],
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "jwks_uri": "https://perks.example/.well-known/jwks.json",
        "scopes_supported": sorted(scope for kind in CallerKind for scope in scopes_of(kind)),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GrantType),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*proven, "none"],
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": algorithms,
    }


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_authlibs_own_client_gets_a_token(endpoint: Endpoint, method: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Authlib would rather have httpx2
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
    async with AsyncOAuth2Client(
        *endpoint.basic, token_endpoint_auth_method=method, transport=endpoint.http._transport
    ) as client:
        token = await client.fetch_token(
            "https://any.example" + TOKEN, grant_type="client_credentials", scope="perks:read"
        )
    assert (token["token_type"], token["scope"]) == ("Bearer", "perks:read")


async def test_a_client_may_post_its_secret(endpoint: Endpoint) -> None:
    client_id, secret = endpoint.basic
    response = await endpoint.post(GRANT | {"client_id": client_id, "client_secret": secret}, auth=None)
    assert response.status_code == 200


async def test_basic_credentials_may_be_form_encoded_and_name_the_client_twice(endpoint: Endpoint) -> None:
    client_id, secret = (quote_plus(part).replace("_", "%5F") for part in endpoint.basic)
    body = urlencode(GRANT | {"client_id": endpoint.client.id, "unknown": "ignored"}).encode()
    assert (await endpoint.raw(body, authorization=basic(client_id, secret))).status_code == 200


async def test_a_client_gets_the_scopes_it_asks_for(endpoint: Endpoint) -> None:
    response = await endpoint.post(GRANT | {"scope": "redemptions:read perks:read"})
    assert response.json()["scope"] == "perks:read redemptions:read"


@pytest.mark.parametrize("scope", ["", " "])
async def test_an_empty_scope_is_no_scope_and_gives_all_of_the_clients(endpoint: Endpoint, scope: str) -> None:
    assert (await endpoint.post(GRANT | {"scope": scope})).json()["scope"] == " ".join(SCOPES)


async def test_every_scope_that_is_not_the_clients_is_named(endpoint: Endpoint) -> None:
    response = await endpoint.post(GRANT | {"scope": 'perks:read perks:write audit:read no"nsense\\ñ'})
    refused(response, 400, "invalid_scope", "not among the scopes of this client: audit:read no?nsense?? perks:write")


@pytest.mark.parametrize("grant_type", ["password", "implicit", "urn:x\x7f", "ñ" * 9, "CLIENT_CREDENTIALS"])
async def test_no_other_grant_is_supported(endpoint: Endpoint, grant_type: str) -> None:
    response = await endpoint.post({"grant_type": grant_type})
    error = "invalid_request" if "\x7f" in grant_type else "unsupported_grant_type"
    refused(response, 400, error, "")


async def test_an_unknown_client_and_a_wrong_secret_get_the_same_answer(endpoint: Endpoint) -> None:
    wrong = await endpoint.post(GRANT, auth=(endpoint.client.id, "guess"))
    unknown = await endpoint.post(GRANT, auth=("client_unknown", endpoint.secret))
    posted = await endpoint.post(GRANT | {"client_id": "client_unknown", "client_secret": "guess"}, auth=None)
    refused(wrong, 401, "invalid_client", "unknown client or wrong secret")
    assert wrong.content == unknown.content == posted.content
    assert wrong.headers == unknown.headers == posted.headers


async def test_a_disabled_client_gets_no_token(
    endpoint: Endpoint, sessions: Sessions, partner: tables.Partner, now: datetime
) -> None:
    async with sessions.begin() as session:
        client, secret = await register_client(session, partner, "lost laptop", SCOPES, now)
        client.state = ClientState.DISABLED
    refused(await endpoint.post(GRANT, auth=(client.id, secret)), 401, "invalid_client", "the client is disabled")


async def test_a_suspended_partner_gets_no_token(
    endpoint: Endpoint, sessions: Sessions, partner: tables.Partner
) -> None:
    async def set_state(state: PartnerState) -> None:
        async with sessions.begin() as session:
            await session.execute(sa.update(tables.Partner).where(sa.column("id") == partner.id).values(state=state))

    await set_state(PartnerState.SUSPENDED)
    try:
        refused(await endpoint.post(GRANT), 401, "invalid_client", "the partner is suspended")
    finally:
        await set_state(PartnerState.ACTIVE)
    assert (await endpoint.post(GRANT)).status_code == 200


GOOD = b"grant_type=client_credentials"
BAD_BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "nothing": (b"", {}, 400, "grant_type is missing"),
    "no grant type": (b"scope=perks%3Aread", {}, 400, "grant_type is missing"),
    "an empty grant type": (b"grant_type=", {}, 400, "grant_type is missing"),
    "a repeated grant type": (GOOD + b"&" + GOOD, {}, 400, "repeated parameters: grant_type"),
    "a repeated empty scope": (GOOD + b"&scope=&scope=", {}, 400, "repeated parameters: scope"),
    "a repeated unknown parameter": (GOOD + b"&x=1&x=2", {}, 400, "repeated parameters: x"),
    "another client in the body": (GOOD + b"&client_id=other", {}, 400, "not the client of the Authorization header"),
    "two ways to authenticate": (GOOD + b"&client_secret=x", {}, 400, "in one way only"),
    "JSON": (b'{"grant_type":"client_credentials"}', {"Content-Type": "application/json"}, 400, "Content-Type"),
    "JSON in name of a form": (b'{"grant_type":"client_credentials"}', {}, 400, "not a form"),
    "multipart": (GOOD, {"Content-Type": "multipart/form-data; boundary=x"}, 400, "Content-Type"),
    "no type": (GOOD, {"Content-Type": ""}, 400, "Content-Type"),
    "bytes that are not UTF-8": (GOOD + b"&scope=\xff\xfe", {}, 400, "not a form in UTF-8"),
    "escapes that are not UTF-8": (GOOD + b"&scope=%ff%fe", {}, 400, "not a form in UTF-8"),
    "an escaped surrogate": (GOOD + b"&scope=%ed%a0%80", {}, 400, "not a form in UTF-8"),
    "a NUL": (GOOD + b"&scope=%00", {}, 400, "control characters"),
    "a name alone": (GOOD + b"&scope", {}, 400, "not a form"),
    "too many parameters": (GOOD + b"".join(b"&p%d=1" % n for n in range(50)), {}, 400, "not a form"),
    "a megabyte": (GOOD + b"&x=" + b"A" * 2**20, {}, 413, "longer than 16384 bytes"),
    "one byte too many": (GOOD + b"&x=" + b"A" * (16385 - 32), {}, 413, "longer than 16384 bytes"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_is_not_a_plain_form_is_refused(endpoint: Endpoint, name: str) -> None:
    body, headers, status, description = BAD_BODIES[name]
    refused(await endpoint.raw(body, FORM | headers), status, "invalid_request", description)


async def test_a_body_of_just_the_limit_is_read(endpoint: Endpoint) -> None:
    assert (await endpoint.raw(GOOD + b"&x=" + b"A" * (16384 - 32))).status_code == 200


async def test_parameters_in_the_address_are_refused(endpoint: Endpoint) -> None:
    response = await endpoint.http.post(f"{TOKEN}?grant_type=client_credentials", data=GRANT, auth=endpoint.basic)
    refused(response, 400, "invalid_request", "into the body")


@pytest.mark.parametrize(
    ("authorization", "description"),
    [
        (b"Bearer x", "must be HTTP Basic"),
        (b"Basic", "not client_id:client_secret"),
        (b"Basic !!!", "not Base64 of UTF-8"),
        (b"Basic \xff\xfe", "not Base64 of UTF-8"),
        (b"Basic " + b64encode(b"\xff:\xfe"), "not Base64 of UTF-8"),
        (b"Basic " + b64encode(b"%ff:%fe"), "not Base64 of UTF-8"),
        (b"Basic " + b64encode(b"nocolon"), "not client_id:client_secret"),
        (b"Basic " + b64encode(b":secret"), "not client_id:client_secret"),
        (b"Basic " + b64encode(b"client:"), "not client_id:client_secret"),
        (b"Basic " + b64encode(b"a%00b:secret"), "not client_id:client_secret"),
        (b"Basic " + b64encode("ñ:ñ".encode()), "unknown client or wrong secret"),
    ],
)
async def test_credentials_that_can_not_be_read_are_refused(
    endpoint: Endpoint, authorization: bytes, description: str
) -> None:
    refused(await endpoint.raw(GOOD, authorization=authorization), 401, "invalid_client", description)


@pytest.mark.parametrize("form", [GRANT, GRANT | {"client_id": "client_a"}, GRANT | {"client_secret": "x"}])
async def test_a_client_that_does_not_authenticate_is_told_how(endpoint: Endpoint, form: Mapping[str, str]) -> None:
    refused(await endpoint.post(form, auth=None), 401, "invalid_client", "authenticate with HTTP Basic")


async def test_two_authorization_headers_are_refused(endpoint: Endpoint) -> None:
    credentials = basic(*endpoint.basic)
    headers = [(b"Authorization", credentials), (b"Authorization", credentials)]
    headers += [(name.encode(), value.encode()) for name, value in FORM.items()]
    refused(await endpoint.http.post(TOKEN, content=GOOD, headers=headers), 400, "invalid_request", "in one way only")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_only_post_gets_a_token(endpoint: Endpoint, method: str) -> None:
    response = await endpoint.http.request(method, TOKEN, auth=endpoint.basic)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


PARAMETERS = st.sampled_from(["grant_type", "scope", "client_id", "client_secret", "resource", "client_assertion", ""])
VALUES = st.text(max_size=40) | st.sampled_from(["client_credentials", "perks:read", "client_", "\x00", "A" * 500])
BODIES = st.binary(max_size=200) | st.lists(st.tuples(PARAMETERS, VALUES), max_size=6).map(
    lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
)
AUTHORIZATIONS = st.none() | st.binary(max_size=60) | st.binary(max_size=60).map(lambda raw: b"Basic " + b64encode(raw))


@given(BODIES, AUTHORIZATIONS, st.sampled_from([*FORM.values(), "application/json", "", "text/plain; charset=utf-16"]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_no_request_makes_the_endpoint_fail(
    endpoint: Endpoint, body: bytes, authorization: bytes | None, content_type: str
) -> None:
    response = await endpoint.raw(body, {"Content-Type": content_type}, authorization)
    assert response.status_code in (200, 400, 401)
    assert response.headers["cache-control"] == "no-store"
    if response.status_code != 200:
        assert response.json()["error"] in ERRORS
        assert re.fullmatch(ALLOWED_IN_DESCRIPTIONS, response.json()["error_description"])


async def test_nothing_secret_is_written_to_the_log_even_at_debug(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("", "authlib", "sqlalchemy.engine", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, logger or None)
    client_id, secret = endpoint.basic
    answers = [
        await endpoint.post(GRANT),
        await endpoint.post(GRANT | {"client_id": client_id, "client_secret": secret}, auth=None),
        await endpoint.post(GRANT | {"client_secret": secret}),
        await endpoint.post(GRANT | {"scope": "audit:read"}),
        await endpoint.post(GRANT, auth=("client_unknown", secret)),
        await endpoint.raw(GOOD + b"&client_secret=" + secret.encode() + b"%ff"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 400, 401, 400]
    tokens = [answer.json()["access_token"] for answer in answers[:2]]
    logged = caplog.text + "".join(f"{record.args}" for record in caplog.records)
    assert client_id in logged
    for hidden in (secret, basic(client_id, secret).decode().split()[1], *tokens, *(t.split(".")[2] for t in tokens)):
        assert hidden not in logged


async def test_a_database_that_is_down_is_said_so_without_a_trace(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
    async with reach(replace(endpoint.foundation, sessions=async_sessionmaker(engine))) as http:
        response = await http.post(TOKEN, data=GRANT, auth=endpoint.basic)
    assert (response.status_code, response.json()) == (503, {"error": "temporarily_unavailable"})
    assert (response.headers["retry-after"], response.headers["cache-control"]) == ("1", "no-store")
    assert [record.levelname for record in caplog.records if record.name == "auth.server"] == ["ERROR"]
    assert endpoint.secret not in caplog.text
    await engine.dispose()


@pytest.mark.parametrize(
    "issuer", ["http://perks.example", "perks.example", "", "https://perks.example?a=b", "https://perks.example#a"]
)
def test_an_issuer_that_clients_could_not_trust_does_not_start(endpoint: Endpoint, issuer: str) -> None:
    with pytest.raises(BadInput, match="can't be the issuer"):
        routes(replace(endpoint.foundation, authority=Authority(issuer, "a", "b")))
