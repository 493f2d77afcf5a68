"""Exports on the real database: what is in them, that nothing is lost or repeated whoever dies, and their limits."""

import asyncio
import csv
import io
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pyarrow.parquet
import pytest
from sqlalchemy import text

from gateway.database import Database
from partners import export_formats, export_making, export_rows, exports, tables
from partners.actors import Actor, ActorKind
from partners.errors import BadInput, NotFound
from partners.export_making import LeaseLost, give_back, take_export
from partners.exports import KEPT_MAX, OPEN_MAX, OutOfReach, ParquetUnavailable
from partners.keys import Keys
from partners.programme import Programme
from partners.tables import ExportFormat, ExportKind, ExportState, FulfilmentState
from tests.exporting import (
    JSONL,
    PARQUET,
    Time,
    asked,
    content,
    exporter,
    made,
    made_for,
    requested,
    row,
    seeded,
)
from tests.factories import STAFF, Club, member_actor, partner_actor
from tests.sequencing import sequencer_on


@pytest.fixture
def alone(empty_database: Database, programme: Programme, keys: Keys, now: datetime) -> Club:
    """A club on a database of the test's own."""
    return Club(empty_database, programme, keys, now)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows a part."""
    monkeypatch.setattr(export_rows, "BATCH", 10)


def lines(body: bytes) -> list[dict[str, str]]:
    """CSV as a spreadsheet reads it."""
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


def objects(body: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in body.splitlines()]


async def redeemed(club: Club, *scopes: str) -> tuple[tables.Partner, tables.Member, str, UUID]:
    """A partner, a member who lets it so much, its alias and a redemption."""
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    redemption = await club.redeemed(await club.hold(member, perk))
    if scopes:
        await club.withdraw(member, partner)
        await club.consent(member, partner, scopes=scopes)
    return partner, member, alias, redemption


async def test_a_partners_file_has_its_own_redemptions_by_alias(club: Club) -> None:
    partner, member, alias, redemption = await redeemed(club)
    await redeemed(club)
    [line] = lines(await made_for(club, partner))
    assert (line["id"], line["alias"], line["tier"]) == (f"redemption_{redemption.hex}", alias, "gold")
    assert line["confirmed_at"] == club.now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert (line["partner"], line["units"], line["fulfilment"]) == (partner.handle, "1", "PENDING")
    assert member.id.hex not in str(line)
    assert "member_id" not in line


async def test_staff_see_member_ids_of_all_partners_and_no_alias(club: Club) -> None:
    partner, member, alias, redemption = await redeemed(club)
    _, other, _, another = await redeemed(club)
    found = {line["id"]: line for line in lines(await made(club))}
    assert found[f"redemption_{redemption.hex}"]["member_id"] == f"member_{member.id.hex}"
    assert found[f"redemption_{another.hex}"]["member_id"] == f"member_{other.id.hex}"
    assert alias not in str(found)
    [line] = lines(await made(club, partner_id=partner.id))
    assert line["id"] == f"redemption_{redemption.hex}"


async def test_who_withdrew_consent_is_nobody_in_the_file(club: Club) -> None:
    partner, member, alias, redemption = await redeemed(club)
    await club.withdraw(member, partner)
    body = await made_for(club, partner)
    [line] = lines(body)
    assert (line["id"], line["alias"], line["tier"]) == (f"redemption_{redemption.hex}", "", "")
    assert alias.encode() not in body


@pytest.mark.parametrize(
    ("scopes", "shows_alias", "shows_tier"),
    [
        (("redemptions:read",), True, False),
        (("member.tier:read",), False, True),
        (("eligibility:read",), False, False),
    ],
)
async def test_each_right_a_member_gave_shows_what_it_is_for(
    club: Club, scopes: Sequence[str], shows_alias: bool, shows_tier: bool
) -> None:
    partner, _, alias, _ = await redeemed(club, *scopes)
    [line] = lines(await made_for(club, partner))
    assert (line["alias"], line["tier"]) == (alias if shows_alias else "", "gold" if shows_tier else "")


async def test_a_token_that_may_not_read_tiers_gets_none(club: Club) -> None:
    partner, _, alias, _ = await redeemed(club)
    [line] = lines(await made_for(club, partner, tiers=False))
    assert (line["alias"], line["tier"]) == (alias, "")


async def test_of_an_erased_member_the_rows_stay_and_nobody_is_in_them(alone: Club) -> None:
    partner, member, _, redemption = await redeemed(alone)
    await alone.sql("UPDATE member SET state = 'ERASED' WHERE id = $1", member.id)  # the first step of it
    [object] = objects(await made_for(alone, partner, format=JSONL))
    assert (object["id"], object["alias"]) == (f"redemption_{redemption.hex}", None)
    [object] = objects(await made(alone, format=JSONL))
    assert (object["id"], object["member_id"]) == (f"redemption_{redemption.hex}", None)


async def test_a_text_that_would_be_a_formula_has_an_apostrophe_before_it(club: Club) -> None:
    partner, _, _, redemption = await redeemed(club)
    await club.reverse(redemption, partner_actor(partner))
    await club.sql("UPDATE reversal SET reason = $2 WHERE redemption_id = $1", redemption, '=cmd|"calc"!A1,\r\n"x"')
    body = await made_for(club, partner)
    assert body.endswith(b"\r\n")
    [line] = lines(body)
    assert line["reversal_reason"] == '\'=cmd|"calc"!A1,\r\n"x"'
    assert (line["reversals"], line["reversed_units"], line["reversal_stock"]) == ("1", "1", "RESTOCK")
    [object] = objects(await made_for(club, partner, format=JSONL))
    assert object["reversal_reason"] == '=cmd|"calc"!A1,\r\n"x"'
    assert len(object["reversal_leaf_hash"]) == 64


@pytest.mark.parametrize("sign", export_formats.FORMULAS)
def test_every_beginning_of_a_formula_is_kept_from_being_one(sign: str) -> None:
    assert export_formats.cell(f"{sign}1") == f"'{sign}1"
    assert export_formats.cell(-1) == -1


async def test_parquet_holds_what_csv_holds_in_types(alone: Club) -> None:
    partner = await seeded(alone, 50)
    table = pyarrow.parquet.read_table(io.BytesIO(await made_for(alone, partner, format=PARQUET)))
    assert {name: str(table.schema.field(name).type) for name in ("confirmed_at", "amount_minor", "tier", "id")} == {
        "confirmed_at": "timestamp[us, tz=UTC]",
        "amount_minor": "int64",
        "tier": "dictionary<values=string, indices=int32, ordered=0>",
        "id": "string",
    }
    shown = [
        {name: "" if value is None else str(export_formats.cell(value)) for name, value in one.items()}
        for one in table.to_pylist()
    ]
    assert shown == lines(await made_for(alone, partner))
    assert len(shown) == 50


async def test_parquet_of_entries_and_of_nothing_can_be_read(alone: Club, keys: Keys, folder: Path) -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(await made(alone, format=PARQUET)))
    assert (table.num_rows, len(table.column_names)) == (0, len(export_rows.REDEMPTIONS))
    await redeemed(alone)
    await sequencer_on(alone.database, keys, folder).carry_over()
    entries = pyarrow.parquet.read_table(
        io.BytesIO(await made(alone, kind=ExportKind.ENTRIES, format=PARQUET))
    ).to_pylist()
    assert [entry["log_index"] for entry in entries] == [*range(len(entries))]
    assert all(isinstance(entry["reasons"], list) for entry in entries)


async def test_a_file_of_nothing_has_its_header(alone: Club) -> None:
    partner = await alone.partner()
    assert (await made_for(alone, partner)).startswith(b"id,confirmed_at,partner,")
    assert await made_for(alone, partner, format=JSONL) == b""


async def test_entries_come_in_the_order_of_the_log_to_its_size_at_the_request(
    alone: Club, keys: Keys, folder: Path
) -> None:
    await redeemed(alone)
    await sequencer_on(alone.database, keys, folder).carry_over()
    export_id = await requested(alone.database, STAFF, alone.now, kind=ExportKind.ENTRIES, format=JSONL)
    await redeemed(alone)
    await sequencer_on(alone.database, keys, folder).carry_over()
    await exporter(alone.database, lambda: alone.now).work()
    found = objects(await content(alone.database, export_id))
    placed = await alone.sql("SELECT index, leaf, e.leaf_hash FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id")
    leaves = {one["index"]: (one["leaf"], one["leaf_hash"].hex()) for one in placed}
    assert len(found) < len(leaves)
    assert [(one["leaf"], one["leaf_hash"]) for one in found] == [leaves[index] for index in range(len(found))]


async def test_entries_can_be_of_one_partner_and_of_some_time(alone: Club, keys: Keys, folder: Path) -> None:
    partner, *_ = await redeemed(alone)
    await redeemed(alone)
    await sequencer_on(alone.database, keys, folder).carry_over()
    of_one = objects(await made(alone, kind=ExportKind.ENTRIES, format=JSONL, partner_id=partner.id))
    assert {one["partner_id"] for one in of_one} == {f"partner_{partner.id.hex}"}
    assert "hold.confirmed" in {one["action"] for one in of_one}
    later = alone.now + timedelta(seconds=1)
    assert await made(alone, kind=ExportKind.ENTRIES, format=JSONL, since=later) == b""


async def test_filters_hold_together(alone: Club) -> None:
    partner = await seeded(alone, 40)
    since = alone.now - timedelta(days=30) + timedelta(seconds=11)
    until = since + timedelta(seconds=10)
    found = objects(
        await made_for(
            alone, partner, format=JSONL, since=since, until=until, fulfilment=FulfilmentState.FULFILLED, reversed=False
        )
    )
    assert [one["amount_minor"] for one in found] == [11, 13, 15, 17, 19]
    assert await made_for(alone, partner, format=JSONL, reversed=True) == b""
    perk = await alone.perk(partner)
    assert await made_for(alone, partner, format=JSONL, perk_id=perk.id) == b""


async def test_what_comes_after_the_request_is_not_in_it(alone: Club) -> None:
    partner = await seeded(alone, 5)
    export_id = await requested(alone.database, partner_actor(partner), alone.now)
    perk = await alone.perk(partner)
    await alone.redeemed(await alone.hold(await alone.member(partner), perk))
    await exporter(alone.database, lambda: alone.now).work()
    assert len(lines(await content(alone.database, export_id))) == 5


async def test_making_waits_for_what_was_under_way_at_the_request_but_not_for_ever(alone: Club) -> None:
    clock = Time(alone.now)
    async with alone.database.sessions() as other:
        await other.execute(text("SELECT pg_current_xact_id()"))
        export_id = await requested(alone.database, STAFF, clock.now)
        await exporter(alone.database, clock).work()
        assert (await row(alone.database, export_id)).state == ExportState.QUEUED
        clock.move(minutes=2)
        await exporter(alone.database, clock).work()
        assert (await row(alone.database, export_id)).state == ExportState.DONE
        second = await requested(alone.database, STAFF, clock.now)
        await other.rollback()
    await exporter(alone.database, clock).work()
    assert (await row(alone.database, second)).state == ExportState.DONE


async def begun(club: Club, clock: Time, parts: int) -> Any:
    """A worker that has made some parts of the oldest export."""
    async with club.database.connection() as connection:
        making = await take_export(connection, clock.now)
    assert making is not None
    for _ in range(parts):
        async with club.database.connection() as connection, connection.transaction():
            await making.make_part(connection, clock.now)
        making.renewed(clock.now)
    return making


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("format", ExportFormat)
async def test_who_goes_on_after_a_crash_makes_the_same_file(alone: Club, format: ExportFormat) -> None:
    partner, clock = await seeded(alone, 95), Time(alone.now)
    whole = await made_for(alone, partner, format=format)
    export_id = await requested(alone.database, partner_actor(partner), clock.now, format=format)
    await begun(alone, clock, 4)
    halfway = await row(alone.database, export_id)
    assert (halfway.state, halfway.rows, halfway.total) == (ExportState.RUNNING, 40, 95)
    await exporter(alone.database, clock).work()
    assert (await row(alone.database, export_id)).rows == 40, "its lease lasts"
    clock.move(minutes=2)
    await exporter(alone.database, clock).work()
    done = await row(alone.database, export_id)
    assert (done.state, done.rows, done.bytes) == (ExportState.DONE, 95, len(whole))
    assert await content(alone.database, export_id) == whole


@pytest.mark.usefixtures("small_steps")
async def test_a_worker_that_lost_its_lease_adds_nothing_more(alone: Club) -> None:
    partner, clock = await seeded(alone, 50), Time(alone.now)
    export_id = await requested(alone.database, partner_actor(partner), clock.now)
    slow = await begun(alone, clock, 1)
    clock.move(minutes=2)
    quick = await begun(alone, clock, 1)
    with pytest.raises(LeaseLost):
        async with alone.database.connection() as connection, connection.transaction():
            await slow.make_part(connection, clock.now)
    async with alone.database.connection() as connection:
        await give_back(connection, slow, None)  # which is not its own to give any more
    assert (await row(alone.database, export_id)).leased_until == quick.leased_until
    assert (await row(alone.database, export_id)).rows == 20


@pytest.mark.usefixtures("small_steps")
async def test_a_stopping_worker_leaves_it_to_the_next_at_once(alone: Club) -> None:
    partner, clock = await seeded(alone, 50), Time(alone.now)
    export_id = await requested(alone.database, partner_actor(partner), clock.now)
    making = await begun(alone, clock, 2)
    stopping = exporter(alone.database, clock)
    stopping._stop.set()
    await stopping.make(making)
    left = await row(alone.database, export_id)
    assert (left.state, left.leased_until, left.attempts) == (ExportState.RUNNING, None, 0)
    await exporter(alone.database, clock).work()
    assert len(lines(await content(alone.database, export_id))) == 50


@pytest.mark.usefixtures("small_steps")
async def test_several_workers_make_each_export_once(alone: Club) -> None:
    partners = [await seeded(alone, 60, members=2) for _ in range(4)]
    ids = [await requested(alone.database, partner_actor(one), alone.now) for one in partners for _ in range(2)]
    await asyncio.gather(*(exporter(alone.database, lambda: alone.now).work() for _ in range(3)))
    for export_id in ids:
        found = Counter(line["id"] for line in lines(await content(alone.database, export_id)))
        assert (len(found), max(found.values())) == (60, 1)
        assert (await row(alone.database, export_id)).state == ExportState.DONE


@pytest.mark.usefixtures("small_steps")
async def test_a_long_export_lets_others_have_their_turn(alone: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exports.PARTS_IN_A_ROW", 2)
    long, short, clock = await seeded(alone, 95), await seeded(alone, 5), Time(alone.now)
    first = await requested(alone.database, partner_actor(long), clock.now)
    second = await requested(alone.database, partner_actor(short), clock.now + timedelta(microseconds=1))
    clock.move(seconds=1)
    worker = exporter(alone.database, clock)
    for _ in range(2):
        making = await worker._take()
        assert making is not None
        await worker.make(making)
    assert [(await row(alone.database, id)).state for id in (first, second)] == ["RUNNING", "DONE"]
    await worker.work()
    assert len(lines(await content(alone.database, first))) == 95


KILLED = """
import asyncio, sys, datetime
from gateway.database import open_database
from gateway.exports import keep_exporting
from partners import export_rows
export_rows.BATCH = 20
async def main():
    database = open_database(sys.argv[1], connections=6)
    await keep_exporting(database, lambda: datetime.datetime.now(datetime.UTC), asyncio.Event())
asyncio.run(main())
"""


async def test_kill_9_in_the_middle_leaves_a_file_that_becomes_whole(alone: Club) -> None:
    partner = await seeded(alone, 6_000)
    began = datetime.now(UTC)
    export_id = await requested(alone.database, partner_actor(partner), began)
    url = alone.database.engine.url.render_as_string(hide_password=False)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, url, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while (await row(alone.database, export_id)).rows < 500:  # noqa: ASYNC110  another process's
                await asyncio.sleep(0.01)
    finally:
        worker.kill()
        await worker.wait()
    killed = await row(alone.database, export_id)
    assert killed.state == ExportState.RUNNING
    assert 500 <= killed.rows < 6_000
    await exporter(alone.database, lambda: began + timedelta(minutes=5)).work()
    found = lines(await content(alone.database, export_id))
    assert [line["amount_minor"] for line in found] == [str(number) for number in range(1, 6_001)]


async def test_a_member_reads_that_its_redemptions_were_exported_once_for_each_export(alone: Club) -> None:
    partner, member, _, _ = await redeemed(alone)
    perk = await alone.perk(partner)
    await alone.redeemed(await alone.hold(member, perk))
    stranger, silent, _, _ = await redeemed(alone, "eligibility:read")
    for asker in (partner, partner, stranger):
        await made_for(alone, asker)
    await made(alone)
    told = await alone.sql("SELECT member_id, partner_id, client_id, kind FROM disclosure WHERE kind = 'REDEMPTIONS'")
    assert [tuple(one) for one in told] == 2 * [(member.id, partner.id, f"client_of_{partner.handle}", "REDEMPTIONS")]
    assert silent.id not in {one["member_id"] for one in told}


async def states(club: Club, actor: Actor) -> Counter[str]:
    async with club.database.sessions() as session:
        return Counter(one.state for one in await exports.list_exports(session, actor, first=100, after=None))


async def test_so_many_may_be_open_and_no_more(club: Club) -> None:
    actor = partner_actor(await club.partner())
    answers = await asyncio.gather(*(asked(club.database, actor, club.now) for _ in range(OPEN_MAX + 3)))
    assert Counter(refused for _, refused in answers) == {None: OPEN_MAX, "EXPORT_LIMIT_REACHED": 3}
    assert await states(club, actor) == {"QUEUED": OPEN_MAX}
    another = partner_actor(await club.partner())
    assert (await asked(club.database, another, club.now))[1] is None
    [refused] = await club.sql(
        "SELECT count(*) AS n FROM audit_entry WHERE partner_id = $1 AND action = 'export.requested'"
        " AND outcome = 'REFUSED' AND reasons = '{EXPORT_LIMIT_REACHED}'",
        actor.partner_id,
    )
    assert refused["n"] == 3


async def test_so_many_are_kept_and_a_cancelled_one_makes_room(club: Club) -> None:
    actor = partner_actor(await club.partner())
    ids = []
    for _ in range(KEPT_MAX):
        ids.append(await requested(club.database, actor, club.now))
        await exporter(club.database, lambda: club.now).work()
    assert (await asked(club.database, actor, club.now))[1] == "EXPORT_LIMIT_REACHED"
    async with club.database.sessions.begin() as session:
        cancelled, refused = await exports.cancel_export(session, ids[0], actor=actor, now=club.now)
    assert (cancelled.state, refused) == (ExportState.CANCELLED, None)
    assert (await asked(club.database, actor, club.now))[1] is None
    await exporter(club.database, lambda: club.now).work()
    assert await content(club.database, ids[0]) == b""


async def test_each_person_of_staff_has_limits_of_its_own(club: Club) -> None:
    one, other = (Actor(ActorKind.STAFF, name) for name in ("ms-limited", "mr-limited"))
    for _ in range(OPEN_MAX):
        await requested(club.database, one, club.now)
    assert (await asked(club.database, one, club.now))[1] == "EXPORT_LIMIT_REACHED"
    assert (await asked(club.database, other, club.now))[1] is None


@pytest.mark.usefixtures("small_steps")
async def test_cancelling_stops_the_worker_and_removes_what_was_made(alone: Club) -> None:
    partner, clock = await seeded(alone, 50), Time(alone.now)
    actor = partner_actor(partner)
    export_id = await requested(alone.database, actor, clock.now)
    making = await begun(alone, clock, 2)
    async with alone.database.sessions.begin() as session:
        await exports.cancel_export(session, export_id, actor=actor, now=clock.now)
    worker = exporter(alone.database, clock)
    await worker.make(making)
    await worker.work()
    assert await content(alone.database, export_id) == b""
    async with alone.database.sessions.begin() as session:
        again, refused = await exports.cancel_export(session, export_id, actor=actor, now=clock.now)
    assert (again.state, refused) == (ExportState.CANCELLED, None)
    entries = await alone.sql("SELECT count(*) AS n FROM audit_entry WHERE action = 'export.cancelled'")
    assert entries[0]["n"] == 1


async def test_a_file_is_kept_for_seven_days_and_its_row_for_good(alone: Club) -> None:
    partner, clock = await seeded(alone, 5), Time(alone.now)
    actor = partner_actor(partner)
    export_id = await requested(alone.database, actor, clock.now)
    await exporter(alone.database, clock).work()
    done = await row(alone.database, export_id)
    assert done.expires_at == clock.now + timedelta(days=7)
    clock.move(days=7, microseconds=-1)
    await exporter(alone.database, clock).work()
    assert (await row(alone.database, export_id)).state == ExportState.DONE
    clock.move(microseconds=1)
    await exporter(alone.database, clock).work()
    gone = await row(alone.database, export_id)
    assert (gone.state, gone.rows, gone.expires_at) == (ExportState.EXPIRED, 5, None)
    assert await content(alone.database, export_id) == b""
    async with alone.database.sessions.begin() as session:
        assert (await exports.cancel_export(session, export_id, actor=actor, now=clock.now))[1] == "WRONG_STATE"


@pytest.mark.usefixtures("small_steps")
async def test_at_an_erasure_files_that_may_tell_of_the_member_go_and_others_begin_anew(alone: Club) -> None:
    theirs, others, clock = await seeded(alone, 30), await seeded(alone, 30), Time(alone.now)
    worker = exporter(alone.database, clock)
    finished = [await requested(alone.database, partner_actor(one), clock.now) for one in (theirs, others)]
    staffs = await requested(alone.database, STAFF, clock.now)
    await worker.work()
    running = await requested(alone.database, partner_actor(theirs), clock.now)
    making = await begun(alone, clock, 2)
    async with alone.database.sessions.begin() as session:
        assert await exports.expire_exports_of(session, [theirs.id], clock.now) == 3
    await alone.sql("DELETE FROM member_alias")
    await worker.make(making)
    await worker.work()
    found = [(await row(alone.database, id)).state for id in (*finished, staffs, running)]
    assert found == ["EXPIRED", "DONE", "EXPIRED", "DONE"]
    assert await content(alone.database, finished[0]) == await content(alone.database, staffs) == b""
    anew = lines(await content(alone.database, running))
    assert (len(anew), {line["alias"] for line in anew}) == (30, {""})


async def test_what_fails_is_tried_again_later_each_time_and_then_failed(
    alone: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    partner, clock, waits = await seeded(alone, 5), Time(alone.now), []
    export_id = await requested(alone.database, partner_actor(partner), clock.now)

    async def broken(*_: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(export_rows.Source, "read", broken)
    worker = exporter(alone.database, clock)
    while True:
        await worker.work()
        found = await row(alone.database, export_id)
        if found.state != ExportState.RUNNING:
            break
        assert found.leased_until is not None
        waits.append((found.leased_until - clock.now).total_seconds())
        clock.now = found.leased_until
    assert waits == [10, 20, 40, 80]
    assert (found.state, found.fault) == (ExportState.FAILED, "EXPORT_FAILED")


async def test_what_crashes_its_worker_each_time_is_failed_too(alone: Club) -> None:
    clock = Time(alone.now)
    export_id = await requested(alone.database, STAFF, clock.now, format=PARQUET)
    for _ in range(export_making.ATTEMPTS_MAX):
        await begun(alone, clock, 0)
        clock.move(minutes=2)
    await exporter(alone.database, clock).work()
    found = await row(alone.database, export_id)
    assert (found.state, found.fault) == (ExportState.FAILED, "EXPORT_FAILED")


async def test_without_pyarrow_a_request_for_parquet_says_what_to_install(
    club: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "find_spec", lambda _: None)
    with pytest.raises(ParquetUnavailable, match=r"pip install 'perks-gateway\[parquet\]'"):
        await requested(club.database, STAFF, club.now, format=PARQUET)


async def test_a_worker_without_pyarrow_fails_it_with_that_code(alone: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = await requested(alone.database, STAFF, alone.now, format=PARQUET)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    await exporter(alone.database, lambda: alone.now).work()
    found = await row(alone.database, export_id)
    assert (found.state, found.fault) == (ExportState.FAILED, "PARQUET_UNAVAILABLE")


async def test_nobody_reaches_another_partners_export(club: Club) -> None:
    owner, stranger = partner_actor(await club.partner()), partner_actor(await club.partner())
    export_id = await requested(club.database, owner, club.now)
    bound = Actor(ActorKind.PARTNER, owner.id, owner.partner_id, alias="an-alias")
    member = member_actor(await club.member())
    for actor in (stranger, bound, member, STAFF):
        async with club.database.sessions.begin() as session:
            assert await exports.find_export(session, export_id, actor) is None
            assert export_id not in {
                one.id for one in await exports.list_exports(session, actor, first=100, after=None)
            }
            with pytest.raises(NotFound):
                await exports.cancel_export(session, export_id, actor=actor, now=club.now)
    for actor in (bound, member):
        with pytest.raises(OutOfReach):
            await requested(club.database, actor, club.now)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kind": ExportKind.ENTRIES}, "kind"),
        ({"partner_id": UUID(int=1)}, "partner"),
        ({"since": datetime(2026, 1, 2, tzinfo=UTC), "until": datetime(2026, 1, 2, tzinfo=UTC)}, "since"),
    ],
)
async def test_an_impossible_request_names_what_is_wrong(club: Club, given: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"^{named}"):
        await requested(club.database, partner_actor(await club.partner()), club.now, **given)


async def test_entries_have_no_fulfilment(club: Club) -> None:
    with pytest.raises(BadInput, match=r"^fulfilment"):
        await requested(club.database, STAFF, club.now, kind=ExportKind.ENTRIES, reversed=True)
