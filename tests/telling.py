"""Webhooks from a test's point of view: the log is sequenced, messages are made and sent, at a time that it chooses."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ssl import PROTOCOL_TLS_CLIENT, SSLContext

from gateway.outside_posts import open_outside_world
from gateway.outside_sockets import Limits
from gateway.webhooks import Courier
from partners.outside_addresses import read_private_targets
from partners.webhooks.events import names_of
from partners.webhooks.messages import make_messages
from tests.api import Api
from tests.sequencing import sequencer_on

HERE = read_private_targets("127.0.0.1")
opened = partial(
    open_outside_world, HERE, limits=Limits(total_s=0.5, body_s=0.2), trusted=SSLContext(PROTOCOL_TLS_CLIENT)
)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Teller:
    """The real workers' steps on the service of the tests, to receivers on this machine."""

    api: Api

    async def make(self, now: datetime) -> None:
        """What is in the outbox goes into the log, and what is in the log becomes messages."""
        service = self.api.service
        sequencer = sequencer_on(service.database, service.keys)
        while await sequencer.step():
            pass
        async with service.database.connection() as connection:
            while await make_messages(connection, names_of(service.keys).delays, now):
                pass

    async def tell(self, clock: Callable[[], datetime] = utc_now) -> int:
        """All that is due is sent; how many attempts were made."""
        await self.make(clock())
        async with opened() as post:
            return await Courier(self.api.service.database, self.api.service.keys, post, clock).deliver_due()
