"""Bespoke requests: who may take which step, what a yes takes, and what stays when something is refused."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from asyncpg import Connection
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.database import Database
from partners import tables
from partners.actors import Actor, ActorKind
from partners.errors import BadInput, Conflict, KeyReused, NotFound
from partners.facts import Refusal
from partners.redemptions import Return, reverse_redemption
from partners.references import Asker, MemberRef, PerkRef
from partners.services import answers as services
from partners.services import approvals as service_approvals
from partners.services import openings as service_openings
from partners.services.approvals import Means
from partners.services.matters import Asked
from partners.services.openings import OPEN_MAX, Opened, Opening
from partners.tables import PartnerState, PerkKind, PerkState
from partners.threads import Said
from tests.factories import STAFF, Club, member_actor, partner_actor

LAST = date(2040, 2, 29)
STATES = ["DRAFT", "SUBMITTED", "QUOTED", "APPROVED", "DECLINED", "SCHEDULED", "FULFILLED", "RECALLED", "CANCELLED"]
STEPS = ["draw_up", "submit", "quote", "approve", "decline", "schedule", "fulfil", "recall", "cancel", "assign", "say"]
KINDS = (ActorKind.PARTNER, ActorKind.MEMBER, ActorKind.STAFF)
LEGAL = {
    ("DRAFT", "member"): "draw_up submit recall",
    ("SUBMITTED", "member"): "recall say",
    ("SUBMITTED", "partner"): "quote approve decline cancel assign say",
    ("SUBMITTED", "staff"): "cancel assign say",
    ("QUOTED", "member"): "approve decline recall say",
    ("QUOTED", "partner"): "quote decline cancel assign say",
    ("QUOTED", "staff"): "cancel assign say",
    ("APPROVED", "member"): "say",
    ("APPROVED", "partner"): "schedule fulfil cancel assign say",
    ("APPROVED", "staff"): "cancel assign say",
    ("SCHEDULED", "member"): "say",
    ("SCHEDULED", "partner"): "schedule fulfil cancel assign say",
    ("SCHEDULED", "staff"): "cancel assign say",
}
LEADS = {
    "submit": "SUBMITTED",
    "quote": "QUOTED",
    "approve": "APPROVED",
    "decline": "DECLINED",
    "schedule": "SCHEDULED",
    "fulfil": "FULFILLED",
    "recall": "RECALLED",
    "cancel": "CANCELLED",
}
WAYS = {
    "SUBMITTED": [("member", "submit")],
    "QUOTED": [("member", "submit"), ("partner", "quote")],
    "APPROVED": [("member", "submit"), ("partner", "quote"), ("member", "approve")],
    "DECLINED": [("member", "submit"), ("partner", "decline")],
    "SCHEDULED": [("member", "submit"), ("partner", "approve"), ("partner", "schedule")],
    "FULFILLED": [("member", "submit"), ("partner", "approve"), ("partner", "fulfil")],
    "RECALLED": [("member", "submit"), ("member", "recall")],
    "CANCELLED": [("member", "submit"), ("staff", "cancel")],
}
"""How each state is reached from a draft."""


def legal(state: str, kind: str) -> set[str]:
    return set(LEGAL.get((state, kind), "").split())


@dataclass
class Desk:
    """One SERVICE perk, one member who may ask for it, and short ways to take steps."""

    club: Club
    database: Database
    perk: tables.Perk
    partner: tables.Partner
    member: tables.Member

    @property
    def means(self) -> Means:
        return Means(self.club.programme.ranks, self.club.keys.codes)

    @property
    def me(self) -> Actor:
        return member_actor(self.member)

    @property
    def brand(self) -> Actor:
        return partner_actor(self.partner)

    def actor(self, kind: str) -> Actor:
        return {"member": self.me, "partner": self.brand, "staff": STAFF}[kind]

    def opening(self, form: Any = None, amount: int = 0, **more: Any) -> Opening:
        given = {
            "perk": PerkRef(id=self.perk.id),
            "member": MemberRef(id=self.member.id),
            "form": {} if form is None else form,
            "amount": amount,
            "key": uuid4().hex,
            "actor": self.me,
            "now": self.club.now,
        }
        return Opening(**(given | more))

    async def do(self, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
        async with self.database.sessions.begin() as session:
            return await work(session)

    async def draft(self, **more: Any) -> UUID:
        opened = await self.do(lambda session: service_openings.draft_request(session, self.opening(**more)))
        assert opened.request_id is not None
        return UUID(str(opened.request_id))

    async def submit(self, **more: Any) -> Opened:
        given = self.opening(**more)
        opened: Opened = await self.do(lambda s: service_openings.submit_request(s, given, self.means))
        return opened

    async def submitted(self, **more: Any) -> UUID:
        opened = await self.submit(**more)
        assert opened.request_id is not None, opened
        return opened.request_id

    async def row(self, request_id: UUID) -> Any:
        [row] = await self.club.sql(
            "SELECT r.*, t.revision, t.owner, t.answered_at, t.solved_at, t.waiting_since, t.paused_seconds,"
            " (SELECT count(*) FROM message m WHERE m.thread_id = t.id) AS messages"
            " FROM service_request r JOIN thread t USING (id) WHERE r.id = $1",
            request_id,
        )
        return row

    async def step(
        self,
        name: str,
        request_id: UUID,
        kind: str,
        revision: int | None = None,
        *,
        amount: int = 100,
        now: datetime | None = None,
        actor: Actor | None = None,
    ) -> list[str]:
        """The codes that refuse it; none when it is done. The revision is the last, unless another is given."""
        if revision is None:
            revision = (await self.row(request_id))["revision"]
        assert revision is not None
        at = now or self.club.now
        who = actor or self.actor(kind)
        asker = None if who.partner_id is None else Asker(who.partner_id, "redemptions:write", who.id)
        asked = Asked(request_id, revision, who, at, asker)
        said, soon = Said("Hello."), at + timedelta(days=1)
        works: dict[str, Callable[[AsyncSession], Awaitable[Any]]] = {
            "draw_up": lambda s: service_openings.change_draft(s, asked, {"changed": True}, 0),
            "submit": lambda s: service_openings.submit_draft(s, asked, self.means),
            "quote": lambda s: services.quote_request(s, asked, services.Quote(amount, "All in.", soon)),
            "approve": lambda s: service_approvals.approve_request(s, asked, self.means),
            "decline": lambda s: services.decline_request(s, asked, said),
            "schedule": lambda s: services.schedule_request(s, asked, soon),
            "fulfil": lambda s: services.fulfil_request(s, asked),
            "recall": lambda s: services.recall_request(s, asked),
            "cancel": lambda s: service_approvals.cancel_request(s, asked, "No longer possible."),
            "assign": lambda s: services.assign_request(s, asked, "Ms Meier"),
            "say": lambda s: services.add_message(s, asked, said),
        }
        answer: Opened | Sequence[Refusal] = await self.do(works[name])
        refusals = answer.refusals if isinstance(answer, Opened) else answer
        return [refusal.code.value for refusal in refusals]

    async def at(self, state: str) -> UUID:
        """A request in this state."""
        request_id = await self.draft()
        for kind, name in WAYS.get(state, []):
            assert await self.step(name, request_id, kind) == []
        assert (await self.row(request_id))["state"] == state
        return request_id

    async def entries(self, action: str) -> list[tuple[str, list[str]]]:
        return await self.club.entries(self.perk, f"service.{action}")


async def a_desk(
    club: Club,
    database: Database,
    tier: str = "gold",
    rules: Sequence[Any] = (),
    units: int | None = None,
    **settings: Any,
) -> Desk:
    perk = await club.perk(
        kind=PerkKind.SERVICE,
        currency="CHF",
        units=units,
        rules=rules,
        settings={"approval": "BY_PARTNER"} | settings,
    )
    partner = club.partners[perk.partner_id]
    return Desk(club, database, perk, partner, await club.member(partner, tier=tier))


@pytest.mark.parametrize("state", STATES)
async def test_only_the_table_moves_a_request(club: Club, database: Database, state: str) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at(state)
    before = await desk.row(request_id)
    for kind in KINDS:
        for name in sorted(set(STEPS) - legal(state, kind.value)):
            if state == "DRAFT" and kind is not ActorKind.MEMBER:
                with pytest.raises(NotFound):
                    await desk.step(name, request_id, kind.value)
            else:
                assert await desk.step(name, request_id, kind.value) == ["WRONG_STATE"], (kind, name)
    assert await desk.row(request_id) == before
    for kind in KINDS:
        for name in sorted(legal(state, kind.value)):
            fresh = await desk.at(state)
            last = (await desk.row(fresh))["revision"]
            assert await desk.step(name, fresh, kind.value) == [], (kind, name)
            after = await desk.row(fresh)
            assert (after["state"], after["revision"]) == (LEADS.get(name, state), last + 1)
            if after["state"] in ("DECLINED", "FULFILLED", "RECALLED", "CANCELLED"):
                assert after["ended_at"] == club.now
            elif after["state"] in ("DRAFT", "SUBMITTED", "QUOTED"):
                await desk.step("recall", fresh, "member")  # so that not too many are open


@pytest.mark.parametrize("seed", range(4))
async def test_no_walk_of_any_callers_leaves_the_table(club: Club, database: Database, seed: int) -> None:
    desk, chance = await a_desk(club, database), random.Random(seed)
    walked: Counter[str] = Counter()
    request_id, drafts, refused = await desk.draft(), 1, 0
    for _ in range(120):
        before = await desk.row(request_id)
        ways = [(one.value, name) for one in KINDS for name in sorted(legal(before["state"], one.value))]
        kind, name = chance.choice(KINDS).value, chance.choice(STEPS)
        if ways and chance.random() < 0.5:
            kind, name = chance.choice(ways)
        revision = before["revision"] + (chance.choice([-1, 1]) if chance.random() < 0.1 else 0)
        expected = name in legal(before["state"], kind) and revision == before["revision"]
        try:
            done = await desk.step(name, request_id, kind, revision) == []
            refused += not done
        except NotFound:
            done = False
            assert before["submitted_at"] is None
            assert kind != "member"
        after = await desk.row(request_id)
        assert done == expected, (before["state"], kind, name)
        assert after["revision"] == before["revision"] + done
        assert after["state"] == (LEADS.get(name, before["state"]) if done else before["state"])
        walked[name] += done
        if after["ended_at"] is not None and chance.random() < 0.3:
            request_id, drafts = await desk.draft(), drafts + 1
    assert sum(walked.values()) > 20
    # Law 6: each step that was done and each that was refused has one entry.
    written = "SELECT outcome, count(*) FROM audit_entry WHERE perk_id = $1 AND action LIKE 'service.%' GROUP BY 1"
    assert dict(await club.sql(written, desk.perk.id)) == {"DONE": drafts + sum(walked.values()), "REFUSED": refused}


@pytest.mark.parametrize(("name", "kind"), [("say", "member"), ("assign", "partner"), ("cancel", "staff")])
async def test_of_fifty_who_saw_one_revision_one_acts(club: Club, database: Database, name: str, kind: str) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at("SUBMITTED")
    last = (await desk.row(request_id))["revision"]
    calls = (desk.step(name, request_id, kind, last) for _ in range(50))
    answers = await club.at_once(f"thread WHERE id = '{request_id}'", calls)
    assert Counter(map(tuple, answers)) == {(): 1, ("STALE_REVISION",): 49}
    assert (await desk.row(request_id))["revision"] == last + 1


async def test_an_approval_and_a_recall_that_meet_do_not_both_land(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, units=5)
    request_id = await desk.at("QUOTED")
    last = (await desk.row(request_id))["revision"]
    calls = [desk.step(name, request_id, "member", last) for name in ["approve", "recall", "decline"] * 5]
    answers = await club.at_once(f"capacity WHERE perk_id = '{desk.perk.id}'", calls)
    assert sum(answer == [] for answer in answers) == 1
    row = await desk.row(request_id)
    assert await club.taken(desk.perk) == (1 if row["state"] == "APPROVED" else 0)
    assert (row["redemption_id"] is not None) == (row["state"] == "APPROVED")


async def test_a_yes_redeems_the_amount_of_the_quote(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, units=1)
    request_id = await desk.submitted(amount=3)
    assert await desk.step("quote", request_id, "partner", amount=5_000) == []
    assert await desk.step("approve", request_id, "member") == []
    row = await desk.row(request_id)
    [redeemed] = await club.sql("SELECT * FROM redemption WHERE id = $1", row["redemption_id"])
    assert (redeemed["amount"], redeemed["currency"], redeemed["fulfilment"]) == (5_000, "CHF", "PENDING")
    assert await club.taken(desk.perk) == 1
    assert await club.entries(desk.perk, "hold.confirmed") == [("DONE", [f"HOLD:{redeemed['hold_id']}"])]
    assert await desk.entries("approved") == [("DONE", [])]
    second = await desk.submit()
    assert [refusal.code for refusal in second.refusals] == ["CAPACITY_EXHAUSTED"]


async def test_cancelling_after_a_yes_gives_back_what_it_took(club: Club, database: Database) -> None:
    rules = [{"kind": "allowance", "period": "EVER", "otherwise": 500, "measure": "amount"}]
    desk = await a_desk(club, database, units=1, rules=rules)
    request_id = await desk.submitted()
    await desk.step("quote", request_id, "partner", amount=500)
    assert await desk.step("approve", request_id, "member") == []
    assert await desk.step("cancel", request_id, "partner") == []
    row = await desk.row(request_id)
    [back] = await club.sql("SELECT * FROM reversal WHERE redemption_id = $1", row["redemption_id"])
    assert (back["amount"], back["reason"], back["borne_by"]) == (500, "No longer possible.", "PARTNER")
    assert await club.taken(desk.perk) == 0
    again = await desk.submitted()
    await desk.step("quote", again, "partner", amount=500)
    assert await desk.step("approve", again, "member") == []


async def test_a_partner_cancels_within_its_window_and_staff_at_any_time(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at("APPROVED")
    late = club.now + timedelta(days=91)
    assert await desk.step("cancel", request_id, "partner", now=late) == ["REVERSAL_WINDOW_CLOSED"]
    assert (await desk.row(request_id))["state"] == "APPROVED"
    assert await desk.step("cancel", request_id, "staff", now=late) == []


async def test_a_redemption_that_was_reversed_by_itself_is_not_fulfilled_and_can_be_cancelled(
    club: Club, database: Database
) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at("APPROVED")
    redemption_id = (await desk.row(request_id))["redemption_id"]
    async with database.connection() as connection:
        await reverse_redemption(
            connection,
            redemption_id,
            Return("spoiled"),
            actor=STAFF,
            key=uuid4().hex,
            fingerprint=b"",
            now=club.now,
        )
    assert await desk.step("fulfil", request_id, "partner") == ["ALREADY_REVERSED"]
    assert await desk.step("schedule", request_id, "partner") == ["ALREADY_REVERSED"]
    assert await desk.step("cancel", request_id, "partner") == []


async def test_an_offer_ends_with_its_time_or_its_currency(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at("QUOTED")
    later = club.now + timedelta(days=1)
    assert await desk.step("approve", request_id, "member", now=later) == ["QUOTE_EXPIRED"]
    await club.sql("UPDATE perk SET currency = 'EUR' WHERE id = $1", desk.perk.id)
    assert await desk.step("approve", request_id, "member") == ["QUOTE_EXPIRED"]
    assert await desk.step("quote", request_id, "partner", now=later) == []
    assert await desk.step("approve", request_id, "member", now=later) == []


async def test_nothing_is_offered_after_the_perks_last_day(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at("SUBMITTED")
    await club.sql("UPDATE perk SET closes_on = $2, time_zone = 'Pacific/Kiritimati' WHERE id = $1", desk.perk.id, LAST)
    last = datetime.combine(LAST, time(23, 59), ZoneInfo("Pacific/Kiritimati"))
    assert await desk.step("quote", request_id, "partner", now=last + timedelta(minutes=1)) == ["ENDED"]
    assert await desk.step("quote", request_id, "partner", now=last) == []
    assert await desk.step("approve", request_id, "member", now=last + timedelta(minutes=1)) == ["ENDED"]
    assert await desk.step("decline", request_id, "partner", now=last + timedelta(minutes=1)) == []


async def test_where_offers_are_the_way_the_partner_can_not_say_yes_alone(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, approval="BY_QUOTE")
    request_id = await desk.at("SUBMITTED")
    assert await desk.step("approve", request_id, "partner") == ["WRONG_STATE"]
    assert await desk.step("quote", request_id, "partner") == []
    assert await desk.step("approve", request_id, "member") == []


async def withdrawn(desk: Desk) -> None:
    await desk.club.withdraw(desk.member, desk.partner)


async def suspended_member(desk: Desk) -> None:
    await desk.club.sql("UPDATE member SET state = 'SUSPENDED', version = version + 1 WHERE id = $1", desk.member.id)


async def suspended_partner(desk: Desk) -> None:
    state = PartnerState.SUSPENDED.value
    await desk.club.sql("UPDATE partner SET state = $2 WHERE id = $1", desk.partner.id, state)


async def paused(desk: Desk) -> None:
    await desk.club.set_state(desk.perk.id, PerkState.PAUSED)


@pytest.mark.parametrize(
    ("happens", "code", "minded"),
    [
        (withdrawn, "CONSENT_MISSING", "quote schedule say approve"),
        (suspended_member, "MEMBERSHIP_SUSPENDED", "quote schedule approve"),
        (suspended_partner, "PARTNER_SUSPENDED", "quote schedule say approve"),
        (paused, "PERK_PAUSED", "quote approve"),
    ],
)
async def test_what_happens_meanwhile_is_a_typed_refusal(
    club: Club, database: Database, happens: Callable[[Desk], Awaitable[None]], code: str, minded: str
) -> None:
    desk = await a_desk(club, database)
    where = {"approve": "QUOTED", "schedule": "APPROVED", "fulfil": "APPROVED"}
    tried = {}
    for name in ("quote", "schedule", "say", "approve", "assign", "decline", "fulfil", "cancel"):
        tried[name] = await desk.at(where.get(name, "SUBMITTED"))
    await happens(desk)
    for name, request_id in tried.items():
        before = await desk.row(request_id)
        answer = await desk.step(name, request_id, "member" if name == "approve" else "partner")
        assert answer == ([code] if name in minded.split() else []), name
        if answer:
            assert await desk.row(request_id) == before
    assert [reasons for outcome, reasons in await desk.entries("quoted") if outcome == "REFUSED"] == [[code]]


async def test_a_partner_that_approves_learns_nothing_of_a_member_who_left(club: Club, database: Database) -> None:
    rules = [{"kind": "tier_at_least", "tier": "black"}]
    desk = await a_desk(club, database, tier="black", rules=rules)
    request_id = await desk.at("SUBMITTED")
    await club.withdraw(desk.member, desk.partner)
    await club.assign(desk.member, "silver")
    assert await desk.step("approve", request_id, "partner") == ["CONSENT_MISSING"]


async def test_trust_has_its_answer_in_no_time(club: Club, database: Database) -> None:
    trust = {"tier": "gold", "amount": {"gold": 500, "black": 1_000}}
    desk = await a_desk(club, database, approval="AUTOMATIC", trust=trust)
    row = await desk.row(await desk.submitted(amount=500))
    assert (row["state"], row["automatic"], row["answered_at"]) == ("APPROVED", True, club.now)
    assert row["redemption_id"] is not None
    assert (await desk.row(await desk.submitted(amount=501)))["state"] == "SUBMITTED"
    assert await desk.entries("approved") == [("DONE", ["AUTOMATIC", "ANSWERED_IN_TIME"])]
    silver = Desk(club, database, desk.perk, desk.partner, await club.member(desk.partner, tier="silver"))
    assert (await silver.row(await silver.submitted(amount=1)))["state"] == "SUBMITTED"
    black = Desk(club, database, desk.perk, desk.partner, await club.member(desk.partner, tier="black"))
    assert (await black.row(await black.submitted(amount=1_000)))["state"] == "APPROVED"


async def test_trust_may_ask_for_a_score(club: Club, database: Database) -> None:
    trust = {"tier": "gold", "score": 1_000, "otherwise": 100}
    desk = await a_desk(club, database, approval="AUTOMATIC", trust=trust)
    assert (await desk.row(await desk.submitted()))["state"] == "SUBMITTED"
    await club.sql("UPDATE member SET score = 1000, version = version + 1 WHERE id = $1", desk.member.id)
    assert (await desk.row(await desk.submitted()))["state"] == "APPROVED"


LIMITS = {"kind": "allowance", "period": "MONTH", "units": {"gold": 1_000, "black": 2_000}, "measure": "amount"}


@pytest.mark.parametrize(("tier", "limit"), [("gold", 1_000), ("black", 2_000)])
async def test_amounts_are_limited_by_tier_and_period(club: Club, database: Database, tier: str, limit: int) -> None:
    trust = {"tier": "gold", "otherwise": 5_000}
    desk = await a_desk(club, database, tier=tier, rules=[LIMITS], approval="AUTOMATIC", trust=trust)
    for amount in (limit // 2, limit // 2 - 1):
        assert (await desk.row(await desk.submitted(amount=amount)))["state"] == "APPROVED"
    refused = await desk.submit(amount=2)
    assert [refusal.code for refusal in refused.refusals] == ["VALUE_LIMIT_REACHED"]
    assert (await desk.row(await desk.submitted(amount=1)))["state"] == "APPROVED"
    next_month = (club.now.replace(day=1) + timedelta(days=32)).replace(day=1)
    assert (await desk.row(await desk.submitted(amount=limit, now=next_month)))["state"] == "APPROVED"


async def test_a_quote_beyond_the_limit_stays_a_quote(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, rules=[LIMITS])
    request_id = await desk.submitted()
    assert await desk.step("quote", request_id, "partner", amount=1_001) == []
    before = await desk.row(request_id)
    assert await desk.step("approve", request_id, "member") == ["VALUE_LIMIT_REACHED"]
    assert await desk.row(request_id) == before
    assert await desk.entries("approved") == [("REFUSED", ["VALUE_LIMIT_REACHED"])]
    assert await club.sql("SELECT FROM hold WHERE perk_id = $1", desk.perk.id) == []
    assert await desk.step("quote", request_id, "partner", amount=1_000) == []
    assert await desk.step("approve", request_id, "member") == []


async def test_approvals_that_meet_never_pass_the_limit(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, rules=[LIMITS])
    requests = [await desk.submitted() for _ in range(10)]
    for request_id in requests:
        await desk.step("quote", request_id, "partner", amount=300)
    calls = (desk.step("approve", request_id, "member") for request_id in requests)
    answers = await club.at_once(f"capacity WHERE perk_id = '{desk.perk.id}'", calls)
    assert Counter(map(tuple, answers)) == {(): 3, ("VALUE_LIMIT_REACHED",): 7}


async def test_requests_that_come_too_fast_open_a_review(club: Club, database: Database) -> None:
    rules = [{"kind": "velocity", "claims": 2, "hours": 24}]
    desk = await a_desk(club, database, rules=rules, approval="AUTOMATIC", trust={"tier": "gold"})
    for _ in range(2):
        assert (await desk.row(await desk.submitted()))["state"] == "APPROVED"
    assert [one.code for one in (await desk.submit()).refusals] == ["UNDER_REVIEW"]
    [review] = await club.sql("SELECT state, member_id FROM review WHERE perk_id = $1", desk.perk.id)
    assert (review["state"], review["member_id"]) == ("OPEN", desk.member.id)


async def test_one_key_makes_one_request(club: Club, database: Database) -> None:
    trust = {"tier": "gold"}
    desk = await a_desk(club, database, approval="AUTOMATIC", trust=trust)
    calls = (desk.submit(key="one", form={"a": 1}) for _ in range(20))
    answers = await club.at_once(f"capacity WHERE perk_id = '{desk.perk.id}'", calls)
    assert len({answer.request_id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    [row] = await club.sql("SELECT count(*) AS uses FROM redemption WHERE perk_id = $1", desk.perk.id)
    assert row["uses"] == 1
    with pytest.raises(KeyReused):
        await desk.submit(key="one", form={"a": 2})
    with pytest.raises(KeyReused):
        await desk.draft(key="one", form={"a": 1})
    assert await desk.draft(key="two") == await desk.draft(key="two")


async def test_a_refused_request_does_not_use_up_its_key(club: Club, database: Database) -> None:
    form = {"type": "object", "required": ["day"]}
    desk = await a_desk(club, database, form=form)
    assert [one.code for one in (await desk.submit(key="one")).refusals] == ["FORM_INVALID"]
    assert (await desk.submit(key="one", form={"day": "Monday"})).request_id is not None


async def test_a_draft_is_its_members_alone_and_may_be_as_unfinished_as_it_likes(
    club: Club, database: Database
) -> None:
    form = {"type": "object", "required": ["changed"]}
    desk = await a_desk(club, database, form=form)
    request_id = await desk.draft(form={"half": "done"})
    assert await desk.step("submit", request_id, "member") == ["FORM_INVALID"]
    assert (await desk.row(request_id))["state"] == "DRAFT"
    assert await desk.step("draw_up", request_id, "member") == []
    assert await desk.step("submit", request_id, "member") == []
    assert await desk.entries("submitted") == [("REFUSED", ["FORM_INVALID"]), ("DONE", [])]


async def test_nobody_opens_any_number_of_requests(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    for _ in range(OPEN_MAX):
        await desk.draft()
    with pytest.raises(Conflict):
        await desk.draft()
    with pytest.raises(Conflict):
        await desk.submit()


async def test_a_partner_asks_on_behalf_of_who_lets_it(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    alias = await club.consent(desk.member, desk.partner)
    asker = Asker(desk.partner.id, "holds:write", desk.brand.id)
    given = {"actor": desk.brand, "member": MemberRef(alias=alias), "asker": asker}
    row = await desk.row(await desk.submitted(**given))
    assert (row["member_id"], row["answered_at"]) == (desk.member.id, None)
    await club.consent(desk.member, desk.partner, scopes=["eligibility:read"])
    unknown = await desk.submit(**(given | {"member": MemberRef(alias="nobody")}))
    silent = await desk.submit(**given)
    assert unknown == silent
    assert [one.code for one in silent.refusals] == ["NOT_A_MEMBER"]


async def test_other_perks_are_not_asked_for(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    sample = await club.perk()
    with pytest.raises(BadInput):
        await desk.submit(perk=PerkRef(id=sample.id))
    draft = await club.perk(kind=PerkKind.SERVICE, state=PerkState.DRAFT)
    with pytest.raises(NotFound):
        await desk.submit(perk=PerkRef(id=draft.id))
    with pytest.raises(NotFound):
        await desk.submit(perk=PerkRef(id=draft.id), actor=desk.brand)
    with pytest.raises(BadInput):
        await desk.submit(form=["not", "an", "object"])
    with pytest.raises(BadInput):
        await desk.submit(amount=-1)


async def test_strangers_find_no_request_to_move(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at("QUOTED")
    other, brand = await club.member(desk.partner), await club.partner()
    alias = await club.consent(other, desk.partner)
    bound = Actor(ActorKind.PARTNER, "pos", partner_id=desk.partner.id, alias=alias)
    for stranger in (member_actor(other), partner_actor(brand), bound):
        for name in ("say", "approve", "decline", "cancel"):
            with pytest.raises(NotFound):
                await desk.step(name, request_id, "partner", actor=stranger)


async def test_what_was_written_is_in_no_leaf(club: Club, database: Database) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.submitted(form={"word": "nightingale"})
    for name, kind in [("say", "partner"), ("quote", "partner"), ("decline", "member")]:
        assert await desk.step(name, request_id, kind) == []
    leaves = [row["leaf"] for row in await club.sql("SELECT leaf FROM audit_entry WHERE perk_id = $1", desk.perk.id)]
    assert len(leaves) > 5
    assert not [leaf for leaf in leaves for word in ("nightingale", "Hello", "All in", "Meier") if word in leaf]


async def test_the_partner_waits_and_the_member_answers(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, answer_within_seconds=60, solve_within_seconds=600)
    request_id = await desk.submitted()
    later = club.now + timedelta(seconds=30)
    assert await desk.step("quote", request_id, "partner", now=later) == []
    row = await desk.row(request_id)
    assert (row["answered_at"], row["waiting_since"]) == (later, later)
    answered = later + timedelta(seconds=90)
    assert await desk.step("say", request_id, "member", now=answered) == []
    row = await desk.row(request_id)
    assert (row["waiting_since"], row["paused_seconds"]) == (None, 90)
    assert await desk.step("recall", request_id, "member", now=answered) == []
    assert (await desk.row(request_id))["solved_at"] == answered


async def test_a_storm_leaves_what_was_said_yes_to_and_nothing_more(club: Club, database: Database) -> None:
    desk, chance = await a_desk(club, database, rules=[LIMITS], units=4), random.Random(11)
    desks = [desk] + [Desk(club, database, desk.perk, desk.partner, await club.member(desk.partner)) for _ in range(3)]
    requests = [(one, await one.submitted()) for one in desks for _ in range(4)]
    told: Counter[str] = Counter()
    moves = {"quote", "approve", "cancel", "schedule", "say", "fulfil"}

    async def wander(number: int) -> None:
        for _ in range(12):
            one, request_id = chance.choice(requests)
            state = (await one.row(request_id))["state"]
            ways = [(kind.value, name) for kind in KINDS for name in sorted(legal(state, kind.value) & moves)]
            kind, name = chance.choice(ways or [("member", "approve")])
            told.update(await one.step(name, request_id, kind, amount=chance.choice([100, 400, 900])) or ["done"])
            if number == 0 and chance.random() < 0.2:
                await club.consent(one.member, one.partner)  # another version of the member

    await asyncio.gather(*(wander(number) for number in range(12)))
    assert told["done"] > 20, told
    uses = await club.sql(
        "SELECT r.state, d.member_id, d.amount, d.units, d.reversed_units FROM service_request r"
        " JOIN redemption d ON d.id = r.redemption_id WHERE r.perk_id = $1",
        desk.perk.id,
    )
    standing = [use for use in uses if use["reversed_units"] == 0]
    assert all((use["state"] == "CANCELLED") == (use["reversed_units"] == 1) for use in uses)
    assert await club.taken(desk.perk) == len(standing) <= 4
    for one in desks:
        assert sum(use["amount"] for use in standing if use["member_id"] == one.member.id) <= 1_000
    [without] = await club.sql(
        "SELECT count(*) AS n FROM service_request WHERE perk_id = $1 AND redemption_id IS NULL"
        " AND state IN ('APPROVED', 'SCHEDULED', 'FULFILLED')",
        desk.perk.id,
    )
    assert without["n"] == 0
    [held] = await club.sql("SELECT count(*) AS n FROM hold WHERE perk_id = $1 AND state = 'HELD'", desk.perk.id)
    assert held["n"] == 0


STATEMENTS = {"submit": 6, "quote": 5, "approve": 8, "schedule": 10, "say": 5, "cancel": 7}


@pytest.mark.parametrize(
    ("name", "state", "kind"),
    [
        ("submit", "DRAFT", "member"),
        ("quote", "SUBMITTED", "partner"),
        ("approve", "QUOTED", "member"),
        ("schedule", "APPROVED", "partner"),
        ("say", "SUBMITTED", "member"),
        ("cancel", "APPROVED", "partner"),
    ],
)
async def test_a_step_takes_few_statements(
    club: Club, database: Database, monkeypatch: pytest.MonkeyPatch, name: str, state: str, kind: str
) -> None:
    desk = await a_desk(club, database)
    request_id = await desk.at(state)
    revision = (await desk.row(request_id))["revision"]
    statements: list[str] = []
    fetch = Connection.fetch

    async def fetching(self: Any, query: str, *given: Any, **options: Any) -> Any:
        statements.append(query)
        return await fetch(self, query, *given, **options)

    def executing(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    monkeypatch.setattr(Connection, "fetch", fetching)
    event.listen(database.engine.sync_engine, "before_cursor_execute", executing)
    try:
        assert await desk.step(name, request_id, kind, revision) == []
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", executing)
    assert len(statements) == STATEMENTS[name], "\n".join(statements)


HOUR = timedelta(hours=1)
PROMISED = {"answer_within_seconds": 3_600, "solve_within_seconds": 7_200}
IN_TIME, LATE = timedelta(minutes=59), timedelta(minutes=61)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([("quote", "partner", IN_TIME)], [["ANSWERED_IN_TIME"]]),
        ([("quote", "partner", LATE)], [["ANSWERED_LATE"]]),
        ([("say", "partner", IN_TIME), ("quote", "partner", LATE)], [["ANSWERED_IN_TIME"], []]),
        ([("assign", "partner", IN_TIME), ("quote", "partner", LATE)], [[], ["ANSWERED_LATE"]]),
        ([("decline", "partner", IN_TIME)], [["ANSWERED_IN_TIME", "SOLVED_IN_TIME"]]),
        ([("decline", "partner", 3 * HOUR)], [["ANSWERED_LATE", "SOLVED_LATE"]]),
        ([("recall", "member", IN_TIME)], [[]]),
        ([("recall", "member", LATE)], [["ANSWERED_LATE"]]),
        ([("recall", "member", 3 * HOUR)], [["ANSWERED_LATE", "SOLVED_LATE"]]),
        (
            [("approve", "partner", IN_TIME), ("fulfil", "partner", 2 * HOUR)],
            [["ANSWERED_IN_TIME"], ["SOLVED_IN_TIME"]],
        ),
        ([("approve", "partner", IN_TIME), ("fulfil", "partner", 3 * HOUR)], [["ANSWERED_IN_TIME"], ["SOLVED_LATE"]]),
        ([("quote", "partner", IN_TIME), ("decline", "member", 9 * HOUR)], [["ANSWERED_IN_TIME"], ["SOLVED_IN_TIME"]]),
    ],
)
async def test_the_entry_of_a_step_says_which_promise_it_kept_or_missed(
    club: Club, database: Database, steps: list[tuple[str, str, timedelta]], told: list[list[str]]
) -> None:
    desk = await a_desk(club, database, **PROMISED)
    request_id = await desk.submitted()
    for name, kind, after in steps:
        assert await desk.step(name, request_id, kind, now=club.now + after) == []
    found = await club.sql(
        "SELECT reasons, leaf::json -> 'reasons' AS in_leaf FROM audit_entry"
        " WHERE subject_id = $1 AND action <> 'service.submitted' ORDER BY id",
        request_id,
    )
    assert [row["reasons"] for row in found] == told
    assert [row["in_leaf"] for row in found] == told


async def test_a_refused_step_keeps_no_promise(club: Club, database: Database) -> None:
    desk = await a_desk(club, database, **PROMISED)
    request_id = await desk.submitted()
    assert await desk.step("quote", request_id, "partner", 99, now=club.now + IN_TIME) == ["STALE_REVISION"]
    assert await desk.entries("quoted") == [("REFUSED", ["STALE_REVISION"])]
