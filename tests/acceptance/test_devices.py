"""Points of sale: they ask, somebody who may says yes, and the code is good for one token."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from authlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.device_codes import use_device_code
from auth.devices import (
    USER_CODE_ALPHABET,
    DeviceCodes,
    DeviceQuestion,
    approve_device,
    ask_for_device,
    deny_device,
    find_pending,
)
from auth.errors import Unauthenticated
from auth.server import Foundation, Posted
from auth.tables import Approval, BrowserSession, Client, ClientAuthentication, GrantType
from partners import tables
from partners.actors import SYSTEM
from partners.errors import BadInput
from tests.api import Api
from tests.factories import Club
from tests.flows import HERE, App, Flows
from tests.holders import Holder, holder

SCOPES = ["eligibility:read", "redemptions:write"]


@dataclass
class Till:
    """One point of sale, its partner, and who may approve it."""

    club: Club
    partner: tables.Partner
    client: Client
    person: BrowserSession
    foundation: Foundation

    async def asks(self, place: str | None = "Zurich, counter 2", dpop_jkt: str | None = None) -> DeviceCodes:
        async with self.club.database.sessions.begin() as session:
            return await ask_for_device(
                session,
                self.club.keys.devices,
                self.client,
                SCOPES,
                place=place,
                dpop_jkt=dpop_jkt,
                now=self.club.now,
            )

    async def seen(
        self, user_code: str, person: BrowserSession | None = None, *, later: float = 0
    ) -> DeviceQuestion | None:
        async with self.club.database.sessions() as session:
            return await find_pending(session, self.club.keys.devices, user_code, person or self.person, self.at(later))

    async def approved(
        self, user_code: str, person: BrowserSession | None = None, place: str = "Counter 2", *, later: float = 0
    ) -> bool:
        async with self.club.database.sessions.begin() as session:
            return await approve_device(
                session, self.club.keys.devices, user_code, person or self.person, place, self.at(later)
            )

    async def denied(self, user_code: str, person: BrowserSession | None = None) -> bool:
        async with self.club.database.sessions.begin() as session:
            return await deny_device(session, self.club.keys.devices, user_code, person or self.person, self.club.now)

    async def polled(
        self, device_code: str, *, later: float = 0, dpop_jkt: str | None = None, client: Client | None = None
    ) -> Approval | str:
        """The approval, or the error's code: what was written is kept in both cases."""
        async with self.club.database.sessions.begin() as session:
            posted = Posted(self.foundation, session, client or self.client, {}, dpop_jkt, self.at(later))
            try:
                return await session.get_one(Approval, await use_device_code(posted, device_code))
            except OAuth2Error as error:
                return str(error.error)

    def at(self, seconds: float) -> datetime:
        return self.club.now + timedelta(seconds=seconds)


def signed_in(
    kind: CallerKind, *scopes: str, partner: tables.Partner | None = None, member: tables.Member | None = None
) -> BrowserSession:
    return BrowserSession(
        hash=b"",
        kind=kind,
        subject="ana",
        name="Ana",
        partner_id=None if partner is None else partner.id,
        member_id=None if member is None else member.id,
        scopes=list(scopes),
    )


async def client_of(club: Club, partner: tables.Partner, **settings: Any) -> tuple[Client, str | None]:
    """A point of sale that keeps no secret, unless told otherwise."""
    given = {
        "name": "Till",
        "scopes": frozenset(SCOPES),
        "grant_types": (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN, GrantType.TOKEN_EXCHANGE),
        "authentication": ClientAuthentication.NONE,
    }
    async with club.database.sessions.begin() as session:
        return await create_client(
            session, partner.id, ClientSettings(**(given | settings)), Administrator(SYSTEM), club.now
        )


@pytest.fixture
async def till(club: Club, flows: Flows) -> Till:
    partner = await club.partner(name="Bicycles & Sons")
    client, _ = await client_of(club, partner)
    return Till(
        club, partner, client, signed_in(CallerKind.PARTNER, "devices:enrol", partner=partner), flows.foundation
    )


async def test_the_codes_are_long_and_readable_and_kept_as_hashes_only(till: Till) -> None:
    codes = await till.asks()
    assert re.fullmatch(f"[{USER_CODE_ALPHABET}]{{4}}-[{USER_CODE_ALPHABET}]{{4}}", codes.user_code)
    assert len(codes.device_code) == 43
    [row] = await till.club.sql("SELECT * FROM device_authorization WHERE client_id = $1", till.client.id)
    kept = "".join(str(value) for value in row.values())
    assert codes.device_code not in kept
    assert codes.user_code.replace("-", "") not in kept


async def test_a_person_sees_what_is_asked_for_whom_and_where(till: Till) -> None:
    codes = await till.asks()
    assert await till.seen(f" {codes.user_code.lower().replace('-', ' ')} ") == DeviceQuestion(
        client="Till",
        partner="Bicycles & Sons",
        scopes=[
            ("eligibility:read", "Ask whether a member who consented may have a perk of yours."),
            ("redemptions:write", "Confirm holds of your own perks, which redeems them."),
        ],
        place="Zurich, counter 2",
        expires_at=till.at(600),
    )


PEOPLE: dict[str, tuple[bool, Callable[[tables.Partner, tables.Partner], BrowserSession]]] = {
    "the partner's administrator": (
        True,
        lambda own, _: signed_in(CallerKind.PARTNER, "perks:read", "devices:enrol", partner=own),
    ),
    "staff of the partner desk": (True, lambda *_: signed_in(CallerKind.STAFF, "partners:admin")),
    "the partner's cashier": (False, lambda own, _: signed_in(CallerKind.PARTNER, "redemptions:write", partner=own)),
    "another partner's administrator": (
        False,
        lambda _, other: signed_in(CallerKind.PARTNER, "devices:enrol", partner=other),
    ),
    "other staff": (False, lambda *_: signed_in(CallerKind.STAFF, "members:admin", "devices:enrol")),
    "a member": (False, lambda own, _: signed_in(CallerKind.MEMBER, "devices:enrol", "partners:admin", partner=own)),
}


@pytest.mark.parametrize("who", PEOPLE)
async def test_who_may_not_answer_hears_the_same_as_of_an_unknown_code(till: Till, who: str) -> None:
    may, made = PEOPLE[who]
    person = made(till.partner, await till.club.partner())
    codes = await till.asks()
    assert (await till.seen(codes.user_code, person) is not None) is may
    assert await till.denied(codes.user_code, person) is may
    assert await till.seen("BBBB-BBBB", person) is None
    codes = await till.asks()
    assert await till.approved(codes.user_code, person) is may
    assert await till.approved("BBBB-BBBB", person) is False


async def test_a_yes_makes_an_approval_that_says_who_for_whom_what_and_where(till: Till) -> None:
    codes = await till.asks(dpop_jkt="thumb")
    assert await till.approved(codes.user_code, place=" Counter 7 ")
    approval = await till.polled(codes.device_code, dpop_jkt="thumb")
    assert isinstance(approval, Approval)
    assert (approval.kind, approval.subject, approval.partner_id) == ("partner", "ana", till.partner.id)
    assert (approval.scopes, approval.place, approval.dpop_jkt) == (SCOPES, "Counter 7", "thumb")
    assert (approval.member_id, approval.consent_id) == (None, None)
    assert approval.expires_at == till.at(365 * 86_400)
    [entry] = await till.club.sql("SELECT * FROM audit_entry WHERE subject_id = $1", approval.id)
    assert (entry["action"], entry["actor_id"], entry["partner_id"]) == ("device.approved", "ana", till.partner.id)


@pytest.mark.parametrize("place", ["", "  ", "x" * 101, "a\x07b", "line\nbreak"])
async def test_a_point_of_sale_has_a_place_that_people_can_read(till: Till, place: str) -> None:
    codes = await till.asks(None)
    with pytest.raises(BadInput, match="place: 1 to 100 printable characters"):
        await till.approved(codes.user_code, place=place)
    with pytest.raises(BadInput, match="place: 1 to 100 printable characters"):
        await till.asks(place)
    assert await till.approved(codes.user_code)


async def test_one_question_has_one_answer(till: Till) -> None:
    yes, no = await till.asks(), await till.asks()
    answers = [await till.approved(yes.user_code), await till.approved(yes.user_code), await till.denied(yes.user_code)]
    assert answers == [True, False, False]
    assert [await till.denied(no.user_code), await till.denied(no.user_code)] == [True, False]
    assert await till.approved(no.user_code) is False
    assert await till.seen(yes.user_code) is None


async def test_of_fifty_answers_at_once_one_counts(till: Till) -> None:
    codes = await till.asks()
    found = await till.club.at_once(
        f"device_authorization WHERE client_id = '{till.client.id}'",
        (till.approved(codes.user_code) if n % 2 else till.denied(codes.user_code) for n in range(50)),
    )
    assert sum(found) == 1


async def test_nothing_can_be_approved_after_its_time_or_for_who_was_stopped(till: Till) -> None:
    codes = await till.asks()
    assert await till.seen(codes.user_code, later=599) is not None
    assert await till.seen(codes.user_code, later=600) is None
    assert await till.approved(codes.user_code, later=600) is False
    for table, key in (("client", till.client.id), ("partner", till.partner.id)):
        former, stopped = ("ACTIVE", "DISABLED" if table == "client" else "SUSPENDED")
        await till.club.sql(f"UPDATE {table} SET state = $1 WHERE id = $2", stopped, key)
        assert await till.approved(codes.user_code) is False
        await till.club.sql(f"UPDATE {table} SET state = $1 WHERE id = $2", former, key)
    assert await till.approved(codes.user_code)


async def test_a_till_waits_and_is_slowed_down_when_it_asks_too_often(till: Till) -> None:
    code = (await till.asks()).device_code
    asked = [(0, "authorization_pending"), (5, "authorization_pending"), (7, "slow_down"), (14, "slow_down")]
    asked += [(28, "authorization_pending"), (34, "slow_down"), (60, "authorization_pending")]
    assert [(later, await till.polled(code, later=later)) for later, _ in asked] == asked
    [row] = await till.club.sql("SELECT interval_s FROM device_authorization WHERE client_id = $1", till.client.id)
    assert row["interval_s"] == 20


async def test_a_no_an_end_and_an_unknown_code_are_told(till: Till) -> None:
    denied, late = await till.asks(), await till.asks()
    assert await till.denied(denied.user_code)
    assert await till.polled(denied.device_code) == "access_denied"
    assert await till.polled(late.device_code, later=600) == "expired_token"
    assert await till.polled("no such code") == "invalid_grant"


async def test_what_was_approved_must_be_fetched_in_time(till: Till) -> None:
    codes = await till.asks()
    assert await till.approved(codes.user_code, later=599)
    assert await till.polled(codes.device_code, later=600) == "expired_token"


async def test_another_client_and_another_key_get_nothing_and_use_nothing_up(till: Till) -> None:
    other, _ = await client_of(till.club, till.partner)
    codes = await till.asks(dpop_jkt="thumb")
    assert await till.approved(codes.user_code)
    assert await till.polled(codes.device_code, client=other, dpop_jkt="thumb") == "invalid_grant"
    assert await till.polled(codes.device_code, dpop_jkt="another") == "invalid_grant"
    assert await till.polled(codes.device_code) == "invalid_grant"
    assert isinstance(await till.polled(codes.device_code, dpop_jkt="thumb"), Approval)


async def test_a_second_use_ends_what_came_from_the_first(till: Till) -> None:
    codes = await till.asks()
    assert await till.approved(codes.user_code)
    approval = await till.polled(codes.device_code)
    assert isinstance(approval, Approval)
    assert await till.polled(codes.device_code) == "invalid_grant"
    [row] = await till.club.sql("SELECT state, reason FROM approval WHERE id = $1", approval.id)
    assert tuple(row) == ("REVOKED", "DEVICE_CODE_REUSED")
    [denied] = await till.club.sql("SELECT kind FROM revocation WHERE key = $1", str(approval.id))
    assert denied["kind"] == "approval"


async def test_one_device_code_asked_with_fifty_times_at_once_is_good_once(till: Till) -> None:
    codes = await till.asks()
    assert await till.approved(codes.user_code)
    found = await till.club.at_once(
        f"device_authorization WHERE client_id = '{till.client.id}'",
        (till.polled(codes.device_code) for _ in range(50)),
    )
    assert sum(isinstance(one, Approval) for one in found) == 1
    assert found.count("invalid_grant") == 49


@dataclass
class Shop:
    """A partner's till as it talks to the server, and its administrator."""

    flows: Flows
    app: App
    person: BrowserSession

    async def ask(self, **form: str) -> httpx.Response:
        return await self.flows.http.post("/oauth/device_authorization", data=self.app.proof | form)

    async def asked(self, **form: str) -> dict[str, Any]:
        response = await self.ask(**form)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        body: dict[str, Any] = response.json()
        return body

    async def answer(self, user_code: str, place: str = "Counter 2") -> None:
        key, now = self.flows.foundation.keys.devices, self.flows.now
        async with self.flows.foundation.sessions.begin() as session:
            assert await approve_device(session, key, user_code, self.person, place, now)

    async def poll(self, device_code: str, **options: Any) -> httpx.Response:
        return await self.flows.post(
            self.app, {"grant_type": GrantType.DEVICE_CODE, "device_code": device_code}, **options
        )


def told(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


DEVICE = (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN)


@pytest.fixture
async def shop(club: Club, flows: Flows) -> Shop:
    partner = await club.partner()
    app = await flows.public_app(partner, " ".join(SCOPES), grants=DEVICE)
    return Shop(flows, app, await flows.person(CallerKind.PARTNER, "devices:enrol", partner=partner))


async def test_a_till_is_told_where_to_send_somebody_and_how_long_it_may_wait(shop: Shop) -> None:
    body = await shop.asked(scope="eligibility:read", place="Counter 2")
    code = body["user_code"]
    assert {name: body[name] for name in body if name not in ("device_code", "user_code")} == {
        "verification_uri": "https://perks.example/device",
        "verification_uri_complete": f"https://perks.example/device?user_code={code}",
        "expires_in": 600,
        "interval": 5,
    }
    described = (await shop.flows.http.get("/.well-known/oauth-authorization-server")).json()
    assert described["device_authorization_endpoint"] == "https://perks.example/oauth/device_authorization"
    assert GrantType.DEVICE_CODE in described["grant_types_supported"]


async def test_an_approved_till_gets_tokens_of_its_own_and_refreshes_them(shop: Shop) -> None:
    codes = await shop.asked(scope="eligibility:read")
    assert told(await shop.poll(codes["device_code"])) == (400, "authorization_pending")
    assert told(await shop.poll(codes["device_code"])) == (400, "slow_down")
    await shop.answer(codes["user_code"])
    body = (await shop.poll(codes["device_code"])).json()
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 300, "eligibility:read")
    renewed = (await shop.flows.refresh(shop.app, body["refresh_token"])).json()
    assert renewed["refresh_token"] != body["refresh_token"]
    assert renewed["expires_in"] == 300
    for token in (body["access_token"], renewed["access_token"]):
        caller = await shop.flows.caller(token)
        assert (caller.kind, caller.id, caller.client_id) == (CallerKind.PARTNER, shop.app.id, shop.app.id)
        assert (caller.partner_id, caller.alias) == (shop.person.partner_id, None)
        approval = await shop.flows.approval(token)
        assert (approval.place, approval.subject) == ("Counter 2", shop.person.subject)


async def test_a_second_use_ends_the_tokens_of_the_first(shop: Shop) -> None:
    codes = await shop.asked()
    await shop.answer(codes["user_code"])
    body = (await shop.poll(codes["device_code"])).json()
    assert told(await shop.poll(codes["device_code"])) == (400, "invalid_grant")
    with pytest.raises(Unauthenticated, match="revoked"):
        await shop.flows.caller(body["access_token"])
    assert told(await shop.flows.refresh(shop.app, body["refresh_token"])) == (400, "invalid_grant")


async def test_what_was_revoked_before_it_was_fetched_gives_no_token(shop: Shop, club: Club) -> None:
    codes = await shop.asked()
    await shop.answer(codes["user_code"])
    await club.sql("UPDATE approval SET state = 'REVOKED' WHERE client_id = $1", shop.app.id)
    assert told(await shop.poll(codes["device_code"])) == (400, "invalid_grant")


async def test_a_till_with_a_secret_has_to_know_it(shop: Shop, club: Club) -> None:
    app = await shop.flows.app(await club.partner(), grants=DEVICE)
    assert (await Shop(shop.flows, app, shop.person).ask()).status_code == 200
    assert told(await Shop(shop.flows, App(app.id, None), shop.person).ask()) == (401, "invalid_client")
    assert told(await Shop(shop.flows, App(app.id, "guess"), shop.person).ask()) == (401, "invalid_client")


async def test_what_can_not_be_asked_is_refused_in_the_rfcs_words(shop: Shop, club: Club) -> None:
    assert told(await shop.ask(scope="perks:read")) == (400, "invalid_scope")
    assert told(await shop.ask(place="x" * 101)) == (400, "invalid_request")
    assert told(await shop.ask(dpop_jkt="short")) == (400, "invalid_request")
    app = await shop.flows.public_app(await club.partner())
    assert told(await Shop(shop.flows, app, shop.person).ask()) == (400, "unauthorized_client")
    assert told(await Shop(shop.flows, app, shop.person).poll("any")) == (400, "unauthorized_client")
    assert told(await shop.poll("")) == (400, "invalid_request")


async def test_a_code_asked_for_with_a_key_is_good_with_that_key_only(shop: Shop) -> None:
    mine, other = holder(), holder()
    nonce = shop.flows.foundation.proofs.nonce(shop.flows.now)

    def proof(by: Holder, path: str = "/oauth/token") -> dict[str, str]:
        return {"dpop": by.proof(shop.flows.now, f"{HERE.issuer}{path}", nonce)}

    codes = await shop.asked(dpop_jkt=mine.thumbprint)
    await shop.answer(codes["user_code"])
    assert told(await shop.poll(codes["device_code"])) == (400, "invalid_grant")
    assert told(await shop.poll(codes["device_code"], headers=proof(other))) == (400, "invalid_grant")
    body = (await shop.poll(codes["device_code"], headers=proof(mine))).json()
    assert body["token_type"] == "DPoP"
    assert (await shop.flows.caller(body["access_token"])).key_thumbprint == mine.thumbprint
    path = "/oauth/device_authorization"
    proven = await shop.flows.http.post(path, data=shop.app.proof, headers=proof(mine, path))
    await shop.answer(proven.json()["user_code"])
    assert told(await shop.poll(proven.json()["device_code"])) == (400, "invalid_grant")
    form = shop.app.proof | {"dpop_jkt": other.thumbprint}
    assert told(await shop.flows.http.post(path, data=form, headers=proof(mine, path))) == (400, "invalid_request")


async def test_over_fifty_connections_at_once_one_device_code_gives_one_token(live: Api, club: Club) -> None:
    partner, now = await club.partner(), live.service.clock()
    client, _ = await client_of(club, partner)
    form = {"client_id": client.id}
    codes = (await live.client.post("/oauth/device_authorization", data=form)).json()
    person = signed_in(CallerKind.PARTNER, "devices:enrol", partner=partner)
    async with club.database.sessions.begin() as session:
        assert await approve_device(session, club.keys.devices, codes["user_code"], person, "Counter", now)
    form |= {"grant_type": GrantType.DEVICE_CODE, "device_code": codes["device_code"]}
    answers = await asyncio.gather(*(live.client.post("/oauth/token", data=form) for _ in range(50)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: 1, 400: 49}
    assert {answer.json()["error"] for answer in answers if answer.status_code == 400} == {"invalid_grant"}
    [row] = await club.sql("SELECT count(*) AS n, max(state) AS state FROM approval WHERE client_id = $1", client.id)
    assert tuple(row) == (1, "REVOKED")
