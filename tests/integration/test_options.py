"""Options and pools on the real database: nothing that is taken vanishes, nothing is sold twice, and who may, may."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.catalogue import Offer
from partners.errors import BadInput, Conflict
from partners.facts import Circumstances
from partners.holds import Claimed
from partners.laws import check_laws
from partners.references import PerkRef
from partners.tables import PerkKind, PerkState, Stock
from tests.factories import STAFF, Club
from tests.fulfilling import Statements

TO_COME = timedelta(days=30)


def local(club: Club, after: timedelta) -> str:
    return (club.now + after).replace(tzinfo=None, microsecond=0).isoformat()


def session(club: Club, handle: str = "evening", places: int | None = 10, **given: Any) -> dict[str, Any]:
    return {"handle": handle, "title": handle, "starts_at": local(club, TO_COME), "places": places} | given


def reserve(units: int, tier: str = "black", hours_before: int = 48, **given: Any) -> dict[str, Any]:
    return {"units": units, "tiers": [{"tier": tier, "hours_before": hours_before}]} | given


async def event(club: Club, *sessions: dict[str, Any], **given: Any) -> tables.Perk:
    return await club.perk(kind=PerkKind.EVENT, settings={"sessions": list(sessions)}, **{"units_max": 10} | given)


async def update(club: Club, perk: tables.Perk, *, stop_claims: bool = False, **said: Any) -> Offer:
    async with club.database.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=perk.id), SYSTEM)
        return await catalogue.update_perk(
            session,
            offer,
            offer.changed(**said),
            programme=club.programme,
            actor=SYSTEM,
            now=club.now,
            stop_claims=stop_claims,
        )


async def change(club: Club, perk: tables.Perk, *sessions: dict[str, Any], stop_claims: bool = False) -> Offer:
    return await update(club, perk, settings={"sessions": list(sessions)}, stop_claims=stop_claims)


async def claim(
    club: Club, perk: tables.Perk, units: int = 1, *, tier: str = "gold", option: str | None = None, **given: Any
) -> Claimed:
    member = await club.member(club.partners[perk.partner_id], tier=tier)
    return await club.claim(member, perk, said=Circumstances(units=units, option=option), **given)


async def redeem(club: Club, perk: tables.Perk, units: int = 1, **given: Any) -> str:
    """A claim that is confirmed at once, if it can be: it lasts whatever the time of the next one."""
    claimed = await claim(club, perk, units, **given)
    if claimed.hold is not None:
        await club.redeemed(claimed.hold, now=given.get("now"))
    return claimed.outcome


async def pools(club: Club, perk: tables.Perk) -> dict[tuple[str | None, str], tuple[int | None, int, int]]:
    """Units, taken and kept of each pool, by its option and name."""
    rows = await club.sql(
        "SELECT o.handle, p.name, p.units, p.taken, p.kept FROM pool p LEFT JOIN perk_option o ON o.id = p.option_id"
        " WHERE p.perk_id = $1 ORDER BY p.number",
        perk.id,
    )
    return {(row["handle"], row["name"]): (row["units"], row["taken"], row["kept"]) for row in rows if row["name"]}


async def capacity(club: Club, perk: tables.Perk) -> tuple[int | None, int, int, int | None]:
    """Units, taken, kept and what it shrinks to."""
    [row] = await club.sql("SELECT units, taken, kept, shrink_to FROM capacity WHERE perk_id = $1", perk.id)
    return tuple(row)


async def add_up(club: Club, perk: tables.Perk) -> None:
    """The capacity is the sum of its pools, what is held and redeemed is what they have taken, and no law is broken."""
    async with club.database.connection() as connection:
        broken = [one for one in await check_laws(connection, club.now) if one.broken and str(perk.id) in one.rows]
    assert broken == []
    found = await pools(club, perk)
    units, taken, kept, _ = await capacity(club, perk)
    assert units == sum(one[0] or 0 for one in found.values())
    assert (taken, kept) == (sum(one[1] for one in found.values()), sum(one[2] for one in found.values()))
    [(drawn, held)] = await club.sql(
        "SELECT (SELECT coalesce(sum(n), 0)::int FROM hold, unnest(pool_units) AS n WHERE perk_id = $1"
        " AND state IN ('HELD', 'CONFIRMED')), (SELECT coalesce(sum(units), 0)::int FROM hold WHERE perk_id = $1"
        " AND state IN ('HELD', 'CONFIRMED'))",
        perk.id,
    )
    assert drawn == held == taken


async def test_an_event_is_made_with_its_sessions_and_their_pools(club: Club) -> None:
    perk = await event(club, session(club, pools=[reserve(4)]), session(club, "matinee", 5, location="Hall 2"))
    assert await pools(club, perk) == {
        ("evening", "black"): (4, 0, 0),
        ("evening", "everybody"): (6, 0, 0),
        ("matinee", "everybody"): (5, 0, 0),
    }
    assert await capacity(club, perk) == (15, 0, 0, None)
    options = await club.sql(
        "SELECT handle, location, cut_off_at = starts_at AS until_the_start FROM perk_option"
        " WHERE perk_id = $1 ORDER BY position",
        perk.id,
    )
    assert [tuple(row) for row in options] == [("evening", None, True), ("matinee", "Hall 2", True)]
    assert perk.pooled


async def test_an_option_without_a_limit_leaves_the_whole_without_one(club: Club) -> None:
    perk = await event(club, session(club, places=1), session(club, "online", None))
    assert (await capacity(club, perk))[0] is None
    outcomes = [
        (await claim(club, perk, option=option)).outcome for option in ("evening", "evening", "online", "online")
    ]
    assert outcomes == ["HELD", "REFUSED", "HELD", "HELD"]


async def test_the_top_tiers_pool_is_its_own_until_its_turn_ends(club: Club) -> None:
    """Four of ten for black until 48 hours before, then for everybody; black draws on what is its own first."""
    perk = await event(club, session(club, pools=[reserve(4)]))
    assert await redeem(club, perk, 6) == "HELD"
    assert await redeem(club, perk) == "REFUSED"
    assert await redeem(club, perk, 3, tier="black") == "HELD"
    assert await pools(club, perk) == {("evening", "black"): (4, 3, 0), ("evening", "everybody"): (6, 6, 0)}
    released = (club.now + TO_COME).replace(microsecond=0) - timedelta(hours=48)
    assert await redeem(club, perk, now=released - timedelta(seconds=1)) == "REFUSED"
    assert await redeem(club, perk, now=released) == "HELD"


async def test_a_pool_steps_down_from_tier_to_tier(club: Club) -> None:
    turns = [{"tier": "black", "hours_before": 72}, {"tier": "gold", "hours_before": 48}]
    perk = await event(club, session(club, places=3, pools=[{"units": 3, "tiers": turns}]))

    async def outcome(tier: str, hours: int) -> str:
        now = (club.now + TO_COME).replace(microsecond=0) - timedelta(hours=hours)
        return await redeem(club, perk, tier=tier, now=now)

    assert [await outcome("gold", 73), await outcome("black", 73)] == ["REFUSED", "HELD"]
    assert [await outcome("silver", 72), await outcome("gold", 72)] == ["REFUSED", "HELD"]
    assert [await outcome("silver", 48), await outcome("silver", 48)] == ["HELD", "REFUSED"]


async def test_a_party_draws_on_several_pools_or_on_none(club: Club) -> None:
    perk = await event(club, session(club, pools=[reserve(4), reserve(2, "gold")]))
    assert (await claim(club, perk, 9)).outcome == "REFUSED"
    assert await capacity(club, perk) == (10, 0, 0, None)
    held = await claim(club, perk, 9, tier="black")
    assert held.hold is not None
    [(numbers, drawn)] = await club.sql("SELECT pools, pool_units FROM hold WHERE id = $1", held.hold.id)
    assert (numbers, drawn) == ([0, 1, 2], [4, 2, 3])
    assert (await claim(club, perk, 2, tier="black")).outcome == "REFUSED"
    await club.release(held.hold)
    assert await capacity(club, perk) == (10, 0, 0, None)
    await add_up(club, perk)


async def test_parties_of_none_and_of_too_many_are_refused(club: Club) -> None:
    perk = await event(club, session(club), units_max=4)
    for units, outcome in ((4, "HELD"), (5, "REFUSED"), (1000, "REFUSED")):
        assert (await claim(club, perk, units)).outcome == outcome
    with pytest.raises(BadInput, match="unitsMax"):
        await event(club, session(club), units_max=101)


async def test_the_cut_off_ends_claims_of_its_session_alone(club: Club) -> None:
    later = local(club, TO_COME + timedelta(days=1))
    perk = await event(club, session(club, cut_off_minutes=120), session(club, "matinee", starts_at=later))
    cut_off = (club.now + TO_COME).replace(microsecond=0) - timedelta(hours=2)
    before, after = cut_off - timedelta(seconds=1), cut_off
    assert (await claim(club, perk, option="evening", now=before)).outcome == "HELD"
    assert (await claim(club, perk, option="evening", now=after)).outcome == "REFUSED"
    assert (await claim(club, perk, option="matinee", now=after)).outcome == "HELD"


async def test_options_are_found_again_by_their_handles(club: Club) -> None:
    perk = await event(club, session(club), session(club, "matinee", 5))
    held = await claim(club, perk, option="matinee")
    assert held.hold is not None
    await change(
        club, perk, session(club, "matinee", 6, title="In the afternoon"), session(club, "night", 3), session(club)
    )
    options = await club.sql("SELECT id, handle, title FROM perk_option WHERE perk_id = $1 ORDER BY position", perk.id)
    assert [row["handle"] for row in options] == ["matinee", "night", "evening"]
    assert (options[0]["id"], options[0]["title"]) == (held.hold.option_id, "In the afternoon")
    assert (await pools(club, perk))["matinee", "everybody"] == (6, 1, 0)
    assert (await capacity(club, perk))[0] == 19
    await add_up(club, perk)


async def test_a_change_makes_what_was_judged_before_it_stale(club: Club) -> None:
    perk = await event(club, session(club))
    member = await club.member(club.partners[perk.partner_id])
    judged = await club.claim_of(member, perk)
    await change(club, perk, session(club, open=False))
    [claimed] = await club.claim_all([judged])
    assert claimed.outcome == "STALE"
    assert (await claim(club, perk)).outcome == "REFUSED"


async def test_an_option_that_nobody_has_can_go_and_its_place_is_used_again(club: Club) -> None:
    perk = await event(club, session(club, pools=[reserve(4)]), session(club, "matinee", 5))
    assert (await claim(club, perk, 5, option="matinee")).outcome == "HELD"
    await change(club, perk, session(club, "matinee", 5))
    assert await pools(club, perk) == {("matinee", "everybody"): (5, 5, 0)}
    await change(
        club, perk, session(club, "matinee", 5), session(club, "night", 2), session(club, "late", 2, pools=[reserve(1)])
    )
    assert [(await claim(club, perk, option=one)).outcome for one in ("night", "late", "matinee")] == [
        "HELD",
        "HELD",
        "REFUSED",
    ]
    numbers = await club.sql("SELECT number FROM pool WHERE perk_id = $1 ORDER BY number", perk.id)
    assert [row["number"] for row in numbers] == list(range(len(numbers))) == [0, 1, 2, 3]
    await add_up(club, perk)


async def test_an_option_that_somebody_has_had_or_waits_for_stays(club: Club) -> None:
    perk = await event(club, session(club), session(club, "matinee", 5))
    held = await claim(club, perk, 2, option="matinee")
    assert held.hold is not None
    with pytest.raises(Conflict, match="2 are taken") as fault:
        await change(club, perk, session(club))
    assert fault.value.details == {"option": "matinee", "taken": 2, "redeemed": 0, "waiting": 0}
    await club.reverse(await club.redeemed(held.hold), STAFF)
    with pytest.raises(Conflict, match="1 redeemed"):
        await change(club, perk, session(club))
    await club.sql(
        "INSERT INTO waitlist_entry (id, perk_id, partner_id, member_id, option_id, units, amount, state, weight,"
        " offers, joined_by, joined_at)"
        " SELECT $2, p.id, p.partner_id, $2, o.id, 1, 0, 'WAITING', 0, 0, 'test', now() FROM perk p"
        " JOIN perk_option o ON o.perk_id = p.id AND o.handle = 'evening' WHERE p.id = $1",
        perk.id,
        uuid4(),
    )
    with pytest.raises(Conflict, match="1 waited for"):
        await change(club, perk, session(club, "matinee", 5))
    assert len(await pools(club, perk)) == 2


async def test_a_pool_with_anything_taken_stays_and_an_empty_one_goes_to_everybody(club: Club) -> None:
    perk = await event(club, session(club, pools=[reserve(4), reserve(2, "gold")]))
    assert (await claim(club, perk, 3, tier="black")).outcome == "HELD"
    with pytest.raises(Conflict, match="the pool black: 3 are taken"):
        await change(club, perk, session(club))
    await change(club, perk, session(club, pools=[reserve(4)]))
    assert await pools(club, perk) == {("evening", "black"): (4, 3, 0), ("evening", "everybody"): (6, 0, 0)}
    over = {"units": 4, "name": "black", "tiers": [{"tier": "black", "until": "2020-01-01T00:00"}]}
    await change(club, perk, session(club, pools=[over]))
    assert (await claim(club, perk, 7, tier="silver")).outcome == "HELD"
    await add_up(club, perk)


async def test_fewer_places_than_are_taken_are_refused_with_the_figures(club: Club) -> None:
    perk = await event(club, session(club, pools=[reserve(4)]), session(club, "matinee", 5))
    assert (await claim(club, perk, 7, tier="black", option="evening")).outcome == "HELD"
    assert (await claim(club, perk, 2, option="matinee")).outcome == "HELD"
    with pytest.raises(Conflict, match=r"settings\.evening\.everybody: 3 are taken, so it can't be 1") as fault:
        await change(club, perk, session(club, places=3, pools=[reserve(2)]), session(club, "matinee", 2))
    assert fault.value.details["taken"] == 7
    assert fault.value.details["short"] == [
        {"path": "settings.evening.black", "wanted": 2, "taken": 4, "kept": 0},
        {"path": "settings.evening.everybody", "wanted": 1, "taken": 3, "kept": 0},
    ]
    assert await capacity(club, perk) == (15, 9, 0, None)
    await change(club, perk, session(club, places=7, pools=[reserve(4)]), session(club, "matinee", 2))
    assert await capacity(club, perk) == (9, 9, 0, None)


async def test_with_claims_stopped_places_shrink_as_they_come_back(club: Club) -> None:
    perk = await event(club, session(club))
    first, second = await claim(club, perk, 5), await claim(club, perk, 3)
    assert first.hold is not None
    assert second.hold is not None
    await change(club, perk, session(club, places=4), stop_claims=True)
    assert await capacity(club, perk) == (8, 8, 0, 4)
    assert (await claim(club, perk)).outcome == "REFUSED"
    await update(club, perk, title="Another title")
    assert await pools(club, perk) == {("evening", "everybody"): (8, 8, 0)}
    await club.release(first.hold)
    assert await pools(club, perk) == {("evening", "everybody"): (4, 3, 0)}
    assert [(await claim(club, perk)).outcome for _ in range(2)] == ["HELD", "REFUSED"]
    await add_up(club, perk)
    await change(club, perk, session(club, places=6))
    assert await capacity(club, perk) == (6, 4, 0, None)


async def test_units_without_options_shrink_likewise_and_can_be_more_again(club: Club) -> None:
    perk = await club.perk(units=5, units_max=5)
    held = await claim(club, perk, 5)
    assert held.hold is not None
    with pytest.raises(Conflict, match="capacity: 5 are taken, so it can't be 2"):
        await update(club, perk, units=2)
    await update(club, perk, units=2, stop_claims=True)
    assert await capacity(club, perk) == (5, 5, 0, 2)
    await update(club, perk, title="Another title")
    assert await capacity(club, perk) == (5, 5, 0, 2)
    redemption = await club.redeemed(held.hold)
    await club.reverse(redemption, STAFF, stock=Stock.RESTOCK)
    assert await capacity(club, perk) == (2, 0, 0, 2)
    await update(club, perk, units=8)
    assert await capacity(club, perk) == (8, 0, 0, None)


async def test_what_is_overdue_does_not_count_as_taken(club: Club) -> None:
    perk = await event(club, session(club), hold_seconds=60)
    assert (await claim(club, perk, 9, now=club.now - timedelta(minutes=2))).outcome == "HELD"
    await change(club, perk, session(club, places=1))
    assert await capacity(club, perk) == (1, 0, 0, None)


async def test_more_places_go_to_those_who_wait_first(club: Club) -> None:
    perk = await event(club, session(club, places=2), session(club, "matinee", 1), waitlist={})
    plain = await club.perk(units=2, waitlist={"offers": 3})
    for one in (perk, plain):
        await club.sql("UPDATE capacity SET waiting = 1 WHERE perk_id = $1", one.id)
    await change(club, perk, session(club, places=5), session(club, "matinee", 1))
    assert await pools(club, perk) == {("evening", "everybody"): (5, 0, 3), ("matinee", "everybody"): (1, 0, 0)}
    assert await capacity(club, perk) == (6, 0, 3, None)
    await update(club, plain, units=6)
    assert await capacity(club, plain) == (6, 0, 4, None)
    outcomes = [(await claim(club, perk, units, option="evening")).outcome for units in (2, 1)]
    assert outcomes == ["HELD", "REFUSED"]
    with pytest.raises(Conflict, match="2 are taken and 3 kept for those who wait"):
        await change(club, perk, session(club, places=4), session(club, "matinee", 1))
    await update(club, plain, units=None)
    assert await capacity(club, plain) == (None, 0, 0, None)


async def test_units_stay_where_they_are_once_one_was_redeemed(club: Club) -> None:
    perk = await club.perk(units=2)
    held = await claim(club, perk)
    assert held.hold is not None
    await club.reverse(await club.redeemed(held.hold), STAFF)
    assert (await capacity(club, perk))[1] == 0
    with pytest.raises(Conflict, match="0 are taken and 1 redeemed"):
        await update(club, perk, settings={"variants": [{"handle": "red", "title": "Red", "units": 2}]})


async def test_units_go_into_options_and_out_again_only_while_none_is_taken(club: Club) -> None:
    perk = await club.perk(units=5, units_max=2)
    variants = {"variants": [{"handle": "red", "title": "Red", "units": 3}]}
    await update(club, perk, settings=variants)
    assert await capacity(club, perk) == (3, 0, 0, None)
    await update(club, perk, settings={})
    assert await capacity(club, perk) == (3, 0, 0, None)
    assert await club.sql("SELECT FROM pool WHERE perk_id = $1", perk.id) == []
    held = await claim(club, perk, 2)
    assert held.hold is not None
    with pytest.raises(Conflict, match="2 are taken"):
        await update(club, perk, settings=variants)
    await club.release(held.hold)
    await update(club, perk, settings=variants)
    assert (await claim(club, perk)).outcome == "HELD"
    with pytest.raises(Conflict, match="1 are taken"):
        await update(club, perk, settings={})
    await add_up(club, perk)


async def test_a_sample_keeps_a_part_of_its_units_for_a_tier(club: Club) -> None:
    until = local(club, timedelta(days=2))
    kept = {"pools": [{"units": 2, "tiers": [{"tier": "black", "until": until}]}]}
    perk = await club.perk(units=3, settings=kept)
    assert [(await claim(club, perk)).outcome for _ in range(2)] == ["HELD", "REFUSED"]
    assert (await claim(club, perk, tier="black")).outcome == "HELD"
    await update(club, perk, units=4)
    assert await pools(club, perk) == {(None, "black"): (2, 1, 0), (None, "everybody"): (2, 1, 0)}
    with pytest.raises(BadInput, match="they keep 2 of 1 units"):
        await update(club, perk, units=1)
    await add_up(club, perk)


async def test_codes_are_counted_and_not_said(club: Club) -> None:
    perk = await club.perk(kind=PerkKind.CODE)
    assert await capacity(club, perk) == (0, 0, 0, None)
    assert perk.self_service
    with pytest.raises(BadInput, match="capacity: what there is is counted"):
        await update(club, perk, units=5)
    await update(club, perk, title="Another title", low_at=10)
    assert await capacity(club, perk) == (0, 0, 0, None)


async def test_the_currency_stays_while_anything_is_taken(club: Club) -> None:
    perk = await club.perk(units=5)
    assert (await update(club, perk, currency="CHF")).perk.currency == "CHF"
    assert (await claim(club, perk)).outcome == "HELD"
    with pytest.raises(Conflict, match="1 are taken and 0 wait in CHF"):
        await update(club, perk, currency="EUR")
    assert (await update(club, perk, currency="CHF", title="Another title")).perk.title == "Another title"


async def test_what_is_not_said_of_a_perk_is_nothing_and_not_a_json_null(club: Club) -> None:
    perk = await club.perk()
    [row] = await club.sql("SELECT waitlist IS NULL, settings::text FROM perk WHERE id = $1", perk.id)
    assert row[0]
    assert '"shipping": false' in row[1]
    await update(club, perk, waitlist={"offer_seconds": 300})
    [row] = await club.sql("SELECT waitlist::text FROM perk WHERE id = $1", perk.id)
    assert row[0] == '{"skip": false, "offers": 1, "offer_seconds": 300}'
    await update(club, perk, waitlist=None)
    assert await club.sql("SELECT FROM perk WHERE id = $1 AND waitlist IS NULL", perk.id) != []


async def test_fifty_claims_and_a_lower_capacity_at_once_never_oversell(club: Club) -> None:
    perk = await event(club, session(club, places=40, pools=[reserve(10)]), units_max=3)
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner, tier="black" if number % 3 else "gold") for number in range(50)]

    async def claimed(number: int) -> str:
        said = Circumstances(units=1 + number % 3)
        outcome = "STALE"
        while outcome == "STALE":
            outcome = (await club.claim(members[number], perk, said=said)).outcome
        return outcome

    async def lowered(places: int) -> None:
        await change(club, perk, session(club, places=places, pools=[reserve(5)]), stop_claims=True)

    outcomes = await asyncio.gather(
        *(claimed(number) for number in range(25)),
        lowered(20),
        *(claimed(number) for number in range(25, 50)),
        lowered(12),
    )
    await add_up(club, perk)
    units, taken, kept, _ = await capacity(club, perk)
    assert units is not None
    assert taken + kept <= units <= 40
    assert outcomes.count("HELD") >= 4
    assert (await claim(club, perk, 3, tier="black")).outcome == "REFUSED"
    held: list[UUID] = [row["id"] for row in await club.sql("SELECT id FROM hold WHERE perk_id = $1", perk.id)]
    for hold_id in held:
        await club.sql("SELECT release_hold($1, NULL, NULL, NULL, $2, 'staff', 'desk')", hold_id, club.now)
    # Whichever change came last is what it is to be.
    [(places,)] = await club.sql("SELECT (settings #>> '{sessions,0,places}')::int FROM perk WHERE id = $1", perk.id)
    assert places in (12, 20)
    assert await capacity(club, perk) == (places, 0, 0, None)
    assert await pools(club, perk) == {("evening", "black"): (5, 0, 0), ("evening", "everybody"): (places - 5, 0, 0)}


async def test_a_claim_with_pools_that_meets_a_change_is_judged_again(club: Club) -> None:
    """An option goes while a claim on it waits for the lock: the claim comes back to be judged on what is there."""
    perk = await event(club, session(club), session(club, "matinee", 5))
    member = await club.member(club.partners[perk.partner_id])
    judged = await club.claim_of(member, perk, said=Circumstances(option="matinee"))
    async with club.database.sessions() as first:
        offer = await catalogue.lock_offer(first, PerkRef(id=perk.id), SYSTEM)
        waiting = asyncio.create_task(club.claim_all([judged]))
        await asyncio.sleep(0.2)
        await catalogue.update_perk(
            first,
            offer,
            replace(offer.settings, units=None, settings={"sessions": [session(club)]}),
            programme=club.programme,
            actor=SYSTEM,
            now=club.now,
        )
        await first.commit()
    assert [one.outcome for one in await waiting] == ["STALE"]
    await add_up(club, perk)


async def test_a_change_takes_as_many_statements_with_one_session_as_with_fifty(club: Club) -> None:
    few, many = [session(club)], [session(club, f"s{number}", pools=[reserve(2)]) for number in range(50)]
    partner, counted = await club.partner(), []
    for sessions in (few, many):
        with Statements(club.database) as made:
            perk = await event(club, *sessions, partner=partner, state=PerkState.DRAFT)
        fewer = [one | {"places": 5} for one in sessions]
        with Statements(club.database) as changed:
            await change(club, perk, *fewer)
        counted.append((len(made), len(changed)))
    assert counted[0] == counted[1] == (10, 10)


async def test_fifty_claims_and_fewer_units_at_once_never_oversell(club: Club) -> None:
    """Without options, too: what was taken before the change stays, and nothing comes after it."""
    perk = await club.perk(units=40, units_max=2)
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner) for _ in range(50)]

    async def claimed(member: tables.Member) -> str:
        outcome = "STALE"
        while outcome == "STALE":
            outcome = (await club.claim(member, perk, said=Circumstances(units=2))).outcome
        return outcome

    async def lowered() -> str:
        await update(club, perk, units=10, stop_claims=True)
        return "LOWERED"

    outcomes = await asyncio.gather(*map(claimed, members[:25]), lowered(), *map(claimed, members[25:]))
    held = outcomes.count("HELD")
    units, taken, kept, wished = await capacity(club, perk)
    assert (taken, kept) == (2 * held, 0)
    assert held >= 5
    assert (units, wished) == ((taken, 10) if taken > 10 else (10, None))
    assert (await claim(club, perk)).outcome == "REFUSED"
