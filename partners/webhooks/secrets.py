"""What an endpoint's messages are signed with: sealed, several at once, and replaced without a gap."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners.actors import Actor
from partners.errors import BadInput, Conflict, NotFound
from partners.keys import Keys
from partners.sealing import Unsealable, open_sealed, seal
from partners.tables import SecretKind, WebhookEndpoint, WebhookSecret
from partners.values import value
from partners.webhooks.reach import lock_endpoint, put_on_record
from partners.webhooks.signing import Secret, new_secret, read_secret

SECRETS_MAX = 4
OVERLAP_MAX = timedelta(days=7)


@value
class MadeSecret:
    """A secret and what the receiver verifies with: `whsec_…`, never to be seen again, or `whpk_…`."""

    row: WebhookSecret
    shown: str


async def secrets_of(
    session: AsyncSession, endpoint_ids: Collection[UUID], now: datetime
) -> dict[UUID, list[WebhookSecret]]:
    """The secrets that sign now, oldest first."""
    secret = WebhookSecret
    query = select(secret).where(col(secret.endpoint_id).in_(endpoint_ids)).order_by(col(secret.id))
    live = query.where(sa.or_(col(secret.retires_at).is_(None), col(secret.retires_at) > now))
    found: dict[UUID, list[WebhookSecret]] = {id: [] for id in endpoint_ids}
    for row in await session.scalars(live.execution_options(populate_existing=True)):
        found[row.endpoint_id].append(row)
    return found


async def add_secret(
    session: AsyncSession,
    endpoint_id: UUID,
    kind: SecretKind,
    *,
    keys: Keys,
    actor: Actor,
    now: datetime,
    given: str | None = None,
) -> MadeSecret:
    """One more secret, which signs beside the others from now on: a new one, or the shared one that was `given`.

    NotFound; Conflict for a fifth; BadInput for what can't be one.
    """
    return await rotate_secret(session, endpoint_id, kind, None, keys=keys, actor=actor, now=now, given=given)


async def rotate_secret(
    session: AsyncSession,
    endpoint_id: UUID,
    kind: SecretKind,
    overlap: timedelta | None,
    *,
    keys: Keys,
    actor: Actor,
    now: datetime,
    given: str | None = None,
) -> MadeSecret:
    """The same, and those of its kind sign for `overlap` (0 to 7 days) longer; None: they stay."""
    if overlap is not None and not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise BadInput(f"overlapSeconds: 0 to {int(OVERLAP_MAX.total_seconds())}")
    if given is not None and kind is not SecretKind.HMAC:
        raise BadInput("secret: the private half of a key is ours alone; only a shared secret can be given")
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    live = (await secrets_of(session, [endpoint_id], now))[endpoint_id]
    if overlap is not None:
        for row in live:
            if row.kind == kind:
                row.retires_at = min(row.retires_at or now + overlap, now + overlap)
        live = [row for row in live if row.retires_at is None or row.retires_at > now]
    if len(live) >= SECRETS_MAX:
        raise Conflict(f"an endpoint has at most {SECRETS_MAX} secrets: retire one first")
    made = await keep_secret(session, endpoint, read_secret(given) if given else new_secret(kind), keys, now)
    await put_on_record(session, "secret_added", endpoint, actor, now, [kind.value])
    return made


async def retire_secret(
    session: AsyncSession, endpoint_id: UUID, secret_id: UUID, *, actor: Actor, now: datetime
) -> None:
    """A secret signs no more. NotFound; Conflict for the only one."""
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    live = (await secrets_of(session, [endpoint_id], now))[endpoint_id]
    retired = next((row for row in live if row.id == secret_id), None)
    if retired is None:
        raise NotFound("no such secret")
    if len(live) == 1:
        raise Conflict("without a secret nobody could tell who sent a message: add another one first")
    retired.retires_at, endpoint.version = now, endpoint.version + 1
    await put_on_record(session, "secret_retired", endpoint, actor, now, [retired.kind])


async def keep_secret(
    session: AsyncSession, endpoint: WebhookEndpoint, secret: Secret, keys: Keys, now: datetime
) -> MadeSecret:
    """Seals it for its row."""
    row = WebhookSecret(endpoint_id=endpoint.id, kind=secret.kind, sealed=b"", created_at=now)
    row.sealed = seal(keys.sealing, secret.hidden, context_of(row.id))
    row.public = secret.shown if secret.kind is SecretKind.ED25519 else None
    session.add(row)
    endpoint.version += 1
    await session.flush()
    return MadeSecret(row, secret.shown)


def context_of(secret_id: UUID) -> bytes:
    """Where a sealed secret belongs."""
    return b"webhook_secret:" + secret_id.bytes


@value
class Signer:
    """A secret that signs until `retires_at`, if ever."""

    secret: Secret
    retires_at: datetime | None

    def signs_at(self, now: datetime) -> bool:
        """Whether it signs at this moment."""
        return self.retires_at is None or self.retires_at > now


SIGNERS = """
SELECT id, endpoint_id, kind, sealed, retires_at FROM webhook_secret
WHERE endpoint_id = ANY ($1::uuid[]) AND (retires_at IS NULL OR retires_at > $2) ORDER BY id
"""


async def read_signers(
    connection: "Connection[Any]", endpoint_ids: Collection[UUID], keys: Keys, now: datetime
) -> dict[UUID, list[Signer]]:
    """What each endpoint's messages are signed with, opened; what can't be opened, after a change of PERKS_SECRET, is
    left out."""
    found: dict[UUID, list[Signer]] = {id: [] for id in endpoint_ids}
    for row in await connection.fetch(SIGNERS, list(endpoint_ids), now):
        with suppress(Unsealable):
            hidden = open_sealed(keys.sealing, row["sealed"], context_of(row["id"]))
            found[row["endpoint_id"]].append(Signer(Secret(SecretKind(row["kind"]), hidden), row["retires_at"]))
    return found
