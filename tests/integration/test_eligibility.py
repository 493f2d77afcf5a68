"""Facts by one statement: who may learn what, and the instants at which an answer turns (laws 8 and 9)."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from gateway.database import Database
from partners import members
from partners.actors import Actor, ActorKind
from partners.eligibility import Decision, Known, Question, decide, learn
from partners.errors import BadInput
from partners.references import Asker, MemberRef, PerkRef, reachable_member
from partners.tables import PerkState
from tests.factories import Club, member_actor

TICK = timedelta(microseconds=1)


async def ask(club: Club, *questions: Question) -> list[Known | None]:
    async with club.database.connection() as connection:
        return await learn(connection, questions)


async def answer(club: Club, question: Question) -> Decision:
    [known] = await ask(club, question)
    assert known is not None
    return decide(known, club.programme.ranks, question.now)


def codes(decision: Decision) -> list[str]:
    return [refusal.code.value for refusal in decision.refusals]


async def test_a_batch_of_questions_is_one_statement_and_answers_come_in_order(club: Club, database: Database) -> None:
    partner, rival = await club.partner(), await club.partner()
    perks = [await club.perk(partner), await club.perk(rival)]
    people = [await club.member(partner, tier=tier) for tier in ("silver", "gold", "black")]
    alias = await club.consent(people[0], partner)
    questions = [
        Question(MemberRef(id=people[2].id), PerkRef(id=perks[0].id), club.now),
        Question(
            MemberRef(alias=alias), PerkRef(handle=perks[0].handle), club.now, Asker(partner.id, "eligibility:read")
        ),
        Question(MemberRef(external_id=people[1].external_id), PerkRef(handle=perks[1].handle), club.now),
        Question(MemberRef(alias=alias), PerkRef(id=perks[1].id), club.now, Asker(partner.id, "eligibility:read")),
        Question(MemberRef(id=uuid4()), PerkRef(id=perks[1].id), club.now),
        Question(MemberRef(id=people[2].id), PerkRef(handle="no/such"), club.now),
    ] * 20
    statements: list[str] = []
    async with database.connection() as connection:
        await learn(connection, questions)  # a driver's first call asks for the types as well
        with connection.query_logger(lambda record: statements.append(record.query)):
            answers = await learn(connection, questions)
            assert await learn(connection, []) == []
    assert len(statements) == 1
    found = [None if known is None else (known.perk_id, known.member and known.member.tier) for known in answers]
    assert (
        found
        == [
            (perks[0].id, "black"),
            (perks[0].id, "silver"),
            (perks[1].id, "gold"),
            None,
            (perks[1].id, None),
            None,
        ]
        * 20
    )


async def test_a_partner_cannot_tell_no_such_member_from_no_consent(club: Club) -> None:
    """Law 9: unknown, never asked, withdrawn, lapsed, suspended without consent, and another partner's name for her."""
    perk = await club.perk(units=3, rules=[{"kind": "allowance", "period": "MONTH", "otherwise": 2}])
    partner, rival = club.partners[perk.partner_id], await club.partner()
    never, withdrawn, lapsed, elsewhere = [await club.member() for _ in range(4)]
    aliases = ["no-such-alias", members.pairwise_alias(club.keys.pairwise, partner.id, never.id)]
    aliases.append(await club.consent(withdrawn, partner))
    await club.hold(withdrawn, perk)
    await club.withdraw(withdrawn, partner)
    await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", withdrawn.id)
    aliases.append(await club.consent(lapsed, partner, expires_at=club.now))
    aliases.append(await club.consent(elsewhere, rival))
    aliases += [elsewhere.external_id, str(elsewhere.id)]
    questions = [
        Question(MemberRef(alias=alias), PerkRef(id=perk.id), club.now, Asker(partner.id, "eligibility:read"))
        for alias in aliases
    ]
    answers = await ask(club, *questions)
    assert all(known == answers[0] for known in answers)
    assert answers[0] is not None
    decision = decide(answers[0], club.programme.ranks, club.now)
    assert codes(decision) == ["NOT_A_MEMBER"]
    async with club.database.sessions() as session:
        views = [
            await members.view_member(
                session, MemberRef(alias=alias), asker=Asker(partner.id, "member.tier:read"), now=club.now
            )
            for alias in aliases
        ]
    assert views == [None] * len(aliases)


async def test_members_and_staff_are_told_that_the_consent_is_missing(club: Club) -> None:
    perk = await club.perk()
    member = await club.member()
    assert codes(await club.decision(member, perk)) == ["CONSENT_MISSING"]
    question = Question(MemberRef(external_id=member.external_id), PerkRef(handle=perk.handle), club.now)
    assert codes(await answer(club, question)) == ["CONSENT_MISSING"]


@pytest.mark.parametrize("state", list(PerkState))
async def test_another_partners_perk_is_not_there_by_any_name(club: Club, state: PerkState) -> None:
    perk = await club.perk(state=state)
    rival = await club.partner()
    alias = await club.consent(await club.member(), rival)
    references = [PerkRef(id=perk.id), PerkRef(handle=perk.handle), PerkRef(id=uuid4()), PerkRef(handle="x/y")]
    questions = [
        Question(MemberRef(alias=alias), reference, club.now, Asker(rival.id, "eligibility:read"))
        for reference in references
    ]
    assert await ask(club, *questions) == [None] * 4


async def test_a_perk_that_is_not_open_says_so_to_its_partner(club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    draft, paused = await club.perk(partner, state=PerkState.DRAFT), await club.perk(partner, state=PerkState.PAUSED)
    assert codes(await club.decision(member, draft)) == ["NOT_STARTED"]
    assert codes(await club.decision(member, paused)) == ["PERK_PAUSED"]
    await club.sql("UPDATE partner SET state = 'SUSPENDED' WHERE id = $1", partner.id)
    await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", member.id)
    assert codes(await club.decision(member, paused)) == ["MEMBERSHIP_SUSPENDED", "PARTNER_SUSPENDED", "PERK_PAUSED"]


async def test_a_consent_counts_until_the_instant_it_ends(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member()
    ends = club.now + timedelta(hours=1)
    alias = await club.consent(member, partner, expires_at=ends)

    async def asked(now: datetime) -> Decision:
        return await answer(
            club, Question(MemberRef(alias=alias), PerkRef(id=perk.id), now, Asker(partner.id, "eligibility:read"))
        )

    before = await asked(ends - TICK)
    assert (before.eligible, before.valid_until) == (True, ends)
    assert codes(await asked(ends)) == ["NOT_A_MEMBER"]
    assert codes(await club.decision(member, perk, now=ends)) == ["CONSENT_MISSING"]
    await club.consent(member, partner)
    assert (await asked(ends)).eligible


async def test_a_tier_counts_until_the_instant_it_ends(club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "tier_at_least", "tier": "gold"}])
    member = await club.member(club.partners[perk.partner_id], tier="silver")
    ends = club.now + timedelta(hours=1)
    assert codes(await club.decision(member, perk)) == ["TIER_TOO_LOW"]
    await club.assign(member, "gold", ends_at=ends)
    before = await club.decision(member, perk, now=ends - TICK)
    assert (before.eligible, before.valid_until) == (True, ends)
    assert codes(await club.decision(member, perk, now=ends)) == ["TIER_EXPIRED"]
    assert codes(await club.decision(await club.member(tier=None), perk)) == ["CONSENT_MISSING", "TIER_TOO_LOW"]


async def test_the_tier_given_last_is_in_force_even_at_one_instant_or_by_a_slower_clock(club: Club) -> None:
    member = await club.member(tier="silver")
    perk = await club.perk()
    for tier, at in (("black", club.now + TICK), ("gold", club.now), ("silver", club.now), ("black", club.now)):
        await club.assign(member, tier, now=at)
        # Made by another process, whose ids may sort before ours.
        await club.sql(
            "UPDATE tier_assignment SET id = gen_random_uuid() WHERE member_id = $1 AND ends_at IS NULL", member.id
        )
        known = await club.known(member, perk, now=club.now + timedelta(seconds=1))
        assert known.member is not None
        assert (known.member.tier, known.member.tier_lapsed) == (tier, False)
        async with club.database.sessions() as session:
            view = await members.view_member(
                session, MemberRef(id=member.id), asker=None, now=club.now + timedelta(seconds=1)
            )
        assert view is not None
        assert view.tier == tier


async def test_what_is_used_is_counted_by_period_and_perk(club: Club) -> None:
    rule = {"kind": "allowance", "period": "DAY", "otherwise": 3}
    perk, other = await club.perk(rules=[rule], units=9, time_zone="Pacific/Kiritimati"), await club.perk(rules=[rule])
    member = await club.member(club.partners[perk.partner_id], club.partners[other.partner_id])
    for _ in range(2):
        await club.hold(member, perk)
    await club.redeemed(await club.hold(member, other))
    allowances = [(await club.decision(member, one)).allowance for one in (perk, other)]
    assert [left and (left.limit, left.used, left.remaining) for left in allowances] == [(3, 2, 1), (3, 1, 2)]
    decision = await club.decision(member, perk)
    assert decision.capacity_remaining == 7
    assert allowances[0] is not None
    assert decision.valid_until == allowances[0].resets_at
    assert (await club.decision(member, other)).capacity_remaining is None


async def test_one_batch_may_span_two_days(club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "allowance", "period": "DAY", "otherwise": 1}])
    member = await club.member(club.partners[perk.partner_id])
    midnight = club.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    await club.hold(member, perk, now=midnight - TICK)
    reference = (MemberRef(id=member.id), PerkRef(id=perk.id))
    before, after = await ask(club, Question(*reference, midnight - TICK), Question(*reference, midnight))
    assert before is not None
    assert after is not None
    assert codes(decide(before, club.programme.ranks, midnight - TICK)) == ["ALLOWANCE_EXHAUSTED"]
    assert decide(after, club.programme.ranks, midnight).eligible


@pytest.mark.parametrize(
    ("kind", "reference", "allowed"),
    [
        (ActorKind.PARTNER, MemberRef(alias="a"), True),
        (ActorKind.PARTNER, MemberRef(id=uuid4()), False),
        (ActorKind.PARTNER, MemberRef(external_id="e"), False),
        (ActorKind.PARTNER, None, False),
        (ActorKind.STAFF, MemberRef(id=uuid4()), True),
        (ActorKind.STAFF, MemberRef(external_id="e"), True),
        (ActorKind.STAFF, MemberRef(alias="a"), False),
        (ActorKind.STAFF, None, False),
    ],
)
def test_everybody_names_members_in_a_way_of_their_own(
    kind: ActorKind, reference: MemberRef | None, allowed: bool
) -> None:
    actor = Actor(kind, "someone", partner_id=uuid4() if kind is ActorKind.PARTNER else None)
    if allowed:
        assert reachable_member(actor, reference) == reference
    else:
        with pytest.raises(BadInput):
            reachable_member(actor, reference)


@pytest.mark.parametrize("name", ["a\x00", "\ud800", "a\nb"])
def test_a_name_that_the_database_would_choke_on_never_reaches_it(name: str) -> None:
    with pytest.raises(BadInput):
        MemberRef(alias=name)
    with pytest.raises(BadInput):
        MemberRef(external_id=name)
    with pytest.raises(BadInput):
        PerkRef(handle=name)


@pytest.mark.parametrize("kind", [ActorKind.PARTNER, ActorKind.MEMBER])
def test_an_actor_without_a_bound_is_not_made(kind: ActorKind) -> None:
    with pytest.raises(ValueError, match="would reach everything"):
        Actor(kind, "someone")


async def test_a_member_speaks_for_herself_alone(club: Club) -> None:
    member, other = await club.member(), await club.member()
    actor = member_actor(member)
    assert reachable_member(actor, None) == reachable_member(actor, MemberRef(id=member.id)) == MemberRef(id=member.id)
    for reference in (MemberRef(id=other.id), MemberRef(external_id=member.external_id), MemberRef(alias="a")):
        with pytest.raises(BadInput):
            reachable_member(actor, reference)


async def test_a_view_shows_the_alias_of_its_own_partner_alone(club: Club) -> None:
    partners = [await club.partner(), await club.partner()]
    member = await club.member()
    aliases = [await club.consent(member, partner) for partner in partners]
    assert aliases[0] != aliases[1]
    async with club.database.sessions() as session:
        askers = [Asker(partner.id, "redemptions:read") for partner in partners]
        for asker, alias in [(askers[0], aliases[0]), (askers[1], aliases[1]), (None, None)]:
            seen = await members.view_members(session, [member.id], asker=asker, now=club.now)
            assert seen[member.id].alias == alias
