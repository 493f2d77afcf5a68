"""What an attacker tries on the pages and through a partner's own rights, each as one test."""

from base64 import urlsafe_b64decode
from uuid import UUID

import pytest

from partners import tables
from schema.paging import show_cursor
from tests.api import Api
from tests.browsers import app_of, asking, browser, person_of, text_of
from tests.factories import Club

COUNTED = """
query($by: MemberBy, $after: String, $since: DateTime) {
  redemptions(filter: {member: $by, since: $since}, first: 1, after: $after) { totalCount nodes { id } } }
"""
TIERS = "{ redemptions { nodes { tier } } }"
CONFIRM = """
mutation($hold: ID!, $key: String!) {
  confirmHold(input: {hold: {id: $hold}, idempotencyKey: $key}) { redemption { tier } userErrors { code } } }
"""
THE_END = show_cursor(UUID(int=0))


async def told(club: Club, member: tables.Member) -> list[str]:
    """The kind of each disclosure about a member, oldest first."""
    rows = await club.sql("SELECT kind FROM disclosure WHERE member_id = $1 ORDER BY id", member.id)
    return [row["kind"] for row in rows]


async def test_a_number_of_redemptions_beyond_the_last_page_is_told_to_the_member_as_well(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    await club.redeemed(await club.hold(member, perk))
    page = (await api.partner(partner)(COUNTED, by={"alias": alias}, after=THE_END)).data["redemptions"]
    assert (page["totalCount"], page["nodes"]) == (1, [])
    assert await told(club, member) == ["REDEMPTIONS"]
    page = (await api.bound(partner, alias)(COUNTED, after=THE_END)).data["redemptions"]
    assert (page["totalCount"], page["nodes"]) == (1, [])
    assert await told(club, member) == ["REDEMPTIONS"] * 2
    page = (await api.partner(partner)(COUNTED, by={"alias": alias})).data["redemptions"]
    assert (page["totalCount"], len(page["nodes"])) == (1, 1)
    assert await told(club, member) == ["REDEMPTIONS"] * 3
    page = (await api.partner(partner)(COUNTED, by={"alias": "a" * 26}, after=THE_END)).data["redemptions"]
    assert page["totalCount"] == 0


async def test_a_tier_beside_a_redemption_is_told_to_the_member_as_well(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member, silent = await club.member(partner, tier="gold"), await club.member(tier="gold")
    await club.consent(silent, partner, scopes=["redemptions:read", "redemptions:write"])
    for one in (member, silent):
        await club.redeemed(await club.hold(one, perk))
    nodes = (await api.partner(partner)(TIERS)).data["redemptions"]["nodes"]
    assert [node["tier"] for node in nodes] == [None, "gold"]
    assert [await told(club, member), await told(club, silent)] == [["REDEMPTIONS"], []]


async def test_the_tier_of_a_member_who_lets_nothing_else_be_read_is_told_to_the_member_as_well(
    api: Api, club: Club
) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member(tier="gold")
    await club.consent(member, partner, scopes=["member.tier:read", "redemptions:write"])
    hold = await club.hold(member, perk)
    answer = (await api.partner(partner)(CONFIRM, hold=f"hold_{hold.id.hex}", key="k")).data["confirmHold"]
    assert answer == {"redemption": {"tier": "gold"}, "userErrors": []}
    assert await told(club, member) == ["REDEMPTIONS"]


async def test_staff_who_read_everything_do_not_read_the_codes_that_members_show(api: Api, club: Club) -> None:
    perk = await club.perk()
    member = await club.member(club.partners[perk.partner_id])
    hold = await club.hold(member, perk)
    query, about = "query($id: ID!) { node(id: $id) { ... on Hold { state %s } } }", {"id": f"hold_{hold.id.hex}"}
    assert (await api.staff()(query % "code", **about)).code == "FORBIDDEN"
    assert (await api.staff()(query % "", **about)).data["node"] == {"state": "HELD"}
    assert (await api.member(member)(query % "code", **about)).data["node"]["code"]


async def test_who_enrols_members_gives_no_tiers(api: Api, club: Club) -> None:
    enrol = "mutation($input: EnrolMemberInput!) { enrolMember(input: $input) { member { tier { handle } } } }"
    desk, new = api.staff("members:admin"), {"externalId": f"tierless-{club.now.timestamp()}"}
    refused = await desk(enrol, input=new | {"tier": "black"})
    assert (refused.code, refused.error["extensions"]["missingScopes"]) == ("INSUFFICIENT_SCOPE", ["programme:admin"])
    assert (await desk(enrol, input=new)).data["enrolMember"]["member"] == {"tier": None}
    both = api.staff("members:admin", "programme:admin")
    made = (await both(enrol, input={"externalId": f"black-{club.now.timestamp()}", "tier": "black"})).data
    assert made["enrolMember"]["member"] == {"tier": {"handle": "black"}}


@pytest.mark.parametrize("path", ["/oauth/authorize", "/sign-in", "/sign-out", "/device"])
async def test_a_foreign_form_takes_nothing_out_of_the_browsers_hands(api: Api, path: str) -> None:
    """It comes without cookies, since they are SameSite=Lax, and the answer must not set others in their place."""
    form, foreign = {"client_id": "x"}, {"sec-fetch-site": "cross-site"}
    assert "set-cookie" not in (await browser(api).post(path, form, headers=foreign)).headers
    assert "perks-browser=" in (await browser(api).get("/account")).headers["set-cookie"]


async def test_a_foreign_form_leaves_the_question_of_another_tab_open(api: Api, club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=member))
    app = await app_of(club, partner)
    ticket = (await visitor.get(asking(app))).headers["location"]
    kept = dict(visitor.client.cookies)
    visitor.client.cookies.clear()  # as browsers do with what is SameSite=Lax
    await visitor.post("/oauth/authorize", {"client_id": app}, headers={"sec-fetch-site": "cross-site"})
    for name, value in kept.items():
        if name not in visitor.client.cookies:
            visitor.client.cookies.set(name, value)
    assert "asks for your permission" in text_of(await visitor.get(ticket))


@pytest.mark.parametrize("path", ["/account/", "/sign-in/", "/oauth/token/", "/consents/"])
async def test_no_redirect_goes_where_the_host_header_says(api: Api, path: str) -> None:
    for method in ("GET", "POST"):
        response = await api.client.request(method, path, headers={"host": "evil.example"})
        assert (response.status_code, response.headers.get("location")) == (404, None)


async def test_a_question_says_what_else_the_chosen_time_holds_for(api: Api, club: Club) -> None:
    partner, member = await club.partner(name="Silverline"), await club.member()
    await club.consent(member, partner, scopes=["member.tier:read", "holds:write"])
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=member))
    app = await app_of(club, partner, scopes=frozenset({"member.tier:read", "eligibility:read"}))
    question = await visitor.get((await visitor.get(asking(app))).headers["location"])
    assert "It can already Set its perks aside for you. How long you choose below holds for this, too." in text_of(
        question
    )
    await club.withdraw(member, partner)
    assert "It can already" not in text_of(await visitor.get(question.url.path))


@pytest.mark.parametrize(("scopes", "listed"), [({"partners:admin"}, True), ({"audit:read"}, False)])
async def test_nobody_is_led_to_a_page_that_is_not_for_them(
    api: Api, club: Club, scopes: set[str], listed: bool
) -> None:
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, scopes=frozenset(scopes)))
    assert ('href="/device"' in (await visitor.get("/account")).text) is listed
    assert ((await visitor.get("/device")).status_code == 200) is listed


async def test_neither_cursors_nor_order_tell_two_partners_when_members_consented(api: Api, club: Club) -> None:
    query = "{ consentsGiven { edges { cursor node { alias } } } }"
    partners, members = [await club.partner() for _ in range(2)], [await club.member() for _ in range(8)]
    for member in members:
        for partner in partners:
            await club.consent(member, partner)
    for partner in partners:
        edges = (await api.partner(partner, "consents:read")(query)).data["consentsGiven"]["edges"]
        aliases = [edge["node"]["alias"] for edge in edges]
        assert aliases == sorted(aliases)
        assert [urlsafe_b64decode(edge["cursor"] + "==").decode() for edge in edges] == aliases


async def test_a_member_who_leaves_two_partners_at_once_is_not_known_by_the_moment(api: Api, club: Club) -> None:
    member, partners = await club.member(), [await club.partner() for _ in range(2)]
    visitor, apps = browser(api), []
    await visitor.sign_in(await person_of(club.database, member=member))
    for partner in partners:
        apps.append(await app_of(club, partner))
        question = await visitor.get((await visitor.get(asking(apps[-1]))).headers["location"])
        await visitor.send(question, question.url.path, "allow")
    leave = """mutation($a: PartnerBy!, $b: PartnerBy!) {
      a: withdrawConsent(input: {partner: $a}) { consent { state } }
      b: withdrawConsent(input: {partner: $b}) { consent { state } } }"""
    first, second = ({"handle": partner.handle} for partner in partners)
    assert (await api.member(member)(leave, a=first, b=second)).status == 200
    query = "query($id: ID!) { client(id: $id) { approvals { nodes { reason revokedAt expiresAt } } } }"
    for partner, app in zip(partners, apps, strict=True):
        [approval] = (await api.partner(partner)(query, id=app)).data["client"]["approvals"]["nodes"]
        assert approval["reason"] == "CONSENT_WITHDRAWN"
        assert {approval["revokedAt"][10:], approval["expiresAt"][10:]} == {"T00:00:00.000000Z"}
