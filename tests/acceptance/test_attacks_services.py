"""What somebody with bad intentions tries on bespoke requests: other people's words, limits, races and odd input."""

import asyncio
from collections import Counter as Tally
from typing import Any
from uuid import uuid4

import pytest

from tests.api import Api, Voice
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
    assert (await counter.submit(amount=100))["serviceRequest"]["state"] == "APPROVED"
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
    again = await step(
        counter.me, "updateServiceRequest", "UpdateServiceRequestInput", draft, form=GOOD, amountMinor=9
    )
    assert again["serviceRequest"]["amount"] == {"amountMinor": 9, "currencyCode": "KWD"}
    sent = await counter.me(SUBMIT, input={"draft": {"request": draft["id"], "revision": 2}})
    assert sent.data["submitServiceRequest"]["serviceRequest"]["state"] == "APPROVED"


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\0b", "\x1b[2J"])
async def test_a_reason_that_can_not_be_is_told_by_its_own_name(club: Club, api: Api, reason: str) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    cancel = "mutation($input: CancelServiceRequestInput!) { cancelServiceRequest(input: $input) { __typename } }"
    answer = await counter.brand(cancel, input={"request": request["id"], "revision": 1, "reason": reason})
    assert answer.code == "BAD_INPUT"
    assert [fault.split(":")[0] for fault in answer.error["extensions"]["faults"]] == ["reason"]


SAY = "mutation($input: AddServiceMessageInput!) { addServiceMessage(input: $input) { userErrors { code } } }"


@pytest.mark.parametrize("name", ["a\rb.pdf", "a\u2028b.pdf", "a\u0085b", "invoice\u202efdp.exe", "a\tb", "a\0b"])
async def test_a_files_name_is_one_line_that_reads_as_it_is(club: Club, api: Api, name: str) -> None:
    counter = await opened(club, api)
    request = (await counter.submit())["serviceRequest"]
    file = {"name": name, "address": "https://files.example.com/1", "sha256": "0" * 64, "bytes": 1}
    message = {"text": "See the file.", "files": [file]}
    answer = await counter.me(SAY, input={"request": request["id"], "revision": 1, "message": message})
    assert answer.code == "BAD_INPUT"
    assert [fault.split(":")[0] for fault in answer.error["extensions"]["faults"]] == ["files.0.name"]


async def each(voices: list[Voice], query: str, **variables: Any) -> list[Any]:
    return [(await voice(query, **variables)).body for voice in voices]
