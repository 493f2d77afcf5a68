"""What an erasure, or staff, do at several partners in one moment tells two that lay it side by side no moment (law 8).

Everything is read after it: holds, redemptions and their reversals, requests and their clocks, rights, waits, proofs,
exports, and what webhooks would tell.
"""

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from auth.erasure import erase_member
from partners import tables
from partners.export_rows import Source
from partners.exports import Ask, Wanted, request_export
from partners.reading import day_of
from partners.references import MemberRef
from partners.tables import ExportFormat, ExportKind, PerkKind
from partners.webhooks.events import IS_STAGGERED, TOLD_AT
from tests.api import Api, Voice
from tests.asking import opened, quoted, step
from tests.factories import STAFF, Club, partner_actor
from tests.fulfilling import Statements, a_sample, redeemed

MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?")
LATER = timedelta(minutes=10)
REVERSAL = "id reversedAt leafHash"
NODE = f"""query($id: ID!) {{ node(id: $id) {{ id
  ... on Hold {{ holdState: state heldAt endedAt leafHash }}
  ... on Redemption {{ confirmedAt leafHash reversal {{ {REVERSAL} }} reversals {{ {REVERSAL} }} }}
  ... on Reversal {{ reversedAt reversalLeafHash: leafHash }}
  ... on ServiceRequest {{ state submittedAt endedAt messages {{ nodes {{ at text }} }}
    clocks {{ answerDueAt answeredAt solveDueAt solvedAt }} redemption {{ id reversal {{ {REVERSAL} }} }} }}
  ... on AccessGrant {{ accessState: state endedAt endedReason }}
  ... on WaitlistEntry {{ waitState: state joinedAt endedAt }} }} }}"""
PROOF = "query($id: ID!) { auditProof(redemptionId: $id) { index } }"


def moments(told: Any) -> list[datetime]:
    """Every instant in an answer."""
    return [datetime.fromisoformat(f"{found}+00:00") for found in MOMENT.findall(str(told))]


async def a_life(club: Club, api: Api) -> tuple[tables.Member, tables.Partner, list[str]]:
    """A member with something of each kind at one partner; the API's ids of it."""
    counter = await opened(club, api, answer_within_seconds=3_600, solve_within_seconds=90_000)
    asked = (await counter.submit(amount=4_000))["serviceRequest"]
    offer = await quoted(counter, asked)
    approved = await step(counter.me, "approveServiceRequest", "ServiceRequestInput", offer)
    assert approved["serviceRequest"]["state"] == "APPROVED"
    open_ = (await counter.submit(amount=1_000))["serviceRequest"]
    asks = {"text": "Which day?", "asks": True}
    said = "mutation($input: AddServiceMessageInput!) { addServiceMessage(input: $input) { userErrors { code } } }"
    await counter.brand(said, input={"request": open_["id"], "revision": open_["revision"], "message": asks})
    partner, member = counter.partner, counter.member
    hold = await club.hold(member, await club.perk(partner))
    right = await redeemed(club, await club.perk(partner, kind=PerkKind.ACCESS), member=member)
    [grant] = await club.sql("SELECT id FROM access_grant WHERE redemption_id = $1", right.id)
    made = approved["serviceRequest"]["redemption"]["id"]
    return member, partner, [asked["id"], open_["id"], made, f"hold_{hold.id.hex}", f"access_{grant['id'].hex}"]


async def read(voice: Voice, ids: list[str]) -> list[Any]:
    """What a partner reads of them; its own reversals, too."""
    told = [(await voice(NODE, id=id)).data["node"] for id in ids]
    assert all(told)
    return told


async def erased_at(club: Club, member: tables.Member) -> datetime:
    """A moment that is none of anything else."""
    database, now = club.database, club.now + LATER
    await erase_member(database.sessions.begin, database.connection, MemberRef(id=member.id), STAFF, now)
    return now


async def exported(club: Club, partner: tables.Partner, now: datetime) -> Any:
    """The rows of a partner's export of its redemptions."""
    wanted = Wanted(partner_id=partner.id, last=UUID(int=2**128 - 1), tiers=True)
    source = Source(ExportKind.REDEMPTIONS, wanted, partner.id)
    async with club.database.connection() as connection:
        return [
            dict(zip(source.columns, row, strict=True)) for row in (await source.read(connection, None, now)).rows()
        ]


async def test_the_moment_of_an_erasure_is_nowhere_in_what_a_partner_reads_after_it(club: Club, api: Api) -> None:
    member, partner, ids = await a_life(club, api)
    voice = api.partner(partner)
    moment = await erased_at(club, member)
    [made] = await club.sql("SELECT id FROM reversal WHERE reversed_at = $1", moment)
    reversal = f"reversal_{made['id'].hex}"
    told = await read(voice, [*ids, reversal])
    near = [at for at in moments(told) if abs(at - moment) < timedelta(minutes=5) and at != day_of(moment)]
    assert near == []
    assert {state for one in told for name, state in one.items() if name.lower().endswith("state")} == {
        "CANCELLED",
        "RELEASED",
        "REVOKED",
    }
    assert "MEMBER_ERASED" not in str(told)
    assert told[-1]["reversalLeafHash"] is None
    assert made["id"].version == 4  # others begin with their time
    assert (await voice(PROOF, id=reversal)).data["auditProof"] is None
    [row] = [one for one in await exported(club, partner, moment) if one["reversals"]]
    assert (row["reversed_at"], row["reversal_leaf_hash"]) == (
        day_of(moment),
        None,
    )
    assert row["leaf_hash"] is not None


async def test_webhooks_tell_nothing_of_an_erasure_at_its_moment(club: Club, api: Api) -> None:
    member, partner, _ = await a_life(club, api)
    moment = await erased_at(club, member)
    rows = await club.sql(
        f"SELECT action, {IS_STAGGERED} AS staggered FROM audit_entry e"
        " WHERE at = $1 AND partner_id = $2 AND outcome = 'DONE'",
        moment,
        partner.id,
    )
    told = {row["action"]: row["staggered"] for row in rows}
    assert told.keys() >= {"redemption.reversed", "hold.released", "access.revoked", "service.cancelled"}
    assert told.keys() >= {"consent.withdrawn"}
    assert set(told.values()) == {True}


async def test_what_a_partner_reverses_itself_it_reads_to_the_moment_with_its_proof(club: Club, api: Api) -> None:
    one = await a_sample(club)
    await club.reverse(one.id, partner_actor(one.partner))
    [told] = await read(api.partner(one.partner), [f"redemption_{one.id.hex}"])
    assert moments(told["reversal"]["reversedAt"]) == [club.now]
    assert len(told["reversal"]["leafHash"]) == 64
    by_staff = await a_sample(club)
    await club.reverse(by_staff.id, STAFF)
    [told] = await read(api.partner(by_staff.partner), [f"redemption_{by_staff.id.hex}"])
    assert (moments(told["reversal"]["reversedAt"])[0].hour, told["reversal"]["leafHash"]) == (0, None)
    seen = (await api.staff()(NODE, id=f"redemption_{by_staff.id.hex}")).data["node"]["reversal"]
    assert moments(seen["reversedAt"]) == [club.now]


DRAFT = "mutation($input: NewServiceRequestInput!) { draftServiceRequest(input: $input) { serviceRequest { id } } }"
CHOOSE = "mutation($input: ChooseDeliveryInput!) { chooseDelivery(input: $input) { userErrors { code } } }"


@pytest.mark.parametrize("what", ["draft", "address"])
async def test_a_token_that_outlives_its_member_writes_nothing_about_it(club: Club, api: Api, what: str) -> None:
    counter = await opened(club, api)
    one = await redeemed(club, (await a_sample(club)).perk, member=counter.member)
    me = counter.me
    await erased_at(club, counter.member)
    if what == "draft":
        new = {
            "perk": {"id": f"perk_{counter.perk.id.hex}"},
            "form": {"guests": [{"name": "Ada"}], "day": "2026-12-24"},
        }
        answer = await me(DRAFT, input=new | {"idempotencyKey": uuid4().hex})
        assert answer.code == "NOT_FOUND"
        assert await club.sql("SELECT 1 FROM service_request WHERE member_id = $1", counter.member.id) == []
    else:
        home = {"name": "Ada", "lines": ["Weg 1"], "postalCode": "8001", "city": "Zürich", "countryCode": "CH"}
        answer = await me(
            CHOOSE, input={"redemption": f"redemption_{one.id.hex}", "method": "SHIPPING", "address": home}
        )
        assert answer.code == "NOT_FOUND"
        assert await club.sql("SELECT 1 FROM fulfilment WHERE redemption_id = $1", one.id) == []


async def test_what_is_told_late_has_not_even_the_fraction_of_a_second_in_common(club: Club) -> None:
    partners = [await club.partner() for _ in range(8)]
    member = await club.member(*partners)
    moment = await erased_at(club, member)
    told_at = TOLD_AT.format(key="$2::bytea")
    statement = f"SELECT {told_at} AS at FROM audit_entry e WHERE e.at = $1 AND e.action = 'consent.withdrawn'"
    theirs = f"{statement} AND e.partner_id = ANY ($3)"
    told = [row["at"] for row in await club.sql(theirs, moment, b"k" * 32, [one.id for one in partners])]
    assert len(told) == len({at.microsecond for at in told} - {moment.microsecond}) == 8
    assert all(timedelta(0) <= at - moment < timedelta(days=1) for at in told)


async def test_all_that_ends_with_a_member_at_a_partner_is_told_late_by_one_draw(club: Club) -> None:
    """Of many draws the least comes near the moment, since what comes first is never told after what comes next."""
    partners = [await club.partner() for _ in range(3)]
    member = await club.member(*partners)
    for partner in partners:
        for _ in range(5):
            await club.hold(member, await club.perk(partner))
    moment = await erased_at(club, member)
    told_at = TOLD_AT.format(key="$2::bytea")
    statement = f"SELECT {told_at} AS at FROM audit_entry e WHERE e.at = $1 AND e.partner_id = $3"
    told = [[row["at"] for row in await club.sql(statement, moment, b"k" * 32, one.id)] for one in partners]
    assert [(len(own), len(set(own))) for own in told] == [(6, 1)] * 3
    assert len({own[0] for own in told}) == 3


ASKED = {
    "proof of a redemption": (PROOF, "redemption"),
    "proof of a reversal": (PROOF, "reversal"),
    "proof of a hold": (PROOF, "hold"),
    "export": ("query($id: ID!) { export(id: $id) { id } }", "export"),
    "node": ("query($id: ID!) { node(id: $id) { id } }", "reversal"),
    "endpoint": ("query($id: ID!) { webhookEndpoint(id: $id) { id } }", "endpoint"),
    "messages": (
        "query($id: ID!) { webhookMessages(endpoint: $id) { nodes { eventId deliveries { id } } } }",
        "endpoint",
    ),
    "deliveries": ("query($id: ID!) { webhookDeliveries(endpoint: $id) { nodes { id } } }", "endpoint"),
    "replay": (
        "mutation($id: ID!) { replayWebhookMessages(input: {endpoint: $id, messages: {parked: true}}) { count } }",
        "endpoint",
    ),
    "resend": (
        'mutation($id: ID!) { resendWebhookMessage(input: {endpoint: $id, eventId: "evt_'
        + "0" * 32
        + '"}) { count } }',
        "endpoint",
    ),
    "cancel": ("mutation($id: ID!) { cancelExport(input: {export: $id}) { export { id } } }", "export"),
}


async def others_rows(club: Club) -> dict[str, str]:
    """One row of each kind of another partner's."""
    one = await a_sample(club)
    await club.reverse(one.id, partner_actor(one.partner))
    [reversal] = await club.sql("SELECT id FROM reversal WHERE redemption_id = $1", one.id)
    async with club.database.sessions.begin() as session:
        ask = Ask(ExportKind.REDEMPTIONS, ExportFormat.CSV, Wanted())
        export, _ = await request_export(session, ask, actor=partner_actor(one.partner), now=club.now)
        assert export is not None
        endpoint = tables.WebhookEndpoint(
            partner_id=one.partner.id,
            url="https://a.example/",
            actions=[],
            since=0,
            created_at=club.now,
            created_by="x",
        )
        session.add(endpoint)
    rows = {"redemption": one.id, "hold": one.hold_id, "reversal": reversal["id"]}
    return {kind: f"{kind}_{id.hex}" for kind, id in (rows | {"export": export.id, "endpoint": endpoint.id}).items()}


async def test_anothers_rows_and_none_are_told_alike_after_as_many_statements(club: Club, api: Api) -> None:
    rows, voice = await others_rows(club), api.partner(await club.partner())
    for name, (query, kind) in ASKED.items():
        told = []
        for id in (rows[kind], f"{kind}_{uuid4().hex}"):
            with Statements(api.service.database) as statements:
                answer = (await voice(query, id=id)).body
            for error in answer.get("errors", ()):
                error["extensions"].pop("requestId")
            told.append((answer, list(statements)))
        assert told[0] == told[1], name
