"""Nothing that anybody sends to an endpoint of the OAuth server or to a page is ever a fault of ours."""

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api import Api

FORMS = ("/oauth/token", "/oauth/par", "/oauth/device_authorization", "/oauth/introspect", "/oauth/revoke")
PAGES = (
    "/oauth/authorize",
    "/authorize/x",
    "/authorize/00000000-0000-0000-0000-000000000000",
    "/device",
    "/consents",
    "/sign-in",
    "/sign-in/callback",
    "/sign-out",
    "/account",
)
FORM = "application/x-www-form-urlencoded"

KNOWN = """grant_type client_id client_secret client_assertion client_assertion_type code code_verifier
code_challenge code_challenge_method redirect_uri response_type response_mode scope state request_uri request prompt
nonce refresh_token device_code user_code place subject_token subject_token_type actor_token actor_token_type audience
resource requested_token_type token token_type_hint dpop_jkt then mark person answer lasts iss error"""
names = st.sampled_from(KNOWN.split()) | st.text(max_size=10)
values = st.sampled_from(
    [
        b"authorization_code",
        b"client_credentials",
        b"refresh_token",
        b"urn:ietf:params:oauth:grant-type:device_code",
        b"urn:ietf:params:oauth:grant-type:token-exchange",
        b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        b"urn:ietf:params:oauth:request_uri:x",
        b"eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
        b"eyJhbGciOiJub25lIn0.bnVsbA.",
        b"code",
        b"S256",
        b"https://shop.example/back",
        b"//evil.example",
        b"javascript:alert(1)",
        b"\xff\xfe",
        b"\x00",
        b"a" * 5000,
        b"",
        b"client_x",
        b"-1",
    ]
) | st.binary(max_size=40)
pairs = st.lists(st.tuples(names, values), max_size=8)
headers = st.dictionaries(
    st.sampled_from(["authorization", "dpop", "cookie", "origin", "content-type", "accept", "sec-fetch-site"]),
    st.sampled_from(
        [
            "Basic !!!",
            "Basic /w==",
            "Basic Y2xpZW50X3g6cw==",
            "Bearer x",
            "DPoP eyJ0eXAiOiJkcG9wK2p3dCJ9.e30.AAAA",
            "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7fX0.e30.AAAA",
            "perks=x; __Host-perks=y; perks-sign-in=z",
            "null",
            "https://evil.example",
            "text/html",
            "cross-site",
            FORM,
        ]
    ),
    max_size=3,
)


def encoded(form: list[tuple[str, bytes]], raw: bool) -> bytes:
    """A form as a client encodes it, or as a broken one does."""
    if raw:
        return b"&".join(name.encode() + b"=" + value for name, value in form)
    return "&".join(f"{quote_from_bytes(name.encode())}={quote_from_bytes(value)}" for name, value in form).encode()


@pytest.mark.parametrize("path", FORMS + PAGES)
@settings(max_examples=60)
@given(form=pairs, sent=headers, raw=st.booleans())
async def test_no_form_is_a_server_error(
    api: Api, path: str, form: list[tuple[str, bytes]], sent: dict[str, str], raw: bool
) -> None:
    answer = await api.client.post(path, content=encoded(form, raw), headers={"content-type": FORM} | sent)
    assert answer.status_code < 500


@pytest.mark.parametrize("path", PAGES + FORMS)
@settings(max_examples=60)
@given(form=pairs, sent=headers)
async def test_no_address_is_a_server_error(
    api: Api, path: str, form: list[tuple[str, bytes]], sent: dict[str, str]
) -> None:
    answer = await api.client.get(f"{path}?{encoded(form, False).decode()}", headers=sent)
    assert answer.status_code < 500


@pytest.mark.parametrize("path", FORMS + PAGES)
async def test_a_megabyte_is_refused_and_not_read(api: Api, path: str) -> None:
    body = b"state=" + b"a" * 1_000_000
    answer = await api.client.post(path, content=body, headers={"content-type": FORM})
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 20_000


@pytest.mark.parametrize("path", FORMS)
async def test_a_refusal_is_json_with_an_error_of_the_rfc_and_is_never_kept(api: Api, path: str) -> None:
    for content, kind in ((b"", FORM), (b"a=1&a=2", FORM), (b"a=%ff", FORM), (b"{}", "application/json")):
        answer = await api.client.post(path, content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 401)
        assert answer.json()["error"] in ("invalid_request", "invalid_client")
        assert answer.headers["cache-control"] == "no-store"
