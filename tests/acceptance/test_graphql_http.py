"""GraphQL over HTTP as a client meets it, with a port of what npm's `graphql-http` audits."""

import gc
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import strawberry
from structlog.testing import capture_logs

from auth.caller import CallerKind
from schema.http import GraphQLEndpoint
from schema.permissions import Public, field, object_type
from tests.toy_schema import ToyContext, admit, client, schema, token

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client(GraphQLEndpoint(schema, admit=admit, timeout_s=0.2)) as http:
        yield http


async def ask(http: httpx.AsyncClient, query: str, accept: str = GRAPHQL, **parameters: Any) -> httpx.Response:
    headers = {"accept": accept, **parameters.pop("headers", {})}
    return await http.post("/graphql", json={"query": query, **parameters}, headers=headers)


def codes(response: httpx.Response) -> list[str]:
    """The errors' codes, after a look at what every error response owes its reader."""
    body = response.json()
    for error in body["errors"]:
        assert error["message"]
        assert error["extensions"]["requestId"] == response.headers["x-request-id"]
    return [error["extensions"]["code"] for error in body["errors"]]


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        ("application/json; charset=utf-8", JSON),
        (GRAPHQL, GRAPHQL),
        (GRAPHQL.upper(), GRAPHQL),
        (f"{GRAPHQL}, {JSON};q=0.9", GRAPHQL),
        (f"{JSON};q=0.9, {GRAPHQL};q=0.8", JSON),
        (f"{GRAPHQL};q=0, */*", JSON),
        (f"text/event-stream, multipart/mixed, {GRAPHQL}, {JSON}", GRAPHQL),
    ],
)
async def test_the_answer_has_the_media_type_the_client_likes_best(
    http: httpx.AsyncClient, accept: str | None, answered: str
) -> None:
    request = http.build_request("POST", "/graphql", json={"query": "{ __typename }"})
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    response = await http.send(request)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{answered}; charset=utf-8"
    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("accept", ["text/plain", "application/jsonfoo", f"{JSON};q=0", f"{JSON};q=x", ""])
async def test_a_client_that_takes_nothing_we_have_is_not_acceptable(http: httpx.AsyncClient, accept: str) -> None:
    response = await ask(http, "{ __typename }", accept)
    assert (response.status_code, codes(response)) == (406, ["NOT_ACCEPTABLE"])


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/jsonfoo",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
    ],
)
async def test_a_body_that_does_not_call_itself_json_is_unsupported(
    http: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await http.post("/graphql", content=b'{"query": "{ __typename }"}', headers=headers)
    assert (response.status_code, codes(response)) == (415, ["UNSUPPORTED_MEDIA_TYPE"])


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON", 'application/json;charset="UTF-8"'])
async def test_json_in_utf_8_is_supported(http: httpx.AsyncClient, content_type: str) -> None:
    body = '{"query": "{ __type(name: \\"Run🏃\\") { name } }"}'.encode()
    response = await http.post("/graphql", content=body, headers={"content-type": content_type})
    assert response.json() == {"data": {"__type": None}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"3",
        b'"x"',
        b"null",
        b"[]",
        b'[{"query": "{ __typename }"}]',
        b'{ "not a JSON',
        b"\xff\xfe",
        b'{"query": "\xff"}',
        b'{"query": "\\ud800"}',
        b"{}",
        b'{"qeury": "{ __typename }"}',
        b'{"query": {"ob": "ject"}}',
        b'{"query": 0}',
        b'{"query": false}',
        b'{"query": ["array"]}',
        b'{"query": null}',
        b'{"query": "{ __typename }", "operationName": 0}',
        b'{"query": "{ __typename }", "variables": "string"}',
        b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "extensions": false}',
        b'{"query": "{ __typename }", "documentId": "sha256:00"}',
        b'{"extensions": {"persistedQuery": 1}}',
        b'{"extensions": {"persistedQuery": {"version": 2, "sha256Hash": "00"}}}',
        b"[" * 10_000,
    ],
)
@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
async def test_a_malformed_request_is_a_bad_request(http: httpx.AsyncClient, body: bytes, accept: str) -> None:
    response = await http.post("/graphql", content=body, headers={"content-type": JSON, "accept": accept})
    assert (response.status_code, codes(response)) == (400, ["BAD_REQUEST"])
    assert "data" not in response.json()


@pytest.mark.parametrize("name", ["operationName", "variables", "extensions", "documentId"])
async def test_null_parameters_are_absent_parameters(http: httpx.AsyncClient, name: str) -> None:
    response = await ask(http, "{ __typename }", **{name: None})
    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("{", {}, "GRAPHQL_PARSE_FAILED"),
        ("{ 8f31403dfe404bccbb0e835f2629c6a7 }", {}, "GRAPHQL_PARSE_FAILED"),
        ("{ unknown }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("query($id: ID!) { node(id: $id) { id } }", {"id": None}, "BAD_USER_INPUT"),
        ("query A { __typename } query B { __typename }", {}, "OPERATION_RESOLUTION_FAILURE"),
        ("{ thing" + " { parts" * 10 + " { id" + " }" * 12, {}, "LIMIT_EXCEEDED"),
    ],
)
async def test_a_request_error_is_a_400_or_for_plain_json_a_200(
    http: httpx.AsyncClient, query: str, variables: dict[str, Any], code: str
) -> None:
    for accept, status in ((GRAPHQL, 400), (JSON, 200)):
        response = await ask(http, query, accept, variables=variables)
        assert (response.status_code, codes(response)) == (status, [code])
        assert "data" not in response.json()


async def test_a_body_of_64_kib_is_read_and_one_byte_more_is_not(http: httpx.AsyncClient) -> None:
    body = b'{"query": "{ __typename }"}'
    for size, status in ((65_536, 200), (65_537, 413)):
        response = await http.post("/graphql", content=body.ljust(size), headers={"content-type": JSON})
        assert response.status_code == status
    assert codes(response) == ["BODY_TOO_LARGE"]


async def test_a_body_without_a_length_is_stopped_on_the_way(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 10_000
            yield b" " * 10_000

    response = await http.post("/graphql", content=endless(), headers={"content-type": JSON})
    assert (response.status_code, codes(response)) == (413, ["BODY_TOO_LARGE"])
    assert sent <= 80_000


async def test_a_query_may_come_by_get(http: httpx.AsyncClient) -> None:
    parameters = {
        "query": "query Some($n: Int!) { things(count: $n) { name } } query Other { me }",
        "variables": json.dumps({"n": 1}),
        "operationName": "Some",
        "extensions": "{}",
    }
    response = await http.get("/graphql", params=parameters)
    assert response.json() == {"data": {"things": [{"name": "ring 0"}]}}


@pytest.mark.parametrize(
    "query_string", ["", "query=%FF", "query={a}&query={b}", "query={a}&variables={", "variables=3"]
)
async def test_a_malformed_query_string_is_a_bad_request(http: httpx.AsyncClient, query_string: str) -> None:
    response = await http.get(f"/graphql?{query_string}")
    assert (response.status_code, codes(response)) == (400, ["BAD_REQUEST"])


async def test_a_mutation_by_get_is_not_allowed_and_does_not_run(http: httpx.AsyncClient) -> None:
    for accept in (JSON, GRAPHQL):
        response = await http.get("/graphql", params={"query": "mutation { wave }"}, headers={"accept": accept})
        assert (response.status_code, codes(response)) == (405, ["METHOD_NOT_ALLOWED"])
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
async def test_other_methods_are_not_allowed(http: httpx.AsyncClient, method: str) -> None:
    response = await http.request(method, "/graphql")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"


async def test_without_a_token_the_challenge_names_both_schemes(http: httpx.AsyncClient) -> None:
    for accept in (JSON, GRAPHQL):
        response = await ask(http, "{ me thing { name } }", accept)
        assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])
        assert response.headers.get_list("www-authenticate") == [
            "Bearer",
            'DPoP algs="ES256 PS256 RS256 Ed25519 EdDSA"',
        ]
        assert response.json()["data"] is None
        assert response.json()["errors"][0]["path"] == ["me"]


async def test_a_token_that_does_not_hold_is_an_invalid_token(http: httpx.AsyncClient) -> None:
    response = await ask(http, "{ thing { name } }", headers={"authorization": "Bearer expired"})
    assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])
    assert response.headers.get_list("www-authenticate")[0] == 'Bearer error="invalid_token"'
    assert "data" not in response.json()


async def test_a_weak_token_is_told_every_scope_it_lacks(http: httpx.AsyncClient) -> None:
    response = await ask(http, "{ secret { price } entries { id } }", headers=token(CallerKind.STAFF))
    assert (response.status_code, codes(response)) == (403, ["INSUFFICIENT_SCOPE"] * 2)
    assert response.json()["errors"][0]["extensions"]["missingScopes"] == ["audit:read", "prices:read"]
    assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="audit:read prices:read"'


async def test_the_wrong_kind_of_caller_is_forbidden_without_a_challenge(http: httpx.AsyncClient) -> None:
    response = await ask(http, "{ me }", headers=token(CallerKind.PARTNER))
    assert (response.status_code, codes(response)) == (403, ["FORBIDDEN"])
    assert "www-authenticate" not in response.headers


async def test_a_denied_field_leaves_no_part_of_a_mutation_behind() -> None:
    contexts = []

    async def remembering(scope: Any) -> Any:
        contexts.append(await admit(scope))
        return contexts[-1]

    async with client(GraphQLEndpoint(schema, admit=remembering)) as http:
        denied = await ask(http, 'mutation { wave claim(name: "ring") }')
        assert (denied.status_code, contexts[-1].claims) == (401, [])
        admitted = await ask(
            http, 'mutation { wave claim(name: "ring") }', headers=token(CallerKind.MEMBER, "me:claim")
        )
        assert (admitted.json(), contexts[-1].claims) == ({"data": {"wave": "wave", "claim": "ring"}}, ["wave", "ring"])


async def test_an_object_that_does_not_admit_the_caller_stays_closed_behind_an_interface(
    http: httpx.AsyncClient,
) -> None:
    text = '{ entry: node(id: "entry:1") { id } thing: node(id: "1") { id } }'
    for _ in range(6):  # often enough for compiled completion
        response = await ask(http, text, headers=token(CallerKind.MEMBER))
        assert codes(response) == ["FORBIDDEN"]
        assert response.json()["data"] == {"entry": None, "thing": {"id": "thing:ring"}}
        response = await ask(http, text, headers=token(CallerKind.STAFF, "audit:read"))
        assert response.json()["data"] == {"entry": {"id": "entry:1"}, "thing": {"id": "thing:ring"}}


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("not found", "NOT_FOUND"),
        ("deadlock", "TRY_AGAIN"),
        ("serialisation", "TRY_AGAIN"),
        ("no table", "UNAVAILABLE"),
        ("shut down", "UNAVAILABLE"),
        ("refused", "UNAVAILABLE"),
        ("bug", "INTERNAL"),
    ],
)
async def test_what_goes_wrong_in_a_field_has_a_code_and_shows_nothing(
    http: httpx.AsyncClient, how: str, code: str
) -> None:
    with capture_logs() as logs:
        response = await ask(
            http, "query($how: String!) { broken: fail(how: $how) __typename }", variables={"how": how}
        )
    assert (response.status_code, codes(response)) == (200, [code])
    assert response.json()["data"] == {"broken": None, "__typename": "Query"}
    assert response.json()["errors"][0]["path"] == ["broken"]
    for secret in ("swordfish", "SQL", "5432", "Traceback"):
        assert secret not in response.text
    # What the caller may know needs no log; anything else is there in full, under the same id.
    assert [entry["request_id"] for entry in logs] == ([] if how == "not found" else [response.headers["x-request-id"]])
    assert all(isinstance(entry["exc_info"], Exception) for entry in logs)


async def test_details_of_an_error_stand_in_its_extensions(http: httpx.AsyncClient) -> None:
    response = await ask(http, '{ fail(how: "not found") }')
    assert response.json()["errors"][0]["message"] == "No such thing."
    assert response.json()["errors"][0]["extensions"]["name"] == "ring"


async def test_a_variable_that_is_null_where_it_may_not_be_is_the_users_mistake(http: httpx.AsyncClient) -> None:
    response = await ask(http, "query($n: Int = 1) { things(count: $n) { name } }", variables={"n": None})
    assert codes(response) == ["BAD_USER_INPUT"]


async def test_a_request_that_takes_too_long_is_stopped(http: httpx.AsyncClient) -> None:
    response = await ask(http, '{ fail(how: "forever") }')
    assert (response.status_code, codes(response)) == (503, ["TIMEOUT"])


async def test_when_nobody_can_be_admitted_the_service_is_unavailable(http: httpx.AsyncClient) -> None:
    response = await ask(http, "{ thing { name } }", headers={"authorization": "Bearer down"})
    assert (response.status_code, codes(response)) == (503, ["UNAVAILABLE"])


async def test_a_bug_outside_any_field_is_internal(http: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        response = await ask(http, "{ thing { name } }", headers={"authorization": "Bearer nobody"})
    assert (response.status_code, codes(response)) == (500, ["INTERNAL"])
    assert len(logs) == 1


async def test_a_request_leaves_nothing_to_the_garbage_collector(http: httpx.AsyncClient) -> None:
    gc.collect()
    gc.disable()
    try:
        response = await ask(http, "{ thing { name } things { id parts { id } } }")
        left = [thing for thing in gc.get_objects() if isinstance(thing, ToyContext)]
    finally:
        gc.enable()
    assert (response.status_code, left) == (200, [])


async def test_introspection_is_answered_from_memory(http: httpx.AsyncClient) -> None:
    text = "{ __schema { types { name fields { name args { name } } } } }"
    first, second = await ask(http, text), await ask(http, text)
    assert first.content == second.content
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_answers_are_not_kept_and_depend_on_the_token(http: httpx.AsyncClient) -> None:
    response = await ask(http, "{ __typename }")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["vary"] == "accept, authorization"


async def test_trusted_documents_are_asked_for_by_id(tmp_path: Path) -> None:
    text = "query Rings($n: Int!) { things(count: $n) { name } }"
    digest = sha256(text.encode()).hexdigest()
    (tmp_path / "rings.graphql").write_text(text + "\n")
    (tmp_path / "wave.graphql").write_text("mutation { wave }")
    rings = {"data": {"things": [{"name": "ring 0"}]}}
    apollo = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    endpoint = GraphQLEndpoint(schema, admit=admit, folder=tmp_path)
    async with client(endpoint) as http:
        by_post = {"documentId": f"sha256:{digest}", "variables": {"n": 1}}
        assert (await http.post("/graphql", json=by_post)).json() == rings
        by_apollo: dict[str, Any] = {"extensions": apollo, "variables": {"n": 1}}
        assert (await http.post("/graphql", json=by_apollo)).json() == rings
        by_get = {"documentId": f"sha256:{digest}", "variables": '{"n": 1}'}
        assert (await http.get("/graphql", params=by_get)).json() == rings
        wave = {"documentId": endpoint.documents.trusted_ids["wave"]}
        assert (await http.get("/graphql", params=wave)).status_code == 405
        assert (await http.post("/graphql", json=wave)).json() == {"data": {"wave": "wave"}}


async def test_an_apollo_client_learns_that_it_has_to_send_the_text(http: httpx.AsyncClient) -> None:
    text = "{ things(count: 1) { name } }"
    persisted = {"persistedQuery": {"version": 1, "sha256Hash": sha256(text.encode()).hexdigest()}}
    response = await http.post("/graphql", json={"extensions": persisted})
    assert (response.status_code, codes(response)) == (200, ["PERSISTED_QUERY_NOT_FOUND"])
    assert (await ask(http, text, extensions=persisted)).status_code == 200
    wrong = {"persistedQuery": {"version": 1, "sha256Hash": "00"}}
    assert codes(await ask(http, text, extensions=wrong)) == ["BAD_REQUEST"]


async def test_browsers_see_graphiql_where_it_is_switched_on() -> None:
    browser = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    async with client(GraphQLEndpoint(schema, admit=admit, graphiql=True)) as http:
        page = await http.get("/graphql", headers=browser)
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "GraphiQL" in page.text
        asked = await http.get("/graphql", params={"query": "{ __typename }"}, headers=browser)
        assert asked.json() == {"data": {"__typename": "Query"}}
        assert (await http.get("/graphql")).status_code == 400


async def test_browsers_see_no_graphiql_where_it_is_off(http: httpx.AsyncClient) -> None:
    response = await http.get("/graphql", headers={"accept": "text/html,*/*;q=0.8"})
    assert (response.status_code, codes(response)) == (400, ["BAD_REQUEST"])


def test_a_schema_with_an_open_root_field_is_not_served() -> None:
    @object_type(description="Reads.")
    class Query:
        a: int = field(description="A.", default=1)
        b: int = field(description="B.", default=1, permission=Public)

    with pytest.raises(ValueError, match=r"no permission is stated for Query\.a"):
        GraphQLEndpoint(strawberry.Schema(Query), admit=admit)


async def test_the_request_id_of_a_middleware_is_kept() -> None:
    async def with_id(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"request_id": "from-outside"}
        await GraphQLEndpoint(schema, admit=admit)(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(with_id), base_url="http://toy") as http:
        response = await ask(http, "{")
    assert response.headers["x-request-id"] == "from-outside"
    assert codes(response) == ["GRAPHQL_PARSE_FAILED"]
