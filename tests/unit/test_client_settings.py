"""What can be written down about a client, and what is refused with the reason."""

from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import ECKey

from auth.caller import CallerKind
from auth.client_settings import ClientSettings, checked, redirect_fault
from auth.tables import ClientAuthentication, GrantType
from partners.errors import BadInput

SERVER = ClientSettings("server", frozenset({"perks:read"}))
APP = ClientSettings(
    "app",
    frozenset({"me:read"}),
    grant_types=(GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN),
    authentication=ClientAuthentication.NONE,
    redirect_uris=("https://app.example/done",),
)
JWKS = {"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}


@pytest.mark.parametrize(
    "uri",
    [
        "https://shop.example/done",
        "https://shop.example:8443/done?from=perks",
        "https://192.0.2.7/done",
        "http://127.0.0.1:8765/done",
        "http://127.0.0.1/",
        "http://[::1]:1/done",
    ],
)
@pytest.mark.parametrize("public", [True, False])
def test_https_and_loopback_may_be_sent_back_to(uri: str, public: bool) -> None:
    assert redirect_fault(uri, public=public) is None


@pytest.mark.parametrize("uri", ["com.example.app:/done", "com.example.app:/"])
def test_an_apps_own_scheme_is_for_public_clients(uri: str) -> None:
    assert redirect_fault(uri, public=True) is None
    assert redirect_fault(uri, public=False) == "an app's own scheme is for clients without authentication"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "1 to 500 characters"),
        ("https://shop.example/" + "x" * 480, "1 to 500 characters"),
        ("https://shop.example/done#", "fragment"),
        ("https://shop.example/done#part", "fragment"),
        ("https://*.shop.example/", "wildcard"),
        ("https://shop.example/*", "wildcard"),
        ("https://shop.example/a b", "blanks"),
        ("https://shop.example/\tdone", "blanks"),
        ("https://shop.example\\@evil.example/", "blanks"),
        ("https://shöp.example/", "blanks"),
        ("https://shop.example@evil.example/", "user or password"),
        ("https://me:secret@shop.example/", "user or password"),
        ("https://shop.example;x/", "host name"),
        ("https://-shop.example/", "host name"),
        ("https://shop..example/", "host name"),
        ("https:///done", "https needs a host"),
        ("https:/done", "https needs a host"),
        ("https://shop.example:port/", "not a URI"),
        ("https://shop.example:99999/", "not a URI"),
        ("https://[::1/", "not a URI"),
        ("http://shop.example/done", "http only on 127.0.0.1"),
        ("http://localhost/done", "http only on 127.0.0.1"),
        ("http://127.0.0.1.evil.example/", "http only on 127.0.0.1"),
        ("http://127.1/", "http only on 127.0.0.1"),
        ("myapp:/done", "reverse domain form"),
        ("com.example.app://done", "reverse domain form"),
        ("com.example.app:done", "reverse domain form"),
        ("javascript:alert(1)", "reverse domain form"),
        ("data:text/html,x", "reverse domain form"),
        ("/done", "reverse domain form"),
        ("//shop.example/done", "reverse domain form"),
    ],
)
def test_what_nobody_may_be_sent_back_to_is_refused_with_the_reason(uri: str, reason: str) -> None:
    assert reason in (redirect_fault(uri, public=True) or "nothing")


def test_names_and_purposes_are_kept_without_blanks_around_them() -> None:
    kept = checked(CallerKind.PARTNER, replace(SERVER, name=" server ", purpose=" your tickets "))
    assert (kept.name, kept.purpose) == ("server", "your tickets")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": " "}, "name: 1 to 200"),
        ({"name": "x" * 201}, "name: 1 to 200"),
        ({"name": "a\u202eb"}, "printable"),
        ({"purpose": ""}, "purpose: 1 to 200"),
        ({"purpose": "a\nb"}, "purpose: printable"),
        ({"scopes": frozenset()}, "at least one scope"),
        ({"scopes": frozenset({"me:read", "perks:read", "x"})}, "unknown scopes for a partner: me:read, x"),
        ({"grant_types": ()}, "grantTypes: at least one"),
        ({"grant_types": (GrantType.REFRESH_TOKEN,)}, "refresh_token renews"),
        ({"grant_types": (GrantType.AUTHORIZATION_CODE,)}, "redirectUris: at least one"),
        ({"redirect_uris": ("https://shop.example/",)}, "none without it"),
        ({"authentication": ClientAuthentication.NONE}, "not without authentication (client_credentials)"),
        ({"authentication": ClientAuthentication.KEY}, "JWK Set"),
        ({"authentication": ClientAuthentication.KEY, "public_keys": {"keys": []}}, "JWK Set"),
        ({"public_keys": JWKS}, "publicKeys: only for authentication KEY"),
    ],
)
def test_what_a_partners_server_can_not_be(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked(CallerKind.PARTNER, replace(SERVER, **changes))
    assert complaint in refused.value.message


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"redirect_uris": tuple(f"https://app.example/{n}" for n in range(11))}, "at most 10"),
        ({"redirect_uris": ("https://app.example/done",) * 2}, "each once"),
        ({"redirect_uris": ("https://app.example/done", "http://app.example/")}, "redirectUris: http only"),
        ({"grant_types": (GrantType.AUTHORIZATION_CODE, GrantType.DEVICE_CODE)}, "not for a client of a member"),
        ({"scopes": frozenset({"perks:read"})}, "unknown scopes for a member"),
    ],
)
def test_what_an_app_for_members_can_not_be(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked(CallerKind.MEMBER, replace(APP, **changes))
    assert complaint in refused.value.message


def test_a_point_of_sale_may_be_public_renews_its_tokens_and_takes_passes() -> None:
    grants = (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN, GrantType.TOKEN_EXCHANGE)
    till = replace(SERVER, grant_types=grants, authentication=ClientAuthentication.NONE)
    assert checked(CallerKind.PARTNER, till).grant_types == grants


def test_public_keys_are_kept_without_what_is_not_public_about_them() -> None:
    noted = {"keys": [JWKS["keys"][0] | {"kid": "one", "note": "mine"}]}
    kept = checked(
        CallerKind.PARTNER, replace(SERVER, authentication=ClientAuthentication.KEY, public_keys=noted)
    ).public_keys
    assert kept == {"keys": [JWKS["keys"][0] | {"kid": "one"}]}
    private = {"keys": [ECKey.generate_key("P-256").as_dict(private=True)]}
    with pytest.raises(BadInput, match="key 1"):
        checked(CallerKind.PARTNER, replace(SERVER, authentication=ClientAuthentication.KEY, public_keys=private))
