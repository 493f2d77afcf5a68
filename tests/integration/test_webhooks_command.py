"""`perks webhooks`: how telling partners goes, as an operator sees it."""

from uuid import uuid4

import pytest

from tests.commands import Perks

ENDPOINT = """
INSERT INTO webhook_endpoint (id, partner_id, url, description, actions, state, since, version, failures, created_by,
  created_at)
SELECT $1, id, 'https://hooks.brand.example/', '', '{perk.claimed}', 'ENABLED', 0, 1, 3, 'a client', now()
FROM partner RETURNING id
"""
MESSAGE = """
INSERT INTO webhook_message (endpoint_id, entry_id, index, action, lane, state, attempts, replays, told_at,
  pending_since, due_at, ended_at)
SELECT $1, e.id, l.index, e.action, e.id, 'PARKED', 14, 0, e.at, e.at, e.at, now()
FROM audit_entry e JOIN log_leaf l ON l.entry_id = e.id WHERE e.action = 'partner.created' RETURNING entry_id
"""
ATTEMPT = """
INSERT INTO webhook_delivery (id, endpoint_id, entry_id, number, at, duration_ms, status, fault)
VALUES ($1, $2, $3, 14, now(), 10000, NULL, 'TIMEOUT') RETURNING id
"""


def endpoint_of(perks: Perks) -> str:
    """An endpoint of a new partner's, by its id; it was registered over the API."""
    assert perks("partners", "add", "velo", "--name", "Velo Club").code == 0
    [[id]] = perks.query(ENDPOINT, uuid4())
    return f"endpoint_{id.hex}"


def test_endpoints_are_listed_and_tested(perks: Perks) -> None:
    endpoint = endpoint_of(perks)
    [listed] = perks("webhooks", "list", "--json").json
    assert listed == {
        "endpoint": endpoint,
        "state": "ENABLED",
        "failures": 3,
        "pending": 0,
        "parked": 0,
        "url": "https://hooks.brand.example/",
        "events": ["perk.claimed"],
    }
    assert perks("webhooks", "list", "--partner", "velo").out.splitlines()[1].startswith(f"{endpoint}  ENABLED  3")
    assert perks("webhooks", "list", "--partner", "nobody").code == 1
    tested = perks("webhooks", "test", endpoint)
    assert (tested.code, len(tested.out.strip())) == (0, 36)
    assert ("webhook.tested", 1) in perks.entries()
    assert perks("webhooks", "deliveries", endpoint).out == ""


def test_what_was_given_up_is_listed_and_sent_again(perks: Perks, tmp_path: object) -> None:
    endpoint = endpoint_of(perks)
    assert perks("audit", "export", f"{tmp_path}/log").code == 0
    id = endpoint.removeprefix("endpoint_")
    [[entry]] = perks.query(MESSAGE, id)
    perks.query(ATTEMPT, uuid4(), id, entry)
    [tried] = perks("webhooks", "deliveries", endpoint, "--json").json
    assert (tried["answer"], tried["number"], tried["ms"]) == ("TIMEOUT", 14, 10_000)
    [same] = perks("webhooks", "deliveries", endpoint, "--event", tried["event"], "--json").json
    assert same == tried
    assert perks("webhooks", "list", "--json").json[0]["parked"] == 1
    assert perks("webhooks", "replay", endpoint, "--parked").out == "1 will be sent again\n"
    assert perks.query("SELECT state, attempts, replays FROM webhook_message") == [("PENDING", 0, 1)]
    assert perks("webhooks", "replay", endpoint, "--since", "2020-01-01", "--json").json == {"count": 0}
    assert perks("webhooks", "replay", endpoint, "--after", tried["event"]).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["test", "velo"],
        ["test", "endpoint_" + "x" * 32],
        ["replay", "endpoint_" + "0" * 32],
        ["replay", "endpoint_" + "0" * 32, "--parked", "--since", "2020-01-01"],
        ["replay", "endpoint_" + "0" * 32, "--after", "entry_" + "0" * 32],
        ["deliveries", "endpoint_" + "0" * 32, "--last", "0"],
    ],
)
def test_wrong_use_is_told_in_one_line(perks: Perks, arguments: list[str]) -> None:
    ended = perks("webhooks", *arguments)
    assert (ended.code, len(ended.faults)) == (2, 1)


def test_an_endpoint_that_is_not_there_is_told(perks: Perks) -> None:
    for arguments in (["test"], ["replay", "--parked"]):
        ended = perks("webhooks", arguments[0], "endpoint_" + "0" * 32, *arguments[1:])
        assert (ended.code, ended.err) == (1, "perks: no such endpoint\n")
