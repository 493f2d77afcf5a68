"""Consent that says what for: kept as it was said, and asked for again in the transaction of a confirmation."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlmodel import col

from auth.approvals import revoke_approvals
from auth.tables import Approval, ApprovalState, Client, Denied
from auth.withdrawal import withdraw_consent
from partners import consents, tables
from partners.actors import SYSTEM
from partners.eligibility import Known, Question, decide, learn
from partners.errors import BadInput
from partners.redemptions import Outcome
from partners.references import Asker, MemberRef, PerkRef
from tests.factories import Club, member_actor

TICK = timedelta(microseconds=1)


async def consent_of(club: Club, member: tables.Member) -> dict[str, object]:
    [row] = await club.sql(
        "SELECT id, scopes, version, purpose, expires_at FROM consent WHERE member_id = $1 AND state = 'GRANTED'",
        member.id,
    )
    return dict(row)


async def asked(club: Club, partner: tables.Partner, alias: str, perk: tables.Perk, scope: str) -> Known:
    question = Question(MemberRef(alias=alias), PerkRef(id=perk.id), club.now, Asker(partner.id, scope))
    async with club.database.connection() as connection:
        [known] = await learn(connection, [question])
    assert known is not None
    return known


async def test_a_consent_without_scopes_named_is_for_all_of_them(club: Club) -> None:
    member, partner = await club.member(), await club.partner()
    await club.consent(member, partner)
    assert (await consent_of(club, member))["scopes"] == sorted(consents.SCOPES)


async def test_granting_again_says_everything_anew_and_counts_up(club: Club) -> None:
    member, partner = await club.member(), await club.partner()
    await club.consent(member, partner)
    first = await consent_of(club, member)
    ends = club.now + timedelta(days=3)
    await club.consent(member, partner, scopes=["eligibility:read", "eligibility:read"], expires_at=ends)
    second = await consent_of(club, member)
    assert (first["version"], second["version"]) == (1, 2)
    assert second["id"] == first["id"]
    assert (second["scopes"], second["expires_at"]) == (["eligibility:read"], ends)


async def test_after_its_end_a_new_consent_begins_at_one(club: Club) -> None:
    member, partner = await club.member(), await club.partner()
    await club.consent(member, partner, expires_at=club.now - timedelta(hours=1))
    async with club.database.sessions.begin() as session:
        await consents.grant_consent(
            session,
            MemberRef(id=member.id),
            partner.id,
            purpose="perks",
            scopes=["holds:write"],
            expires_at=None,
            pairwise_key=club.keys.pairwise,
            actor=SYSTEM,
            now=club.now,
        )
    kept = await consent_of(club, member)
    assert (kept["version"], kept["scopes"]) == (1, ["holds:write"])


@pytest.mark.parametrize("scopes", [["eligibility:read", "perks:write"], ["me:read"], [""], []])
async def test_nobody_consents_to_what_is_no_scope_of_a_member_or_to_nothing(club: Club, scopes: list[str]) -> None:
    member, partner = await club.member(), await club.partner()
    with pytest.raises(BadInput, match="scopes") as refused:
        await club.consent(member, partner, scopes=scopes)
    assert refused.value.details.get("unknownScopes", []) == sorted(set(scopes) - consents.SCOPES.keys())
    assert await club.sql("SELECT FROM consent WHERE member_id = $1", member.id) == []


@pytest.mark.parametrize("scope", sorted(consents.SCOPES))
async def test_a_question_needs_the_scope_that_it_uses_and_no_other(club: Club, scope: str) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner, scopes=[scope])
    for used in consents.SCOPES:
        assert ((await asked(club, partner, alias, perk, used)).member is not None) == (used == scope)


async def test_a_tier_is_told_to_those_who_may_know_it(club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "tier_at_least", "tier": "black"}])
    partner, member = club.partners[perk.partner_id], await club.member(tier="gold")
    for scopes, told in ((["eligibility:read"], None), (["eligibility:read", "member.tier:read"], "gold")):
        alias = await club.consent(member, partner, scopes=scopes)
        known = await asked(club, partner, alias, perk, "eligibility:read")
        [refusal] = decide(known, club.programme.ranks, club.now).refusals
        assert (refusal.code.value, refusal.required, refusal.current) == ("TIER_TOO_LOW", "black", told)


async def test_a_member_can_not_hold_what_its_consent_would_not_let_be_redeemed(club: Club) -> None:
    perk = await club.perk()
    member = await club.member()
    await club.consent(member, club.partners[perk.partner_id], scopes=consents.SCOPES.keys() - {"redemptions:write"})
    assert [one.code.value for one in (await club.decision(member, perk)).refusals] == ["CONSENT_MISSING"]
    await club.consent(member, club.partners[perk.partner_id], scopes=["redemptions:write"])
    assert (await club.claim(member, perk)).outcome == "HELD"


@pytest.mark.parametrize("scope", sorted(consents.SCOPES))
async def test_a_confirmation_needs_consent_to_record_redemptions(club: Club, scope: str) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    hold = await club.hold(member, perk)
    await club.consent(member, partner, scopes=[scope])
    outcome = await club.confirm(hold)
    assert outcome.code == ("CONFIRMED" if scope == "redemptions:write" else "CONSENT_MISSING")


async def test_a_consent_that_ends_between_claim_and_confirmation_stops_it_at_that_instant(club: Club) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    ends = club.now + timedelta(minutes=5)
    await club.consent(member, partner, expires_at=ends)
    hold, other = await club.hold(member, perk), await club.hold(member, perk)
    assert (await club.confirm(hold, now=ends)).code == "CONSENT_MISSING"
    assert (await club.confirm(other, now=ends - TICK)).code == "CONFIRMED"
    done, refused = ("DONE", [f"HOLD:{other.id}"]), ("REFUSED", ["CONSENT_MISSING"])
    assert sorted(await club.entries(perk, "hold.confirmed")) == [done, refused]


async def test_a_confirmation_waits_for_a_withdrawal_that_began_before_it(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    hold = await club.hold(member, perk)
    async with club.database.sessions.begin() as session:
        await consents.withdraw_consent(
            session, MemberRef(id=member.id), partner.id, actor=member_actor(member), now=club.now
        )
        await session.flush()
        confirming = asyncio.create_task(club.confirm(hold))
        done, _ = await asyncio.wait({confirming}, timeout=0.3)
        assert done == set()
    assert (await confirming).code == "CONSENT_MISSING"


async def test_fifty_confirmations_and_a_withdrawal_at_once_are_one_order(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    holds = [await club.hold(member, perk) for _ in range(50)]

    async def withdraw() -> Outcome:
        await club.withdraw(member, partner)
        return Outcome("WITHDRAWN", None)

    answers = await asyncio.gather(withdraw(), *(club.confirm(hold) for hold in holds))
    confirmed = sum(answer.code == "CONFIRMED" for answer in answers)
    assert {answer.code for answer in answers} <= {"WITHDRAWN", "CONFIRMED", "CONSENT_MISSING"}
    [row] = await club.sql("SELECT count(*) AS n FROM redemption WHERE perk_id = $1", perk.id)
    assert row["n"] == confirmed


async def a_client(club: Club, partner: tables.Partner) -> str:
    client = Client(id=f"client_{uuid4().hex}", partner_id=partner.id, name="Till", created_at=club.now)
    async with club.database.sessions.begin() as session:
        session.add(client)
        return client.id


async def approve(club: Club, client_id: str, member: tables.Member, consent_id: UUID) -> UUID:
    approval = Approval(
        client_id=client_id,
        kind="partner",
        subject=str(member.id),
        member_id=member.id,
        consent_id=consent_id,
        scopes=["eligibility:read"],
        created_at=club.now,
        expires_at=club.now + timedelta(days=1),
    )
    async with club.database.sessions.begin() as session:
        session.add(approval)
        return approval.id


async def states(club: Club, ids: list[UUID]) -> list[tuple[str, str | None, datetime | None]]:
    async with club.database.sessions() as session:
        found = [await session.get_one(Approval, id) for id in ids]
    return [(one.state, one.reason, one.revoked_at) for one in found]


async def test_withdrawing_kills_the_tokens_that_hang_from_it_and_no_others(club: Club) -> None:
    one, other = await club.partner(), await club.partner()
    member, stranger = await club.member(one, other), await club.member(one)
    rows = await club.sql(
        "SELECT id, member_id, partner_id FROM consent WHERE member_id = ANY ($1)", [member.id, stranger.id]
    )
    given = {(row["member_id"], row["partner_id"]): row["id"] for row in rows}
    clients = {one.id: await a_client(club, one), other.id: await a_client(club, other)}
    ids = [
        await approve(club, clients[one.id], member, given[member.id, one.id]),
        await approve(club, clients[one.id], member, given[member.id, one.id]),
        await approve(club, clients[other.id], member, given[member.id, other.id]),
        await approve(club, clients[one.id], stranger, given[stranger.id, one.id]),
    ]
    async with club.database.sessions.begin() as session:
        ended = await withdraw_consent(
            session, MemberRef(id=member.id), one.id, actor=member_actor(member), now=club.now
        )
    assert ended.id == given[member.id, one.id]
    dead, alive = (ApprovalState.REVOKED, "CONSENT_WITHDRAWN", club.now), (ApprovalState.ACTIVE, None, None)
    assert await states(club, ids) == [dead, dead, alive, alive]
    denied = await club.sql(
        "SELECT key FROM revocation WHERE kind = $1 AND key = ANY ($2)", Denied.APPROVAL, [str(id) for id in ids]
    )
    assert {row["key"] for row in denied} == {str(id) for id in ids[:2]}


async def test_a_token_revoked_leaves_the_consent_as_it_is(club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    kept = await consent_of(club, member)
    consent_id = kept["id"]
    assert isinstance(consent_id, UUID)
    approval = await approve(club, await a_client(club, partner), member, consent_id)
    async with club.database.sessions.begin() as session:
        assert await revoke_approvals(session, col(Approval.id) == approval, "BY_CLIENT", club.now) == 1
    assert await consent_of(club, member) == kept
