"""Codes from end to end: by the API and by files into a pool, out of it to one member each, and seen by nobody else."""

import asyncio
import codecs
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gateway import code_uploads
from gateway.database import Database
from partners import tables
from partners.code_lines import BYTES_MAX, LINES_MAX
from partners.tables import PerkKind
from tests.api import Api, Voice
from tests.factories import Club
from tests.holders import key_client

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
POOL = "query($by: PerkBy!) { perk(by: $by) { codes { total free held assigned lowAt } } }"
CLAIM = """
mutation($input: ClaimPerkInput!) {
  claimPerk(input: $input) { hold { id } userErrors { code ... on CapacityExhausted { waitlistOpen } } }
}
"""
CONFIRM = """
mutation($input: ConfirmHoldInput!) {
  confirmHold(input: $input) { redemption { id code } userErrors { code } }
}
"""
CODE = "query($id: ID!) { redemption(id: $id) { code } }"


async def code_perk(club: Club, **settings: Any) -> tables.Perk:
    waitlist: dict[str, Any] | None = {} if settings.get("when_empty") == "WAITLIST" else None
    return await club.perk(kind=PerkKind.CODE, settings=settings, waitlist=waitlist)


def owner(api: Api, club: Club, perk: tables.Perk, *scopes: str) -> Voice:
    return api.partner(club.partners[perk.partner_id], *scopes)


async def do(voice: Voice, operation: str, **given: Any) -> dict[str, Any]:
    """The payload of a mutation, by its example document."""
    field = operation[0].lower() + operation[1:]
    found: dict[str, Any] = (await voice((OPERATIONS / f"{operation}.graphql").read_text(), input=given)).data[field]
    return found


async def add(api: Api, club: Club, perk: tables.Perk, *added: str) -> dict[str, Any]:
    return await do(owner(api, club, perk), "AddCodes", perk={"handle": perk.handle}, codes=list(added))


async def pool(voice: Voice, perk: tables.Perk) -> Any:
    return (await voice(POOL, by={"handle": perk.handle})).data["perk"]["codes"]


async def redeem(voice: Voice, perk: tables.Perk) -> dict[str, Any]:
    """A member claims and confirms by itself."""
    claim = {"perk": {"handle": perk.handle}, "idempotencyKey": uuid4().hex}
    hold = (await voice(CLAIM, input=claim)).data["claimPerk"]["hold"]
    confirm = {"hold": {"id": hold["id"]}, "idempotencyKey": uuid4().hex}
    found: dict[str, Any] = (await voice(CONFIRM, input=confirm)).data["confirmHold"]["redemption"]
    return found


async def upload(
    voice: Voice, perk: tables.Perk, body: Any, type: str = "text/plain", **headers: str
) -> httpx.Response:
    authorization = {} if voice.token is None else {"authorization": f"Bearer {voice.token}"}
    return await voice.client.post(
        f"/partners/perks/{perk.handle}/codes", content=body, headers={"content-type": type} | authorization | headers
    )


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one error of a refusal."""
    error: dict[str, Any] = response.json()["errors"][0]
    assert (response.status_code, error["extensions"]["code"]) == (status, code), response.text
    assert error["extensions"]["requestId"] == response.headers["x-request-id"]
    return error


async def test_a_member_confirms_by_itself_and_sees_its_code_at_once(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    added = await add(api, club, perk, "GIFT-1", "GIFT-2", "GIFT-1", "bad\tcode")
    assert added == {
        "added": 2,
        "duplicates": 1,
        "malformed": 1,
        "faults": [
            {"line": 3, "message": "the same code as in line 1"},
            {"line": 4, "message": "U+0009 is no character of a code"},
        ],
        "codes": {"total": 2, "free": 2, "held": 0, "assigned": 0, "lowAt": None},
    }
    partner = club.partners[perk.partner_id]
    first, second = [api.member(await club.member(partner)) for _ in range(2)]
    redemptions = [await redeem(voice, perk) for voice in (first, second)]
    assert [one["code"] for one in redemptions] == ["GIFT-1", "GIFT-2"]
    assert (await first(CODE, id=redemptions[0]["id"])).data["redemption"] == {"code": "GIFT-1"}
    assert (await first(CODE, id=redemptions[1]["id"])).data["redemption"] is None


async def test_the_partner_sees_which_code_went_with_its_redemption_and_staff_never_do(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    await add(api, club, perk, "GIFT-1")
    redemption = await redeem(api.member(await club.member(club.partners[perk.partner_id])), perk)
    voice = owner(api, club, perk)
    assert (await voice(CODE, id=redemption["id"])).data["redemption"]["code"] == "GIFT-1"
    listed = "query($perk: ID!) { redemptions(filter: {perk: $perk}) { nodes { code } edges { node { id } } } }"
    assert (await voice(listed, perk=f"perk_{perk.id.hex}")).data["redemptions"]["nodes"] == [{"code": "GIFT-1"}]
    node = "query($id: ID!) { node(id: $id) { ... on Redemption { code } } }"
    assert (await voice(node, id=redemption["id"])).data["node"] == {"code": "GIFT-1"}
    assert (await api.staff()(CODE, id=redemption["id"])).code == "FORBIDDEN"
    stranger = api.partner(await club.partner())
    assert (await stranger(CODE, id=redemption["id"])).data["redemption"] is None


async def test_a_redemption_of_another_kind_has_no_code(api: Api, club: Club) -> None:
    perk = await club.perk()
    redemption: UUID = await club.redeemed(await club.hold(await club.member(club.partners[perk.partner_id]), perk))
    answer = await owner(api, club, perk)(CODE, id=f"redemption_{redemption.hex}")
    assert answer.data["redemption"] == {"code": None}


async def test_the_pool_is_counted_for_its_partner_and_staff_but_not_for_members(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    await add(api, club, perk, "A1", "B2", "C3")
    member = await club.member(club.partners[perk.partner_id])
    await redeem(api.member(member), perk)
    await club.hold(await club.member(club.partners[perk.partner_id]), perk)
    expected = {"total": 3, "free": 1, "held": 1, "assigned": 1, "lowAt": None}
    assert await pool(owner(api, club, perk), perk) == await pool(api.staff(), perk) == expected
    assert (await api.member(member)(POOL, by={"handle": perk.handle})).code == "FORBIDDEN"
    sample = await club.perk()
    assert await pool(api.staff(), sample) is None


@pytest.mark.parametrize(("when_empty", "waitlist_open"), [("REFUSE", False), ("WAITLIST", True)])
async def test_an_empty_pool_says_so_and_whether_one_can_wait(
    api: Api, club: Club, when_empty: str, waitlist_open: bool
) -> None:
    perk = await code_perk(club, when_empty=when_empty)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    claim = {"perk": {"handle": perk.handle}, "idempotencyKey": uuid4().hex}
    payload = (await voice(CLAIM, input=claim)).data["claimPerk"]
    assert payload["userErrors"] == [{"code": "CODE_POOL_EMPTY", "waitlistOpen": waitlist_open}]


async def test_unused_codes_are_withdrawn(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    await add(api, club, perk, "A1", "B2", "C3")
    voice = owner(api, club, perk)
    gone = await do(voice, "WithdrawCodes", perk={"handle": perk.handle}, codes=["B2", "Z9"])
    assert gone == {"withdrawn": 1, "assigned": 0, "held": 0, "unknown": 1, "codes": {"total": 2, "free": 2}}
    gone = await do(voice, "WithdrawCodes", perk={"handle": perk.handle})
    assert (gone["withdrawn"], gone["codes"]["total"]) == (2, 0)


async def test_a_changed_perk_keeps_its_codes(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    await add(api, club, perk, "A1", "B2")
    change = "mutation($input: UpdatePerkInput!) { updatePerk(input: $input) { perk { capacity title } } }"
    voice = owner(api, club, perk)
    changed = await voice(change, input={"perk": {"handle": perk.handle}, "title": "Another title"})
    assert changed.data["updatePerk"]["perk"] == {"capacity": 2, "title": "Another title"}
    more = await voice(change, input={"perk": {"handle": perk.handle}, "capacity": 5})
    assert more.code == "BAD_INPUT"
    assert (await pool(voice, perk))["total"] == 2


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"capacity": 3}, "capacity: what there is is counted"),
        ({"unitsMax": 2}, "unitsMax: a redemption has one code"),
        ({"waitlist": {}}, "waitlist: say one where settings.when_empty is WAITLIST"),
        ({"settings": {"when_empty": "WAITLIST"}}, "waitlist: say one where settings.when_empty is WAITLIST"),
        ({"settings": {"format": {"length_min": 0}}}, "settings.format.length_min"),
    ],
)
async def test_a_perk_that_can_not_give_codes_like_that_is_refused(
    api: Api, club: Club, more: dict[str, Any], fault: str
) -> None:
    create = "mutation($input: CreatePerkInput!) { createPerk(input: $input) { perk { id } } }"
    given = {"handle": f"perk-{uuid4().hex[:8]}", "kind": "CODE", "title": "Codes", "timeZone": "UTC"} | more
    answer = await api.partner(await club.partner())(create, input=given)
    assert answer.code == "BAD_INPUT"
    assert fault in answer.error["message"]


async def test_lists_of_codes_have_one_to_a_thousand(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    voice, document = owner(api, club, perk), (OPERATIONS / "AddCodes.graphql").read_text()
    for count, codes_added in ((1_000, 1_000), (1_001, None), (0, None)):
        given = {"perk": {"handle": perk.handle}, "codes": [f"C{number:05}" for number in range(count)]}
        answer = await voice(document, input=given)
        if codes_added is None:
            assert (answer.code, answer.error["extensions"]["limit"]) == ("BAD_INPUT", 1_000)
        else:
            assert answer.data["addCodes"]["added"] == codes_added


@pytest.mark.parametrize("operation", ["AddCodes", "WithdrawCodes"])
async def test_another_partners_pool_is_not_found(api: Api, club: Club, operation: str) -> None:
    perk, stranger = await code_perk(club), api.partner(await club.partner())
    document = (OPERATIONS / f"{operation}.graphql").read_text()
    answer = await stranger(document, input={"perk": {"handle": perk.handle}, "codes": ["A1"]})
    unknown = await stranger(document, input={"perk": {"handle": "no/such"}, "codes": ["A1"]})
    assert (answer.code, answer.error["message"]) == (unknown.code, unknown.error["message"])
    assert answer.code == "NOT_FOUND"
    assert refused(await upload(stranger, perk, b"A1"), 404, "NOT_FOUND")["message"] == "no such perk"
    assert (await pool(owner(api, club, perk), perk))["total"] == 0


async def test_a_file_of_lines_is_added_and_reported(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    await add(api, club, perk, "B2")
    body = codecs.BOM_UTF8 + b"A1\r\nB2\r\n\r\ncaf\xe9\r\nA1\r\nC3"
    answered = await upload(owner(api, club, perk), perk, body)
    assert answered.status_code == 200
    assert answered.headers["cache-control"] == "no-store"
    assert answered.json() == {
        "perk": perk.handle,
        "added": 2,
        "duplicates": 2,
        "malformed": 1,
        "faults": [
            {"line": 2, "message": "a code that the pool has already"},
            {"line": 4, "message": "not in the encoding of the file's beginning"},
            {"line": 5, "message": "the same code as in line 1"},
        ],
        "codes": {"total": 3, "free": 3, "held": 0, "assigned": 0, "lowAt": None},
    }


async def test_a_table_and_a_file_in_utf_16_are_taken(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    voice = owner(api, club, perk)
    table = await upload(voice, perk, b"id,code\n1,A1\n2,B2\n", "text/csv; charset=utf-8")
    wide = await upload(voice, perk, "\ufeffC3\r\nD4\r\n".encode("utf-16-le"), "text/plain; charset=UTF-16")
    assert (table.json()["added"], wide.json()["added"]) == (2, 2)
    refused(await upload(voice, perk, b"id,voucher\n1,A1\n", "text/csv"), 400, "BAD_INPUT")


async def test_a_hundred_thousand_codes_are_uploaded_while_others_are_served(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    voice = owner(api, club, perk)
    served, uploading = 0, True

    async def ask() -> None:
        nonlocal served
        while uploading:
            await api.anonymous()("{ viewer { kind } }")
            served += 1
            await asyncio.sleep(0.005)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, 100_000, 5_000):
            yield "".join(f"CODE-{number:06}\n" for number in range(start, start + 5_000)).encode()

    asking = asyncio.create_task(ask())
    answered = await upload(voice, perk, body())
    uploading = False
    await asking
    assert answered.json()["added"] == 100_000
    assert served > 20


async def test_an_upload_needs_a_partners_or_staffs_right_to_change_perks(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    anonymous = await upload(api.anonymous(), perk, b"A1")
    refused(anonymous, 401, "UNAUTHENTICATED")
    assert anonymous.headers.get_list("www-authenticate")[0] == "Bearer"
    wrong = await upload(Voice(api.client, "no-token"), perk, b"A1")
    refused(wrong, 401, "UNAUTHENTICATED")
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    reader = await upload(owner(api, club, perk, "perks:read"), perk, b"A1")
    assert refused(reader, 403, "INSUFFICIENT_SCOPE")["extensions"]["missingScopes"] == ["perks:write"]
    assert 'scope="perks:write"' in reader.headers["www-authenticate"]
    refused(await upload(api.member(await club.member()), perk, b"A1"), 403, "FORBIDDEN")
    refused(await upload(api.staff("audit:read"), perk, b"A1"), 403, "INSUFFICIENT_SCOPE")
    assert (await upload(api.staff("partners:admin"), perk, b"A1")).json()["added"] == 1


async def test_a_token_that_is_bound_to_a_key_proves_it_for_this_address(
    api: Api, club: Club, database: Database
) -> None:
    client = await key_client(
        database, api.client, api.service.settings.address, api.service.clock, scopes=frozenset({"perks:write"})
    )
    nonce = await client.nonce()
    token = await client.bound_token(nonce)
    path = "/partners/perks/no/such/codes"

    async def sent(proof: str | None) -> httpx.Response:
        headers = {"authorization": f"DPoP {token}", "content-type": "text/plain"}
        return await api.client.post(path, content=b"A1", headers=headers | ({} if proof is None else {"dpop": proof}))

    refused(await sent(None), 401, "UNAUTHENTICATED")
    refused(await sent(client.proof("/graphql", nonce, token=token)), 401, "UNAUTHENTICATED")
    good = await sent(client.proof(path, nonce, token=token))
    refused(good, 404, "NOT_FOUND")
    assert good.headers["dpop-nonce"]


@pytest.mark.parametrize(
    ("type", "headers"),
    [
        ("application/json", {}),
        ("", {}),
        ("text/plain; charset=iso-8859-1", {}),
        ("text/plain", {"content-encoding": "gzip"}),
    ],
)
async def test_a_body_of_another_type_is_refused(api: Api, club: Club, type: str, headers: dict[str, str]) -> None:
    perk = await code_perk(club)
    refused(await upload(owner(api, club, perk), perk, b"A1", type, **headers), 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_files_are_bounded_in_bytes_and_lines_and_nothing_of_a_larger_one_is_added(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    voice = owner(api, club, perk)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"A" * 99 + b"\n"

    assert refused(await upload(voice, perk, endless()), 413, "BODY_TOO_LARGE")["extensions"]["allowed"] == BYTES_MAX
    told = {"content-length": str(BYTES_MAX + 1)}
    refused(await upload(voice, perk, b"A1", "text/plain", **told), 413, "BODY_TOO_LARGE")
    lines = await upload(voice, perk, b"".join(b"%d\n" % number for number in range(LINES_MAX + 1)))
    assert refused(lines, 413, "BODY_TOO_LARGE")["extensions"]["allowed"] == LINES_MAX
    assert (await pool(voice, perk))["total"] == 0


async def test_only_post_is_served(api: Api, club: Club) -> None:
    perk = await code_perk(club)
    response = await api.client.get(f"/partners/perks/{perk.handle}/codes")
    refused(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "POST"


async def test_a_perk_of_another_kind_takes_no_file(api: Api, club: Club) -> None:
    perk = await club.perk()
    error = refused(await upload(owner(api, club, perk), perk, b"A1"), 400, "BAD_INPUT")
    assert "is of kind SAMPLE and has no codes" in error["message"]


async def test_a_partner_sends_one_file_at_a_time(api: Api, club: Club) -> None:
    perk, other = await code_perk(club), await code_perk(club)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield b"A1\n"

    first = asyncio.create_task(upload(owner(api, club, perk), perk, slow()))
    await begun.wait()
    busy = refused(await upload(owner(api, club, perk), perk, b"B2"), 503, "OVERLOADED")
    assert busy["extensions"]["retryAfter"] > 0
    assert (await upload(owner(api, club, other), other, b"B2")).json()["added"] == 1
    go_on.set()
    assert (await first).json()["added"] == 1
    assert (await upload(owner(api, club, perk), perk, b"B2")).json()["added"] == 1


async def test_a_file_that_never_ends_is_given_up(api: Api, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    perk = await code_perk(club)
    monkeypatch.setattr(code_uploads, "UPLOAD_SECONDS_MAX", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"A1\n"
        await asyncio.sleep(5)
        yield b"B2\n"

    refused(await upload(owner(api, club, perk), perk, slow()), 503, "TIMEOUT")
    assert (await pool(owner(api, club, perk), perk))["total"] == 0
