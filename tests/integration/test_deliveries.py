"""Where a sample goes: chosen by its member, read by the partner only to send it, and then forgotten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.database import Database
from partners import consents
from partners.addresses import Address
from partners.deliveries import ADDRESS_KEPT, ERASED_MAX, Delivery, erase_addresses
from partners.errors import BadInput
from partners.references import MemberRef
from partners.sealing import Unsealable
from partners.tables import FulfilmentMethod
from tests.factories import STAFF, Club, partner_actor
from tests.fulfilling import HOME, PICKUP, SETTINGS, SHIPPING, Redeemed, Statements, a_party, a_sample, redeemed

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)


async def a_parcel(club: Club) -> Redeemed:
    """A sample that is to be sent home."""
    sample = await a_sample(club)
    assert (await sample.choose(SHIPPING)).code == "CHOSEN"
    return sample


async def test_a_member_picks_it_up_at_a_location_of_the_perk(club: Club) -> None:
    sample = await a_sample(club)
    assert (await sample.choose(PICKUP)).code == "CHOSEN"
    shown = await sample.shown(to_partner=True)
    assert (shown.method, shown.location, shown.address) == ("PICKUP", "old-town", None)
    assert await club.entries(sample.perk, "delivery.chosen") == [("DONE", ["PICKUP"])]
    assert await sample.disclosures() == []


async def test_an_address_is_read_by_the_partner_each_time_on_record_and_by_its_member(club: Club) -> None:
    sample = await a_parcel(club)
    assert (await sample.shown(to_member=True)).address == HOME
    assert await sample.disclosures() == []
    for _ in range(2):
        assert (await sample.shown(to_partner=True)).address == HOME
    assert await sample.disclosures() == ["ADDRESS"] * 2
    [told] = await club.sql(
        "SELECT DISTINCT perk_id, partner_id, client_id FROM disclosure WHERE member_id = $1", sample.member.id
    )
    assert tuple(told) == (sample.perk.id, sample.partner.id, "till")


async def test_staff_and_strangers_read_no_address(club: Club) -> None:
    sample, other = await a_parcel(club), await a_parcel(club)
    assert (await sample.shown()).address is None
    assert (await replace(sample, member=other.member).shown(to_member=True)).address is None
    assert (await replace(sample, perk=other.perk).shown(to_partner=True)).address is None
    assert await sample.disclosures() == []


async def test_it_is_shown_while_it_has_to_be_sent_and_erased_after(club: Club) -> None:
    sample = await a_parcel(club)
    assert await sample.update("SCHEDULED", carrier="Post") == "UPDATED"
    assert (await sample.shown(to_partner=True)).address == HOME
    assert await sample.update("FULFILLED") == "UPDATED"
    assert (await sample.shown(to_partner=True)).address is None
    assert (await sample.shown(to_member=True)).address is None
    assert (await sample.row())["address"] is None
    assert await sample.disclosures() == ["ADDRESS"]


async def test_it_is_erased_when_it_fails_or_is_taken_back_whole(club: Club) -> None:
    failed, back = await a_parcel(club), await a_sample(club, 2)
    assert await failed.update("FAILED", reason="unknown at this address") == "UPDATED"
    assert (await failed.row())["address"] is None
    assert (await back.choose(SHIPPING)).code == "CHOSEN"
    assert (await club.reverse(back.id, back.partner_actor, units=1)).code == "REVERSED"
    assert (await back.shown(to_partner=True)).address == HOME
    assert (await club.reverse(back.id, back.partner_actor)).code == "REVERSED"
    assert (await back.row())["address"] is None


@pytest.mark.parametrize("missing", ["withdrawn", "expired", "without the scope"])
async def test_without_live_consent_to_it_no_address_is_shown(club: Club, missing: str) -> None:
    sample = await a_parcel(club)
    if missing == "withdrawn":
        await club.withdraw(sample.member, sample.partner)
    elif missing == "expired":
        await club.consent(sample.member, sample.partner, expires_at=club.now)
    else:
        await club.consent(sample.member, sample.partner, scopes=consents.USUAL)
    assert (await sample.shown(to_partner=True)).address is None
    assert (await sample.shown(to_member=True)).address == HOME
    assert await sample.disclosures() == []


async def test_who_consents_without_saying_to_what_keeps_the_address(club: Club) -> None:
    assert consents.SCOPES.keys() - consents.USUAL == {"member.address:read"}
    perk = await club.perk(settings=SETTINGS)
    member, partner = await club.member(), club.partners[perk.partner_id]
    sample = await redeemed(club, perk, member=member)
    async with club.database.sessions.begin() as session:
        await consents.grant_consent(
            session,
            MemberRef(id=member.id),
            partner.id,
            purpose="perks",
            expires_at=None,
            pairwise_key=club.keys.pairwise,
            actor=STAFF,
            now=club.now,
        )
    assert (await sample.choose(SHIPPING)).code == "CHOSEN"
    assert (await sample.shown(to_partner=True)).address is None


async def test_choosing_again_replaces_what_was_chosen(club: Club) -> None:
    sample = await a_parcel(club)
    moved = replace(HOME, lines=("Am Bach 1",))
    assert (await sample.choose(replace(SHIPPING, address=moved))).code == "CHOSEN"
    assert (await sample.shown(to_partner=True)).address == moved
    assert (await sample.choose(PICKUP)).code == "CHOSEN"
    row = await sample.row()
    assert (row["method"], row["location"], row["address"], row["address_until"]) == ("PICKUP", "old-town", None, None)
    assert (await sample.choose(SHIPPING)).code == "CHOSEN"
    assert (await sample.row())["location"] is None


async def test_nothing_is_chosen_once_the_partner_has_begun(club: Club) -> None:
    steps: dict[str, dict[str, Any]] = {"SCHEDULED": {"carrier": "Post"}, "FULFILLED": {}, "FAILED": {"reason": "gone"}}
    for state, more in steps.items():
        sample = await a_sample(club)
        assert await sample.update(state, **more) == "UPDATED"
        assert (await sample.choose(PICKUP)).code == "WRONG_STATE"
        assert await club.entries(sample.perk, "delivery.chosen") == [("REFUSED", ["WRONG_STATE"])]
    again = await a_sample(club)
    assert await again.update("SCHEDULED", carrier="Post") == "UPDATED"
    assert await again.update("PENDING") == "UPDATED"
    assert (await again.choose(PICKUP)).code == "CHOSEN"


async def test_only_a_sample_is_delivered(club: Club) -> None:
    assert (await (await a_party(club)).choose(SHIPPING)).code == "WRONG_STATE"


async def test_a_partner_chooses_for_its_member_at_the_counter_only_while_that_consents(club: Club) -> None:
    sample = await a_sample(club)
    bound = replace(sample.partner_actor, alias=sample.alias)
    assert (await sample.choose(PICKUP, actor=sample.partner_actor)).code == "CHOSEN"
    assert (await sample.choose(SHIPPING, actor=bound)).code == "CHOSEN"
    without = consents.SCOPES.keys() - {"redemptions:write"}
    await club.consent(sample.member, sample.partner, scopes=without)
    assert (await sample.choose(PICKUP, actor=sample.partner_actor)).code == "CONSENT_MISSING"
    await club.withdraw(sample.member, sample.partner)
    assert (await sample.choose(PICKUP, actor=bound)).code == "CONSENT_MISSING"
    assert (await sample.shown()).method == "SHIPPING"
    assert (await sample.choose(PICKUP)).code == "CHOSEN"


IMPOSSIBLE: list[tuple[Delivery, str]] = [
    (Delivery(FulfilmentMethod.SHIPPING), "address: for SHIPPING"),
    (Delivery(FulfilmentMethod.SHIPPING, location="old-town", address=HOME), "location: for PICKUP"),
    (Delivery(FulfilmentMethod.PICKUP), "location: for PICKUP"),
    (Delivery(FulfilmentMethod.PICKUP, location="old-town", address=HOME), "address: for SHIPPING"),
    (Delivery(FulfilmentMethod.PICKUP, location="new-town"), "location: the handle of one"),
    (Delivery(FulfilmentMethod.PICKUP, location=""), "location: the handle of one"),
    (Delivery(FulfilmentMethod.SHIPPING, address=replace(HOME, city="\0")), "address.city: 1 to 100"),
]


@pytest.mark.parametrize(("delivery", "fault"), IMPOSSIBLE)
async def test_what_can_not_be_is_named_and_nothing_is_kept(club: Club, delivery: Delivery, fault: str) -> None:
    sample = await a_sample(club)
    with pytest.raises(BadInput, match=fault):
        await sample.choose(delivery)
    assert (await sample.row())["method"] is None


@pytest.mark.parametrize(("delivery", "fault"), [(PICKUP, "location"), (SHIPPING, "method")])
async def test_a_perk_that_offers_no_such_way_says_so(club: Club, delivery: Delivery, fault: str) -> None:
    sample = await redeemed(club, await club.perk())
    with pytest.raises(BadInput, match=fault):
        await sample.choose(delivery)


async def test_an_address_is_kept_for_thirty_days_at_most(empty_database: Database, club: Club) -> None:
    own = replace(club, database=empty_database, partners={}, perks={})
    first, second = await a_parcel(own), await a_parcel(own)
    ends = own.now + ADDRESS_KEPT
    assert (await second.choose(SHIPPING, now=own.now + DAY)).code == "CHOSEN"
    for partner in (True, False):
        assert (await first.shown(to_partner=partner, to_member=not partner, now=ends - TICK)).address == HOME
        assert (await first.shown(to_partner=partner, to_member=not partner, now=ends)).address is None
    async with own.database.connection() as connection:
        assert await erase_addresses(connection, ends - TICK) == 0
        assert await erase_addresses(connection, ends) == 1
        assert await erase_addresses(connection, ends) == 0
    rows = [await one.row() for one in (first, second)]
    assert [(row["method"], row["address"] is None) for row in rows] == [("SHIPPING", True), ("SHIPPING", False)]


async def test_addresses_are_erased_by_the_thousand(empty_database: Database, club: Club) -> None:
    own = replace(club, database=empty_database, partners={}, perks={})
    await own.sql(
        "INSERT INTO fulfilment (redemption_id, address, address_until, checked_in, updated_at, updated_by)"
        " SELECT gen_random_uuid(), 'x', $1, 0, $1, 'someone' FROM generate_series(1, $2)",
        own.now,
        ERASED_MAX + 1,
    )
    async with own.database.connection() as connection:
        assert [await erase_addresses(connection, own.now) for _ in range(3)] == [ERASED_MAX, 1, 0]


async def test_what_the_database_and_its_log_hold_tells_no_address(club: Club) -> None:
    sample = await a_parcel(club)
    await sample.shown(to_partner=True)
    await sample.update("FAILED", reason="no such street: Unter den Weiden 77")
    parcel = await a_parcel(club)
    sealed = (await parcel.row())["address"]
    told = [HOME.name, *HOME.lines, HOME.city, HOME.phone]
    assert not any(str(text).encode() in sealed for text in told)
    entries = await club.sql("SELECT leaf, reasons::text FROM audit_entry WHERE perk_id = $1", sample.perk.id)
    assert not any(str(text) in f"{entry}" for entry in entries for text in told)


async def test_an_address_that_was_moved_to_another_row_does_not_open(club: Club) -> None:
    mine, theirs = await a_parcel(club), await a_parcel(club)
    await club.sql(
        "UPDATE fulfilment SET address = (SELECT address FROM fulfilment WHERE redemption_id = $2)"
        " WHERE redemption_id = $1",
        mine.id,
        theirs.id,
    )
    with pytest.raises(Unsealable):
        await mine.shown(to_partner=True)


async def test_a_page_is_one_statement_that_also_keeps_what_was_told(club: Club) -> None:
    samples = [await a_parcel(club) for _ in range(3)]
    for partner, member in ((False, False), (True, False), (False, True)):
        with Statements(club.database) as statements:
            await samples[0].shown(to_partner=partner, to_member=member)
        assert len(statements) == 1
    with Statements(club.database) as statements:
        await samples[0].choose(PICKUP, actor=partner_actor(samples[0].partner))
    assert len(statements) == 5


@asynccontextmanager
async def withdrawing(sample: Redeemed) -> AsyncIterator[None]:
    """A withdrawal that has locked its rows and not committed yet."""
    async with sample.club.database.sessions() as session:
        await session.execute(
            sa.text("UPDATE consent SET state = 'WITHDRAWN', withdrawn_at = :now WHERE member_id = :member"),
            {"member": sample.member.id, "now": sample.club.now},
        )
        yield
        await session.commit()


async def test_no_choice_overtakes_a_withdrawal(club: Club) -> None:
    sample = await a_sample(club)
    async with withdrawing(sample):
        choosing = asyncio.create_task(sample.choose(PICKUP, actor=sample.partner_actor))
        await asyncio.sleep(0.1)
        assert not choosing.done()
    assert (await choosing).code == "CONSENT_MISSING"


async def test_an_address_is_told_before_a_withdrawal_or_not_at_all(club: Club) -> None:
    samples = [await a_parcel(club) for _ in range(20)]

    async def read(sample: Redeemed) -> Address | None:
        return (await sample.shown(to_partner=True)).address

    calls: list[Any] = []
    for sample in samples:
        calls += [read(sample), club.withdraw(sample.member, sample.partner)]
    answers = await asyncio.gather(*calls)
    for sample, address in zip(samples, answers[::2], strict=True):
        assert await sample.disclosures() == ([] if address is None else ["ADDRESS"])
        assert await read(sample) is None
