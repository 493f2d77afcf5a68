"""Every command on real servers: what it does, what it says when it can't, its exit code, and its second run."""

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from joserfc import jws

from auth.authentication import authenticate_by_secret
from auth.caller import CallerKind
from auth.scopes import scopes_of, split_scopes
from gateway import embedded
from gateway.cli import app, run
from gateway.database import open_database
from gateway.migrations import newest
from gateway.running import ANNOUNCEMENT
from partners.notes import verifier_of
from schema.root import SCHEMA
from tests.commands import Perks, ended, start

NOWHERE = {
    "DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "PERKS_SECRET": "a secret of the tests, 32 bytes or more",
}


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perks:
    """The command with servers that do not answer."""
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    return Perks(NOWHERE["DATABASE_URL"], capsys)


def commands_of(command: Any, name: str = "perks") -> Iterator[tuple[str, Any]]:
    """Every command and group by its whole name."""
    yield name, command
    for one in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from commands_of(command.get_command(None, one), f"{name} {one}")


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(jws.extract_compact(token.strip().encode()).payload)
    return found


def test_every_command_and_every_option_has_help() -> None:
    found = dict(commands_of(typer.main.get_command(app)))
    nouns = {"serve", "work", "migrate", "doctor", "demo", "import", "partners", "clients", "tokens", "schema", "audit"}
    assert {name.split()[1] for name in found if " " in name} >= nouns
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    for name, command in found.items():
        assert command.help, name
        assert all(word in page for word in name.split()), name
        for parameter in command.params:
            if parameter.name != "help":
                assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nothing", "No such command 'nothing' (see perks --help)"),
        ("partners add", "Missing argument 'HANDLE' (see perks partners add --help)"),
        ("partners add Velo! --name Velo", "handle: 1 to 63 lower-case letters"),
        ("partners add velo --name Velo --kind BANK", "Invalid value for '--kind'"),
        ("clients add velo --name till --scope audit:read", "unknown scopes for a partner: audit:read"),
        ("tokens mint", "for whom? Give one of --member and --staff"),
        ("tokens mint --member a --staff b", "for whom? Give one of --member and --staff"),
        ("tokens mint --staff b --lifetime 25h", "a time as 90s, 5m or 24h, and at most 24h"),
        ("tokens mint --staff b --lifetime 0", "a time as 90s, 5m or 24h, and at most 24h"),
        ("tokens mint --staff b --lifetime soon", "a time as 90s, 5m or 24h, and at most 24h"),
        ("tokens mint --staff b --scope me:read --scope nix", "unknown scopes for a staff: me:read, nix"),
        ("tokens mint --staff =b", "--staff: 1 to 100 letters"),
        ("import members /none.csv", "/none.csv: No such file or directory"),
        ("import members /etc/hostname", "of which format? Say --format csv or --format jsonl"),
        ("import members /none.csv --purpose ''", "purpose: 1 to 200 characters"),
        ("audit verify /none --key nonsense", "--key: not a verifier key"),
    ],
)
def test_wrong_use_is_told_in_one_line_with_exit_code_2(perks: Perks, line: str, words: str) -> None:
    if line.startswith("clients"):
        assert perks("partners", "add", "velo", "--name", "Velo").code == 0
    done = perks(*("" if word == "''" else word for word in line.split(" ")))
    assert (done.code, done.out, len(done.faults)) == (2, "", 1), done
    assert done.err.startswith("perks: ")
    assert words in done.err


@pytest.mark.parametrize(
    "line",
    [
        "partners list",
        "clients list",
        "tokens mint --staff me",
        "migrate",
        "audit export /tmp/none.jsonl",
        "work",
    ],
)
def test_a_database_that_is_down_is_told_in_one_line_without_its_password(nowhere: Perks, line: str) -> None:
    done = nowhere(*line.split())
    assert (done.code, len(done.faults)) == (1, 1)
    assert done.err.startswith("perks: can't reach the database: ")
    assert "secret" not in done.err


def test_settings_that_can_not_be_are_told_in_one_line(perks: Perks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://x/y")
    assert perks("partners", "list").err == "perks: DATABASE_URL: PostgreSQL is the only database, not mysql\n"
    monkeypatch.delenv("PERKS_SECRET")
    done = perks("audit", "key")
    needed = "perks: DATABASE_URL, REDIS_URL and PERKS_SECRET are needed where nothing is embedded"
    assert (done.code, done.faults) == (1, [needed])


def test_a_database_that_is_not_migrated_is_told_and_migrate_mends_it(perks: Perks) -> None:
    perks.query("UPDATE alembic_version SET version_num = '0000'")
    done = perks("partners", "list")
    assert (done.code, len(done.faults)) == (1, 1)
    assert done.err.rstrip().endswith("run `perks migrate`")
    perks.query(f"UPDATE alembic_version SET version_num = '{newest()}'")
    for _ in range(2):
        assert perks("migrate").out == f"the database is at revision {newest()}\n"


def test_partners_are_added_listed_suspended_and_reinstated(perks: Perks) -> None:
    assert perks("partners", "list").out == ""
    assert perks("partners", "add", "velo", "--name", "Velo Club", "--kind", "car_club").code == 0
    assert perks("partners", "add", "rose", "--name", "Rose", "--json").json["kind"] == "OTHER"
    again = perks("partners", "add", "velo", "--name", "Other")
    assert (again.code, again.err) == (1, "perks: a partner with this handle exists already\n")
    assert perks("partners", "suspend", "velo").out == "velo is SUSPENDED\n"
    assert perks("partners", "suspend", "velo").out == "velo is SUSPENDED already\n"
    assert perks("partners", "list").out.splitlines() == [
        "handle  name       kind      state",
        "velo    Velo Club  CAR_CLUB  SUSPENDED",
        "rose    Rose       OTHER     ACTIVE",
    ]
    assert perks("partners", "reinstate", "velo").out == "velo is ACTIVE\n"
    assert perks("partners", "suspend", "nobody").faults == ["perks: no such partner: nobody"]
    assert [one["state"] for one in perks("partners", "list", "--json").json] == ["ACTIVE", "ACTIVE"]
    assert dict(perks.entries()) == {"partner.created": 2, "partner.suspended": 1, "partner.reinstated": 1}
    assert perks.query("SELECT DISTINCT actor_kind, split_part(actor_id, ':', 1) FROM audit_entry") == [
        ("staff", "command-line")
    ]


def test_a_clients_secret_is_shown_once_and_works(perks: Perks) -> None:
    perks("partners", "add", "velo", "--name", "Velo Club")
    shown = perks("clients", "add", "velo", "--name", "server")
    assert shown.err == "Keep the secret: only its hash is stored.\n"
    id, secret = (line.split()[2] for line in shown.out.splitlines())
    made = perks("clients", "add", "velo", "--name", "till", "--scope", "perks:read eligibility:read", "--json").json
    assert made["scopes"] == ["eligibility:read", "perks:read"]

    async def known(client_id: str, secret: str) -> set[str]:
        database = open_database(perks.database_url, connections=2)
        async with database.sessions() as session:
            client = await authenticate_by_secret(session, client_id, secret, datetime.now(UTC))
        await database.engine.dispose()
        return set(client.scopes)

    assert asyncio.run(known(id, secret)) == scopes_of(CallerKind.PARTNER)
    assert asyncio.run(known(made["client_id"], made["client_secret"])) == {"eligibility:read", "perks:read"}
    listed = perks("clients", "list", "--json")
    assert [one["name"] for one in listed.json] == ["server", "till"]
    assert secret not in listed.out + perks("clients", "list").out
    assert perks("clients", "add", "nobody", "--name", "server").faults == ["perks: no such partner: nobody"]


def test_a_token_is_all_that_mint_prints(perks: Perks, tmp_path: Path) -> None:
    file = tmp_path / "members.jsonl"
    file.write_text('{"external_id": "anna", "joined_at": "2024-05-01"}\n')
    assert perks("import", "members", file).code == 0
    minted = perks("tokens", "mint", "--member", "anna")
    assert (minted.code, minted.err, len(minted.out.split())) == (0, "", 1)
    claims = claims_of(minted.out)
    assert claims["exp"] - claims["iat"] == 300
    assert split_scopes(claims["scope"]) == scopes_of(CallerKind.MEMBER)
    staff = claims_of(perks("tokens", "mint", "--staff", "olga@desk", "--scope", "audit:read", "--lifetime", "24h").out)
    assert (staff["sub"], staff["scope"], staff["exp"] - staff["iat"]) == ("olga@desk", "audit:read", 86_400)
    assert staff["aud"] == "http://127.0.0.1:8000/staff"
    assert perks("tokens", "mint", "--member", "nobody").faults == ["perks: no such member: nobody"]


def test_the_schema_needs_no_database_and_names_permissions(nowhere: Perks, tmp_path: Path) -> None:
    shown = nowhere("schema", "export")
    assert shown.code == 0
    assert shown.out.strip() == SCHEMA.as_str().strip()
    assert "directive @permission(" in shown.out
    file = tmp_path / "schema.graphql"
    for _ in range(2):
        assert nowhere("schema", "export", file).out == ""
        assert file.read_text() == shown.out
    done = nowhere("schema", "export", tmp_path / "none" / "schema.graphql")
    assert (done.code, len(done.faults)) == (1, 1)
    assert "No such file or directory" in done.err


def test_an_export_is_verified_from_its_files_alone(
    perks: Perks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log.jsonl"
    empty = perks("audit", "export", file)
    assert (empty.code, empty.faults) == (
        1,
        ["perks: the log is empty: nothing has been recorded, or no sequencer has run"],
    )
    for handle in ("velo", "rose"):
        perks("partners", "add", handle, "--name", handle)
    for _ in range(2):
        assert perks("audit", "export", file, "--json").json["entries"] == 2
    key = perks("audit", "key").out.strip()
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    assert perks("audit", "verify", file).out == "sound: 2 entries, all and unaltered, signed by 127.0.0.1:8000/log\n"
    monkeypatch.delenv("PERKS_SECRET")
    monkeypatch.setenv("PERKS_DATA_FOLDER", str(tmp_path / "none"))
    done = perks("audit", "verify", file)
    assert (done.code, len(done.faults)) == (2, 1)
    assert "whose log is it? Give --key" in done.err
    moved = (tmp_path / "log.jsonl.checkpoint").rename(tmp_path / "note")
    assert perks("audit", "verify", file, "--key", key, "--checkpoint", moved).code == 0
    done = perks("audit", "verify", file, "--key", key)
    assert (done.code, len(done.faults)) == (3, 1)
    assert "No such file" in done.err
    wrong = verifier_of("127.0.0.1:8000/log", b"another key of thirty-two bytes.")
    done = perks("audit", "verify", file, "--key", str(wrong), "--checkpoint", moved)
    assert (done.code, len(done.faults)) == (1, 1)
    assert f"not signed by {wrong.label}" in done.err
    file.write_bytes(file.read_bytes().replace(b"partner.created", b"partner.deleted", 1))
    done = perks("audit", "verify", file, "--key", key, "--checkpoint", moved)
    assert (done.code, len(done.faults)) == (1, 1)
    assert "a leaf was changed" in done.err
    assert perks("audit", "verify", file, "--key", key, "--checkpoint", moved, "--json").json["sound"] is False


def test_the_doctor_finds_a_sound_database_sound_and_names_each_broken_law(perks: Perks, tmp_path: Path) -> None:
    perks("partners", "add", "velo", "--name", "velo")
    file = tmp_path / "perks.csv"
    file.write_text("partner,handle,kind,title,capacity\nvelo,tea,SAMPLE,Tea,5\n")
    perks("import", "perks", file)
    done = perks("doctor")
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["ok", "cache:"],
        ["ok", "database:"],
        ["ok", "programme:"],
        ["ok", "keys:"],
        ["ok", "log:"],
        ["ok", "laws:"],
    ]
    perks.query("UPDATE capacity SET taken = 1")
    done = perks("doctor")
    assert done.code == 1
    assert [line for line in done.out.splitlines() if line.startswith("broken")] == [
        "broken  law 5 capacity_not_conserved: what a perk has taken is not what is held and confirmed less what came"
        f" back (1: {perks.query('SELECT id FROM perk')[0][0]})"
    ]
    assert perks("doctor", "--json").json["sound"] is False


def test_the_doctor_names_what_is_not_there(nowhere: Perks) -> None:
    done = nowhere("doctor")
    assert done.code == 1
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["broken  cache", "broken  database"]


def test_the_doctor_names_another_secret_and_a_programme_without_used_tiers(
    perks: Perks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "members.csv"
    file.write_text("external_id,joined_at,tier\na,2024-05-01,gold\n")
    perks("import", "members", file)
    ladder = tmp_path / "programme.toml"
    ladder.write_text('name = "Other"\n[[tier]]\nhandle = "iron"\nname = "Iron"\nrank = 1\n')
    monkeypatch.setenv("PERKS_PROGRAMME", str(ladder))
    monkeypatch.setenv("PERKS_SECRET", "x" * 32)
    findings = {one["check"]: one["detail"] for one in perks("doctor", "--json").json["findings"]}
    assert findings["programme"] == f"{ladder} lacks tiers that members have or had: gold"
    assert findings["keys"].startswith("the signing key was sealed with another secret")
    assert perks("partners", "list").faults == [
        "perks: the database's tiers are not those of programme.toml: set PERKS_PROGRAMME to its file"
    ]


def test_workers_carry_what_happened_into_the_log_until_they_are_told_to_stop(
    perks: Perks, servers: embedded.Servers
) -> None:
    perks("partners", "add", "velo", "--name", "velo")
    assert perks.query("SELECT count(*) FROM outbox") == [(1,)]
    environment = {
        "DATABASE_URL": perks.database_url,
        "REDIS_URL": str(servers.redis_url),
        "PERKS_SECRET": NOWHERE["PERKS_SECRET"],
    }
    working = start("work", environment=environment)
    wait_for(lambda: perks.query("SELECT count(*) FROM outbox") == [(0,)], working)
    working.send_signal(signal.SIGTERM)
    assert ended(working).code == 0


def wait_for(met: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 30) -> None:
    """Until it is so; the process must live on meanwhile."""
    deadline = time.monotonic() + seconds
    while not met():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perks:
    """The command with nothing set but a data folder."""
    for name in NOWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PERKS_DATA_FOLDER", str(tmp_path / "data"))
    return Perks("", capsys)


def test_a_command_beside_a_running_service_joins_it_and_its_token_works_there(own: Perks, tmp_path: Path) -> None:
    programme = tmp_path / "programme.toml"
    programme.write_text('name = "Other"\n[[tier]]\nhandle = "iron"\nname = "Iron"\nrank = 1\n')
    environment = {"PERKS_DATA_FOLDER": str(tmp_path / "data"), "PERKS_PROGRAMME": str(programme)}
    # Two short commands at once: one waits until the servers of the other have stopped, then starts its own.
    beside = start("partners", "add", "velo", "--name", "Velo", environment=environment)
    also = start("partners", "add", "rose", "--name", "Rose", environment=environment)
    assert (ended(beside).code, ended(also).code) == (0, 0)
    # Without the file the command would take the demo's programme, which is not this database's.
    assert "PERKS_PROGRAMME" in own("partners", "list").err
    serving = start("serve", "--port", "0", environment=environment)
    try:
        said = tmp_path / "data" / ANNOUNCEMENT
        wait_for(said.exists, serving)
        base_url = json.loads(said.read_text())["base_url"]
        assert {one["handle"] for one in own("partners", "list", "--json").json} == {"velo", "rose"}
        token = own("tokens", "mint", "--staff", "olga").out.strip()
        wait_for(lambda: answers(base_url), serving)
        asked = httpx.post(
            f"{base_url}/graphql",
            json={"query": "{ viewer { kind } partners { nodes { handle } } }"},
            headers={"authorization": f"Bearer {token}"},
        ).json()
        assert asked["data"]["viewer"]["kind"] == "STAFF"
        findings = {one["check"]: one["detail"] for one in own("doctor", "--json").json["findings"]}
        assert findings["programme"] == "Other: iron"
        refused = own("serve", "--port", "0")
        assert (refused.code, len(refused.faults)) == (1, 1)
        assert f"is in use by another running copy (process {serving.pid})" in refused.err
        serving.send_signal(signal.SIGTERM)
        assert ended(serving).code == 0
        assert not said.exists()
    finally:
        serving.kill()
        serving.communicate()


def answers(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_no_command_at_all_is_answered_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "perks [OPTIONS] COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "fault"),
    [("PERKS_PROGRAMME", "name: Field required"), ("PERKS_IDENTITY", "x: Extra inputs are not permitted")],
)
def test_a_faulty_file_is_told_in_one_line_before_anything_is_served(
    own: Perks, tmp_path: Path, variable: str, fault: str
) -> None:
    file = tmp_path / "faulty.toml"
    file.write_text("x = 1\n")
    environment = {"PERKS_DATA_FOLDER": str(tmp_path / "data"), variable: str(file)}
    done = ended(start("serve", "--port", "0", environment=environment))
    assert done.code == 1
    assert done.faults[-1].startswith(f"perks: {file}: ")
    assert fault in done.faults[-1]
    assert "Traceback" not in done.err
