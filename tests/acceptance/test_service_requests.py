"""Bespoke requests over the API: as the member, the partner, other partners and staff meet them."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from schema.scalars import show_moment
from tests.api import Api, Voice
from tests.asking import GOOD, LIST, READ, STEP, SUBMIT, opened, quoted, step
from tests.factories import Club


async def test_a_request_goes_all_the_way_and_both_sides_follow_it(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    submitted = (await counter.submit())["serviceRequest"]
    assert (submitted["state"], submitted["revision"], submitted["form"]) == ("SUBMITTED", 1, GOOD)
    quote = await quoted(counter, submitted)
    assert (quote["state"], quote["member"]) == ("QUOTED", {"alias": counter.alias})
    assert quote["clocks"]["waitingForMember"] is True
    approved = await step(counter.me, "approveServiceRequest", "ServiceRequestInput", quote)
    assert approved["userErrors"] == []
    request = approved["serviceRequest"]
    assert (request["state"], request["automatic"]) == ("APPROVED", False)
    assert (request["redemption"]["amountMinor"], request["redemption"]["fulfilment"]) == (5_000, "PENDING")
    owned = await step(counter.brand, "assignServiceRequest", "AssignServiceRequestInput", request, owner="Ms Meier")
    at = show_moment(club.now + timedelta(days=3))
    scheduled = await step(
        counter.brand,
        "scheduleServiceRequest",
        "ScheduleServiceRequestInput",
        owned["serviceRequest"],
        scheduledFor=at,
    )
    assert scheduled["serviceRequest"]["redemption"]["fulfilment"] == "SCHEDULED"
    said = await step(
        counter.me,
        "addServiceMessage",
        "AddServiceMessageInput",
        scheduled["serviceRequest"],
        message={"text": "See you there.", "files": []},
    )
    done = await step(counter.brand, "fulfilServiceRequest", "ServiceRequestInput", said["serviceRequest"])
    assert done["userErrors"] == []
    seen = (await counter.me(READ, id=submitted["id"])).data["serviceRequest"]
    assert (seen["state"], seen["owner"], seen["scheduledFor"]) == ("FULFILLED", "Ms Meier", at)
    assert seen["redemption"]["fulfilment"] == "FULFILLED"
    assert [(one["author"], one["text"]) for one in seen["messages"]["nodes"]] == [("MEMBER", "See you there.")]
    assert seen["clocks"]["solvedAt"] == show_moment(club.now)


async def test_the_node_is_the_request_and_only_within_sight(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    query = "query($id: ID!) { node(id: $id) { id ... on ServiceRequest { state } } }"
    assert (await counter.brand(query, id=request["id"])).data["node"] == {"id": request["id"], "state": "SUBMITTED"}
    stranger = await club.partner()
    assert (await api.partner(stranger)(query, id=request["id"])).data["node"] is None
    assert (await api.member(await club.member())(query, id=request["id"])).data["node"] is None


@pytest.mark.parametrize("by", ["member", "partner"])
async def test_every_fault_of_a_form_is_named_with_its_path(club: Club, api: Api, by: str) -> None:
    counter = await opened(club, api)
    wrong = {"guests": [{"name": "x" * 21}, 3], "colour": "red"}
    voice, more = (counter.me, {}) if by == "member" else (counter.brand, {"member": {"alias": counter.alias}})
    answer = await counter.submit(wrong, by=voice, **more)
    assert answer["serviceRequest"] is None
    assert sorted((one["code"], ".".join(one["path"])) for one in answer["userErrors"]) == [
        ("FORM_INVALID", "form.colour"),
        ("FORM_INVALID", "form.day"),
        ("FORM_INVALID", "form.guests.0.name"),
        ("FORM_INVALID", "form.guests.1"),
    ]
    assert await club.sql("SELECT FROM service_request WHERE perk_id = $1", counter.perk.id) == []
    assert await club.entries(counter.perk, "service.submitted") == [("REFUSED", ["FORM_INVALID"])]


async def test_a_draft_is_changed_submitted_and_seen_by_nobody_before(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    query = f"mutation($input: NewServiceRequestInput!) {{ draftServiceRequest(input: $input) {{ {STEP} }} }}"
    new = {"perk": {"handle": counter.perk.handle}, "form": {"half": "done"}, "idempotencyKey": "draft"}
    draft = (await counter.me(query, input=new)).data["draftServiceRequest"]["serviceRequest"]
    assert (draft["state"], draft["revision"], draft["clocks"]["answerDueAt"]) == ("DRAFT", 1, None)
    assert (await counter.brand(READ, id=draft["id"])).data["serviceRequest"] is None
    assert (await api.staff()(READ, id=draft["id"])).data["serviceRequest"] is None
    early = await counter.me(SUBMIT, input={"draft": {"request": draft["id"], "revision": 1}})
    assert {tuple(one["path"]) for one in early.data["submitServiceRequest"]["userErrors"]} == {
        ("form", "half"),
        ("form", "guests"),
        ("form", "day"),
    }
    changed = await step(counter.me, "updateServiceRequest", "UpdateServiceRequestInput", draft, form=GOOD)
    assert (changed["serviceRequest"]["form"], changed["serviceRequest"]["revision"]) == (GOOD, 2)
    sent = await counter.me(SUBMIT, input={"draft": {"request": draft["id"], "revision": 2}})
    assert sent.data["submitServiceRequest"]["userErrors"] == []
    assert (await counter.brand(READ, id=draft["id"])).data["serviceRequest"]["form"] == GOOD


async def test_who_acts_on_what_it_has_not_seen_is_shown_it(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    await quoted(counter, request)
    answer = await step(counter.me, "recallServiceRequest", "ServiceRequestInput", request)
    assert [(one["code"], one["path"]) for one in answer["userErrors"]] == [("STALE_REVISION", ["revision"])]
    assert (answer["serviceRequest"]["state"], answer["serviceRequest"]["revision"]) == ("QUOTED", 2)
    again = await step(counter.me, "recallServiceRequest", "ServiceRequestInput", answer["serviceRequest"])
    assert again["serviceRequest"]["state"] == "RECALLED"
    late = await step(counter.me, "approveServiceRequest", "ServiceRequestInput", again["serviceRequest"])
    assert [(one["code"], one["path"]) for one in late["userErrors"]] == [("WRONG_STATE", ["request"])]


async def test_trusted_members_are_answered_at_once(club: Club, api: Api) -> None:
    trust = {"tier": "gold", "amount": {"gold": 5_000, "black": 10_000}}
    counter = await opened(club, api, approval="AUTOMATIC", trust=trust)
    request = (await counter.submit(amount=5_000))["serviceRequest"]
    assert (request["state"], request["automatic"]) == ("APPROVED", True)
    assert request["amount"] == {"amountMinor": 5_000, "currencyCode": "CHF"}
    assert request["redemption"]["amountMinor"] == 5_000
    assert request["clocks"]["answeredAt"] == show_moment(club.now)
    assert (await counter.submit(amount=5_001))["serviceRequest"]["state"] == "SUBMITTED"


async def test_the_same_key_asks_once(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    first = await counter.submit(idempotencyKey="one")
    again = await counter.submit(idempotencyKey="one")
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert first["serviceRequest"]["id"] == again["serviceRequest"]["id"]
    new = {"perk": {"handle": counter.perk.handle}, "form": GOOD, "amountMinor": 1, "idempotencyKey": "one"}
    assert (await counter.me(SUBMIT, input={"new": new})).code == "IDEMPOTENCY_KEY_REUSED"


async def test_a_limit_of_value_leaves_the_quote_as_it_is(club: Club, api: Api) -> None:
    limit = {"kind": "allowance", "period": "YEAR", "otherwise": 4_999, "measure": "amount"}
    counter = await opened(club, api, rules=[limit])
    quote = await quoted(counter, (await counter.submit())["serviceRequest"], 5_000)
    answer = await step(counter.me, "approveServiceRequest", "ServiceRequestInput", quote)
    assert [one["code"] for one in answer["userErrors"]] == ["VALUE_LIMIT_REACHED"]
    assert answer["serviceRequest"] == quote | {"member": {"alias": None}}
    cheaper = await quoted(counter, quote, 4_999)
    assert (await step(counter.me, "approveServiceRequest", "ServiceRequestInput", cheaper))["userErrors"] == []


async def test_withdrawing_consent_takes_the_members_words_away_at_once(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    said = await step(
        counter.me, "addServiceMessage", "AddServiceMessageInput", request, message={"text": "Window seats, please."}
    )
    before = (await counter.brand(READ, id=request["id"])).data["serviceRequest"]
    assert (before["form"], before["messages"]["totalCount"]) == (GOOD, 1)
    await club.withdraw(counter.member, counter.partner)
    after = (await counter.brand(READ, id=request["id"])).data["serviceRequest"]
    assert (after["form"], after["messages"], after["member"]) == (None, None, None)
    assert (after["state"], after["revision"]) == ("SUBMITTED", 2)
    message = {"text": "Are you still there?"}
    answer = await step(
        counter.brand, "addServiceMessage", "AddServiceMessageInput", said["serviceRequest"], message=message
    )
    assert [one["code"] for one in answer["userErrors"]] == ["CONSENT_MISSING"]
    declined = await step(counter.brand, "declineServiceRequest", "DeclineServiceRequestInput", after)
    assert declined["serviceRequest"]["state"] == "DECLINED"
    assert (await counter.me(READ, id=request["id"])).data["serviceRequest"]["form"] == GOOD


async def test_what_a_partner_reads_is_kept_for_the_member_to_see(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    told = "{ disclosures { nodes { kind perkHandle } } }"
    await counter.brand("query($id: ID!) { serviceRequest(id: $id) { state revision } }", id=request["id"])
    assert (await counter.me(told)).data["disclosures"]["nodes"] == []
    await counter.brand("query($id: ID!) { serviceRequest(id: $id) { form } }", id=request["id"])
    assert (await counter.me(told)).data["disclosures"]["nodes"] == [
        {"kind": "SERVICE", "perkHandle": counter.perk.handle}
    ]


async def test_staff_see_states_and_clocks_and_need_more_for_words(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    desk = api.staff("audit:read", "partners:admin")
    states = "query($id: ID!) { serviceRequest(id: $id) { state clocks { answerBreached } } }"
    seen = (await desk(states, id=request["id"])).data["serviceRequest"]
    assert seen == {"state": "SUBMITTED", "clocks": {"answerBreached": False}}
    for words in ("form", "messages { totalCount }", "quote { terms }"):
        answer = await desk(f"query($id: ID!) {{ serviceRequest(id: $id) {{ {words} }} }}", id=request["id"])
        assert answer.code == "INSUFFICIENT_SCOPE"
    form = "query($id: ID!) { serviceRequest(id: $id) { form member { externalId } } }"
    read = (await api.staff("audit:read", "members:admin")(form, id=request["id"])).data["serviceRequest"]
    assert read == {"form": GOOD, "member": {"externalId": counter.member.external_id}}
    cancel = """mutation($input: CancelServiceRequestInput!) {
        cancelServiceRequest(input: $input) { serviceRequest { state } userErrors { code } } }"""
    given = {"request": request["id"], "revision": 1, "reason": "The partner has closed."}
    assert (await desk(cancel, input=given)).data["cancelServiceRequest"]["serviceRequest"] == {"state": "CANCELLED"}
    message = (await counter.me(READ, id=request["id"])).data["serviceRequest"]["messages"]["nodes"]
    assert [(one["author"], one["text"]) for one in message] == [("STAFF", "The partner has closed.")]


async def test_strangers_can_not_tell_a_request_from_none(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    other = await club.member(counter.partner)
    alias = await club.consent(other, counter.partner)
    strangers = [api.partner(await club.partner()), api.member(other), api.bound(counter.partner, alias)]
    query = "mutation($input: DeclineServiceRequestInput!) { declineServiceRequest(input: $input) { __typename } }"
    for voice in strangers:
        assert (await voice(READ, id=request["id"])).data["serviceRequest"] is None
        for id in (request["id"], f"service_{uuid4().hex}"):
            answer = await voice(query, input={"request": id, "revision": 1})
            assert (answer.code, answer.error["message"]) == ("NOT_FOUND", "no such service request")
    assert (await counter.me(READ, id=request["id"])).data["serviceRequest"]["state"] == "SUBMITTED"


async def test_requests_are_listed_by_state_perk_and_lateness(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    first = (await counter.submit())["serviceRequest"]
    second = (await counter.submit())["serviceRequest"]
    await step(counter.me, "recallServiceRequest", "ServiceRequestInput", first)
    await club.sql(
        "UPDATE thread SET opened_at = opened_at - interval '2 days' WHERE id = $1", second["id"].split("_")[1]
    )

    async def found(voice: Voice, **filter: Any) -> list[str]:
        page = (await voice(LIST, filter=filter)).data["serviceRequests"]
        assert page["totalCount"] == len(page["nodes"])
        return [node["id"] for node in page["nodes"]]

    perk = f"perk_{counter.perk.id.hex}"
    for voice in (counter.me, counter.brand, api.staff()):
        assert await found(voice, perk=perk) == [second["id"], first["id"]]
        assert await found(voice, perk=perk, state="RECALLED") == [first["id"]]
        assert await found(voice, perk=perk, breached=True) == [second["id"]]
        assert await found(voice, perk=perk, breached=False) == [first["id"]]
    assert await found(counter.brand, member={"alias": counter.alias}, state="SUBMITTED") == [second["id"]]
    assert await found(counter.brand, member={"alias": "nobody"}) == []
    assert await found(api.staff(), member={"externalId": counter.member.external_id}) == [second["id"], first["id"]]
    assert await found(api.staff(), member={"externalId": "nobody"}) == []


async def test_a_thread_is_paged_and_keeps_references_to_files(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    file = {"name": "Plan.pdf", "address": "https://files.example.com/1", "sha256": "0" * 64, "bytes": 12}
    for number in range(3):
        message = {"text": f"{number}", "files": [file] * number, "asks": number == 2}
        voice = counter.brand if number else counter.me
        answer = await step(voice, "addServiceMessage", "AddServiceMessageInput", request, message=message)
        request = answer["serviceRequest"]
    assert request["clocks"]["waitingForMember"] is True
    query = """query($id: ID!, $after: String) { serviceRequest(id: $id) { messages(first: 2, after: $after) {
        totalCount pageInfo { hasNextPage endCursor } nodes { author text files { name address sha256 bytes } } } } }"""
    page = (await counter.me(query, id=request["id"])).data["serviceRequest"]["messages"]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (3, True)
    assert [(one["author"], one["text"], one["files"]) for one in page["nodes"]] == [
        ("MEMBER", "0", []),
        ("PARTNER", "1", [file]),
    ]
    rest = await counter.me(query, id=request["id"], after=page["pageInfo"]["endCursor"])
    assert [one["text"] for one in rest.data["serviceRequest"]["messages"]["nodes"]] == ["2"]
    bad = {"text": "", "files": [file | {"address": "http://example.com"}]}
    wrong = "mutation($input: AddServiceMessageInput!) { addServiceMessage(input: $input) { __typename } }"
    answer = await counter.me(wrong, input={"request": request["id"], "revision": 4, "message": bad})
    assert answer.code == "BAD_INPUT"
    assert [fault.split(":")[0] for fault in answer.error["extensions"]["faults"]] == ["text", "files.0.address"]


async def test_a_partner_asks_on_behalf_of_a_member_and_does_not_agree_for_it(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    request = (await counter.submit(by=counter.brand, member={"alias": counter.alias}))["serviceRequest"]
    quote = await quoted(counter, request)
    answer = await step(counter.brand, "approveServiceRequest", "ServiceRequestInput", quote)
    assert [one["code"] for one in answer["userErrors"]] == ["WRONG_STATE"]
    assert (await step(counter.me, "approveServiceRequest", "ServiceRequestInput", quote))["userErrors"] == []
    strange = await counter.submit(by=counter.brand, member={"alias": "nobody"})
    assert [one["code"] for one in strange["userErrors"]] == ["NOT_A_MEMBER"]


async def test_a_service_is_not_claimed_and_a_sample_is_not_asked_for(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    claim = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { userErrors { code } } }"
    given = {"perk": {"handle": counter.perk.handle}, "idempotencyKey": "x"}
    assert (await counter.me(claim, input=given)).code == "BAD_INPUT"
    sample = await club.perk(counter.partner)
    new = {"perk": {"handle": sample.handle}, "form": GOOD, "idempotencyKey": "x"}
    assert (await counter.me(SUBMIT, input={"new": new})).code == "BAD_INPUT"


async def test_a_form_schema_that_is_no_schema_is_bad_input_with_paths(club: Club, api: Api) -> None:
    create = "mutation($input: CreatePerkInput!) { createPerk(input: $input) { perk { id } } }"
    form = {"type": "object", "properties": {"a": {"type": "sting"}}, "required": 3}
    given = {"handle": "table", "kind": "SERVICE", "title": "A table", "timeZone": "UTC", "settings": {"form": form}}
    answer = await api.partner(await club.partner())(create, input=given)
    assert answer.code == "BAD_INPUT"
    assert sorted(fault.split(":")[0] for fault in answer.error["extensions"]["faults"]) == [
        "settings.form.properties.a.type",
        "settings.form.required",
    ]


@pytest.mark.parametrize(
    "form", [3, "text", [], {"a": 10**30}, {"a": {"b": {"c": [[[[[[[[[[[[[1]]]]]]]]]]]]]}}}, {"a": "x" * 20_000}]
)
async def test_what_could_not_be_kept_is_bad_input_and_changes_nothing(club: Club, api: Api, form: Any) -> None:
    counter = await opened(club, api)
    new = {"perk": {"handle": counter.perk.handle}, "form": form, "idempotencyKey": "x"}
    answer = await counter.me(SUBMIT, input={"new": new})
    assert answer.code == "BAD_INPUT"
    assert await club.sql("SELECT FROM service_request WHERE perk_id = $1", counter.perk.id) == []
    assert (await counter.submit(idempotencyKey="x"))["serviceRequest"]["state"] == "SUBMITTED"


async def test_a_draft_and_something_new_are_not_submitted_at_once(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    new = {"perk": {"handle": counter.perk.handle}, "form": GOOD, "idempotencyKey": "x"}
    draft = {"request": f"service_{uuid4().hex}", "revision": 1}
    for given in ({}, {"new": new, "draft": draft}):
        assert (await counter.me(SUBMIT, input=given)).code in ("BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED")
    assert (await counter.me(SUBMIT, input={"draft": draft})).code == "NOT_FOUND"
