"""The rule catalogue, dry runs and reviews over the API, with the documents of `schema/operations`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from partners import tables
from partners.reviews import open_review
from partners.rules import KINDS
from tests.api import Api, Voice
from tests.factories import Club

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
RULE_KINDS, DRY_RUN, REVIEWS, CLOSE = (
    (OPERATIONS / f"{name}.graphql").read_text() for name in ("RuleKinds", "PolicyDryRun", "Reviews", "CloseReview")
)
COUNTS = ("members", "gain", "lose", "keep", "neither")
GOLD: list[Mapping[str, Any]] = [{"kind": "tier_at_least", "tier": "gold"}]
SILVER: list[Mapping[str, Any]] = [{"kind": "tier_at_least", "tier": "silver"}]


async def test_the_catalogue_has_every_kind_with_its_schema(api: Api, club: Club) -> None:
    answer = await api.partner(await club.partner())(RULE_KINDS)
    kinds = {one["kind"]: one for one in answer.data["ruleKinds"]}
    assert list(kinds) == list(KINDS)
    assert all(one["description"].endswith(".") for one in kinds.values())
    schema = kinds["velocity"]["settingsSchema"]
    assert schema["required"] == ["claims", "hours"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["hours"] == {"maximum": 744, "minimum": 1, "title": "Hours", "type": "integer"}


def by(perk: tables.Perk) -> dict[str, str]:
    return {"id": f"perk_{perk.id.hex}"}


async def crowd(club: Club, tiers: Mapping[str | None, int], rules: Sequence[Mapping[str, Any]] = GOLD) -> tables.Perk:
    """A perk, and so many members of each tier who consent."""
    partner = await club.partner()
    for tier, count in tiers.items():
        for _ in range(count):
            await club.member(partner, tier=tier)
    return await club.perk(partner, rules=rules)


async def counts(voice: Voice, perk: tables.Perk, rules: Sequence[Mapping[str, Any]], **more: Any) -> tuple[int, ...]:
    answer = await voice(DRY_RUN, perk=by(perk), rules=rules, **more)
    run = answer.data["policyDryRun"]
    assert run["complete"] is True
    return tuple(run[name] for name in COUNTS)


async def test_a_dry_run_counts_who_would_gain_lose_and_keep(api: Api, club: Club) -> None:
    perk = await crowd(club, {"silver": 3, "gold": 2, "black": 1, None: 2})
    await club.member(tier="gold")  # does not consent
    staff = api.staff()
    assert await counts(staff, perk, GOLD) == (8, 0, 0, 3, 5)
    assert await counts(staff, perk, SILVER) == (8, 3, 0, 3, 2)
    assert await counts(staff, perk, [{"kind": "tier_at_least", "tier": "black"}]) == (8, 0, 2, 1, 5)
    assert await counts(staff, perk, []) == (8, 5, 0, 3, 0)
    assert (await club.known(await club.member(), perk)).policy_version == 1


async def test_staff_see_some_of_those_who_would_gain_or_lose(api: Api, club: Club) -> None:
    perk = await crowd(club, {"silver": 3})
    member = await club.member(club.partners[perk.partner_id], tier="gold")
    query = (
        "query($perk: PerkBy!, $rules: [JSON!]!, $sample: Int!) {"
        " policyDryRun(perk: $perk, rules: $rules, sample: $sample) { gain lose gained lost } }"
    )
    rules = [{"kind": "tier_in", "allowed": ["silver"]}]
    run = (await api.staff()(query, perk=by(perk), rules=rules, sample=2)).data["policyDryRun"]
    assert (run["gain"], run["lose"], len(set(run["gained"])), run["lost"]) == (3, 1, 2, [f"member_{member.id.hex}"])
    none = (await api.staff()(query, perk=by(perk), rules=rules, sample=0)).data["policyDryRun"]
    assert (none["gain"], none["gained"], none["lost"]) == (3, [], [])
    assert (await api.staff()(query, perk=by(perk), rules=rules, sample=101)).code == "BAD_INPUT"
    refused = await api.partner(club.partners[perk.partner_id])(query, perk=by(perk), rules=rules, sample=2)
    assert refused.code == "FORBIDDEN"


@pytest.mark.parametrize("silver", [4, 10, 14])
async def test_a_partner_sees_counts_in_tens(api: Api, club: Club, silver: int) -> None:
    perk = await crowd(club, {"silver": silver})
    members, *others = await counts(api.partner(club.partners[perk.partner_id]), perk, SILVER)
    assert members in (silver // 10 * 10, -(-silver // 10) * 10)
    assert others == [members, 0, 0, 0]


async def test_a_dry_run_reads_what_only_the_draft_needs(api: Api, club: Club) -> None:
    perk = await crowd(club, {"gold": 2}, rules=[])
    partner = club.partners[perk.partner_id]
    another = await club.perk(partner, rules=[{"kind": "not_together", "group": "spa"}])
    member = await club.member(partner)
    await club.hold(member, perk)
    await club.hold(member, another)
    staff = api.staff()
    assert await counts(staff, perk, [{"kind": "allowance", "period": "MONTH", "otherwise": 1}]) == (3, 0, 1, 2, 0)
    once = {"kind": "allowance", "period": "EVER", "otherwise": 1, "per": "household"}
    assert await counts(staff, perk, [once]) == (3, 0, 1, 2, 0)
    assert await counts(staff, perk, [{"kind": "not_together", "group": "spa"}]) == (3, 0, 1, 2, 0)
    assert await counts(staff, perk, [{"kind": "velocity", "claims": 2, "hours": 1}]) == (3, 0, 1, 2, 0)
    assert await counts(staff, perk, [{"kind": "velocity", "claims": 3, "hours": 1}]) == (3, 0, 0, 3, 0)


async def test_a_dry_run_asks_by_the_rules_alone(api: Api, club: Club) -> None:
    perk = await crowd(club, {"gold": 2, "silver": 1})
    await club.set_state(perk.id, tables.PerkState.PAUSED)
    await club.sql("UPDATE capacity SET units = 0 WHERE perk_id = $1", perk.id)
    near = {"kind": "near", "places": [{"latitude": "1", "longitude": "1"}], "radius_m": 100}
    device = {"kind": "allowance", "period": "EVER", "otherwise": 1, "per": "device"}
    assert await counts(api.staff(), perk, [near, device]) == (3, 1, 0, 2, 0)


async def test_a_dry_run_of_many_is_of_a_fair_sample_and_says_so(
    api: Api, club: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partners.dry_runs.BATCH", 4)
    monkeypatch.setattr("partners.dry_runs.MEMBERS_MAX", 8)
    perk = await crowd(club, {"gold": 9})
    run = (await api.staff()(DRY_RUN, perk=by(perk), rules=[])).data["policyDryRun"]
    assert (run["members"], run["complete"], run["keep"]) == (8, False, 8)
    monkeypatch.setattr("partners.dry_runs.MEMBERS_MAX", 12)
    assert await counts(api.staff(), perk, []) == (9, 0, 0, 9, 0)


async def test_rules_that_can_not_be_are_named_with_their_paths(api: Api, club: Club) -> None:
    perk = await club.perk()
    rules = [
        {"kind": "tier_at_least", "tier": "platinum"},
        {"kind": "recurring", "starts": "2027-01-01T18:00", "minutes": 0, "rrule": "FREQ=DAILY"},
        {"kind": "near", "places": [{"latitude": "91", "longitude": "0"}], "radius_m": 50},
    ]
    answer = await api.staff()(DRY_RUN, perk=by(perk), rules=rules)
    assert answer.code == "BAD_INPUT"
    faults = answer.error["extensions"]["faults"]
    assert "rules.1.minutes: Input should be greater than or equal to 1" in faults
    assert "rules.2.places.0.latitude: -90 to 90 degrees" in faults
    assert (await api.staff()(DRY_RUN, perk=by(perk), rules=[1])).code == "BAD_INPUT"


async def test_another_partners_perk_has_no_dry_run(api: Api, club: Club) -> None:
    perk = await club.perk()
    assert (await api.partner(await club.partner())(DRY_RUN, perk=by(perk), rules=[])).code == "NOT_FOUND"
    assert (await api.member(await club.member())(DRY_RUN, perk=by(perk), rules=[])).code == "FORBIDDEN"


async def under_review(club: Club) -> tuple[tables.Perk, tables.Member]:
    perk = await club.perk(rules=[{"kind": "velocity", "claims": 1, "hours": 1}])
    member = await club.member(club.partners[perk.partner_id])
    async with club.database.sessions.begin() as session:
        await open_review(session, member.id, perk.partner_id, perk.id, club.now)
    return perk, member


async def test_staff_find_a_review_and_clear_it(api: Api, club: Club) -> None:
    perk, member = await under_review(club)
    staff = api.staff()
    found = (await staff(REVIEWS, filter={"member": f"member_{member.id.hex}"})).data["reviews"]
    [review] = found["nodes"]
    assert (review["state"], review["member"]["externalId"], review["perk"]["handle"], review["closedAt"]) == (
        "OPEN",
        member.external_id,
        perk.handle,
        None,
    )
    again = await staff("query($id: ID!) { node(id: $id) { id ... on Review { state } } }", id=review["id"])
    assert again.data["node"] == {"id": review["id"], "state": "OPEN"}
    given = {"review": review["id"], "cleared": False, "note": "a reseller"}
    closed = (await staff(CLOSE, input=given)).data["closeReview"]
    assert (closed["review"]["state"], closed["review"]["closedBy"], closed["userErrors"]) == ("UPHELD", "auditor", [])
    upheld = (await staff(CLOSE, input=given)).data["closeReview"]
    assert [(one["code"], one["path"]) for one in upheld["userErrors"]] == [("WRONG_STATE", ["review"])]
    cleared = (await staff(CLOSE, input=given | {"cleared": True})).data["closeReview"]
    assert cleared["review"]["state"] == "CLEARED"
    assert (await club.decision(member, perk)).eligible


async def test_a_review_is_nobodys_affair_but_staffs(api: Api, club: Club) -> None:
    perk, member = await under_review(club)
    for voice in (api.partner(club.partners[perk.partner_id]), api.member(member), api.staff("audit:read")):
        assert (await voice(REVIEWS)).code in ("FORBIDDEN", "INSUFFICIENT_SCOPE")
    staff = api.staff()
    assert (await staff(CLOSE, input={"review": f"review_{uuid7().hex}", "cleared": True})).code == "NOT_FOUND"
    assert (await staff(CLOSE, input={"review": "review_1", "cleared": True})).code == "BAD_INPUT"


async def test_the_score_is_told_to_the_member_and_not_to_the_partner(api: Api, club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "score_at_least", "score": 1000}])
    member = await club.member()
    alias = await club.consent(member, club.partners[perk.partner_id])
    query = (
        "query($perk: PerkBy!, $member: MemberBy) { eligibility(perk: $perk, member: $member) {"
        " refusals { code required current } } }"
    )
    own = await api.member(member)(query, perk=by(perk))
    told = await api.partner(club.partners[perk.partner_id])(query, perk=by(perk), member={"alias": alias})
    assert own.data["eligibility"]["refusals"] == [{"code": "SCORE_TOO_LOW", "required": "1000", "current": "0"}]
    assert told.data["eligibility"]["refusals"] == [{"code": "SCORE_TOO_LOW", "required": "1000", "current": None}]


async def test_a_place_is_asked_for_and_measured(api: Api, club: Club) -> None:
    place = {"latitude": "47.3769", "longitude": "8.5417", "name": "Main station"}
    perk = await club.perk(rules=[{"kind": "near", "places": [place], "radius_m": 500}])
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    query = (
        "query($perk: PerkBy!, $details: ClaimDetailsInput) { eligibility(perk: $perk, details: $details) {"
        " eligible refusals { code } } perk(by: $perk) { rules { sentence } } }"
    )
    nowhere = (await voice(query, perk=by(perk))).data
    assert nowhere["eligibility"]["refusals"] == [{"code": "WRONG_LOCATION"}]
    assert nowhere["perk"]["rules"] == [{"sentence": "Within 500 m of Main station."}]
    for latitude, eligible in ((47_378_000, True), (47_390_000, False)):
        details = {"place": {"latitude": latitude, "longitude": 8_541_700}}
        answer = (await voice(query, perk=by(perk), details=details)).data["eligibility"]
        assert answer["eligible"] is eligible


async def test_a_claim_too_many_opens_a_review_and_staff_let_the_member_claim_again(api: Api, club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "velocity", "claims": 2, "hours": 24}])
    member = await club.member(club.partners[perk.partner_id])
    voice, staff = api.member(member), api.staff()
    claim = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { id } userErrors { code } } }"

    async def claimed() -> list[str]:
        given = {"perk": by(perk), "idempotencyKey": uuid7().hex}
        answer = (await voice(claim, input=given)).data["claimPerk"]
        return [one["code"] for one in answer["userErrors"]]

    # From the third on by the rule, and from then on by the review as well.
    assert [await claimed() for _ in range(4)] == [[], [], ["UNDER_REVIEW"], ["UNDER_REVIEW", "UNDER_REVIEW"]]
    found = await staff(REVIEWS, filter={"member": f"member_{member.id.hex}"})
    [review] = found.data["reviews"]["nodes"]
    closed = await staff(CLOSE, input={"review": review["id"], "cleared": True})
    assert closed.data["closeReview"]["userErrors"] == []
    later = await club.claim(member, perk, now=club.now + timedelta(seconds=1))
    assert later.outcome == "HELD"
