"""Ad hoc."""
import asyncio, random, collections
from dataclasses import replace
from datetime import timedelta
import asyncpg, pytest
from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.errors import BadInput, Conflict, NotFound
from partners.facts import Circumstances
from partners.laws import check_laws
from partners.references import PerkRef
from partners.tables import PerkKind, Stock
from partners.holds import expire_overdue
from tests.factories import STAFF, Club, member_actor
from tests.waiting import WAITLIST, Queue
from gateway.database import Database

@pytest.mark.parametrize("seed", range(200, 203))
async def test_storm(empty_database, programme, keys, now, seed):
    dice = random.Random(seed)
    club = Club(empty_database, programme, keys, now)
    def sess(places, black, e_places, dice=dice):
        t = (now + timedelta(days=2)).replace(tzinfo=None, microsecond=0).isoformat()
        return {"sessions": [
            {"handle": "a", "title": "a", "starts_at": t, "places": places, "pools": [{"units": black, "tiers": [{"tier": "black", "hours_before": 47}]}]},
            {"handle": "b", "title": "b", "starts_at": t, "places": e_places, "cut_off_minutes": 60},
        ]}
    partner = await club.partner()
    rules = [{"kind": "allowance", "period": "DAY", "otherwise": 4}, {"kind": "allowance", "period": "ROLLING", "hours": 5, "otherwise": 6, "per": "household"}, {"kind": "not_together", "group": "g"},
      {"kind": "allowance", "period": "EVER", "otherwise": 900, "measure": "amount"}]
    ev = await club.perk(partner, kind=PerkKind.EVENT, settings=sess(8, 3, None if seed % 2 else 5), units_max=4, waitlist=WAITLIST, rules=rules, hold_seconds=60, currency="CHF")
    own = await club.perk(partner, units=7, settings={"pools": [{"units": 2, "tiers": [{"tier": "gold", "until": "2100-01-01T00:00"}]}]}, units_max=4, waitlist=WAITLIST | {"skip": False, "offers": 2}, rules=rules[:2], hold_seconds=60, currency="CHF")
    plain = await club.perk(partner, units=5, units_max=3, waitlist=WAITLIST, rules=rules, hold_seconds=60, currency="CHF")
    perks = [ev, own, plain]
    queues = {p.id: Queue(club, p, now) for p in perks}
    members = [await club.member(partner, tier=dice.choice(["black", "gold", "silver"])) for _ in range(14)]
    await club.sql("UPDATE member SET household = CASE WHEN random() < 0.6 THEN (array['x','y','z'])[1 + floor(random()*3)::int] END, version = version + 1")
    clock = [now]
    holds, reds, entries, told = [], [], [], collections.Counter()
    async def step():
        perk, m = dice.choice(perks), dice.choice(members)
        t = clock[0] + timedelta(seconds=dice.uniform(-2, 2))
        q = queues[perk.id]; q.now = t
        what = dice.choice(["claim"] * 5 + ["batch"] * 2 + ["join"] * 3 + ["leave", "release", "confirm", "confirm", "part", "reverse", "reverse", "promote", "promote", "change", "extend", "expire", "withdraw", "household"] + ["time"] * (dice.random() < .4))
        said = Circumstances(units=dice.randint(1, 3), option=dice.choice("ab") if perk is ev else None, amount=dice.choice([10, 50, 100]))
        try:
            if what == "claim":
                r = await club.claim(m, perk, now=t, said=said, key=f"k{dice.randrange(60)}")
                told[what, r.outcome] += 1
                if r.hold: holds.append(r.hold)
            elif what == "batch":
                cs = [await club.claim_of(dice.choice(members), perk, now=t, said=replace(said, units=dice.randint(1, 4)), key=f"k{dice.randrange(60)}") for _ in range(6)]
                for r in await club.claim_all(cs):
                    told[what, r.outcome] += 1
                    if r.hold: holds.append(r.hold)
            elif what == "join":
                j = await q.ask(m, **{"units": said.units, "option": said.option, "amount": said.amount})
                told[what, j.outcome] += 1
                if j.entry_id: entries.append((perk, m, j.entry_id))
            elif what == "leave" and entries:
                p, mm, e = dice.choice(entries); told[what, await queues[p.id].leave(e, member_actor(mm))] += 1
            elif what == "release" and holds:
                told[what, await club.release(dice.choice(holds[-30:]), now=t)] += 1
            elif what == "extend" and holds:
                told[what, await club.extend(dice.choice(holds[-30:]), now=t)] += 1
            elif what in ("confirm", "part") and holds:
                h = dice.choice(holds[-30:])
                r = await club.confirm(h, now=t, units=dice.randint(1, h.units) if what == "part" else None, amount=dice.randint(0, h.amount) if what == "part" else None)
                told[what, r.code] += 1
                if r.id: reds.append((r.id, h))
            elif what == "reverse" and reds:
                r, h = dice.choice(reds[-40:])
                u = dice.choice([None, 1, 2, 0])
                told[what, (await club.reverse(r, STAFF, stock=dice.choice(list(Stock)), now=t, units=u, amount=dice.choice([None, 1, 5]) if u is not None and u > 0 else (None if u is None else 3), returns_allowance=dice.choice([None, True, False]))).code] += 1
            elif what == "promote":
                told[what, await q.promote()] += 1
            elif what == "expire":
                async with club.database.connection() as c: told[what, await expire_overdue(c, t)] += 1
            elif what == "household":
                await club.sql("UPDATE member SET household = (array['x','y','z', null])[1 + floor(random()*4)::int], version = version + 1 WHERE id = $1", m.id)
            elif what == "withdraw":
                await club.withdraw(m, partner) ; await asyncio.sleep(0); await club.consent(m, partner)
                await q.sweep()
            elif what == "time":
                clock[0] += timedelta(seconds=dice.choice([1, 20, 70, 3600]))
            elif what == "change":
                async with club.database.sessions.begin() as s:
                    offer = await catalogue.lock_offer(s, PerkRef(id=perk.id), SYSTEM)
                    if perk is ev: ch = dict(settings=sess(dice.randint(3, 12), dice.randint(0, 3), None if seed % 2 else dice.randint(1, 8)))
                    elif perk is own: ch = dict(units=dice.randint(3, 10), settings={"pools": [{"units": dice.randint(0, 3), "tiers": [{"tier": "gold", "until": "2100-01-01T00:00"}]}]})
                    else: ch = dict(units=dice.randint(1, 9))
                    if dice.random() < .3: ch = dict(title=f"t{dice.random()}")
                    await catalogue.update_perk(s, offer, offer.changed(**ch), programme=club.programme, actor=SYSTEM, now=t, stop_claims=dice.random() < .7)
                told[what, "ok"] += 1
        except (Conflict, BadInput, NotFound) as f:
            told[what, type(f).__name__] += 1
            if isinstance(f, BadInput): raise
        except asyncpg.PostgresError as f:
            told[what, type(f).__name__] += 1
            raise
    async def law(where):
        async with club.database.connection() as c:
            broken = [one for one in await check_laws(c, clock[0]) if one.broken]
        assert broken == [], (where, broken)
    for rnd in range(100):
        await asyncio.gather(*(step() for _ in range(12)))
        if rnd % 5 == 0:
            await law(rnd)
            for p in perks:
                rows = await club.sql("SELECT units, taken, kept, shrink_to FROM capacity WHERE perk_id=$1 UNION ALL SELECT units, taken, kept, shrink_to FROM pool WHERE perk_id=$1", p.id)
                for r in rows[1:] or rows:
                    if r["shrink_to"] is not None and r["units"] > r["shrink_to"]:
                        assert r["taken"] + r["kept"] == r["units"], (p.kind, [tuple(x) for x in rows])
    await law("end")
    for q in queues.values():
        q.now = clock[0]; await q.promote()
    await law("after promote")

