"""The benchmark's parts that could be wrong without anybody seeing it."""

import os

import pytest
from graphql import parse, validate

from schema.root import SCHEMA
from tests.benchmarks.drop import CLAIMANTS, UNITS, outcome_of
from tests.benchmarks.load import KEY, WrongAnswer, http_request
from tests.benchmarks.machine import Unfit, choose_cores, find_wrk
from tests.benchmarks.measuring import averaged
from tests.benchmarks.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_scenario_asks_what_the_schema_answers(scenario: Scenario) -> None:
    assert validate(SCHEMA._schema, parse(scenario.document)) == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_an_answer_with_errors_is_a_wrong_answer(scenario: Scenario) -> None:
    with pytest.raises(WrongAnswer):
        scenario.check({"data": None, "errors": [{"message": "no"}]})


def test_a_request_tells_the_length_of_its_body_in_bytes() -> None:
    head, _, body = http_request("POST", "/graphql", 1, "é".encode(), "a-token").partition(b"\r\n\r\n")
    assert b"Content-Length: 2" in head.splitlines()
    assert b"Authorization: Bearer a-token" in head.splitlines()
    assert body == "é".encode()


def test_the_place_of_a_key_is_as_long_as_the_keys_that_replace_it() -> None:
    assert len(KEY) == len("12345678" + f"{1:08d}")


def test_a_missing_load_generator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unfit, match="apt-get install wrk"):
        find_wrk()


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    with pytest.raises(Unfit, match="two cores"):
        choose_cores()


def test_the_bare_endpoint_is_the_mean_of_two_runs_and_shows_both() -> None:
    one, other = {"get": {"per_second": 100.0}}, {"get": {"per_second": 300.0}}
    assert averaged(one, other) == {"get": {"per_second": 200.0, "both_per_second": [100.0, 300.0]}}


def test_the_drop_tells_held_refused_and_failed_apart() -> None:
    held = b'{"data":{"claimPerk":{"hold":{"id":"hold_1"},"userErrors":[]}}}'
    refused = b'{"data":{"claimPerk":{"hold":null,"userErrors":[{"code":"CAPACITY_EXHAUSTED"}]}}}'
    failed = b'{"data":null,"errors":[{"message":"no","extensions":{"code":"TIMEOUT"}}]}'
    assert [outcome_of(body) for body in (held, refused, failed)] == ["HELD", "CAPACITY_EXHAUSTED", "TIMEOUT"]
    assert UNITS < CLAIMANTS
