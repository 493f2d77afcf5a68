"""Which tokens are dead before their time: the rows that say so, and one process's copy of them in memory."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from sqlmodel import col

from auth.caller import Caller
from auth.tables import Denied, Revocation

TOKENS_LIVE_AT_MOST = timedelta(hours=24)
"""No access token lives longer, by whatever way it was made: what is revoked is remembered for as long."""
LATE_AT_MOST = timedelta(minutes=5)
"""No transaction commits later after its `now`, and no clock differs by more, so that whoever reads what is not
older than this since it last read has read everything."""
PAGE = 2_000
JUST_DENIED = "just denied"

Row = tuple[str, str, int, datetime]
"""One revocation: kind, key, version, and when no such token can be alive any more."""


async def deny(
    session: AsyncSession, kind: Denied, key: str, now: datetime, *, version: int = 1, until: datetime | None = None
) -> None:
    """Kills one token by `jti`, all of an approval by its id, or a client's that were minted below `version`.

    It holds when the session commits, in this process at once; the announcer carries it to every other. It is
    remembered `until` no such token can be alive, which is a day unless given.
    """
    row = Revocation(kind=kind, key=key, version=version, at=now, expires_at=until or now + TOKENS_LIVE_AT_MOST)
    await session.execute(insert(Revocation).values(row.model_dump()).on_conflict_do_nothing())
    session.info.setdefault(JUST_DENIED, []).append((kind, key, version, row.expires_at))


async def is_denied(session: AsyncSession, kind: Denied, key: str) -> bool:
    """Whether the table says so, which may be a moment before this process's copy does."""
    known = sa.exists().where(col(Revocation.kind) == kind, col(Revocation.key) == key)
    return bool(await session.scalar(sa.select(known)))


class DenySet:
    """One process's copy of the live revocations; asked on every request, so it is three look-ups in memory.

    It only grows until `forget`: nothing that is dead comes to life again, so that whatever order announcements and
    readings of the table come in, the result is the same.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, datetime] = {}
        self._approvals: dict[UUID, datetime] = {}
        self._clients: dict[str, int] = {}

    def denies(self, caller: Caller) -> bool:
        """Whether the caller's token is dead."""
        return (
            caller.token_id in self._tokens
            or caller.approval_id in self._approvals
            or self._clients.get(caller.client_id or "", 0) > caller.client_version
        )

    def add(self, kind: str, key: str, version: int, expires_at: datetime) -> None:
        """One revocation; ValueError when it can't be one."""
        if kind == Denied.TOKEN:
            self._tokens[key] = expires_at
        elif kind == Denied.APPROVAL:
            self._approvals[UUID(key)] = expires_at
        else:
            self._clients[key] = max(version, self._clients.get(key, 0))

    def forget(self, now: datetime) -> None:
        """Lets go of what no living token can meet; what is known of clients stays, which is little."""
        self._tokens = {key: end for key, end in self._tokens.items() if end > now}
        self._approvals = {key: end for key, end in self._approvals.items() if end > now}

    async def load(self, session: AsyncSession, now: datetime, *, since: datetime | None = None) -> None:
        """Everything from the table, or what was revoked `since` then: whenever announcements may have been missed.

        Page by page, so that requests are served in between; what is revoked meanwhile is announced.
        """
        key = (col(Revocation.kind), col(Revocation.key), col(Revocation.version))
        query = sa.select(*key, col(Revocation.expires_at)).where(col(Revocation.expires_at) > now)
        if since is not None:
            query = query.where(col(Revocation.at) > since - LATE_AT_MOST)
        last: Sequence[Any] | None = ("", "", 0)
        while last is not None:
            page = query.where(sa.tuple_(*key) > sa.tuple_(*last)).order_by(*key).limit(PAGE)
            rows = (await session.execute(page)).all()
            for row in rows:
                self.add(*row)
            last = rows[-1][:3] if len(rows) == PAGE else None

    def follow(self, sessions: async_sessionmaker[AsyncSession], then: Callable[[], None]) -> None:
        """From now on what these sessions deny is dead in this process once they commit; `then` is called after."""

        class Following(Session):
            """A type of its own, since that is what SQLAlchemy's events attach to."""

        def committed(session: Session) -> None:
            # A savepoint is released with the same event; what it denied waits for the whole transaction.
            if JUST_DENIED in session.info and not session.in_nested_transaction():
                for row in session.info.pop(JUST_DENIED):
                    self.add(*row)
                then()

        def rolled_back(session: Session, _: object) -> None:
            session.info.pop(JUST_DENIED, None)

        event.listen(Following, "after_commit", committed)
        event.listen(Following, "after_soft_rollback", rolled_back)
        sessions.configure(sync_session_class=Following)
