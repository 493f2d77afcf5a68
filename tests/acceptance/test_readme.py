"""What the README says in code is true."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
from pydantic import SecretStr
from sqlmodel import select

from gateway import embedded
from gateway.app import Gateway, Service
from gateway.database import Database
from gateway.demo.club import NEWCOMER, PARTNER
from gateway.demo.seeding import seed
from gateway.settings import Settings
from partners import tables
from tests.api import Api

ROOT = Path(__file__).parents[2]


def block(language: str) -> str:
    """The one code block of a language in the README."""
    [found] = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    return str(found)


async def alias_of(service: Service, external_id: str, partner: str) -> tuple[str, tables.Partner]:
    """The demo's member as the demo's partner knows it."""
    async with service.database.reading() as session:
        found = await session.execute(
            select(tables.MemberAlias.alias, tables.Partner)
            .join(tables.Partner, tables.Partner.id == tables.MemberAlias.partner_id)  # type: ignore[arg-type]
            .join(tables.Member, tables.Member.id == tables.MemberAlias.member_id)  # type: ignore[arg-type]
            .where(tables.Member.external_id == external_id, tables.Partner.handle == partner)
        )
        alias, row = found.one()
    return alias, row


async def test_the_readmes_query_gets_the_readmes_answer(
    servers: embedded.Servers, empty_database: Database, secret: bytes
) -> None:
    settings = Settings(
        database_url=empty_database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    gateway = Gateway(settings, clock=lambda: datetime.now(UTC), work=False)
    async with (
        gateway.living() as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=settings.address) as client,
    ):
        await seed(service)
        alias, partner = await alias_of(service, NEWCOMER, PARTNER)
        answer = await Api(service, client).partner(partner)(block("graphql"), alias=alias)
    assert answer.data == json.loads(block("json"))


def test_the_readme_says_the_two_commands_that_the_makefile_has() -> None:
    commands = re.findall(r"^make (\S+)", block("sh"), re.M)
    assert commands == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{command}:", makefile, re.M) for command in commands)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
