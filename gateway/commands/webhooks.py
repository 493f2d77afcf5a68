"""`perks webhooks`: how telling partners goes, for operators; partners manage their endpoints over the API."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from gateway.commands import Answer, AsJson, on_service, operator, show, show_rows
from gateway.commands.partners import partner_of
from partners.errors import BadInput
from partners.webhooks import endpoints, reading
from partners.webhooks.reach import list_endpoints
from partners.webhooks.replays import Replay, Replayed, replay

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from gateway.app import Service

PAGE = 500

app = typer.Typer(help="See how telling partners goes, test endpoints and send again.", no_args_is_help=True)
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, as endpoint_….", show_default=False)]


def named(kind: str, text: str) -> UUID:
    """The UUID of an id of this kind; BadInput."""
    name, _, digits = text.partition("_")
    try:
        if name == kind and len(digits) == 32:
            return UUID(hex=digits)
    except ValueError:
        pass
    raise BadInput(f"{text}: not {kind}_ and 32 hexadecimal digits")


def in_session(work: "Callable[[AsyncSession, Service], Awaitable[Answer]]") -> Answer:
    """One transaction on a service."""

    async def do(service: "Service") -> Answer:
        async with service.database.sessions.begin() as session:
            return await work(session, service)

    return on_service(do)


@app.command("list")
def list_all(
    partner: Annotated[str | None, typer.Option(metavar="HANDLE", help="Of this partner alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List endpoints in the order they were made, with what they were not told yet."""

    async def work(session: "AsyncSession", service: "Service") -> list[dict[str, Any]]:
        owner = None if partner is None else (await partner_of(session, partner)).id
        rows, after = list[dict[str, Any]](), None
        while page := await list_endpoints(session, operator(), partner_id=owner, first=PAGE, after=after):
            waiting = await reading.backlogs(session, [one.id for one in page], service.clock())
            rows += [
                {
                    "endpoint": f"endpoint_{one.id.hex}",
                    "state": one.reason or one.state,
                    "failures": one.failures,
                    "pending": waiting[one.id].pending,
                    "parked": waiting[one.id].parked,
                    "url": one.url,
                    "events": one.actions,
                }
                for one in page
            ]
            after = page[-1].id
        return rows

    show_rows(in_session(work), as_json=as_json)


@app.command("test")
def try_endpoint(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Have an endpoint told of a test, and print the `webhook-id` it will have."""
    id = named("endpoint", endpoint)

    async def work(session: "AsyncSession", service: "Service") -> UUID:
        return await endpoints.test_endpoint(session, id, keys=service.keys, actor=operator(), now=service.clock())

    event = f"evt_{in_session(work).hex}"
    if as_json:
        show({"event": event})
    else:
        typer.echo(event)


@app.command("deliveries")
def list_deliveries(
    endpoint: Endpoint,
    event: Annotated[str | None, typer.Option(metavar="EVENT", help="Of this message alone, as evt_….")] = None,
    last: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the last attempts to tell an endpoint, newest first."""
    id, message = named("endpoint", endpoint), None if event is None else named("evt", event)

    async def work(session: "AsyncSession", service: "Service") -> list[dict[str, Any]]:
        found = await reading.list_attempts(session, operator(), id, message, keys=service.keys, first=last)
        return [
            {
                "at": one.at.isoformat(timespec="seconds"),
                "event": f"evt_{one.message.hex}",
                "number": one.number,
                "answer": one.fault if one.status is None else one.status,
                "ms": one.duration_ms,
            }
            for one in found
        ]

    show_rows(in_session(work), as_json=as_json)


@app.command("replay")
def replay_some(
    endpoint: Endpoint,
    parked: Annotated[bool, typer.Option("--parked", help="All that were given up.")] = False,
    since: Annotated[datetime | None, typer.Option(help="All from this time on, in UTC.", show_default=False)] = None,
    after: Annotated[str | None, typer.Option(metavar="EVENT", help="All after this message, as evt_….")] = None,
    as_json: AsJson = False,
) -> None:
    """Have messages sent again, and print how many."""
    id, last = named("endpoint", endpoint), None if after is None else named("evt", after)
    if sum((parked, since is not None, last is not None)) != 1:
        raise BadInput("what? One of --parked, --since and --after")

    async def work(service: "Service") -> int:
        asked = Replay(parked=parked, since=None if since is None else since.replace(tzinfo=UTC), after=last)
        count = 0
        while True:
            async with service.database.sessions.begin() as session:
                done: Replayed = await replay(
                    session, id, asked, keys=service.keys, actor=operator(), now=service.clock()
                )
            count += done.count
            if done.goes_on_after is None:
                return count
            asked = asked if parked else Replay(after=done.goes_on_after)

    count = on_service(work)
    if as_json:
        show({"count": count})
    else:
        typer.echo(f"{count} will be sent again")
