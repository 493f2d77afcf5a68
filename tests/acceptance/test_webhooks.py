"""Webhooks over the API: a partner's own endpoints, secrets, messages and replays, and nobody else's."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from schema.paging import show_cursor
from tests.api import Api, Voice
from tests.factories import Club
from tests.fulfilling import Statements
from tests.outside_vectors import REFUSED
from tests.posting import (
    ADD,
    OPERATIONS,
    RETIRE,
    ROTATE,
    STATE,
    URL,
    Poster,
    a_claim,
    create,
    do,
    endpoint_of,
    posting,
    utc_now,
)
from tests.receivers import after_request, receiving

ENDPOINT = """
query($id: ID!) { webhookEndpoint(id: $id) {
  id url description events state reason failures failingSince pausedUntil createdAt partner { handle }
  secrets { id kind publicKey retiresAt } backlog { pending parked oldestAt } } }
"""
ENABLE = f"mutation($input: WebhookEndpointInput!) {{ enableWebhookEndpoint(input: $input) {{ {STATE} }} }}"
DISABLE = f"mutation($input: WebhookEndpointInput!) {{ disableWebhookEndpoint(input: $input) {{ {STATE} }} }}"
DELETE = "mutation($input: WebhookEndpointInput!) { deleteWebhookEndpoint(input: $input) { deletedId } }"
RESEND = """
mutation($input: ResendWebhookMessageInput!) {
  resendWebhookMessage(input: $input) { count goesOnAfter userErrors { code } }
}
"""
LIST = (
    "query($by: PartnerBy, $first: Int, $after: String) { webhookEndpoints(partner: $by, first: $first, after: $after) "
)
LIST += "{ nodes { id } pageInfo { hasNextPage endCursor } } }"
DELIVERIES = """
query($endpoint: ID!, $event: ID, $first: Int, $after: String) {
  webhookDeliveries(endpoint: $endpoint, eventId: $event, first: $first, after: $after) {
    nodes { id eventId number status fault durationMs at } pageInfo { hasNextPage endCursor } } }
"""


@pytest.fixture
def poster(api: Api) -> Iterator[Poster]:
    with posting(api) as poster:
        yield poster


async def shown(voice: Voice, id: str) -> Any:
    return (await voice(ENDPOINT, id=id)).data["webhookEndpoint"]


async def messages(voice: Voice, endpoint: str, **filter: Any) -> list[dict[str, Any]]:
    query = (OPERATIONS / "WebhookMessages.graphql").read_text()
    found = (await voice(query, endpoint=endpoint, filter=filter or None)).data["webhookMessages"]["nodes"]
    return list(found)


async def test_a_new_endpoint_is_shown_with_a_secret_that_nobody_sees_again(api: Api, club: Club) -> None:
    partner = await club.partner()
    voice = api.partner(partner)
    made = await create(voice, "https://HOOKS.brand.example:443/perks?a=b", events=["perk.claimed"], description=" x ")
    assert made["secret"].startswith("whsec_")
    found = await shown(voice, made["endpoint"]["id"])
    secret = found["secrets"][0]
    assert found | {"createdAt": None, "secrets": []} == {
        "id": made["endpoint"]["id"],
        "url": "https://hooks.brand.example/perks?a=b",
        "description": "x",
        "events": ["perk.claimed"],
        "state": "ENABLED",
        "reason": None,
        "failures": 0,
        "failingSince": None,
        "pausedUntil": None,
        "createdAt": None,
        "partner": {"handle": partner.handle},
        "secrets": [],
        "backlog": {"pending": 0, "parked": 0, "oldestAt": None},
    }
    assert (secret["kind"], secret["publicKey"], secret["retiresAt"]) == ("HMAC", None, None)
    hidden = made["secret"].removeprefix("whsec_")
    everything = await voice((OPERATIONS / "WebhookEndpoints.graphql").read_text())
    entries = await api.staff()("{ auditEntries(first: 100) { nodes { action reasons leaf } } }")
    assert hidden not in str(everything.body) + str(entries.body)
    rows = await club.sql("SELECT * FROM webhook_secret s JOIN webhook_endpoint e ON e.id = s.endpoint_id")
    assert hidden not in str([dict(row) for row in rows])


@pytest.mark.parametrize("name", ["plain http", "another port", "a user", "the loopback", "localhost", "decimal"])
async def test_an_address_that_can_not_be_is_told_as_data(api: Api, club: Club, name: str) -> None:
    voice = api.partner(await club.partner())
    refused = await do(voice, "CreateWebhookEndpoint", url=REFUSED[name])
    [error] = refused.pop("userErrors")
    assert refused == {"endpoint": None, "secret": None}
    assert (error["code"], error["path"]) == ("URL_REFUSED", ["url"])
    assert error["reason"]
    assert REFUSED[name] not in str(error)
    endpoint = await endpoint_of(voice)
    changed = await do(voice, "UpdateWebhookEndpoint", endpoint=endpoint, url=REFUSED[name])
    assert [one["code"] for one in changed["userErrors"]] == ["URL_REFUSED"]
    assert (await shown(voice, endpoint))["url"] == URL


async def test_what_a_partner_decides_can_be_changed_and_the_rest_stays(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    endpoint = await endpoint_of(voice, events=["perk.claimed"], description="one")
    changed = await do(voice, "UpdateWebhookEndpoint", endpoint=endpoint, events=["hold.confirmed"])
    assert changed["endpoint"] | {"id": ""} == {
        "id": "",
        "url": URL,
        "description": "one",
        "events": ["hold.confirmed"],
    }
    nothing = await voice(
        (OPERATIONS / "UpdateWebhookEndpoint.graphql").read_text(),
        input={
            "endpoint": endpoint,
            "url": None,
        },
    )
    unknown = await voice(
        (OPERATIONS / "UpdateWebhookEndpoint.graphql").read_text(),
        input={
            "endpoint": endpoint,
            "events": ["perk.eaten"],
        },
    )
    assert (nothing.code, unknown.code) == ("BAD_INPUT", "BAD_INPUT")
    assert unknown.error["extensions"]["unknownEvents"] == ["perk.eaten"]


async def test_an_eleventh_endpoint_is_refused(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    made = [await endpoint_of(voice) for _ in range(10)]
    refused = await do(voice, "CreateWebhookEndpoint", url=URL)
    assert [error["code"] for error in refused["userErrors"]] == ["WRONG_STATE"]
    assert (await voice(DELETE, input={"endpoint": made[0]})).data == {"deleteWebhookEndpoint": {"deletedId": made[0]}}
    await create(voice)
    page = (await voice(LIST, first=7)).data["webhookEndpoints"]
    rest = (await voice(LIST, first=7, after=page["pageInfo"]["endCursor"])).data["webhookEndpoints"]
    assert [one["id"] for one in page["nodes"] + rest["nodes"]][:9] == made[1:]
    assert len(rest["nodes"]) == 3
    assert not rest["pageInfo"]["hasNextPage"]


async def test_secrets_are_added_rotated_and_retired_but_for_the_last(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    endpoint = await endpoint_of(voice)
    key = (await voice(ADD, input={"endpoint": endpoint, "kind": "ED25519"})).data["addWebhookSecret"]
    assert key["secret"] == key["signsAs"]["publicKey"]
    assert key["secret"].startswith("whpk_")
    rotated = (await voice(ROTATE, input={"endpoint": endpoint, "overlapSeconds": 60})).data["rotateWebhookSecret"]
    former, ed25519, new = rotated["endpoint"]["secrets"]
    assert [one["kind"] for one in (former, ed25519, new)] == ["HMAC", "ED25519", "HMAC"]
    assert former["retiresAt"] is not None
    assert (ed25519["retiresAt"], new["retiresAt"], new["id"]) == (None, None, rotated["signsAs"]["id"])
    for secret in (former, new):
        retired = (await voice(RETIRE, input={"endpoint": endpoint, "secret": secret["id"]})).data
        assert retired["retireWebhookSecret"]["userErrors"] == []
    refused = (await voice(RETIRE, input={"endpoint": endpoint, "secret": ed25519["id"]})).data["retireWebhookSecret"]
    assert [(one["code"], one["path"]) for one in refused["userErrors"]] == [("WRONG_STATE", ["secret"])]
    again = await voice(RETIRE, input={"endpoint": endpoint, "secret": new["id"]})
    assert again.code == "NOT_FOUND"


async def test_a_secret_that_the_receiver_has_already_can_be_given(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    endpoint, given = await endpoint_of(voice), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    added = (await voice(ADD, input={"endpoint": endpoint, "secret": given})).data["addWebhookSecret"]
    assert added["secret"] == given
    for wrong in ({"secret": "whsec_AAAA"}, {"secret": "MfKQ"}, {"secret": given, "kind": "ED25519"}):
        refused = await voice(ADD, input={"endpoint": endpoint, **wrong})
        assert refused.code == "BAD_INPUT"
        assert str(wrong["secret"]) not in str(refused.body)
    for seconds in (-1, 604_801):
        assert (await voice(ROTATE, input={"endpoint": endpoint, "overlapSeconds": seconds})).code == "BAD_INPUT"


async def test_stopping_and_starting_is_told_and_not_done_twice(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    endpoint = await endpoint_of(voice)
    stopped = (await api.staff("partners:admin")(DISABLE, input={"endpoint": endpoint})).data["disableWebhookEndpoint"]
    assert stopped["endpoint"]["state"] == "DISABLED"
    again = (await voice(DISABLE, input={"endpoint": endpoint})).data["disableWebhookEndpoint"]
    assert [error["code"] for error in again["userErrors"]] == ["WRONG_STATE"]
    tested = await do(voice, "SendTestEvent", endpoint=endpoint)
    assert [error["code"] for error in tested["userErrors"]] == ["WRONG_STATE"]
    started = (await voice(ENABLE, input={"endpoint": endpoint})).data["enableWebhookEndpoint"]
    assert started["endpoint"]["state"] == "ENABLED"


async def test_staff_see_whose_endpoints_there_are_and_can_not_make_any(api: Api, club: Club) -> None:
    partner = await club.partner()
    endpoint = await endpoint_of(api.partner(partner))
    staff = api.staff("partners:admin")
    assert (await shown(staff, endpoint))["partner"]["handle"] == partner.handle
    listed = (await staff(LIST, by={"handle": partner.handle})).data["webhookEndpoints"]
    assert [one["id"] for one in listed["nodes"]] == [endpoint]
    denied = await staff((OPERATIONS / "CreateWebhookEndpoint.graphql").read_text(), input={"url": URL})
    assert denied.code == "FORBIDDEN"


async def test_anothers_endpoint_is_not_found_by_whatever_name(api: Api, club: Club, poster: Poster) -> None:
    perk = await club.perk()
    owner, other = api.partner(club.partners[perk.partner_id]), api.partner(await club.partner())
    async with receiving() as receiver:
        endpoint = await endpoint_of(owner, receiver.url)
        own = await endpoint_of(other)
        await a_claim(api, club, perk)
        await poster.tell()
        [told] = await messages(owner, endpoint, event="perk.claimed")
    [attempt] = (await owner(DELIVERIES, endpoint=endpoint, event=told["eventId"])).data["webhookDeliveries"]["nodes"]
    [secret] = (await shown(owner, endpoint))["secrets"]
    nobody, event = f"endpoint_{uuid4().hex}", told["eventId"]
    for id in (endpoint, nobody):
        node = "query($id: ID!) { node(id: $id) { id } }"
        assert (await shown(other, id), (await other(node, id=id)).data["node"]) == (None, None)
        assert await messages(other, id) == []
        assert await messages(other, id, eventId=event) == []
        assert (await other(DELIVERIES, endpoint=id)).data["webhookDeliveries"]["nodes"] == []
        assert (await other(DELIVERIES, endpoint=id, event=event)).data["webhookDeliveries"]["nodes"] == []
        one = {"endpoint": id}
        for document, given in (
            (ENABLE, one),
            (DISABLE, one),
            (DELETE, one),
            (ADD, one),
            (ROTATE, one),
            (RETIRE, one | {"secret": secret["id"]}),
            (RESEND, one | {"eventId": event}),
            ((OPERATIONS / "SendTestEvent.graphql").read_text(), one),
            ((OPERATIONS / "UpdateWebhookEndpoint.graphql").read_text(), one | {"url": URL}),
            ((OPERATIONS / "ReplayWebhookMessages.graphql").read_text(), one | {"messages": {"parked": True}}),
            ((OPERATIONS / "ReplayWebhookMessages.graphql").read_text(), one | {"messages": {"after": event}}),
        ):
            assert (await other(document, input=given)).code == "NOT_FOUND", document
    # Of an endpoint of one's own, by ids of another's.
    assert (await other(RESEND, input={"endpoint": own, "eventId": event})).code == "NOT_FOUND"
    assert (await other(RETIRE, input={"endpoint": own, "secret": secret["id"]})).code == "NOT_FOUND"
    assert await messages(other, own, eventId=event) == []
    assert (await other(DELIVERIES, endpoint=own, event=event)).data["webhookDeliveries"]["nodes"] == []
    assert attempt["status"] == 200
    assert (await shown(owner, endpoint))["state"] == "ENABLED"


@pytest.mark.parametrize("id", ["", "endpoint_", "endpoint_xyz", "perk_" + "0" * 32, "0" * 32, "endpoint_" + "A" * 32])
async def test_what_is_no_endpoints_id_is_bad_input(api: Api, club: Club, id: str) -> None:
    voice = api.partner(await club.partner())
    assert (await voice(ENDPOINT, id=id)).code == "BAD_INPUT"
    assert (await voice(DELETE, input={"endpoint": id})).code == "BAD_INPUT"


async def test_every_event_is_in_the_catalogue_with_when_it_is_told(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    listed = (await voice((OPERATIONS / "WebhookEventTypes.graphql").read_text())).data["webhookEventTypes"]
    timings = {one["type"]: one["timing"] for one in listed}
    assert timings["perk.claimed"] == "AT_ONCE"
    assert timings["consent.withdrawn"] == "STAGGERED"
    assert all(one["description"].endswith(".") for one in listed)


async def test_a_test_is_told_to_its_endpoint_alone(api: Api, club: Club, poster: Poster) -> None:
    voice = api.partner(await club.partner())
    async with receiving() as receiver, receiving() as another:
        endpoint = await endpoint_of(voice, receiver.url, events=["perk.claimed"])
        await endpoint_of(voice, another.url, events=["perk.claimed"])
        event = (await do(voice, "SendTestEvent", endpoint=endpoint))["eventId"]
        await poster.tell()
        assert (len(receiver.requests), another.requests) == (1, [])
        assert f"webhook-id: {event}".encode() in receiver.requests[0]
    [told] = await messages(voice, endpoint)
    assert (told["eventId"], told["event"], told["state"]) == (event, "webhook.tested", "DELIVERED")


async def test_a_partner_whose_endpoint_was_dead_for_days_has_everything_in_the_end(
    api: Api, club: Club, poster: Poster
) -> None:
    perk = await club.perk()
    voice = api.partner(club.partners[perk.partner_id])
    async with receiving() as receiver:
        endpoint = await endpoint_of(voice, receiver.url, events=["perk.claimed"])
        await a_claim(api, club, perk)
        assert await poster.tell() >= 1  # others' endpoints may have something due, too
    dead = after_request(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
    async with receiving(dead, port=receiver.port):
        await a_claim(api, club, perk)
        for hours in range(0, 120, 4):
            await poster.tell(partial(utc_now, timedelta(hours=hours)))
        parked, told = await messages(voice, endpoint)
        assert (told["state"], parked["state"]) == ("DELIVERED", "PARKED")
        assert (told["attempts"], parked["attempts"]) == (1, len(parked["deliveries"]))
        assert {one["status"] for one in parked["deliveries"]} == {500}
        failing = await shown(voice, endpoint)
        assert (failing["state"], failing["backlog"]["parked"]) == ("ENABLED", 1)
        assert failing["failures"] >= 5
        assert failing["failingSince"] is not None
    async with receiving(port=receiver.port) as back:
        replayed = await do(voice, "ReplayWebhookMessages", endpoint=endpoint, messages={"parked": True})
        assert replayed == {"count": 1, "goesOnAfter": None, "userErrors": []}
        await poster.tell(partial(utc_now, timedelta(hours=130)))
        assert [f"webhook-id: {parked['eventId']}".encode() in one for one in back.requests] == [True]
    again, _ = await messages(voice, endpoint)
    assert (again["state"], again["attempts"], again["replays"]) == ("DELIVERED", 1, 1)
    assert (await shown(voice, endpoint))["failures"] == 0


async def test_messages_are_asked_for_again_one_by_one_from_a_time_and_after_a_message(
    api: Api, club: Club, poster: Poster
) -> None:
    perk = await club.perk()
    voice = api.partner(club.partners[perk.partner_id])
    async with receiving() as receiver:
        endpoint = await endpoint_of(voice, receiver.url, events=["perk.claimed"])
        for _ in range(3):
            await a_claim(api, club, perk)
        await poster.tell()
        third, second, first = [one["eventId"] for one in await messages(voice, endpoint)]
        one = (await voice(RESEND, input={"endpoint": endpoint, "eventId": second})).data["resendWebhookMessage"]
        after = await do(voice, "ReplayWebhookMessages", endpoint=endpoint, messages={"after": first})
        since = await do(voice, "ReplayWebhookMessages", endpoint=endpoint, messages={"since": "2020-01-01T00:00:00Z"})
        some = await do(voice, "ReplayWebhookMessages", endpoint=endpoint, messages={"eventIds": [first, third]})
        assert [one["count"], after["count"], since["count"], some["count"]] == [1, 2, 3, 2]
        receiver.requests.clear()
        await poster.tell()
        assert len(receiver.requests) == 3
    assert [one["state"] for one in await messages(voice, endpoint, state="DELIVERED")] == ["DELIVERED"] * 3
    attempts = (await voice(DELIVERIES, endpoint=endpoint, first=4)).data["webhookDeliveries"]
    rest = await voice(DELIVERIES, endpoint=endpoint, first=4, after=attempts["pageInfo"]["endCursor"])
    everything = attempts["nodes"] + rest.data["webhookDeliveries"]["nodes"]
    assert len({attempt["id"] for attempt in everything}) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": {"eventIds": []}},
        {"messages": {"eventIds": [f"evt_{number:032x}" for number in range(101)]}},
        {"messages": {"eventIds": ["evt_1"]}},
        {"messages": {"parked": False}},
        {"messages": {"parked": True}, "until": "2026-01-01T00:00:00Z"},
        {"messages": {"since": "2026-01-02T00:00:00Z"}, "until": "2026-01-01T00:00:00Z"},
    ],
)
async def test_a_replay_of_nothing_sensible_is_bad_input(api: Api, club: Club, wrong: dict[str, Any]) -> None:
    voice = api.partner(await club.partner())
    endpoint = await endpoint_of(voice)
    document = (OPERATIONS / "ReplayWebhookMessages.graphql").read_text()
    assert (await voice(document, input={"endpoint": endpoint, **wrong})).code == "BAD_INPUT"


async def test_a_page_costs_a_few_statements_however_much_is_on_it(api: Api, club: Club, poster: Poster) -> None:
    perk = await club.perk()
    voice = api.partner(club.partners[perk.partner_id])
    async with receiving() as receiver:
        endpoints = [await endpoint_of(voice, receiver.url, events=["perk.claimed"]) for _ in range(3)]
        for _ in range(3):
            await a_claim(api, club, perk)
        await poster.tell()
    with Statements(api.service.database) as asked:
        listed = (await voice((OPERATIONS / "WebhookEndpoints.graphql").read_text())).data["webhookEndpoints"]
    assert ([one["id"] for one in listed["nodes"]], len(asked)) == (endpoints, 3)
    with Statements(api.service.database) as asked:
        told = await messages(voice, endpoints[0])
    assert ([len(one["deliveries"]) for one in told], len(asked)) == ([1, 1, 1], 2)
    bare = "query($id: ID!) { webhookMessages(endpoint: $id, first: 2) { nodes { eventId } pageInfo { endCursor } } }"
    with Statements(api.service.database) as asked:
        page = (await voice(bare, id=endpoints[0])).data["webhookMessages"]
    assert (len(page["nodes"]), len(asked)) == (2, 1)


async def test_pages_of_messages_neither_skip_nor_repeat_and_know_no_strange_cursor(
    api: Api, club: Club, poster: Poster
) -> None:
    perk = await club.perk()
    voice, other = api.partner(club.partners[perk.partner_id]), api.partner(await club.partner())
    async with receiving() as receiver:
        endpoint = await endpoint_of(voice, receiver.url)
        for _ in range(5):
            await a_claim(api, club, perk)
        await poster.tell()
    page = """
    query($id: ID!, $after: String) {
      webhookMessages(endpoint: $id, first: 3, after: $after, filter: {event: "perk.claimed"}) {
        nodes { eventId } pageInfo { hasNextPage endCursor } } }
    """
    one = (await voice(page, id=endpoint)).data["webhookMessages"]
    cursor = one["pageInfo"]["endCursor"]
    two = (await voice(page, id=endpoint, after=cursor)).data["webhookMessages"]
    assert (one["pageInfo"]["hasNextPage"], two["pageInfo"]["hasNextPage"]) == (True, False)
    assert len({row["eventId"] for row in one["nodes"] + two["nodes"]}) == 5
    assert (await voice(page, id=endpoint, after="x")).code == "BAD_INPUT"
    own = await endpoint_of(other)
    for strange in (cursor, show_cursor(uuid4())):
        for id in (own, endpoint):
            assert (await other(page, id=id, after=strange)).data["webhookMessages"]["nodes"] == []


async def test_no_secret_and_no_address_is_in_what_is_logged(
    api: Api, club: Club, poster: Poster, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = api.partner(await club.partner())
    async with receiving() as receiver:
        pass
    made = await create(voice, f"{receiver.url}/token-{uuid4().hex}")
    key = (await voice(ADD, input={"endpoint": made["endpoint"]["id"], "kind": "ED25519"})).data["addWebhookSecret"]
    await do(voice, "SendTestEvent", endpoint=made["endpoint"]["id"])
    await poster.tell()
    [attempt] = (await voice(DELIVERIES, endpoint=made["endpoint"]["id"])).data["webhookDeliveries"]["nodes"]
    assert (attempt["status"], attempt["fault"]) == (None, "CONNECT")
    said = "".join(capsys.readouterr())
    assert "token-" not in said
    assert made["secret"] not in said
    rows = str(await club.sql("SELECT leaf, reasons FROM audit_entry WHERE action LIKE 'webhook.%'"))
    rows += str(await club.sql("SELECT * FROM disclosure"))
    assert not any(word in rows for word in ("token-", made["secret"].removeprefix("whsec_"), key["secret"][5:]))
