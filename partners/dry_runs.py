"""Who would gain or lose a perk by other rules: the draft beside the live ones, over members who consent."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from hmac import digest
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.actors import Actor
from partners.browsing import OfferFilter, browse
from partners.eligibility import Known, known_of, refusals_of
from partners.errors import NotFound
from partners.facts import Facts, PerkFacts
from partners.policies import Policy, policy_of, reads_of
from partners.reading import COLUMNS, JOINS, POLICY
from partners.references import PerkRef
from partners.rules import Rule

MEMBERS_MAX = 5_000
BATCH = 250
COARSE = 10
ASKS = "eligibility:read"  # what a partner learns here it could ask of each member
OUTCOMES = {(False, True): "gain", (True, False): "lose", (True, True): "keep", (False, False): "neither"}
# What the draft needs is read, too. In the order of aliases, which is by chance: the first are a fair sample of all.
DRAFT = """LEFT JOIN LATERAL (SELECT v.rules, v.needs || $6::text[] AS needs,
    greatest(v.member_window, $7) AS member_window, greatest(v.household_window, $8) AS household_window FROM policy v
  WHERE v.perk_id = p.id AND v.version = p.policy_version) AS y ON true"""
MEMBERS = f"""
{COLUMNS}, q.alias FROM (SELECT a.member_id AS member, a.alias, $1::uuid AS perk, $4::timestamptz AS now,
    $9::text AS scope
  FROM member_alias a WHERE a.partner_id = $2 AND a.alias > $3 ORDER BY a.alias LIMIT $5) AS q
JOIN perk p ON p.id = q.perk
{JOINS.replace(POLICY, DRAFT)} ORDER BY q.alias
"""  # noqa: S608  constants alone


@dataclass(slots=True)
class DryRun:
    """How many members were asked about, and how many of them would gain, lose, keep or still not get the perk.

    `gained` and `lost` are some of them. Not `complete`: there are more members than one dry run looks at.
    """

    members: int = 0
    gain: int = 0
    lose: int = 0
    keep: int = 0
    neither: int = 0
    gained: list[UUID] = field(default_factory=list)
    lost: list[UUID] = field(default_factory=list)
    complete: bool = True
    who: dict[str, int] = field(default_factory=dict)

    def count(self, member_id: UUID, before: bool, after: bool, sample: int) -> None:
        """Adds one member's two answers."""
        for name in ("members", OUTCOMES[before, after]):
            setattr(self, name, getattr(self, name) + 1)
            self.who[name] = self.who.get(name, 0) ^ member_id.int
        some = self.gained if after else self.lost
        if before != after and len(some) < sample:
            some.append(member_id)

    def coarse(self, name: str, key: bytes) -> int:
        """A count as a partner may know it: one of the two tens around it, the nearer one more often. Which one hangs
        on who was counted, so that asking again tells nothing new, and one member more or less does not show when
        two drafts are compared (law 8)."""
        chance = digest(key, b"dry run" + self.who.get(name, 0).to_bytes(16, "big"), sha256)
        count: int = getattr(self, name)
        return (count + int.from_bytes(chance, "big") % COARSE) // COARSE * COARSE


async def dry_run(
    connection: "Connection[Any]",
    perk: PerkRef,
    rules: Sequence[Rule],
    *,
    ranks: Mapping[str, int],
    sample: int,
    actor: Actor,
    now: datetime,
) -> DryRun:
    """Both policies' answers for the members who consent to the perk's partner, and let a partner that acts ask about
    them; 5,000 at most, a few hundred at a time.

    The rules alone are asked, with membership and reviews: the perk counts as published, open and never short. Rules on
    what a claim says (where, on which device) are left out of both. NotFound where the perk is out of sight.
    """
    offers = await browse(connection, actor, OfferFilter.of(perk), now=now, first=1)
    if not offers:
        raise NotFound("no such perk")
    live = offers[0].known
    before, after = of_members(live.policy.rules), of_members(rules)
    run = DryRun()
    scope = ASKS if actor.partner_id is not None else None
    async for known in members_of(connection, live, reads_of(rules), scope, now, run):
        assert known.member is not None
        assert known.member_id is not None
        facts = Facts(now, ranks, known.member, PerkFacts(zone=known.perk.zone), known.uses)
        run.count(known.member_id, not refusals_of(before, facts), not refusals_of(after, facts), sample)
    return run


def of_members(rules: Collection[Rule]) -> Policy:
    """The rules on who claims, and how often."""
    return policy_of(rule for rule in rules if not rule.of_claim)


async def members_of(
    connection: "Connection[Any]", live: Known, reads: Mapping[str, Any], scope: str | None, now: datetime, run: DryRun
) -> AsyncIterator[Known]:
    """What is known of each member who consents, batch by batch."""
    alias, seen = "", 0
    while seen < MEMBERS_MAX:
        rows = await connection.fetch(
            MEMBERS,
            live.perk_id,
            live.partner_id,
            alias,
            now,
            BATCH,
            reads["needs"],
            reads["member_window"],
            reads["household_window"],
            scope,
        )
        for row in rows:
            if row["consented"]:
                yield known_of(row, False, now)
        if len(rows) < BATCH:
            return
        seen, alias = seen + len(rows), rows[-1]["alias"]
    run.complete = False
