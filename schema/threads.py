"""Threads as the API shows them: who said what, with which files, and whether answers come in time."""

from datetime import datetime
from uuid import UUID

import strawberry

from partners import tables, threads
from partners.moments import End
from partners.tables import MessageAuthor
from partners.threads import File, Said
from schema.context import Info
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type

strawberry.enum(MessageAuthor, description="On whose behalf something was said.")

MAY_READ_WORDS = Partners("redemptions:read") | Members("me:read") | Staff("members:admin")


@object_type(permission=MAY_READ_WORDS, description="A file that a message refers to; it stays where it is.")
class MessageFile:
    name: str = field(description="Its name for people.")
    address: str = field(description="Where it is (https). Nothing here has ever looked at it.")
    sha256: str = field(description="SHA-256 of its bytes, in hexadecimal: compare before you trust it.")
    bytes: int = field(description="Its length.")


@object_type(permission=MAY_READ_WORDS, description="What one side said.")
class Message:
    at: datetime = field(description="When.")
    author: MessageAuthor = field(description="Which side.")
    text: str = field(description="What, at most 5,000 characters.")
    files: list[MessageFile] = field(description="Files that it refers to.")

    @classmethod
    def of(cls, row: tables.Message) -> "Message":
        """A message as every side of its thread sees it."""
        files = [MessageFile(**file) for file in row.files]
        return cls(at=row.at, author=MessageAuthor(row.author), text=row.text, files=files)


@object_type(
    permission=Authenticated, description="When answers are due: this moves on while the partner waits for the member."
)
class Clocks:
    answer_due_at: datetime | None = field(description="When the first answer is due; null: no limit, or a draft.")
    answered_at: datetime | None = field(description="When the partner first said something.")
    answer_breached: bool = field(description="Whether the first answer is late, or was.")
    solve_due_at: datetime | None = field(description="When it is to be settled; null: no limit, or a draft.")
    solved_at: datetime | None = field(description="When it was settled, one way or another.")
    solve_breached: bool = field(description="Whether it is late, or was.")
    waiting_for_member: bool = field(description="Whether the clocks stand still until the member answers.")

    @classmethod
    def of(cls, end: End) -> "Clocks":
        """The clocks of a request as its reader may know them."""
        read = end.clocks
        return cls(
            answer_due_at=read.answer_due_at,
            answered_at=end.answered_at,
            answer_breached=read.answer_breached,
            solve_due_at=read.solve_due_at,
            solved_at=end.solved_at,
            solve_breached=read.solve_breached,
            waiting_for_member=read.waiting,
        )


async def messages_of(info: Info, thread_id: UUID, first: int | None, after: str | None) -> Connection[Message]:
    """A page of a thread that the caller may read, oldest first."""
    size, seen = page_size(first), read_cursor(after)
    async with info.context.reading() as session:
        rows = await threads.list_messages(session, thread_id, first=size + 1, after=seen)

    async def count() -> int:
        async with info.context.reading() as counting:
            return await threads.count_messages(counting, thread_id)

    page: Connection[Message] = connect(rows, size, after, id_of=lambda row: row.id, node_of=Message.of, counter=count)
    return page


@strawberry.input(description="A file that a message refers to.")
class MessageFileInput:
    name: str = strawberry.field(description="For people, 1 to 200 characters.")
    address: str = strawberry.field(description="Where it is: https, at most 2,000 characters. It is never fetched.")
    sha256: str = strawberry.field(description="SHA-256 of its bytes: 64 lower-case hexadecimal digits.")
    bytes: int = strawberry.field(description="Its length.")


@strawberry.input(description="What one side says.")
class MessageInput:
    text: str = strawberry.field(description="1 to 5,000 characters.")
    files: list[MessageFileInput] = strawberry.field(default_factory=list, description="At most 10.")
    asks: bool = strawberry.field(
        default=False, description="Partners: it asks the member for something, and the clocks wait for the answer."
    )

    def said(self) -> Said:
        """In the domain's words."""
        files = [File(one.name, one.address, one.sha256, one.bytes) for one in self.files]
        return Said(self.text, files, self.asks)
