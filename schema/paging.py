"""Keyset pages in Relay's shape: a cursor names the last row that was seen, so no page skips or repeats one."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

import strawberry

from partners.errors import BadInput
from schema.permissions import Authenticated, field, object_type

Node = TypeVar("Node")
Row = TypeVar("Row")

FIRST = 20
FIRST_MAX = 100


@object_type(permission=Authenticated, description="Where a page ends and whether there is another.")
class PageInfo:
    has_next_page: bool = field(description="Whether there are rows after this page.")
    has_previous_page: bool = field(description="Whether the page was asked for after a cursor.")
    start_cursor: str | None = field(description="The cursor of the page's first row.")
    end_cursor: str | None = field(description="The cursor of the page's last row: `after` of the next page.")


@object_type(permission=Authenticated, description="A row with its cursor.")
class Edge(Generic[Node]):
    cursor: str = field(description="Names this row for `after`.")
    node: Node = field(description="The row itself.")


@object_type(permission=Authenticated, description="A page of rows.")
class Connection(Generic[Node]):
    edges: list[Edge[Node]] = field(description="The rows with their cursors.")
    nodes: list[Node] = field(description="The rows alone.")
    page_info: PageInfo = field(description="Where the page ends.")
    counter: strawberry.Private[Callable[[], Awaitable[int]] | None] = None

    @field(description="How many rows there are in all: counted only when asked for.")
    async def total_count(self) -> int | None:
        return None if self.counter is None else await self.counter()


def page_size(first: int | None) -> int:
    """The number of rows asked for; BadInput outside 1 to 100."""
    wanted = FIRST if first is None else first
    if not 1 <= wanted <= FIRST_MAX:
        raise BadInput(f"first: 1 to {FIRST_MAX}", limit=FIRST_MAX)
    return wanted


def show_cursor(id: UUID | str) -> str:
    """The cursor of a row."""
    return urlsafe_b64encode(id.encode() if isinstance(id, str) else id.bytes).decode().rstrip("=")


def read_cursor(after: str | None) -> UUID | None:
    """The row a cursor names; BadInput when it can't be one of ours."""
    if after is None:
        return None
    try:
        return UUID(bytes=urlsafe_b64decode(after.encode("ascii") + b"=="))
    except ValueError:
        raise BadInput("after: not a cursor") from None


def read_name_cursor(after: str | None) -> str | None:
    """The same for rows whose id is a name; BadInput likewise."""
    if after is None:
        return None
    try:
        name = urlsafe_b64decode(after.encode("ascii") + b"==").decode()
    except ValueError:
        name = ""
    if not name or not name.isprintable() or show_cursor(name) != after:
        raise BadInput("after: not a cursor")
    return name


def connect(
    rows: Sequence[Row],
    size: int,
    after: str | None,
    *,
    id_of: Callable[[Row], UUID | str],
    node_of: Callable[[Row], Any],
    counter: Callable[[], Awaitable[int]] | None = None,
) -> Any:
    """A connection of at most `size` rows; one row more than that tells of a next page."""
    shown = rows[:size]
    edges = [Edge(cursor=show_cursor(id_of(row)), node=node_of(row)) for row in shown]
    return Connection(
        edges=edges,
        nodes=[edge.node for edge in edges],
        page_info=PageInfo(
            has_next_page=len(rows) > size,
            has_previous_page=after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
        counter=counter,
    )
