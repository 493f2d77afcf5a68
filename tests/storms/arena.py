"""What a storm rages on: two partners, perks hot, cold, pooled, short-lived and waited for, and people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import orjson

from partners import tables
from tests.factories import Club, partner_actor
from tests.history import Call, Limit

TIERS = ("member", "silver", "gold", "black")
GOLD = ("gold", "black")
TWICE = [{"kind": "allowance", "period": "EVER", "units": {"black": 4}, "otherwise": 2}]
UNITS_EACH = 4  # the most that anybody may have of a perk
FOR_GOLD = [{"tier": "gold", "until": "2999-01-01T00:00:00+00:00"}]
HOT, POOLED, POOL_FOR_GOLD, WAITED, COLD = 120, 60, 20, 12, 5
WAITLIST = {"offer_seconds": 300, "offers": 2, "skip": True}


@dataclass
class Person:
    """A member with its names at the partners; `tier` is the one it began with, the highest it ever has."""

    row: tables.Member
    tier: str
    aliases: dict[UUID, str] = field(default_factory=dict)


@dataclass
class Arena:
    """The club of a storm and what must not be exceeded in it."""

    club: Club
    partners: list[tables.Partner]
    people: list[Person]
    perks: list[tables.Perk]
    units: Mapping[str, int]
    parties: frozenset[UUID]
    waited: frozenset[UUID]

    def limits(self) -> list[Limit]:
        """Capacities, the pool that is open to everybody, and the allowances."""
        everybody = {(str(perk), False): POOLED - POOL_FOR_GOLD for perk in self.parties}
        each = {(str(one.row.id), str(perk.id)): UNITS_EACH for one in self.people for perk in self.perks}
        return [
            Limit("capacity", self.units, lambda claim: claim.on),
            Limit("open pool", everybody, lambda claim: (claim.on, claim.tier in GOLD)),
            Limit("allowance", each, lambda claim: (claim.member, claim.on), counted=True),
        ]

    def partner_of(self, perk: tables.Perk) -> tables.Partner:
        """Whose it is."""
        return self.club.partners[perk.partner_id]


async def lay_out(club: Club, dice: Random, *, people: int, cold: int) -> Arena:
    """Everything published, nothing claimed; holds of every third perk live for two seconds."""
    partners = [await club.partner(), await club.partner()]
    sizes = [HOT, POOLED, WAITED, *[COLD] * cold]
    perks = [
        await club.perk(partners[place % 2], units=units, rules=TWICE, hold_seconds=60)
        for place, units in enumerate(sizes)
    ]
    pooled, waited = perks[1], perks[2]
    await club.sql("UPDATE perk SET pooled = true, units_max = $2 WHERE id = $1", pooled.id, UNITS_EACH)
    for number, units, schedule in ((0, POOL_FOR_GOLD, FOR_GOLD), (1, POOLED - POOL_FOR_GOLD, [])):
        await club.sql(
            "INSERT INTO pool (perk_id, number, name, units, taken, kept, schedule) VALUES ($1, $2, $3, $4, 0, 0, $5)",
            *(pooled.id, number, f"pool {number}", units, orjson.dumps(schedule).decode()),
        )
    await club.sql("UPDATE perk SET waitlist = $2 WHERE id = $1", waited.id, orjson.dumps(WAITLIST).decode())
    await club.sql("UPDATE perk SET hold_seconds = 2 WHERE id = ANY ($1)", [perk.id for perk in perks[::3]])
    arena = Arena(
        club,
        partners,
        [],
        perks,
        {str(perk.id): units for perk, units in zip(perks, sizes, strict=True)},
        frozenset({pooled.id}),
        frozenset({waited.id}),
    )
    for _ in range(people):
        tier = dice.choice(TIERS)
        person = Person(await club.member(tier=tier), tier)
        for partner in partners:
            person.aliases[partner.id] = await club.consent(person.row, partner)
        arena.people.append(person)
    return arena


def owner_of(partner: tables.Partner) -> str:
    """Whose the keys of a partner's client are."""
    return partner_actor(partner).owner


def disturbance(member: tables.Member, asked: float, answered: float) -> Call:
    """A consent withdrawn, for the history."""
    return Call("disturb", "member", str(member.id), asked, answered, "WITHDRAWN", member=str(member.id))
