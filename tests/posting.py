"""Webhooks over real sockets: the log is sequenced, messages are made and posted to receivers on this machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any
from uuid import uuid4

from gateway.outside_posts import open_outside_world
from gateway.outside_sockets import Limits
from gateway.webhooks import Courier
from partners import tables
from partners.outside_addresses import PrivateTargets, read_private_targets
from partners.webhooks.events import names_of
from partners.webhooks.messages import make_messages
from tests.api import Api, Voice
from tests.factories import Club
from tests.sequencing import sequencer_on

HERE = read_private_targets("127.0.0.1")
opened = partial(
    open_outside_world, HERE, limits=Limits(total_s=0.5, body_s=0.2), trusted=SSLContext(PROTOCOL_TLS_CLIENT)
)


OPERATIONS = Path(__file__).parents[1] / "schema" / "operations"
URL = "https://hooks.brand.example/perks"
SECRETS = "signsAs { id kind publicKey } endpoint { secrets { id kind retiresAt } } secret userErrors { code path }"
ADD = f"mutation($input: AddWebhookSecretInput!) {{ addWebhookSecret(input: $input) {{ {SECRETS} }} }}"
ROTATE = f"mutation($input: RotateWebhookSecretInput!) {{ rotateWebhookSecret(input: $input) {{ {SECRETS} }} }}"
STATE = "endpoint { id state reason secrets { id } } userErrors { code message path }"
RETIRE = f"mutation($input: RetireWebhookSecretInput!) {{ retireWebhookSecret(input: $input) {{ {STATE} }} }}"
CLAIM = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { id } userErrors { code } } }"


def utc_now(later: timedelta = timedelta()) -> datetime:
    return datetime.now(UTC) + later


@dataclass(frozen=True)
class Poster:
    """The real workers' steps on the service of the tests."""

    api: Api

    async def tell(self, clock: Callable[[], datetime] = utc_now) -> int:
        """All that happened becomes messages at the service's one moment, and all that is due by the clock is sent; how
        many attempts were made."""
        service = self.api.service
        await sequencer_on(service.database, service.keys).carry_over()
        async with service.database.connection() as connection:
            while await make_messages(connection, names_of(service.keys).delays, service.clock()):
                pass
        async with opened() as post:
            return await Courier(service.database, service.keys, post, clock).deliver_due()


@contextmanager
def posting(api: Api) -> Iterator[Poster]:
    """Endpoints may be on this machine meanwhile."""
    resources = api.service.resources
    resources.private_targets = HERE
    try:
        yield Poster(api)
    finally:
        resources.private_targets = PrivateTargets()


async def do(voice: Voice, operation: str, **given: Any) -> dict[str, Any]:
    """The payload of a mutation, by its example document."""
    field = operation[0].lower() + operation[1:]
    found: dict[str, Any] = (await voice((OPERATIONS / f"{operation}.graphql").read_text(), input=given)).data[field]
    return found


async def create(voice: Voice, url: str = URL, **more: Any) -> dict[str, Any]:
    made = await do(voice, "CreateWebhookEndpoint", url=url, **more)
    assert made["userErrors"] == []
    return made


async def endpoint_of(voice: Voice, url: str = URL, **more: Any) -> str:
    return str((await create(voice, url, **more))["endpoint"]["id"])


async def a_claim(api: Api, club: Club, perk: tables.Perk) -> tables.Member:
    member = await club.member(club.partners[perk.partner_id])
    given = {"perk": {"handle": perk.handle}, "idempotencyKey": uuid4().hex}
    assert (await api.member(member)(CLAIM, input=given)).data["claimPerk"]["userErrors"] == []
    return member
