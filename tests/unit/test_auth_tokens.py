"""Access tokens: what is minted is what is admitted, and nothing else is."""

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import async_sessionmaker

from auth.caller import ANONYMOUS, Caller, CallerKind
from auth.errors import Unauthenticated
from auth.keys import KeyRing, Seal, new_signing_key
from auth.tokens import Authority, TokenVerifier, mint_access_token
from partners.errors import BadInput

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = b"the operator's secret, 32 bytes or more"
HERE = Authority("https://perks.example", "https://perks.example/graphql", "https://perks.example/staff")
ID = UUID("01956f6e-9d4b-7e3a-8f52-3c1c6f0e1a2b")
PARTNER = Caller(CallerKind.PARTNER, "client_a", frozenset({"perks:read"}), client_id="client_a", partner_id=ID)
MEMBER = Caller(CallerKind.MEMBER, str(ID), frozenset({"me:read", "me:claim"}), client_id="app", member_id=ID)
STAFF = Caller(CallerKind.STAFF, "ada", frozenset({"audit:read"}), client_id="console")


def made_ring() -> KeyRing:
    ring = KeyRing(async_sessionmaker(), SECRET)
    ring.hold([new_signing_key(Seal(SECRET), NOW)], NOW)
    return ring


RING = made_ring()


def mint(caller: Caller = PARTNER, ring: KeyRing = RING, authority: Authority = HERE) -> str:
    return mint_access_token(ring, authority, caller, NOW)


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def claims(**changed: Any) -> dict[str, Any]:
    """A good token's claims, with some changed, and without those that are None."""
    good = json.loads(decoded(mint().split(".")[1]))
    return {name: value for name, value in (good | changed).items() if value is not None}


def signed(payload: Any, key: ECKey | None = None, **header: Any) -> str:
    """Signed by the right key unless told otherwise, whatever it says."""
    key = key or RING.signing_key(NOW)
    members = {"alg": "ES256", "typ": "at+jwt", "kid": RING.signing_key(NOW).kid} | header
    kept = {name: value for name, value in members.items() if value is not None}
    body = f"{encoded(json.dumps(kept).encode())}.{encoded(json.dumps(payload).encode())}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(body.encode(), key)
    return f"{body}.{encoded(signature)}"


def hmac_signed(key: bytes) -> str:
    header = encoded(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": RING.signing_key(NOW).kid}).encode())
    body = f"{header}.{encoded(json.dumps(claims()).encode())}"
    return f"{body}.{encoded(hmac.digest(key, body.encode(), 'sha256'))}"


def unsigned() -> str:
    header = encoded(json.dumps({"alg": "none", "typ": "at+jwt", "kid": RING.signing_key(NOW).kid}).encode())
    return f"{header}.{encoded(json.dumps(claims()).encode())}."


async def test_a_request_without_a_token_is_anonymous() -> None:
    assert await TokenVerifier(RING, HERE).caller(None, NOW) is ANONYMOUS
    assert TokenVerifier(RING, HERE).cached(None, NOW) is ANONYMOUS


@pytest.mark.parametrize(("caller", "minutes"), [(PARTNER, 10), (MEMBER, 5), (STAFF, 5)])
async def test_the_caller_of_a_token_is_the_one_it_was_minted_for(caller: Caller, minutes: int) -> None:
    admitted = await TokenVerifier(RING, HERE).caller(bearer(mint(caller)), NOW)
    assert admitted.expires_at == NOW + timedelta(minutes=minutes)
    assert admitted.token_id is not None
    assert admitted == replace(caller, token_id=admitted.token_id, expires_at=admitted.expires_at)


def test_a_token_is_what_rfc_9068_says_and_its_signature_holds_by_another_library() -> None:
    header, payload, signature = mint().split(".")
    assert json.loads(decoded(header)) == {"alg": "ES256", "typ": "at+jwt", "kid": RING.signing_key(NOW).kid}
    said = json.loads(decoded(payload))
    assert said.pop("jti")
    assert said == {
        "iss": HERE.issuer,
        "aud": HERE.audience,
        "sub": "client_a",
        "client_id": "client_a",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
        "scope": "perks:read",
        "kind": "partner",
        "partner_id": str(ID),
    }
    raw = decoded(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public = RING.signing_key(NOW).public_key
    assert isinstance(public, EllipticCurvePublicKey)
    public.verify(der, f"{header}.{payload}".encode(), ECDSA(SHA256()))


def test_every_token_has_its_own_id() -> None:
    assert len({json.loads(decoded(mint().split(".")[1]))["jti"] for _ in range(20)}) == 20


def test_staff_tokens_have_an_audience_of_their_own() -> None:
    assert json.loads(decoded(mint(STAFF).split(".")[1]))["aud"] == HERE.staff_audience
    with pytest.raises(ValueError, match="audience of their own"):
        Authority("https://perks.example", "same", "same")


def test_no_token_is_minted_with_a_scope_of_another_kind_of_caller() -> None:
    with pytest.raises(BadInput, match="audit:read"):
        mint(Caller(CallerKind.MEMBER, str(ID), frozenset({"audit:read"}), client_id="app", member_id=ID))


def test_no_token_is_minted_without_its_client() -> None:
    with pytest.raises(ValueError, match="names its client"):
        mint(Caller(CallerKind.STAFF, "ada"))


SECONDS = int(NOW.timestamp())
STRANGER = ECKey.generate_key("P-256")
PUBLIC_PEM = RING.signing_key(NOW).as_pem(private=False)
BAD_TOKENS: dict[str, tuple[Callable[[], str], str]] = {
    "not a JWT": (lambda: "nonsense", "not a JWT"),
    "four parts": (lambda: mint() + ".x", "not a JWT"),
    "padded base64": (lambda: mint() + "==", "signature"),
    "header is a list": (lambda: f"{encoded(b'[1]')}.e30.AA", "not a JWT"),
    "header is a text": (lambda: f"{encoded(json.dumps('alg').encode())}.e30.AA", "malformed header"),
    "header is nested": (lambda: f"{encoded(b'[' * 380)}.e30.AA", "not a JWT"),
    "too long": (lambda: mint() + "A" * 4096, "longer than 4096"),
    "alg none": (unsigned, "not signed with ES256"),
    "alg None in capitals": (lambda: signed(claims(), alg="nOnE"), "not signed with ES256"),
    "HS256 with the public key": (lambda: hmac_signed(PUBLIC_PEM), "not signed with ES256"),
    "HS256 with an empty key": (lambda: hmac_signed(b""), "not signed with ES256"),
    "HS256 with the JWK": (lambda: hmac_signed(json.dumps(RING.jwks["keys"][0]).encode()), "not signed with ES256"),
    "RS256 in name": (lambda: signed(claims(), alg="RS256"), "not signed with ES256"),
    "alg is a list": (lambda: signed(claims(), alg=["ES256"]), "malformed header"),
    "typ JWT": (lambda: signed(claims(), typ="JWT"), "typ is not at"),
    "no typ": (lambda: signed(claims(), typ=None), "typ is not at"),
    "no kid": (lambda: signed(claims(), kid=None), "other header members"),
    "its own key inside": (lambda: signed(claims(), STRANGER, jku="https://evil.example"), "other header members"),
    "a JWK inside": (lambda: signed(claims(), STRANGER, jwk=STRANGER.as_dict(private=False)), "malformed header"),
    "critical members": (lambda: signed(claims(), crit=[["b64"]]), "malformed header"),
    "unknown key": (lambda: signed(claims(), STRANGER, kid=STRANGER.thumbprint()), "unknown key"),
    "another key under our id": (lambda: signed(claims(), STRANGER), "signature of the access token is wrong"),
    "no signature": (lambda: mint().rsplit(".", 1)[0] + ".", "signature of the access token is wrong"),
    "a zero signature": (lambda: f"{mint().rsplit('.', 1)[0]}.{encoded(bytes(64))}", "signature"),
    "another token's body": (lambda: ".".join([*mint().split(".")[:2], mint().split(".")[2]]), "signature"),
    "claims are a list": (lambda: signed([1]), "not one of this service"),
    "claims are a number": (lambda: signed(3), "not one of this service"),
    "another issuer": (lambda: signed(claims(iss="https://evil.example")), "another issuer"),
    "the issuer with a slash": (lambda: signed(claims(iss=HERE.issuer + "/")), "another issuer"),
    "another audience": (lambda: signed(claims(aud="https://other.example")), "another audience"),
    "other audiences": (lambda: signed(claims(aud=["a", "b"])), "another audience"),
    "a partner at the staff audience": (lambda: signed(claims(aud=HERE.staff_audience)), "another audience"),
    "staff at the common audience": (lambda: signed(claims(kind="staff")), "another audience"),
    "expired just now": (lambda: signed(claims(exp=SECONDS)), "has expired"),
    "expired long ago": (lambda: signed(claims(exp=SECONDS - 86400)), "has expired"),
    "expiry is NaN": (lambda: signed(claims(exp=float("nan"))), "wrong exp"),
    "expiry is beyond time": (lambda: signed(claims(exp=10**30)), "not one of this service"),
    "expiry is a text": (lambda: signed(claims(exp="tomorrow")), "wrong exp"),
    "expiry is a truth": (lambda: signed(claims(exp=True)), "wrong exp"),
    "not valid yet": (lambda: signed(claims(nbf=SECONDS + 60)), "not valid yet"),
    "issued in the future": (lambda: signed(claims(iat=SECONDS + 60)), "issued in the future"),
    "no expiry": (lambda: signed(claims(exp=None)), "lacks exp"),
    "no subject, no id": (lambda: signed(claims(sub=None, jti=None)), "lacks jti, sub"),
    "no client": (lambda: signed(claims(client_id=None)), "lacks client_id"),
    "no scope": (lambda: signed(claims(scope=None)), "lacks scope"),
    "no audience": (lambda: signed(claims(aud=None)), "lacks aud"),
    "no issuer": (lambda: signed(claims(iss=None)), "lacks iss"),
    "no kind": (lambda: signed(claims(kind=None)), "not one of this service"),
    "an unknown kind": (lambda: signed(claims(kind="admin")), "not one of this service"),
    "an anonymous kind": (lambda: signed(claims(kind="anonymous")), "not one of this service"),
    "a partner without its partner": (lambda: signed(claims(partner_id=None)), "not one of this service"),
    "a member who is no member": (lambda: signed(claims(kind="member")), "not one of this service"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_token_that_does_not_hold_is_refused_with_the_reason(name: str) -> None:
    make, reason = BAD_TOKENS[name]
    token, verifier = bearer(make()), TokenVerifier(RING, HERE)
    with pytest.raises(Unauthenticated, match=reason):
        await verifier.caller(token, NOW)
    assert verifier.cached(token, NOW) is None


@pytest.mark.parametrize("authorization", [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"DPoP ", mint().encode()])
async def test_any_other_authorization_header_is_refused_with_the_right_form(authorization: bytes) -> None:
    with pytest.raises(Unauthenticated, match="must read: Bearer"):
        await TokenVerifier(RING, HERE).caller(authorization, NOW)


async def test_the_scheme_is_read_in_any_case() -> None:
    token = mint().encode()
    assert (await TokenVerifier(RING, HERE).caller(b"bEARER " + token, NOW)).id == "client_a"


async def test_a_bound_token_is_no_bearer_token_and_an_unbound_one_is_no_other() -> None:
    bound, unbound = mint(replace(PARTNER, key_thumbprint="a key")).encode(), mint().encode()
    verifier = TokenVerifier(RING, HERE)
    assert (await verifier.caller(b"dpop " + bound, NOW)).key_thumbprint == "a key"
    with pytest.raises(Unauthenticated, match="is bound to a key: send it as DPoP"):
        await verifier.caller(b"Bearer " + bound, NOW)
    with pytest.raises(Unauthenticated, match="is bound to no key: send it as Bearer"):
        await verifier.caller(b"DPoP " + unbound, NOW)
    assert verifier.cached(b"Bearer " + bound, NOW) is verifier.cached(b"DPoP " + unbound, NOW) is None


@given(st.binary(max_size=300), st.sampled_from([b"", b"Bearer ", b"Bearer e30.e30.", b"Bearer eyJhbGciOiJFUzI1NiJ9."]))
async def test_no_bytes_make_the_verifier_stumble(noise: bytes, start: bytes) -> None:
    with pytest.raises(Unauthenticated):
        await TokenVerifier(RING, HERE).caller(start + noise, NOW)


@given(
    st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=9)
        | st.just("ES256")
        | st.lists(st.text(max_size=3) | st.integers(), max_size=2),
    )
)
async def test_no_header_makes_the_verifier_stumble(header: dict[str, Any]) -> None:
    token = f"{encoded(json.dumps(header).encode())}.{mint().split('.', 1)[1]}"
    with pytest.raises(Unauthenticated):
        await TokenVerifier(RING, HERE).caller(bearer(token), NOW)


@given(
    st.dictionaries(
        st.sampled_from([*claims(), "nbf", "bound", "client_version", "approval", "cnf"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.text(max_size=3)),
        min_size=1,
    )
)
@example({"client_id": [""]})
@example({"client_version": "2"})
@example({"cnf": {"jkt": []}})
async def test_no_signed_claims_make_the_verifier_stumble(changed: dict[str, Any]) -> None:
    try:
        admitted = await TokenVerifier(RING, HERE).caller(bearer(signed(claims() | changed)), NOW)
    except Unauthenticated:
        return
    assert admitted.kind is CallerKind.PARTNER
    assert admitted.partner_id == ID


@given(st.integers(min_value=0), st.sampled_from("ABCxyz019-_."))
async def test_a_token_with_any_character_changed_is_refused(place: int, character: str) -> None:
    token = mint()
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    if changed != token:
        with pytest.raises(Unauthenticated):
            await TokenVerifier(RING, HERE).caller(bearer(changed), NOW)


async def test_an_invented_key_id_right_after_reading_does_not_ask_the_database() -> None:
    """The ring of these tests has no database, so that asking it would be another error."""
    token = bearer(signed(claims(), STRANGER, kid="invented"))
    with pytest.raises(Unauthenticated, match="unknown key"):
        await TokenVerifier(RING, HERE).caller(token, NOW + timedelta(seconds=4))
