"""The drop of `make bench` once more, judged and not measured: every unit is sold once, and everybody is answered."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from auth.caller import CallerKind
from auth.clients import register_client
from auth.scopes import scopes_of
from gateway import embedded
from gateway.app import Service, open_service
from partners import tables
from partners.tables import PartnerKind
from tests.benchmarks.club import Brand
from tests.benchmarks.drop import CLAIMANTS, UNITS, check_drop, prepare_drop, run_drop
from tests.benchmarks.measuring import access_token
from tests.benchmarks.processes import Server
from tests.storms.judging import settings_of
from tests.storms.processes import gateways


async def new_brand(service: Service) -> Brand:
    """A partner with a client and nothing else."""
    partner = tables.Partner(handle="brand", name="A brand", kind=PartnerKind.OTHER, created_at=service.clock())
    async with service.database.sessions.begin() as session:
        session.add(partner)
        await session.flush()
        scopes = scopes_of(CallerKind.PARTNER)
        client, secret = await register_client(session, partner, "drop", scopes, service.clock())
        return Brand(partner.id, partner.handle, client.id, secret, [], [], [])


@pytest.mark.long
async def test_a_hundred_thousand_people_get_a_thousand_units_exactly(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, secret: bytes
) -> None:
    settings = settings_of(servers, await new_database(), secret)
    async with open_service(settings, keeps_programme=False) as service:
        brand = await new_brand(service)
        aliases, handle = await prepare_drop(service, brand)
        with gateways(settings, 1) as running:
            token = access_token(Server(running.processes[0], running.ports[0]), brand)
            drop = await asyncio.to_thread(run_drop, aliases, handle, token, running.ports[0])
        await check_drop(service, handle, drop)
    assert drop.outcomes == {"HELD": UNITS, "CAPACITY_EXHAUSTED": CLAIMANTS - UNITS}
    assert drop.sold_out_s <= drop.answered_s
