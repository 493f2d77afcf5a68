"""The identity file: what it may say, and the one line that tells an operator what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest

from auth.caller import CallerKind
from auth.identity import Identity, IdentityInvalid, claim_at, read_identity

SIGN_IN = """
[sign_in]
issuer = "https://id.example/realms/club"
client_id = "perks"
client_secret_env = "SIGN_IN_SECRET"
"""
ISSUER = """
[[issuer]]
issuer = "https://id.example/"
audience = "https://perks.example/graphql"
kind = "partner"
algorithms = ["RS256"]
"""
PARTNER = ISSUER + 'partner = "acme"\n'
ENVIRONMENT = {"SIGN_IN_SECRET": "open sesame"}


def read(folder: Path, text: str) -> Identity:
    path = folder / "identity.toml"
    path.write_text(text, encoding="utf-8")
    return read_identity(path, ENVIRONMENT)


def test_an_empty_file_names_nobody(folder: Path) -> None:
    assert read(folder, "") == Identity(sign_in=None, issuer=())


def test_the_example_of_the_manual_is_good(folder: Path) -> None:
    manual = Path(__file__).parents[2] / "docs" / "outside-issuers.md"
    example = manual.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (folder / "sign-in-secret").write_text("open sesame\n", encoding="utf-8")
    identity = read(folder, example)
    assert identity.sign_in is not None
    assert identity.sign_in.client_secret.get_secret_value() == "open sesame"
    assert {entry.kind for entry in identity.issuer} == {CallerKind.PARTNER, CallerKind.MEMBER, CallerKind.STAFF}


def test_the_secret_of_signing_in_is_read_from_where_the_file_says_and_not_shown(folder: Path) -> None:
    sign_in = read(folder, SIGN_IN).sign_in
    assert sign_in is not None
    assert sign_in.client_secret.get_secret_value() == "open sesame"
    assert "open sesame" not in repr(sign_in)


def test_names_of_theirs_are_worth_what_the_table_says_and_nothing_else(folder: Path) -> None:
    text = PARTNER + 'grants = ["perks:read"]\n[issuer.scopes]\nread = "eligibility:read"\nall = ["perks:write"]\n'
    [entry] = read(folder, text).issuer
    assert entry.scopes_for(frozenset()) == {"perks:read"}
    assert entry.scopes_for(frozenset({"read", "perks:write", "webhooks:manage"})) == {"perks:read", "eligibility:read"}
    assert entry.scopes_for(frozenset({"read", "all"})) == {"perks:read", "eligibility:read", "perks:write"}


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("sub", "x"),
        ("https://a.example/b", 3),
        (("a", "b"), ["c"]),
        (("a", "b", "c"), None),
        (("sub", "x"), None),
        ("a.b", None),
    ],
)
def test_a_claim_is_found_by_its_name_or_by_its_path(claim: Any, said: Any) -> None:
    assert claim_at({"sub": "x", "https://a.example/b": 3, "a": {"b": ["c"]}}, claim) == said


BAD_FILES = {
    "no TOML": ("[", "not TOML"),
    "an unknown table": ("[signin]", "signin: Extra inputs"),
    "a misspelt name": (PARTNER + 'leeway = 1\nmember = "x"', "issuer.0.leeway: Extra.*issuer.0.member: Extra"),
    "no issuer": ('[[issuer]]\naudience = "x"', "issuer.0.issuer: Field required"),
    "no algorithms": (PARTNER.replace('["RS256"]', "[]"), "issuer.0.algorithms: Tuple"),
    "alg none": (PARTNER.replace("RS256", "none"), "issuer.0.algorithms.0"),
    "a shared secret": (PARTNER.replace("RS256", "HS256"), "issuer.0.algorithms.0"),
    "an old padding": (PARTNER.replace("RS256", "RS512"), "issuer.0.algorithms.0"),
    "plain http": (PARTNER.replace("https://id", "http://id"), "issuer.0.issuer: an https URL"),
    "another scheme": (PARTNER.replace("https://id", "ftp://id"), "issuer.0.issuer: an https URL"),
    "a host that only begins like ours": (PARTNER.replace("https://id", "http://localhost"), "an https URL"),
    "a password in the address": (PARTNER.replace("https://id", "https://a:b@id"), "an https URL"),
    "a bar in the issuer": (PARTNER.replace("example/", "example/|a"), "an https URL"),
    "a space in the issuer": (PARTNER.replace("example/", "example/ a"), "an https URL"),
    "a query in the issuer": (PARTNER.replace("example/", "example/?a"), "has no query"),
    "a fragment in the issuer": (PARTNER.replace("example/", "example/#a"), "an https URL"),
    "an impossible port": (PARTNER.replace("example/", "example:99999/"), "an https URL"),
    "plain http for the keys": (PARTNER + 'jwks_uri = "http://id.example/keys"', "issuer.0.jwks_uri: an https URL"),
    "an unknown kind": (PARTNER.replace('"partner"', '"system"'), "issuer.0.kind"),
    "an anonymous kind": (PARTNER.replace('"partner"', '"anonymous"'), "issuer.0.kind"),
    "no partner": (ISSUER, "issuer.0: a partner's issuer has either partner or partner_claim"),
    "two partners": (PARTNER + 'partner_claim = "org"\n[issuer.partners]\na = "a"', "either partner or partner_claim"),
    "a claim without a table": (ISSUER + 'partner_claim = "org"', "partner_claim and partners go together"),
    "a table without a claim": (PARTNER + '[issuer.partners]\na = "a"', "partner_claim and partners go together"),
    "no handle": (PARTNER.replace("acme", "Acme Inc"), "issuer.0.partner"),
    "a partner of members": (PARTNER.replace('"partner"', '"member"'), "are for kind partner"),
    "a member of partners": (PARTNER + 'member_claim = "sub"', "member_claim is for kind member"),
    "another kind's scope": (PARTNER + 'grants = ["me:read", "perks:read"]', "unknown scopes for a partner: me:read$"),
    "an unknown scope": (PARTNER + '[issuer.scopes]\nread = "perks:see"', "unknown scopes for a partner: perks:see$"),
    "a long leeway": (PARTNER + "leeway_s = 61", "issuer.0.leeway_s"),
    "a long age": (PARTNER + "age_max_s = 86400", "issuer.0.age_max_s"),
    "an issuer twice": (PARTNER + PARTNER, "two issuers are https://id.example/ for https://perks.example/graphql"),
    "a secret in the file": (SIGN_IN + 'client_secret = "x"', "sign_in.client_secret: Extra"),
    "no secret": (SIGN_IN.replace("client_secret_env", "name_claim"), "either client_secret_env or client_secret_file"),
    "two secrets": (SIGN_IN + 'client_secret_file = "x"', "either client_secret_env or client_secret_file"),
    "an unset secret": (SIGN_IN.replace("SIGN_IN", "OTHER"), "sign_in: OTHER_SECRET holds no secret"),
    "a missing secret": (SIGN_IN.replace("_env", "_file"), "sign_in: client_secret_file: No such file"),
    "no openid": (SIGN_IN + 'scopes = ["profile"]', "openid is one of them"),
    "groups without a claim": (SIGN_IN + "[sign_in.staff_scopes]\na = []", "staff_claim and staff_scopes go together"),
    "a claim without groups": (SIGN_IN + 'staff_claim = "a"', "staff_claim and staff_scopes go together"),
    "members' scopes for staff": (
        SIGN_IN + 'staff_claim = "a"\n[sign_in.staff_scopes]\na = ["me:read"]',
        "unknown scopes for a staff: me:read",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_can_not_be_is_refused_in_one_line(folder: Path, name: str) -> None:
    text, reason = BAD_FILES[name]
    with pytest.raises(IdentityInvalid, match=reason) as refused:
        read(folder, text)
    assert refused.value.message.startswith(f"{folder / 'identity.toml'}: ")
    assert "\n" not in refused.value.message
    assert "open sesame" not in refused.value.message


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(IdentityInvalid, match=r"nowhere\.toml: No such file"):
        read_identity(folder / "nowhere.toml", {})


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "[::1]:3000"])
def test_an_issuer_on_this_machine_may_speak_plain_http(folder: Path, host: str) -> None:
    [entry] = read(folder, PARTNER.replace("https://id.example/", f"http://{host}")).issuer
    assert entry.issuer == f"http://{host}"
