"""Who sees which offers, in what order, and how an offer changes without a word that was said being lost."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.database import Database
from partners import catalogue, tables
from partners.actors import SYSTEM, Actor
from partners.browsing import OfferFilter, browse
from partners.catalogue import Offer
from partners.errors import BadInput, Conflict, NotFound
from partners.perk_settings import PerkSettings
from partners.policies import parsed_policy
from partners.references import PerkRef
from partners.tables import PartnerKind, PartnerState, PerkKind, PerkState
from tests.factories import STAFF, Club, member_actor, partner_actor

GOLD = {"kind": "tier_at_least", "tier": "gold"}
BLACK = {"kind": "tier_at_least", "tier": "black"}
SETTINGS = PerkSettings(title="A perk", time_zone="UTC")


async def listed(
    club: Club, actor: Actor | None, *, first: int = 100, after: UUID | None = None, **wanted: Any
) -> list[UUID]:
    async with club.database.connection() as connection:
        offers = await browse(connection, actor, OfferFilter(**wanted), now=club.now, first=first, after=after)
    return [offer.known.perk_id for offer in offers]


async def update(club: Club, perk: tables.Perk, settings: PerkSettings, actor: Actor = SYSTEM) -> Offer:
    async with club.database.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=perk.id), actor)
        return await catalogue.update_perk(
            session, offer, settings, programme=club.programme, actor=actor, now=club.now
        )


async def test_pages_follow_each_other_without_a_gap_or_a_repetition(club: Club) -> None:
    partner = await club.partner()
    made = [(await club.perk(partner)).id for _ in range(7)]
    actor, seen, after = partner_actor(partner), list[UUID](), None
    while page := await listed(club, actor, first=3, after=after):
        seen, after = seen + page, page[-1]
    assert seen == made


async def test_everybody_sees_what_is_theirs_to_see(club: Club) -> None:
    partner, rival, suspended = [await club.partner() for _ in range(3)]
    perks = {
        (owner.id, state): await club.perk(owner, state=state)
        for owner in (partner, rival, suspended)
        for state in PerkState
    }
    await club.sql("UPDATE partner SET state = 'SUSPENDED' WHERE id = $1", suspended.id)

    async def seen(actor: Actor | None) -> set[tuple[UUID, PerkState]]:
        return {key for key, perk in perks.items() if await listed(club, actor, ids=[perk.id])}

    everything = set(perks)
    assert await seen(None) == await seen(STAFF) == everything
    assert await seen(partner_actor(partner)) == {key for key in everything if key[0] == partner.id}
    member = member_actor(await club.member())
    assert await seen(member) == {key for key in everything if key[0] != suspended.id and key[1] is not PerkState.DRAFT}


async def test_another_partners_perk_is_not_found_by_any_name_and_a_filter_finds_none(club: Club) -> None:
    perk = await club.perk()
    owner = club.partners[perk.partner_id]
    stranger = partner_actor(await club.partner())
    for reference in (PerkRef(id=perk.id), PerkRef(handle=perk.handle)):
        named = OfferFilter.of(reference)
        assert await listed(club, partner_actor(owner), ids=named.ids, handle=named.handle) == [perk.id]
        assert await listed(club, stranger, ids=named.ids, handle=named.handle) == []
        async with club.database.sessions.begin() as session:
            with pytest.raises(NotFound):
                await catalogue.lock_offer(session, reference, stranger)
    assert await listed(club, stranger, partner_id=owner.id) == []
    assert await listed(club, partner_actor(owner), partner_id=owner.id, kind=PerkKind.EVENT) == []
    assert await listed(club, STAFF, partner_id=owner.id, state=PerkState.PUBLISHED) == [perk.id]


async def test_partners_see_themselves_members_the_active_ones_and_staff_all(club: Club) -> None:
    partner, suspended = await club.partner(), await club.partner()
    await club.sql("UPDATE partner SET state = 'SUSPENDED' WHERE id = $1", suspended.id)

    async def seen(actor: Actor, one: tables.Partner) -> bool:
        async with club.database.sessions() as session:
            by_id = await catalogue.list_partners(session, actor, id=one.id, first=1, after=None)
            by_handle = await catalogue.list_partners(session, actor, handle=one.handle, first=1, after=None)
        assert [found.id for found in by_id] == [found.id for found in by_handle]
        return bool(by_id)

    member = member_actor(await club.member())
    assert [await seen(actor, partner) for actor in (partner_actor(partner), member, STAFF)] == [True] * 3
    assert [await seen(actor, suspended) for actor in (partner_actor(partner), member, STAFF)] == [False, False, True]
    assert await seen(partner_actor(suspended), suspended)


async def test_new_rules_are_a_new_version_and_the_old_one_is_kept(club: Club) -> None:
    perk = await club.perk(rules=[GOLD])
    same = await update(club, perk, replace(SETTINGS, title="Another title", rules=[GOLD]))
    assert (same.perk.policy_version, same.perk.title) == (1, "Another title")
    changed = await update(club, perk, replace(SETTINGS, rules=[BLACK]))
    assert (changed.perk.policy_version, changed.policy.version) == (2, 2)
    back = await update(club, perk, replace(SETTINGS, rules=[GOLD]))
    assert back.perk.policy_version == 3
    rows = await club.sql("SELECT version, rules::text FROM policy WHERE perk_id = $1 ORDER BY version", perk.id)
    kept = [(row["version"], parsed_policy(perk.id, row["version"], row["rules"]).rules[0].tiers()) for row in rows]
    assert kept == [(1, ("gold",)), (2, ("black",)), (3, ("gold",))]
    assert back.perk.version == perk.version + 3


async def test_a_change_that_waited_for_another_sees_what_it_made(club: Club, database: Database) -> None:
    """The rules of the one that came first are not taken for those that are in force."""
    perk = await club.perk(rules=[GOLD])
    async with database.sessions() as first:
        offer = await catalogue.lock_offer(first, PerkRef(id=perk.id), SYSTEM)
        second = asyncio.create_task(update(club, perk, replace(SETTINGS, rules=[GOLD])))
        await asyncio.sleep(0.2)
        settings = replace(SETTINGS, rules=[BLACK])
        await catalogue.update_perk(first, offer, settings, programme=club.programme, actor=SYSTEM, now=club.now)
        await first.commit()
    offer = await second
    assert (offer.perk.policy_version, offer.policy.version) == (3, 3)
    [rules] = await club.sql("SELECT rules::text FROM policy WHERE perk_id = $1 AND version = 3", perk.id)
    assert "gold" in rules[0]


async def test_ten_changes_at_once_make_ten_versions(club: Club) -> None:
    perk = await club.perk()
    rules = [[GOLD], [BLACK]]
    offers = await asyncio.gather(
        *(update(club, perk, replace(SETTINGS, rules=rules[number % 2])) for number in range(10))
    )
    assert sorted(offer.perk.version for offer in offers) == list(range(perk.version + 1, perk.version + 11))
    assert all(offer.policy.version == offer.perk.policy_version for offer in offers)


async def test_capacity_never_falls_below_what_is_taken(club: Club) -> None:
    perk = await club.perk(units=3)
    partner = club.partners[perk.partner_id]
    for _ in range(2):
        await club.hold(await club.member(partner), perk)
    with pytest.raises(Conflict, match="2 are taken") as fault:
        await update(club, perk, replace(SETTINGS, units=1))
    assert fault.value.details == {
        "taken": 2,
        "short": [{"path": "capacity", "wanted": 1, "taken": 2, "kept": 0}],
    }
    assert (await update(club, perk, replace(SETTINGS, units=2))).capacity.units == 2
    assert (await club.claim(await club.member(partner), perk)).outcome == "REFUSED"
    assert (await update(club, perk, replace(SETTINGS, units=None))).capacity.units is None
    assert (await club.claim(await club.member(partner), perk)).outcome == "HELD"


async def test_publishing_and_pausing_go_one_way_at_a_time(club: Club) -> None:
    perk = await club.perk(state=PerkState.DRAFT)
    with pytest.raises(Conflict):
        await club.set_state(perk.id, PerkState.PAUSED)
    await club.set_state(perk.id, PerkState.PUBLISHED)
    with pytest.raises(Conflict):
        await club.set_state(perk.id, PerkState.PUBLISHED)
    await club.set_state(perk.id, PerkState.PAUSED)
    await club.set_state(perk.id, PerkState.PUBLISHED)
    for action, times in (("perk.published", 2), ("perk.paused", 1), ("perk.created", 1)):
        assert await club.entries(perk, action) == [("DONE", [])] * times


async def test_a_suspended_partner_is_noticed_by_every_decision_and_its_way_back_too(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    for state, eligible in ((PartnerState.SUSPENDED, False), (PartnerState.ACTIVE, True)):
        async with club.database.sessions.begin() as session:
            await catalogue.set_partner_state(session, partner.id, state, actor=STAFF, now=club.now)
        assert (await club.decision(member, perk)).eligible is eligible
    async with club.database.sessions.begin() as session:
        with pytest.raises(NotFound):
            await catalogue.set_partner_state(session, uuid4(), PartnerState.ACTIVE, actor=STAFF, now=club.now)


@pytest.mark.parametrize("handle", ["A", "a b", "-a", "a_b", "a/b", "é", "a" * 64, "a\n"])
async def test_an_impossible_handle_is_refused(club: Club, handle: str) -> None:
    with pytest.raises(BadInput, match="handle"):
        await club.partner(handle=handle)
    with pytest.raises(BadInput, match="handle"):
        await club.perk(handle=handle)


async def test_a_handle_belongs_to_one(club: Club) -> None:
    longest = f"{uuid4().hex}{'a' * 31}"
    partner = await club.partner(handle=longest)
    perk = await club.perk(partner, handle="spring")
    assert perk.handle == f"{longest}/spring"
    with pytest.raises(Conflict):
        await club.partner(handle=longest)
    with pytest.raises(Conflict):
        await club.perk(partner, handle="spring")
    assert (await club.perk(handle="spring")).handle.endswith("/spring")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"title": " "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"description": "x" * 5001}, "description"),
        ({"time_zone": "Mars/Olympus"}, "timeZone"),
        ({"opens_on": date(2026, 2, 2), "closes_on": date(2026, 2, 1)}, "closesOn"),
        ({"opens_on": date.min}, "opensOn"),
        ({"closes_on": date.max}, "closesOn"),
        ({"units": -1}, "capacity"),
        ({"units": 1_000_000_001}, "capacity"),
        ({"hold_seconds": 59}, "holdSeconds"),
        ({"hold_seconds": 86_401}, "holdSeconds"),
        ({"reversal_days": -1}, "reversalDays"),
        ({"reversal_days": 3_651}, "reversalDays"),
        ({"rules": [{"kind": "tier_at_least", "tier": "platinum"}]}, "platinum"),
    ],
)
async def test_impossible_settings_are_refused_and_nothing_is_made(
    club: Club, settings: dict[str, Any], said: str
) -> None:
    partner = await club.partner()
    with pytest.raises(BadInput, match=said):
        await club.perk(partner, **({"title": "A perk", "time_zone": "UTC"} | settings))
    assert await listed(club, partner_actor(partner)) == []


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
async def test_the_longest_window_there_is_can_be_asked_about(club: Club, zone: str) -> None:
    perk = await club.perk(
        time_zone=zone,
        opens_on=date.min + timedelta(days=1),
        closes_on=date.max - timedelta(days=1),
        units=1_000_000_000,
        hold_seconds=86_400,
        reversal_days=3_650,
        rules=[{"kind": "early_access", "until": "9999-12-31", "tier": "gold"}],
    )
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    decision = await club.decision(member, perk)
    assert decision.eligible
    assert (await club.reverse(await club.redeemed(await club.hold(member, perk)), partner_actor(partner))).code == (
        "REVERSED"
    )


async def test_a_partner_has_a_kind_and_a_name(club: Club) -> None:
    assert (await club.partner(kind=PartnerKind.TRAVEL, name="  A house  ")).name == "A house"
    with pytest.raises(BadInput, match="name"):
        await club.partner(name=" ")
