"""The demo's club in a database: put there again and again without harm, and never where another club lives."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlmodel import select

from gateway import embedded
from gateway.app import Service, open_service, utc_now
from gateway.demo.club import PERKS
from gateway.demo.handout import CLIENTS_FILE, hand_out
from gateway.demo.seeding import NotTheDemo, seed
from gateway.settings import Settings
from partners import tables
from partners.actors import SYSTEM
from partners.consents import withdraw_consent
from partners.laws import check_laws
from partners.members import enrol_member
from partners.programme import Programme
from partners.references import MemberRef
from tests.conftest import SECRET


@pytest.fixture
async def service(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, tmp_path: Path
) -> AsyncIterator[Service]:
    """A service on a database of its own, and a clock that a test may put forward."""
    settings = Settings(
        database_url=await new_database(),
        redis_url=servers.redis_url,
        secret=SecretStr(SECRET.decode()),
        data_folder=tmp_path,
    )
    async with open_service(settings) as opened:
        yield opened


async def entries(service: Service) -> int:
    async with service.database.connection() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM audit_entry")
        return count


async def test_seeding_again_changes_nothing(service: Service) -> None:
    await seed(service)
    first = await entries(service)
    await seed(service)
    assert await entries(service) == first
    async with service.database.connection() as connection:
        assert await check_laws(connection, utc_now()) == []
        left = await connection.fetchval(
            "SELECT units - taken FROM capacity JOIN perk ON id = perk_id WHERE handle = 'silverline/prototype-drive'"
        )
    assert left == 0


async def test_seeding_on_a_later_day_moves_the_dates_and_enrols_nobody_twice(service: Service) -> None:
    await seed(service)
    first = await entries(service)
    await seed(replace(service, clock=in_forty_days))
    async with service.database.connection() as connection:
        opens = await connection.fetchval("SELECT opens_on FROM perk WHERE handle = 'atelier-rosee/private-evening'")
        updated = await connection.fetchval("SELECT count(*) FROM audit_entry WHERE action = 'perk.updated'")
    assert opens == in_forty_days().date() + timedelta(days=21)
    assert (updated, await entries(service)) == (len(PERKS), first + len(PERKS))


def in_forty_days() -> datetime:
    return utc_now() + timedelta(days=40)


async def test_what_a_member_did_is_not_undone_by_seeding_again(service: Service) -> None:
    await seed(service)
    leading = await leading_of(service)
    async with service.database.sessions.begin() as session:
        partner = (await session.scalars(select(tables.Partner).where(tables.Partner.handle == "silverline"))).one()
        reference = MemberRef(external_id=leading)
        await withdraw_consent(session, reference, partner.id, actor=SYSTEM, now=utc_now())
    await seed(service)
    handout = await hand_out(service)
    assert handout.member_named(leading).aliases.keys() == {"atelier-rosee"}
    assert handout.member != leading


async def leading_of(service: Service) -> str:
    return (await hand_out(service)).member


async def test_clients_keep_their_secrets_and_get_new_ones_where_the_file_is_lost(service: Service) -> None:
    await seed(service)
    first, again = (await hand_out(service)).clients, (await hand_out(service)).clients
    (service.settings.data_folder / CLIENTS_FILE).unlink()
    renewed = (await hand_out(service)).clients
    assert again == first
    assert [client.id for client in renewed] == [client.id for client in first]
    assert not {client.secret for client in renewed} & {client.secret for client in first}


async def test_another_club_is_left_alone(service: Service) -> None:
    async with service.database.sessions.begin() as session:
        await enrol_member(
            session, external_id="somebody", market=None, joined_at=None, actor=SYSTEM, now=service.clock()
        )
    before = await entries(service)
    with pytest.raises(NotTheDemo, match="holds another club"):
        await seed(service)
    assert await entries(service) == before


async def test_a_programme_with_other_tiers_is_left_alone(service: Service) -> None:
    other = Programme.model_validate({"name": "Other", "tier": [{"handle": "only", "name": "Only", "rank": 1}]})
    with pytest.raises(NotTheDemo, match="yours has no black, gold, member, silver"):
        await seed(replace(service, programme=other))
