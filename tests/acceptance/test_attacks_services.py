"""What somebody with bad intentions tries on bespoke requests: other people's words, limits, races and odd input."""

import asyncio
from collections import Counter as Tally
from typing import Any
from uuid import uuid4

import pytest

from partners.tables import PerkKind
from tests.api import Api
from tests.asking import GOOD, LIST, READ, STEP, SUBMIT, Counter, opened, quoted, step
from tests.factories import Club

NODE = "query($id: ID!) { node(id: $id) { id } }"
DRAFT = f"mutation($input: NewServiceRequestInput!) {{ draftServiceRequest(input: $input) {{ {STEP} }} }}"


async def drafted(counter: Counter, form: Any = GOOD, amount: int = 0) -> dict[str, Any]:
    new = {"perk": {"handle": counter.perk.handle}, "form": form, "amountMinor": amount, "idempotencyKey": uuid4().hex}
    answer = await counter.me(DRAFT, input=new)
    return dict(answer.data["draftServiceRequest"]["serviceRequest"])


async def test_a_draft_that_was_thrown_away_stays_its_members_alone(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    draft = await drafted(counter)
    gone = await step(counter.me, "recallServiceRequest", "ServiceRequestInput", draft)
    assert gone["serviceRequest"]["state"] == "RECALLED"
    perk = f"perk_{counter.perk.id.hex}"
    for voice in (counter.brand, api.staff(), api.bound(counter.partner, counter.alias)):
        assert (await voice(READ, id=draft["id"])).data["serviceRequest"] is None
        assert (await voice(NODE, id=draft["id"])).data["node"] is None
        assert (await voice(LIST, filter={"perk": perk})).data["serviceRequests"] == {"totalCount": 0, "nodes": []}
    assert (await counter.me(READ, id=draft["id"])).data["serviceRequest"]["form"] == GOOD


async def test_drafts_that_meet_are_not_more_than_there_may_be(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    new = {"perk": {"handle": counter.perk.handle}, "form": {}}
    calls = [counter.me(DRAFT, input=new | {"idempotencyKey": uuid4().hex}) for _ in range(30)]
    answers = await asyncio.gather(*calls)
    told = Tally(answer.code if "errors" in answer.body else "DONE" for answer in answers)
    assert told == {"DONE": 20, "CONFLICT": 10}


async def test_who_does_not_say_how_much_is_not_trusted_past_a_limit_of_value(club: Club, api: Api) -> None:
    limit = {"kind": "allowance", "period": "YEAR", "otherwise": 100, "measure": "amount"}
    counter = await opened(club, api, approval="AUTOMATIC", trust={"tier": "gold", "otherwise": 100}, rules=[limit])
    assert (await counter.submit(amount=99))["serviceRequest"]["state"] == "APPROVED"
    silent = await counter.submit(amount=0)
    assert silent["serviceRequest"]["state"] == "SUBMITTED"
    assert silent["serviceRequest"]["automatic"] is False


async def change_currency(counter: Counter, currency: str) -> None:
    update = "mutation($input: UpdatePerkInput!) { updatePerk(input: $input) { perk { id } } }"
    given = {"perk": {"id": f"perk_{counter.perk.id.hex}"}, "currency": currency}
    answer = await counter.brand(update, input=given)
    assert answer.data["updatePerk"]["perk"] is not None


async def test_what_was_asked_for_in_one_currency_is_not_approved_in_another(club: Club, api: Api) -> None:
    counter = await opened(club, api, approval="BY_PARTNER")
    request = (await counter.submit(amount=9_000))["serviceRequest"]
    assert request["amount"] == {"amountMinor": 9_000, "currencyCode": "CHF"}
    await change_currency(counter, "KWD")
    answer = await step(counter.brand, "approveServiceRequest", "ServiceRequestInput", request)
    assert [one["code"] for one in answer["userErrors"]] == ["QUOTE_EXPIRED"]
    assert (answer["serviceRequest"]["state"], answer["serviceRequest"]["redemption"]) == ("SUBMITTED", None)
    offer = await quoted(counter, answer["serviceRequest"], 9)
    assert (await step(counter.me, "approveServiceRequest", "ServiceRequestInput", offer))["userErrors"] == []


async def test_a_draft_in_another_currency_is_written_again_before_it_is_submitted(club: Club, api: Api) -> None:
    counter = await opened(club, api, approval="AUTOMATIC", trust={"tier": "gold", "otherwise": 9_000})
    draft = await drafted(counter, amount=9_000)
    await change_currency(counter, "KWD")
    answer = await counter.me(SUBMIT, input={"draft": {"request": draft["id"], "revision": 1}})
    assert answer.code == "BAD_INPUT"
    again = await step(counter.me, "updateServiceRequest", "UpdateServiceRequestInput", draft, form=GOOD, amountMinor=9)
    assert again["serviceRequest"]["amount"] == {"amountMinor": 9, "currencyCode": "KWD"}
    sent = await counter.me(SUBMIT, input={"draft": {"request": draft["id"], "revision": 2}})
    assert sent.data["submitServiceRequest"]["serviceRequest"]["state"] == "APPROVED"


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "\x1b[2J"])
async def test_a_reason_that_can_not_be_is_told_by_its_own_name(club: Club, api: Api, reason: str) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    cancel = "mutation($input: CancelServiceRequestInput!) { cancelServiceRequest(input: $input) { __typename } }"
    answer = await counter.brand(cancel, input={"request": request["id"], "revision": 1, "reason": reason})
    assert answer.code == "BAD_INPUT"
    assert [fault.split(":")[0] for fault in answer.error["extensions"]["faults"]] == ["reason"]


SAY = "mutation($input: AddServiceMessageInput!) { addServiceMessage(input: $input) { userErrors { code } } }"


@pytest.mark.parametrize("name", ["a\rb.pdf", "a\u2028b.pdf", "a\u0085b", "invoice\u202efdp.exe", "a\tb"])
async def test_a_files_name_is_one_line_that_reads_as_it_is(club: Club, api: Api, name: str) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    file = {"name": name, "address": "https://files.example.com/1", "sha256": "0" * 64, "bytes": 1}
    message = {"text": "See the file.", "files": [file]}
    answer = await counter.me(SAY, input={"request": request["id"], "revision": 1, "message": message})
    assert answer.code == "BAD_INPUT"
    assert [fault.split(":")[0] for fault in answer.error["extensions"]["faults"]] == ["files.0.name"]


HUGE = [-(2**63), -(2**31) - 1, -(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**53, 2**63]
MOMENTS = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-11-22T09:30:00",
    "now",
    "",
]
FILE = {"name": "Plan.pdf", "address": "https://files.example.com/1", "sha256": "0" * 64, "bytes": 1}
ODD_STEPS: list[tuple[str, dict[str, Any]]] = [
    *(("QuoteServiceRequest", {"amountMinor": amount}) for amount in HUGE if not 0 <= amount < 2**31),
    *(("QuoteServiceRequest", {"validUntil": moment}) for moment in MOMENTS),
    *(("QuoteServiceRequest", {"terms": terms}) for terms in ("", " \n", "x" * 2_001, "a\x07b")),
    *(("ScheduleServiceRequest", {"scheduledFor": moment}) for moment in MOMENTS),
    *(("AssignServiceRequest", {"owner": owner}) for owner in ("", "  ", "x" * 101, "a\nb", "\u202eeve")),
    *(("AddServiceMessage", {"message": {"text": text}}) for text in ("", "\t \n", "x" * 5_001, "\x1b[2J")),
    ("AddServiceMessage", {"message": {"text": "x", "files": [FILE] * 11}}),
    *(
        ("AddServiceMessage", {"message": {"text": "x", "files": [FILE | {"bytes": length}]}})
        for length in HUGE
        if not 0 <= length < 2**31
    ),
    *(
        ("AddServiceMessage", {"message": {"text": "x", "files": [FILE | {"address": address}]}})
        for address in (
            "",
            "javascript:alert(1)",
            "http://files.example.com",
            "https://",
            "https://user:word@example.com",
            "https://example.com\\@evil.example",
            "https://example.com:99999",
            "https://[::1",
            "https://exämple.com",
            "https://example.com/" + "x" * 2_000,
            "//example.com",
            "https:///path",
        )
    ),
    *(
        ("AddServiceMessage", {"message": {"text": "x", "files": [FILE | {"sha256": digest}]}})
        for digest in ("", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "\u0660" * 64, "0" * 64 + "\n")
    ),
    *((name, {"revision": seen}) for name in ("FulfilServiceRequest", "AssignServiceRequest") for seen in HUGE),
    *(("AssignServiceRequest", {"request": id}) for id in ("", "service_", "service_" + "0" * 33, "perk_" + "0" * 32)),
]
USUAL: dict[str, Any] = {
    "QuoteServiceRequest": {"amountMinor": 1, "terms": "All in.", "validUntil": "2026-11-23T09:30:00Z"},
    "AssignServiceRequest": {"owner": "Ms Meier"},
    "ScheduleServiceRequest": {},
    "FulfilServiceRequest": {},
    "AddServiceMessage": {},
}


async def test_no_odd_input_of_a_partner_moves_anything_or_breaks_anything(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    before = await club.sql(
        "SELECT r, t FROM service_request r JOIN thread t USING (id) WHERE perk_id = $1", counter.perk.id
    )
    for kind, odd in ODD_STEPS:
        name = kind[0].lower() + kind[1:]
        input = "ServiceRequestInput" if kind == "FulfilServiceRequest" else f"{kind}Input"
        query = f"mutation($input: {input}!) {{ {name}(input: $input) {{ userErrors {{ code }} }} }}"
        if odd.get("revision") == 1:
            continue
        given = {"request": request["id"], "revision": request["revision"]} | USUAL[kind] | odd
        answer = await counter.brand(query, input=given)
        codes = {answer.code} if "errors" in answer.body else {one["code"] for one in answer.data[name]["userErrors"]}
        assert codes <= {"BAD_INPUT", "BAD_USER_INPUT", "STALE_REVISION"}, (kind, odd, answer.body)
        assert codes, (kind, odd)
    after = await club.sql(
        "SELECT r, t FROM service_request r JOIN thread t USING (id) WHERE perk_id = $1", counter.perk.id
    )
    assert after == before
    assert await club.sql("SELECT FROM message WHERE thread_id = $1", request["id"].split("_")[1]) == []


LITERALS = {
    "1e400": "BAD_INPUT",
    "-1e400": "BAD_INPUT",
    "9007199254740992": "BAD_INPUT",
    "1" + "0" * 400: "BAD_INPUT",
    "1" + "0" * 5_000: "BAD_INPUT",
    '"\\u0000"': "BAD_REQUEST",
    "9007199254740991": None,
    "-0.0": None,
    "1e-400": None,
    "5e-324": None,
    "1.5": None,
    "ENUM": None,
    "null": None,
    '""': None,
    "[[[]]]": None,
    '"\\uD83D\\uDE00"': None,
}


@pytest.mark.parametrize("literal", LITERALS, ids=range(len(LITERALS)))
async def test_whatever_json_can_say_is_kept_as_it_is_or_told(club: Club, api: Api, literal: str) -> None:
    counter = await opened(club, api, form={"type": "object"})
    query = """mutation($perk: String!) { submitServiceRequest(input: {new: {perk: {handle: $perk}, form: {a: %s},
        idempotencyKey: "one"}}) { replayed serviceRequest { id form } userErrors { code } } }"""
    answers = [await counter.me(query % literal, perk=counter.perk.handle) for _ in range(2)]
    if LITERALS[literal] is not None:
        assert [answer.code for answer in answers] == [LITERALS[literal]] * 2
        return
    first, again = (answer.data["submitServiceRequest"] for answer in answers)
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert first["serviceRequest"] == again["serviceRequest"]
    stored = (await counter.me(READ, id=first["serviceRequest"]["id"])).data["serviceRequest"]["form"]
    assert stored == first["serviceRequest"]["form"]


BOTH = """mutation($one: NewServiceRequestInput!, $two: NewServiceRequestInput!, $three: ClaimPerkInput!,
    $four: ClaimPerkInput!) {
  one: submitServiceRequest(input: {new: $one}) { serviceRequest { submittedAt } }
  two: submitServiceRequest(input: {new: $two}) { serviceRequest { submittedAt } }
  three: claimPerk(input: $three) { hold { heldAt } }
  four: claimPerk(input: $four) { hold { heldAt } }
}"""


async def test_what_a_member_does_with_two_partners_in_one_request_has_not_one_instant(club: Club, live: Api) -> None:
    """Two partners would match the member by it, to the microsecond (law 8)."""
    services = [await club.perk(kind=PerkKind.SERVICE) for _ in range(2)]
    partners = [club.partners[perk.partner_id] for perk in services]
    samples = [await club.perk(partner) for partner in partners]
    member = await club.member(*partners)
    inputs = [{"perk": {"handle": perk.handle}, "idempotencyKey": uuid4().hex} for perk in services + samples]
    asked = {name: one | {"form": {}} for name, one in zip(("one", "two"), inputs[:2], strict=True)}
    told = (await live.member(member)(BOTH, three=inputs[2], four=inputs[3], **asked)).data
    instants = [told[name]["serviceRequest"]["submittedAt"] for name in ("one", "two")]
    instants += [told[name]["hold"]["heldAt"] for name in ("three", "four")]
    assert len(set(instants)) == 4


async def test_a_partner_is_not_told_of_drafts_by_a_limit_that_they_reach(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    for _ in range(20):
        await drafted(counter)
    answer = await counter.submit(by=counter.brand, member={"alias": counter.alias})
    assert answer["serviceRequest"]["state"] == "SUBMITTED"
    new = {"perk": {"handle": counter.perk.handle}, "form": GOOD, "idempotencyKey": uuid4().hex}
    assert (await counter.me(SUBMIT, input={"new": new})).code == "CONFLICT"


COUNT = """query($filter: ServiceRequestFilter, $after: String) {
  serviceRequests(filter: $filter, after: $after) { totalCount nodes { id } } }"""


@pytest.mark.parametrize("by", ["alias", "token"])
async def test_who_counts_without_looking_is_on_record_too(club: Club, api: Api, by: str) -> None:
    counter = await opened(club, api)
    await counter.submit()
    past_the_end = "A" * 22
    named = {"member": {"alias": counter.alias}} if by == "alias" else {}
    voice = counter.brand if by == "alias" else api.bound(counter.partner, counter.alias)
    told = (await voice(COUNT, filter=named, after=past_the_end)).data["serviceRequests"]
    assert told == {"totalCount": 1, "nodes": []}
    kept = await club.sql("SELECT member_id, kind FROM disclosure WHERE partner_id = $1", counter.partner.id)
    assert [tuple(row) for row in kept] == [(counter.member.id, "SERVICE")]
