"""Well-known clients just work."""

import httpx
from gql import Client, gql
from gql.transport.httpx import HTTPXAsyncTransport

from gateway.app import Gateway
from tests.api import Api
from tests.factories import Club


async def test_gql_of_python_reads_the_schema_and_asks(api: Api, club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner)
    alias = await club.consent(await club.member(), partner)
    over_asgi = api.client._transport
    assert isinstance(over_asgi, httpx.ASGITransport)
    assert isinstance(over_asgi.app, Gateway)
    transport = HTTPXAsyncTransport(
        url=f"{api.service.settings.address}/graphql",
        headers={"authorization": f"Bearer {api.partner(partner).token}"},
        transport=over_asgi,
    )
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        query = gql(
            """
            query($member: MemberBy!, $perk: PerkBy!) {
              eligibility(member: $member, perk: $perk) { eligible policyVersion }
            }
            """
        )
        query.variable_values = {"member": {"alias": alias}, "perk": {"handle": perk.handle}}
        answer = await session.execute(query)
        assert answer == {"eligibility": {"eligible": True, "policyVersion": 1}}
        assert session.client.schema is not None
        assert "claimPerk" in session.client.schema.mutation_type.fields  # type: ignore[union-attr]
