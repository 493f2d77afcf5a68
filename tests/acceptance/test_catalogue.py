"""Perks and partners: read by everybody within sight, changed by their partner and by staff."""

from typing import Any
from uuid import uuid4

from tests.api import Api, Voice
from tests.factories import Club

PERKS = """
query($filter: PerkFilter, $member: MemberBy, $first: Int, $after: String) {
  perks(filter: $filter, member: $member, first: $first, after: $after) {
    nodes {
      id handle state partner { handle } eligibility { eligible refusals { code } } rules { kind sentence settings }
    }
    edges { cursor }
    pageInfo { hasNextPage hasPreviousPage endCursor }
  }
}
"""
PERK = "query($by: PerkBy!) { perk(by: $by) { id handle title capacity capacityRemaining policyVersion opensAt } }"
CREATE = """
mutation($input: CreatePerkInput!) {
  createPerk(input: $input) { perk { id handle state policyVersion rules { kind } } }
}
"""
UPDATE = """
mutation($input: UpdatePerkInput!) { updatePerk(input: $input) { perk { title capacity closesOn policyVersion } } }
"""
PUBLISH = "mutation($perk: PerkBy!) { publishPerk(input: {perk: $perk}) { perk { state } } }"
PAUSE = "mutation($perk: PerkBy!) { pausePerk(input: {perk: $perk}) { perk { state } } }"


def draft(**given: Any) -> dict[str, Any]:
    """The input of a perk that says the least."""
    return {"handle": f"p-{uuid4().hex[:8]}", "kind": "EVENT", "title": "A day", "timeZone": "Europe/Zurich"} | given


async def create(voice: Voice, **given: Any) -> dict[str, Any]:
    """The perk that was drafted."""
    found: dict[str, Any] = (await voice(CREATE, input=draft(**given))).data["createPerk"]["perk"]
    return found


async def test_a_page_shows_each_perks_own_answer(api: Api, club: Club) -> None:
    partner = await club.partner()
    open_perk = await club.perk(partner)
    closed = await club.perk(partner, rules=[{"kind": "tier_at_least", "tier": "black"}])
    member = await club.member()
    alias = await club.consent(member, partner)
    page = (await api.partner(partner)(PERKS, member={"alias": alias})).data["perks"]
    answers = {perk["handle"]: perk["eligibility"] for perk in page["nodes"]}
    assert answers == {
        open_perk.handle: {"eligible": True, "refusals": []},
        closed.handle: {"eligible": False, "refusals": [{"code": "TIER_TOO_LOW"}]},
    }
    rules = [rule for perk in page["nodes"] for rule in perk["rules"]]
    assert rules == [
        {"kind": "tier_at_least", "sentence": "The member's tier is black or higher.", "settings": {"tier": "black"}}
    ]
    alone = (await api.partner(partner)(PERKS)).data["perks"]["nodes"]
    assert [perk["eligibility"] for perk in alone] == [None, None]


async def test_pages_neither_skip_nor_repeat(api: Api, club: Club) -> None:
    partner = await club.partner()
    made = [(await club.perk(partner)).handle for _ in range(5)]
    voice, after, seen = api.partner(partner), None, []
    while True:
        page = (await voice(PERKS, first=2, after=after)).data["perks"]
        seen += [perk["handle"] for perk in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == made


async def test_pages_have_edges(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    assert (await voice(PERKS, first=100)).data["perks"]["nodes"] == []
    for first in (0, 101, -1):
        assert (await voice(PERKS, first=first)).code == "BAD_INPUT"
    assert (await voice(PERKS, after="?")).code == "BAD_INPUT"


async def test_a_partner_sees_its_own_and_a_member_what_is_published(api: Api, club: Club) -> None:
    own, other = await club.perk(), await club.perk()
    voice = api.partner(club.partners[own.partner_id])
    assert [perk["handle"] for perk in (await voice(PERKS)).data["perks"]["nodes"]] == [own.handle]
    assert (await voice(PERK, by={"handle": other.handle})).data["perk"] is None
    assert (await voice(PERK, by={"id": f"perk_{other.id.hex}"})).data["perk"] is None
    voice = api.partner(club.partners[own.partner_id])
    drafted = await create(voice)
    member = api.member(await club.member())
    assert (await member(PERK, by={"handle": drafted["handle"]})).data["perk"] is None
    assert (await member(PERK, by={"handle": own.handle})).data["perk"] is not None


async def test_a_perk_is_drafted_changed_published_and_paused(api: Api, club: Club) -> None:
    partner = await club.partner()
    voice = api.partner(partner)
    perk = await create(voice, handle="gala", capacity=10, closesOn="2031-12-31")
    assert perk["handle"] == f"{partner.handle}/gala"
    assert perk["state"] == "DRAFT"
    by = {"handle": perk["handle"]}
    changed = await voice(UPDATE, input={"perk": by, "title": "A night", "closesOn": None})
    assert changed.data["updatePerk"]["perk"] == {
        "title": "A night",
        "capacity": 10,
        "closesOn": None,
        "policyVersion": 1,
    }
    ruled = await voice(UPDATE, input={"perk": by, "rules": [{"kind": "tier_in", "allowed": ["gold", "black"]}]})
    assert ruled.data["updatePerk"]["perk"]["policyVersion"] == 2
    assert (await voice(PUBLISH, perk=by)).data["publishPerk"]["perk"]["state"] == "PUBLISHED"
    assert (await voice(PUBLISH, perk=by)).code == "CONFLICT"
    assert (await voice(PAUSE, perk=by)).data["pausePerk"]["perk"]["state"] == "PAUSED"


async def test_impossible_perks_are_named(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    wrong = [
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"opensOn": "2026-02-02", "closesOn": "2026-02-01"}, "closesOn"),
        ({"capacity": -1}, "capacity"),
        ({"handle": "No Spaces"}, "handle"),
        ({"title": " "}, "title"),
        ({"rules": [{"kind": "horoscope"}]}, "rules.0"),
        ({"rules": [{"kind": "tier_at_least", "tier": "platinum"}]}, "platinum"),
        ({"rules": ["x"]}, "rules.0"),
        ({"holdSeconds": 59}, "holdSeconds"),
        ({"reversalDays": 3651}, "reversalDays"),
    ]
    for given, named in wrong:
        answer = await voice(CREATE, input=draft(**given))
        assert answer.code == "BAD_INPUT"
        assert named in answer.error["message"]


async def test_capacity_never_falls_below_what_is_taken(api: Api, club: Club) -> None:
    perk = await club.perk(units=2)
    partner = club.partners[perk.partner_id]
    for _ in range(2):
        await club.claim(await club.member(partner), perk)
    answer = await api.partner(partner)(UPDATE, input={"perk": {"handle": perk.handle}, "capacity": 1})
    assert answer.code == "CONFLICT"
    assert answer.error["extensions"]["taken"] == 2


async def test_staff_draft_for_a_partner_and_partners_only_for_themselves(api: Api, club: Club) -> None:
    partner, other = await club.partner(), await club.partner()
    made = await create(api.staff(), partner={"handle": partner.handle})
    assert made["handle"].startswith(f"{partner.handle}/")
    assert (await api.staff()(CREATE, input=draft())).code == "BAD_INPUT"
    refused = await api.partner(other)(CREATE, input=draft(partner={"handle": partner.handle}))
    assert refused.code == "BAD_INPUT"


async def test_staff_create_partners(api: Api, club: Club) -> None:
    query = """
    mutation($input: CreatePartnerInput!) { createPartner(input: $input) { partner { handle name kind state } } }
    """
    handle = f"brand-{uuid4().hex[:8]}"
    wanted = {"handle": handle, "name": "Brand", "kind": "TRAVEL"}
    made = (await api.staff()(query, input=wanted)).data["createPartner"]["partner"]
    assert made == {"handle": handle, "name": "Brand", "kind": "TRAVEL", "state": "ACTIVE"}
    assert (await api.staff()(query, input=wanted)).code == "CONFLICT"
    assert (await api.partner(await club.partner())(query, input=wanted)).code == "FORBIDDEN"


async def test_partners_are_listed_within_sight(api: Api, club: Club) -> None:
    own, other = await club.partner(), await club.partner()
    query = "query($by: PartnerBy!) { partner(by: $by) { handle } partners { nodes { handle } } }"
    answer = (await api.partner(own)(query, by={"handle": other.handle})).data
    assert answer == {"partner": None, "partners": {"nodes": [{"handle": own.handle}]}}
    assert (await api.staff()(query, by={"id": f"partner_{other.id.hex}"})).data["partner"] == {"handle": other.handle}
