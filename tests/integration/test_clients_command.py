"""`perks clients`: the operator's way to look after OAuth clients, with the same rules as the API."""

import json
from pathlib import Path

import pytest

from auth.caller import CallerKind
from auth.scopes import scopes_of
from tests.commands import Perks


@pytest.fixture
def velo(perks: Perks) -> Perks:
    """The command where there is a partner of that name."""
    assert perks("partners", "add", "velo", "--name", "Velo Club").code == 0
    return perks


def made(perks: Perks, *options: str) -> str:
    """The id of a new client."""
    added = perks("clients", "add", "velo", "--name", "server", *options, "--json")
    assert added.code == 0, added.err
    return str(added.json["client_id"])


def version(perks: Perks, id: str) -> int:
    """How often the client has lost rights, and that each time its tokens were ended."""
    [(count,)] = perks.query("SELECT version FROM client WHERE id = $1", id)
    denied = perks.query("SELECT max(version) FROM revocation WHERE kind = 'client' AND key = $1", id)
    assert denied[0][0] == (count if count > 1 else None)
    return int(count)


def test_a_web_application_is_registered_whole(velo: Perks) -> None:
    flow = "--grant authorization_code --grant refresh_token --pushed --dpop --authentication secret"
    where = "--redirect https://velo.example/a --redirect https://velo.example/b"
    id = made(velo, *flow.split(), *where.split(), "--scope", "eligibility:read", "--purpose", "your tickets")
    shown = velo("clients", "show", id, "--json").json
    assert shown["grant_types"] == ["authorization_code", "refresh_token"]
    assert shown["redirect_uris"] == ["https://velo.example/a", "https://velo.example/b"]
    assert (shown["requires_pushed"], shown["requires_dpop"], shown["purpose"]) == (True, True, "your tickets")
    assert (len(shown["secrets_since"]), shown["secrets_until"]) == (1, [])
    lines = velo("clients", "show", id).out.splitlines()
    assert [line.split()[0] for line in lines] == list(shown)
    assert "name             server" in lines


def test_a_client_with_its_own_key_has_no_secret(velo: Perks, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("not JSON")
    wrong = velo("clients", "add", "velo", "--name", "x", "--authentication", "KEY", "--public-keys", file)
    assert (wrong.code, wrong.faults) == (2, [f"perks: {file}: not JSON"])
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    file.write_text(json.dumps({"keys": [key]}))
    done = velo("clients", "add", "velo", "--name", "x", "--authentication", "KEY", "--public-keys", file)
    assert (done.code, len(done.out.splitlines()), done.err) == (0, 1, "")


def test_an_app_of_the_operators_own_belongs_to_no_partner(velo: Perks) -> None:
    app = ["--grant", "authorization_code", "--authentication", "NONE", "--redirect", "com.example.club:/done"]
    added = velo("clients", "add", "--kind", "member", "--name", "club app", *app, "--json").json
    assert (added["client_secret"], added["partner"]) == (None, None)
    assert set(added["scopes"]) == scopes_of(CallerKind.MEMBER)
    id = made(velo)
    assert [one["client_id"] for one in velo("clients", "list", "--json").json] == [added["client_id"], id]
    assert [one["client_id"] for one in velo("clients", "list", "--partner", "velo", "--json").json] == [id]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("add --name x", "whose? Name a partner"),
        ("add velo --kind staff --name x", "whose? Name a partner"),
        ("add velo --name x --grant password", "--grant: password: not one of client_credentials"),
        ("add velo --name x --redirect https://velo.example/", "redirectUris: at least one for authorization_code"),
        ("add velo --name x --authentication NONE", "grantTypes: not without authentication"),
        ("add velo", "Missing option '--name'"),
        ("restrict client_x", "Missing option '--scope'"),
        ("redirects client_x", "Missing argument 'URI...'"),
    ],
)
def test_what_can_not_be_is_told_in_one_line(velo: Perks, line: str, words: str) -> None:
    done = velo("clients", *line.split())
    assert (done.code, done.out, len(done.faults)) == (2, "", 1)
    assert words in done.err


def test_scopes_are_only_ever_taken_away_by_restricting(velo: Perks) -> None:
    id = made(velo, "--scope", "perks:read eligibility:read")
    assert version(velo, id) == 1
    done = velo("clients", "restrict", id, "--scope", "perks:read")
    assert (done.code, done.out) == (0, f"{id} has left perks:read\n")
    assert version(velo, id) == 2
    more = velo("clients", "restrict", id, "--scope", "perks:read perks:write")
    assert (more.code, more.faults) == (2, ["perks: --scope: the client does not have perks:write"])
    assert velo("clients", "restrict", id, "--scope", "perks:read", "--json").json["scopes"] == ["perks:read"]
    assert version(velo, id) == 2


def test_redirects_are_replaced_and_checked(velo: Perks) -> None:
    id = made(velo, "--grant", "authorization_code", "--redirect", "https://velo.example/a")
    done = velo("clients", "redirects", id, "https://velo.example/b", "http://127.0.0.1/c", "--json")
    assert done.json["redirect_uris"] == ["https://velo.example/b", "http://127.0.0.1/c"]
    wrong = velo("clients", "redirects", id, "http://velo.example/b")
    assert (wrong.code, wrong.faults) == (2, ["perks: redirectUris: http only on 127.0.0.1 or [::1], else https"])
    assert version(velo, id) == 1


def test_a_client_is_disabled_and_enabled_once(velo: Perks) -> None:
    id = made(velo)
    assert velo("clients", "disable", id).out == f"{id} is DISABLED\n"
    assert velo("clients", "disable", id).faults == ["perks: the client is DISABLED"]
    assert version(velo, id) == 2
    assert velo("clients", "enable", id, "--json").json == {"client_id": id, "state": "ACTIVE"}
    assert version(velo, id) == 2


def test_a_new_secret_is_shown_once_beside_the_last_one(velo: Perks) -> None:
    id = made(velo)
    rotated = velo("clients", "rotate-secret", id)
    assert rotated.err == "Keep the secret: only its hash is stored.\n"
    shown = velo("clients", "show", id, "--json")
    assert (len(shown.json["secrets_since"]), len(shown.json["secrets_until"])) == (2, 1)
    assert rotated.out.split()[-1] not in shown.out
    assert velo("clients", "rotate-secret", id, "--overlap-hours", "0", "--json").json["client_id"] == id
    assert len(velo("clients", "show", id, "--json").json["secrets_since"]) == 1
    assert velo("clients", "rotate-secret", id, "--overlap-hours", "169").code == 2


def test_every_change_is_in_the_log_and_a_client_that_is_not_there_is_told(velo: Perks) -> None:
    id = made(velo)
    velo("clients", "rotate-secret", id)
    velo("clients", "restrict", id, "--scope", "perks:read")
    velo("clients", "disable", id)
    velo("clients", "enable", id)
    assert [one for one in velo.entries() if one[0].startswith("client.")] == [
        ("client.changed", 1),
        ("client.created", 1),
        ("client.disabled", 1),
        ("client.enabled", 1),
        ("client.secret_rotated", 1),
    ]
    for line in ("show", "disable", "enable", "rotate-secret", "restrict --scope perks:read", "redirects https://a.b"):
        command, *rest = line.split()
        done = velo("clients", command, "client_nobody", *rest)
        assert (done.code, done.faults) == (1, ["perks: no such client"])


def test_suspending_a_partner_ends_the_tokens_of_its_clients(velo: Perks) -> None:
    ids = [made(velo), made(velo)]
    assert velo("partners", "suspend", "velo").out == "velo is SUSPENDED\n"
    assert velo("partners", "suspend", "velo").out == "velo is SUSPENDED already\n"
    assert velo("partners", "reinstate", "velo").out == "velo is ACTIVE\n"
    assert [version(velo, id) for id in ids] == [2, 2]
