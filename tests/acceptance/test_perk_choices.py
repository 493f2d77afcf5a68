"""Kinds, options and pools over the API: written by partners, counted by each caller as far as it may."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from partners.browsing import DETAIL, offered
from tests.api import Answer, Api, Voice
from tests.factories import Club

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
LIST = "{ perks { nodes { handle rules { settings } options { handle } } } }"
SHORT_LIST = "{ perks { nodes { handle rules { settings } capacityRemaining unitsMax currency waitlistOpen } } }"
POOLS = "query($by: PerkBy!) { perk(by: $by) { waitingCount options { pools { name } } } }"
PUBLISH = "mutation($perk: PerkBy!) { publishPerk(input: {perk: $perk}) { perk { state } } }"
CLAIM = """
mutation($input: ClaimPerkInput!) {
  claimPerk(input: $input) { hold { units option } userErrors { code } }
}
"""
STARTS = timedelta(days=30)


def document(name: str) -> str:
    return (OPERATIONS / f"{name}.graphql").read_text(encoding="utf-8")


def event(club: Club, *sessions: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The input of an event whose zone is UTC."""
    shown = {"handle": f"p-{uuid4().hex[:8]}", "kind": "EVENT", "title": "An evening", "timeZone": "UTC"}
    return shown | {"settings": {"sessions": list(sessions)}} | given


def session(club: Club, **given: Any) -> dict[str, Any]:
    starts = (club.now + STARTS).replace(tzinfo=None, microsecond=0)
    kept = {"units": 4, "tiers": [{"tier": "black", "hours_before": 72}, {"tier": "gold", "hours_before": 48}]}
    plain = {"handle": "evening", "title": "The evening", "starts_at": starts.isoformat(), "places": 10}
    return plain | {"cut_off_minutes": 60, "pools": [kept]} | given


async def created(voice: Voice, input: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await voice(document("CreatePerk"), input=input)).data["createPerk"]["perk"]
    await voice(PUBLISH, perk={"id": found["id"]})
    return found


async def update(voice: Voice, perk: dict[str, Any], **said: Any) -> Answer:
    return await voice(document("UpdatePerk"), input={"perk": {"id": perk["id"]}} | said)


async def claim(voice: Voice, perk: dict[str, Any], units: int = 1, **more: Any) -> dict[str, Any]:
    input = {"perk": {"id": perk["id"]}, "details": {"units": units} | more, "idempotencyKey": uuid4().hex}
    found: dict[str, Any] = (await voice(CLAIM, input=input)).data["claimPerk"]
    return found


async def test_every_kind_says_what_its_settings_may_be(api: Api, club: Club) -> None:
    kinds = (await api.member(await club.member())(document("PerkKinds"))).data["perkKinds"]
    assert [one["kind"] for one in kinds] == ["SAMPLE", "EVENT", "SERVICE", "CODE", "ACCESS"]
    schemas = {one["kind"]: one["settingsSchema"] for one in kinds}
    assert all(one["description"].endswith(".") for one in kinds)
    assert set(schemas["EVENT"]["properties"]) == {"sessions"}
    assert set(schemas["SAMPLE"]["properties"]) == {"variants", "pools", "pickup_locations", "shipping"}
    described = schemas["EVENT"]["$defs"]["Session"]
    assert set(described["required"]) == {"handle", "title", "starts_at"}
    pattern = described["properties"]["starts_at"]["pattern"]
    assert re.search(pattern, session(club)["starts_at"])
    assert not re.search(pattern, "2027-05-01T19:00Z")


async def test_a_partner_writes_an_event_and_reads_it_back_whole(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    waitlist = {"offerSeconds": 3600, "offers": 2, "skip": True}
    perk = await created(voice, event(club, session(club), waitlist=waitlist, unitsMax=6, currency="CHF"))
    assert (perk["capacity"], perk["unitsMax"], perk["currency"], perk["selfService"]) == (10, 6, "CHF", False)
    assert perk["waitlist"] == waitlist
    assert perk["settings"]["sessions"][0]["cut_off_minutes"] == 60
    assert perk["pools"] == []
    [option] = perk["options"]
    starts = (club.now + STARTS).replace(microsecond=0)

    def shown(**before: float) -> str:
        return (starts - timedelta(**before)).isoformat(timespec="microseconds")[:-6] + "Z"

    assert (option["startsAt"], option["endsAt"], option["cutOffAt"]) == (shown(), None, shown(hours=1))
    assert (option["capacity"], option["capacityRemaining"], option["open"]) == (10, 10, True)
    assert option["pools"] == [
        {
            "name": "black",
            "tier": "black",
            "turns": [{"tier": "black", "until": shown(hours=72)}, {"tier": "gold", "until": shown(hours=48)}],
            "capacity": 4,
            "taken": 0,
            "keptForWaitlist": 0,
            "capacityRemaining": 4,
        },
        {
            "name": "everybody",
            "tier": None,
            "turns": [],
            "capacity": 6,
            "taken": 0,
            "keptForWaitlist": 0,
            "capacityRemaining": 6,
        },
    ]
    again = await update(voice, perk, settings=perk["settings"])
    assert again.data["updatePerk"]["perk"]["settings"] == perk["settings"]


async def test_each_caller_counts_what_is_within_its_reach(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await created(api.partner(partner), event(club, session(club)))
    by = {"by": {"id": perk["id"]}}

    async def remaining(voice: Voice) -> int:
        [option] = (await voice(document("PerkOptions"), **by)).data["perk"]["options"]
        return int(option["capacityRemaining"])

    black, gold = await club.member(tier="black"), await club.member(partner, tier="gold")
    voices = [
        api.member(black),
        api.member(gold),
        api.member(await club.member(tier=None)),
        api.partner(partner),
        api.staff(),
    ]
    assert [await remaining(voice) for voice in voices] == [10, 6, 6, 10, 10]
    assert (await claim(api.member(gold), perk, option="evening"))["hold"] == {"units": 1, "option": "evening"}
    assert [await remaining(voice) for voice in voices] == [9, 5, 5, 9, 9]
    assert (await api.partner(partner)(POOLS, **by)).data["perk"]["waitingCount"] == 0
    assert (await api.member(black)(POOLS, **by)).code == "FORBIDDEN"


async def test_a_hold_of_a_member_shows_the_options_as_anybody_of_no_tier_may_count_them(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await created(api.partner(partner), event(club, session(club)))
    query = CLAIM.replace("units option", "perk { options { capacityRemaining } }")
    input = {"perk": {"id": perk["id"]}, "idempotencyKey": uuid4().hex}
    answer = await api.member(await club.member(partner, tier="black"))(query, input=input)
    assert answer.data["claimPerk"]["hold"]["perk"]["options"] == [{"capacityRemaining": 6}]


async def test_a_party_is_claimed_all_or_nothing(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await created(api.partner(partner), event(club, session(club), unitsMax=10))
    gold = api.member(await club.member(partner, tier="gold"))
    black = api.member(await club.member(partner, tier="black"))
    assert (await claim(gold, perk, 7)) == {"hold": None, "userErrors": [{"code": "CAPACITY_EXHAUSTED"}]}
    assert (await claim(black, perk, 7))["hold"] == {"units": 7, "option": "evening"}


async def test_every_fault_of_an_input_is_told_at_once(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    wrong = event(
        club,
        session(club, places=3, ends_at="2020-01-01T00:00"),
        session(club),
        title=" ",
        unitsMax=1000,
        currency="EURO",
        waitlist={"offerSeconds": 1},
        timeZone="Europe/Zurich",
    )
    answer = await voice(document("CreatePerk"), input=wrong)
    assert answer.code == "BAD_INPUT"
    assert [one.split(": ")[0] for one in answer.error["extensions"]["faults"]] == [
        "title",
        "unitsMax",
        "currency",
        "waitlist.offerSeconds",
        "settings.sessions.1.handle",
        "settings.sessions.0.ends_at",
        "settings.sessions.0.pools",
    ]
    for settings in (["sessions"], "sessions", 1):
        answer = await voice(document("CreatePerk"), input=event(club) | {"settings": settings})
        assert (answer.code, answer.error["message"]) == ("BAD_INPUT", "settings: an object")


async def test_places_fall_below_what_is_taken_only_when_claims_are_to_stop(api: Api, club: Club) -> None:
    partner = await club.partner()
    voice = api.partner(partner)
    perk = await created(voice, event(club, session(club, pools=[]), unitsMax=8))
    await claim(api.member(await club.member(partner)), perk, 8)
    fewer = {"sessions": [session(club, places=3, pools=[])]}
    refused = await update(voice, perk, settings=fewer)
    assert refused.code == "CONFLICT"
    assert refused.error["extensions"]["short"] == [
        {"path": "settings.evening.everybody", "wanted": 3, "taken": 8, "kept": 0}
    ]
    stopped = (await update(voice, perk, settings=fewer, stopClaims=True)).data["updatePerk"]["perk"]
    assert (stopped["capacity"], stopped["capacityRemaining"]) == (8, 0)
    assert stopped["options"] == [{"handle": "evening", "open": True, "capacity": 8, "capacityRemaining": 0}]
    assert (await update(voice, perk, title="Another title")).data["updatePerk"]["perk"]["capacity"] == 8
    gone = await update(voice, perk, settings={"sessions": []})
    assert (gone.code, gone.error["extensions"]["taken"]) == ("CONFLICT", 8)


async def test_what_is_left_out_stays_and_what_is_null_is_cleared(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    given = {
        "waitlist": {},
        "currency": "EUR",
        "lowAt": 2,
        "unitsMax": 3,
        "selfService": True,
        "returnsAllowance": False,
    }
    perk = await created(voice, event(club, session(club), **given))
    fields = "waitlist { offers } currency lowAt unitsMax selfService returnsAllowance settings"
    query = f"query($by: PerkBy!) {{ perk(by: $by) {{ {fields} }} }}"

    async def shown() -> dict[str, Any]:
        found: dict[str, Any] = (await voice(query, by={"id": perk["id"]})).data["perk"]
        return {name: value for name, value in found.items() if name != "settings"}

    kept = given | {"waitlist": {"offers": 1}}
    await update(voice, perk, title="Another title")
    assert await shown() == kept
    cleared = {"waitlist": None, "currency": None, "lowAt": None}
    await update(voice, perk, **cleared)
    assert await shown() == kept | cleared
    for name in ("settings", "unitsMax", "selfService", "returnsAllowance"):
        answer = await update(voice, perk, **{name: None})
        assert (answer.code, answer.error["message"]) == ("BAD_INPUT", f"{name}: not null")


async def test_a_page_reads_options_only_when_it_is_asked_for_them(
    api: Api, club: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is one statement, which is what it was where nobody asks for what there is to choose from."""
    partner = await club.partner()
    voice = api.partner(partner)
    await created(voice, event(club, session(club)))
    await club.perk(partner, rules=[{"kind": "tier_at_least", "tier": "gold"}])
    statements: list[str] = []

    def noted(*given: Any) -> str:
        statements.append(offered(*given))
        return statements[-1]

    monkeypatch.setattr("partners.browsing.offered", noted)
    for query in (LIST, SHORT_LIST):
        assert len((await voice(query)).data["perks"]["nodes"]) == 2
    with_options, without = statements
    assert "option_titles" in with_options
    assert without == with_options.replace(DETAIL, "")
