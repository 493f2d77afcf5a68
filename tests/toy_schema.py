"""A small schema with one of everything the GraphQL engine has to do with, and nothing of the product."""

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import httpx
import strawberry
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Scope

from auth.caller import ANONYMOUS, Caller, CallerKind
from auth.errors import Unauthenticated
from partners.errors import NotFound, Unavailable
from schema import permissions
from schema.http import GraphQLEndpoint
from schema.permissions import Members, Partners, Public, Staff, interface, mutation, object_type


class DriverError(Exception):
    """What asyncpg raises: an error with an SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("a line of SQL and its parameters")
        self.sqlstate = sqlstate


@strawberry.enum(description="What a thing is made of.")
class Material(enum.Enum):
    GOLD = "gold"
    SILVER = "silver"


@interface(description="Anything with an id.")
class Node:
    id: strawberry.ID = permissions.field(description="Its id.")


@object_type(description="A thing.")
class Thing(Node):
    name: str = permissions.field(description="Its name.")
    material: Material = permissions.field(description="What it is made of.", default=Material.GOLD)
    weight: int | None = permissions.field(description="In grams.", default=None)
    made_at: datetime = permissions.field(
        description="When it was made.", default=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    price: int = permissions.field(description="In cents.", permission=Staff("prices:read"), default=7)
    parts: list["Thing"] = permissions.field(description="What it consists of.", default_factory=list)


@object_type(description="A note of who did what.", permission=Staff("audit:read"))
class Entry(Node):
    action: str = permissions.field(description="What was done.")
    mood: str = permissions.field(description="How it felt.", permission=Public, default="calm")


Found = Annotated[Thing | Entry, strawberry.union("Found", description="A thing or a note.")]


@strawberry.input(description="One way to name a thing.", one_of=True)
class ThingBy:
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="By its id.")
    name: strawberry.Maybe[str] = strawberry.field(description="By its name.")


def thing(name: str = "ring") -> Thing:
    """A valid thing."""
    return Thing(id=strawberry.ID(f"thing:{name}"), name=name)


ENTRY = Entry(id=strawberry.ID("entry:1"), action="looked")


@dataclass
class ToyContext:
    """The context of one request; `claims` counts what mutations did."""

    caller: Caller = ANONYMOUS
    request_id: str = "request-1"
    claims: list[str] = field(default_factory=list)


Info = strawberry.Info[ToyContext, None]


@object_type(description="Reads.")
class Query:
    @permissions.field(permission=Public, description="A thing for everybody.")
    async def thing(self, by: ThingBy | None = None) -> Thing | None:
        return thing(by.name.value if by and by.name else "ring")

    @permissions.field(permission=Public, description="Many things.")
    def things(self, count: int = 3) -> list[Thing]:
        return [thing(f"ring {number}") for number in range(count)]

    @permissions.field(permission=Partners("things:read", "secrets:read") | Staff(), description="A thing for a few.")
    async def secret(self, info: Info) -> Thing | None:
        info.context.claims.append("secret")
        return thing("secret")

    @permissions.field(permission=Members("me:read"), description="The member's own name.")
    def me(self) -> str | None:
        return "me"

    @permissions.field(permission=Public, description="Anything by its id.")
    async def node(self, id: strawberry.ID) -> Node | None:
        return ENTRY if id.startswith("entry") else thing()

    @permissions.field(permission=Public, description="A thing and a note.")
    def found(self) -> list[Found]:
        return [thing(), ENTRY]

    @permissions.field(permission=Staff("audit:read"), description="The notes.")
    def entries(self) -> list[Entry]:
        return [ENTRY]

    @permissions.field(permission=Public, description="Fails as it is told.")
    async def fail(self, how: str) -> int | None:
        failures = {
            "not found": NotFound("No such thing.", name="ring"),
            "deadlock": DBAPIError("SELECT 1", {}, DriverError("40P01")),
            "serialisation": DBAPIError("SELECT 1", {}, DriverError("40001")),
            "no table": DBAPIError("SELECT 1", {}, DriverError("42P01")),
            "shut down": DBAPIError("SELECT 1", {}, DriverError("57P01")),
            "refused": ConnectionRefusedError("127.0.0.1:5432"),
            "bug": RuntimeError("the password is swordfish"),
        }
        if how in failures:
            raise failures[how]
        await asyncio.sleep(60)
        return None


@object_type(description="Writes.")
class Mutation:
    @mutation(permission=Members("me:claim"), description="Claims a thing.")
    async def claim(self, info: Info, name: str) -> str | None:
        info.context.claims.append(name)
        return name

    @mutation(permission=Public, description="Waves.")
    async def wave(self, info: Info) -> str | None:
        info.context.claims.append("wave")
        return "wave"


schema = strawberry.Schema(Query, Mutation, types=[Thing, Entry])


def caller(kind: CallerKind, *scopes: str) -> Caller:
    """A caller whose token carries these scopes."""
    return Caller(kind, f"a {kind.value}", frozenset(scopes))


def token(kind: CallerKind, *scopes: str) -> dict[str, str]:
    """The header that makes `admit` see such a caller."""
    return {"authorization": f"Bearer {kind.value}/{' '.join(scopes)}"}


async def admit(scope: Scope) -> ToyContext:
    """Reads the caller out of the token, believing it; two tokens are never good."""
    given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
    if given == "expired":
        raise Unauthenticated("The token has expired.")
    if given == "down":
        raise Unavailable("The keys can't be read.")
    kind, _, scopes = given.partition("/")
    who = caller(CallerKind(kind), *scopes.split()) if given else ANONYMOUS
    return ToyContext(who, scope["state"]["request_id"])


def client(endpoint: GraphQLEndpoint) -> httpx.AsyncClient:
    """An HTTP client of an application that is this endpoint."""
    transport = httpx.ASGITransport(Starlette(routes=[Route("/graphql", endpoint)]))
    return httpx.AsyncClient(transport=transport, base_url="http://toy")
