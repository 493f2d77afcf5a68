"""`perks import` on a real database: what files say is stored and recorded once, however often they are run."""

import asyncio
import io
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from gateway.commands.imports import BAD, Importing, bring, save_members
from partners.import_rows import MemberRow, Outcome
from partners.imports import check_member_row
from partners.keys import Keys
from partners.members import pairwise_alias
from tests.api import Api
from tests.commands import Ended, Perks


@pytest.fixture
def load(perks: Perks, tmp_path: Path) -> Callable[..., Ended]:
    """Imports lines as a file."""

    def load(noun: str, *lines: str, suffix: str = "csv", options: tuple[str, ...] = ()) -> Ended:
        file = tmp_path / f"lines.{suffix}"
        file.write_text("".join(f"{line}\n" for line in lines))
        return perks("import", noun, file, *options)

    return load


Load = Callable[..., Ended]
MEMBERS = "external_id,joined_at,market,tier,tier_until,state,consents"
ACTIVITY = "external_id,indicator,source,at,amount"
PERKS = "partner,handle,kind,title,time_zone,opens_on,closes_on,capacity,hold_seconds,reversal_days,rules,state"


def counts(ended: Ended) -> dict[str, int]:
    """The figures of the summary."""
    pairs = (part.split() for part in ended.out.partition(": ")[2].strip().split(", "))
    return {name: int(count) for count, name in pairs if int(count)}


def members_of(perks: Perks) -> list[tuple[Any, ...]]:
    return perks.query(
        "SELECT m.external_id, m.market, m.state, t.tier, t.ends_at::date::text, t.cause, m.version FROM member m"
        " LEFT JOIN tier_assignment t ON t.member_id = m.id AND (t.ends_at IS NULL OR t.ends_at > now()) ORDER BY 1"
    )


def brands(perks: Perks, *handles: str) -> None:
    for handle in handles:
        assert perks("partners", "add", handle, "--name", handle).code == 0


def test_members_are_enrolled_with_tier_state_and_consents_and_each_is_on_record(
    perks: Perks, load: Load, keys: Keys
) -> None:
    brands(perks, "velo", "rose")
    ended = load(
        "members",
        MEMBERS,
        "a,2024-05-01,CH,gold,2999-12-31,,velo rose",
        "b,2024-05-01T10:00:00+02:00,,,,SUSPENDED,velo",
        "c,2024-05-01,DE,member,,ACTIVE,",
        options=("--purpose", "the spring"),
    )
    assert (ended.code, ended.out, ended.err) == (0, "members: 3 new, 0 changed, 0 unchanged, 0 bad\n", "")
    assert members_of(perks) == [
        ("a", "CH", "ACTIVE", "gold", "2999-12-31", "IMPORTED", 1),
        ("b", None, "SUSPENDED", None, None, None, 1),
        ("c", "DE", "ACTIVE", "member", None, "IMPORTED", 1),
    ]
    assert perks.entries() == [
        ("consent.granted", 3),
        ("member.enrolled", 3),
        ("member.suspended", 1),
        ("partner.created", 2),
        ("tier.assigned", 2),
    ]
    told = perks.query(
        "SELECT m.external_id, e.leaf::json ->> 'tier', e.reasons, e.actor_kind, e.subject_id = t.id FROM audit_entry e"
        " JOIN member m ON m.id = e.member_id JOIN tier_assignment t ON t.member_id = m.id"
        " WHERE e.action = 'tier.assigned' ORDER BY 1"
    )
    assert told == [("a", "gold", ["IMPORTED"], "staff", True), ("c", "member", ["IMPORTED"], "staff", True)]
    aliases = perks.query(
        "SELECT partner_id, member_id, alias, purpose FROM member_alias JOIN consent USING (partner_id, member_id)"
    )
    assert len(aliases) == 3
    for partner, member, alias, purpose in aliases:
        assert alias == pairwise_alias(keys.pairwise, UUID(str(partner)), UUID(str(member)))
        assert purpose == "the spring"
    assert perks("doctor").code == 0


def test_the_same_file_again_changes_nothing(perks: Perks, load: Load) -> None:
    brands(perks, "velo")
    lines = (MEMBERS, *(f"m{one},2024-05-01,CH,silver,2999-12-31,ACTIVE,velo" for one in range(20)))
    assert counts(load("members", *lines)) == {"new": 20}
    before = perks.entries(), members_of(perks)
    assert counts(load("members", *lines)) == {"unchanged": 20}
    assert (perks.entries(), members_of(perks)) == before


def test_a_second_file_changes_what_it_says_and_leaves_the_rest(perks: Perks, load: Load) -> None:
    brands(perks, "velo", "rose")
    load("members", MEMBERS, *(f"{one},2024-05-01,CH,silver,,,velo" for one in "abcdef"))
    ended = load(
        "members",
        MEMBERS,
        "a,2024-05-01,CH,gold,,,",
        "b,2024-05-01,DE,,,,",
        "c,2024-05-01,,,,SUSPENDED,",
        "d,2024-05-01,CH,silver,2999-01-01,,",
        "e,2024-05-01,CH,silver,,,velo rose",
        "f,2024-05-01,,silver,,,velo",
    )
    assert counts(ended) == {"changed": 5, "unchanged": 1}
    assert members_of(perks) == [
        ("a", "CH", "ACTIVE", "gold", None, "IMPORTED", 2),
        ("b", "DE", "ACTIVE", "silver", None, "IMPORTED", 2),
        ("c", "CH", "SUSPENDED", "silver", None, "IMPORTED", 2),
        ("d", "CH", "ACTIVE", "silver", "2999-01-01", "IMPORTED", 2),
        ("e", "CH", "ACTIVE", "silver", None, "IMPORTED", 2),
        ("f", "CH", "ACTIVE", "silver", None, "IMPORTED", 1),
    ]
    assert dict(perks.entries()) == {
        "consent.granted": 7,
        "member.enrolled": 6,
        "member.suspended": 1,
        "member.updated": 1,
        "partner.created": 2,
        "tier.assigned": 8,
    }
    overlaps = perks.query(
        "SELECT count(*) FROM tier_assignment a JOIN tier_assignment b ON a.member_id = b.member_id AND a.id < b.id"
        " WHERE coalesce(a.ends_at, 'infinity') > b.starts_at"
    )
    assert overlaps == [(0,)]
    assert counts(load("members", MEMBERS, "c,2024-05-01,,,,ACTIVE,")) == {"changed": 1}
    assert dict(perks.entries())["member.reinstated"] == 1


def test_a_tier_that_has_ended_since_is_not_given_again_by_the_same_file(perks: Perks, load: Load) -> None:
    line = "a,2024-05-01,,gold,2999-12-31,,"
    load("members", MEMBERS, line)
    perks.query("UPDATE tier_assignment SET starts_at = '2025-01-01', ends_at = '2025-12-31T23:00:00Z'")
    assert counts(load("members", MEMBERS, "a,2024-05-01,,gold,2025-12-31,,")) == {"unchanged": 1}
    ended = load("members", MEMBERS, "a,2024-05-01,,gold,2025-12-30,,", "b,2024-05-01,,gold,2025-12-31,,")
    assert ended.code == 3
    assert ended.faults == [f"line {number}: tier_until: a time that is to come" for number in (2, 3)]
    assert perks.query("SELECT count(*) FROM member") == [(1,)]
    assert counts(load("members", MEMBERS, "a,2024-05-01,,gold,,,")) == {"changed": 1}


def test_a_consent_that_ran_out_is_given_anew(perks: Perks, load: Load) -> None:
    brands(perks, "velo")
    line = "a,2024-05-01,,,,,velo"
    load("members", MEMBERS, line)
    perks.query("UPDATE consent SET granted_at = '2025-01-01', expires_at = '2025-02-01'")
    assert counts(load("members", MEMBERS, line)) == {"changed": 1}
    assert perks.query("SELECT state, withdrawn_at IS NOT NULL FROM consent ORDER BY id") == [
        ("WITHDRAWN", True),
        ("GRANTED", False),
    ]
    assert perks.query("SELECT count(*) FROM member_alias") == [(1,)]


def test_bad_lines_are_reported_in_order_and_the_rest_goes_on(perks: Perks, load: Load) -> None:
    brands(perks, "velo")
    ended = load(
        "members",
        MEMBERS,
        "fine,2024-05-01,,,,,",
        ",2024-05-01,,,,,",
        "late,2999-01-01,,,,,",
        "far,2024-05-01,Swiss,,,,",
        "high,2024-05-01,,platinum,,,",
        "when,2024-05-01,,,2999-01-01,,",
        "gone,2024-05-01,,,,GONE,",
        "who,2024-05-01,,,,,velo nobody",
        "past,2024-05-01,,gold,2024-06-01,,",
        '"con\x07trol",2024-05-01,,,,,',
        "short",
        "fine too,2024-05-01,,,,,",
    )
    assert ended.code == 3
    assert counts(ended) == {"new": 2, "bad": 10}
    assert ended.faults == [
        "line 3: external_id: field required",
        "line 4: joined_at: a time that has passed",
        "line 5: market: an ISO 3166-1 code of two capital letters, as CH",
        "line 6: the programme has no tier 'platinum'; it has member, silver, gold, black",
        "line 7: tier_until: of which tier?",
        "line 8: state: input should be 'ACTIVE' or 'SUSPENDED'",
        "line 9: consents: no such partner: nobody",
        "line 10: tier_until: a time that is to come",
        "line 11: external_id: 1 to 200 printable characters",
        "line 12: 1 cells, and the header has 7",
    ]
    assert [one[0] for one in members_of(perks)] == ["fine", "fine too"]


def test_nothing_of_a_file_with_other_columns_or_another_encoding_is_taken(
    perks: Perks, load: Load, tmp_path: Path
) -> None:
    ended = load("members", "external_id,level", "a,gold")
    assert (ended.code, len(ended.faults)) == (2, 1)
    assert ended.err.startswith("perks: columns missing: joined_at; unknown: level; members have external_id,")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("external_id,joined_at\na,2024-05-01\nZoë,2024-05-01\n".encode("latin-1"))
    ended = perks("import", "members", latin)
    assert (ended.code, ended.faults) == (2, ["perks: line 3 is not UTF-8 (byte 0xeb): save the file in UTF-8"])
    assert members_of(perks) == []


def test_a_member_named_twice_in_a_file_ends_as_the_last_line_says(perks: Perks, load: Load) -> None:
    ended = load("members", MEMBERS, *(f"a,2024-05-01,,{tier},,," for tier in ("silver", "gold", "gold", "black")))
    assert counts(ended) == {"new": 1, "changed": 2, "unchanged": 1}
    assert [one[3] for one in members_of(perks)] == ["black"]


def test_json_lines_and_standard_input_do_as_well(perks: Perks, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    brands(perks, "velo")
    rows = [{"external_id": one, "joined_at": "2024-05-01", "tier": "gold", "consents": ["velo"]} for one in (1, 2)]
    lines = [orjson.dumps(row).decode() for row in rows]
    assert counts(load("members", *lines, "{}", suffix="jsonl")) == {"new": 2, "bad": 1}
    out, into = os.pipe()
    os.write(into, f"{MEMBERS}\n1,2024-05-01,,gold,,,velo\n3,2024-05-01,,,,,\n".encode())
    os.close(into)
    with io.TextIOWrapper(os.fdopen(out, "rb")) as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        assert perks("import", "members", "-").code == 2
        ended = perks("import", "members", "-", "--format", "csv", "--json")
    assert ended.json == {"new": 1, "changed": 0, "unchanged": 1, "bad": 0}


def test_thousands_of_members_take_many_chunks(perks: Perks, load: Load) -> None:
    lines = [f"m{one},2024-05-01,CH,{('silver', 'gold')[one % 2]},,," for one in range(3_500)]
    lines[1_700] = "m1700,never,CH,gold,,,"
    ended = load("members", MEMBERS, *lines)
    assert counts(ended) == {"new": 3_499, "bad": 1}
    assert ended.faults == [
        "line 1702: joined_at: a date as 2026-05-31, or a time with its offset as 2026-05-31T18:00:00Z"
    ]
    assert dict(perks.entries()) == {"member.enrolled": 3_499, "tier.assigned": 3_499}


async def test_two_imports_at_once_enrol_everybody_once(api: Api) -> None:
    async def once(people: list[str]) -> Importing[MemberRow]:
        importing = Importing(
            api.service, await bring(api.service, "perks"), MemberRow, check_member_row, save_members, print
        )
        for number, external_id in enumerate(people, 1):
            await importing.take(number, {"external_id": external_id, "joined_at": "2024-05-01", "tier": "gold"})
            if number % 10 == 0:
                await importing.flush()
                await asyncio.sleep(0)
        return importing

    people = [f"twin-{one}" for one in range(100)]
    done = await asyncio.gather(once(people), once(people), once(people[::-1]))
    total = sum((importing.counts for importing in done), start=done[0].counts.__class__())
    assert total[BAD] == 0
    assert total[Outcome.NEW] == 100
    assert total[Outcome.CHANGED] == 0
    async with api.service.database.connection() as connection:
        query = "SELECT count(*), count(DISTINCT member_id) FROM audit_entry WHERE action = $1 AND member_id IN"
        twins = "(SELECT id FROM member WHERE external_id LIKE 'twin-%')"
        for action in ("member.enrolled", "tier.assigned"):
            assert tuple(await connection.fetchrow(f"{query} {twins}", action)) == (100, 100)


def facts_of(perks: Perks) -> list[tuple[Any, ...]]:
    return perks.query("SELECT external_id, household, birth_month, labels, version FROM member ORDER BY 1")


def test_households_birth_months_and_labels_are_kept_replaced_and_taken_away(perks: Perks, load: Load) -> None:
    header = "external_id,joined_at,household,birth_month,labels"
    first = (header, "a,2024-05-01,H 1,2,vip press vip", "b,2024-05-01,,,", "c,2024-05-01,H 1,12,vip")
    assert counts(load("members", *first)) == {"new": 3}
    assert facts_of(perks) == [
        ("a", "H 1", 2, ["press", "vip"], 1),
        ("b", None, None, [], 1),
        ("c", "H 1", 12, ["vip"], 1),
    ]
    assert counts(load("members", *first)) == {"unchanged": 3}
    assert counts(load("members", header, "a,2024-05-01,,3,staff", "b,2024-05-01,-,,-", "c,2024-05-01,-,,-")) == {
        "changed": 2,
        "unchanged": 1,
    }
    assert facts_of(perks) == [("a", "H 1", 3, ["staff"], 2), ("b", None, None, [], 1), ("c", None, 12, [], 2)]
    assert perks.entries() == [("member.enrolled", 3), ("member.updated", 2)]


def test_a_household_a_month_or_a_label_that_can_not_be_is_told_by_its_column(perks: Perks, load: Load) -> None:
    header = "external_id;joined_at;household;birth_month;labels"
    ended = load(
        "members",
        header,
        "a;2024-05-01;;13;",
        "b;2024-05-01;;0;",
        "c;2024-05-01;;may;",
        "d;2024-05-01;;;VIP",
        f"e;2024-05-01;{'h' * 201};;",
        f"f;2024-05-01;;;{' '.join(f'label-{n}' for n in range(101))}",
        "g;2024-05-01;H\x07;;",
    )
    assert ended.err.splitlines() == [
        "line 2: birth_month: input should be less than or equal to 12",
        "line 3: birth_month: input should be greater than or equal to 1",
        "line 4: birth_month: a whole number",
        "line 5: labels.0: string should match pattern '^([a-z0-9][a-z0-9_.:-]{0,62}|-)$'",
        "line 6: household: value should have at most 200 items after validation, not 201",
        "line 7: labels: value should have at most 100 items after validation, not 101",
        "line 8: household: printable characters",
    ]
    assert facts_of(perks) == []


def test_scores_follow_activity_by_the_weights_of_the_programme(perks: Perks, load: Load) -> None:
    load("members", "external_id,joined_at", "a,2024-05-01", "b,2024-05-01")
    soon = datetime.now(UTC) - timedelta(days=1)
    old = soon - timedelta(days=400)
    load("activity", ACTIVITY, f"a,visit,v1,{soon:%Y-%m-%dT%H:%M:%SZ},2", f"b,visit,v1,{old:%Y-%m-%dT%H:%M:%SZ},2")
    assert perks.query("SELECT external_id, score, version FROM member ORDER BY 1") == [("a", 100, 2), ("b", 0, 1)]
    load("activity", ACTIVITY, f"a,visit,v1,{soon:%Y-%m-%dT%H:%M:%SZ},3")
    assert perks.query("SELECT score, version FROM member WHERE external_id = 'a'") == [(150, 3)]


def test_activity_is_added_once_and_corrected(perks: Perks, load: Load) -> None:
    load("members", MEMBERS, "a,2024-05-01,,,,,", "b,2024-05-01,,,,,")
    first = load(
        "activity",
        ACTIVITY,
        "a,purchase,s1,2025-01-01T10:00:00Z,1200",
        "a,purchase,s2,2025-01-02,-5",
        "b,visit,s1,2025-01-02,1",
        "nobody,visit,s1,2025-01-02,1",
        "a,visit,s1,2999-01-02,1",
        "a,visit,s1,2025-01-02,1.5",
    )
    assert (first.code, counts(first)) == (3, {"new": 3, "bad": 3})
    assert first.faults == [
        "line 5: external_id: no such member: nobody",
        "line 6: at: a time that has passed",
        "line 7: amount: a whole number",
    ]
    lines = ("a,purchase,s1,2025-01-01T10:00:00Z,1100", "a,purchase,s2,2025-01-02,-5", "a,purchase,s2,2025-01-02,-5")
    assert counts(load("activity", ACTIVITY, *lines)) == {"changed": 1, "unchanged": 2}
    assert perks.query("SELECT source, amount FROM activity WHERE indicator = 'purchase' ORDER BY 1") == [
        ("s1", 1100),
        ("s2", -5),
    ]
    told = perks.query("SELECT reasons FROM audit_entry WHERE action = 'activity.imported' ORDER BY id")
    assert told == [(["NEW:3"],), (["CHANGED:1"],)]


def test_perks_are_made_published_and_paused(perks: Perks, load: Load) -> None:
    brands(perks, "velo")
    rules = '"[{""kind"":""tier_at_least"",""tier"":""gold""}]"'
    lines = (
        PERKS,
        f"velo,drive,EVENT,A drive,Europe/Berlin,2026-05-01,2026-05-31,20,600,30,{rules},PUBLISHED",
        "velo,tea,SAMPLE,Tea,,,,,,,,",
        "velo,lounge,ACCESS,Lounge,,,,,,,,PAUSED",
    )
    assert counts(load("perks", *lines)) == {"new": 3}
    stored = perks.query(
        "SELECT p.handle, p.kind, p.state, p.time_zone, p.closes_on::text, p.hold_seconds, p.reversal_days, c.units,"
        " o.rules ->> 0 FROM perk p JOIN capacity c ON c.perk_id = p.id JOIN policy o ON o.perk_id = p.id ORDER BY 1"
    )
    assert stored == [
        (
            *("velo/drive", "EVENT", "PUBLISHED", "Europe/Berlin", "2026-05-31", 600, 30, 20),
            '{"kind": "tier_at_least", "tier": "gold"}',
        ),
        ("velo/lounge", "ACCESS", "PAUSED", "Europe/Zurich", None, 900, 90, None, None),
        ("velo/tea", "SAMPLE", "DRAFT", "Europe/Zurich", None, 900, 90, None, None),
    ]
    assert counts(load("perks", *lines)) == {"unchanged": 3}
    assert dict(perks.entries()) == {
        "partner.created": 1,
        "perk.created": 3,
        "perk.paused": 1,
        "perk.published": 2,
    }


def test_a_perk_is_changed_and_what_a_line_leaves_out_stays(perks: Perks, load: Load) -> None:
    brands(perks, "velo")
    load(
        "perks", PERKS, 'velo,tea,SAMPLE,Tea,UTC,2026-01-01,,5,60,,"[{""kind"":""member_for"",""days"":30}]",PUBLISHED'
    )
    again = load(
        "perks", "partner,handle,kind,title,rules", 'velo,tea,SAMPLE,Tea,"[{""kind"":""member_for"",""days"":9}]"'
    )
    assert counts(again) == {"changed": 1}
    assert counts(load("perks", "partner,handle,kind,title,state", "velo,tea,SAMPLE,Green tea,PAUSED")) == {
        "changed": 1
    }
    query = "SELECT p.title, p.state, p.time_zone, p.opens_on::text, c.units, p.policy_version FROM perk p"
    assert perks.query(f"{query} JOIN capacity c ON c.perk_id = p.id") == [
        ("Green tea", "PAUSED", "UTC", "2026-01-01", 5, 2)
    ]


def test_a_perk_that_can_not_be_leaves_no_trace(perks: Perks, load: Load) -> None:
    brands(perks, "velo")
    load("perks", PERKS, "velo,tea,SAMPLE,Tea,,,,5,,,,PUBLISHED")
    perks.query("UPDATE capacity SET taken = 3")
    before = perks.entries()
    ended = load(
        "perks",
        PERKS,
        "nobody,tea,SAMPLE,Tea,,,,,,,,",
        "velo,Tea,SAMPLE,Tea,,,,,,,,",
        "velo,a,SAMPLE,Tea,Mars/Base,,,,,,,",
        "velo,b,SAMPLE,Tea,,2026-05-02,2026-05-01,,,,,",
        'velo,c,SAMPLE,Tea,,,,,,,"[{""kind"":""tier_in"",""allowed"":[""platinum""]}]",',
        "velo,tea,EVENT,Tea,,,,,,,,",
        "velo,tea,SAMPLE,Tea,,,,2,,,,",
        "velo,tea,SAMPLE,Better tea,,,,,,,,DRAFT",
        "velo,d,POEM,Tea,,,,,,,,",
        "velo,e,SAMPLE,Tea,,,,-1,,,,",
    )
    assert (ended.code, counts(ended)) == (3, {"bad": 10})
    assert ended.faults == [
        "line 2: partner: no such partner: nobody",
        "line 3: handle: 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit",
        "line 4: time_zone: unknown time zone 'Mars/Base'",
        "line 5: closes_on: not before opens_on",
        "line 6: rules.0: the programme has no tier platinum; it has member, silver, gold, black",
        "line 7: kind: the perk is SAMPLE, which can't change",
        "line 8: capacity: 3 are taken, so it can't be 2",
        "line 9: state: the perk is PUBLISHED, which can't be a draft again",
        "line 10: kind: input should be 'SAMPLE', 'EVENT', 'SERVICE', 'CODE' or 'ACCESS'",
        "line 11: capacity: 0 to 1000000000",
    ]
    assert perks.entries() == before
    assert perks.query("SELECT handle, title FROM perk") == [("velo/tea", "Tea")]


def test_what_a_kind_is_told_is_imported_once_and_changed_by_handles(perks: Perks, load: Load) -> None:
    brands(perks, "velo")

    def line(places: int, **given: Any) -> str:
        session = {"handle": "evening", "title": "The evening", "starts_at": "2027-05-01T19:00", "places": places}
        row = {"partner": "velo", "handle": "gala", "kind": "EVENT", "title": "The gala", "units_max": 4}
        return orjson.dumps(row | {"settings": {"sessions": [session]}} | given).decode()

    terms = {
        "waitlist": {"offers": 2},
        "currency": "CHF",
        "low_at": 3,
        "self_service": True,
        "returns_allowance": False,
    }
    assert counts(load("perks", line(10, **terms), suffix="jsonl")) == {"new": 1}
    assert counts(load("perks", line(10, **terms), line(10), suffix="jsonl")) == {"unchanged": 2}
    query = (
        "SELECT c.units, c.low_at, p.units_max, p.currency, p.self_service, p.returns_allowance,"
        " p.waitlist ->> 'offers', (SELECT count(*) FROM pool o WHERE o.perk_id = p.id) FROM perk p"
        " JOIN capacity c ON c.perk_id = p.id"
    )
    assert perks.query(query) == [(10, 3, 4, "CHF", True, False, "2", 1)]
    assert counts(load("perks", line(12), suffix="jsonl")) == {"changed": 1}
    assert perks.query(query) == [(12, 3, 4, "CHF", True, False, "2", 1)]
    wrong = load("perks", line(5, waitlist={"offer_seconds": 1}, capacity=5), line(-1), suffix="jsonl")
    assert wrong.faults == [
        "line 1: waitlist.offer_seconds: Input should be greater than or equal to 300;"
        " capacity: it is the sum of what the options have; leave it out",
        "line 2: settings.sessions.0.places: Input should be greater than or equal to 0",
    ]
    assert perks.query(query) == [(12, 3, 4, "CHF", True, False, "2", 1)]
