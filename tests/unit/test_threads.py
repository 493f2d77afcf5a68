"""Threads: what may be said, and clocks that count every second but those of waiting for the member."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners import tables
from partners.errors import BadInput
from partners.threads import (
    File,
    Said,
    check_owner,
    check_said,
    clocks,
    hear_member,
    note_answer,
    note_end,
    open_thread,
    wait_for_member,
)

START = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
HOUR = 3_600
DIGEST = "a" * 64


def opened(answer_within: int | None = HOUR, solve_within: int | None = 48 * HOUR) -> tables.Thread:
    thread = tables.Thread(id=uuid4())
    open_thread(thread, answer_within, solve_within, START)
    return thread


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(("seconds", "late"), [(HOUR, False), (HOUR + 0.000001, True)])
def test_an_answer_is_late_once_its_time_is_over(seconds: float, late: bool) -> None:
    assert clocks(opened(), after(seconds)).answer_breached is late
    answered = opened()
    note_answer(answered, after(seconds))
    assert clocks(answered, after(10 * HOUR)).answer_breached is late


def test_a_draft_has_no_clocks() -> None:
    draft = tables.Thread(id=uuid4())
    for move in (note_answer, wait_for_member, hear_member, note_end):
        move(draft, START)
    seen = clocks(draft, after(1_000 * HOUR))
    assert (seen.answer_due_at, seen.solve_due_at) == (None, None)
    assert (seen.answer_breached, seen.solve_breached, seen.waiting) == (False, False, False)


def test_without_limits_nothing_is_late() -> None:
    seen = clocks(opened(None, None), after(1_000 * HOUR))
    assert (seen.answer_due_at, seen.answer_breached, seen.solve_breached) == (None, False, False)


def test_the_clocks_stand_still_while_the_member_is_waited_for() -> None:
    thread = opened(solve_within=2 * HOUR)
    note_answer(thread, after(HOUR))
    wait_for_member(thread, after(HOUR))
    wait_for_member(thread, after(5 * HOUR))
    seen = clocks(thread, after(11 * HOUR))
    assert (seen.waiting, seen.solve_breached) == (True, False)
    assert seen.solve_due_at == after(12 * HOUR)
    hear_member(thread, after(11 * HOUR))
    assert clocks(thread, after(12 * HOUR)).solve_breached is False
    assert clocks(thread, after(12 * HOUR + 1)).solve_breached is True
    assert clocks(thread, after(12 * HOUR + 1)).answer_breached is False


def test_what_ends_while_waiting_ended_when_the_waiting_began() -> None:
    thread = opened(solve_within=HOUR)
    wait_for_member(thread, after(HOUR))
    note_end(thread, after(100 * HOUR))
    assert clocks(thread, after(200 * HOUR)).solve_breached is False


def test_who_recalls_before_an_answer_stops_its_clock() -> None:
    thread = opened()
    note_end(thread, after(60))
    assert clocks(thread, after(10 * HOUR)).answer_breached is False


def test_nothing_restarts_a_settled_thread() -> None:
    thread = opened()
    note_end(thread, after(60))
    wait_for_member(thread, after(70))
    note_end(thread, after(80))
    assert (thread.solved_at, thread.waiting_since) == (after(60), None)


Steps = st.lists(
    st.tuples(st.sampled_from(["answer", "ask", "hear", "look"]), st.integers(0, 5_000)), min_size=1, max_size=20
)
MOVES = {"answer": note_answer, "ask": wait_for_member, "hear": hear_member}


@given(Steps, st.integers(1, 20_000), st.integers(1, 20_000), st.booleans())
def test_clocks_count_every_second_but_those_of_waiting(
    steps: list[tuple[str, int]], answer_within: int, solve_within: int, ends: bool
) -> None:
    thread = opened(answer_within, solve_within)
    now, waiting, spent = 0, False, 0
    answered_after: int | None = None
    for name, pause in steps:
        spent += 0 if waiting else pause
        now += pause
        if name in MOVES:
            MOVES[name](thread, after(now))
        waiting = {"ask": True, "hear": False}.get(name, waiting)
        if name == "answer" and answered_after is None:
            answered_after = spent
    if ends:
        note_end(thread, after(now))
        now += 1_000_000
    seen = clocks(thread, after(now))
    assert seen.solve_breached == (spent > solve_within)
    assert seen.answer_breached == ((spent if answered_after is None else answered_after) > answer_within)
    assert seen.waiting == (waiting and not ends)
    assert seen == clocks(thread, after(now))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=10), st.integers(0, 10**7))
def test_a_breach_never_heals_while_nobody_waits(waits: list[tuple[int, int]], later_us: int) -> None:
    thread, now = opened(HOUR, HOUR), START
    for working_ms, waiting_ms in waits:
        now += timedelta(milliseconds=working_ms)
        wait_for_member(thread, now)
        now += timedelta(milliseconds=waiting_ms)
        hear_member(thread, now)
    before, late = clocks(thread, now), clocks(thread, now + timedelta(microseconds=later_us))
    assert late.solve_due_at == before.solve_due_at
    assert late.solve_breached >= before.solve_breached
    worked = sum(working_ms for working_ms, _ in waits)
    due = before.solve_due_at
    assert due is not None
    # Whole seconds, rounded in favour of who has to answer: never a moment too early, at most a second each too late.
    slack = due - now - (timedelta(hours=1) - timedelta(milliseconds=worked))
    assert timedelta(0) <= slack <= timedelta(seconds=len(waits))


def test_what_can_be_said_passes() -> None:
    files = [File("Plan.pdf", "https://files.example.com/plan?v=1", DIGEST, 0)] * 10
    check_said(Said("Two lines,\nan emoji 👩‍👩‍👧 and a tab\t.", files))
    check_said(Said("x" * 5_000))
    assert check_owner("  Ms Meier ") == "Ms Meier"


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 5_001, "a\0b", "\x1b[31m", "\ud800"])
def test_a_text_that_can_not_be_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="text: 1 to 5000 characters"):
        check_said(Said(text))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://example.com/a",
        "javascript:alert(1)",
        "https://",
        "https:///a",
        "//example.com",
        "https://name:word@example.com/",
        "https://example.com/a b",
        "https://exämple.com/",
        "https://example.com/\n",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/" + "x" * 2_000,
    ],
)
def test_an_address_that_is_none_is_bad_input(address: str) -> None:
    with pytest.raises(BadInput, match=r"files\.0\.address: an https address"):
        check_said(Said("See this.", [File("a", address, DIGEST, 1)]))


def test_all_faults_of_a_message_are_told_at_once() -> None:
    wrong = File("a\nb", "ftp://example.com", "A" * 64, -1)
    with pytest.raises(BadInput) as told:
        check_said(Said("", [File("a", "https://example.com", DIGEST, 1), wrong]))
    assert [fault.split(":")[0] for fault in told.value.details["faults"]] == [
        "text",
        "files.1.name",
        "files.1.address",
        "files.1.sha256",
        "files.1.bytes",
    ]
    with pytest.raises(BadInput, match="files: at most 10"):
        check_said(Said("a", [File("a", "https://example.com", DIGEST, 1)] * 11))
    with pytest.raises(BadInput, match="owner"):
        check_owner("a\nb")
