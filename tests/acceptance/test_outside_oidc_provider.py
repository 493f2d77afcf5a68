"""An issuer that others wrote, oidc-provider of npm: its tokens for us are admitted, those for others are not."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway import embedded
from gateway.app import Gateway
from gateway.database import Database
from gateway.settings import Settings
from partners.keys import Keys
from partners.programme import Programme
from tests.api import Voice
from tests.factories import Club
from tests.node import free_port, running

pytestmark = pytest.mark.long

HERE, ELSEWHERE = "https://perks.example/graphql", "https://elsewhere.example/api"
IDENTITY = """
[[issuer]]
issuer = "{issuer}"
audience = "{audience}"
kind = "partner"
algorithms = ["ES256"]
partner = "{partner}"
scopes = {{ "perks.check" = ["eligibility:read", "perks:read"] }}
"""


class Provider:
    """oidc-provider with our service behind it."""

    def __init__(self, told: dict[str, Any], web: httpx.AsyncClient, here: httpx.AsyncClient) -> None:
        self.told, self.web, self.here = told, web, here

    async def token(self, audience: str, scope: str) -> str:
        """One for the client `till`, by client credentials (RFC 8707 for the audience)."""
        answer = await self.web.post(
            self.told["token_endpoint"],
            data={"grant_type": "client_credentials", "scope": scope, "resource": audience},
            auth=("till", "a secret of the tests alone".replace(" ", "%20")),
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token


@pytest.fixture(scope="module")
async def provider(
    servers: embedded.Servers,
    database: Database,
    programme: Programme,
    keys: Keys,
    secret: bytes,
    now: datetime,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Provider]:
    partner = await Club(database, programme, keys, now).partner()
    with running("issuer.mjs", str(free_port()), HERE, ELSEWHERE) as told:
        path = tmp_path_factory.mktemp("identity") / "identity.toml"
        text = IDENTITY.format(issuer=told["issuer"], audience=HERE, partner=partner.handle)
        path.write_text(text, encoding="utf-8")
        settings = Settings(
            database_url=database.engine.url.render_as_string(hide_password=False),
            redis_url=servers.redis_url,
            secret=SecretStr(secret.decode()),
            identity=path,
        )
        gateway = Gateway(settings, work=False)
        async with (
            gateway.living(),
            httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=settings.address) as here,
            httpx.AsyncClient() as web,
        ):
            yield Provider(told, web, here)


async def test_a_token_for_us_is_admitted_with_what_its_scopes_are_worth(provider: Provider) -> None:
    token = await provider.token(HERE, "perks.check perks.manage")
    answer = await Voice(provider.here, token)("{ viewer { kind id scopes } }")
    assert answer.data["viewer"] == {
        "kind": "PARTNER",
        "id": f"{provider.told['issuer']}|till",
        "scopes": ["eligibility:read", "perks:read"],
    }


async def test_a_token_for_another_audience_is_not_admitted(provider: Provider) -> None:
    answer = await Voice(provider.here, await provider.token(ELSEWHERE, "perks.check"))("{ viewer { id } }")
    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")
    assert "another audience" in answer.error["message"]


async def test_a_token_that_somebody_touched_is_not_admitted(provider: Provider) -> None:
    message, _, signature = (await provider.token(HERE, "perks.check")).rpartition(".")
    touched = f"{message}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    answer = await Voice(provider.here, touched)("{ viewer { id } }")
    assert "signature" in answer.error["message"]
