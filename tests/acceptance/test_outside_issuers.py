"""Tokens of issuers outside at the API: whom they admit, as what, and each reason that one is refused for."""

import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey, RSAKey
from joserfc.util import urlsafe_b64decode, urlsafe_b64encode
from pydantic import SecretStr
from sqlalchemy import event
from starlette.responses import Response

from auth.caller import CallerKind
from auth.errors import Unauthenticated
from auth.identity import IdentityInvalid
from auth.tables import Denied
from auth.tokens import TokenVerifier
from gateway import embedded
from gateway.app import Gateway, Service
from gateway.database import Database
from gateway.settings import Settings
from partners import tables
from partners.errors import Unavailable
from partners.keys import Keys
from partners.programme import Programme
from tests.api import Answer, Api, Voice
from tests.factories import Club
from tests.issuers import OutsideIssuer, new_key, outside_issuer, public, signed

VIEWER = "{ viewer { kind id scopes } }"
CHECK = """query ($member: MemberBy!, $perk: PerkBy!) {
  eligibility(member: $member, perk: $perk) { eligible refusals { code } } }"""
IDENTITY = """
[[issuer]]
issuer = "{issuer}"
audience = "perks"
kind = "partner"
algorithms = ["ES256", "RS256", "PS256", "EdDSA"]
partner_claim = "org"
partners = {{ "Acme, Inc." = "{acme}", "Closed" = "{closed}", "Nobody" = "outside-nobody" }}
grants = ["perks:read"]
scopes = {{ "read" = "eligibility:read", "till" = ["holds:write", "redemptions:write"] }}

[[issuer]]
issuer = "{issuer}"
audience = "perks-members"
kind = "member"
algorithms = ["ES256"]
accepts_plain_jwt = true
member_claim = ["club", "number"]
scope_claim = "permissions"
client_claim = "app"
scopes = {{ "mine" = ["me:read", "me:claim"] }}
age_max_s = 600

[[issuer]]
issuer = "{issuer}"
audience = "perks-staff"
kind = "staff"
algorithms = ["ES256"]
scopes = {{ "auditor" = "audit:read" }}
"""


@dataclass(repr=False)
class Outside:
    """The service with an identity file, the issuer that the file names, and the clock of both."""

    service: Service
    client: httpx.AsyncClient
    issuer: OutsideIssuer
    clock: "Clock"
    club: Club
    acme: tables.Partner

    @property
    def now(self) -> datetime:
        return self.clock.now

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Those of a token of Acme's till, but for what is changed."""
        return self.issuer.claims(self.now, **({"org": "Acme, Inc."} | changed))

    def token(self, **changed: Any) -> str:
        return signed(self.claims(**changed), self.issuer.key)

    def member(self, member: tables.Member, **changed: Any) -> str:
        club = {"number": member.external_id}
        told = {"aud": "perks-members", "club": club, "app": "phone", "permissions": ["mine"], "client_id": None}
        return self.token(**(told | changed))

    async def ask(self, token: str, query: str = VIEWER, **variables: Any) -> Answer:
        return await Voice(self.client, token)(query, **variables)

    async def viewer(self, token: str) -> dict[str, Any]:
        answer = await self.ask(token)
        found: dict[str, Any] = answer.data["viewer"]
        return found

    @property
    def verifier(self) -> TokenVerifier:
        service = self.service
        return TokenVerifier(service.ring, service.authority, service.denied, service.outside.issuers)


@dataclass
class Clock:
    """The service's clock, which tests set forward."""

    now: datetime


@pytest.fixture(scope="module")
def issuer() -> Iterator[OutsideIssuer]:
    with outside_issuer() as serving:
        yield serving


@pytest.fixture(scope="module")
async def running(
    servers: embedded.Servers,
    database: Database,
    programme: Programme,
    keys: Keys,
    secret: bytes,
    now: datetime,
    issuer: OutsideIssuer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Outside]:
    club, clock = Club(database, programme, keys, now), Clock(now)
    acme, closed = await club.partner(), await club.partner()
    await club.sql("UPDATE partner SET state = 'SUSPENDED' WHERE id = $1", closed.id)
    path = tmp_path_factory.mktemp("identity") / "identity.toml"
    text = IDENTITY.format(issuer=issuer.address, acme=acme.handle, closed=closed.handle)
    path.write_text(text, encoding="utf-8")
    settings = settings_with(path, servers, database, secret)
    gateway = Gateway(settings, clock=lambda: clock.now, work=False)
    async with (
        gateway.living() as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=settings.address) as client,
    ):
        yield Outside(service, client, issuer, clock, club, acme)


def settings_with(identity: Path, servers: embedded.Servers, database: Database, secret: bytes) -> Settings:
    return Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        identity=identity,
    )


@pytest.fixture
def outside(running: Outside) -> Outside:
    """Two days later for each test, so that nothing that was fetched before is used any more."""
    running.clock.now += timedelta(days=2)
    running.issuer.reset()
    return running


async def test_a_partners_own_token_admits_it_with_the_scopes_that_its_names_are_worth(outside: Outside) -> None:
    assert await outside.viewer(outside.token(scope="read write:all perks:write")) == {
        "kind": "PARTNER",
        "id": f"{outside.issuer.address}|user-7",
        "scopes": ["eligibility:read", "perks:read"],
    }


async def test_an_outside_partner_checks_and_another_partners_perk_stays_out_of_its_sight(outside: Outside) -> None:
    club = outside.club
    member, perk = await club.member(outside.acme), await club.perk(outside.acme)
    alias = await club.consent(member, outside.acme)
    asked = {"member": {"alias": alias}, "perk": {"handle": perk.handle}}
    token = outside.token()
    assert (await outside.ask(token, CHECK, **asked)).data["eligibility"] == {"eligible": True, "refusals": []}
    others = await club.perk()
    found = await outside.ask(token, CHECK, **(asked | {"perk": {"handle": others.handle}}))
    assert found.code == "NOT_FOUND"


async def test_an_outside_member_is_the_member_whoever_vouches(outside: Outside) -> None:
    member = await outside.club.member()
    token = outside.member(member)
    assert await outside.viewer(token) == {"kind": "MEMBER", "id": str(member.id), "scopes": ["me:claim", "me:read"]}
    assert (await outside.ask(token, "{ me { tier { handle } } }")).data == {"me": {"tier": {"handle": "gold"}}}


async def test_outside_staff_read_the_audit_log_and_nothing_that_their_groups_may_not(outside: Outside) -> None:
    token = outside.token(aud=["perks-staff", "account"], scope="auditor admin")
    assert (await outside.viewer(token))["scopes"] == ["audit:read"]
    assert (await outside.ask(token, "{ auditEntries(first: 1) { nodes { action } } }")).status == 200


async def test_what_an_outside_caller_does_is_on_record_under_its_issuer(outside: Outside) -> None:
    member, perk = await outside.club.member(outside.acme), await outside.club.perk(outside.acme)
    alias = await outside.club.consent(member, outside.acme)
    claim = """mutation ($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { id } userErrors { code } } }"""
    given = {"perk": {"handle": perk.handle}, "member": {"alias": alias}, "idempotencyKey": "key-of-the-till"}
    sub = "till " + "ö" * 250
    done = await outside.ask(outside.token(sub=sub, scope="till"), claim, input=given)
    assert done.data["claimPerk"]["userErrors"] == []
    [entry] = await outside.club.sql(
        "SELECT actor_kind, actor_id FROM audit_entry WHERE perk_id = $1 AND action = 'perk.claimed'", perk.id
    )
    assert tuple(entry) == ("partner", f"{outside.issuer.address}|{sub}")


async def test_client_and_token_are_named_with_their_issuer(outside: Outside) -> None:
    here = outside.issuer.address
    caller = await outside.verifier.caller(f"Bearer {outside.token(jti='7')}".encode(), outside.now)
    assert (caller.client_id, caller.token_id) == (f"{here}|till", f"{here}|7")
    by_azp = outside.token(jti=None, client_id=None, azp="other")
    caller = await outside.verifier.caller(f"Bearer {by_azp}".encode(), outside.now)
    assert caller.client_id == f"{here}|other"
    assert caller.token_id is not None
    assert caller.token_id.startswith(f"{here}|#")


async def test_a_token_without_an_id_is_the_same_token_under_another_signature(outside: Outside) -> None:
    token = outside.token(jti=None)
    message, _, signature = token.rpartition(".")
    again = outside.issuer.key
    resigned = signed(json.loads(urlsafe_b64decode(message.split(".")[1].encode())), again)
    assert resigned.rpartition(".")[0] == message
    assert resigned.rpartition(".")[2] != signature
    ids = [(await outside.verifier.verify(one.encode(), outside.now)).token_id for one in (token, resigned)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("kind", [Denied.TOKEN, Denied.CLIENT])
async def test_an_outside_token_can_be_revoked_here(outside: Outside, kind: Denied) -> None:
    token = outside.token(jti=f"dead-{kind}", client_id=f"till-{kind}")
    assert (await outside.ask(token)).status == 200
    name = f"dead-{kind}" if kind is Denied.TOKEN else f"till-{kind}"
    outside.service.denied.add(kind, f"{outside.issuer.address}|{name}", 2, outside.now + timedelta(days=1))
    assert (await outside.ask(token)).code == "UNAUTHENTICATED"


async def test_our_own_tokens_are_admitted_as_before_and_nobody_is_asked(outside: Outside) -> None:
    api = Api(outside.service, outside.client)
    answer = await api.partner(outside.acme, "perks:read")(VIEWER)
    assert answer.data["viewer"]["id"] == f"client_client_{outside.acme.handle}"
    assert outside.issuer.asked.total() == 0


async def test_a_token_that_is_bound_to_a_key_is_held_to_it(outside: Outside) -> None:
    bound = outside.token(cnf={"jkt": "A" * 43})
    assert "DPoP" in (await outside.ask(bound)).error["message"]
    assert (await outside.verifier.verify(bound.encode(), outside.now)).key_thumbprint == "A" * 43


async def test_who_is_meant_is_looked_up_in_one_statement_and_remembered(outside: Outside) -> None:
    member, statements = await outside.club.member(), []
    engine = outside.service.database.engine.sync_engine

    def count(*said: Any) -> None:
        statements.append(said[2])

    tokens = [outside.token(), outside.member(member), outside.token(aud="perks-staff")]
    event.listen(engine, "before_cursor_execute", count)
    try:
        for token in tokens * 2:
            assert (await outside.ask(token)).status == 200
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert len(statements) == 2
    assert outside.issuer.asked["/keys"] == 1


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA"])
async def test_an_issuer_may_sign_with_any_algorithm_of_its_list(outside: Outside, algorithm: str) -> None:
    of_rsa = algorithm != "EdDSA"
    key = RSAKey.generate_key(2048, auto_kid=True) if of_rsa else OKPKey.generate_key("Ed25519", auto_kid=True)
    outside.issuer.published = [public(key, use="sig", alg=algorithm)]
    assert (await outside.ask(signed(outside.claims(), key, alg=algorithm))).status == 200


async def test_rotated_keys_are_picked_up(outside: Outside) -> None:
    assert (await outside.ask(outside.token())).status == 200
    outside.issuer.rotate()
    assert "unknown key" in (await outside.ask(outside.token())).error["message"]
    outside.clock.now += timedelta(seconds=30)
    assert (await outside.ask(outside.token())).status == 200


async def test_while_the_key_set_can_not_be_fetched_nobody_is_admitted(outside: Outside) -> None:
    outside.issuer.answers["/keys"] = away
    refused = await outside.ask(outside.token())
    assert (refused.status, refused.code) == (503, "UNAVAILABLE")
    outside.issuer.answers.clear()
    outside.clock.now += timedelta(seconds=10)
    assert (await outside.ask(outside.token())).status == 200


async def test_known_keys_go_on_while_the_key_set_can_not_be_fetched(outside: Outside) -> None:
    assert (await outside.ask(outside.token())).status == 200
    outside.issuer.answers["/keys"] = away
    outside.clock.now += timedelta(hours=1)
    assert (await outside.viewer(outside.token()))["kind"] == "PARTNER"
    outside.clock.now += timedelta(hours=23)
    assert (await outside.ask(outside.token())).code == "UNAVAILABLE"


async def away() -> Response:
    return Response(status_code=500)


def hmac_signed(outside: Outside, key: bytes) -> str:
    header = {"alg": "HS256", "typ": "at+jwt", "kid": outside.issuer.key.kid}
    parts = (urlsafe_b64encode(json.dumps(part).encode()) for part in (header, outside.claims()))
    message = b".".join(parts)
    return b".".join([message, urlsafe_b64encode(hmac.digest(key, message, "sha256"))]).decode()


def headed(**header: Any) -> Callable[[Outside], str]:
    return lambda outside: signed(outside.claims(), outside.issuer.key, **header)


def saying(**changed: Any) -> Callable[[Outside], str]:
    """With every number as seconds from now."""

    def make(outside: Outside) -> str:
        seconds = int(outside.now.timestamp())
        return outside.token(**{name: seconds + one if type(one) is int else one for name, one in changed.items()})

    return make


def of_member(**changed: Any) -> Callable[[Outside], str]:
    return lambda outside: outside.token(
        **({"aud": "perks-members", "app": "phone", "club": {"number": "9"}} | changed)
    )


def plain(**changed: Any) -> Callable[[Outside], str]:
    said = {"aud": "perks-members", "app": "phone", "club": {"number": "9"}} | changed
    return lambda outside: signed(outside.claims(**said), outside.issuer.key, typ="JWT")


BEFORE_FETCHING: dict[str, tuple[Callable[[Outside], str], str]] = {
    "alg none": (
        lambda it: signed(it.claims(), it.issuer.key, alg="none").rpartition(".")[0] + ".",
        "not signed with ES",
    ),
    "HS256 with the public key": (
        lambda it: hmac_signed(it, it.issuer.key.as_pem(private=False)),
        "not signed with ES",
    ),
    "HS256 with the JWK": (
        lambda it: hmac_signed(it, json.dumps(it.issuer.published[0]).encode()),
        "not signed with ES",
    ),
    "an algorithm of another issuer's": (headed(alg="ES384"), "not signed with ES256 or RS256 or PS256 or EdDSA"),
    "an algorithm of another audience's": (
        lambda it: signed(it.claims(aud="perks-staff"), it.issuer.key, alg="RS256"),
        "not signed with ES256$",
    ),
    "alg is a list": (headed(alg=["ES256"]), "wrong alg"),
    "no alg": (headed(alg=None), "not a JWT"),
    "typ JWT": (headed(typ="JWT"), "typ is not at"),
    "no typ": (headed(typ=None), "typ is not at"),
    "no kid": (headed(kid=None), "lacks kid"),
    "a kid of many characters": (headed(kid="k" * 256), "wrong kid"),
    "a kid with a line feed": (headed(kid="k\nk"), "wrong kid"),
    "its own key inside": (lambda it: headed(jwk=public(new_key()))(it), "other header members"),
    "its own key elsewhere": (headed(jku="https://evil.example/keys"), "other header members"),
    "critical members": (headed(crit=["exp"]), "other header members"),
    "an unencoded payload": (headed(crit=["b64"], b64=False), "not a JWT|other header members"),
    "the issuer with a slash": (lambda it: it.token(iss=it.issuer.address + "/"), "another issuer"),
    "the issuer in capitals": (lambda it: it.token(iss=it.issuer.address.replace("http", "HTTP")), "another issuer"),
    "the issuer by another name": (
        lambda it: it.token(iss=it.issuer.address.replace("127.0.0.1", "localhost")),
        "another",
    ),
    "an unknown issuer": (saying(iss="https://evil.example"), "another issuer"),
    "another audience": (saying(aud="other"), "another audience"),
    "other audiences": (saying(aud=["a", "perks "]), "another audience"),
    "two of our audiences": (saying(aud=["perks", "perks-staff"]), "another audience"),
    "no audience": (saying(aud=None), "lacks aud"),
    "an audience that is an object": (saying(aud={"perks": 1}), "wrong aud"),
    "no subject, no time of issue": (saying(sub=None, iat=None), "lacks iat, sub"),
    "an empty subject": (saying(sub=""), "wrong sub"),
    "a subject that is a number": (saying(sub=7.5), "wrong sub"),
    "a subject with a line feed": (saying(sub="a\nb"), "wrong sub"),
    "a subject with NUL": (saying(sub="a\x00b"), "wrong sub"),
    "a subject that is a book": (saying(sub="s" * 256), "wrong sub"),
    "no expiry": (saying(exp=None), "lacks exp"),
    "an expiry that is a text": (saying(exp="tomorrow"), "wrong exp"),
    "an expiry that is a truth": (saying(exp=True), "wrong exp"),
    "an expiry beyond time": (saying(exp=1e30), "wrong exp"),
    "expired beyond the leeway": (saying(iat=-90, exp=-30), "has expired"),
    "expired minutes ago": (saying(iat=-600, exp=-300), "has expired"),
    "not valid yet": (saying(nbf=31), "not valid yet"),
    "issued by a clock that is ahead": (saying(iat=180, exp=480), "issued in the future"),
    "issued long ago": (saying(iat=-3600, exp=60), "issued more than 3600 s ago"),
    "issued long ago for a member": (of_member(iat=0), "issued more than 600 s ago"),
    "bound to a certificate": (saying(cnf={"x5t#S256": "A" * 43}), "wrong cnf"),
    "bound to a key and a certificate": (saying(cnf={"jkt": "A" * 43, "x5t#S256": "A" * 43}), "wrong cnf"),
    "bound to nothing": (saying(cnf={}), "wrong cnf|lacks cnf"),
    "too long": (saying(more="x" * 8192), "longer than 8192"),
    "an id token": (plain(at_hash="x"), "not an access token"),
    "a logout token": (plain(events={}), "not an access token"),
    "a refresh token": (plain(typ="Refresh"), "not an access token"),
    "another type of JWT": (
        lambda it: signed(it.claims(aud="perks-members"), it.issuer.key, typ="logout+jwt"),
        "typ is not at",
    ),
}
AFTER_FETCHING: dict[str, tuple[Callable[[Outside], str], str]] = {
    "an unknown key": (lambda it: signed(it.claims(), new_key()), "unknown key"),
    "another key under its id": (lambda it: signed(it.claims(), new_key(), kid=it.issuer.key.kid), "signature"),
    "an elliptic key said to be RSA": (headed(alg="RS256"), "signature"),
    "no signature": (lambda it: it.token().rpartition(".")[0] + ".", "signature"),
    "another token's signature": (
        lambda it: f"{it.token().rpartition('.')[0]}.{it.token().rpartition('.')[2]}",
        "signature",
    ),
    "no client": (saying(client_id=None), "which client"),
    "a client that is a number": (saying(client_id=3.5), "which client"),
    "a client with a line feed": (saying(client_id="a\nb"), "which client"),
    "no partner": (saying(org=None), "does not name one partner"),
    "a partner that the table lacks": (lambda it: it.token(org=it.acme.handle), "does not name one partner"),
    "two partners": (saying(org=["Acme, Inc.", "Closed"]), "does not name one partner"),
    "a partner that is an object": (saying(org={"name": "Acme, Inc."}), "does not name one partner"),
    "a partner that is not there": (saying(org="Nobody"), "suspended or not there"),
    "a suspended partner": (saying(org="Closed"), "suspended or not there"),
    "a member that is not there": (of_member(), "no member of this programme"),
    "no member": (of_member(club=None), "no member of this programme"),
    "a member that is a number": (of_member(club={"number": 3.5}), "no member of this programme"),
    "a member with NUL": (of_member(club={"number": "a\x00"}), "no member of this programme"),
    "a member's client elsewhere": (of_member(app=None), "which client"),
}


@pytest.mark.parametrize("name", BEFORE_FETCHING)
async def test_a_token_that_can_not_be_is_refused_with_the_reason_before_anything_is_fetched(
    outside: Outside, name: str
) -> None:
    make, reason = BEFORE_FETCHING[name]
    with pytest.raises(Unauthenticated, match=reason):
        await outside.verifier.caller(b"Bearer " + make(outside).encode(), outside.now)
    assert outside.issuer.asked.total() == 0


@pytest.mark.parametrize("name", AFTER_FETCHING)
async def test_a_token_that_does_not_hold_is_refused_with_the_reason(outside: Outside, name: str) -> None:
    make, reason = AFTER_FETCHING[name]
    token, verifier = b"Bearer " + make(outside).encode(), outside.verifier
    with pytest.raises(Unauthenticated, match=reason):
        await verifier.caller(token, outside.now)
    assert verifier.cached(token, outside.now) is None
    assert outside.issuer.asked["/keys"] == 1


async def test_a_refusal_at_the_api_is_401_with_the_challenge(outside: Outside) -> None:
    refused = await outside.ask(outside.token(aud="other"))
    assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
    assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("make", [saying(iat=-60, exp=-29), saying(nbf=29), saying(iat=29)])
async def test_a_clock_that_is_a_little_off_does_no_harm(outside: Outside, make: Callable[[Outside], str]) -> None:
    caller = await outside.verifier.caller(b"Bearer " + make(outside).encode(), outside.now)
    assert caller.expires_at is not None
    assert caller.expires_at > outside.now


async def test_a_token_ends_when_it_is_too_old_however_long_it_says_it_lives(outside: Outside) -> None:
    member = await outside.club.member()
    long = outside.member(member, exp=int(outside.now.timestamp()) + 10**6)
    caller = await outside.verifier.verify(long.encode(), outside.now)
    assert caller.expires_at == outside.now.replace(microsecond=0) + timedelta(seconds=600)


async def test_plain_jwt_is_accepted_where_the_file_says_so(outside: Outside) -> None:
    member = await outside.club.member()
    claims = {"aud": "perks-members", "club": {"number": member.external_id}, "app": "phone", "typ": "Bearer"}
    for typ in ("JWT", "at+jwt", "application/at+jwt", None):
        token = signed(outside.claims(**claims), outside.issuer.key, typ=typ)
        caller = await outside.verifier.verify(token.encode(), outside.now)
        assert (caller.kind, caller.scopes) == (CallerKind.MEMBER, frozenset())


async def test_a_flood_of_invented_keys_is_one_fetch(outside: Outside) -> None:
    for _ in range(20):
        assert (await outside.ask(signed(outside.claims(), new_key()))).code == "UNAUTHENTICATED"
    assert outside.issuer.asked == {"/.well-known/openid-configuration": 1, "/keys": 1}


async def test_without_the_database_an_outside_caller_can_not_be_known(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> Any:
        raise ConnectionRefusedError

    issuers = outside.service.outside.issuers
    monkeypatch.setattr(issuers, "_reading", gone)
    with pytest.raises(Unavailable, match="can't be looked up"):
        await outside.verifier.verify(outside.token().encode(), outside.now)


async def test_this_service_itself_can_not_be_an_issuer_outside(
    servers: embedded.Servers, database: Database, secret: bytes, folder: Path
) -> None:
    path = folder / "identity.toml"
    text = IDENTITY.format(issuer="http://127.0.0.1:8000", acme="acme", closed="closed")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(IdentityInvalid, match="is this service itself"):
        async with Gateway(settings_with(path, servers, database, secret), work=False).living():
            pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
CLAIMS = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "cnf", "scope", "client_id", "org", "typ"]


async def require_admitted_or_refused(outside: Outside, token: str) -> None:
    """Admitted as Acme, or refused in one of the two ways."""
    try:
        caller = await outside.verifier.verify(token.encode(), outside.now)
    except (Unauthenticated, Unavailable):
        return
    assert caller.partner_id == outside.acme.id
    assert caller.id.startswith(f"{outside.issuer.address}|")


@given(st.dictionaries(st.sampled_from(CLAIMS), JSON, min_size=1))
async def test_no_signed_claims_make_the_verifier_stumble(running: Outside, changed: dict[str, Any]) -> None:
    await require_admitted_or_refused(running, signed(running.claims() | changed, running.issuer.key))


@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["alg", "typ", "kid", "crit", "b64", "x5t", "jwk"]), JSON))
async def test_no_header_makes_the_verifier_stumble(running: Outside, header: dict[str, Any]) -> None:
    await require_admitted_or_refused(running, signed(running.claims(), running.issuer.key, **header))


@given(st.integers(min_value=0, max_value=2), st.binary(max_size=200))
async def test_no_bytes_make_the_verifier_stumble(running: Outside, place: int, noise: bytes) -> None:
    parts = running.token().split(".")
    parts[place] = urlsafe_b64encode(noise).decode()
    with pytest.raises(Unauthenticated):
        await running.verifier.verify(".".join(parts).encode(), running.now)
