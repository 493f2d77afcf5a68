"""What authentication costs: tokens from the token endpoint, and what a token adds to a request of the API."""

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from statistics import median
from urllib.parse import urlencode

from sqlmodel import select

from auth.admission import Admission
from auth.approvals import LIFETIMES
from auth.caller import Caller, CallerKind
from auth.clients import caller_of
from auth.issuing import new_refresh_token
from auth.server import TOKEN_PATH
from auth.tables import Approval, Client, GrantType
from auth.tokens import TokenVerifier, mint_access_token
from gateway.app import GRAPHQL_PATH, Service
from partners.tables import Consent
from tests.benchmarks.club import Brand
from tests.benchmarks.measuring import CONNECTIONS, WARM_UP_SECONDS, Figures, Plan, drive, figures
from tests.benchmarks.processes import Server
from tests.holders import holder

GRANTED = '"access_token":'
ROUNDS = 7
CALLS = 200
DRIVEN = ("client credentials", "refresh")


def token_request(brand: Brand, port: int, **form: str) -> bytes:
    """A whole HTTP request of the partner's client to the token endpoint."""
    body = urlencode(form).encode()
    lines = [
        f"POST {TOKEN_PATH} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Basic {b64encode(f'{brand.client_id}:{brand.secret}'.encode()).decode()}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def new_refresh(service: Service, brand: Brand) -> str:
    """A refresh token of the brand's confidential client, bound to a member who consents."""
    now = service.clock()
    async with service.database.sessions.begin() as session:
        client = await session.get(Client, brand.client_id)
        consent = await session.scalar(select(Consent).where(Consent.partner_id == brand.id).limit(1))
        assert client is not None
        assert consent is not None
        client.grant_types = [GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN]
        approval = Approval(
            client_id=client.id,
            kind=CallerKind.PARTNER,
            subject=str(consent.member_id),
            partner_id=brand.id,
            member_id=consent.member_id,
            consent_id=consent.id,
            scopes=["eligibility:read", "member.tier:read"],
            created_at=now,
            expires_at=now + LIFETIMES[CallerKind.PARTNER],
        )
        session.add(approval)
        await session.flush()
        row, token = new_refresh_token(approval, now)
        session.add(row)
        return token


def measure_endpoint(plan: Plan, server: Server, brand: Brand, refresh_token: str) -> Figures:
    """The token endpoint under client credentials and under the refresh of a confidential client."""
    forms = {
        DRIVEN[0]: {"grant_type": GrantType.CLIENT_CREDENTIALS.value, "scope": "eligibility:read perks:read"},
        DRIVEN[1]: {"grant_type": GrantType.REFRESH_TOKEN.value, "refresh_token": refresh_token},
    }
    measured: Figures = {}
    for name, form in forms.items():
        requests = [token_request(brand, server.port, **form)]
        drive(requests, server.port, plan.folder, expect=GRANTED, connections=CONNECTIONS, seconds=WARM_UP_SECONDS)
        measured[name] = figures(requests, plan, server, expect=GRANTED, data=plan.folder / "data")
    return measured


async def microseconds(do: Callable[[int], Awaitable[object]]) -> float:
    """The median over rounds of what one call takes."""
    taken = []
    for turn in range(ROUNDS):
        began = time.perf_counter()
        for number in range(CALLS):
            await do(turn * CALLS + number)
        taken.append((time.perf_counter() - began) / CALLS * 1e6)
    return round(median(taken), 2)


async def measure_admission(service: Service, brand: Brand) -> Figures:
    """What it takes in process, in µs, to know the caller by a token seen before, a new one, and one with a proof."""
    now, held = service.clock(), holder()
    plain = caller_of(await client_of(service, brand.client_id), frozenset({"eligibility:read"}))
    bound = Caller(
        plain.kind,
        plain.id,
        plain.scopes,
        client_id=plain.client_id,
        partner_id=plain.partner_id,
        key_thumbprint=held.thumbprint,
    )

    def bearer(_: int) -> bytes:
        return b"Bearer " + mint_access_token(service.ring, service.authority, plain, now).encode()

    tokens = [bearer(number) for number in range(ROUNDS * CALLS)]
    verifier = TokenVerifier(service.ring, service.authority, service.denied)
    known = tokens[0]
    await verifier.caller(known, now)

    async def hit(_: int) -> object:
        return verifier.cached(known, now)

    async def miss(number: int) -> object:
        return await verifier.caller(tokens[number], now)

    admission = Admission(verifier, service.proofs, GRAPHQL_PATH)
    token = mint_access_token(service.ring, service.authority, bound, now)
    address, nonce = service.authority.issuer + GRAPHQL_PATH, service.proofs.nonce(now)
    proofs = [held.proof(now, address, nonce, token=token) for _ in range(ROUNDS * CALLS)]

    async def proven(number: int) -> object:
        authorization = b"DPoP " + token.encode()
        headers = [(b"authorization", authorization), (b"dpop", proofs[number].encode())]
        return await admission.caller({"method": "POST", "headers": headers, "state": {}}, authorization, now)

    return {
        "seen_before_us": await microseconds(hit),
        "new_us": await microseconds(miss),
        "with_a_proof_us": await microseconds(proven),
    }


async def client_of(service: Service, id: str) -> Client:
    """A client as it is stored."""
    async with service.database.sessions() as session:
        client = await session.get(Client, id)
    assert client is not None
    return client
