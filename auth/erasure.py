"""Erasing a member, from the first transaction to the last, and everything that is held about one before."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth import personal_data
from auth.approvals import revoke_approvals
from auth.tables import Approval
from partners import erasure
from partners.actors import Actor
from partners.personal_data import change_holdings, export_member
from partners.references import MemberRef

ROWS_MAX = 100_000
TRIES = 3
Beginning = Callable[[], AbstractAsyncContextManager[AsyncSession]]
Connecting = Callable[[], AbstractAsyncContextManager["Connection[Any]"]]


async def erase_member(
    begin: Beginning, connect: Connecting, reference: MemberRef, actor: Actor, now: datetime
) -> UUID:
    """Erases a member, in several transactions; its id. NotFound, too, for one that is erased already.

    Once the first is committed the member can do nothing any more, its tokens are dead, and whatever stops the rest is
    made good by the workers (`carry_on`).
    """
    async with begin() as session:
        member_id = await erasure.begin_erasure(session, reference, now)
        # The reason that partners read, until the rows are gone.
        await revoke_approvals(session, col(Approval.member_id) == member_id, "CONSENT_WITHDRAWN", now)
    await carry_on(begin, connect, member_id, actor, now)
    return member_id


async def carry_on(begin: Beginning, connect: Connecting, member_id: UUID, actor: Actor, now: datetime) -> None:
    """What is left of an erasure that has begun; safe to repeat. What was under way as it began can turn up at the end:
    then once more, and after that it is the workers'."""
    for _ in range(TRIES):
        async with connect() as connection:
            await erasure.end_everything(connection, member_id, now)
        async with begin() as session:
            requests = await erasure.open_requests(session, member_id)
        for request_id, revision in requests:
            async with begin() as session:
                await erasure.end_request(session, request_id, revision, now)
        async with begin() as session:
            await change_holdings(session, personal_data.HOLDINGS, member_id, lambda one: one.erasing)
            if await erasure.finish_erasure(session, member_id, actor, now):
                return


async def forget_member(begin: Beginning, member_id: UUID, now: datetime) -> None:
    """The end of it, when the partners have heard; safe to repeat."""
    async with begin() as session:
        await change_holdings(session, personal_data.HOLDINGS, member_id, lambda one: one.erasing)
        await erasure.forget(session, member_id, now)


async def read_personal_data(
    session: AsyncSession,
    reference: MemberRef,
    *,
    sealing_key: bytes,
    actor: Actor,
    now: datetime,
    rows_max: int = ROWS_MAX,
) -> dict[str, Any]:
    """Everything that is held about one person (partners/personal_data.py), here and in the authorization server."""
    return await export_member(
        session, reference, personal_data.HOLDINGS, sealing_key=sealing_key, rows_max=rows_max, actor=actor, now=now
    )
