"""What an attacker, or bad luck, tries on the authorization server: races, slow servers, rights that were lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.pool import QueuePool
from sqlmodel import col

from auth.assertions import ASSERTION_TYPE
from auth.authorization import PageError
from auth.caller import CallerKind
from auth.clients import Administrator, set_partner_state, update_client
from auth.devices import approve_device, find_pending
from auth.exchange import PASS_TYPE
from auth.tables import Client, ClientAuthentication, GrantType
from gateway import embedded
from gateway.database import Database, open_database
from partners import consents, tables
from partners.actors import SYSTEM
from partners.passes import create_pass
from partners.references import MemberRef
from partners.tables import PartnerState
from tests.factories import Club
from tests.flows import HERE, App, Clock, Flows, Uncounted, lay_foundation, reach
from tests.holders import Holder, holder

PARTNER, STAFF = CallerKind.PARTNER, CallerKind.STAFF
TILL = (GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN)
DEVICE_PATH = "/oauth/device_authorization"


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


async def narrow(club: Club, member: tables.Member, partner: tables.Partner, *scopes: str) -> None:
    """The member says again what the partner may do, and takes a moment for it."""
    async with club.database.sessions.begin() as session:
        await consents.grant_consent(
            session,
            MemberRef(id=member.id),
            partner.id,
            purpose="perks",
            scopes=scopes,
            expires_at=None,
            pairwise_key=club.keys.pairwise,
            actor=SYSTEM,
            now=club.now,
        )
        await session.flush()
        await asyncio.sleep(0.3)


async def test_a_yes_at_the_moment_the_consent_is_narrowed_does_not_widen_it_again(
    flows: Flows, club: Club, partner: tables.Partner
) -> None:
    member = await club.member()
    await club.consent(member, partner)
    app = await flows.app(partner, "holds:write")
    request_id, person = await flows.begin(flows.asking(app)), await flows.member(member)
    narrowing = asyncio.create_task(narrow(club, member, partner, "eligibility:read"))
    await asyncio.sleep(0.1)
    await flows.allow(request_id, person)
    await narrowing
    async with club.database.sessions() as session:
        consent = await consents.live_consent(session, member.id, partner.id)
    assert consent is not None
    assert consent.scopes == ["eligibility:read", "holds:write"]


@pytest.fixture
async def held() -> list[int]:
    """How many connections to the database were in use each time that Valkey was asked."""
    return []


@pytest.fixture
async def watched(
    database: Database, servers: embedded.Servers, secret: bytes, held: list[int]
) -> AsyncIterator[Flows]:
    """An authorization server that tells which connections it holds while it waits for Valkey."""
    own = open_database(database.engine.url.render_as_string(hide_password=False), connections=2)

    def note() -> None:
        assert isinstance(own.engine.pool, QueuePool)
        held.append(own.engine.pool.checkedout())

    class Watched(Uncounted):
        async def client(self, client_id: str, address: str) -> "Uncounted":
            note()
            return self

        async def succeeded(self) -> None:
            note()

        async def hold_code(self, client_id: str) -> None:
            note()

        async def right_hold_code(self, client_id: str) -> None:
            note()

    class WatchedCache(Redis):
        async def set(self, *args: Any, **options: Any) -> Any:
            note()
            return await super().set(*args, **options)

    clock, cache = Clock(), WatchedCache.from_url(str(servers.redis_url))
    foundation = await lay_foundation(own.sessions, str(servers.redis_url), secret, clock)
    await foundation.cache.aclose()
    async with reach(replace(foundation, cache=cache, attempts=Watched())) as http:
        yield Flows(foundation, clock, http)
    await cache.aclose()
    await own.engine.dispose()


async def test_a_slow_valkey_keeps_no_connection_from_others_while_an_assertion_is_checked(
    watched: Flows, partner: tables.Partner, held: list[int]
) -> None:
    own = holder()
    app = await watched.app(
        partner,
        "perks:read",
        grants=(GrantType.CLIENT_CREDENTIALS,),
        authentication=ClientAuthentication.KEY,
        public_keys={"keys": [own.public_jwk]},
    )
    assertion = own.assertion(watched.now, app.id, HERE.issuer)
    form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    for status in (200, 401):
        asked = await watched.http.post("/oauth/token", data=form | {"grant_type": "client_credentials"})
        assert asked.status_code == status
    assert held == [0] * 5


async def test_a_slow_valkey_keeps_no_connection_from_others_while_a_pass_is_exchanged(
    watched: Flows, club: Club, partner: tables.Partner, held: list[int]
) -> None:
    app = await watched.app(partner, "eligibility:read", grants=(GrantType.TOKEN_EXCHANGE,))
    member = await club.member()
    await club.consent(member, partner)
    async with club.database.sessions.begin() as session:
        shown = await create_pass(session, member.id, now=watched.now)
    assert shown is not None
    form = {
        "grant_type": GrantType.TOKEN_EXCHANGE,
        "subject_token": shown.code,
        "subject_token_type": PASS_TYPE,
    }
    assert [(await watched.post(app, form)).status_code for _ in range(2)] == [200, 400]
    assert held == [0] * 6


async def test_a_partner_is_suspended_while_somebody_approves_its_client(club: Club, partner: tables.Partner) -> None:
    """Who makes an approval refers to the client first and then to the partner; who suspends comes the other way."""
    async with club.database.sessions.begin() as session:
        client = Client(id=f"client_{partner.handle}", partner_id=partner.id, name="a till", created_at=club.now)
        session.add(client)

    async def suspend() -> None:
        async with club.database.sessions.begin() as session:
            await set_partner_state(session, partner.id, PartnerState.SUSPENDED, SYSTEM, club.now)

    async with club.database.sessions.begin() as session:
        await session.execute(
            sa.select(col(Client.id)).where(col(Client.id) == client.id).with_for_update(key_share=True, read=True)
        )
        suspending = asyncio.create_task(suspend())
        await asyncio.sleep(0.2)
        refers = sa.select(col(tables.Partner.id)).where(col(tables.Partner.id) == partner.id)
        await session.execute(refers.with_for_update(key_share=True, read=True))
    await suspending
    [row] = await club.sql("SELECT version FROM client WHERE id = $1", client.id)
    assert row["version"] == 2


async def test_an_access_token_does_not_outlive_what_it_hangs_from(flows: Flows) -> None:
    app = await flows.app(None, "audit:read", kind=STAFF)
    first = await flows.tokens(app, await flows.person(STAFF, "audit:read"))
    flows.clock.wait(hours=11, minutes=58)
    assert (await flows.refresh(app, first["refresh_token"])).json()["expires_in"] == 120
    flows.clock.wait(minutes=2)
    assert (await flows.refresh(app, first["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_partner_is_not_told_the_instant_at_which_a_consent_ends(
    flows: Flows, club: Club, partner: tables.Partner
) -> None:
    member = await club.member()
    await club.consent(member, partner, expires_at=flows.now + timedelta(seconds=90))
    app = await flows.app(partner)
    tokens = await flows.tokens(app, await flows.member(member))
    assert tokens["expires_in"] == 600
    form = app.proof | {"token": tokens["refresh_token"]}
    told = (await flows.http.post("/oauth/introspect", data=form)).json()
    assert (told["active"], told["iat"]) == (True, int(flows.now.timestamp()))
    assert "exp" not in told
    flows.clock.wait(seconds=90)
    assert (await flows.refresh(app, tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await flows.http.post("/oauth/introspect", data=form | {"token": tokens["access_token"]})).json() == {
        "active": False
    }


async def test_an_address_that_was_taken_away_meanwhile_gets_no_code(
    flows: Flows, club: Club, partner: tables.Partner
) -> None:
    stolen, kept = "https://stolen.example/back", "https://app.example/kept"
    app = await flows.app(partner, redirect_uris=(stolen, kept))
    person = await flows.member(await club.member())
    requests = [await flows.begin(flows.asking(app, redirect_uri=uri)) for uri in (stolen, kept)]
    async with club.database.sessions.begin() as session:
        await update_client(session, app.id, {"redirect_uris": [kept]}, Administrator(SYSTEM), flows.now)
    with pytest.raises(PageError, match="can't be used"):
        await flows.allow(requests[0], person)
    assert (await flows.allow(requests[1], person)).startswith(f"{kept}?code=")


async def asked(flows: Flows, app: App, **form: str) -> dict[str, str]:
    response = await flows.http.post(DEVICE_PATH, data=app.proof | form)
    assert response.status_code == 200, response.text
    codes: dict[str, str] = response.json()
    return codes


async def test_who_has_a_used_device_code_without_its_key_ends_nothing(
    flows: Flows, club: Club, partner: tables.Partner
) -> None:
    own, nonce = holder(), flows.foundation.proofs.nonce(flows.now)
    app = await flows.public_app(partner, "eligibility:read", grants=TILL)
    codes = await asked(flows, app, dpop_jkt=own.thumbprint)
    person = await flows.person(PARTNER, "devices:enrol", partner=partner)
    async with club.database.sessions.begin() as session:
        await approve_device(session, club.keys.devices, codes["user_code"], person, "Counter 2", flows.now)
    form = {"grant_type": GrantType.DEVICE_CODE, "device_code": codes["device_code"]}

    async def poll(by: Holder | None) -> httpx.Response:
        proof = {} if by is None else {"dpop": by.proof(flows.now, f"{HERE.issuer}/oauth/token", nonce)}
        return await flows.post(app, form, headers=proof)

    token = (await poll(own)).json()["access_token"]
    assert [(await poll(by)).json()["error"] for by in (None, holder())] == ["invalid_grant"] * 2
    assert (await flows.approval(token)).state == "ACTIVE"
    assert (await poll(own)).json()["error"] == "invalid_grant"
    assert (await flows.approval(token)).reason == "DEVICE_CODE_REUSED"


@pytest.mark.parametrize(
    ("who", "given"),
    [
        ((PARTNER, "devices:enrol"), ["eligibility:read"]),
        ((PARTNER, "devices:enrol", "perks:read"), ["eligibility:read", "perks:read"]),
        ((STAFF, "partners:admin"), ["clients:manage", "eligibility:read", "perks:read"]),
    ],
)
async def test_nobody_gives_a_point_of_sale_more_than_they_may_themselves(
    flows: Flows, club: Club, partner: tables.Partner, who: tuple[Any, ...], given: list[str]
) -> None:
    app = await flows.public_app(partner, "eligibility:read perks:read clients:manage", grants=TILL)
    codes = await asked(flows, app)
    person = await flows.person(*who, partner=None if who[0] is STAFF else partner)
    async with club.database.sessions.begin() as session:
        question = await find_pending(session, club.keys.devices, codes["user_code"], person, flows.now)
        assert question is not None
        assert [scope for scope, _ in question.scopes] == given
        await approve_device(session, club.keys.devices, codes["user_code"], person, "Counter 2", flows.now)
    form = {"grant_type": GrantType.DEVICE_CODE, "device_code": codes["device_code"]}
    assert (await flows.post(app, form)).json()["scope"].split() == given


async def test_who_has_nothing_to_give_is_not_asked(flows: Flows, club: Club, partner: tables.Partner) -> None:
    app = await flows.public_app(partner, "clients:manage", grants=TILL)
    codes = await asked(flows, app)
    person = await flows.person(PARTNER, "devices:enrol", partner=partner)
    async with club.database.sessions.begin() as session:
        assert await find_pending(session, club.keys.devices, codes["user_code"], person, flows.now) is None
        where = (session, club.keys.devices, codes["user_code"], person, "Counter 2", flows.now)
        assert not await approve_device(*where)
