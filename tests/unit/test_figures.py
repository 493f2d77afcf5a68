"""What is counted of a log: each entry once, in its day, for its partner, perk and tier, from leaves alone."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest

from gateway.auditing.figures import HOLD_LIFE_MAX, Figures, Window
from gateway.auditing.files import Unsound

AURORE, LAKE = str(UUID(int=1)), str(UUID(int=2))
WINE, SPA = str(UUID(int=11)), str(UUID(int=12))
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def leaf(action: str, at: datetime = NOON, **given: Any) -> bytes:
    entry = {
        "action": action,
        "actor": "partner:client",
        "amount": None,
        "at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "id": str(UUID(int=99)),
        "member": None,
        "outcome": "DONE",
        "partner": AURORE,
        "perk": WINE,
        "policyVersion": 1,
        "reasons": [],
        "subject": str(UUID(int=7)),
        "tier": "gold",
        "units": None,
        "v": 2,
    }
    return orjson.dumps(entry | given, option=orjson.OPT_SORT_KEYS)


def of_version_1(action: str, **given: Any) -> bytes:
    entry = orjson.loads(leaf(action, **given)) | {"v": 1}
    del entry["units"], entry["amount"]
    return orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)


def counted(*leaves: bytes, **window: Any) -> Figures:
    figures = Figures(Window(**window))
    for index, one in enumerate(leaves):
        figures.take(index, one)
    return figures


def claimed(hold: int, at: datetime = NOON, **given: Any) -> bytes:
    return leaf("perk.claimed", at, subject=str(UUID(int=hold)), units=1, amount=0, **given)


def confirmed(hold: int, at: datetime = NOON, **given: Any) -> bytes:
    return leaf("hold.confirmed", at, reasons=[f"HOLD:{UUID(int=hold)}"], units=2, amount=500, **given)


def test_a_redemption_counts_for_its_partner_perk_tier_and_day() -> None:
    figures = counted(confirmed(1), confirmed(2, perk=SPA, tier=None), confirmed(3, partner=LAKE))
    sides = [
        figures.total,
        figures.partners[AURORE],
        figures.perks[AURORE, WINE],
        figures.tiers[AURORE, "gold"],
        figures.tiers[AURORE, ""],
        figures.days[AURORE, "2026-11-03"],
        figures.days[LAKE, "2026-11-03"],
    ]
    assert [(one["redemptions"], one["units"], one["amount"]) for one in sides] == [
        (3, 6, 1_500),
        (2, 4, 1_000),
        (1, 2, 500),
        (1, 2, 500),
        (1, 2, 500),
        (2, 4, 1_000),
        (1, 2, 500),
    ]


def test_reversals_count_by_who_bears_them() -> None:
    back = {"units": 1, "amount": 30}
    figures = counted(
        leaf("redemption.reversed", reasons=["RESTOCK", "PROGRAMME"], **back),
        leaf("redemption.reversed", reasons=["BURN", "PROGRAMME"], **back),
        leaf("redemption.reversed", reasons=["WAITLIST", "MEMBER"], units=0, amount=7),
    )
    total = figures.total
    assert (total["reversals"], total["reversed-units"], total["reversed-amount"]) == (3, 2, 67)
    assert total.starting("borne-amount.") == {"PROGRAMME": 60, "MEMBER": 7}


def test_a_refusal_counts_once_and_for_each_of_its_reasons() -> None:
    refused = {"outcome": "REFUSED", "units": 4, "amount": 9}
    figures = counted(
        leaf("perk.claimed", reasons=["TIER_TOO_LOW", "ENDED"], **refused),
        leaf("hold.confirmed", reasons=["ENDED"], **refused),
    )
    total = figures.total
    assert (total["refusals"], total["redemptions"], total["claims"], total["units"]) == (2, 0, 0, 0)
    assert total.starting("reason.") == {"ENDED": 2, "TIER_TOO_LOW": 1}
    assert total["reason-of.hold.confirmed.ENDED"] == 1


def test_an_entry_of_version_1_is_of_one_unit_and_no_amount() -> None:
    figures = counted(of_version_1("hold.confirmed"), of_version_1("redemption.reversed", reasons=["BURN", "PARTNER"]))
    assert (figures.total["units"], figures.total["amount"], figures.total["borne-units.PARTNER"]) == (1, 0, 1)


def test_time_to_confirm_is_of_the_same_hold_whatever_came_between() -> None:
    figures = counted(
        claimed(1),
        claimed(2, NOON + timedelta(seconds=1)),
        confirmed(2, NOON + timedelta(seconds=3)),
        confirmed(1, NOON + timedelta(seconds=90)),
    )
    assert sorted(figures.perks[AURORE, WINE].waits.times.elements()) == [2_000, 90_000]


def test_a_confirmation_that_names_no_hold_has_no_time() -> None:
    figures = counted(claimed(1), leaf("hold.confirmed", units=1, amount=0), confirmed(8))
    assert (figures.total["redemptions"], figures.total.waits.count) == (2, 0)


def test_what_a_service_desk_confirms_at_once_waited_for_nobody() -> None:
    assert counted(claimed(1, actor="system"), confirmed(1, actor="system")).total.waits.count == 0
    offered = counted(claimed(1, actor="system"), confirmed(1, NOON + timedelta(seconds=5)))
    assert offered.total.waits.within(50) == 5_000


def test_holds_that_ended_are_forgotten_and_so_are_those_no_hold_outlives() -> None:
    figures = counted(
        claimed(1),
        claimed(2),
        leaf("hold.expired", subject=str(UUID(int=1))),
        claimed(3, NOON + HOLD_LIFE_MAX + timedelta(seconds=1)),
    )
    assert list(figures._held) == [str(UUID(int=3))]


def test_a_claim_before_the_window_still_tells_how_long_its_hold_took() -> None:
    figures = counted(claimed(1, NOON - timedelta(seconds=4)), confirmed(1), since=NOON)
    assert (figures.total["claims"], figures.total["redemptions"], figures.total.waits.within(99)) == (0, 1, 4_000)


def test_the_window_is_half_open() -> None:
    tick = timedelta(microseconds=1)
    moments = [NOON - tick, NOON, NOON + timedelta(hours=1) - tick, NOON + timedelta(hours=1)]
    figures = counted(*(confirmed(1, at) for at in moments), since=NOON, until=NOON + timedelta(hours=1))
    assert (figures.total["redemptions"], figures.entries, figures.counted) == (2, 4, 2)
    assert (figures.first_index, figures.last_index) == (1, 2)


def test_days_are_those_of_the_zone() -> None:
    late = datetime(2026, 11, 3, 23, 30, tzinfo=UTC)
    figures = counted(confirmed(1, late), confirmed(2, late), zone=ZoneInfo("Europe/Zurich"))
    assert list(figures.days) == [(AURORE, "2026-11-04")]
    assert list(counted(confirmed(1, late), zone=ZoneInfo("America/New_York")).days) == [(AURORE, "2026-11-03")]


def test_one_partner_alone_is_counted_when_it_is_named() -> None:
    figures = counted(confirmed(1), confirmed(2, partner=LAKE), leaf("member.enrolled", partner=None), partner=LAKE)
    assert (list(figures.partners), figures.counted, figures.total["redemptions"]) == ([LAKE], 1, 1)


def test_promises_are_kept_or_missed_as_the_entry_says() -> None:
    figures = counted(
        leaf("service.quoted", reasons=["ANSWERED_IN_TIME"]),
        leaf("service.messaged", reasons=["ANSWERED_LATE"]),
        leaf("service.cancelled", reasons=["ANSWERED_LATE", "SOLVED_LATE"]),
        leaf("service.fulfilled", reasons=["SOLVED_IN_TIME"]),
        leaf("service.quoted", outcome="REFUSED", reasons=["STALE_REVISION"]),
    )
    total = figures.total
    names = ("answers.kept", "answers.missed", "solutions.kept", "solutions.missed")
    assert [total[name] for name in names] == [1, 2, 1, 1]


def test_what_no_partner_is_concerned_with_counts_as_an_action_alone() -> None:
    figures = counted(b'{"action":"log.continued","at":"2026-11-03T12:00:00.000000Z","outcome":"DONE","reasons":[]}')
    assert figures.total.starting("action.") == {"log.continued": 1}
    assert not figures.partners


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"action":1,"at":2,"outcome":"DONE","reasons":[]}',
        leaf("hold.confirmed", units=-1),
        leaf("hold.confirmed", units="2"),
        leaf("hold.confirmed", units=True),
        leaf("hold.confirmed", units=1, amount=1.5),
        leaf("hold.confirmed", reasons=None, units=1),
        leaf("perk.claimed").replace(b"2026-11-03", b"2026-13-03"),
        leaf("perk.created").replace(b"2026-11-03", b"2026-13-03"),
        leaf("hold.confirmed", reasons=[1], units=1),
        leaf("perk.claimed", subject=[]),
        leaf("perk.created", partner=[]),
        leaf("perk.created", perk={}),
        leaf("perk.claimed", outcome="REFUSED", reasons=[{}]),
    ],
)
def test_what_is_no_entry_is_named_by_its_index(bad: bytes) -> None:
    with pytest.raises(Unsound, match="entry 1 can't be read"):
        counted(confirmed(1), bad)
