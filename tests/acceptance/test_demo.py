"""`perks demo` as somebody runs it: what it prints can be pasted, it stops and starts again, and it checks itself."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import run
from gateway.demo.calls import Api
from gateway.demo.club import PERKS
from gateway.demo.handout import FILE, Handout
from gateway.demo.people import MEMBERS
from gateway.demo.visitor import Visitor
from gateway.demo.walk import NOBODY, Walk
from partners.errors import Unavailable
from partners.tables import PerkKind

PERKS_COMMAND = Path(sys.executable).with_name("perks")
SECONDS_MAX = 60
Perks = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Demo:
    """A running `perks demo` and what it has printed."""

    process: subprocess.Popen[str]
    folder: Path
    printed: str

    @property
    def handout(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / FILE).read_bytes())
        return found

    def stop(self, told: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(told)
        rest, errors = self.process.communicate(timeout=SECONDS_MAX)
        return self.process.returncode, rest, errors


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Demo]:
    """A demo in a folder of its own, with its own servers, from its last printed line on."""
    process = subprocess.Popen(
        [PERKS_COMMAND, "demo", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        while "auditEntries" not in printed or not printed.endswith("}'\n"):
            line = process.stdout.readline()
            assert line, f"it ended: {process.communicate()}"
            printed += line
        yield Demo(process, folder, printed)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=SECONDS_MAX)


def environment() -> dict[str, str]:
    """Ours, without what would point the demo at other servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PERKS_", "DATABASE_", "REDIS_"))}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for the tests that only use it."""
    with running(tmp_path_factory.mktemp("demo"), "--port", "0") as started:
        yield started


def pasted(demo: Demo, shell: str) -> list[dict[str, Any]]:
    """The answers to everything that was printed, pasted into a shell that stops at the first failure."""
    done = subprocess.run([shell, "-eu"], input=demo.printed, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["data"] for line in done.stdout.splitlines()]


def test_what_is_printed_works_as_pasted_and_again(demo: Demo) -> None:
    member, checks, catalogue, claim, confirmation, audit = pasted(demo, "sh")
    assert member["member"]["tier"]["name"] == "Gold"
    yes, no = (one["decision"] for one in checks["eligibilities"])
    assert yes["eligible"]
    assert {"TIER_TOO_LOW", "WRONG_MARKET"} < {refusal["code"] for refusal in no["refusals"]}
    assert len(catalogue["perks"]["nodes"]) == len(PERKS)
    assert not claim["claimPerk"]["replayed"]
    assert confirmation["confirmHold"]["redemption"]["member"]["alias"] == member["member"]["alias"]
    assert [entry["action"] for entry in audit["auditEntries"]["nodes"][:2]] == ["hold.confirmed", "perk.claimed"]

    again = pasted(demo, "bash")
    assert again[3]["claimPerk"]["replayed"]
    assert again[4]["confirmHold"]["replayed"]
    assert again[4]["confirmHold"]["redemption"] == confirmation["confirmHold"]["redemption"]


def test_what_is_printed_works_at_a_prompt_too(demo: Demo) -> None:
    typed = subprocess.run(
        ["bash", "--norc", "-i"], input=demo.printed, capture_output=True, text=True, timeout=SECONDS_MAX
    )
    answers = [line for line in typed.stdout.splitlines() if line.startswith('{"data":')]
    assert len(answers) == 6
    assert '"errors"' not in typed.stdout


def test_scripts_get_a_file_that_only_they_can_read(demo: Demo) -> None:
    file = demo.folder / FILE
    handout = demo.handout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((demo.folder / ".perks" / "demo-clients.json").stat().st_mode) == 0o600
    assert handout["graphqlUrl"] == f"{handout['baseUrl']}/graphql"
    assert handout["tokenUrl"] == f"{handout['baseUrl']}/oauth/token"
    assert {client["partner"] for client in handout["clients"]} == {"silverline", "atelier-rosee", "wayfarer"}
    assert len(handout["perks"]) == len(PERKS) == 15
    assert {perk["kind"] for perk in handout["perks"]} == set(PerkKind)
    assert len(handout["members"]) == 1_000
    assert {len(member["aliases"]) for member in handout["members"]} == {2, 3}


@pytest.fixture
def perks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perks:
    """A command in this process, from a folder: its exit code and all it printed."""

    def command(folder: Path, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        status = run(arguments)
        return status, "".join(capsys.readouterr())

    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    return command


def test_its_people_can_sign_in_with_a_browser(demo: Demo) -> None:
    [line] = [line for line in demo.printed.splitlines() if line.endswith("/account")]
    visitor = Visitor(demo.handout["baseUrl"])
    assert visitor.go(line.rpartition(" ")[2]).endswith("/account")
    assert visitor.heading == "Welcome"
    for handle, (person, _) in MEMBERS.items():
        visitor.go(f"{demo.handout['baseUrl']}/sign-in")
        visitor.press(person)
        assert visitor.heading == MEMBERS[handle][1]


def test_a_running_demo_can_be_walked_any_number_of_times(demo: Demo, perks: Perks) -> None:
    for _ in range(2):
        status, printed = perks(demo.folder, "demo", "--check", "--base-url", demo.handout["baseUrl"])
        assert (status, printed.count("✗")) == (0, 0), printed


def test_the_check_serves_walks_and_ends_beside_a_running_demo(demo: Demo, perks: Perks) -> None:
    before = (demo.folder / FILE).read_bytes()
    status, printed = perks(demo.folder, "demo", "--check")
    assert (status, printed.count("✗")) == (0, 0), printed
    assert "no law is broken" in printed
    assert "file and checkpoint fit, offline" in printed
    assert (demo.folder / FILE).read_bytes() == before


def test_a_folder_serves_one_demo_at_a_time(demo: Demo, perks: Perks) -> None:
    status, printed = perks(demo.folder, "demo", "--port", "0")
    assert status == 1
    assert printed.startswith("perks: ")
    assert "choose another data folder" in printed


def test_a_base_url_that_nobody_wrote_a_file_for_is_one_line(tmp_path: Path, perks: Perks) -> None:
    status, printed = perks(tmp_path, "demo", "--check", "--base-url", "http://127.0.0.1:9")
    assert status == 1
    assert printed == "perks: build/demo.json can't be read: start `perks demo` in this folder first\n"


def test_a_base_url_without_a_check_is_wrong_use(tmp_path: Path, perks: Perks) -> None:
    status, printed = perks(tmp_path, "demo", "--base-url", "http://127.0.0.1:9")
    assert (status, printed.count("\n")) == (2, 1)
    assert "--base-url goes with --check" in printed


def test_it_stops_cleanly_and_goes_on_with_what_was_done(tmp_path: Path) -> None:
    with running(tmp_path, "--port", "0") as first:
        clients, members = first.handout["clients"], first.handout["members"]
        pasted(first, "sh")
        assert first.stop(signal.SIGINT) == (0, "# stopped; what was done is kept for the next time\n", "")
    with running(tmp_path, "--port", "0") as second:
        assert second.handout["clients"] == clients
        assert second.handout["members"] == members
        checked = pasted(second, "sh")[1]["eligibilities"][0]["decision"]
        assert checked["allowance"]["remaining"] == 7
        assert second.stop(signal.SIGTERM) == (0, "# stopped; what was done is kept for the next time\n", "")


def test_a_wrong_answer_and_a_missing_one_are_told_and_the_walk_goes_on(demo: Demo) -> None:
    said: list[str] = []
    api = Api(demo.handout["baseUrl"])
    walk = Walk(Handout.model_validate(demo.handout), api, said.append, voices={"nobody": NOBODY})

    def a_wrong_step(walk: Walk) -> None:
        """Somebody expects too much"""
        viewer = walk.ask("nobody", "viewer { kind }").value
        walk.expect("known by name", viewer["kind"] == "STAFF")
        walk.expect("never reached", viewer["name"] == "")

    def a_right_step(walk: Walk) -> None:
        """Somebody expects little"""
        walk.expect("an answer", walk.ask("nobody", "viewer { kind }").status == 200)

    walk.take(a_wrong_step)
    walk.take(a_right_step)
    api.close()
    assert (walk.steps, walk.right, walk.wrong) == (2, 1, 2)
    assert said[:4] == [
        "\n 1  Somebody expects too much",
        "    nobody: viewer",
        '    → {kind: "ANONYMOUS"}',
        "    ✗ known by name",
    ]


def test_a_service_that_is_not_there_is_one_line() -> None:
    with pytest.raises(Unavailable, match=r"^http://127\.0\.0\.1:9 does not answer as it should: "):
        Api("http://127.0.0.1:9").graphql("{ viewer { kind } }", None)
