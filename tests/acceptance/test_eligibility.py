"""`eligibility` and `eligibilities`: the question partners ask most."""

from tests.api import Api
from tests.factories import Club, today

CHECK = """
query($member: MemberBy, $perk: PerkBy!) {
  eligibility(member: $member, perk: $perk) {
    eligible policyVersion validUntil eligibleAgainAt capacityRemaining
    allowance { limit used remaining resetsAt }
    refusals { code rule message required current eligibleAgainAt }
  }
}
"""
CHECKS = """
query($checks: [EligibilityCheckInput!]!) {
  eligibilities(checks: $checks) { error message decision { eligible refusals { code } } }
}
"""


async def test_a_partner_gets_a_yes_with_what_is_left(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner, units=10, rules=[{"kind": "allowance", "period": "MONTH", "units": {"gold": 2}}])
    member = await club.member()
    alias = await club.consent(member, partner)
    answer = await api.partner(partner)(CHECK, member={"alias": alias}, perk={"handle": perk.handle})
    decision = answer.data["eligibility"]
    assert decision["eligible"] is True
    assert decision["refusals"] == []
    assert decision["capacityRemaining"] == 10
    assert decision["allowance"]["remaining"] == 2
    assert decision["validUntil"] == decision["allowance"]["resetsAt"]


async def test_every_failing_rule_is_named(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(
        partner,
        units=0,
        opens_on=today(club.now, 3),
        rules=[
            {"kind": "tier_at_least", "tier": "black"},
            {"kind": "market", "markets": ["DE"]},
            {"kind": "member_for", "days": 1000},
        ],
    )
    member = await club.member()
    alias = await club.consent(member, partner)
    answer = await api.partner(partner)(CHECK, member={"alias": alias}, perk={"handle": perk.handle})
    codes = {refusal["code"] for refusal in answer.data["eligibility"]["refusals"]}
    assert codes == {"TIER_TOO_LOW", "WRONG_MARKET", "JOINED_TOO_RECENTLY", "NOT_STARTED", "CAPACITY_EXHAUSTED"}


async def test_unknown_and_unconsenting_members_look_the_same(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner, units=3)
    member = await club.member()
    alias = await club.consent(member, partner)
    await club.withdraw(member, partner)
    ask = api.partner(partner)
    unconsenting = await ask(CHECK, member={"alias": alias}, perk={"handle": perk.handle})
    unknown = await ask(CHECK, member={"alias": "a" * 26}, perk={"handle": perk.handle})
    assert unknown.body == unconsenting.body
    assert [refusal["code"] for refusal in unknown.data["eligibility"]["refusals"]] == ["NOT_A_MEMBER"]


async def test_another_partners_perk_is_not_found(api: Api, club: Club) -> None:
    perk = await club.perk()
    stranger = await club.partner()
    member = await club.member()
    alias = await club.consent(member, stranger)
    ask = api.partner(stranger)
    by_handle = await ask(CHECK, member={"alias": alias}, perk={"handle": perk.handle})
    by_id = await ask(CHECK, member={"alias": alias}, perk={"id": f"perk_{perk.id.hex}"})
    nowhere = await ask(CHECK, member={"alias": alias}, perk={"handle": "no/such"})
    assert by_handle.code == by_id.code == nowhere.code == "NOT_FOUND"
    assert by_handle.error["message"] == nowhere.error["message"]


async def test_a_member_asks_without_naming_itself(api: Api, club: Club) -> None:
    perk = await club.perk()
    member = await club.member(club.partners[perk.partner_id])
    answer = await api.member(member)(CHECK, perk={"handle": perk.handle})
    assert answer.data["eligibility"]["eligible"] is True


async def test_a_bulk_check_has_one_result_each_in_order(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner)
    member = await club.member()
    alias = await club.consent(member, partner)
    good = {"member": {"alias": alias}, "perk": {"handle": perk.handle}}
    foreign = {"member": {"alias": alias}, "perk": {"handle": "no/such"}}
    unknown = {"member": {"alias": "nobody"}, "perk": {"handle": perk.handle}}
    wrong = {"member": {"externalId": member.external_id}, "perk": {"handle": perk.handle}}
    answer = await api.partner(partner)(CHECKS, checks=[good, foreign, unknown, wrong, good])
    results = answer.data["eligibilities"]
    assert [result["error"] for result in results] == [None, "NOT_FOUND", None, "BAD_INPUT", None]
    assert [result["decision"] and result["decision"]["eligible"] for result in results] == [
        True,
        None,
        False,
        None,
        True,
    ]


async def test_a_hundred_checks_are_allowed_and_one_more_is_not(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner)
    check = {"member": {"alias": "nobody"}, "perk": {"handle": perk.handle}}
    ask = api.partner(partner)
    assert len((await ask(CHECKS, checks=[check] * 100)).data["eligibilities"]) == 100
    refused = await ask(CHECKS, checks=[check] * 101)
    assert refused.code == "BAD_INPUT"
    assert refused.error["extensions"]["limit"] == 100


async def test_no_checks_are_no_results(api: Api, club: Club) -> None:
    assert (await api.partner(await club.partner())(CHECKS, checks=[])).data["eligibilities"] == []


async def test_all_missing_scopes_are_named(api: Api, club: Club) -> None:
    partner = await club.partner()
    query = "{ eligibilities(checks: []) { error } perks { nodes { id } } redemptions { nodes { id tier } } }"
    answer = await api.partner(partner, "perks:read")(query)
    assert answer.status == 403
    assert answer.code == "INSUFFICIENT_SCOPE"
    assert answer.error["extensions"]["missingScopes"] == ["eligibility:read", "member.tier:read", "redemptions:read"]


async def test_nul_is_refused_before_it_can_spoil_anybody_elses_answer(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner)
    voice = api.partner(partner)
    by_variable = await voice(CHECK, member={"alias": "a\x00b"}, perk={"handle": perk.handle})
    in_text = CHECK.replace("member: $member", 'member: {alias: "a\\u{0}b"}').replace("$member: MemberBy, ", "")
    by_text = await voice(in_text, perk={"handle": perk.handle})
    assert (by_variable.status, by_variable.code) == (400, "BAD_REQUEST")
    assert (by_text.status, by_text.code) == (400, "BAD_REQUEST")
