"""What resolvers reach of one process, put together."""

from gateway.database import Database
from gateway.high_water import HighWater, vouch
from gateway.rate_limits import RateLimits
from gateway.settings import Settings
from partners.feeds import Feeds
from partners.keys import Keys
from partners.outside_addresses import read_private_targets
from partners.programme import Programme
from schema.context import Resources, open_resources


def resources_on(
    database: Database,
    programme: Programme,
    keys: Keys,
    limits: RateLimits,
    feeds: Feeds,
    mark: HighWater,
    settings: Settings,
) -> Resources:
    """What resolvers reach."""

    async def keep_in_mind(note: str) -> None:
        await vouch(database.connection, mark, note)

    return open_resources(
        sessions=database.sessions,
        reading=database.reading,
        connection=database.connection,
        programme=programme,
        keys=keys,
        try_code=limits.hold_code,
        right_code=limits.right_hold_code,
        vouch=keep_in_mind,
        feeds=feeds,
        private_targets=read_private_targets(settings.webhook_private_targets),
    )
