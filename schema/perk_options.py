"""What there is to choose from, and how many of it: variants of a sample, sessions of an event, and their pools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from partners.browsing import Detail
from partners.eligibility import Known
from partners.facts import Facts, MemberFacts, OptionFacts, PoolFacts
from partners.kinds import KINDS
from partners.tables import MemberState, PerkKind
from schema.context import Info
from schema.permissions import Authenticated, Partners, Staff, field, object_type

strawberry.enum(PerkKind, description="What is offered.")

MAY_COUNT = Partners() | Staff()


@object_type(permission=Authenticated, description="A kind of perk, and what its perks can be told.")
class PerkKindInfo:
    kind: PerkKind = field(description="Which.")
    description: str = field(description="What it is.")
    settings_schema: JSON = field(description="What `settings` of a perk's input may be: JSON Schema 2020-12.")


async def find_perk_kinds(info: Info) -> list[PerkKindInfo]:
    """Every kind."""
    return [
        PerkKindInfo(kind=kind, description=model.sentence(), settings_schema=JSON(model.model_json_schema()))
        for kind, model in KINDS.items()
    ]


@object_type(permission=MAY_COUNT, description="One tier's turn at a pool.")
class PoolTurn:
    tier: str = field(description="This tier or a higher one.")
    until: datetime = field(description="When its turn ends.")


@object_type(permission=MAY_COUNT, description="Some units, kept for higher tiers for a time.")
class Pool:
    name: str = field(description="Its name among its neighbours; what is for everybody is called `everybody`.")
    tier: str | None = field(description="The tier whose turn it is; null: anybody's.")
    turns: list[PoolTurn] = field(description="Whose turn it is until when, the highest tier first.")
    capacity: int | None = field(description="Units in it; null is no limit.")
    taken: int = field(description="Held or redeemed of them.")
    kept_for_waitlist: int = field(description="Kept for those who wait.")
    capacity_remaining: int | None = field(description="Units that nobody has and nobody waits for.")

    @classmethod
    def of(cls, name: str, pool: PoolFacts, now: datetime) -> "Pool":
        """A pool as its partner sees it."""
        return cls(
            name=name,
            tier=pool.tier_at(now),
            turns=[PoolTurn(tier=tier, until=until) for tier, until in pool.schedule],
            capacity=pool.units,
            taken=pool.taken,
            kept_for_waitlist=pool.kept,
            capacity_remaining=pool.left,
        )


@object_type(permission=Authenticated, description="A variant of a sample or a session of an event; claims name it.")
class PerkOption:
    handle: str = field(description="Its name in claims.")
    title: str = field(description="Its name for people.")
    open: bool = field(description="Whether it can be claimed, as far as the partner says.")
    location: str | None = field(description="Where it takes place.")
    starts_at: datetime | None = field(description="When it begins.")
    ends_at: datetime | None = field(description="When it is over.")
    cut_off_at: datetime | None = field(description="From when on nothing is claimed.")
    capacity: int | None = field(description="Units of it; null is no limit.")
    capacity_remaining: int | None = field(
        description="Units that are left: to a member those within its reach now, to others all; null is no limit."
    )
    pools: list[Pool] = field(permission=MAY_COUNT, description="How its units are kept for tiers.")


@dataclass(frozen=True, slots=True)
class Shelf:
    """A perk's options and pools with their names, as one caller may count them at one moment."""

    known: Known
    detail: Detail
    ranks: Mapping[str, int]
    now: datetime
    to_member: bool

    def options(self) -> list[PerkOption]:
        """Every option, in the partner's order."""
        pairs = zip(self.known.perk.options, self.detail.options, strict=True)
        return [self.option(one, title, location) for one, (title, location) in pairs]

    def option(self, one: OptionFacts, title: str, location: str | None) -> PerkOption:
        """One option."""
        mine = [pool for pool in self.known.perk.pools if pool.option_id == one.id]
        return PerkOption(
            handle=one.handle,
            title=title,
            open=one.open,
            location=location,
            starts_at=one.starts_at,
            ends_at=one.ends_at,
            cut_off_at=one.cut_off_at,
            capacity=total([pool.units for pool in mine]),
            capacity_remaining=total([pool.left for pool in self.within_reach(mine)]),
            pools=self.pools(one),
        )

    def pools(self, option: OptionFacts | None) -> list[Pool]:
        """The pools of an option, or of a perk without any."""
        wanted = None if option is None else option.id
        named = zip(self.detail.pools, self.known.perk.pools, strict=True)
        return [Pool.of(name, pool, self.now) for name, pool in named if pool.option_id == wanted and name]

    def within_reach(self, pools: Sequence[PoolFacts]) -> list[PoolFacts]:
        """Those that the caller is to count: to a member what its tier opens now."""
        if not self.to_member:
            return list(pools)
        member = self.known.member or MemberFacts(MemberState.ACTIVE, self.now)
        facts = Facts(self.now, self.ranks, member, self.known.perk, {})
        return [pool for pool in pools if (tier := pool.tier_at(self.now)) is None or facts.is_at_least(tier)]


def total(units: Sequence[int | None]) -> int | None:
    """All together; None where there is no limit."""
    return None if None in units else sum(one for one in units if one is not None)
