"""One process of the long storm: the same calls below HTTP, through the batchers that a gateway has, so that there can
be a million. Run as `python -m tests.storms.worker`, with the plan's file as its one argument."""

import asyncio
import pickle
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import uvloop

from auth.caller import Caller, CallerKind
from gateway.app import open_service
from gateway.settings import Settings
from partners import tables
from partners.actors import Actor, ActorKind
from partners.eligibility import Question, decide
from partners.errors import Overloaded
from partners.facts import Circumstances
from partners.holds import Claim, extend_hold, release_hold
from partners.idempotency import fingerprint
from partners.redemptions import Outcome, Return, confirm_hold, reverse_redemption
from partners.references import MemberRef, PerkRef
from partners.tables import Stock
from schema.ids import HOLD, PERK, REDEMPTION, read_id
from tests.factories import Club
from tests.history import Call
from tests.storms.arena import Arena, Person
from tests.storms.storm import LOST_SHARE, Storm

CLAIM_TRIES = 8


@dataclass(frozen=True)
class Plan:
    """What one process is to do: so many claims by so many callers, on which arena, and where its history goes."""

    settings: Settings
    seed: int
    clients: int
    claims: int
    history: Path
    partners: list[tuple[UUID, str]]
    perks: list[tuple[UUID, UUID]]
    people: list[tuple[UUID, str, dict[UUID, str]]]
    parties: frozenset[UUID]


def plan_of(arena: Arena, settings: Settings, folder: Path, seed: int, *, clients: int, claims: int) -> Plan:
    """The arena as plain values."""
    return Plan(
        settings,
        seed,
        clients,
        claims,
        folder / f"history-{seed}",
        [(one.id, one.handle) for one in arena.partners],
        [(one.id, one.partner_id) for one in arena.perks if one.id not in arena.waited],
        [(one.row.id, one.tier, one.aliases) for one in arena.people],
        arena.parties,
    )


class DomainStorm(Storm):
    """Calls the domain where a storm would call the gateway."""

    claims_left = 0

    async def rage(self, clients: int, calls: int) -> None:
        """Until so many claims were made."""
        self.claims_left = calls
        await asyncio.gather(*(self._work() for _ in range(clients)))

    async def _work(self) -> None:
        ways = [self.claim] * 24 + [self.confirm] * 5 + [self.release, self.release, self.extend]
        ways += [self.reverse, self.reverse, self.repeat, self.repeat, self.other_content]
        while self.claims_left > 0:
            await (self.disturb() if self.dice.random() < 0.0005 else self.dice.choice(ways)())

    def token(self, caller: Caller) -> Any:
        """Instead of a token, who it would be for."""
        if caller.kind is CallerKind.PARTNER:
            return Actor(ActorKind.PARTNER, caller.id, partner_id=caller.partner_id)
        return Actor(ActorKind.MEMBER, caller.id, member_id=caller.member_id)

    async def send(self, call: Call, given: dict[str, Any], token: Any) -> Call:
        """One call of the domain; some callers don't wait for the answer."""
        self.claims_left -= call.what == "claim"
        place, call = (
            len(self.calls),
            replace(call, asked=time.time(), answered=float("inf"), outcome="LOST", result=""),
        )
        self.calls.append(call)
        patience = self.dice.uniform(0.0001, 0.01) if self.dice.random() < LOST_SHARE else None
        try:
            async with asyncio.timeout(patience):
                answered = await getattr(self, f"_{call.what}")(call, given, token)
        except TimeoutError:
            return call
        except Overloaded:
            answered = replace(call, outcome="OVERLOADED")
        self.calls[place] = replace(answered, answered=time.time())
        return self.calls[place]

    async def _claim(self, call: Call, given: dict[str, Any], actor: Actor) -> Call:
        perk, said = PerkRef(id=read_id(PERK, given["perk"]["id"])), Circumstances(units=given["details"]["units"])
        content, resources = fingerprint("claimPerk", given | {"idempotencyKey": ""}), self.service.resources
        for _ in range(CLAIM_TRIES):
            now = self.service.clock()
            [known] = await resources.learn([Question(MemberRef(id=UUID(call.member)), perk, now, said=said)])
            assert known is not None
            decision = decide(known, self.service.programme.ranks, now)
            claim = Claim(actor, given["idempotencyKey"], content, now, known, decision)
            claimed = await resources.claims.submit(known.perk_id, claim)
            # Equal claims in one batch share an answer, which may have been another moment's no.
            if claimed.outcome not in ("STALE", "KEY_RACE") and (claimed.outcome != "REFUSED" or decision.refusals):
                break
        else:
            return replace(call, outcome="TRY_AGAIN")
        hold = claimed.hold
        if hold is None:
            return replace(call, outcome="KEY_REUSED" if claimed.outcome == "KEY_REUSED" else ",".join(claimed.reasons))
        return replace(
            call,
            outcome=claimed.outcome,
            result=str(hold.id),
            leaf=hold.leaf_hash.hex(),
            expires=hold.expires_at.timestamp(),
        )

    async def _confirm(self, call: Call, given: dict[str, Any], actor: Actor) -> Call:
        async with self.service.database.connection() as connection:
            outcome = await confirm_hold(
                connection,
                hold_id=read_id(HOLD, given["hold"]["id"]),
                code=None,
                actor=actor,
                key=given["idempotencyKey"],
                fingerprint=fingerprint("confirmHold", given),
                now=self.service.clock(),
                units=given["units"],
            )
        return done(call, outcome)

    async def _reverse(self, call: Call, given: dict[str, Any], actor: Actor) -> Call:
        async with self.service.database.connection() as connection:
            outcome = await reverse_redemption(
                connection,
                read_id(REDEMPTION, given["redemption"]),
                Return(given["reason"], stock=Stock(given["stock"]), units=given["units"]),
                actor=actor,
                key=given["idempotencyKey"],
                fingerprint=fingerprint("reverseRedemption", given),
                now=self.service.clock(),
            )
        return done(call, outcome)

    async def _release(self, call: Call, given: dict[str, Any], actor: Actor) -> Call:
        async with self.service.database.connection() as connection:
            outcome = await release_hold(connection, read_id(HOLD, given["hold"]), actor, self.service.clock())
        return replace(call, outcome=outcome, result=call.on)

    async def _extend(self, call: Call, given: dict[str, Any], actor: Actor) -> Call:
        now = self.service.clock()
        async with self.service.database.connection() as connection:
            outcome = await extend_hold(connection, read_id(HOLD, given["hold"]), actor, now)
        # It holds at least as long as from now, less what its perk says: nothing is promised here.
        return replace(call, outcome=outcome, result=call.on, expires=0)


def done(call: Call, outcome: Outcome) -> Call:
    """What came of a confirmation or a reversal."""
    return replace(call, outcome=outcome.code, result="" if outcome.id is None else str(outcome.id))


async def work(plan: Plan) -> None:
    """Does what the plan says, and keeps the history."""
    async with open_service(plan.settings, keeps_programme=False) as service:
        club = Club(service.database, service.programme, service.keys, service.clock())
        partners = [tables.Partner(id=id, handle=handle) for id, handle in plan.partners]
        club.partners |= {one.id: one for one in partners}
        perks = [tables.Perk(id=id, partner_id=partner_id) for id, partner_id in plan.perks]
        club.perks |= {one.id: one for one in perks}
        people = [Person(tables.Member(id=id), tier, aliases) for id, tier, aliases in plan.people]
        arena = Arena(club, partners, people, perks, {}, plan.parties, frozenset())
        storm = DomainStorm(service, arena, [], Random(plan.seed), keys=plan.seed * 100_000_000)
        await storm.rage(plan.clients, plan.claims)
    plan.history.write_bytes(pickle.dumps(storm.calls))


if __name__ == "__main__":
    uvloop.run(work(pickle.loads(Path(sys.argv[1]).read_bytes())))
