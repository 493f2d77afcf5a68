"""Anything in any order on the real database: after each step the laws hold, and a plain model agrees on the rest."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.database import open_database
from gateway.waitlists import Promoter
from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.eligibility import Question, decide, learn
from partners.errors import Conflict
from partners.facts import Circumstances
from partners.holds import Held, expire_overdue, extend_hold
from partners.keys import Keys
from partners.laws import check_laws
from partners.programme import Programme
from partners.references import MemberRef, PerkRef
from partners.tables import Stock
from partners.waitlist import join_waitlist, leave_waitlist
from tests.factories import Club, member_actor, partner_actor
from tests.model import EXTENSIONS_MAX, ModelHold, ModelPerk

Answer = TypeVar("Answer")
TIERS = ["gold", "gold", "silver", "member"]
EMPTY = """TRUNCATE hold, redemption, reversal, idempotency_key, audit_entry, outbox, waitlist_entry, fulfilment,
  access_grant, access_use, perk_code, partner, member CASCADE"""
FAR = "2999-01-01T00:00"
MONEY = {"kind": "allowance", "period": "MONTH", "measure": "amount", "otherwise": 3_000}
DAILY = {"kind": "allowance", "period": "DAY", "units": {"gold": 3}, "otherwise": 2}
ROLLING = {"kind": "allowance", "period": "ROLLING", "hours": 24, "otherwise": 2}
RESUMABLE = {"ALLOWANCE_EXHAUSTED", "VALUE_LIMIT_REACHED", "CAPACITY_EXHAUSTED"}


class Scarce(RuleBasedStateMachine):
    """Four members, three perks (by amount, in pools, with a waitlist) and a clock that only runs when told to."""

    database_url: str
    programme: Programme
    keys: Keys
    begun = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = open_database(self.database_url, connections=6)
        self.now = datetime(2026, 3, 27, 12, tzinfo=UTC)  # before clocks change, in the North and in the South
        self.club = Club(self.database, self.programme, self.keys, self.now)
        self.held: list[tuple[str, Held, ModelHold]] = []
        self.confirmed: list[tuple[str, UUID, ModelHold]] = []
        self.offers: dict[int, UUID] = {}
        self.keyed = 0

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.database.engine.dispose())
        self.runner.close()

    @initialize()
    def lay_out(self) -> None:
        type(self).begun += 1
        self.run(self.make())

    async def make(self) -> None:
        club = self.club
        await club.sql(EMPTY)
        self.partner = await club.partner()
        pools = [{"units": 2, "name": "first", "tiers": [{"tier": "gold", "until": FAR}]}]
        self.perks = {
            "money": await club.perk(
                self.partner, units=5, units_max=3, rules=[MONEY], currency="CHF", time_zone="UTC"
            ),
            "pooled": await club.perk(
                self.partner, units=6, units_max=3, rules=[DAILY], settings={"pools": pools}, time_zone="Europe/Zurich"
            ),
            "waited": await club.perk(self.partner, units=2, rules=[ROLLING], waitlist={"offer_seconds": 300}),
        }
        self.model = {
            "money": ModelPerk([(None, 5)], "UTC", "MONTH", {"otherwise": 3_000}, by_amount=True),
            "pooled": ModelPerk([("gold", 2), (None, 4)], "Europe/Zurich", "DAY", {"gold": 3, "otherwise": 2}),
        }
        self.tiers, self.consents = list(TIERS), [True] * len(TIERS)
        self.members = [await club.member(self.partner, tier=tier) for tier in TIERS]

    def key(self) -> str:
        self.keyed += 1
        return f"key {self.keyed}"

    @rule(
        member=st.integers(0, 3),
        perk=st.sampled_from(["money", "pooled"]),
        units=st.integers(1, 3),
        amount=st.integers(1, 2_000),
    )
    def claim(self, member: int, perk: str, units: int, amount: int) -> None:
        model, amount = self.model[perk], amount if perk == "money" else 0
        refusals = model.refusals(member, self.tiers[member], units, amount, self.now)
        if not self.consents[member]:
            refusals.add("CONSENT_MISSING")
        said = Circumstances(units=units, amount=amount)
        claimed = self.run(self.club.claim(self.members[member], self.perks[perk], now=self.now, said=said))
        if not refusals:
            assert claimed.outcome == "HELD", claimed
            assert claimed.hold is not None
            self.held.append((perk, claimed.hold, model.claim(member, self.tiers[member], units, amount, self.now)))
        elif refusals <= RESUMABLE and model.own(member, units, amount):
            assert claimed.outcome == "RESUMED", (claimed, refusals)
        else:
            assert claimed.hold is None
            assert refusals <= set(claimed.reasons) <= refusals | {"ALREADY_HELD"}, (claimed, refusals)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 50), part=st.floats(0, 1))
    def confirm(self, place: int, part: float) -> None:
        perk, held, hold = self.held[place % len(self.held)]
        model, units = self.model[perk], 1 + int(part * (hold.units - 1))
        amount = int(part * hold.amount)
        model.settle(self.now)
        expected = {"HELD": "CONFIRMED", "EXPIRED": "HOLD_EXPIRED"}.get(hold.state, "NOT_AVAILABLE")
        if expected == "CONFIRMED" and not self.consents[hold.member]:
            expected = "CONSENT_MISSING"
        outcome = self.run(self.club.confirm(held, units=units, amount=amount, now=self.now))
        assert outcome.code == expected
        if outcome.code == "CONFIRMED":
            assert outcome.id is not None
            model.confirm(hold, units, amount)
            self.confirmed.append((perk, outcome.id, hold))

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 50))
    def release(self, place: int) -> None:
        perk, held, hold = self.held[place % len(self.held)]
        self.model[perk].settle(self.now)
        expected = {"HELD": "RELEASED", "RELEASED": "RELEASED", "EXPIRED": "HOLD_EXPIRED"}.get(
            hold.state, "NOT_AVAILABLE"
        )
        assert self.run(self.club.release(held, now=self.now)) == expected
        if hold.state == "HELD":
            self.model[perk].end(hold, "RELEASED")

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 50))
    def extend(self, place: int) -> None:
        perk, held, hold = self.held[place % len(self.held)]
        self.model[perk].settle(self.now)
        expected = {"HELD": "EXTENDED", "EXPIRED": "HOLD_EXPIRED"}.get(hold.state, "NOT_AVAILABLE")
        if expected == "EXTENDED" and not self.consents[hold.member]:
            expected = "CONSENT_MISSING"
        elif expected == "EXTENDED" and hold.extensions == EXTENSIONS_MAX:
            expected = "EXTENSION_LIMIT_REACHED"

        async def ask() -> str:
            async with self.database.connection() as connection:
                return await extend_hold(connection, held.id, member_actor(self.members[hold.member]), self.now)

        assert self.run(ask()) == expected
        if expected == "EXTENDED":
            self.model[perk].extend(hold, self.now)

    @precondition(lambda self: self.confirmed)
    @rule(
        place=st.integers(0, 50),
        units=st.integers(0, 4),
        stock=st.sampled_from(Stock),
        returns=st.sampled_from([None, True, False]),
    )
    def reverse(self, place: int, units: int, stock: Stock, returns: bool | None) -> None:
        perk, redemption, hold = self.confirmed[place % len(self.confirmed)]
        whole = units == 0
        units = hold.left if whole else units
        expected = "ALREADY_REVERSED" if hold.left == 0 else "UNITS_EXCEEDED" if units > hold.left else "REVERSED"
        parts: dict[str, Any] = {"returns_allowance": returns} | ({} if whole else {"units": units})
        actor = partner_actor(self.partner)
        outcome = self.run(self.club.reverse(redemption, actor, stock=stock, now=self.now, **parts))
        assert outcome.code == expected
        if expected == "REVERSED":
            self.model[perk].settle(self.now)
            self.model[perk].reverse(hold, units, 0, burn=stock is Stock.BURN, returns=returns is not False)

    @rule(seconds=st.sampled_from([1, 300, 899, 900, 3_600, 86_399, 86_400, 30 * 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        async def ask() -> None:
            async with self.database.connection() as connection:
                await expire_overdue(connection, self.now)

        self.run(ask())
        for name, model in self.model.items():
            model.settle(self.now)
            taken = self.run(self.club.taken(self.perks[name]))
            assert taken == sum(n for hold in model.holds if hold.live for _, n in hold.pools)

    @rule(member=st.integers(0, 3), tier=st.sampled_from(["member", "silver", "gold"]))
    def assign(self, member: int, tier: str) -> None:
        self.now += timedelta(microseconds=1)
        self.run(self.club.assign(self.members[member], tier, now=self.now))
        self.tiers[member] = tier

    @rule(member=st.integers(0, 3))
    def consent(self, member: int) -> None:
        change = self.club.withdraw if self.consents[member] else self.club.consent
        self.club.now = self.now
        self.run(change(self.members[member], self.partner))  # type: ignore[operator]
        self.consents[member] = not self.consents[member]

    @rule(units=st.integers(0, 7), stop=st.booleans())
    def resize(self, units: int, stop: bool) -> None:
        async def ask() -> bool:
            async with self.database.sessions.begin() as session:
                offer = await catalogue.lock_offer(session, PerkRef(id=self.perks["money"].id), SYSTEM)
                changed = offer.changed(units=units)
                try:
                    await catalogue.update_perk(
                        session,
                        offer,
                        changed,
                        programme=self.programme,
                        actor=SYSTEM,
                        now=self.now,
                        stop_claims=stop,
                    )
                except Conflict:
                    await session.rollback()
                    return False
            return True

        assert self.run(ask()) is self.model["money"].resize(units, self.now, stop=stop)

    @rule(member=st.integers(0, 3), way=st.sampled_from(["claim", "claim", "join", "join", "leave", "take", "decline"]))
    def wait(self, member: int, way: str) -> None:
        self.run(self.waiting(member, way))

    async def waiting(self, member: int, way: str) -> None:
        club, perk, person = self.club, self.perks["waited"], self.members[member]
        mine = await club.sql(
            "SELECT id FROM hold WHERE perk_id = $1 AND member_id = $2 AND state = 'HELD'", perk.id, person.id
        )
        if way == "claim":
            await club.claim(person, perk, now=self.now)
        if way == "join":
            known = await club.known(person, perk, now=self.now)
            ranks = self.programme.ranks
            async with self.database.connection() as connection:
                joined = await join_waitlist(
                    connection,
                    known,
                    decide(known, ranks, self.now),
                    actor=member_actor(person),
                    ranks=ranks,
                    now=self.now,
                )
            if joined.entry_id is not None:
                self.offers[member] = joined.entry_id
        if way == "leave" and member in self.offers:
            async with self.database.connection() as connection:
                await leave_waitlist(connection, self.offers[member], member_actor(person), self.now)
        for row in mine:
            async with self.database.sessions() as session:
                hold = await session.get(tables.Hold, row["id"])
            if way == "take":
                await club.confirm(hold, now=self.now)  # type: ignore[arg-type]
            if way == "decline":
                await club.release(hold, now=self.now)  # type: ignore[arg-type]

    @rule()
    def promote(self) -> None:
        """Whatever is left or kept afterwards is for nobody who waits and may have it."""
        self.run(Promoter(self.database, self.programme, self.keys, lambda: self.now).promote_all())
        perk = self.perks["waited"].id
        [row] = self.run(self.club.sql("SELECT units - taken AS left, kept FROM capacity WHERE perk_id = $1", perk))
        waiting = self.run(
            self.club.sql("SELECT member_id FROM waitlist_entry WHERE perk_id = $1 AND state = 'WAITING'", perk)
        )
        if row["left"]:
            idle = [self.run(self.club.decision(one, self.perks["waited"], now=self.now)) for one in self.members
                if one.id in {other["member_id"] for other in waiting}]  # fmt: skip
            assert all({refusal.code.value for refusal in one.refusals} - {"CAPACITY_EXHAUSTED"} for one in idle), idle
            assert row["kept"] == 0

    @invariant()
    def the_laws_hold(self) -> None:
        async def ask() -> list[Any]:
            async with self.database.connection() as connection:
                return [one for one in await check_laws(connection, self.now) if one.broken]

        assert self.run(ask()) == []

    @invariant()
    def the_model_agrees(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        asked = [(member, perk) for member in range(len(TIERS)) for perk in self.model]
        questions = [
            Question(
                MemberRef(id=self.members[member].id),
                PerkRef(id=self.perks[perk].id),
                self.now,
                said=Circumstances(amount=1),
            )
            for member, perk in asked
        ]
        async with self.database.connection() as connection:
            answers = await learn(connection, questions)
        for (member, perk), known in zip(asked, answers, strict=True):
            assert known is not None
            model, decision = self.model[perk], decide(known, self.programme.ranks, self.now)
            refusals = model.refusals(member, self.tiers[member], 1, 1, self.now)
            refusals |= set() if self.consents[member] else {"CONSENT_MISSING"}
            assert {one.code.value for one in decision.refusals} == refusals, (perk, self.tiers[member])
            assert decision.allowances[0].used == model.used(member, self.now)
            assert decision.capacity_remaining == max(0, sum(model.free(pool) for pool in range(len(model.pools))))


async def run_machine(
    new_database: Callable[[], Awaitable[str]], programme: Programme, keys: Keys, examples: int, steps: int
) -> int:
    """In a thread, since Hypothesis knows no event loop; each example empties the database. Returns how many began."""
    machine: type[Scarce] = type(
        "Machine", (Scarce,), {"database_url": await new_database(), "programme": programme, "keys": keys}
    )
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=chosen)
    return machine.begun


async def test_any_order_of_steps_keeps_the_laws(
    new_database: Callable[[], Awaitable[str]], programme: Programme, keys: Keys
) -> None:
    assert await run_machine(new_database, programme, keys, examples=12, steps=25) >= 12


@pytest.mark.long
async def test_any_long_order_of_steps_keeps_the_laws(
    new_database: Callable[[], Awaitable[str]], programme: Programme, keys: Keys
) -> None:
    assert await run_machine(new_database, programme, keys, examples=400, steps=60) >= 400


async def test_what_is_overdue_of_a_perk_that_shrinks_is_promised_to_nobody(club: Club) -> None:
    perk = await club.perk(units=3, hold_seconds=60)
    partner = club.partners[perk.partner_id]
    for _ in range(3):
        await club.hold(await club.member(partner), perk)
    async with club.database.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=perk.id), SYSTEM)
        less = offer.changed(units=1)
        await catalogue.update_perk(
            session, offer, less, programme=club.programme, actor=SYSTEM, now=club.now, stop_claims=True
        )
    later = club.now + timedelta(seconds=61)
    decision = await club.decision(await club.member(partner), perk, now=later)
    assert (decision.eligible, decision.capacity_remaining) == (True, 1)
    assert (await club.claim(await club.member(partner), perk, now=later)).outcome == "HELD"
    refused = await club.claim(await club.member(partner), perk, now=later)
    assert refused.reasons == ("CAPACITY_EXHAUSTED",)
