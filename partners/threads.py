"""Threads: what sides say to each other about one thing, by whose owner, and whether answers come in time.

A thread's row holds everything that its clocks are made of: a breach is found by asking, and no job has to notice it.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.actors import Actor, ActorKind
from partners.policies import faulty
from partners.tables import MessageAuthor
from partners.values import value

TEXT_LENGTH_MAX = 5_000
FILES_MAX = 10
NAME_LENGTH_MAX = 200
ADDRESS_LENGTH_MAX = 2_000
OWNER_LENGTH_MAX = 100
BYTES_MAX = 2**31 - 1
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
SHA256 = re.compile(r"[0-9a-f]{64}")
AUTHORS = {
    ActorKind.PARTNER: MessageAuthor.PARTNER,
    ActorKind.MEMBER: MessageAuthor.MEMBER,
    ActorKind.STAFF: MessageAuthor.STAFF,
}


@value
class File:
    """A file that stays where it is: its name, its address (https), the SHA-256 of what is there, and its length."""

    name: str
    address: str
    sha256: str
    bytes: int


@value
class Said:
    """What one side says; `asks`: the clocks wait from now on until the member answers."""

    text: str
    files: Sequence[File] = ()
    asks: bool = False


def check_said(said: Said) -> None:
    """BadInput names everything that can't be, with its path."""
    faults = []
    if not 1 <= len(said.text.strip()) <= TEXT_LENGTH_MAX or UNWRITABLE.search(said.text):
        faults.append(f"text: 1 to {TEXT_LENGTH_MAX} characters")
    if len(said.files) > FILES_MAX:
        faults.append(f"files: at most {FILES_MAX}")
    for place, file in enumerate(said.files[:FILES_MAX]):
        if not 1 <= len(file.name.strip()) <= NAME_LENGTH_MAX or not file.name.isprintable():
            faults.append(f"files.{place}.name: 1 to {NAME_LENGTH_MAX} printable characters")
        if not is_address(file.address):
            faults.append(f"files.{place}.address: an https address of at most {ADDRESS_LENGTH_MAX} characters")
        if not SHA256.fullmatch(file.sha256):
            faults.append(f"files.{place}.sha256: 64 lower-case hexadecimal digits")
        if not 0 <= file.bytes <= BYTES_MAX:
            faults.append(f"files.{place}.bytes: 0 to {BYTES_MAX}")
    if faults:
        raise faulty(faults)


def is_address(text: str) -> bool:
    """Whether it is an https address of a host, without a name and password; nothing here ever fetches one."""
    if len(text) > ADDRESS_LENGTH_MAX or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def check_owner(owner: str) -> str:
    """A name for people to ask for; BadInput otherwise."""
    name = owner.strip()
    if not 1 <= len(name) <= OWNER_LENGTH_MAX or not name.isprintable():
        raise faulty([f"owner: 1 to {OWNER_LENGTH_MAX} printable characters"])
    return name


def open_thread(thread: tables.Thread, answer_within: int | None, solve_within: int | None, now: datetime) -> None:
    """Starts its clocks; both limits in seconds, None for no limit."""
    thread.answer_within, thread.solve_within, thread.opened_at = answer_within, solve_within, now


def note_answer(thread: tables.Thread, now: datetime) -> None:
    """The first word of who has to answer."""
    if thread.answered_at is None and thread.opened_at is not None:
        thread.paused_before_answer = ceil(paused(thread, now).total_seconds())
        thread.answered_at = now


def wait_for_member(thread: tables.Thread, now: datetime) -> None:
    """Stops the clocks until the member answers; asking twice is waiting once."""
    if thread.waiting_since is None and thread.opened_at is not None and thread.solved_at is None:
        thread.waiting_since = now


def hear_member(thread: tables.Thread, now: datetime) -> None:
    """The member has answered: the clocks go on. Whole seconds, rounded in favour of who has to answer."""
    if thread.waiting_since is not None:
        thread.paused_seconds = ceil(paused(thread, now).total_seconds())
        thread.waiting_since = None


def note_end(thread: tables.Thread, now: datetime) -> None:
    """It is settled, whichever way."""
    if thread.opened_at is not None and thread.solved_at is None:
        hear_member(thread, now)
        thread.solved_at = now


def paused(thread: tables.Thread, now: datetime) -> timedelta:
    """How long it has waited for the member so far."""
    waiting = timedelta(0) if thread.waiting_since is None else max(timedelta(0), now - thread.waiting_since)
    return timedelta(seconds=thread.paused_seconds) + waiting


@value
class Clocks:
    """When answers are due, which moves on while the member is waited for; None: no limit, or not opened yet."""

    answer_due_at: datetime | None
    solve_due_at: datetime | None
    answer_breached: bool
    solve_breached: bool
    waiting: bool


def clocks(thread: tables.Thread, now: datetime) -> Clocks:
    """The clocks at a moment: a function of the row and nothing else."""
    before = paused(thread, now)
    if thread.answered_at is not None:
        before = timedelta(seconds=thread.paused_before_answer)
    answer_due_at = due(thread.opened_at, thread.answer_within, before)
    solve_due_at = due(thread.opened_at, thread.solve_within, paused(thread, now))
    return Clocks(
        answer_due_at,
        solve_due_at,
        answer_due_at is not None and (thread.answered_at or thread.solved_at or now) > answer_due_at,
        solve_due_at is not None and (thread.solved_at or now) > solve_due_at,
        thread.waiting_since is not None,
    )


def due(opened_at: datetime | None, within: int | None, waited: timedelta) -> datetime | None:
    """When so many seconds from the opening are over, without those of waiting."""
    if opened_at is None or within is None:
        return None
    return opened_at + timedelta(seconds=within) + waited


def seconds(column: Any) -> Any:
    """A column of seconds as an interval."""
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, column, type_=sa.Interval())


def breaches(now: datetime) -> Any:
    """The condition on threads that `clocks` calls a breach, for a query that looks for them."""
    thread = tables.Thread
    moment = sa.literal(now, sa.DateTime(timezone=True))
    waiting = sa.func.greatest(moment - col(thread.waiting_since), seconds(0))
    waited = seconds(thread.paused_seconds) + sa.func.coalesce(waiting, seconds(0))
    unanswered = col(thread.answered_at).is_(None)
    before = sa.case((unanswered, waited), else_=seconds(thread.paused_before_answer))
    answered_at = sa.func.coalesce(col(thread.answered_at), col(thread.solved_at), moment)
    solved_at = sa.func.coalesce(col(thread.solved_at), moment)
    late = sa.or_(
        answered_at > col(thread.opened_at) + seconds(thread.answer_within) + before,
        solved_at > col(thread.opened_at) + seconds(thread.solve_within) + waited,
    )
    return sa.func.coalesce(late, sa.false())


def say(session: AsyncSession, thread: tables.Thread, said: Said, actor: Actor, now: datetime) -> tables.Message:
    """Adds a message that was checked, and moves the clocks: a member answers what was asked; anybody else gives the
    first answer, and only the partner's question makes the clocks wait."""
    message = tables.Message(
        thread_id=thread.id,
        at=now,
        author=AUTHORS[actor.kind],
        author_id=actor.id,
        text=said.text.strip(),
        files=[file_of(file) for file in said.files],
    )
    session.add(message)
    if actor.kind is ActorKind.MEMBER:
        hear_member(thread, now)
    else:
        note_answer(thread, now)
        if said.asks and actor.kind is ActorKind.PARTNER:
            wait_for_member(thread, now)
    return message


def file_of(file: File) -> dict[str, Any]:
    """As it is stored."""
    return {"name": file.name.strip(), "address": file.address, "sha256": file.sha256, "bytes": file.bytes}


async def list_messages(
    session: AsyncSession, thread_id: UUID, *, first: int, after: UUID | None
) -> list[tables.Message]:
    """The messages of a thread that the caller may read, oldest first, as many as `first`."""
    message = tables.Message
    query = select(message).where(message.thread_id == thread_id).order_by(col(message.id)).limit(first)
    if after is not None:
        query = query.where(col(message.id) > after)
    return list(await session.scalars(query))


async def count_messages(session: AsyncSession, thread_id: UUID) -> int:
    """How many there are in all."""
    counting = select(sa.func.count()).select_from(tables.Message).where(tables.Message.thread_id == thread_id)
    return await session.scalar(counting) or 0
