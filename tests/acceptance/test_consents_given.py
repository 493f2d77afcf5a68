"""A partner reads which members consented to it and to what, under its own names, and nothing of others."""

from datetime import timedelta

from tests.api import Api
from tests.factories import Club

GIVEN = """query($first: Int, $after: String) { consentsGiven(first: $first, after: $after) {
  nodes { alias scopes purpose grantedOn endsOn } pageInfo { hasNextPage endCursor } } }"""


async def test_the_live_consents_come_page_by_page_under_the_partners_own_names(api: Api, club: Club) -> None:
    partner, another = await club.partner(), await club.partner()
    members = [await club.member(another) for _ in range(3)]
    aliases = sorted([await club.consent(member, partner) for member in members])
    voice = api.partner(partner, "consents:read")
    page = (await voice(GIVEN, first=2)).data["consentsGiven"]
    assert [one["alias"] for one in page["nodes"]] == aliases[:2]
    rest = (await voice(GIVEN, first=2, after=page["pageInfo"]["endCursor"])).data["consentsGiven"]
    assert [one["alias"] for one in rest["nodes"]] == aliases[2:]
    assert (page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert page["nodes"][0]["purpose"] == "perks"
    assert page["nodes"][0]["grantedOn"] == (club.now - timedelta(days=1)).date().isoformat()


async def test_what_is_withdrawn_or_over_is_not_among_them_and_scopes_are_those_consented_to(
    api: Api, club: Club
) -> None:
    partner = await club.partner()
    withdrawn, ended, kept = [await club.member() for _ in range(3)]
    await club.consent(withdrawn, partner)
    await club.withdraw(withdrawn, partner)
    await club.consent(ended, partner, expires_at=club.now - timedelta(hours=1))
    alias = await club.consent(kept, partner, scopes={"eligibility:read"})
    nodes = (await api.partner(partner, "consents:read")(GIVEN)).data["consentsGiven"]["nodes"]
    assert [(one["alias"], one["scopes"]) for one in nodes] == [(alias, ["eligibility:read"])]


async def test_without_the_scope_and_for_members_and_staff_there_is_nothing_to_read(api: Api, club: Club) -> None:
    assert (await api.partner(await club.partner(), "perks:read")(GIVEN)).code == "INSUFFICIENT_SCOPE"
    assert (await api.member(await club.member())(GIVEN)).code == "FORBIDDEN"
    assert (await api.staff()(GIVEN)).code == "FORBIDDEN"


NODE = "query($id: ID!) { node(id: $id) { id ... on Consent { partner { handle } } ... on Reversal { reason } } }"


async def test_a_consent_and_a_reversal_are_found_by_their_ids_by_those_they_concern(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner, another = club.partners[perk.partner_id], await club.partner()
    member, stranger = await club.member(partner), await club.member(partner)
    [row] = await club.sql("SELECT id FROM consent WHERE member_id = $1", member.id)
    consent = f"consent_{row['id'].hex}"
    assert (await api.member(member)(NODE, id=consent)).data["node"]["partner"] == {"handle": partner.handle}
    assert (await api.staff()(NODE, id=consent)).data["node"]["id"] == consent
    for voice in (api.member(stranger), api.partner(partner), api.partner(another)):
        assert (await voice(NODE, id=consent)).data["node"] is None
    redemption = await club.redeemed(await club.hold(member, perk))
    from_partner = api.partner(partner)
    done = await from_partner(
        """mutation($input: ReverseRedemptionInput!) { reverseRedemption(input: $input) { reversal { id } } }""",
        input={"redemption": f"redemption_{redemption.hex}", "reason": "spoiled", "idempotencyKey": "once"},
    )
    reversal = done.data["reverseRedemption"]["reversal"]["id"]
    for voice in (from_partner, api.member(member), api.staff()):
        assert (await voice(NODE, id=reversal)).data["node"]["reason"] == "spoiled"
    for voice in (api.member(stranger), api.partner(another)):
        assert (await voice(NODE, id=reversal)).data["node"] is None
