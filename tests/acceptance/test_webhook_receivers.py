"""What receivers make of our messages: libraries of others verify `v1`, and the specification's own words `v1a`.

Neither library knows `v1a`: they pass over signatures that are not `v1`, so that it is verified by `cryptography`.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import SecretStr
from standardwebhooks import WebhookVerificationError

from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from partners.keys import Keys
from partners.programme import Programme
from partners.webhooks.signing import headers_of, read_secret
from tests.api import Api
from tests.conftest import SECRET
from tests.factories import Club
from tests.posting import ADD, RETIRE, ROTATE, Poster, a_claim, create, posting
from tests.receivers import receiving
from tests.serving import serving

Verify = Callable[[str, "Came"], Any]


@dataclass(frozen=True)
class Came:
    """A request as its receiver has it."""

    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, request: bytes) -> "Came":
        head, _, body = request.partition(b"\r\n\r\n")
        lines = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        return cls({name.lower(): text for name, text in lines}, body)

    def having(self, **headers: str) -> "Came":
        return replace(self, headers=self.headers | {name.replace("_", "-"): text for name, text in headers.items()})


def by_standard_webhooks(secret: str, came: Came) -> Any:
    return standardwebhooks.Webhook(secret).verify(came.body, came.headers)


def by_svix(secret: str, came: Came) -> Any:
    svix.webhooks.Webhook(secret).verify(came.body, came.headers)
    return json.loads(came.body)


def by_the_specification(key: str, came: Came) -> Any:
    """Standard Webhooks, "Asymmetric": Ed25519 over id, timestamp and body with dots between, in `v1a`."""
    signed = f"{came.headers['webhook-id']}.{came.headers['webhook-timestamp']}.".encode() + came.body
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    if abs(time.time() - int(came.headers["webhook-timestamp"])) > 300:
        raise InvalidSignature
    for one in came.headers["webhook-signature"].split():
        version, _, signature = one.partition(",")
        if version == "v1a":
            public.verify(base64.b64decode(signature), signed)
            return json.loads(came.body)
    raise InvalidSignature


LIBRARIES = {"standardwebhooks": by_standard_webhooks, "svix": by_svix}


@pytest.fixture
def poster(api: Api) -> Iterator[Poster]:
    with posting(api) as poster:
        yield poster


@dataclass
class Endpoint:
    """One that a partner has, and how a claim gets there."""

    api: Api
    club: Club
    poster: Poster
    perk: Any
    id: str
    secret: str
    requests: list[bytes]

    async def told(self) -> Came:
        """A claim's message as it came."""
        await a_claim(self.api, self.club, self.perk)
        await self.poster.tell()
        return Came.of(self.requests[-1])

    async def sign_anew(self, document: str, **given: Any) -> dict[str, Any]:
        voice = self.api.partner(self.club.partners[self.perk.partner_id])
        answer = await voice(document, input={"endpoint": self.id, **given})
        [payload] = answer.data.values()
        assert payload["userErrors"] == []
        return dict(payload)


@pytest.fixture
async def endpoint(api: Api, club: Club, poster: Poster) -> Any:
    perk = await club.perk()
    async with receiving() as receiver:
        made = await create(api.partner(club.partners[perk.partner_id]), receiver.url, events=["perk.claimed"])
        yield Endpoint(api, club, poster, perk, made["endpoint"]["id"], made["secret"], receiver.requests)


async def test_a_message_is_thin_and_verified_by_libraries_of_others(endpoint: Endpoint) -> None:
    came = await endpoint.told()
    for verify in LIBRARIES.values():
        event = verify(endpoint.secret, came)
        assert set(event) == {"type", "timestamp", "data"}
        assert (event["type"], event["data"]["perk"]) == ("perk.claimed", f"perk_{endpoint.perk.id.hex}")
        assert len(event["data"]["leafHash"]) == 64
    assert came.headers["content-type"] == "application/json"
    assert came.headers["webhook-id"].startswith("evt_")


@pytest.mark.parametrize("verify", LIBRARIES.values(), ids=LIBRARIES)
async def test_what_is_not_ours_old_or_altered_is_refused_by_them(endpoint: Endpoint, verify: Verify) -> None:
    came = await endpoint.told()
    signature, timestamp = came.headers["webhook-signature"], int(came.headers["webhook-timestamp"])
    old = headers_of([read_secret(endpoint.secret)], came.headers["webhook-id"], timestamp - 301, came.body)
    wrong = {
        "another secret": ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", came),
        "another body": (endpoint.secret, replace(came, body=came.body.replace(b"perk.claimed", b"hold.expired"))),
        "one byte more": (endpoint.secret, replace(came, body=came.body + b" ")),
        "another id": (endpoint.secret, came.having(webhook_id="evt_" + "0" * 32)),
        "another time": (endpoint.secret, came.having(webhook_timestamp=str(timestamp + 1))),
        "an old message that we signed": (endpoint.secret, came.having(**old)),
        "a signature of another kind": (endpoint.secret, came.having(webhook_signature=f"v1a{signature[2:]}")),
    }
    for secret, altered in wrong.values():
        with pytest.raises(WebhookVerificationError):
            verify(secret, altered)
    assert verify(endpoint.secret, came)


async def test_during_a_rotation_the_old_and_the_new_secret_verify_and_then_the_new_alone(endpoint: Endpoint) -> None:
    rotated = await endpoint.sign_anew(ROTATE, overlapSeconds=3_600)
    came = await endpoint.told()
    assert len(came.headers["webhook-signature"].split()) == 2
    for verify in LIBRARIES.values():
        assert verify(endpoint.secret, came) == verify(rotated["secret"], came)
    [former] = [one for one in rotated["endpoint"]["secrets"] if one["retiresAt"] is not None]
    await endpoint.sign_anew(RETIRE, secret=former["id"])
    came = await endpoint.told()
    for verify in LIBRARIES.values():
        assert verify(rotated["secret"], came)
        with pytest.raises(WebhookVerificationError):
            verify(endpoint.secret, came)


async def test_v1a_verifies_beside_v1_and_alone(endpoint: Endpoint) -> None:
    added = await endpoint.sign_anew(ADD, kind="ED25519")
    came = await endpoint.told()
    assert by_the_specification(added["secret"], came) == by_standard_webhooks(endpoint.secret, came)
    rotated = await endpoint.sign_anew(ROTATE, kind="ED25519", overlapSeconds=0)
    [shared] = [one for one in rotated["endpoint"]["secrets"] if one["kind"] == "HMAC"]
    await endpoint.sign_anew(RETIRE, secret=shared["id"])
    came = await endpoint.told()
    assert by_the_specification(rotated["secret"], came)["type"] == "perk.claimed"
    timestamp = int(came.headers["webhook-timestamp"])
    for altered in (
        replace(came, body=came.body + b" "),
        came.having(webhook_timestamp=str(timestamp - 1)),
        came.having(webhook_id="evt_" + "0" * 32),
    ):
        with pytest.raises(InvalidSignature):
            by_the_specification(rotated["secret"], altered)
    with pytest.raises(InvalidSignature):
        by_the_specification(added["secret"], came)


async def test_the_running_service_tells_what_happens_as_it_happens(
    servers: embedded.Servers, empty_database: Database, programme: Programme, keys: Keys, now: datetime
) -> None:
    settings = Settings(
        database_url=empty_database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(SECRET.decode()),
        webhook_private_targets="127.0.0.1",
    )
    async with receiving() as receiver, serving(settings, work=True) as api:
        club = Club(empty_database, programme, keys, now)
        perk = await club.perk()
        made = await create(api.partner(club.partners[perk.partner_id]), receiver.url, events=["perk.claimed"])
        for _ in range(2):
            await a_claim(api, club, perk)
        async with asyncio.timeout(10):
            while len(receiver.requests) < 2:  # noqa: ASYNC110 - another task receives
                await asyncio.sleep(0.02)
        assert receiver.connections <= 2
    first, second = (Came.of(request) for request in receiver.requests)
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    for verify in LIBRARIES.values():
        assert verify(made["secret"], first)["type"] == verify(made["secret"], second)["type"] == "perk.claimed"
