"""Erasing a member on the real database: nothing that identifies is left in any row, and the books still add up."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlmodel import SQLModel

import auth.personal_data
import auth.tables
from auth.erasure import carry_on, erase_member, read_personal_data
from gateway.database import Database
from gateway.erasing import erase_on
from partners import personal_data, tables
from partners.actors import Actor, ActorKind
from partners.deliveries import Delivery
from partners.erasure import PARTNERS_TOLD_WITHIN, begin_erasure
from partners.errors import NotFound
from partners.facts import Circumstances
from partners.keys import Keys
from partners.laws import check_laws
from partners.passes import create_pass
from partners.programme import Programme
from partners.references import MemberRef
from partners.tables import FulfilmentMethod, HoldState, MemberState
from tests.factories import Club
from tests.fulfilling import HOME, Redeemed, a_sample

STAFF = Actor(ActorKind.STAFF, "desk")


@pytest.fixture
def own(empty_database: Database, programme: Programme, keys: Keys, club: Club) -> Club:
    """A club on a database of the test's own, since everything in it is read."""
    return Club(empty_database, programme, keys, club.now)


async def erase(club: Club, member: tables.Member, days: int = 0) -> UUID:
    """By staff, so many days after the tests' moment."""
    database = club.database
    return await erase_member(
        database.sessions.begin,
        database.connection,
        MemberRef(id=member.id),
        STAFF,
        club.now + timedelta(days=days),
    )


async def everything(club: Club) -> str:
    """Every row of every table, as text."""
    parts = []
    for table in SQLModel.metadata.sorted_tables:
        rows = await club.sql(f'SELECT to_jsonb(t)::text AS row FROM "{table.name}" t')
        parts += [f"{table.name} {row['row']}" for row in rows]
    return "\n".join(parts)


async def lived(club: Club) -> tuple[Redeemed, tables.Member, str]:
    """A member with something in as many tables as the domain alone can fill."""
    one = await a_sample(club)
    member = one.member
    await one.choose(Delivery(FulfilmentMethod.SHIPPING, address=HOME))
    await club.sql(
        "UPDATE member SET household = 'house of Ada', birth_month = 7, labels = '{vip-ada}', score = 12 WHERE id = $1",
        member.id,
    )
    await club.sql(
        "INSERT INTO activity (id, member_id, indicator, source, at, amount)"
        " VALUES (new_id(), $1, 'spend', 'till of Ada', $2, 1)",
        member.id,
        club.now,
    )
    await club.hold(member, await club.perk(one.partner), said=Circumstances(device=b"the phone of Ada"))
    async with club.database.sessions.begin() as session:
        shown = await create_pass(session, member.id, now=club.now)
    assert shown is not None
    return one, member, one.alias


IDENTIFYING = ("house of Ada", "vip-ada", "till of Ada", b"the phone of Ada".hex(), HOME.name, HOME.lines[0])


async def test_nothing_that_identifies_is_left_in_any_row(own: Club) -> None:
    _, member, alias = await lived(own)
    before = await everything(own)
    assert member.external_id in before
    assert all(said in before for said in IDENTIFYING[:4])
    await erase(own, member)
    after = await everything(own)
    assert [said for said in (member.external_id, *IDENTIFYING) if said in after] == []
    assert [row["address"] for row in await own.sql("SELECT address FROM fulfilment")] == [None]
    for empty in ("activity", "pass", "disclosure"):
        assert await own.sql(f"SELECT 1 FROM {empty} WHERE member_id = $1", member.id) == [], empty
    [row] = await own.sql("SELECT * FROM member WHERE id = $1", member.id)
    assert (row["state"], row["external_id"]) == (MemberState.ERASED, f"erased:{member.id}")
    assert (row["household"], row["birth_month"], row["market"], row["labels"], row["score"]) == (None,) * 3 + ([], 0)
    # The partner knows its member by the alias for as long as it has yet to hear of it.
    assert alias in after


async def test_what_was_counted_stays_and_every_law_holds(own: Club, keys: Keys) -> None:
    one, member, _ = await lived(own)
    [counted] = await own.sql("SELECT count(*) AS redemptions, sum(units) AS units FROM redemption")
    await erase(own, member)
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    [after] = await own.sql("SELECT count(*) AS redemptions, sum(units) AS units FROM redemption")
    assert tuple(counted) == tuple(after) == (1, 1)
    async with own.database.connection() as connection:
        assert [found for found in await check_laws(connection, own.now) if found.broken] == []
    holds = await own.sql("SELECT state FROM hold WHERE member_id = $1 ORDER BY id", member.id)
    assert [row["state"] for row in holds] == [HoldState.CONFIRMED, HoldState.RELEASED]
    assert await own.taken(one.perk) == 1


async def test_a_week_later_nothing_leads_to_the_member_and_the_leaves_are_the_same_bytes(own: Club) -> None:
    _, member, alias = await lived(own)
    await erase(own, member)
    leaves = await own.sql("SELECT id, leaf, leaf_hash FROM audit_entry ORDER BY id")
    assert await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN - timedelta(seconds=1)) == (0, 0)
    assert await own.sql("SELECT 1 FROM audit_entry WHERE member_id = $1", member.id) != []
    assert await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN) == (0, 1)
    assert await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN) == (0, 0)
    assert await own.sql("SELECT id, leaf, leaf_hash FROM audit_entry ORDER BY id") == leaves
    assert alias not in await everything(own)
    assert await own.sql("SELECT 1 FROM audit_entry WHERE member_id = $1", member.id) == []
    assert await own.sql("SELECT 1 FROM audit_entry WHERE actor_id = $1", str(member.id)) == []
    [row] = await own.sql("SELECT audit_salt FROM member WHERE id = $1", member.id)
    assert row["audit_salt"] == b""


async def test_what_is_recorded_of_a_forgotten_member_names_nobody(own: Club) -> None:
    one, member, _ = await lived(own)
    await erase(own, member)
    await erase_on(own.database, own.now + PARTNERS_TOLD_WITHIN)
    assert await one.update("FULFILLED", now=own.now + PARTNERS_TOLD_WITHIN) == "UPDATED"
    [entry] = await own.sql("SELECT member_id, leaf FROM audit_entry WHERE action = 'fulfilment.updated'")
    assert entry["member_id"] is None
    assert orjson.loads(entry["leaf"])["member"] is None


async def test_partners_hear_that_the_consent_has_ended_once_each(own: Club) -> None:
    partners = [await own.partner() for _ in range(3)]
    member = await own.member(*partners)
    await own.withdraw(member, partners[0])
    await erase(own, member)
    rows = await own.sql(
        "SELECT partner_id, reasons, member_id FROM audit_entry WHERE action = 'consent.withdrawn' AND reasons <> '{}'"
    )
    assert {row["partner_id"] for row in rows} == {partners[1].id, partners[2].id}
    assert {(tuple(row["reasons"]), row["member_id"]) for row in rows} == {(("MEMBER_ERASED",), member.id)}


async def test_an_erased_member_is_not_there_for_any_change_and_its_external_id_is_free_again(own: Club) -> None:
    partner = await own.partner()
    member = await own.member(partner)
    await erase(own, member)
    for change in (own.assign(member, "gold"), own.consent(member, partner), erase(own, member)):
        with pytest.raises(NotFound):
            await change
    decision = await own.decision(member, await own.perk(partner))
    assert not decision.eligible
    await own.sql("UPDATE member SET external_id = 'again' WHERE id = $1", (await own.member()).id)
    assert await own.sql("SELECT 1 FROM member WHERE external_id = $1", member.external_id) == []


async def test_an_erasure_that_was_cut_short_is_carried_on(own: Club) -> None:
    _, member, _ = await lived(own)
    async with own.database.sessions.begin() as session:
        await begin_erasure(session, MemberRef(id=member.id), own.now)
    assert not (await own.decision(member, await own.perk())).eligible
    assert await erase_on(own.database, own.now) == (1, 0)
    assert member.external_id not in await everything(own)
    assert await erase_on(own.database, own.now) == (0, 0)


async def test_five_that_erase_at_once_put_it_on_record_once(own: Club) -> None:
    _, member, _ = await lived(own)
    done = await asyncio.gather(*(erase(own, member) for _ in range(5)), return_exceptions=True)
    await carry_on(own.database.sessions.begin, own.database.connection, member.id, STAFF, own.now)
    assert all(one == member.id or isinstance(one, NotFound) for one in done)
    [told] = await own.sql("SELECT count(*) AS times FROM audit_entry WHERE action = 'member.erased'")
    assert told["times"] == 1


async def personal(club: Club, member: tables.Member, rows_max: int = 1_000) -> dict[str, Any]:
    async with club.database.sessions.begin() as session:
        return await read_personal_data(
            session,
            MemberRef(id=member.id),
            sealing_key=club.keys.sealing,
            actor=STAFF,
            now=club.now,
            rows_max=rows_max,
        )


async def test_everything_held_is_told_as_it_is_to_be_read_and_no_secret_with_it(own: Club) -> None:
    _, member, alias = await lived(own)
    other = await a_sample(own)
    found = await personal(own, member)
    text = orjson.dumps(found).decode()
    assert all(said in text for said in (member.external_id, alias, "house of Ada", "till of Ada", HOME.name))
    assert found["held"]["fulfilment"][0]["address"]["lines"] == HOME.lines
    assert found["incomplete"] == []
    assert [other.alias in text, str(other.member.id) in text, "audit_salt" in text, "code_hash" in text] == [False] * 4
    [entry] = await own.sql("SELECT actor_id FROM audit_entry WHERE action = 'member.exported'")
    assert entry["actor_id"] == "desk"


async def test_what_is_too_much_for_one_answer_is_named(own: Club) -> None:
    _, member, _ = await lived(own)
    found = await personal(own, member, rows_max=1)
    assert "audit_entry" in found["incomplete"]
    assert all(len(rows) == 1 for rows in found["held"].values())


def holdings() -> Sequence[personal_data.Holding]:
    return [*personal_data.HOLDINGS, *auth.personal_data.HOLDINGS]


def test_every_table_says_what_it_holds_of_a_member() -> None:
    said = [one.table for one in holdings()] + [*personal_data.NOTHING_HELD, *auth.personal_data.NOTHING_HELD]
    assert sorted(said) == sorted(SQLModel.metadata.tables)


def test_no_table_that_names_a_member_is_said_to_hold_nothing() -> None:
    naming = {table.name for table in SQLModel.metadata.sorted_tables if "member_id" in table.columns}
    assert naming - {one.table for one in holdings()} == set()


def test_names_are_kept_until_partners_have_heard() -> None:
    late = {one.table for one in holdings() if one.forgetting is not None and "split_part" not in one.forgetting}
    assert late == {"member", "member_alias", "consent", "webhook_message", "audit_entry"}
    told_of = {one.table for one in holdings() if one.forgetting is not None} - late
    assert told_of == {"hold", "redemption", "reversal", "fulfilment", "check_in", "access_grant", "access_use"} | {
        "waitlist_entry"
    }
