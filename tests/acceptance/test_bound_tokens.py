"""A partner's token that speaks for one member: nobody else is within its reach, by any name, id, cursor or code."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from auth.scopes import MEMBER_BOUND
from partners import tables
from partners.codes import hold_code
from partners.holds import Held
from tests.api import Api, Voice
from tests.factories import Club

LEAVE_OUT = "this token speaks for one member: leave `member` out"
CHECK = "query($perk: PerkBy!, $by: MemberBy) { eligibility(perk: $perk, member: $by) { eligible refusals { code } } }"
CHECKS = """
query($checks: [EligibilityCheckInput!]!) { eligibilities(checks: $checks) { error message decision { eligible } } }
"""
MEMBER = "query($by: MemberBy!) { member(by: $by) { alias } }"
NODE = "query($id: ID!) { node(id: $id) { id __typename } }"
PERKS = "query($by: MemberBy) { perks(member: $by) { nodes { handle eligibility { eligible refusals { code } } } } }"
CLAIM = """
mutation($perk: PerkBy!, $by: MemberBy, $key: String!) {
  claimPerk(input: {perk: $perk, member: $by, idempotencyKey: $key}) { hold { id } replayed userErrors { code } } }
"""
CONFIRM = """
mutation($hold: HoldBy!, $key: String!) {
  confirmHold(input: {hold: $hold, idempotencyKey: $key}) {
    redemption { id member { alias } } replayed userErrors { code } } }
"""
RELEASE = "mutation($id: ID!) { releaseHold(input: {hold: $id}) { hold { id state } userErrors { code } } }"
REVERSE = """
mutation($id: ID!, $key: String!) {
  reverseRedemption(input: {redemption: $id, reason: "spoiled", idempotencyKey: $key}) {
    redemption { id } replayed userErrors { code } } }
"""
REDEMPTIONS = """
query($filter: RedemptionFilter, $after: String) {
  redemptions(filter: $filter, after: $after) { totalCount nodes { id } edges { cursor } pageInfo { hasNextPage } } }
"""
REDEMPTION = "query($id: ID!) { redemption(id: $id) { id } }"
NOT_AVAILABLE = [{"code": "NOT_AVAILABLE"}]


@dataclass
class Scene:
    """Two members of one partner with the same things each, and the first one's token."""

    club: Club
    partner: tables.Partner
    perk: tables.Perk
    members: list[tables.Member]
    aliases: list[str]
    mine: Voice
    everybody: Voice

    async def hold(self, whose: int) -> Held:
        return await self.club.hold(self.members[whose], self.perk)

    async def redemption(self, whose: int) -> str:
        return f"redemption_{(await self.club.redeemed(await self.hold(whose))).hex}"

    @property
    def perk_by(self) -> dict[str, str]:
        return {"handle": self.perk.handle}


@pytest.fixture
async def scene(api: Api, club: Club) -> Scene:
    perk = await club.perk(rules=[{"kind": "tier_at_least", "tier": "gold"}])
    partner = club.partners[perk.partner_id]
    members = [await club.member(tier="gold"), await club.member(tier="black")]
    aliases = [await club.consent(one, partner) for one in members]
    mine = api.bound(partner, aliases[0], *MEMBER_BOUND, "perks:read")
    return Scene(club, partner, perk, members, aliases, mine, api.partner(partner))


async def test_leaving_the_member_out_means_the_one_it_speaks_for(scene: Scene) -> None:
    await scene.club.assign(scene.members[0], "silver")
    tier_too_low = {"eligible": False, "refusals": [{"code": "TIER_TOO_LOW"}]}
    assert (await scene.mine(CHECK, perk=scene.perk_by)).data["eligibility"] == tier_too_low
    own = {"alias": scene.aliases[0]}
    assert (await scene.mine(CHECK, perk=scene.perk_by, by=own)).data["eligibility"] == tier_too_low
    checked = (await scene.mine(CHECKS, checks=[{"perk": scene.perk_by}])).data["eligibilities"]
    assert checked == [{"error": None, "message": None, "decision": {"eligible": False}}]
    assert (await scene.mine(PERKS)).data["perks"]["nodes"] == [
        {"handle": scene.perk.handle, "eligibility": tier_too_low}
    ]
    single = "query($by: PerkBy!) { perk(by: $by) { eligibility { eligible refusals { code } } } }"
    assert (await scene.mine(single, by=scene.perk_by)).data["perk"]["eligibility"] == tier_too_low
    assert (await scene.mine(MEMBER, by=own)).data["member"] == own
    claimed = (await scene.mine(CLAIM, perk=scene.perk_by, key=uuid4().hex)).data["claimPerk"]
    assert claimed["userErrors"] == [{"code": "TIER_TOO_LOW"}]


@pytest.mark.parametrize("name", ["alias", "id", "externalId"])
async def test_naming_anybody_else_is_refused_in_every_operation(scene: Scene, name: str) -> None:
    other = scene.members[1]
    by = {name: {"alias": scene.aliases[1], "id": f"member_{other.id.hex}", "externalId": other.external_id}[name]}
    answers = [
        await scene.mine(CHECK, perk=scene.perk_by, by=by),
        await scene.mine(MEMBER, by=by),
        await scene.mine(PERKS, by=by),
        await scene.mine(CLAIM, perk=scene.perk_by, by=by, key=uuid4().hex),
        await scene.mine(REDEMPTIONS, filter={"member": by}),
    ]
    assert [(answer.code, answer.error["message"]) for answer in answers] == [("BAD_INPUT", LEAVE_OUT)] * 5
    [result] = (await scene.mine(CHECKS, checks=[{"perk": scene.perk_by, "member": by}])).data["eligibilities"]
    assert result == {"error": "BAD_INPUT", "message": LEAVE_OUT, "decision": None}


async def test_an_alias_that_nobody_has_is_refused_like_anothers(scene: Scene) -> None:
    for alias in ("a" * 26, ""):
        assert (await scene.mine(MEMBER, by={"alias": alias})).error["message"] == LEAVE_OUT


async def test_no_node_is_anothers(scene: Scene, api: Api) -> None:
    ids = [
        [f"alias_{scene.aliases[whose]}", f"hold_{(await scene.hold(whose)).id.hex}", await scene.redemption(whose)]
        for whose in (0, 1)
    ]
    assert [(await scene.mine(NODE, id=id)).data["node"]["id"] for id in ids[0]] == ids[0]
    assert [(await scene.mine(NODE, id=id)).data["node"] for id in ids[1]] == [None] * 3
    assert [(await scene.everybody(NODE, id=id)).data["node"]["id"] for id in ids[1]] == ids[1]
    assert (await scene.mine(REDEMPTION, id=ids[0][2])).data["redemption"] == {"id": ids[0][2]}
    assert (await scene.mine(REDEMPTION, id=ids[1][2])).data["redemption"] is None


async def test_only_its_members_redemptions_are_listed_and_counted_from_any_cursor(scene: Scene) -> None:
    made = [await scene.redemption(whose) for whose in (0, 1, 0, 1)]
    page = (await scene.mine(REDEMPTIONS)).data["redemptions"]
    assert ([node["id"] for node in page["nodes"]], page["totalCount"]) == ([made[2], made[0]], 2)
    newest = (await scene.everybody(REDEMPTIONS)).data["redemptions"]["edges"][0]["cursor"]
    rest = (await scene.mine(REDEMPTIONS, after=newest)).data["redemptions"]
    assert [node["id"] for node in rest["nodes"]] == [made[2], made[0]]
    of_perk = (await scene.mine(REDEMPTIONS, filter={"perk": f"perk_{scene.perk.id.hex}"})).data["redemptions"]
    assert of_perk["totalCount"] == 2


async def test_a_hold_of_anothers_is_confirmed_neither_by_id_nor_by_code(scene: Scene) -> None:
    own, other = await scene.hold(0), await scene.hold(1)
    codes = scene.club.keys.codes
    for by in ({"id": f"hold_{other.id.hex}"}, {"code": hold_code(codes, other.id)}):
        payload = (await scene.mine(CONFIRM, hold=by, key=uuid4().hex)).data["confirmHold"]
        assert payload == {"redemption": None, "replayed": False, "userErrors": NOT_AVAILABLE}
    payload = (await scene.mine(CONFIRM, hold={"code": hold_code(codes, own.id)}, key=uuid4().hex)).data["confirmHold"]
    assert payload["redemption"]["member"] == {"alias": scene.aliases[0]}
    assert (await scene.club.confirm(other)).code == "CONFIRMED"


async def test_a_hold_of_anothers_is_not_released(scene: Scene) -> None:
    own, other = await scene.hold(0), await scene.hold(1)
    refused = (await scene.mine(RELEASE, id=f"hold_{other.id.hex}")).data["releaseHold"]
    assert refused == {"hold": None, "userErrors": NOT_AVAILABLE}
    released = (await scene.mine(RELEASE, id=f"hold_{own.id.hex}")).data["releaseHold"]
    assert released["hold"] == {"id": f"hold_{own.id.hex}", "state": "RELEASED"}
    [row] = await scene.club.sql("SELECT state FROM hold WHERE id = $1", other.id)
    assert row["state"] == "HELD"


async def test_a_redemption_of_anothers_is_not_reversed(scene: Scene) -> None:
    own, other = await scene.redemption(0), await scene.redemption(1)
    refused = (await scene.mine(REVERSE, id=other, key="one")).data["reverseRedemption"]
    assert refused == {"redemption": None, "replayed": False, "userErrors": NOT_AVAILABLE}
    taken_back = (await scene.mine(REVERSE, id=own, key="one")).data["reverseRedemption"]
    assert taken_back == {"redemption": {"id": own}, "replayed": False, "userErrors": []}


async def test_a_key_used_for_another_member_tells_nothing(scene: Scene, api: Api) -> None:
    """The same client holds both tokens: what one did is not answered again to the other."""
    theirs, key = api.bound(scene.partner, scene.aliases[1]), uuid4().hex
    hold, redemption = f"hold_{(await scene.hold(1)).id.hex}", await scene.redemption(1)
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("claimPerk", CLAIM, {"perk": scene.perk_by, "key": f"{key}1"}),
        ("confirmHold", CONFIRM, {"hold": {"id": hold}, "key": f"{key}2"}),
        ("reverseRedemption", REVERSE, {"id": redemption, "key": f"{key}3"}),
    ]
    for name, query, variables in steps:
        assert (await theirs(query, **variables)).data[name]["userErrors"] == []
        assert (await theirs(query, **variables)).data[name]["replayed"] is True
        told = (await scene.mine(query, **variables)).data[name]
        fresh = (await scene.mine(query, **variables | {"key": uuid4().hex})).data[name]
        assert told["replayed"] is False
        assert told["userErrors"] == fresh["userErrors"] == ([] if name == "claimPerk" else NOT_AVAILABLE)


async def test_a_token_for_a_member_who_is_not_known_reaches_nothing(scene: Scene, api: Api) -> None:
    nobody = api.bound(scene.partner, "a" * 26)
    hold, redemption = await scene.hold(0), await scene.redemption(0)
    code = hold_code(scene.club.keys.codes, hold.id)
    assert (await nobody(CHECK, perk=scene.perk_by)).data["eligibility"]["refusals"] == [{"code": "NOT_A_MEMBER"}]
    assert (await nobody(REDEMPTIONS)).data["redemptions"]["totalCount"] == 0
    assert (await nobody(NODE, id=f"hold_{hold.id.hex}")).data["node"] is None
    assert (await nobody(NODE, id=redemption)).data["node"] is None
    for by in ({"id": f"hold_{hold.id.hex}"}, {"code": code}):
        assert (await nobody(CONFIRM, hold=by, key="k")).data["confirmHold"]["userErrors"] == NOT_AVAILABLE
    assert (await nobody(RELEASE, id=f"hold_{hold.id.hex}")).data["releaseHold"]["userErrors"] == NOT_AVAILABLE
    assert (await nobody(REVERSE, id=redemption, key="k")).data["reverseRedemption"]["userErrors"] == NOT_AVAILABLE


async def test_an_alias_at_another_partner_is_nobody_here(scene: Scene, api: Api, club: Club) -> None:
    rival = await club.partner()
    await club.consent(scene.members[0], rival)
    voice = api.bound(rival, scene.aliases[0])
    await scene.redemption(0)
    assert (await voice(MEMBER, by={"alias": scene.aliases[0]})).data["member"] is None
    assert (await voice(REDEMPTIONS)).data["redemptions"] == {
        "totalCount": 0, "nodes": [], "edges": [], "pageInfo": {"hasNextPage": False},
    }  # fmt: skip


async def test_without_consent_the_token_reads_nothing_of_its_own_member_either(scene: Scene) -> None:
    hold, redemption = await scene.hold(0), await scene.redemption(0)
    await scene.club.withdraw(scene.members[0], scene.partner)
    assert (await scene.mine(REDEMPTIONS)).data["redemptions"]["totalCount"] == 0
    assert (await scene.mine(REDEMPTION, id=redemption)).data["redemption"] is None
    assert (await scene.mine(NODE, id=f"hold_{hold.id.hex}")).data["node"] is None
    assert (await scene.mine(MEMBER, by={"alias": scene.aliases[0]})).data["member"] is None
    assert (await scene.mine(CHECK, perk=scene.perk_by)).data["eligibility"]["refusals"] == [{"code": "NOT_A_MEMBER"}]
    by_id = {"id": f"hold_{hold.id.hex}"}
    refused = (await scene.mine(CONFIRM, hold=by_id, key="k")).data["confirmHold"]
    assert refused["userErrors"] == [{"code": "CONSENT_MISSING"}]
    # What goes back to the member needs no leave.
    assert (await scene.mine(RELEASE, id=by_id["id"])).data["releaseHold"]["hold"]["state"] == "RELEASED"
    assert (await scene.mine(REVERSE, id=redemption, key="k")).data["reverseRedemption"]["userErrors"] == []


async def test_it_reads_what_it_confirmed_itself_without_leave_to_read_the_rest(scene: Scene, api: Api) -> None:
    hold = await scene.hold(0)
    await scene.club.consent(scene.members[0], scene.partner, scopes=["redemptions:write"])
    payload = (await scene.mine(CONFIRM, hold={"id": f"hold_{hold.id.hex}"}, key="k")).data["confirmHold"]
    assert payload["redemption"]["member"] is None
    id = payload["redemption"]["id"]
    assert UUID(id.removeprefix("redemption_"))
    assert (await scene.mine(REDEMPTION, id=id)).data["redemption"] is None


async def test_what_is_the_partners_own_needs_other_scopes_than_a_member_gives(scene: Scene, api: Api) -> None:
    voice = api.bound(scene.partner, scene.aliases[0])
    pause = "mutation($perk: PerkBy!) { pausePerk(input: {perk: $perk}) { perk { state } } }"
    assert (await voice(pause, perk=scene.perk_by)).code == "INSUFFICIENT_SCOPE"
    assert (await voice("{ consents { id } }")).code == "FORBIDDEN"
    assert (await voice("{ me { id } }")).code == "FORBIDDEN"
    assert (await voice("{ disclosures { totalCount } }")).code == "FORBIDDEN"
