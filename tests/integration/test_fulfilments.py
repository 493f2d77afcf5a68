"""Fulfilment after a redemption is confirmed: a closed table of steps, within reach, each on record."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from partners.actors import Actor, ActorKind
from partners.errors import BadInput
from partners.fulfilments import STEPS
from partners.tables import FulfilmentState
from tests.factories import STAFF, Club, partner_actor
from tests.fulfilling import PICKUP, SHIPPING, Statements, a_party, a_sample

TOMORROW = timedelta(days=1)
NEEDED: dict[str, dict[str, Any]] = {"SCHEDULED": {"carrier": "Post"}, "FAILED": {"reason": "broken"}}


async def test_a_sample_is_scheduled_sent_and_fulfilled(club: Club) -> None:
    sample = await a_sample(club)
    when = club.now + TOMORROW
    assert await sample.update("SCHEDULED", scheduled_at=when) == "UPDATED"
    assert await sample.update("SCHEDULED", carrier=" Post ", tracking="99.01") == "UPDATED"
    shown = await sample.shown()
    assert (shown.scheduled_at, shown.carrier, shown.tracking) == (when, "Post", "99.01")
    later = club.now + timedelta(hours=1)
    assert await sample.update("FULFILLED", now=later) == "UPDATED"
    row = await sample.row()
    assert (row["state"], row["fulfilled_at"], row["tracking"]) == ("FULFILLED", later, "99.01")
    assert (row["updated_at"], row["updated_by"]) == (later, sample.partner_actor.owner)
    assert await club.entries(sample.perk, "fulfilment.updated") == [
        ("DONE", ["SCHEDULED"]),
        ("DONE", ["SCHEDULED"]),
        ("DONE", ["FULFILLED"]),
    ]


@pytest.mark.parametrize(("before", "after"), list(product(FulfilmentState, FulfilmentState)))
async def test_each_step_is_allowed_or_refused_as_the_table_says(
    club: Club, before: FulfilmentState, after: FulfilmentState
) -> None:
    sample = await a_sample(club)
    await club.sql("UPDATE redemption SET fulfilment = $2 WHERE id = $1", sample.id, before.value)
    code = await sample.update(after.value, **NEEDED.get(after, {}))
    same = after is before and after not in NEEDED  # says nothing new
    assert code == ("UPDATED" if after in STEPS[before] or same else "WRONG_STATE")
    assert (await sample.row())["state"] == (after if code == "UPDATED" else before)
    recorded = await club.entries(sample.perk, "fulfilment.updated")
    assert recorded == ([] if same else [("DONE", [after])] if code == "UPDATED" else [("REFUSED", ["WRONG_STATE"])])


@pytest.mark.parametrize("state", ["SCHEDULED", "FULFILLED", "FAILED"])
async def test_saying_it_twice_is_the_same_as_once(club: Club, state: str) -> None:
    sample = await a_sample(club)
    given = NEEDED.get(state, {})
    assert await sample.update(state, **given) == "UPDATED"
    first = await sample.row()
    assert await sample.update(state, **given, now=club.now + TOMORROW) == "UPDATED"
    assert await sample.row() == first
    assert len(await club.entries(sample.perk, "fulfilment.updated")) == 1


async def test_a_failure_is_taken_back_and_fulfilled_after_all(club: Club) -> None:
    sample = await a_sample(club)
    assert await sample.update("SCHEDULED", carrier="Post", tracking="1") == "UPDATED"
    assert await sample.update("FAILED", reason=" lost ") == "UPDATED"
    assert (await sample.shown()).reason == "lost"
    assert await sample.update("FAILED", reason="broken") == "WRONG_STATE"
    assert await sample.update("PENDING") == "UPDATED"
    row = await sample.row()
    assert (row["state"], row["carrier"], row["tracking"], row["reason"]) == ("PENDING", None, None, None)
    assert await sample.update("FULFILLED") == "UPDATED"


async def test_another_partners_redemption_and_none_are_one_answer(club: Club) -> None:
    sample = await a_sample(club)
    stranger = await club.partner()
    actor = partner_actor(stranger)
    bound = replace(sample.partner_actor, alias="a" * 26)
    none = replace(sample, id=uuid4())
    answers = [
        await sample.update("FULFILLED", actor=actor),
        await none.update("FULFILLED"),
        await sample.update("FULFILLED", actor=bound),
        (await sample.choose(PICKUP, actor=actor)).code,
        (await none.choose(PICKUP)).code,
        await sample.check_in(actor=actor),
        await sample.check_in(code="0000-0000-0000-00"),
        await none.check_in(by_id=True),
    ]
    assert answers == ["NOT_AVAILABLE"] * 8
    assert (await sample.row())["state"] == "PENDING"
    rows = await club.sql(
        "SELECT action, perk_id, member_id, reasons FROM audit_entry WHERE partner_id = $1", stranger.id
    )
    refused = [tuple(row) for row in rows if row["reasons"] == ["NOT_AVAILABLE"]]
    assert sorted(refused) == [
        (action, None, None, ["NOT_AVAILABLE"])
        for action in ("delivery.chosen", "fulfilment.updated", "redemption.checked_in")
    ]


async def test_a_token_of_one_member_reaches_that_members_redemption(club: Club) -> None:
    sample = await a_sample(club)
    assert await sample.update("FULFILLED", actor=replace(sample.partner_actor, alias=sample.alias)) == "UPDATED"


async def test_another_member_reaches_nothing(club: Club) -> None:
    sample, other = await a_sample(club), await a_sample(club)
    assert (await sample.choose(PICKUP, actor=other.member_actor)).code == "NOT_AVAILABLE"


async def test_staff_correct_what_partners_may(club: Club) -> None:
    sample = await a_sample(club)
    assert await sample.update("FULFILLED", actor=STAFF) == "UPDATED"
    assert (await sample.row())["updated_by"] == "staff:desk"


async def test_what_was_taken_back_is_not_fulfilled(club: Club) -> None:
    sample = await a_sample(club, units=2)
    assert (await club.reverse(sample.id, sample.partner_actor, units=1)).code == "REVERSED"
    assert await sample.update("SCHEDULED", carrier="Post") == "UPDATED"
    assert (await club.reverse(sample.id, sample.partner_actor)).code == "REVERSED"
    assert await sample.update("FULFILLED") == "ALREADY_REVERSED"
    assert (await sample.choose(PICKUP)).code == "ALREADY_REVERSED"
    assert (await sample.row())["state"] == "SCHEDULED"


IMPOSSIBLE: list[tuple[str, dict[str, Any], str]] = [
    ("SCHEDULED", {}, "scheduledAt: when, or which carrier has it"),
    ("SCHEDULED", {"carrier": " "}, "carrier: 1 to 100 printable characters"),
    ("SCHEDULED", {"carrier": "x" * 101}, "carrier: 1 to 100 printable characters"),
    ("SCHEDULED", {"carrier": "Post", "tracking": "a\0b"}, "tracking: 1 to 100 printable characters"),
    ("SCHEDULED", {"carrier": "Post", "reason": "late"}, "reason: for what FAILED only"),
    ("PENDING", {"tracking": "1"}, "state: what is PENDING is not scheduled"),
    ("FAILED", {}, "reason: 1 to 500 printable characters"),
    ("FAILED", {"reason": "  "}, "reason: 1 to 500 printable characters"),
    ("FAILED", {"reason": "x" * 501}, "reason: 1 to 500 printable characters"),
    ("FAILED", {"reason": "a\0b"}, "reason: 1 to 500 printable characters"),
    ("FULFILLED", {"units": 1}, "units: for an EVENT that was FULFILLED only"),
    ("FULFILLED", {"units": 0}, "units: at least 1"),
]


@pytest.mark.parametrize(("state", "given", "fault"), IMPOSSIBLE)
async def test_what_can_not_be_is_named_and_changes_nothing(
    club: Club, state: str, given: dict[str, Any], fault: str
) -> None:
    sample = await a_sample(club)
    with pytest.raises(BadInput) as refused:
        await sample.update(state, **given)
    assert fault in refused.value.details["faults"]
    assert (await sample.row())["state"] == "PENDING"
    assert await club.entries(sample.perk, "fulfilment.updated") == []


@pytest.mark.parametrize(("days", "good"), [(-730, True), (730, True), (731, False), (-731, False)])
async def test_a_schedule_is_within_two_years(club: Club, days: int, good: bool) -> None:
    sample = await a_sample(club)
    when = club.now + timedelta(days=days)
    if good:
        assert await sample.update("SCHEDULED", scheduled_at=when) == "UPDATED"
        return
    with pytest.raises(BadInput, match="scheduledAt: within two years"):
        await sample.update("SCHEDULED", scheduled_at=when)


async def test_every_fault_is_named_at_once(club: Club) -> None:
    sample = await a_sample(club)
    with pytest.raises(BadInput) as refused:
        await sample.update("FAILED", carrier="", tracking="\n", units=0, scheduled_at=club.now + timedelta(days=9999))
    assert [fault.partition(":")[0] for fault in refused.value.details["faults"]] == [
        "carrier",
        "tracking",
        "reason",
        "scheduledAt",
        "units",
        "units",
    ]


async def test_of_two_contrary_steps_at_once_one_is_taken(club: Club) -> None:
    sample = await a_sample(club)
    calls = [sample.update("FULFILLED") if n % 2 else sample.update("FAILED", reason="broken") for n in range(20)]
    answers = await club.at_once(f"redemption WHERE id = '{sample.id}'", calls)
    assert Counter(answers) == {"UPDATED": 10, "WRONG_STATE": 10}
    assert len([one for one in await club.entries(sample.perk, "fulfilment.updated") if one[0] == "DONE"]) == 1


async def test_a_reversal_and_a_fulfilment_at_once_do_not_block_each_other(club: Club) -> None:
    sample = await a_sample(club)
    await sample.choose(SHIPPING)

    async def reversal() -> str:
        return (await club.reverse(sample.id, sample.partner_actor)).code

    answers = await club.at_once(f"redemption WHERE id = '{sample.id}'", [reversal(), sample.update("FULFILLED")])
    assert answers[0] == "REVERSED"
    assert answers[1] in ("UPDATED", "ALREADY_REVERSED")
    assert (await sample.row())["address"] is None


async def test_a_step_takes_five_statements(club: Club) -> None:
    sample, party = await a_sample(club), await a_party(club)
    with Statements(club.database) as statements:
        await sample.update("FULFILLED")
    assert len(statements) == 5
    with Statements(club.database) as statements:
        await party.check_in()
    assert len(statements) == 8


async def test_members_have_no_step_of_their_own(club: Club) -> None:
    """The API lets no member update; were one to, it would reach its own redemption alone."""
    sample, other = await a_sample(club), await a_sample(club)
    actor = Actor(ActorKind.MEMBER, "someone", member_id=other.member.id)
    assert await sample.update("FULFILLED", actor=actor) == "NOT_AVAILABLE"
