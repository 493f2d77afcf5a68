"""A brand is sold: the buyer carries members over, one by one, and learns nothing of anybody else."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from auth.caller import CallerKind
from auth.clients import register_client
from auth.tables import Approval
from partners import tables
from partners.actors import SYSTEM
from partners.errors import NotFound
from partners.members import pairwise_alias
from partners.transfers import WINDOW, move_member, open_transfer
from tests.api import Answer, Api
from tests.factories import Club

SELL = """
mutation($input: TransferPartnerInput!) {
  transferPartner(input: $input) { transfer { id from { handle } to { handle } reason createdAt endsAt } }
}
"""
MOVE = "mutation($input: TransferMemberInput!) { transferMember(input: $input) { alias } }"
MINE = "{ consents { partner { handle } purpose } }"
ENTRIES = "query($filter: AuditFilter) { auditEntries(filter: $filter) { nodes { action partnerId reasons } } }"


def names(seller: tables.Partner, buyer: tables.Partner, **given: Any) -> dict[str, Any]:
    """The input of a sale."""
    return {"from": {"handle": seller.handle}, "to": {"handle": buyer.handle}, "reason": "sold"} | given


async def sale(api: Api, club: Club) -> tuple[tables.Partner, tables.Partner]:
    """A seller and its buyer, with an open window."""
    seller, buyer = await club.partner(), await club.partner()
    assert (await api.staff("partners:admin")(SELL, input=names(seller, buyer))).status == 200
    return seller, buyer


async def consents(club: Club, member: tables.Member) -> list[dict[str, Any]]:
    """All that a member ever agreed to, oldest first."""
    rows = await club.sql("SELECT * FROM consent WHERE member_id = $1 ORDER BY id", member.id)
    return [dict(row) for row in rows]


async def test_a_member_is_carried_over_with_scopes_purpose_and_end(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member()
    former = await club.consent(member, seller, expires_at=club.now + timedelta(days=30))
    await club.sql("UPDATE consent SET scopes = '{eligibility:read}', purpose = 'x' WHERE member_id = $1", member.id)
    alias = (await api.partner(buyer, "links:write")(MOVE, input={"alias": former})).data["transferMember"]["alias"]
    assert alias == pairwise_alias(club.keys.pairwise, buyer.id, member.id) != former
    [old, new] = await consents(club, member)
    assert (old["state"], old["withdrawn_at"]) == ("WITHDRAWN", club.now)
    assert (new["state"], new["partner_id"], new["moved_from"]) == ("GRANTED", buyer.id, old["id"])
    assert all(new[name] == old[name] for name in ("scopes", "purpose", "expires_at", "granted_at"))
    mine = (await api.member(member)(MINE)).data["consents"]
    assert mine == [{"partner": {"handle": buyer.handle}, "purpose": "x"}]
    found = (await api.staff()(ENTRIES, filter={"member": f"member_{member.id.hex}", "action": "consent.moved"})).data
    told = {(one["action"], one["partnerId"]) for one in found["auditEntries"]["nodes"]}
    assert told == {("consent.moved", f"partner_{one.id.hex}") for one in (seller, buyer)}


async def test_what_the_seller_had_of_the_member_ends(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member(seller)
    perk = await club.perk(seller)
    former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
    [consent] = await consents(club, member)
    approval = Approval(
        client_id=await a_client(club, seller),
        kind=CallerKind.PARTNER,
        subject=str(member.id),
        partner_id=seller.id,
        member_id=member.id,
        consent_id=consent["id"],
        scopes=["eligibility:read"],
        created_at=club.now,
        expires_at=club.now + timedelta(days=1),
    )
    async with club.database.sessions.begin() as session:
        session.add(approval)
    assert (await api.partner(buyer)(MOVE, input={"alias": former})).status == 200
    [row] = await club.sql("SELECT state, reason FROM approval WHERE id = $1", approval.id)
    assert (row["state"], row["reason"]) == ("REVOKED", "CONSENT_MOVED")
    assert len(await club.sql("SELECT 1 FROM revocation WHERE key = $1", str(approval.id))) == 1
    query = "query($m: MemberBy!, $p: PerkBy!) { eligibility(member: $m, perk: $p) { refusals { code } } }"
    asked = await api.partner(seller)(query, m={"alias": former}, p={"handle": perk.handle})
    assert asked.data["eligibility"]["refusals"] == [{"code": "NOT_A_MEMBER"}]


async def a_client(club: Club, partner: tables.Partner) -> str:
    """The id of a client of the partner."""
    async with club.database.sessions.begin() as session:
        client, _ = await register_client(session, partner, "server", ["eligibility:read"], club.now)
    return client.id


async def test_all_that_can_not_be_carried_over_is_one_answer(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    other_seller, other_buyer = await sale(api, club)
    stranger = await club.partner()
    withdrawn, expired = await club.member(), await club.member()
    aliases = {
        "unknown": "a" * 26,
        "empty": "",
        "no alias at all": "x" * 5000,
        "withdrawn": await club.consent(withdrawn, seller),
        "expired": await club.consent(expired, seller, expires_at=club.now + timedelta(days=1)),
        "sold to another": await club.consent(await club.member(), other_seller),
        "not sold": await club.consent(await club.member(), stranger),
        "the buyer's own": await club.consent(await club.member(), buyer),
    }
    await club.withdraw(withdrawn, seller)
    await club.sql("UPDATE consent SET expires_at = $2 WHERE member_id = $1", expired.id, club.now)
    voice = api.partner(buyer)
    answers = {why: await voice(MOVE, input={"alias": alias}) for why, alias in aliases.items()}
    live = await club.consent(await club.member(), seller)
    answers["the seller itself"] = await api.partner(seller)(MOVE, input={"alias": live})
    answers["another buyer"] = await api.partner(other_buyer)(MOVE, input={"alias": live})
    assert {why: seen_of(answer) for why, answer in answers.items()} == dict.fromkeys(
        answers, ("NOT_FOUND", "no such member", 200)
    )
    assert (await voice(MOVE, input={"alias": live})).status == 200


def seen_of(answer: Answer) -> tuple[str, str, int]:
    """What a caller can tell of an error."""
    assert answer.body["data"] is None
    return answer.code, answer.error["message"], answer.status


async def test_the_window_closes_after_sixty_days(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    aliases = [await club.consent(await club.member(), seller) for _ in range(2)]
    early, late = club.now + WINDOW - timedelta(seconds=1), club.now + WINDOW

    async def move(alias: str, now: Any) -> str:
        async with club.database.sessions.begin() as session:
            key = club.keys.pairwise
            moved = await move_member(
                session, alias, buyer.id, client_id="till", pairwise_key=key, actor=SYSTEM, now=now
            )
        return moved.alias

    assert await move(aliases[0], early)
    for alias in aliases:
        with pytest.raises(NotFound):
            await move(alias, late)


async def test_asking_again_gives_the_same_alias_until_the_member_withdraws(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member(seller)
    former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
    voice = api.partner(buyer)
    aliases = {(await voice(MOVE, input={"alias": former})).data["transferMember"]["alias"] for _ in range(3)}
    assert len(aliases) == 1
    assert len(await consents(club, member)) == 2
    await club.withdraw(member, buyer)
    assert (await voice(MOVE, input={"alias": former})).code == "NOT_FOUND"


async def test_the_member_sees_who_was_told(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member(seller)
    former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
    for _ in range(2):
        await api.partner(buyer, name="moving")(MOVE, input={"alias": former})
    rows = await club.sql("SELECT partner_id, client_id, kind FROM disclosure WHERE member_id = $1", member.id)
    assert [tuple(row) for row in rows] == [(buyer.id, f"client_moving_{buyer.handle}", "MEMBERSHIP")] * 2
    await club.withdraw(member, buyer)
    await api.partner(buyer)(MOVE, input={"alias": former})
    assert len(await club.sql("SELECT 1 FROM disclosure WHERE member_id = $1", member.id)) == 2


async def test_fifty_at_once_move_one_consent(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member(seller)
    former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
    voice = api.partner(buyer)
    answers = await club.at_once(
        f"member WHERE id = '{member.id}'", [voice(MOVE, input={"alias": former}) for _ in range(50)]
    )
    assert len({answer.data["transferMember"]["alias"] for answer in answers}) == 1
    assert [one["state"] for one in await consents(club, member)] == ["WITHDRAWN", "GRANTED"]
    query = "SELECT count(*) FROM audit_entry WHERE action = 'consent.moved' AND member_id = $1"
    assert (await club.sql(query, member.id))[0]["count"] == 2


async def test_a_move_that_meets_a_withdrawal_finds_nothing_or_is_withdrawn_with_it(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    for _ in range(5):
        member = await club.member(seller)
        former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
        withdraw = """
        mutation($p: PartnerBy!) { withdrawConsent(input: {partner: $p}) { consent { state } } }
        """
        moved, withdrawn = await asyncio.gather(
            api.partner(buyer)(MOVE, input={"alias": former}),
            api.member(member)(withdraw, p={"handle": seller.handle}),
        )
        happened = ["errors" not in moved.body, "errors" not in withdrawn.body]
        assert sorted(happened) == [False, True]


async def test_a_consent_that_the_buyer_has_already_is_not_widened(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member(seller)
    own = await club.consent(member, buyer)
    await club.sql(
        "UPDATE consent SET scopes = '{eligibility:read}' WHERE member_id = $1 AND partner_id = $2", member.id, buyer.id
    )
    former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
    for _ in range(2):
        answer = await api.partner(buyer)(MOVE, input={"alias": former})
        assert answer.data["transferMember"]["alias"] == own
    [sold, kept, written] = await consents(club, member)
    assert (sold["state"], kept["state"], written["state"]) == ("WITHDRAWN", "GRANTED", "WITHDRAWN")
    assert (kept["scopes"], written["moved_from"]) == (["eligibility:read"], sold["id"])


async def test_an_expired_consent_of_the_buyer_makes_room(api: Api, club: Club) -> None:
    seller, buyer = await sale(api, club)
    member = await club.member(seller, buyer)
    await club.sql(
        "UPDATE consent SET expires_at = $3 WHERE member_id = $1 AND partner_id = $2", member.id, buyer.id, club.now
    )
    former = pairwise_alias(club.keys.pairwise, seller.id, member.id)
    assert (await api.partner(buyer)(MOVE, input={"alias": former})).status == 200
    assert [one["state"] for one in await consents(club, member)] == ["WITHDRAWN", "WITHDRAWN", "GRANTED"]


async def test_staff_open_one_window_for_one_buyer(api: Api, club: Club) -> None:
    seller, buyer, third = [await club.partner() for _ in range(3)]
    staff = api.staff("partners:admin")
    answers = await asyncio.gather(*(staff(SELL, input=names(seller, buyer)) for _ in range(10)))
    opened = [answer.data["transferPartner"]["transfer"] for answer in answers]
    assert len({one["id"] for one in opened}) == 1
    assert (opened[0]["from"], opened[0]["to"]) == ({"handle": seller.handle}, {"handle": buyer.handle})
    again = (await staff(SELL, input=names(seller, buyer, reason="said again"))).data["transferPartner"]["transfer"]
    assert again == opened[0]
    assert (await staff(SELL, input=names(seller, third))).code == "CONFLICT"
    wrong = [names(seller, seller), names(third, buyer, reason=" "), names(third, buyer, reason="a\nb")]
    assert [(await staff(SELL, input=one)).code for one in wrong] == ["BAD_INPUT"] * 3
    assert (await staff(SELL, input=names(seller, buyer) | {"to": {"handle": "nobody"}})).code == "NOT_FOUND"
    assert (await api.partner(buyer)(SELL, input=names(seller, buyer))).code == "FORBIDDEN"
    assert (await api.partner(buyer, "perks:read")(MOVE, input={"alias": "a"})).code == "INSUFFICIENT_SCOPE"
    subject = f"transfer_{UUID(opened[0]['id'][9:]).hex}"
    found = (await api.staff()(ENTRIES, filter={"subject": subject})).data["auditEntries"]["nodes"]
    assert {one["partnerId"] for one in found} == {f"partner_{one.id.hex}" for one in (seller, buyer)}
    async with club.database.sessions.begin() as session:
        later = await open_transfer(session, seller, third, reason="again", actor=SYSTEM, now=club.now + WINDOW)
    assert later.ends_at == club.now + 2 * WINDOW
