"""Everything at once on a few perks: whatever the order, the laws hold and nothing is lost or told twice."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from gateway.database import Database
from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.batches import Batcher
from partners.eligibility import Question, decide, learn
from partners.errors import Conflict
from partners.holds import Claim, Claimed, Held, claim_batch
from partners.idempotency import fingerprint
from partners.keys import Keys
from partners.perk_settings import PerkSettings
from partners.programme import Programme
from partners.references import MemberRef, PerkRef
from partners.tables import Stock
from tests.factories import Club, member_actor, partner_actor

ALLOWED = {"member": 1, "silver": 2, "gold": 3, "black": 5}
MONTHLY = {"kind": "allowance", "period": "MONTH", "units": ALLOWED}

# Each counts what must not be; the laws are those of the product's design.
BROKEN = {
    "1 capacity": "SELECT count(*) FROM capacity WHERE taken < 0 OR taken > units",
    "2 allowance": """SELECT count(*) FROM (SELECT member_id, perk_id, sum(counted) AS used FROM hold
        GROUP BY member_id, perk_id, date_trunc('month', held_at AT TIME ZONE 'UTC')) u
        JOIN tier_assignment t USING (member_id)
        JOIN (VALUES ('member', 1), ('silver', 2), ('gold', 3), ('black', 5)) AS a(tier, units) ON a.tier = t.tier
        WHERE used > a.units""",
    "2 what was given back": """SELECT count(*) FROM hold h LEFT JOIN redemption r ON r.hold_id = h.id
        WHERE counted <> CASE WHEN h.state IN ('RELEASED', 'EXPIRED') THEN 0
          ELSE h.units - coalesce(r.reversed_units, 0) END""",
    "3 keys": """SELECT count(*) FROM idempotency_key k FULL JOIN
        (SELECT id, claimed_by AS owner FROM hold UNION ALL SELECT id, confirmed_by FROM redemption
          UNION ALL SELECT id, reversed_by FROM reversal) AS made ON made.id = k.result_id
        WHERE made.owner IS DISTINCT FROM k.owner""",
    "4 one ending": """SELECT count(*) FROM hold h LEFT JOIN redemption r ON r.hold_id = h.id
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM audit_entry e WHERE e.subject_id IN (h.id, r.id)
          AND e.outcome = 'DONE' AND e.action IN ('hold.confirmed', 'hold.released', 'hold.expired')) AS endings
        WHERE (h.state = 'CONFIRMED') <> (r.id IS NOT NULL) OR (h.state = 'HELD') <> (h.ended_at IS NULL)
        OR endings.n <> CASE h.state WHEN 'HELD' THEN 0 ELSE 1 END""",
    "5 conservation": """SELECT count(*) FROM capacity c WHERE taken <>
        (SELECT count(*) FROM hold h WHERE h.perk_id = c.perk_id AND h.state IN ('HELD', 'CONFIRMED'))
        - (SELECT count(*) FROM reversal v WHERE v.perk_id = c.perk_id AND v.stock <> 'BURN')""",
    "6 one entry for each change": """SELECT count(*)
        FROM (SELECT id AS subject, 'perk.claimed' AS action, leaf_hash FROM hold
          UNION ALL SELECT id, 'hold.confirmed', leaf_hash FROM redemption
          UNION ALL SELECT redemption_id, 'redemption.reversed', leaf_hash FROM reversal
          UNION ALL SELECT id, 'hold.' || lower(state), NULL FROM hold WHERE state IN ('RELEASED', 'EXPIRED')) AS c
        FULL JOIN (SELECT subject_id, action, array_agg(leaf_hash) AS leaves FROM audit_entry
          WHERE outcome = 'DONE' AND action ~ '^(perk.claimed|hold|redemption)' GROUP BY subject_id, action) AS e
          ON e.subject_id = c.subject AND e.action = c.action
        WHERE c.subject IS NULL OR e.leaves IS DISTINCT FROM ARRAY[coalesce(c.leaf_hash, e.leaves[1])]""",
    "6 everything leaves": """SELECT count(*) FROM audit_entry e FULL JOIN outbox o ON o.entry_id = e.id
        WHERE e.leaf_hash IS DISTINCT FROM o.leaf_hash""",
}


@dataclass
class Storm:
    """Random work on a club, and what every caller was told."""

    club: Club
    people: Sequence[tables.Member]
    dice: random.Random
    holds: list[Held] = field(default_factory=list)
    redemptions: list[tuple[UUID, UUID]] = field(default_factory=list)
    told: Counter[tuple[str, str]] = field(default_factory=Counter)
    bound: defaultdict[tuple[str, str], set[UUID | None]] = field(default_factory=lambda: defaultdict(set))
    steps: int = 0

    def now(self) -> datetime:
        """A clock that runs a second for each step, and in every process a little differently."""
        return self.club.now + timedelta(seconds=self.steps + self.dice.uniform(-0.5, 0.5))

    def key(self) -> str:
        return f"key {self.dice.randrange(400)}"

    def partner(self, perk_id: UUID) -> tables.Partner:
        return self.club.partners[self.club.perks[perk_id].partner_id]

    async def work(self, steps: int) -> None:
        ways = [self.claim, self.claim, self.claim, self.release, self.expire, self.confirm, self.confirm, self.reverse]
        for _ in range(steps):
            self.steps += 1
            await self.dice.choice([*ways, self.change])()

    async def claim(self) -> None:
        """A batch as the service makes it: facts in one statement, rules, the claims in another."""
        perk = self.dice.choice(list(self.club.perks.values()))
        now, people = self.now(), self.dice.choices(self.people, k=self.dice.randint(1, 8))
        questions = [Question(MemberRef(id=one.id), PerkRef(id=perk.id), now) for one in people]
        async with self.club.database.connection() as connection:
            known = await learn(connection, questions)
            if self.dice.random() < 0.2:
                await asyncio.sleep(self.dice.uniform(0, 0.01))
            claims = [
                Claim(
                    member_actor(one),
                    self.key(),
                    fingerprint("claimPerk", {"perk": str(perk.id)}),
                    now,
                    fact,
                    decide(fact, self.club.programme.ranks, now),
                )
                for one, fact in zip(people, known, strict=True)
                if fact is not None
            ]
            answers = await claim_batch(connection, perk.id, claims, self.club.keys.codes, self.club.programme.ranks)
        assert len(answers) == len(people)
        shared = {(claim.actor.owner, claim.key) for claim in claims}
        for claim, answer in zip(claims, answers, strict=True):
            if answer.hold is not None:
                assert answer.hold.perk_id == perk.id
                assert answer.hold.member_id == claim.known.member_id
            if answer.hold is not None and answer.outcome != "RESUMED":  # which binds no key
                self.bound[claim.actor.owner, claim.key].add(answer.hold.id)
            if answer.outcome == "HELD" and answer.hold is not None:
                self.holds.append(answer.hold)
            if answer.outcome == "HELD" or (claim.actor.owner, claim.key) in shared:
                self.told["perk.claimed", answer.outcome] += 1
            shared.discard((claim.actor.owner, claim.key))  # equal keys in one batch share one answer and one entry

    async def release(self) -> None:
        if self.holds:
            hold = self.dice.choice(self.holds[-40:])
            self.told["hold.released", await self.club.release(hold, now=self.now())] += 1

    async def expire(self) -> None:
        await self.club.sql("SELECT expire_holds($1, $2)", self.dice.choice(list(self.club.perks)), self.now())

    async def confirm(self) -> None:
        if self.holds:
            hold, key = self.dice.choice(self.holds[-40:]), self.key()
            actor = self.club.partner_of(hold)
            answer = await self.club.confirm(hold, key=key, now=self.now())
            self.told["hold.confirmed", answer.code] += 1
            if answer.code == "CONFIRMED" and answer.id is not None:
                self.redemptions.append((answer.id, hold.perk_id))
            if answer.code in ("CONFIRMED", "REPLAYED"):
                self.bound[actor.owner, key].add(answer.id)

    async def reverse(self) -> None:
        if self.redemptions:
            redemption, perk_id = self.dice.choice(self.redemptions)
            actor, key, stock = partner_actor(self.partner(perk_id)), self.key(), self.dice.choice(list(Stock))
            answer = await self.club.reverse(redemption, actor, key=key, stock=stock, now=self.now())
            self.told["redemption.reversed", answer.code] += 1
            if answer.code in ("REVERSED", "REPLAYED"):
                self.bound[actor.owner, key].add(answer.id)

    async def change(self) -> None:
        """What makes decisions stale: a consent again, another size."""
        if self.dice.random() < 0.7:
            await self.club.consent(
                self.dice.choice(self.people), self.partner(self.dice.choice(list(self.club.perks)))
            )
            return
        reference = PerkRef(id=self.dice.choice(list(self.club.perks)))
        settings = PerkSettings("A perk", "UTC", units=self.dice.randint(8, 30), hold_seconds=60, rules=[MONTHLY])
        async with self.club.database.sessions.begin() as session:
            offer = await catalogue.lock_offer(session, reference, SYSTEM)
            try:
                await catalogue.update_perk(
                    session, offer, settings, programme=self.club.programme, actor=SYSTEM, now=self.club.now
                )
            except Conflict:
                self.told["perk.updated", "CONFLICT"] += 1


@pytest.mark.parametrize("seed", [1])
async def test_the_laws_hold_in_a_storm(
    empty_database: Database, programme: Programme, keys: Keys, now: datetime, seed: int
) -> None:
    club = Club(empty_database, programme, keys, now)
    partners = [await club.partner(), await club.partner()]
    for partner, units in ((partners[0], 12), (partners[0], 25), (partners[1], None)):
        await club.perk(partner, units=units, hold_seconds=60, rules=[MONTHLY])
    dice = random.Random(seed)
    people = [await club.member(*partners, tier=dice.choice(list(ALLOWED))) for _ in range(40)]
    storm = Storm(club, people, dice)
    await asyncio.gather(*(storm.work(50) for _ in range(20)))
    assert {name: (await club.sql(query))[0][0] for name, query in BROKEN.items()} == dict.fromkeys(BROKEN, 0)
    assert all(len(results) == 1 for results in storm.bound.values())
    for action, done in {
        "perk.claimed": "HELD",
        "hold.confirmed": "CONFIRMED",
        "redemption.reversed": "REVERSED",
    }.items():
        recorded = Counter(
            row["outcome"] for row in await club.sql("SELECT outcome FROM audit_entry WHERE action = $1", action)
        )
        unrecorded = {done, "REPLAYED", "RESUMED", "KEY_REUSED", "KEY_RACE", "STALE"}
        refused = sum(times for (what, code), times in storm.told.items() if what == action and code not in unrecorded)
        assert (recorded["DONE"], recorded["REFUSED"]) == (storm.told[action, done], refused)
    reached = {code for _, code in storm.told}
    assert reached >= {"HELD", "REPLAYED", "RESUMED", "KEY_REUSED", "REFUSED", "STALE"}
    assert reached >= {"CONFIRMED", "RELEASED", "REVERSED"}
    assert reached >= {"HOLD_EXPIRED", "NOT_AVAILABLE", "ALREADY_REVERSED"}


async def test_several_processes_sell_a_drop_out_exactly_once(club: Club, database: Database) -> None:
    perk = await club.perk(units=100)
    partner = club.partners[perk.partner_id]
    known = await club.known(await club.member(partner), perk)
    people = [await club.member(partner, tier=None) for _ in range(5)]
    facts = [await club.known(one, perk) for one in people]

    async def run(perk_id: UUID, claims: Sequence[Claim]) -> Sequence[Claimed]:
        async with database.connection() as connection:
            return await claim_batch(connection, perk_id, claims, club.keys.codes, club.programme.ranks)

    processes: list[Batcher[UUID, Claim, Claimed]] = [Batcher(run, batch_max=64) for _ in range(4)]
    decision = decide(known, club.programme.ranks, club.now)
    assert decision.eligible
    answers = await asyncio.gather(
        *(
            processes[number % 4].submit(
                perk.id,
                Claim(
                    member_actor(people[number % 5]),
                    f"drop {number % 900}",
                    b"f",
                    club.now,
                    facts[number % 5],
                    decision,
                ),
            )
            for number in range(2_000)
        )
    )
    outcomes = Counter(answer.outcome for answer in answers)
    assert outcomes["HELD"] == 100 == await club.taken(perk)
    assert set(outcomes) <= {"HELD", "REPLAYED", "RESUMED", "KEY_RACE"}
    assert len({answer.hold.id for answer in answers if answer.hold is not None}) == 100
