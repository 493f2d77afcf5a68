"""Members, tiers, consents, the viewer and `node`: who may see whom."""

from datetime import timedelta
from uuid import uuid4

from tests.api import Api
from tests.factories import Club

MEMBER = "query($by: MemberBy!) { member(by: $by) { id alias state tier { handle name rank } tierSince tierUntil } }"
IDENTITY = "query($by: MemberBy!) { member(by: $by) { id externalId market joinedAt } }"
NODE = "query($id: ID!) { node(id: $id) { __typename id } }"


async def test_a_partner_sees_a_tier_by_alias(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(tier="black")
    alias = await club.consent(member, partner)
    found = (await api.partner(partner)(MEMBER, by={"alias": alias})).data["member"]
    assert found["alias"] == alias
    assert found["id"] == f"alias_{alias}"
    assert found["tier"] == {"handle": "black", "name": "Black", "rank": 4}


async def test_unknown_and_unconsenting_are_the_same_null(api: Api, club: Club) -> None:
    partner, stranger = await club.partner(), await club.partner()
    member = await club.member()
    alias = await club.consent(member, partner)
    assert (await api.partner(stranger)(MEMBER, by={"alias": alias})).data == {"member": None}
    await club.withdraw(member, partner)
    assert (await api.partner(partner)(MEMBER, by={"alias": alias})).data == {"member": None}
    assert (await api.partner(partner)(MEMBER, by={"alias": "x"})).data == {"member": None}


async def test_two_partners_know_one_member_by_names_with_nothing_in_common(api: Api, club: Club) -> None:
    one, two = await club.partner(), await club.partner()
    member = await club.member()
    first, second = await club.consent(member, one), await club.consent(member, two)
    assert first != second
    assert not set(zip(first, second, strict=True)) >= {(letter, letter) for letter in set(first)}


async def test_what_identifies_a_member_is_not_for_partners(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member()
    alias = await club.consent(member, partner)
    voice = api.partner(partner)
    assert (await voice(IDENTITY, by={"alias": alias})).code == "FORBIDDEN"
    assert (await voice(MEMBER, by={"externalId": member.external_id})).code == "BAD_INPUT"
    assert (await voice(MEMBER, by={"id": f"member_{member.id.hex}"})).code == "BAD_INPUT"
    found = (await api.staff()(IDENTITY, by={"externalId": member.external_id})).data["member"]
    assert found["id"] == f"member_{member.id.hex}"
    assert found["market"] == "CH"


async def test_me_is_the_member_whose_token_it_is(api: Api, club: Club) -> None:
    member = await club.member(tier="silver")
    answer = await api.member(member)("{ me { externalId alias tier { handle } } }")
    assert answer.data["me"] == {"externalId": member.external_id, "alias": None, "tier": {"handle": "silver"}}


async def test_staff_enrol_and_assign(api: Api, club: Club) -> None:
    external_id = uuid4().hex
    enrol = """
    mutation($input: EnrolMemberInput!) { enrolMember(input: $input) { member { id externalId tier { handle } } } }
    """
    made = (await api.staff()(enrol, input={"externalId": external_id, "market": "DE", "tier": "silver"})).data
    assert made["enrolMember"]["member"]["tier"] == {"handle": "silver"}
    assert (await api.staff()(enrol, input={"externalId": external_id})).code == "CONFLICT"
    assert (await api.staff()(enrol, input={"externalId": "x", "market": "Germany"})).code == "BAD_INPUT"
    assign = """
    mutation($input: AssignTierInput!) { assignTier(input: $input) { member { tier { handle } tierUntil } } }
    """
    by = {"externalId": external_id}
    given = {"member": by, "tier": "gold", "cause": "EARNED", "endsAt": "2030-01-01T00:00:00+01:00"}
    assigned = (await api.staff()(assign, input=given)).data
    assert assigned["assignTier"]["member"] == {"tier": {"handle": "gold"}, "tierUntil": "2029-12-31T23:00:00.000000Z"}
    assert (await api.staff()(assign, input={"member": by, "tier": "platinum"})).code == "BAD_INPUT"
    assert (await api.staff()(assign, input={"member": by, "tier": "gold", "endsAt": "2020-01-01T00:00:00Z"})).code == (
        "BAD_INPUT"
    )
    nobody = {"member": {"externalId": "nobody"}, "tier": "gold"}
    assert (await api.staff()(assign, input=nobody)).code == "NOT_FOUND"
    naive = await api.staff()(assign, input=given | {"endsAt": "2030-01-01T00:00:00"})
    assert naive.code == "BAD_USER_INPUT"


async def test_a_member_gives_and_withdraws_consent(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member()
    voice, by = api.member(member), {"handle": partner.handle}
    grant = "mutation($input: GrantConsentInput!) { grantConsent(input: $input) { consent { state purpose } } }"
    withdraw = "mutation($input: WithdrawConsentInput!) { withdrawConsent(input: $input) { consent { state } } }"
    granted = await voice(grant, input={"partner": by, "purpose": "events"})
    assert granted.data["grantConsent"]["consent"] == {"state": "GRANTED", "purpose": "events"}
    listed = await voice("{ consents { purpose partner { handle } } }")
    assert listed.data["consents"] == [{"purpose": "events", "partner": by}]
    withdrawn = await voice(withdraw, input={"partner": by})
    assert withdrawn.data["withdrawConsent"]["consent"] == {"state": "WITHDRAWN"}
    assert (await voice(withdraw, input={"partner": by})).code == "NOT_FOUND"
    other = await club.member()
    foreign = {"partner": by, "member": {"id": f"member_{other.id.hex}"}}
    assert (await voice(grant, input=foreign)).code == "BAD_INPUT"
    on_behalf = {"partner": by, "member": {"externalId": other.external_id}}
    assert (await api.staff()(grant, input=on_behalf)).data["grantConsent"]["consent"]["state"] == "GRANTED"


async def test_the_viewer_is_whoever_asks(api: Api, club: Club) -> None:
    query = "{ viewer { kind id scopes expiresAt partner { handle } member { alias } limits { checks page } } }"
    partner = await club.partner()
    seen = (await api.partner(partner, "perks:read")(query)).data["viewer"]
    assert seen["kind"] == "PARTNER"
    assert seen["scopes"] == ["perks:read"]
    assert seen["partner"] == {"handle": partner.handle}
    assert seen["limits"] == {"checks": 100, "page": 100}
    assert (await api.anonymous()("{ viewer { kind } }")).data["viewer"] == {"kind": "ANONYMOUS"}


async def test_node_fetches_what_is_in_sight_and_nothing_else(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner, stranger = club.partners[perk.partner_id], await club.partner()
    member = await club.member()
    alias = await club.consent(member, partner)
    mine = {
        f"perk_{perk.id.hex}": "Perk",
        f"partner_{partner.id.hex}": "Partner",
        f"alias_{alias}": "Member",
    }
    for id, name in mine.items():
        assert (await api.partner(partner)(NODE, id=id)).data["node"] == {"__typename": name, "id": id}
        assert (await api.partner(stranger)(NODE, id=id)).data["node"] is None
    for id in (f"member_{member.id.hex}", "perk_", "nonsense", "perk_" + "z" * 32, f"entry_{member.id.hex}"):
        assert (await api.partner(partner)(NODE, id=id)).data["node"] is None
    assert (await api.staff()(NODE, id=f"member_{member.id.hex}")).data["node"]["__typename"] == "Member"


async def test_no_instant_of_a_members_life_reaches_two_partners(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner, rules=[{"kind": "member_for", "days": 800}])
    open_perk = await club.perk(partner, rules=[{"kind": "tier_at_least", "tier": "silver"}])
    member = await club.member()
    await club.assign(member, "silver", ends_at=club.now + timedelta(days=9, hours=3))
    alias = await club.consent(member, partner)
    query = """
    query($member: MemberBy!, $young: PerkBy!, $open: PerkBy!) {
      member(by: $member) { tierSince tierUntil }
      young: eligibility(member: $member, perk: $young) { eligibleAgainAt validUntil }
      open: eligibility(member: $member, perk: $open) { validUntil }
    }
    """
    by = {"member": {"alias": alias}, "young": {"handle": perk.handle}, "open": {"handle": open_perk.handle}}
    told = (await api.partner(partner)(query, **by)).data
    instants = [*told["member"].values(), *told["young"].values(), *told["open"].values()]
    assert all(instant.endswith("T00:00:00.000000Z") for instant in instants)
    assert len(instants) == 5
