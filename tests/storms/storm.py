"""Callers who do everything at once over HTTP, and keep what they asked and were told."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import aiohttp

from auth.caller import Caller, CallerKind
from auth.scopes import scopes_of
from auth.tokens import mint_access_token
from gateway.app import Service
from partners import consents, tables, tiers
from partners.actors import SYSTEM
from partners.references import MemberRef
from partners.tables import AssignmentCause, Stock
from schema.ids import HOLD, REDEMPTION, REVERSAL, WAIT, read_id, show_id
from tests.factories import partner_actor
from tests.history import LOST, Call
from tests.storms.arena import Arena, Person, disturbance

HELD = "hold { id state expiresAt leafHash units }"
CLAIM = f"""mutation($input: ClaimPerkInput!) {{ claimPerk(input: $input) {{
  {HELD} replayed resumed userErrors {{ code }} }} }}"""
EXTEND = f"mutation($input: ExtendHoldInput!) {{ extendHold(input: $input) {{ {HELD} userErrors {{ code }} }} }}"
RELEASE = "mutation($input: ReleaseHoldInput!) { releaseHold(input: $input) { hold { id } userErrors { code } } }"
CONFIRM = """mutation($input: ConfirmHoldInput!) { confirmHold(input: $input) {
  redemption { id leafHash } replayed userErrors { code } } }"""
REVERSE = """mutation($input: ReverseRedemptionInput!) { reverseRedemption(input: $input) {
  reversal { id leafHash } replayed userErrors { code } } }"""
JOIN = f"""mutation($input: JoinWaitlistInput!) {{ joinWaitlist(input: $input) {{
  entry {{ id {HELD} }} userErrors {{ code }} }} }}"""
LEAVE = "mutation($input: LeaveWaitlistInput!) { leaveWaitlist(input: $input) { entry { id } userErrors { code } } }"
DOCUMENTS = {"claim": CLAIM, "extend": EXTEND, "release": RELEASE, "confirm": CONFIRM, "reverse": REVERSE}
DOCUMENTS |= {"join": JOIN, "leave": LEAVE}
DONE = {"claim": "HELD", "extend": "EXTENDED", "release": "RELEASED", "confirm": "CONFIRMED", "reverse": "REVERSED"}
DONE |= {"join": "JOINED", "leave": "WITHDRAWN"}
MADE = {"claim": ("hold", HOLD), "extend": ("hold", HOLD), "release": ("hold", HOLD)}
MADE |= {"confirm": ("redemption", REDEMPTION), "reverse": ("reversal", REVERSAL)}
MADE |= {"join": ("entry", WAIT), "leave": ("entry", WAIT)}
PROMOTER = "system:waitlist"
UNSURE = {"INTERNAL", "UNAVAILABLE"}
TOKEN_LIFE = timedelta(hours=2)
ANSWER_SECONDS_MAX = 60.0
LOST_SHARE = 0.03
DISTURBED_SHARE = 0.01
OUTAGE_SECONDS = 0.05


@dataclass
class Storm:
    """Random work on an arena through gateways that listen on `ports`, and its history."""

    service: Service
    arena: Arena
    ports: Sequence[int]
    dice: Random
    calls: list[Call] = field(default_factory=list)
    asked: list[tuple[Call, dict[str, Any], str]] = field(default_factory=list)
    holds: list[tuple[Call, tables.Partner, Person]] = field(default_factory=list)
    redemptions: list[tuple[Call, tables.Partner]] = field(default_factory=list)
    entries: list[tuple[Call, tables.Partner, Person]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    keys: int = 0
    disturbed_share: float = DISTURBED_SHARE

    async def rage(self, clients: int, calls: int) -> None:
        """So many calls by so many clients, each with one at a time."""
        self._left = calls
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._http:
            await asyncio.gather(*(self._work() for _ in range(clients)))

    async def _work(self) -> None:
        ways: list[Callable[[], Any]] = [self.claim] * 9 + [self.confirm] * 4 + [self.release, self.release]
        ways += [self.extend, self.reverse, self.reverse, self.repeat, self.repeat, self.other_content]
        ways += [self.join, self.join, self.join, self.leave]
        while self._left > 0:
            self._left -= 1
            await (self.disturb() if self.dice.random() < self.disturbed_share else self.dice.choice(ways)())

    async def claim(self) -> None:
        """By a partner for a member, or by the member itself; parties where there are any."""
        perk = self.dice.choice(self.arena.perks[:3] if self.dice.random() < 0.6 else self.arena.perks)
        person, partner = self.dice.choice(self.arena.people), self.arena.partner_of(perk)
        units = self.dice.randint(1, 4) if perk.id in self.arena.parties else 1
        given: dict[str, Any] = {"perk": {"id": show_id("perk", perk.id)}, "details": {"units": units}}
        own = self.dice.random() < 0.3
        if not own:
            given["member"] = {"alias": person.aliases[partner.id]}
        call = await self.ask(
            "claim",
            str(perk.id),
            given | {"idempotencyKey": self.key()},
            None if own else partner,
            person,
            units=units,
            member=str(person.row.id),
            tier=person.tier,
        )
        if call.outcome in ("HELD", "REPLAYED"):
            self.holds.append((call, partner, person))

    async def confirm(self) -> None:
        """All of a hold or a part of it."""
        if not self.holds:
            return
        held, partner, person = self.pick(self.holds)
        units = self.dice.randint(1, held.units)
        given = {"hold": {"id": show_id(HOLD, UUID(held.result))}, "units": units, "idempotencyKey": self.key()}
        call = await self.ask("confirm", held.result, given, partner, person, units=units)
        if call.outcome in ("CONFIRMED", "REPLAYED"):
            self.redemptions.append((call, partner))

    async def release(self) -> None:
        """By the partner or by the member."""
        if self.holds:
            held, partner, person = self.pick(self.holds)
            by = partner if self.dice.random() < 0.5 else None
            await self.ask("release", held.result, {"hold": show_id(HOLD, UUID(held.result))}, by, person)

    async def extend(self) -> None:
        """Whatever is held, also too often and too late."""
        if self.holds:
            held, partner, person = self.pick(self.holds)
            await self.ask("extend", held.result, {"hold": show_id(HOLD, UUID(held.result))}, partner, person)

    async def reverse(self) -> None:
        """All of a redemption or one unit of it, to any stock."""
        if self.redemptions:
            confirmed, partner = self.pick(self.redemptions)
            stock, units = self.dice.choice(list(Stock)).value, self.dice.randint(1, confirmed.units)
            given: dict[str, Any] = {
                "redemption": show_id(REDEMPTION, UUID(confirmed.result)),
                "reason": "a storm",
                "stock": stock,
            }
            given |= {"units": units, "idempotencyKey": self.key()}
            await self.ask("reverse", confirmed.result, given, partner, None, units=units, stock=stock)

    async def join(self) -> None:
        """The waitlist; who is on it already sees what it is offered."""
        perk = next(perk for perk in self.arena.perks if perk.id in self.arena.waited)
        person, partner = self.dice.choice(self.arena.people), self.arena.partner_of(perk)
        given = {"perk": {"id": show_id("perk", perk.id)}, "member": {"alias": person.aliases[partner.id]}}
        call = await self.ask("join", str(perk.id), given, partner, person, member=str(person.row.id), tier=person.tier)
        if call.what == "claim":
            self.holds.append((call, partner, person))
        elif call.outcome == "JOINED":
            self.entries.append((call, partner, person))

    async def leave(self) -> None:
        """The waitlist, with or without an offer."""
        if self.entries:
            joined, partner, person = self.pick(self.entries)
            given = {"entry": show_id(WAIT, UUID(joined.result))}
            await self.ask("leave", joined.result, given, partner, person)

    async def repeat(self) -> None:
        """The same again with the same key, as who lost the answer does."""
        if self.asked:
            call, given, token = self.pick(self.asked)
            again = await self.send(call, given, token)
            if call.outcome == LOST and call.what == "claim" and again.outcome in ("HELD", "REPLAYED"):
                partner = self.arena.partner_of(self.arena.club.perks[UUID(call.on)])
                person = next(one for one in self.arena.people if str(one.row.id) == call.member)
                self.holds.append((again, partner, person))

    async def other_content(self) -> None:
        """Another of the partner's perks with a key that was used."""
        if self.asked:
            call, given, token = self.pick(self.asked)
            if call.what == "claim":
                partner = self.arena.club.perks[UUID(call.on)].partner_id
                other = self.dice.choice([perk for perk in self.arena.perks if perk.partner_id == partner])
                given = given | {"perk": {"id": show_id("perk", other.id)}}
                await self.send(replace(call, on=str(other.id), content=repr(given)), given, token)

    async def disturb(self) -> None:
        """A member loses its tier, or a partner its consent, which is given again."""
        person, partner = self.dice.choice(self.arena.people), self.dice.choice(self.arena.partners)
        reference, asked, now = MemberRef(id=person.row.id), time.time(), self.service.clock()
        if self.dice.random() < 0.5:
            async with self.service.database.sessions.begin() as session:
                await tiers.assign_tier(
                    session,
                    reference,
                    "member",
                    programme=self.service.programme,
                    cause=AssignmentCause.STAFF,
                    ends_at=None,
                    note=None,
                    actor=SYSTEM,
                    now=now,
                )
            return
        place = len(self.calls)
        self.calls.append(disturbance(person.row, asked, float("inf")))
        async with self.service.database.sessions.begin() as session:
            await consents.withdraw_consent(session, reference, partner.id, actor=SYSTEM, now=now)
        self.calls[place] = disturbance(person.row, asked, time.time())
        await asyncio.sleep(self.dice.uniform(0, 0.3))
        await self.give_consent(reference, partner)

    async def give_consent(self, reference: MemberRef, partner: tables.Partner) -> None:
        """Everything that a partner may be let to do."""
        async with self.service.database.sessions.begin() as session:
            await consents.grant_consent(
                session,
                reference,
                partner.id,
                purpose="perks",
                scopes=list(consents.SCOPES),
                expires_at=None,
                pairwise_key=self.service.keys.pairwise,
                actor=SYSTEM,
                now=self.service.clock(),
            )

    def pick(self, among: Sequence[Any]) -> Any:
        """One of the latest."""
        return self.dice.choice(among[-200:])

    def key(self) -> str:
        """A new key."""
        self.keys += 1
        return f"key {self.keys}"

    async def ask(
        self,
        what: str,
        on: str,
        given: dict[str, Any],
        partner: tables.Partner | None,
        person: Person | None,
        **facts: Any,
    ) -> Call:
        """One call by the partner, or by the member where there is none."""
        caller = self.caller(partner, person)
        who = f"member:{caller.id}" if partner is None else partner_actor(partner).owner
        token = self.token(caller)
        call = Call(what, who, on, 0, key=given.get("idempotencyKey", ""), content=repr(given), **facts)
        call = await self.send(call, given, token)
        if call.key:
            self.asked.append((call, given, token))
        return call

    async def send(self, call: Call, given: dict[str, Any], token: str) -> Call:
        """Sends it to any of the processes and keeps what came back, or that nothing did."""
        url = f"http://127.0.0.1:{self.dice.choice(self.ports)}/graphql"
        body = {"query": DOCUMENTS[call.what], "variables": {"input": given}}
        patience = self.dice.uniform(0.001, 0.05) if self.dice.random() < LOST_SHARE else ANSWER_SECONDS_MAX
        place, call = len(self.calls), replace(call, asked=time.time(), answered=float("inf"), outcome=LOST, result="")
        self.calls.append(call)
        try:
            async with asyncio.timeout(patience):
                async with self._http.post(url, json=body, headers={"authorization": f"Bearer {token}"}) as response:
                    answer = await response.json()
        except TimeoutError:
            return call
        except aiohttp.ClientError:
            await asyncio.sleep(OUTAGE_SECONDS)
            return call
        self.calls[place] = read_answer(call, answer, time.time())
        return self.calls[place]

    def caller(self, partner: tables.Partner | None, person: Person | None) -> Caller:
        """Who asks."""
        if partner is not None:
            actor = partner_actor(partner)
            scopes = scopes_of(CallerKind.PARTNER)
            return Caller(CallerKind.PARTNER, actor.id, scopes, client_id=actor.id, partner_id=partner.id)
        assert person is not None
        member = person.row.id
        return Caller(CallerKind.MEMBER, str(member), scopes_of(CallerKind.MEMBER), client_id="app", member_id=member)

    def token(self, caller: Caller) -> str:
        """A token that outlives the storm."""
        if caller.id not in self.tokens:
            service = self.service
            self.tokens[caller.id] = mint_access_token(
                service.ring, service.authority, caller, service.clock(), lifetime=TOKEN_LIFE
            )
        return self.tokens[caller.id]


def read_answer(call: Call, answer: dict[str, Any], now: float) -> Call:
    """What a caller was told; of an outage nobody knows what it left behind."""
    if answer.get("errors"):
        code = answer["errors"][0]["extensions"]["code"]
        code = {"IDEMPOTENCY_KEY_REUSED": "KEY_REUSED"}.get(code, code)
        return call if code in UNSURE else replace(call, answered=now, outcome=code)
    [payload] = answer["data"].values()
    name, kind = MADE[call.what]
    made = payload[name]
    if call.what == "join" and made is not None and made["hold"] is not None and made["hold"]["state"] == "HELD":
        # What it is offered, the promoter has claimed for it.
        entry = str(read_id(WAIT, made["id"]))
        call, name, kind, made = replace(call, what="claim", who=PROMOTER, entry=entry), "hold", HOLD, made["hold"]
    if made is None:
        return replace(call, answered=now, outcome=",".join(one["code"] for one in payload["userErrors"]))
    outcome = "REPLAYED" if payload.get("replayed") else "RESUMED" if payload.get("resumed") else DONE[call.what]
    expires = datetime.fromisoformat(made["expiresAt"]).timestamp() if "expiresAt" in made else float("inf")
    result, leaf = str(read_id(kind, made["id"])), made.get("leafHash", "")
    return replace(call, answered=now, outcome=outcome, result=result, leaf=leaf, expires=expires)
