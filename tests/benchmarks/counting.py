"""Counts what the database is sent, in a gateway inside this process: every statement is one round trip."""

import asyncio
from collections import Counter
from secrets import token_hex
from typing import Any

import httpx
import sqlalchemy as sa

from gateway.app import Service, door_of
from schema.http import GraphQLEndpoint
from schema.root import SCHEMA
from tests.benchmarks.club import Brand
from tests.benchmarks.load import KEY
from tests.benchmarks.scenarios import Scenario

ALONE = 20
TOGETHER = 32
ROUNDS = 5


class Statements:
    """Counts by the first words: those that SQLAlchemy prepares, and those that asyncpg sends by itself."""

    def __init__(self, service: Service) -> None:
        self.counted: Counter[str] = Counter()
        engine = service.database.engine.sync_engine
        sa.event.listen(engine, "connect", self._listen)
        sa.event.listen(engine, "before_cursor_execute", self._note)

    def _listen(self, connection: Any, _: Any) -> None:
        connection.driver_connection.add_query_logger(lambda record: self.count(record.query))

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.count(statement)

    def count(self, statement: str) -> None:
        """One more."""
        self.counted[" ".join(statement.split()[:4])] += 1


async def count_statements(service: Service, token: str, scenario: Scenario, brand: Brand) -> dict[str, Any]:
    """Statements per request: of requests one after another, and of 32 at a time, which share some."""
    await service.database.engine.dispose()
    statements = Statements(service)
    endpoint = httpx.ASGITransport(app=GraphQLEndpoint(SCHEMA, admit=door_of(service).admit))
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    bodies = iter(scenario.bodies(brand, 1_000))

    async with httpx.AsyncClient(transport=endpoint, base_url="http://bench", headers=headers) as client:

        async def ask() -> None:
            body = next(bodies).replace(KEY.encode(), token_hex(8).encode())
            scenario.check((await client.post("/graphql", content=body)).json())

        async def ask_together() -> None:
            await asyncio.gather(*(ask() for _ in range(TOGETHER)))

        await ask_together()  # opens the connections
        statements.counted.clear()
        for _ in range(ALONE):
            await ask()
        alone = statements.counted.copy()
        statements.counted.clear()
        for _ in range(ROUNDS):
            await ask_together()
    return {
        "statements": round(alone.total() / ALONE, 2),
        "statements_of_32_at_once": round(statements.counted.total() / (TOGETHER * ROUNDS), 2),
        "which": {statement: round(count / ALONE, 2) for statement, count in alone.items()},
    }
