"""Who asked about me: one row for each answer that a partner was given, there before the answer is."""

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from auth.caller import CallerKind
from auth.clients import register_client
from auth.scopes import scopes_of
from gateway import embedded
from gateway.database import open_database
from partners import tables
from partners.keys import Keys
from partners.programme import Programme
from tests.api import Api
from tests.benchmarks.processes import free_port, gateway_command, own_environment
from tests.factories import Club

CHECK = "query($by: MemberBy!, $perk: PerkBy!) { eligibility(member: $by, perk: $perk) { eligible } }"
CHECKS = "query($checks: [EligibilityCheckInput!]!) { eligibilities(checks: $checks) { decision { eligible } } }"
MEMBER = "query($by: MemberBy!) { member(by: $by) { alias } }"
NODE = "query($id: ID!) { node(id: $id) { id } }"
PERKS = "query($by: MemberBy!) { perks(member: $by) { nodes { eligibility { eligible } } } }"
CLAIM = """
mutation($by: MemberBy!, $perk: PerkBy!, $key: String!) {
  claimPerk(input: {member: $by, perk: $perk, idempotencyKey: $key}) { userErrors { code } } }
"""
REDEMPTIONS = "query($by: MemberBy) { redemptions(filter: {member: $by}) { nodes { id } } }"
SHOWN = "{ redemptions { nodes { id member { alias } } } }"
LISTED = """
query($member: MemberBy, $first: Int, $after: String) {
  disclosures(member: $member, first: $first, after: $after) {
    totalCount pageInfo { hasNextPage endCursor }
    nodes { at kind clientName perkHandle perkTitle partner { handle } } } }
"""


async def told(club: Club, *people: tables.Member) -> list[tuple[str, Any]]:
    """Kind and perk of every disclosure about these members, oldest first."""
    rows = await club.sql(
        "SELECT kind, perk_id FROM disclosure WHERE member_id = ANY ($1) ORDER BY id", [one.id for one in people]
    )
    return [(row["kind"], row["perk_id"]) for row in rows]


async def test_each_answer_is_one_row_of_its_kind(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    voice, about, one = api.partner(partner), {"by": {"alias": alias}}, {"perk": {"handle": perk.handle}}
    await club.perk(partner)
    await voice(CHECK, **about, **one)
    await voice(MEMBER, **about)
    await voice(NODE, id=f"alias_{alias}")
    await voice(PERKS, **about)
    await voice(CLAIM, **about, **one, key="k")
    assert await told(club, member) == [
        ("ELIGIBILITY", perk.id),
        ("MEMBERSHIP", None),
        ("MEMBERSHIP", None),
        ("CATALOGUE", None),
        ("ELIGIBILITY", perk.id),
    ]
    [row] = await club.sql("SELECT DISTINCT partner_id, client_id, at FROM disclosure WHERE member_id = $1", member.id)
    assert (row["partner_id"], row["client_id"], row["at"]) == (partner.id, f"client_client_{partner.handle}", club.now)


async def test_a_bulk_check_is_one_row_for_each_question_that_was_answered(api: Api, club: Club) -> None:
    partner = await club.partner()
    perks = [await club.perk(partner) for _ in range(2)]
    members = [await club.member() for _ in range(2)]
    one, other = [await club.consent(member, partner) for member in members]
    await club.withdraw(members[1], partner)
    checks = [
        {"member": {"alias": one}, "perk": {"handle": perks[0].handle}},
        {"member": {"alias": other}, "perk": {"handle": perks[0].handle}},
        {"member": {"alias": "a" * 26}, "perk": {"handle": perks[0].handle}},
        {"member": {"alias": one}, "perk": {"handle": "no/such"}},
        {"member": {"id": f"member_{members[0].id.hex}"}, "perk": {"handle": perks[0].handle}},
        {"member": {"alias": one}, "perk": {"handle": perks[1].handle}},
    ]
    await api.partner(partner)(CHECKS, checks=checks)
    assert await told(club, *members) == [("ELIGIBILITY", perks[0].id), ("ELIGIBILITY", perks[1].id)]


async def test_a_hundred_questions_at_once_are_a_hundred_rows_of_the_right_members(api: Api, club: Club) -> None:
    partners = [await club.partner(), await club.partner()]
    perks = [await club.perk(partner) for partner in partners]
    members = [await club.member() for _ in range(10)]
    aliases = {(n, m.id): await club.consent(m, partner) for n, partner in enumerate(partners) for m in members}
    await club.withdraw(members[9], partners[1])
    voices = [api.partner(partner) for partner in partners]
    asked = [(n, member) for n in (0, 1) for member in members for _ in range(5)]
    await asyncio.gather(
        *(
            voices[n](CHECK, by={"alias": aliases[n, member.id]}, perk={"handle": perks[n].handle})
            for n, member in asked
        )
    )
    rows = await club.sql(
        "SELECT member_id, partner_id, perk_id FROM disclosure WHERE partner_id = ANY ($1)",
        [one.id for one in partners],
    )
    expected = Counter(
        (member.id, partners[n].id, perks[n].id) for n, member in asked if (n, member.id) != (1, members[9].id)
    )
    assert Counter((row["member_id"], row["partner_id"], row["perk_id"]) for row in rows) == expected


async def test_a_page_of_redemptions_is_one_row_for_each_member_it_shows(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner) for _ in range(3)]
    for member in (members[0], members[1], members[0], members[2]):
        await club.redeemed(await club.hold(member, perk))
    await club.withdraw(members[2], partner)
    voice, alias = api.partner(partner), await club.consent(members[0], partner)
    await voice("{ redemptions { totalCount nodes { id perk { handle } } } }")
    assert await told(club, *members) == []
    await voice(SHOWN)
    assert [await told(club, member) for member in members] == [[("REDEMPTIONS", None)], [("REDEMPTIONS", None)], []]
    await voice(REDEMPTIONS, by={"alias": alias})
    assert await told(club, members[0]) == [("REDEMPTIONS", None)] * 2
    bound = api.bound(partner, alias)
    page = (await bound(REDEMPTIONS)).data["redemptions"]["nodes"]
    await bound(NODE, id=page[0]["id"])
    assert await told(club, members[0]) == [("REDEMPTIONS", None)] * 4
    assert await told(club, members[1]) == [("REDEMPTIONS", None)]


async def test_nothing_is_kept_where_nothing_was_told(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner, scopes=["redemptions:write"])
    voice, about, one = api.partner(partner), {"by": {"alias": alias}}, {"perk": {"handle": perk.handle}}
    await voice(CHECK, **about, **one)
    await voice(MEMBER, **about)
    await voice(PERKS, **about)
    await voice(CLAIM, **about, **one, key="k")
    await voice(REDEMPTIONS, **about)
    await voice(SHOWN)
    await club.consent(member, partner)
    await voice("query($by: MemberBy!) { perks(member: $by) { nodes { handle } } }", **about)
    await voice(CHECK, **about, perk={"handle": "no/such"})
    assert await told(club, member) == []


async def test_what_members_and_staff_read_themselves_is_no_disclosure(api: Api, club: Club) -> None:
    perk = await club.perk()
    member = await club.member(club.partners[perk.partner_id])
    await api.member(member)(
        "query($perk: PerkBy!) { me { id } eligibility(perk: $perk) { eligible } }", perk={"handle": perk.handle}
    )
    staff = {"by": {"externalId": member.external_id}, "perk": {"handle": perk.handle}}
    await api.staff()(CHECK, **staff)
    await api.staff()(MEMBER, by=staff["by"])
    assert await told(club, member) == []


async def test_a_claim_that_is_judged_again_is_told_once(api: Api, club: Club) -> None:
    perk = await club.perk(units=100)
    partner, member = club.partners[perk.partner_id], await club.member()
    alias, voice = await club.consent(member, partner), api.partner(partner)
    claims = [voice(CLAIM, by={"alias": alias}, perk={"handle": perk.handle}, key=uuid4().hex) for _ in range(20)]
    changes = [club.assign(member, tier) for tier in ("silver", "gold", "black")]
    answers = await asyncio.gather(*claims[:10], *changes, *claims[10:])
    assert sum(answer is not None and answer.status == 200 for answer in answers) == 20
    assert await told(club, member) == [("ELIGIBILITY", perk.id)] * 20


async def a_named_client(club: Club, partner: tables.Partner, name: str) -> str:
    async with club.database.sessions.begin() as session:
        client, _ = await register_client(session, partner, name, scopes_of(CallerKind.PARTNER), club.now)
        return client.id


async def test_the_member_reads_them_newest_first_by_pages_and_so_do_staff(api: Api, club: Club) -> None:
    perk = await club.perk(title="A track day")
    partner, member = club.partners[perk.partner_id], await club.member()
    alias, voice = await club.consent(member, partner), api.partner(partner)
    await voice(MEMBER, by={"alias": alias})
    await voice(PERKS, by={"alias": alias})
    await voice(CHECK, by={"alias": alias}, perk={"handle": perk.handle})
    page = (await api.member(member)(LISTED, first=2)).data["disclosures"]
    assert [node["kind"] for node in page["nodes"]] == ["ELIGIBILITY", "CATALOGUE"]
    assert page["nodes"][0]["perkHandle"] == perk.handle
    assert page["nodes"][0]["perkTitle"] == "A track day"
    assert page["nodes"][0]["partner"] == {"handle": partner.handle}
    assert page["nodes"][1]["perkHandle"] is None
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (3, True)
    rest = (await api.member(member)(LISTED, first=2, after=page["pageInfo"]["endCursor"])).data["disclosures"]
    assert [node["kind"] for node in rest["nodes"]] == ["MEMBERSHIP"]
    assert rest["pageInfo"]["hasNextPage"] is False
    for by in ({"id": f"member_{member.id.hex}"}, {"externalId": member.external_id}):
        assert (await api.staff()(LISTED, member=by)).data["disclosures"]["totalCount"] == 3
    nobody = (await api.staff()(LISTED, member={"externalId": "nobody"})).data["disclosures"]
    assert (nobody["nodes"], nobody["totalCount"]) == ([], 0)


async def test_the_client_is_named_and_a_draft_is_not(api: Api, club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    draft = await club.perk(partner, state=tables.PerkState.DRAFT)
    client_id = await a_named_client(club, partner, "Till 4")
    alias = await club.consent(member, partner)
    await api.partner(partner)(CHECK, by={"alias": alias}, perk={"handle": draft.handle})
    await club.sql("UPDATE disclosure SET client_id = $2 WHERE member_id = $1", member.id, client_id)
    [node] = (await api.member(member)(LISTED)).data["disclosures"]["nodes"]
    assert (node["clientName"], node["perkHandle"], node["perkTitle"]) == ("Till 4", None, None)


async def test_who_may_read_them(api: Api, club: Club) -> None:
    partner = await club.partner()
    member, other = await club.member(partner), await club.member()
    assert (await api.partner(partner)(LISTED)).code == "FORBIDDEN"
    assert (await api.member(member, "me:read")(LISTED)).code == "INSUFFICIENT_SCOPE"
    assert (await api.staff("consents:admin")(LISTED)).code == "INSUFFICIENT_SCOPE"
    assert (await api.member(member)(LISTED, member={"id": f"member_{other.id.hex}"})).code == "BAD_INPUT"
    assert (await api.staff("audit:read")(LISTED)).code == "BAD_INPUT"
    assert (await api.member(member)(LISTED, after="#")).code == "BAD_INPUT"


@pytest.fixture
def start() -> Iterator[Callable[[dict[str, str]], tuple[subprocess.Popen[bytes], int]]]:
    """Starts the service as an operator would; the caller kills it."""
    running: list[subprocess.Popen[bytes]] = []

    def serve(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        running.append(subprocess.Popen([*gateway_command(), str(port)], env=own_environment() | environment))
        return running[-1], port

    yield serve
    for process in running:
        process.kill()
        process.wait()


async def test_the_row_is_there_when_the_service_is_killed_right_after_its_answer(
    new_database: Callable[[], Awaitable[str]],
    servers: embedded.Servers,
    programme: Programme,
    keys: Keys,
    secret: bytes,
    start: Callable[[dict[str, str]], tuple[subprocess.Popen[bytes], int]],
) -> None:
    address = await new_database()
    database = open_database(address, connections=5)
    club = Club(database, programme, keys, datetime.now(UTC))
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    async with database.sessions.begin() as session:
        client, password = await register_client(session, partner, "Till", scopes_of(CallerKind.PARTNER), club.now)
        client_id = client.id
    process, port = start(
        {
            "DATABASE_URL": address,
            "REDIS_URL": str(servers.redis_url),
            "PERKS_SECRET": secret.decode(),
            "PERKS_LOG_LEVEL": "WARNING",
        }
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        await until_ready(http, process)
        grant = {"grant_type": "client_credentials"}
        token = (await http.post("/oauth/token", data=grant, auth=(client_id, password))).json()["access_token"]
        body = {"query": CHECK, "variables": {"by": {"alias": alias}, "perk": {"handle": perk.handle}}}
        answer = await http.post("/graphql", json=body, headers={"authorization": f"Bearer {token}"})
        os.kill(process.pid, 9)
    assert answer.json() == {"data": {"eligibility": {"eligible": True}}}
    process.wait()
    assert await told(club, member) == [("ELIGIBILITY", perk.id)]
    await database.engine.dispose()


async def until_ready(http: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if (await http.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.05)
    raise AssertionError("the service did not start")
