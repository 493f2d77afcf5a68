"""Which tokens are dead before their time: the rows that say so, and one process's copy of them in memory."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import Caller
from auth.tables import Denied, Revocation

TOKENS_LIVE_AT_MOST = timedelta(hours=24)
"""No access token lives longer, by whatever way it was made: what is revoked is remembered for as long."""


async def deny(session: AsyncSession, kind: Denied, key: str, now: datetime, *, version: int = 1) -> None:
    """Kills one token by `jti`, all of an approval by its id, or a client's that were minted below `version`.

    It holds when the session commits; the announcer carries it to every process.
    """
    row = Revocation(kind=kind, key=key, version=version, at=now, expires_at=now + TOKENS_LIVE_AT_MOST)
    await session.execute(insert(Revocation).values(row.model_dump()).on_conflict_do_nothing())


class DenySet:
    """One process's copy of the live revocations; asked on every request, so it is three look-ups in memory."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._approvals: set[UUID] = set()
        self._clients: dict[str, int] = {}

    def denies(self, caller: Caller) -> bool:
        """Whether the caller's token is dead."""
        return (
            caller.token_id in self._tokens
            or caller.approval_id in self._approvals
            or self._clients.get(caller.client_id or "", 0) > caller.client_version
        )

    def add(self, kind: str, key: str, version: int) -> None:
        """One revocation as it was announced."""
        if kind == Denied.TOKEN:
            self._tokens.add(key)
        elif kind == Denied.APPROVAL:
            self._approvals.add(UUID(key))
        else:
            self._clients[key] = max(version, self._clients.get(key, 0))

    def replace(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Everything anew, as kind, key and version."""
        fresh = DenySet()
        for row in rows:
            fresh.add(*row)
        self._tokens, self._approvals, self._clients = fresh._tokens, fresh._approvals, fresh._clients

    async def load(self, session: AsyncSession, now: datetime) -> None:
        """Everything from the table: at start, and whenever announcements may have been missed."""
        columns = sa.select(col(Revocation.kind), col(Revocation.key), col(Revocation.version))
        rows = await session.execute(columns.where(col(Revocation.expires_at) > now))
        self.replace((kind, key, version) for kind, key, version in rows)
