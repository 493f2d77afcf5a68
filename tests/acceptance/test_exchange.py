"""A pass at the counter becomes a token of its member at that partner, once; whatever is wrong looks the same."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import event

from auth.approvals import revoke_approval
from auth.caller import Caller, CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.devices import approve_device
from auth.errors import Unauthenticated
from auth.exchange import ACCESS_TOKEN_TYPE, PASS_TYPE
from auth.tables import GrantType
from auth.tokens import mint_access_token
from auth.withdrawal import withdraw_consent
from partners import tables
from partners.actors import SYSTEM
from partners.passes import create_pass
from partners.references import MemberRef
from tests.api import Api, Voice
from tests.factories import STAFF, Club
from tests.flows import HERE, App, Flows
from tests.holders import holder

SCOPES = "eligibility:read holds:write redemptions:write"
SERVER = (GrantType.CLIENT_CREDENTIALS, GrantType.TOKEN_EXCHANGE)
TILL = (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN, GrantType.TOKEN_EXCHANGE)
REFUSED = {"error": "invalid_request", "error_description": "the pass does not hold: have the member show a new one"}


@dataclass
class Counter2:
    """A counter of a partner: a server that keeps a secret and a till that keeps none."""

    flows: Flows
    club: Club
    partner: tables.Partner
    server: App
    till: App

    async def member(self, **consent: Any) -> tables.Member:
        member = await self.club.member()
        await self.club.consent(member, self.partner, **consent)
        return member

    async def pass_of(self, member: tables.Member) -> str:
        async with self.flows.foundation.sessions.begin() as session:
            shown = await create_pass(session, member.id, now=self.flows.now)
        assert shown is not None
        return shown.code

    async def exchange(self, code: str, app: App | None = None, headers: Any = None, **form: str) -> httpx.Response:
        whole = {"grant_type": GrantType.TOKEN_EXCHANGE, "subject_token": code, "subject_token_type": PASS_TYPE} | form
        return await self.flows.post(app or self.server, whole, headers=headers)

    async def exchanged(self, code: str, app: App | None = None, **form: str) -> dict[str, Any]:
        response = await self.exchange(code, app, **form)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def till_token(self, scope: str = SCOPES) -> str:
        """What the till was given by the device flow."""
        flows = self.flows
        asked = await flows.http.post("/oauth/device_authorization", data=self.till.proof | {"scope": scope})
        person = await flows.person(CallerKind.PARTNER, "devices:enrol", partner=self.partner)
        async with flows.foundation.sessions.begin() as session:
            code = asked.json()["user_code"]
            assert await approve_device(session, flows.foundation.keys.devices, code, person, "Counter 2", flows.now)
        form = {"grant_type": GrantType.DEVICE_CODE, "device_code": asked.json()["device_code"]}
        return str((await flows.post(self.till, form)).json()["access_token"])

    async def by_till(self, code: str, actor: str, **form: str) -> httpx.Response:
        return await self.exchange(code, self.till, actor_token=actor, actor_token_type=ACCESS_TOKEN_TYPE, **form)


@pytest.fixture
async def counter(club: Club, flows: Flows) -> Counter2:
    partner = await club.partner()
    server = await flows.app(partner, SCOPES + " perks:read", grants=SERVER)
    till = await flows.public_app(partner, SCOPES, grants=TILL)
    return Counter2(flows, club, partner, server, till)


def told(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def claims_of(flows: Flows, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(dict(flows.foundation.ring.jwks))  # type: ignore[arg-type]
    return jwt.decode(token, keys, algorithms=["ES256"]).claims


async def test_a_pass_becomes_a_token_of_two_minutes_for_that_member_at_that_partner(counter: Counter2) -> None:
    member = await counter.member()
    body = await counter.exchanged(await counter.pass_of(member))
    token = body.pop("access_token")
    assert body == {
        "issued_token_type": ACCESS_TOKEN_TYPE,
        "token_type": "Bearer",
        "expires_in": 120,
        "scope": SCOPES,
    }
    [row] = await counter.club.sql("SELECT alias FROM member_alias WHERE member_id = $1", member.id)
    caller = await counter.flows.caller(token)
    assert (caller.kind, caller.id, caller.alias) == (CallerKind.PARTNER, counter.server.id, row["alias"])
    assert (caller.partner_id, caller.member_id) == (counter.partner.id, None)
    assert claims_of(counter.flows, token)["sub"] == row["alias"]
    assert "act" not in claims_of(counter.flows, token)
    assert str(member.id) not in str(claims_of(counter.flows, token))
    counter.flows.clock.wait(seconds=120)
    with pytest.raises(Unauthenticated, match="expired"):
        await counter.flows.caller(token)


async def test_the_token_hangs_from_the_members_consent(counter: Counter2) -> None:
    member = await counter.member()
    token = (await counter.exchanged(await counter.pass_of(member)))["access_token"]
    approval = await counter.flows.approval(token)
    [consent] = await counter.club.sql("SELECT id FROM consent WHERE member_id = $1", member.id)
    assert (approval.member_id, approval.consent_id) == (member.id, consent["id"])
    assert approval.expires_at == counter.flows.now + timedelta(seconds=120)
    assert approval.place is None


async def test_the_entry_and_the_disclosure_say_that_the_pass_was_shown(counter: Counter2) -> None:
    member = await counter.member()
    await counter.exchanged(await counter.pass_of(member))
    [entry] = await counter.club.sql(
        "SELECT * FROM audit_entry WHERE action = 'pass.shown' AND member_id = $1", member.id
    )
    assert (entry["outcome"], entry["actor_id"]) == ("DONE", counter.server.id)
    [told] = await counter.club.sql("SELECT * FROM disclosure WHERE member_id = $1", member.id)
    assert (told["kind"], told["client_id"]) == ("MEMBERSHIP", counter.server.id)


async def test_a_till_without_a_secret_shows_its_own_token(counter: Counter2) -> None:
    member = await counter.member()
    actor = await counter.till_token()
    response = await counter.by_till(await counter.pass_of(member), actor)
    assert response.status_code == 200, response.text
    token = response.json()["access_token"]
    assert claims_of(counter.flows, token)["act"] == {"sub": counter.till.id}
    assert "refresh_token" not in response.json()
    assert (await counter.flows.approval(token)).place == "Counter 2"


async def test_without_a_good_token_of_its_own_a_till_gets_nothing_and_uses_nothing_up(counter: Counter2) -> None:
    member = await counter.member()
    code, actor = await counter.pass_of(member), await counter.till_token()
    alone = (await counter.exchanged(await counter.pass_of(member)))["access_token"]
    own = {"grant_type": "client_credentials"}
    of_server = (await counter.flows.post(counter.server, own)).json()["access_token"]
    answers = [
        await counter.exchange(code, counter.till),
        await counter.by_till(code, "nonsense"),
        await counter.by_till(code, actor[:-8] + "AAAAAAAA"),
        await counter.by_till(code, of_server),
        await counter.exchange(code, actor_token=alone, actor_token_type=ACCESS_TOKEN_TYPE),
        await counter.exchange(code, counter.till, actor_token=actor),
        await counter.exchange(code, counter.till, actor_token=actor, actor_token_type="jwt"),
    ]
    assert [told(answer) for answer in answers] == [(400, "invalid_request")] * len(answers)
    assert REFUSED not in [answer.json() for answer in answers]
    assert (await counter.by_till(code, actor)).status_code == 200


async def test_a_till_whose_approval_was_revoked_gets_nothing(counter: Counter2) -> None:
    code, actor = await counter.pass_of(await counter.member()), await counter.till_token()
    approval = await counter.flows.approval(actor)
    async with counter.flows.foundation.sessions.begin() as session:
        assert await revoke_approval(session, approval.id, "BY_ADMINISTRATOR", counter.flows.now)
    response = await counter.by_till(code, actor)
    assert told(response) == (400, "invalid_request")
    assert "revoked" in response.json()["error_description"]


async def test_a_token_that_is_bound_to_a_key_needs_the_keys_proof_and_binds_what_comes_from_it(
    counter: Counter2,
) -> None:
    flows, mine = counter.flows, holder()

    def proof(by: Any = mine) -> dict[str, str]:
        return {"dpop": by.proof(flows.now, f"{HERE.issuer}/oauth/token", flows.foundation.proofs.nonce(flows.now))}

    code = await counter.pass_of(await counter.member())
    caller = await flows.caller(await counter.till_token())
    bound = Caller(
        caller.kind,
        caller.id,
        caller.scopes,
        client_id=caller.client_id,
        partner_id=caller.partner_id,
        approval_id=caller.approval_id,
        key_thumbprint=mine.thumbprint,
    )
    actor = {"actor_token": mint_access_token(flows.foundation.ring, HERE, bound, flows.now)}
    actor |= {"actor_token_type": ACCESS_TOKEN_TYPE}
    assert told(await counter.exchange(code, counter.till, **actor)) == (400, "invalid_request")
    assert told(await counter.exchange(code, counter.till, headers=proof(holder()), **actor)) == (
        400,
        "invalid_request",
    )
    response = await counter.exchange(code, counter.till, headers=proof(), **actor)
    assert response.json()["token_type"] == "DPoP"
    assert (await flows.caller(response.json()["access_token"])).key_thumbprint == mine.thumbprint


async def test_the_scopes_are_the_clients_the_actors_and_the_members(counter: Counter2) -> None:
    member = await counter.member(scopes=["eligibility:read", "redemptions:write", "member.tier:read"])
    assert (await counter.exchanged(await counter.pass_of(member)))["scope"] == "eligibility:read redemptions:write"
    narrow = await counter.till_token("eligibility:read holds:write")
    response = await counter.by_till(await counter.pass_of(member), narrow)
    assert response.json()["scope"] == "eligibility:read"
    body = await counter.exchanged(await counter.pass_of(member), scope="redemptions:write holds:write")
    assert body["scope"] == "redemptions:write"


async def test_a_scope_that_is_not_the_clients_or_the_actors_is_named_and_uses_nothing_up(counter: Counter2) -> None:
    code = await counter.pass_of(await counter.member())
    response = await counter.exchange(code, scope="eligibility:read perks:read member.tier:read")
    assert told(response) == (400, "invalid_scope")
    assert response.json()["error_description"].endswith(": member.tier:read perks:read")
    narrow = await counter.till_token("eligibility:read")
    assert told(await counter.by_till(code, narrow, scope="holds:write")) == (400, "invalid_scope")
    assert (await counter.exchange(code)).status_code == 200


async def test_whatever_is_wrong_with_a_pass_is_told_alike(counter: Counter2) -> None:
    club, flows = counter.club, counter.flows
    member, stranger, suspended, gone = [await counter.member() for _ in range(4)]
    unwilling = await counter.member(scopes=["member.tier:read"])
    await club.withdraw(stranger, counter.partner)
    await club.withdraw(gone, counter.partner)
    once, expired = await counter.pass_of(member), await counter.pass_of(member)
    await counter.exchanged(once)
    wrong = [once, "0000-0000-0000-00", "x", await counter.pass_of(stranger), await counter.pass_of(gone)]
    wrong += [await counter.pass_of(await club.member()), await counter.pass_of(suspended)]
    wrong += [await counter.pass_of(unwilling)]
    await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", suspended.id)
    answers = [await counter.exchange(code) for code in wrong]
    flows.clock.wait(seconds=60)
    answers.append(await counter.exchange(expired))
    assert [answer.json() for answer in answers] == [REFUSED] * len(answers)
    assert len({(answer.status_code, str(answer.headers)) for answer in answers}) == 1
    entries = await club.sql(
        "SELECT member_id, subject_id, reasons FROM audit_entry WHERE action = 'pass.shown' AND outcome = 'REFUSED' "
        "AND partner_id = $1",
        counter.partner.id,
    )
    assert [tuple(entry) for entry in entries] == [(None, None, ["NOT_AVAILABLE"])] * len(answers)


async def test_a_pass_shown_without_consent_is_used_up(counter: Counter2) -> None:
    member = await counter.club.member()
    code = await counter.pass_of(member)
    assert (await counter.exchange(code)).json() == REFUSED
    await counter.club.consent(member, counter.partner)
    assert (await counter.exchange(code)).json() == REFUSED


async def test_each_answer_takes_as_many_statements(counter: Counter2) -> None:
    """One more only where there is something to write: law 9 is about time, too."""
    counted: list[str] = []
    engine = counter.club.database.engine.sync_engine
    codes = ["nonsense", await counter.pass_of(await counter.club.member())]

    def count(_c: Any, _x: Any, statement: str, *_: Any) -> None:
        counted.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        seen = []
        for code in codes:
            counted.clear()
            assert (await counter.exchange(code)).json() == REFUSED
            seen.append(list(counted))
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 3


WRONG_REQUESTS: dict[str, tuple[dict[str, str], str]] = {
    "no pass": ({"subject_token": ""}, "invalid_request"),
    "another kind of subject": ({"subject_token_type": ACCESS_TOKEN_TYPE}, "invalid_request"),
    "no kind of subject": ({"subject_token_type": ""}, "invalid_request"),
    "a refresh token": (
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        "invalid_request",
    ),
    "another audience": ({"audience": "https://elsewhere.example"}, "invalid_target"),
    "another resource": ({"resource": HERE.staff_audience}, "invalid_target"),
    "a kind of actor without an actor": ({"actor_token_type": ACCESS_TOKEN_TYPE}, "invalid_request"),
}


@pytest.mark.parametrize("name", WRONG_REQUESTS)
async def test_a_request_for_what_there_is_not_is_refused_and_uses_nothing_up(counter: Counter2, name: str) -> None:
    form, error = WRONG_REQUESTS[name]
    code = await counter.pass_of(await counter.member())
    assert told(await counter.exchange(code, None, None, **form)) == (400, error)
    named = {"audience": HERE.audience, "resource": HERE.audience, "requested_token_type": ACCESS_TOKEN_TYPE}
    assert (await counter.exchange(code, None, None, **named)).status_code == 200


async def test_only_clients_that_may_exchange_do(counter: Counter2) -> None:
    app = await counter.flows.app(counter.partner, SCOPES, grants=(GrantType.CLIENT_CREDENTIALS,))
    code = await counter.pass_of(await counter.member())
    assert told(await counter.exchange(code, app)) == (400, "unauthorized_client")
    unfit = await counter.flows.app(counter.partner, "perks:read", grants=SERVER)
    assert told(await counter.exchange(code, unfit)) == (400, "invalid_scope")


@pytest.mark.parametrize("round", range(5))
async def test_withdrawing_consent_meanwhile_leaves_no_live_token_behind(counter: Counter2, round: int) -> None:
    """Whichever comes first: either there is no token, or its approval is there to be ended."""
    member = await counter.member()
    code = await counter.pass_of(member)

    async def withdraw() -> None:
        await asyncio.sleep(0.002 * round)
        async with counter.flows.foundation.sessions.begin() as session:
            reference = MemberRef(id=member.id)
            await withdraw_consent(session, reference, counter.partner.id, actor=STAFF, now=counter.flows.now)

    response, _ = await asyncio.gather(counter.exchange(code), withdraw())
    live = await counter.club.sql("SELECT FROM approval WHERE member_id = $1 AND state = 'ACTIVE'", member.id)
    assert live == []
    assert response.status_code == 200 or response.json() == REFUSED


@dataclass
class AtTheApi:
    """A member with a pass before a partner's server, on the whole service."""

    api: Api
    partner: tables.Partner
    form: dict[str, str]

    async def exchange(self, code: str) -> httpx.Response:
        return await self.api.client.post("/oauth/token", data=self.form | {"subject_token": code})

    async def speaks(self, code: str) -> Voice:
        """The API with what the pass is exchanged for."""
        return Voice(self.api.client, (await self.exchange(code)).json()["access_token"])


async def at_the_api(api: Api, club: Club, partner: tables.Partner) -> AtTheApi:
    settings = ClientSettings("server", frozenset(SCOPES.split()), grant_types=SERVER)
    async with club.database.sessions.begin() as session:
        client, secret = await create_client(session, partner.id, settings, Administrator(SYSTEM), club.now)
    assert secret is not None
    form = {"client_id": client.id, "client_secret": secret}
    form |= {"grant_type": GrantType.TOKEN_EXCHANGE, "subject_token_type": PASS_TYPE}
    return AtTheApi(api, partner, form)


async def shown(api: Api, member: tables.Member) -> str:
    """What the member's app shows."""
    answer = await api.member(member)("mutation { createPass(input: {}) { pass { code } } }")
    return str(answer.data["createPass"]["pass"]["code"])


MAY = "query ($perk: String!) { eligibility(perk: {handle: $perk}) { eligible } }"
CLAIM = """mutation ($perk: String!, $key: String!) { claimPerk(input: {perk: {handle: $perk}, idempotencyKey: $key}) {
  hold { id code } userErrors { code } } }"""
CONFIRM = """mutation ($code: String!, $key: String!) {
  confirmHold(input: {hold: {code: $code}, idempotencyKey: $key}) { redemption { id } userErrors { code } } }"""


async def test_with_the_token_the_partner_asks_claims_and_confirms_for_that_member_alone(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner)
    member, other = await club.member(partner), await club.member(partner)
    counter = await at_the_api(api, club, partner)
    voice = await counter.speaks(await shown(api, member))
    assert (await voice(MAY, perk=perk.handle)).data == {"eligibility": {"eligible": True}}
    claimed = (await voice(CLAIM, perk=perk.handle, key=uuid4().hex)).data["claimPerk"]
    [row] = await club.sql("SELECT member_id FROM hold WHERE perk_id = $1", perk.id)
    assert row["member_id"] == member.id
    anothers = await counter.speaks(await shown(api, other))
    refused = (await anothers(CONFIRM, code=claimed["hold"]["code"], key=uuid4().hex)).data["confirmHold"]
    assert (refused["redemption"], refused["userErrors"]) == (None, [{"code": "NOT_AVAILABLE"}])
    confirmed = (await voice(CONFIRM, code=claimed["hold"]["code"], key=uuid4().hex)).data["confirmHold"]
    assert confirmed["userErrors"] == []
    assert confirmed["redemption"] is not None


async def test_sixty_wrong_passes_a_minute_are_enough_and_right_ones_do_not_count(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    counter = await at_the_api(api, club, partner)
    for _ in range(59):
        assert (await counter.exchange("0000-0000-0000-01")).json() == REFUSED
    for _ in range(3):
        assert (await counter.exchange(await shown(api, member))).status_code == 200
    assert (await counter.exchange("0000-0000-0000-01")).json() == REFUSED
    code = await shown(api, member)
    throttled = await counter.exchange(code)
    assert (throttled.status_code, throttled.json()["error"]) == (429, "temporarily_unavailable")
    assert 1 <= int(throttled.headers["retry-after"]) <= 60


async def test_over_fifty_connections_at_once_one_pass_gives_one_token(live: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    counter = await at_the_api(live, club, partner)
    code = await shown(live, member)
    answers = await asyncio.gather(*(counter.exchange(code) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 49}
    assert [answer.json() for answer in answers if answer.status_code == 400] == [REFUSED] * 49
    [row] = await club.sql("SELECT count(*) AS n, max(state) AS state FROM approval WHERE member_id = $1", member.id)
    assert tuple(row) == (1, "ACTIVE")
