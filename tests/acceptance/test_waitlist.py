"""`joinWaitlist`, `leaveWaitlist`, `waitlistEntries`: waiting for what is not there, as everybody sees it."""

import asyncio
import time
from typing import Any

import pytest
from pydantic import SecretStr

from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from gateway.waitlists import Promoter
from partners import tables
from tests.api import Api, Voice
from tests.conftest import SECRET
from tests.factories import Club
from tests.serving import serving

ENTRY = "id state position units option offers joinedAt endedAt perk { handle } member { alias } hold { id state }"
JOIN = (
    "mutation($input: JoinWaitlistInput!) { joinWaitlist(input: $input) {"
    f" entry {{ {ENTRY} }} userErrors {{ code path }} }} }}"
)
LEAVE = (
    "mutation($entry: ID!) { leaveWaitlist(input: {entry: $entry}) {"
    " entry { state endedAt } userErrors { code path } } }"
)
LIST = (
    "query($filter: WaitlistFilter, $first: Int, $after: String) { waitlistEntries(filter: $filter, first: $first,"
    f" after: $after) {{ totalCount nodes {{ {ENTRY} }} pageInfo {{ hasNextPage endCursor }} }} }}"
)
CLAIM = (
    "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { resumed hold { id fromWaitlist }"
    " userErrors { code ... on CapacityExhausted { waitlistOpen } } } }"
)
CONFIRM = "mutation($input: ConfirmHoldInput!) { confirmHold(input: $input) { redemption { id } userErrors { code } } }"
RELEASE = "mutation($hold: ID!) { releaseHold(input: {hold: $hold}) { userErrors { code } } }"


async def full(club: Club, **given: Any) -> tables.Perk:
    """A perk that is all taken."""
    whole: dict[str, Any] = {"units": 1, "waitlist": {}} | given
    perk = await club.perk(**whole)
    await club.hold(await club.member(club.partners[perk.partner_id]), perk)
    return perk


async def join(voice: Voice, perk: tables.Perk, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await voice(JOIN, input={"perk": {"handle": perk.handle}} | given)).data["joinWaitlist"]
    return found


async def entries(voice: Voice, **variables: Any) -> Any:
    return (await voice(LIST, **variables)).data["waitlistEntries"]


async def test_a_member_waits_and_sees_how_many_are_ahead(api: Api, club: Club) -> None:
    perk = await full(club)
    partner = club.partners[perk.partner_id]
    first, second = await club.member(partner), await club.member(partner)
    await join(api.member(first), perk)
    made = await join(api.member(second), perk)
    assert made["userErrors"] == []
    assert made["entry"]["state"] == "WAITING"
    assert made["entry"]["position"] == 1
    assert made["entry"]["perk"] == {"handle": perk.handle}
    assert (await join(api.member(second), perk))["entry"]["id"] == made["entry"]["id"]
    [seen] = (await entries(api.member(first)))["nodes"]
    assert (seen["position"], seen["hold"]) == (0, None)


async def test_who_is_refused_is_told_whether_it_can_wait(api: Api, club: Club) -> None:
    told = []
    kinds: list[dict[str, Any]] = [{}, {"waitlist": None}]
    for given in kinds:
        perk = await full(club, **given)
        member = await club.member(club.partners[perk.partner_id])
        answer = await api.member(member)(CLAIM, input={"perk": {"handle": perk.handle}, "idempotencyKey": "k"})
        told += answer.data["claimPerk"]["userErrors"]
    assert told == [
        {"code": "CAPACITY_EXHAUSTED", "waitlistOpen": True},
        {"code": "CAPACITY_EXHAUSTED", "waitlistOpen": False},
    ]


async def test_an_offer_is_a_hold_that_the_member_claims_and_the_partner_confirms(api: Api, club: Club) -> None:
    perk = await full(club)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    await join(api.member(member), perk)
    await offered(club, perk)
    [seen] = (await entries(api.member(member), filter={"live": True}))["nodes"]
    assert (seen["state"], seen["position"], seen["offers"]) == ("OFFERED", None, 1)
    claimed = await api.member(member)(CLAIM, input={"perk": {"handle": perk.handle}, "idempotencyKey": "mine"})
    assert claimed.data["claimPerk"] == {
        "resumed": True,
        "hold": {"id": seen["hold"]["id"], "fromWaitlist": True},
        "userErrors": [],
    }
    confirmed = await api.partner(partner)(
        CONFIRM, input={"hold": {"id": seen["hold"]["id"]}, "idempotencyKey": seen["id"]}
    )
    assert confirmed.data["confirmHold"]["userErrors"] == []
    [done] = (await entries(api.member(member), filter={"live": False}))["nodes"]
    assert done["state"] == "ACCEPTED"
    assert done["endedAt"] is not None


async def offered(club: Club, perk: tables.Perk) -> None:
    """What others hold comes back and goes to who is first."""

    release = "SELECT release_hold(id, NULL, NULL, NULL, $2, 'system', 's') FROM hold WHERE perk_id = $1"
    await club.sql(release, perk.id, club.now)
    await Promoter(club.database, club.programme, club.keys, lambda: club.now).promote(perk.id)


async def test_a_partner_waits_for_its_member_by_alias_and_sees_nobody_elses(api: Api, club: Club) -> None:
    perk = await full(club)
    partner, another = club.partners[perk.partner_id], await club.partner()
    member = await club.member(another)
    alias = await club.consent(member, partner)
    voice = api.partner(partner)
    made = await join(voice, perk, member={"alias": alias})
    assert made["entry"]["member"] == {"alias": alias}
    assert (await entries(voice))["totalCount"] == 1
    assert (await entries(api.partner(another)))["nodes"] == []
    assert (await api.partner(another)(LEAVE, entry=made["entry"]["id"])).data["leaveWaitlist"] == {
        "entry": None,
        "userErrors": [{"code": "NOT_AVAILABLE", "path": ["entry"]}],
    }
    node = "query($id: ID!) { node(id: $id) { id } }"
    assert (await api.partner(another)(node, id=made["entry"]["id"])).data["node"] is None
    assert (await voice(node, id=made["entry"]["id"])).data["node"] == {"id": made["entry"]["id"]}
    await club.withdraw(member, partner)
    assert (await entries(voice))["nodes"] == []
    assert (await voice(node, id=made["entry"]["id"])).data["node"] is None


async def test_a_stranger_and_a_member_without_consent_get_one_answer(api: Api, club: Club) -> None:
    perk = await full(club)
    partner, another = club.partners[perk.partner_id], await club.partner()
    elsewhere = await club.consent(await club.member(), another)
    voice = api.partner(partner)
    answers = [await join(voice, perk, member={"alias": alias}) for alias in (elsewhere, "nobody")]
    assert answers == [{"entry": None, "userErrors": [{"code": "NOT_A_MEMBER", "path": ["perk"]}]}] * 2


async def test_a_partner_that_looks_at_its_members_leaves_a_disclosure(api: Api, club: Club) -> None:
    perk = await full(club)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    await join(api.member(member), perk)
    alias = await club.consent(member, partner)
    before = await club.sql("SELECT count(*) AS n FROM disclosure WHERE member_id = $1", member.id)
    assert len((await entries(api.partner(partner), filter={"member": {"alias": alias}}))["nodes"]) == 1
    after = await club.sql("SELECT count(*) AS n FROM disclosure WHERE member_id = $1", member.id)
    assert after[0]["n"] == before[0]["n"] + 1


async def test_leaving_is_told_and_twice_the_same(api: Api, club: Club) -> None:
    perk = await full(club)
    member = await club.member(club.partners[perk.partner_id])
    made = await join(api.member(member), perk)
    for _ in range(2):
        left = (await api.member(member)(LEAVE, entry=made["entry"]["id"])).data["leaveWaitlist"]
        assert left["userErrors"] == []
        assert left["entry"]["state"] == "WITHDRAWN"
    again = await join(api.member(member), perk)
    assert again["entry"]["id"] != made["entry"]["id"]


async def test_staff_sees_all_page_by_page(api: Api, club: Club) -> None:
    perk = await full(club)
    partner = club.partners[perk.partner_id]
    for _ in range(3):
        await join(api.member(await club.member(partner)), perk)
    which = {"perk": f"perk_{perk.id.hex}"}
    first = await entries(api.staff(), filter=which, first=2)
    rest = await entries(api.staff(), filter=which, first=2, after=first["pageInfo"]["endCursor"])
    assert [one["position"] for one in first["nodes"] + rest["nodes"]] == [2, 1, 0]
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (3, True, False)
    stranger = await entries(api.staff(), filter=which | {"member": {"externalId": "nobody"}})
    assert (stranger["nodes"], stranger["totalCount"]) == ([], 0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"details": {"units": 0}}, "UNITS_NOT_ALLOWED"),
        ({"details": {"units": 1000}}, "UNITS_NOT_ALLOWED"),
        ({"details": {"units": -1}}, "UNITS_NOT_ALLOWED"),
    ],
)
async def test_a_party_of_none_or_a_thousand_does_not_wait(
    api: Api, club: Club, given: dict[str, Any], expected: str
) -> None:
    perk = await full(club)
    member = await club.member(club.partners[perk.partner_id])
    made = await join(api.member(member), perk, **given)
    assert made["userErrors"][0]["code"] == expected
    assert made["entry"] is None


async def test_what_can_not_be_asked_is_bad_input(api: Api, club: Club) -> None:
    perk = await full(club)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    for given in ({"details": {"option": "blue"}}, {"details": {"amountMinor": 5}}, {"member": {"alias": "x"}}):
        answer = await voice(JOIN, input={"perk": {"handle": perk.handle}} | given)
        assert answer.code == "BAD_INPUT", given
    assert (await voice(LEAVE, entry="perk_" + "0" * 32)).code == "BAD_INPUT"
    assert (await voice(JOIN, input={"perk": {"handle": "no/such"}})).code == "NOT_FOUND"
    gone = await voice(LEAVE, entry="wait_" + "0" * 32)
    assert gone.data["leaveWaitlist"]["userErrors"] == [{"code": "NOT_AVAILABLE", "path": ["entry"]}]


@pytest.fixture
async def worked(servers: embedded.Servers, database: Database) -> Any:
    """The service with its workers, in real time."""
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(SECRET.decode()),
    )
    async with serving(settings, work=True) as served:
        yield served


async def within(seconds: float, voice: Voice, state: str) -> float:
    """How long it took (s) until the caller's newest entry is in a state."""
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        if (await entries(voice))["nodes"][0]["state"] == state:
            return time.monotonic() - started
        await asyncio.sleep(0.005)
    raise AssertionError(f"not {state} after {seconds} s")


async def test_what_comes_back_is_offered_at_once_and_a_withdrawal_ends_a_wait(worked: Api, club: Club) -> None:
    perk = await club.perk(units=1, waitlist={})
    partner = club.partners[perk.partner_id]
    holder, waits, goes = [await club.member(partner) for _ in range(3)]
    claimed = await worked.member(holder)(CLAIM, input={"perk": {"handle": perk.handle}, "idempotencyKey": "k"})
    await join(worked.member(waits), perk)
    await join(worked.member(goes), perk)
    await worked.member(holder)(RELEASE, hold=claimed.data["claimPerk"]["hold"]["id"])
    assert await within(1, worked.member(waits), "OFFERED") < 1
    await club.withdraw(goes, partner)
    await within(1.5, worked.member(goes), "WITHDRAWN")
