"""A club of 10,000 members and 200 perks, written straight into the tables, since making it is not what is measured."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle, islice
from random import Random
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Connection

from auth.caller import CallerKind
from auth.clients import register_client
from auth.scopes import scopes_of
from gateway.app import Service
from partners import tables
from partners.codes import code_hash, hold_code
from partners.consents import SCOPES
from partners.members import KEY_VERSION, pairwise_alias
from partners.policies import reads_of
from partners.rules import RULES
from partners.tables import ConsentState, HoldState, MemberState, PartnerKind, PerkKind, PerkState
from partners.tables.columns import new_id

MEMBERS = 10_000
PARTNERS = 4
PERKS_PER_PARTNER = 50
REDEMPTIONS_PER_PARTNER = 5_000
LARGE = 10_000_000
TIERS = ("member", "silver", "gold", "black")
MARKETS = ("CH", "DE", "FR", "IT")
MONTHLY = {"kind": "allowance", "period": "MONTH", "units": {"gold": 60, "black": 90}, "otherwise": 30}
POLICIES: tuple[list[dict[str, Any]], ...] = (
    [MONTHLY],
    [{"kind": "market", "markets": MARKETS}, MONTHLY],
    [{"kind": "member_for", "days": 30}, MONTHLY],
    [{"kind": "tier_at_least", "tier": "silver"}, MONTHLY],
    [{"kind": "tier_in", "allowed": ["gold", "black"]}, {"kind": "market", "markets": ["CH", "DE"]}, MONTHLY],
)
# What is neither null nor has a scalar for a default.
EMPTY: dict[str, dict[str, Any]] = {
    "member": {"labels": [], "reviews": []},
    "perk": {"settings": "{}"},
    "policy": {"needs": []},
}
KINDS = (PerkKind.SAMPLE, PerkKind.EVENT, PerkKind.ACCESS)
OPEN_TO_ALL = 3  # the first so many policies say yes to every member of this club


@dataclass(frozen=True, slots=True)
class Brand:
    """One partner: its client, its perks and its names of the members."""

    id: UUID
    handle: str
    client_id: str
    secret: str
    perks: Sequence[UUID]
    aliases: Sequence[str]
    redemptions: Sequence[UUID]

    def perk_handle(self, place: int) -> str:
        """The handle of its n-th perk."""
        return f"{self.handle}/perk-{place}"

    @property
    def claimable(self) -> list[int]:
        """The places of perks that nobody is refused."""
        return [place for place in range(len(self.perks)) if place % len(POLICIES) < OPEN_TO_ALL]


async def found_club(service: Service) -> list[Brand]:
    """Members with tiers who consent to every partner, perks with every kind of policy, clients and redemptions."""
    brands: list[Brand] = []
    now = service.clock()
    members = await enrol(service, MEMBERS, "member", now)
    for number, kind in zip(range(PARTNERS), cycle(PartnerKind), strict=False):
        partner = tables.Partner(handle=f"brand-{number}", name=f"Brand {number}", kind=kind, created_at=now)
        async with service.database.sessions.begin() as session:
            session.add(partner)
            await session.flush()
            client, secret = await register_client(session, partner, "bench", scopes_of(CallerKind.PARTNER), now)
            partner_id, handle, client_id = partner.id, partner.handle, client.id
        perks = [new_id() for _ in range(PERKS_PER_PARTNER)]
        async with service.database.connection() as connection:
            await offer(connection, partner_id, handle, perks, now)
        aliases = await introduce(service, partner_id, members, now)
        redemptions = await redeem(service, partner_id, perks, members, now)
        brands.append(Brand(partner_id, handle, client_id, secret, perks, aliases, redemptions))
    await settle(service)
    return brands


async def copy(connection: "Connection[Any]", table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows by COPY; what is not said has the table's own default."""
    given = columns.split()
    others = {
        column.name: column.default.arg
        for column in tables.metadata.tables[table].columns
        if column.name not in given and column.default is not None and column.default.is_scalar
    } | {name: value for name, value in EMPTY.get(table, {}).items() if name not in given}
    filled = ((*row, *others.values()) for row in rows)
    await connection.copy_records_to_table(table, records=filled, columns=[*given, *others])


async def enrol(service: Service, count: int, name: str, now: datetime) -> list[UUID]:
    """So many members of all tiers and markets who joined a year ago."""
    ids, joined = [new_id() for _ in range(count)], now - timedelta(days=365)
    async with service.database.connection() as connection:
        await copy(
            connection,
            "member",
            "id external_id state market joined_at created_at audit_salt version",
            (
                (id, f"{name}-{place}", MemberState.ACTIVE, market, joined, now, secrets.token_bytes(32), 1)
                for place, (id, market) in enumerate(zip(ids, cycle(MARKETS), strict=False))
            ),
        )
        await copy(
            connection,
            "tier_assignment",
            "id member_id tier starts_at cause",
            ((new_id(), id, tier, joined, "IMPORTED") for id, tier in zip(ids, cycle(TIERS), strict=False)),
        )
    return ids


async def introduce(service: Service, partner_id: UUID, members: Sequence[UUID], now: datetime) -> list[str]:
    """Consents of the members to a partner; returns the aliases by which it knows them."""
    aliases = [pairwise_alias(service.keys.pairwise, partner_id, id) for id in members]
    granted = now - timedelta(days=1)
    async with service.database.connection() as connection:
        await copy(
            connection,
            "member_alias",
            "partner_id member_id alias key_version",
            ((partner_id, id, alias, KEY_VERSION) for id, alias in zip(members, aliases, strict=True)),
        )
        await copy(
            connection,
            "consent",
            "id member_id partner_id state purpose scopes version granted_at",
            ((new_id(), id, partner_id, ConsentState.GRANTED, "bench", sorted(SCOPES), 1, granted) for id in members),
        )
    return aliases


async def offer(
    connection: "Connection[Any]",
    partner_id: UUID,
    handle: str,
    perks: Sequence[UUID],
    now: datetime,
    *,
    units: int = LARGE,
    policies: Sequence[list[dict[str, Any]]] = POLICIES,
    name: str = "perk",
) -> None:
    """Published perks with these policies in turn."""
    opens = now.date() - timedelta(days=30)
    await copy(
        connection,
        "perk",
        "id partner_id handle kind state title description time_zone opens_on hold_seconds reversal_days policy_version"
        " version created_at",
        (
            (id, partner_id, f"{handle}/{name}-{place}", kind, PerkState.PUBLISHED, f"Perk {place} of {handle}",
             "A perk that is worth a sentence or two of description, as real ones have.", "Europe/Zurich", opens,
             900, 90, 1, 1, now)
            for place, (id, kind) in enumerate(zip(perks, cycle(KINDS), strict=False))
        ),
    )  # fmt: skip
    await copy(
        connection,
        "policy",
        "perk_id version rules created_at created_by member_window",
        (
            (id, 1, orjson.dumps(rules).decode(), now, "system:bench",
             reads_of(RULES.validate_python(rules))["member_window"])
            for id, rules in zip(perks, cycle(policies), strict=False)
        ),
    )  # fmt: skip
    await copy(connection, "capacity", "perk_id units taken", ((id, units, 0) for id in perks))


async def redeem(
    service: Service, partner_id: UUID, perks: Sequence[UUID], members: Sequence[UUID], now: datetime
) -> list[UUID]:
    """Past redemptions of the partner's perks by all kinds of members; returns their ids, oldest first."""
    random, owner, leaf = Random(partner_id.int), "partner:bench", bytes(32)
    uses = [
        (new_id(), new_id(), random.choice(perks), random.choice(members), now - timedelta(minutes=1))
        for _ in range(REDEMPTIONS_PER_PARTNER)
    ]
    async with service.database.connection() as connection:
        await copy(
            connection,
            "hold",
            "id perk_id partner_id member_id state claimed_by tier policy_version code_hash leaf_hash held_at"
            " expires_at ended_at",
            (
                (hold, perk, partner_id, member, HoldState.CONFIRMED, owner, "gold", 1,
                 code_hash(hold_code(service.keys.codes, hold)), leaf, at, at, at)
                for _, hold, perk, member, at in uses
            ),
        )  # fmt: skip
        await copy(
            connection,
            "redemption",
            "id hold_id perk_id partner_id member_id tier policy_version fulfilment confirmed_by confirmed_at"
            " leaf_hash",
            (
                (id, hold, perk, partner_id, member, "gold", 1, "PENDING", owner, at, leaf)
                for id, hold, perk, member, at in uses
            ),
        )
        await connection.execute(
            "UPDATE capacity c SET taken = taken + r.uses FROM (SELECT perk_id, count(*) AS uses FROM redemption"
            " WHERE partner_id = $1 GROUP BY perk_id) AS r WHERE r.perk_id = c.perk_id",
            partner_id,
        )
    return [use[0] for use in uses]


async def settle(service: Service) -> None:
    """Statistics for the planner and a checkpoint, as a database that has been running has them."""
    async with service.database.connection() as connection:
        await connection.execute("VACUUM ANALYZE")


def pick(items: Sequence[Any], count: int, seed: str) -> list[Any]:
    """So many of the items in an order without pattern, all before any comes again."""
    return list(islice(cycle(Random(seed).sample(items, len(items))), count))
