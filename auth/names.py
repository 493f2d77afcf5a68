"""What people call a client, for those who read which of them asked."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.tables import Client


async def names_of_clients(session: AsyncSession, ids: Collection[str]) -> dict[str, str]:
    """The names of those that are there, by id; no statement for none."""
    if not ids:
        return {}
    rows = await session.execute(sa.select(col(Client.id), col(Client.name)).where(col(Client.id).in_(ids)))
    return {row[0]: row[1] for row in rows}
