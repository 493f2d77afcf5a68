"""From a request over a person's yes to a token: what each kind of client gets, and for whom."""

import logging
import secrets
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import select

from auth import authorization
from auth.authorization import PageError
from auth.caller import CallerKind
from auth.tables import AuthorizationRequest, BrowserSession, ClientState, GrantType
from auth.withdrawal import withdraw_consent
from partners import tables
from partners.actors import SYSTEM
from partners.consents import live_consent
from partners.references import MemberRef
from tests.factories import Club
from tests.flows import BACK, BOUND, HERE, App, Flows, answer
from tests.holders import holder

PARTNER, MEMBER, STAFF = CallerKind.PARTNER, CallerKind.MEMBER, CallerKind.STAFF
PUBLIC = "http://127.0.0.1/back"


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def app(flows: Flows, partner: tables.Partner) -> App:
    return await flows.app(partner, f"{BOUND} holds:write")


@pytest.fixture
async def person(flows: Flows, club: Club) -> BrowserSession:
    return await flows.member(await club.member(), "me:read")


async def refused(flows: Flows, app: App, form: dict[str, str], error: str = "invalid_grant") -> str:
    response = await flows.post(app, form)
    assert (response.status_code, response.json()["error"]) == (400, error), response.text
    return str(response.json()["error_description"])


async def consent_of(flows: Flows, person: BrowserSession, partner: tables.Partner) -> tables.Consent | None:
    assert person.member_id is not None
    async with flows.foundation.sessions() as session:
        return await live_consent(session, person.member_id, partner.id)


async def test_a_members_yes_becomes_a_token_of_that_member_at_that_partner(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    tokens = await flows.tokens(app, person, scope=BOUND)
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 600, BOUND)
    caller = await flows.caller(tokens["access_token"])
    assert (caller.kind, caller.id, caller.partner_id) == (PARTNER, app.id, partner.id)
    assert caller.alias is not None
    assert caller.member_id is None
    assert str(person.member_id) not in str(caller)
    consent = await consent_of(flows, person, partner)
    approval = await flows.approval(tokens["access_token"])
    assert consent is not None
    assert (consent.scopes, approval.consent_id) == (BOUND.split(), consent.id)
    assert approval.expires_at == flows.now + timedelta(days=365)
    async with flows.foundation.sessions() as session:
        query = select(tables.AuditEntry).where(tables.AuditEntry.subject_id == approval.id)
        [entry] = await session.scalars(query.where(tables.AuditEntry.action == "client.approved"))
    assert (entry.actor_kind, entry.partner_id, entry.member_id) == ("member", partner.id, person.member_id)


async def test_a_further_yes_adds_to_what_the_consent_covered_and_keeps_its_end(
    flows: Flows, club: Club, app: App, partner: tables.Partner
) -> None:
    member = await club.member()
    ends = flows.now + timedelta(days=3)
    await club.consent(member, partner, expires_at=ends)
    async with flows.foundation.sessions.begin() as session:
        former = await live_consent(session, member.id, partner.id)
        assert former is not None
        former.scopes = ["redemptions:read"]
    tokens = await flows.tokens(app, await flows.member(member), scope="holds:write")
    consent = await consent_of(flows, await flows.member(member), partner)
    assert consent is not None
    assert (consent.id, consent.scopes) == (former.id, ["holds:write", "redemptions:read"])
    assert consent.expires_at == ends == (await flows.approval(tokens["access_token"])).expires_at
    assert tokens["scope"] == "holds:write"


async def test_a_partners_person_signs_in_to_its_own_app_with_the_rights_that_the_person_has(
    flows: Flows, partner: tables.Partner
) -> None:
    app = await flows.app(partner, "perks:read perks:write clients:manage")
    person = await flows.person(PARTNER, "perks:read", "clients:manage", partner=partner)
    tokens = await flows.tokens(app, person, scope="perks:read perks:write")
    caller = await flows.caller(tokens["access_token"])
    assert (caller.kind, caller.id, set(caller.scopes)) == (PARTNER, person.subject, {"perks:read"})
    assert (caller.alias, caller.partner_id, tokens["scope"]) == (None, partner.id, "perks:read")
    assert (await flows.approval(tokens["access_token"])).expires_at == flows.now + timedelta(hours=12)


async def test_a_members_app_gets_a_token_of_that_member(flows: Flows, club: Club) -> None:
    app = await flows.app(None, "me:read me:claim", kind=MEMBER)
    member = await club.member()
    tokens = await flows.tokens(app, await flows.member(member, "me:read", "me:claim"))
    caller = await flows.caller(tokens["access_token"])
    assert (caller.kind, caller.member_id, set(caller.scopes)) == (MEMBER, member.id, {"me:read", "me:claim"})
    assert (await flows.approval(tokens["access_token"])).expires_at == flows.now + timedelta(days=90)


async def test_staff_get_no_more_than_the_identity_provider_gave_them(flows: Flows) -> None:
    app = await flows.app(None, "audit:read members:admin", kind=STAFF)
    tokens = await flows.tokens(app, await flows.person(STAFF, "audit:read", "partners:admin"))
    caller = await flows.caller(tokens["access_token"])
    assert (caller.kind, set(caller.scopes)) == (STAFF, {"audit:read"})
    assert (await flows.approval(tokens["access_token"])).expires_at == flows.now + timedelta(hours=12)


async def test_a_person_without_any_of_the_rights_can_not_give_them(flows: Flows) -> None:
    app = await flows.app(None, "audit:read", kind=STAFF)
    request_id = await flows.begin(flows.asking(app))
    told = answer(await flows.allow(request_id, await flows.person(STAFF, "members:admin")))
    assert told == {"error": "access_denied", "state": "a state/?&", "iss": HERE.issuer}


async def test_a_client_without_the_refresh_grant_gets_no_refresh_token(
    flows: Flows, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.app(partner, grants=(GrantType.AUTHORIZATION_CODE,))
    assert "refresh_token" not in await flows.tokens(app, person)


async def test_the_question_says_who_asks_whom_for_what(flows: Flows, app: App, partner: tables.Partner) -> None:
    request_id = await flows.begin(flows.asking(app, scope="holds:write"))
    async with flows.foundation.sessions() as session:
        question = await authorization.question_of(session, request_id, flows.now)
    assert question.partner is not None
    assert (question.client, question.partner.id, question.who) == ("an app", partner.id, MEMBER)
    assert question.scopes == [("holds:write", "Set its perks aside for you.")]
    assert (question.purpose, question.redirect_uri) == ("perks", BACK)
    assert question.expires_at == flows.now + timedelta(minutes=10)


async def test_a_question_is_for_the_right_kind_of_person_alone(
    flows: Flows, club: Club, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    elsewhere = await flows.person(PARTNER, "perks:read", partner=await club.partner())
    own = await flows.app(partner, "perks:read")
    for client, wrong in ((app, elsewhere), (own, elsewhere), (own, person)):
        request_id = await flows.begin(flows.asking(client))
        with pytest.raises(PageError, match="somebody else"):
            await flows.allow(request_id, wrong)
        async with flows.foundation.sessions() as session:
            assert (await authorization.question_of(session, request_id, flows.now)).client == "an app"


async def test_a_question_is_answered_once(flows: Flows, app: App, person: BrowserSession) -> None:
    request_id = await flows.begin(flows.asking(app))
    await flows.allow(request_id, person)
    with pytest.raises(PageError, match="Too late"):
        await flows.allow(request_id, person)
    async with flows.foundation.sessions() as session:
        with pytest.raises(PageError, match="Too late"):
            await authorization.refuse(session, request_id, HERE.issuer, flows.now)


async def test_a_question_waits_for_ten_minutes(flows: Flows, app: App, person: BrowserSession) -> None:
    request_id = await flows.begin(flows.asking(app))
    flows.clock.wait(minutes=10)
    with pytest.raises(PageError, match="Too late"):
        await flows.allow(request_id, person)


async def test_a_no_is_told_to_the_client(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    request_id = await flows.begin(flows.asking(app))
    async with flows.foundation.sessions.begin() as session:
        told = answer(await authorization.refuse(session, request_id, HERE.issuer, flows.now))
    assert (told["error"], told["state"], told["iss"]) == ("access_denied", "a state/?&", HERE.issuer)
    assert await consent_of(flows, person, partner) is None


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "eyJ.eyJ.c2ln"}, "request_not_supported"),
        ({"request_uri": "https://app.example/request"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"prompt": "none"}, "interaction_required"),
        ({"scope": "perks:write openid"}, "invalid_scope"),
        ({"dpop_jkt": "short"}, "invalid_request"),
    ],
)
async def test_what_is_not_supported_is_told_by_the_code_of_the_rfc(
    flows: Flows, app: App, changed: dict[str, str | None], error: str
) -> None:
    told = await flows.refusal(flows.asking(app, **changed))
    assert (told["error"], told["state"], told["iss"]) == (error, "a state/?&", HERE.issuer)


async def test_every_scope_that_is_not_the_clients_is_named(flows: Flows, app: App) -> None:
    told = await flows.refusal(flows.asking(app, scope="perks:write holds:write openid"))
    assert told["error_description"] == "not among the scopes of this client: openid perks:write"


async def test_scopes_for_different_people_are_asked_apart(flows: Flows, partner: tables.Partner) -> None:
    app = await flows.app(partner, "perks:read holds:write")
    for scope in (None, "perks:read holds:write"):
        told = await flows.refusal(flows.asking(app, scope=scope))
        assert (told["error"], "ask apart" in told["error_description"]) == ("invalid_scope", True)
    assert await flows.begin(flows.asking(app, scope="perks:read"))


async def test_a_state_comes_back_to_the_letter_up_to_512_characters(
    flows: Flows, app: App, person: BrowserSession
) -> None:
    longest = "ä&=+ %\"'<" + "x" * 503
    told = answer(await flows.allow(await flows.begin(flows.asking(app, state=longest)), person))
    assert told["state"] == longest
    without = answer(await flows.allow(await flows.begin(flows.asking(app, state=None)), person))
    assert set(without) == {"code", "iss"}
    assert "state" not in await flows.refusal(flows.asking(app, state=longest + "x"))


async def test_a_client_that_has_to_push_can_not_ask_by_the_browser(
    flows: Flows, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.app(partner, requires_pushed=True)
    told = await flows.refusal(flows.asking(app))
    assert told["error_description"] == "this client has to push its requests"
    assert (await flows.tokens(app, person))["scope"] == BOUND


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "https://app.example/back",
        BACK + "&more=1",
        BACK.upper(),
        "https://app.example:443/back?kept=a%2Fb",
        "https://app.example/back?kept=a/b",
        "https://evil.example/back",
        "javascript:alert(1)",
        "http://127.0.0.1:9/back",
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_the_clients(flows: Flows, app: App, uri: str | None) -> None:
    with pytest.raises(PageError, match="mistake"):
        await flows.begin(flows.asking(app, redirect_uri=uri, response_type="token"))


@pytest.mark.parametrize(
    ("uri", "fine"),
    [
        ("http://127.0.0.1:53124/back", True),
        ("http://[::1]:53124/six", True),
        ("http://127.0.0.1/back", True),
        ("com.example.app:/done", True),
        ("http://127.0.0.1:53124/other", False),
        ("http://[::1]:53124/back", False),
        ("http://localhost:53124/back", False),
        ("http://127.0.0.1:80@evil.example/back", False),
        ("http://127.0.0.1:123456/back", False),
        ("http://127.0.0.1.evil.example/back", False),
        ("https://app.example:8443/back", False),
    ],
)
async def test_a_public_app_may_choose_the_port_of_a_loopback_address_and_nothing_else(
    flows: Flows, partner: tables.Partner, person: BrowserSession, uri: str, fine: bool
) -> None:
    known = ("http://127.0.0.1/back", "http://[::1]/six", "com.example.app:/done", "https://app.example/back")
    app = await flows.public_app(partner, redirect_uris=known)
    if fine:
        told = answer(await flows.allow(await flows.begin(flows.asking(app, redirect_uri=uri)), person), uri)
        assert "code" in told
    else:
        with pytest.raises(PageError, match="mistake"):
            await flows.begin(flows.asking(app, redirect_uri=uri))


async def test_a_client_with_a_secret_may_not_choose_the_port(flows: Flows, partner: tables.Partner) -> None:
    app = await flows.app(partner, redirect_uris=("http://127.0.0.1/back",))
    with pytest.raises(PageError, match="mistake"):
        await flows.begin(flows.asking(app, redirect_uri="http://127.0.0.1:53124/back"))


async def test_a_client_that_is_unknown_stopped_or_of_another_sort_can_not_ask(
    flows: Flows, club: Club, app: App, partner: tables.Partner
) -> None:
    machine = await flows.app(partner, "perks:read", grants=(GrantType.CLIENT_CREDENTIALS,))
    for unknown in (None, "client_unknown", machine.id):
        with pytest.raises(PageError, match="not known"):
            await flows.begin(flows.asking(app, client_id=unknown))
    request_id = await flows.begin(flows.asking(app))
    await flows.change(app, state=ClientState.DISABLED)
    with pytest.raises(PageError, match="at the moment"):
        await flows.begin(flows.asking(app))
    with pytest.raises(PageError, match="at the moment"):
        await flows.allow(request_id, await flows.member(await club.member()))


async def test_a_code_needs_its_own_address_verifier_and_client(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    code, other = await flows.code(app, person), await flows.app(partner)
    attempts = [
        (app, {"redirect_uri": "https://app.example/other"}),
        (app, {"code_verifier": secrets.token_urlsafe(48)}),
        (app, {"code": secrets.token_urlsafe(32)}),
        (other, {}),
    ]
    for client, wrong in attempts:
        await refused(flows, client, code.form | wrong)
    missing = {name: value for name, value in code.form.items() if name != "redirect_uri"}
    await refused(flows, app, missing)
    assert (await flows.post(app, code.form)).status_code == 200


async def test_an_unknown_a_foreign_and_an_expired_code_are_told_alike(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    foreign = await flows.code(await flows.app(partner), person)
    expired = await flows.code(app, person)
    flows.clock.wait(seconds=60)
    unknown = expired.form | {"code": secrets.token_urlsafe(32)}
    assert len({await refused(flows, app, form) for form in (foreign.form, expired.form, unknown)}) == 1


async def test_a_code_of_a_consent_that_was_withdrawn_meanwhile_is_worth_nothing(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    code = await flows.code(app, person)
    async with flows.foundation.sessions.begin() as session:
        await withdraw_consent(session, MemberRef(id=person.member_id), partner.id, actor=SYSTEM, now=flows.now)
    assert await refused(flows, app, code.form) == "what was approved holds no more"


async def test_a_consent_that_expires_in_mid_flow_is_worth_nothing(
    flows: Flows, club: Club, app: App, partner: tables.Partner
) -> None:
    member = await club.member()
    await club.consent(member, partner, expires_at=flows.now + timedelta(seconds=30))
    code = await flows.code(app, await flows.member(member))
    flows.clock.wait(seconds=30)
    assert await refused(flows, app, code.form) == "what was approved holds no more"


async def test_scopes_that_the_client_lost_meanwhile_are_not_in_the_token(
    flows: Flows, app: App, person: BrowserSession
) -> None:
    code = await flows.code(app, person)
    await flows.change(app, scopes=["holds:write"], version=4)
    tokens = (await flows.post(app, code.form)).json()
    assert tokens["scope"] == "holds:write"
    assert (await flows.caller(tokens["access_token"])).client_version == 4


async def test_a_code_that_was_bound_to_a_key_needs_a_proof_of_that_key(
    flows: Flows, app: App, person: BrowserSession
) -> None:
    ours, another = holder(), holder()
    at, nonce = f"{HERE.issuer}/oauth/token", flows.foundation.proofs.nonce(flows.now)
    code = await flows.code(app, person, dpop_jkt=ours.thumbprint)
    assert await refused(flows, app, code.form) == "the grant is bound to another key"
    wrong = await flows.post(app, code.form, headers={"DPoP": another.proof(flows.now, at, nonce)})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    right = await flows.post(app, code.form, headers={"DPoP": ours.proof(flows.now, at, nonce)})
    assert right.json()["token_type"] == "DPoP"
    assert (await flows.caller(right.json()["access_token"])).key_thumbprint == ours.thumbprint
    assert (await flows.approval(right.json()["access_token"])).dpop_jkt == ours.thumbprint


async def test_a_client_that_has_to_prove_its_key_is_told_so(
    flows: Flows, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.app(partner, requires_dpop=True)
    code = await flows.code(app, person)
    await refused(flows, app, code.form, "invalid_dpop_proof")
    proof = holder().proof(flows.now, f"{HERE.issuer}/oauth/token", flows.foundation.proofs.nonce(flows.now))
    assert (await flows.post(app, code.form, headers={"DPoP": proof})).status_code == 200


async def test_nothing_that_was_random_is_kept_in_clear(flows: Flows, app: App, person: BrowserSession) -> None:
    code = await flows.code(app, person)
    tokens = (await flows.post(app, code.form)).json()
    async with flows.foundation.sessions() as session:
        rows = (await session.execute(sa.select(AuthorizationRequest))).all()
        kept = str([row[0].model_dump() for row in rows])
        kept += str((await session.execute(sa.text("SELECT * FROM refresh_token"))).all())
    assert str(person.member_id) not in str(code)
    for secret in (code.code, tokens["refresh_token"], tokens["access_token"]):
        assert secret not in kept


async def test_a_client_may_only_use_the_grants_that_it_is_registered_for(
    flows: Flows, app: App, partner: tables.Partner, person: BrowserSession
) -> None:
    await refused(flows, app, {"grant_type": "client_credentials"}, "unauthorized_client")
    machine = await flows.app(partner, "perks:read", grants=(GrantType.CLIENT_CREDENTIALS,))
    for form in ((await flows.code(app, person)).form, {"grant_type": "refresh_token", "refresh_token": "x"}):
        await refused(flows, machine, form, "unauthorized_client")


async def test_a_request_that_nobody_began_has_no_question(flows: Flows, app: App, person: BrowserSession) -> None:
    pushed = await flows.push(app, flows.asking(app))
    assert pushed.status_code == 201
    async with flows.foundation.sessions() as session:
        waiting = sa.select(AuthorizationRequest.id).where(sa.column("client_id") == app.id)  # type: ignore[call-overload]
        for request_id in (await session.scalar(waiting), uuid4()):
            with pytest.raises(PageError, match="Too late"):
                await authorization.question_of(session, request_id, flows.now)


async def test_nothing_on_the_way_is_written_to_the_log_even_at_debug(
    flows: Flows, partner: tables.Partner, person: BrowserSession, caplog: pytest.LogCaptureFixture
) -> None:
    app = await flows.public_app(partner)
    for logger in ("", "auth", "authlib", "sqlalchemy.engine", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, logger or None)
    pushed = (await flows.push(app, flows.asking(app))).json()["request_uri"]
    code = await flows.code(app, person)
    first = (await flows.post(app, code.form)).json()
    second = (await flows.refresh(app, first["refresh_token"])).json()
    again = (await flows.refresh(app, first["refresh_token"])).json()
    await refused(flows, app, code.form)
    logged = caplog.text + "".join(f"{record.args}" for record in caplog.records)
    assert app.id in logged
    assert again == second
    secret = [pushed.rpartition(":")[2], code.code, code.verifier, *first.values(), *second.values()]
    for hidden in [part for part in secret if isinstance(part, str) and len(part) >= 43]:
        assert hidden not in logged
