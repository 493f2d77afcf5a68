"""Erasure under attack: whatever is on its way as it begins, however it is cut short, nothing is left of the person."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asyncpg import PostgresError
from sqlalchemy.ext.asyncio import AsyncSession

import auth.personal_data
from auth.caller import CallerKind
from auth.erasure import erase_member
from gateway.database import Database
from gateway.erasing import erase_on
from partners import erasure, personal_data, tables
from partners.actors import SYSTEM, Actor, ActorKind
from partners.deliveries import Delivery
from partners.erasure import PARTNERS_TOLD_WITHIN, begin_erasure
from partners.errors import PerksError
from partners.facts import Circumstances
from partners.import_rows import MemberRow
from partners.imports import Import, import_members
from partners.keys import Keys
from partners.laws import check_laws
from partners.members import view_member
from partners.passes import create_pass
from partners.programme import Programme
from partners.references import Asker, MemberRef
from partners.tables import FulfilmentMethod
from tests.factories import STAFF, Club, partner_actor
from tests.flows import Flows
from tests.fulfilling import HOME, a_sample, redeemed
from tests.integration.test_erasure import everything

MARK = "Ada-was-here"


@pytest.fixture
def own(empty_database: Database, programme: Programme, keys: Keys, club: Club) -> Club:
    return Club(empty_database, programme, keys, club.now)


async def erase(club: Club, member: tables.Member) -> UUID:
    database = club.database
    return await erase_member(database.sessions.begin, database.connection, MemberRef(id=member.id), STAFF, club.now)


async def begun(club: Club, member: tables.Member) -> None:
    """The first transaction alone: then the process is killed."""
    async with club.database.sessions.begin() as session:
        await begin_erasure(session, MemberRef(id=member.id), club.now)


async def assert_laws(club: Club) -> None:
    async with club.database.connection() as connection:
        assert [found for found in await check_laws(connection, club.now) if found.broken] == []


async def test_from_its_first_transaction_on_the_partner_sees_a_stranger_and_the_operator_nobody(own: Club) -> None:
    partner = await own.partner()
    member = await own.member()
    alias = await own.consent(member, partner)
    await begun(own, member)
    async with own.database.reading() as session:
        asker = Asker(partner.id, "member.tier:read", "till")
        assert await view_member(session, MemberRef(alias=alias), asker=asker, now=own.now) is None
        assert await view_member(session, MemberRef(external_id=member.external_id), asker=None, now=own.now) is None
    assert member.external_id not in await everything(own)


async def test_an_import_in_the_middle_brings_nobody_back(own: Club, keys: Keys, programme: Programme) -> None:
    member = await own.member()
    await begun(own, member)
    async with own.database.connection() as connection, connection.transaction():
        row = MemberRow.model_validate(
            {"external_id": member.external_id, "joined_at": "2020-01-01", "state": "ACTIVE"},
            context={"time_zone": "UTC", "zone": "UTC"},
        )
        await import_members(connection, [row], Import(programme, SYSTEM, {}, keys.pairwise), own.now)
    assert await erase_on(own.database, own.now) == (1, 0)
    rows = await own.sql("SELECT id, state FROM member ORDER BY state")
    assert [(row["state"], row["id"] == member.id) for row in rows] == [("ACTIVE", False), ("ERASED", True)]


async def test_what_turns_up_while_it_is_carried_out_is_ended_before_it_is_done(
    own: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    perk = await own.perk(units=5)
    member = await own.member(own.partners[perk.partner_id])
    claim = await own.claim_of(member, perk)
    ends = erasure.end_everything
    calls: list[int] = []

    async def late(connection: Any, member_id: UUID, now: Any) -> None:
        await ends(connection, member_id, now)
        if not calls:
            calls.append(1)  # it was judged before, and is committed only now
            [row] = await own.sql("SELECT version FROM member WHERE id = $1", member_id)
            await own.sql("UPDATE member SET version = $2 WHERE id = $1", member_id, claim.known.member_version)
            [claimed] = await own.claim_all([claim])
            assert claimed.outcome == "HELD"
            await own.sql("UPDATE member SET version = $2 WHERE id = $1", member_id, row["version"])

    monkeypatch.setattr(erasure, "end_everything", late)
    await erase(own, member)
    [hold] = await own.sql("SELECT state FROM hold WHERE member_id = $1", member.id)
    assert hold["state"] == "RELEASED"
    assert await own.taken(perk) == 0
    await assert_laws(own)


async def test_a_request_that_takes_a_step_meanwhile_is_ended_all_the_same(
    own: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    perk = await own.perk(kind=tables.PerkKind.SERVICE)
    member = await own.member(own.partners[perk.partner_id])
    request_id = await a_request(own, member, perk, "SUBMITTED")
    looks = erasure.open_requests
    calls: list[int] = []

    async def before_the_step(session: Any, member_id: UUID) -> Any:
        found = await looks(session, member_id)
        calls.append(len(found))
        return [(id, revision - (len(calls) == 1)) for id, revision in found]

    monkeypatch.setattr(erasure, "open_requests", before_the_step)
    await erase(own, member)
    [row] = await own.sql("SELECT state FROM service_request WHERE id = $1", request_id)
    assert (row["state"], calls) == ("CANCELLED", [1, 1])


async def a_request(club: Club, member: tables.Member, perk: tables.Perk, state: str) -> UUID:
    """A bespoke request with one message, as rows."""
    id, ended_at = uuid4(), club.now if state == "CANCELLED" else None
    await club.sql("INSERT INTO thread (id, revision, paused_seconds, paused_before_answer) VALUES ($1, 1, 0, 0)", id)
    await club.sql(
        "INSERT INTO service_request (id, perk_id, partner_id, member_id, state, form, automatic, created_at,"
        " submitted_at, ended_at) VALUES ($1, $2, $3, $4, $5, '{}', false, $6, $6, $7)",
        *(id, perk.id, perk.partner_id, member.id, state, club.now, ended_at),
    )
    await club.sql(
        "INSERT INTO message (id, thread_id, at, author, author_id, text, files)"
        " VALUES (new_id(), $1, $2, 'MEMBER', 'x', 'x', '[]')",
        id,
        club.now,
    )
    return id


async def test_what_was_written_too_late_is_gone_when_the_member_is_forgotten(own: Club) -> None:
    perk = await own.perk()
    member = await own.member(own.partners[perk.partner_id])
    hold = await own.hold(member, perk)
    await erase(own, member)
    await own.sql("UPDATE hold SET household = 'Ada', device = 'Ada'::bytea WHERE id = $1", hold.id)
    await own.sql(
        "INSERT INTO activity (id, member_id, indicator, source, at, amount)"
        " VALUES (new_id(), $1, 'spend', 'Ada', $2, 1)",
        member.id,
        own.now,
    )
    await own.sql(
        "INSERT INTO browser_session (id, hash, kind, subject, name, member_id, scopes, created_at, expires_at)"
        " VALUES (new_id(), 'x', 'member', 'Ada', 'Ada', $1, '{}', $2, $2)",
        member.id,
        own.now,
    )
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    assert "Ada" not in await everything(own)
    assert await own.sql("SELECT 1 FROM idempotency_key WHERE owner = $1", f"member:{member.id}") == []


async def test_a_token_bound_to_the_member_leaves_its_alias_nowhere(own: Club) -> None:
    one = await a_sample(own)
    client = f"client_{uuid4().hex}"
    await own.sql(
        "INSERT INTO client (id, name, kind, partner_id, state, authentication, scopes, grant_types, redirect_uris,"
        " requires_pushed, requires_dpop, purpose, created_at, version)"
        " VALUES ($1, 'till', 'partner', $2, 'ACTIVE', 'SECRET', '{}', '{}', '{}', false, false, 'perks', $3, 1)",
        client,
        one.partner.id,
        own.now,
    )
    bound = Actor(ActorKind.PARTNER, client, partner_id=one.partner.id, alias=one.alias)
    hold = await own.hold(one.member, one.perk)
    assert (await own.confirm(hold, actor=bound)).code == "CONFIRMED"
    assert await one.update("SCHEDULED", actor=bound, scheduled_at=own.now) == "UPDATED"
    assert (await own.reverse(one.id, bound)).code == "REVERSED"
    await erase(own, one.member)
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    left = [row for row in (await everything(own)).splitlines() if one.alias in row]
    assert left == []
    [confirmed] = await own.sql("SELECT confirmed_by FROM redemption WHERE hold_id = $1", hold.id)
    assert confirmed["confirmed_by"] == f"partner:{client}"
    await assert_laws(own)


# What may stay, and why: nothing that says who it was.
STAYS = {
    "hold": {"code_hash", "leaf_hash", "exclusion", "tier", "claimed_by"},
    "redemption": {"tier", "leaf_hash", "confirmed_by", "currency"},
    "reversal": {"reversed_by", "leaf_hash"},
    "fulfilment": {"location", "updated_by"},  # the shop
    "check_in": {"checked_in_by"},
    "perk_code": {"hash", "sealed"},  # the partner's own
    "access_grant": {"ended_by", "tier", "on_tier_drop"},
    "access_use": {"used_by", "leaf_hash"},
    "waitlist_entry": {"tier", "joined_by"},
    "review": {"closed_by"},
    "message": {"author_id"},  # of whoever is not the member
    "thread": {"owner"},  # who looks after it
    "service_request": {"currency"},
    "tier_assignment": {"cause", "tier"},
    "webhook_message": {"action"},
}


def holdings() -> Sequence[personal_data.Holding]:
    return [*personal_data.HOLDINGS, *auth.personal_data.HOLDINGS]


async def filled(club: Club, member: tables.Member) -> dict[str, set[str]]:
    """Marks every column with words of every row about the member, where the table lets it; which."""
    marked: dict[str, set[str]] = {}
    values = {"text": f"'{MARK}'", "jsonb": f"""'{{"{MARK}": 1}}'""", "ARRAY": f"ARRAY['{MARK}']", "bytea": f"'{MARK}'"}
    for one in holdings():
        if one.table == "audit_entry":
            continue  # codes and ids alone, in the log's own words
        which = one.which.replace(":member", f"'{member.id}'")
        columns = await club.sql(
            "SELECT column_name AS name, data_type AS type, udt_name FROM information_schema.columns"
            " WHERE table_name = $1",
            one.table,
        )
        for column in columns:
            if column["type"] not in values or column["udt_name"] not in ("text", "jsonb", "_text", "bytea"):
                continue
            if (one.table, column["name"]) in (
                (one.table, "external_id"),
                (one.table, "owner"),
            ) and one.table != "thread":
                continue
            change = f"UPDATE {one.table} t SET {column['name']} = {values[column['type']]} WHERE {which} RETURNING 1"
            try:
                if await club.sql(change):
                    marked.setdefault(one.table, set()).add(column["name"])
            except PostgresError:
                continue  # one of few words that the table knows
    return marked


async def test_every_column_with_words_is_cleared_or_there_is_a_reason_why_it_stays(own: Club, keys: Keys) -> None:
    one = await a_sample(own)
    member, partner = one.member, one.partner
    await one.choose(Delivery(FulfilmentMethod.SHIPPING, address=HOME))
    await own.reverse((await redeemed(own, one.perk, member=member)).id, partner_actor(partner))
    right = await own.perk(partner, kind=tables.PerkKind.ACCESS)
    await redeemed(own, right, member=member)
    await own.hold(member, await own.perk(partner), said=Circumstances(device=b"phone"))
    for indicator in ("spend", "visits"):
        await own.sql(
            "INSERT INTO activity (id, member_id, indicator, source, at, amount) VALUES (new_id(), $1, $2, 'x', $3, 1)",
            member.id,
            indicator,
            own.now,
        )
    await own.sql(
        "INSERT INTO review (id, member_id, partner_id, perk_id, state, opened_at)"
        " VALUES (new_id(), $1, $2, $3, 'OPEN', $4)",
        member.id,
        partner.id,
        one.perk.id,
        own.now,
    )
    async with own.database.sessions.begin() as session:
        await create_pass(session, member.id, now=own.now)
    await a_request(own, member, one.perk, "CANCELLED")
    await own.sql(
        "INSERT INTO browser_session (id, hash, kind, subject, name, member_id, scopes, created_at, expires_at)"
        " VALUES (new_id(), 'x', 'member', 'Ada', 'Ada', $1, '{}', $2, $2)",
        member.id,
        own.now,
    )
    marked = await filled(own, member)
    assert {"hold", "message", "service_request", "fulfilment", "member", "browser_session"} <= marked.keys()
    await own.sql("UPDATE access_grant SET state = 'GRANTED', ended_at = NULL WHERE member_id = $1", member.id)
    await erase(own, member)
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    for table, columns in marked.items():
        for name in sorted(columns - STAYS.get(table, set())):
            left = await own.sql(f"SELECT {name} AS said FROM {table}")
            assert not [row for row in left if MARK in str(row["said"])], f"{table}.{name}"


async def test_fifty_at_once_among_claims_consents_and_imports_meet_no_deadlock(own: Club, keys: Keys) -> None:
    partners = [await own.partner() for _ in range(2)]
    perks = [await own.perk(partner, units=500, units_max=5) for partner in partners]
    people = [await own.member(*partners) for _ in range(50)]
    faults: list[BaseException] = []

    async def quietly(call: Any) -> None:
        try:
            await call
        except PerksError:
            pass
        except (AssertionError, PostgresError) as fault:
            if not isinstance(fault, AssertionError):
                faults.append(fault)

    async def live(member: tables.Member) -> None:
        for perk in perks:
            claimed = await own.claim(member, perk)
            if claimed.hold is not None:
                await own.confirm(claimed.hold)
            await own.claim(member, perk)
        await own.consent(member, partners[0])

    gate = asyncio.Semaphore(12)

    async def gated(call: Any) -> None:
        async with gate:
            await quietly(call)

    await asyncio.gather(*(gated(call) for one in people for call in (live(one), erase(own, one))))
    assert faults == []
    await erase_on(own.database, own.now)
    assert await own.sql("SELECT 1 FROM member WHERE erased_at IS NULL") == []
    held = await own.sql("SELECT 1 FROM hold WHERE state = 'HELD'")
    assert len(held) <= 3  # a claim that had begun is swept with its time
    assert await own.sql("SELECT 1 FROM consent WHERE state = 'GRANTED'") == []
    await assert_laws(own)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE hold SET device = 'x'",
        'UPDATE service_request SET form = \'{"name": "Ada"}\'',
        "UPDATE message SET text = 'Ada'",
        "UPDATE fulfilment SET tracking = 'Ada', carrier = 'Post'",
    ],
)
async def test_the_laws_find_what_is_left_of_a_forgotten_member(own: Club, change: str) -> None:
    one = await a_sample(own)
    await one.choose(Delivery(FulfilmentMethod.SHIPPING, address=HOME))
    await a_request(own, one.member, one.perk, "CANCELLED")
    await erase(own, one.member)
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    await assert_laws(own)
    await own.sql(change)
    async with own.database.connection() as connection:
        found = {found.name for found in await check_laws(connection, own.now) if found.broken}
    assert found == {"forgotten_member_named"}


async def test_a_yes_that_comes_as_the_member_is_erased_lets_nobody_in(flows: Flows, club: Club) -> None:
    app = await flows.app(None, "me:read", kind=CallerKind.MEMBER)
    member = await club.member()
    person = await flows.member(member, "me:read")
    request_id = await flows.begin(flows.asking(app))
    await begun(club, member)
    with pytest.raises(PerksError):
        await flows.allow(request_id, person)
    assert await club.sql("SELECT 1 FROM approval WHERE member_id = $1", member.id) == []


async def test_exports_that_name_the_member_in_entries_go_when_it_is_forgotten(own: Club) -> None:
    member = await own.member()
    await erase(own, member)
    async with own.database.sessions.begin() as session:
        export = tables.Export(
            requested_by="auditor",
            kind=tables.ExportKind.ENTRIES,
            format=tables.ExportFormat.CSV,
            state=tables.ExportState.DONE,
            wanted={},
            created_at=own.now,
            ended_at=own.now,
            expires_at=own.now + timedelta(days=9),
        )
        session.add(export)
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    [row] = await own.sql("SELECT state FROM export WHERE id = $1", export.id)
    assert row["state"] == "EXPIRED"


class Killed(Exception):
    """The process is gone."""


@pytest.mark.parametrize("place", range(6))
async def test_killed_between_any_two_of_its_transactions_it_is_carried_on(own: Club, place: int) -> None:
    one = await a_sample(own)
    member, partner = one.member, one.partner
    await own.hold(member, await own.perk(partner))
    await a_request(own, member, await own.perk(partner, kind=tables.PerkKind.SERVICE), "SUBMITTED")
    left = iter(range(place))

    def alive() -> None:
        if next(left, None) is None:
            raise Killed

    @asynccontextmanager
    async def begin() -> AsyncIterator[AsyncSession]:
        alive()
        async with own.database.sessions.begin() as session:
            yield session

    @asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        alive()
        async with own.database.connection() as connection:
            yield connection

    by_name = MemberRef(external_id=member.external_id)
    if place < 5:
        with pytest.raises(Killed):
            await erase_member(begin, connect, by_name, STAFF, own.now)
    else:
        await erase_member(begin, connect, by_name, STAFF, own.now)
    if place == 0:  # nothing has happened yet
        await erase_member(own.database.sessions.begin, own.database.connection, by_name, STAFF, own.now)
    assert await erase_on(own.database, own.now) == (int(0 < place < 5), 0)
    [told] = await own.sql("SELECT count(*) AS times FROM audit_entry WHERE action = 'member.erased'")
    assert told["times"] == 1
    for table, states in (("hold", {"CONFIRMED", "RELEASED"}), ("service_request", {"CANCELLED"})):
        assert {row["state"] for row in await own.sql(f"SELECT state FROM {table}")} == states
    await assert_laws(own)
