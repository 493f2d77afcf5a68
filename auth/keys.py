"""The keys that sign access tokens: made once, shared by all processes through the database, sealed at rest."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import ECKey
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlmodel import col

from auth.revocations import TOKENS_LIVE_AT_MOST
from auth.tables import SigningKey
from partners import audit
from partners.actors import Actor
from partners.errors import Conflict, Unavailable
from partners.keys import SECRET_BYTES_MIN, derive

ALGORITHM = "ES256"
RETIRED_KEYS_VERIFY_FOR = TOKENS_LIVE_AT_MOST
RELOAD_FLOOR = timedelta(seconds=5)
RELOAD_SECONDS = 60
JWKS_MAX_AGE_SECONDS = 300
PUBLISHED_BEFORE_SIGNING = timedelta(seconds=RELOAD_SECONDS + JWKS_MAX_AGE_SECONDS)
"""By then every process has read a new key, and every cache of the key set that it was not in yet is too old."""
NEVER = datetime.max.replace(tzinfo=UTC)
_NONCE_BYTES = 12


class Seal:
    """Encrypts private keys under a key derived from the operator's secret; ValueError when that is too short.

    AES-256-GCM, with a random nonce before the ciphertext and the key's id as associated data.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(f"the secret needs at least {SECRET_BYTES_MIN} bytes")
        self._cipher = AESGCM(derive(secret, b"signing-key/1"))

    def close(self, kid: str, key: ECKey) -> bytes:
        """The private key, readable only with the same secret and for the same key id."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, json.dumps(key.as_dict(private=True)).encode(), kid.encode())

    def open(self, kid: str, sealed: bytes) -> ECKey:
        """The reverse of `close`; Unavailable when the secret is another one."""
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
        except InvalidTag:
            raise Unavailable("the signing key was sealed with another secret; set the former one again") from None
        return ECKey.import_key(json.loads(plain), {"kid": kid})


def new_signing_key(seal: Seal, now: datetime, *, active_at: datetime | None = None) -> SigningKey:
    """A fresh P-256 key as a row, to sign from now on or from `active_at`; its id is its thumbprint (RFC 7638)."""
    key = ECKey.generate_key("P-256")
    kid = key.thumbprint()
    public = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}
    sealed = seal.close(kid, key)
    return SigningKey(
        kid=kid,
        algorithm=ALGORITHM,
        public_jwk=public,
        private_key=sealed,
        created_at=now,
        active_at=active_at or now,
    )


async def ensure_signing_key(session: AsyncSession, secret: bytes, now: datetime) -> None:
    """Make the current key where there is none. Processes that start together end with the same one: the unique
    index lets the first insert stand and the others do nothing."""
    current = sa.select(col(SigningKey.kid)).where(
        col(SigningKey.algorithm) == ALGORITHM, col(SigningKey.retired_at).is_(None)
    )
    if await session.scalar(current) is None:
        row = new_signing_key(Seal(secret), now)
        await session.execute(insert(SigningKey).values(row.model_dump()).on_conflict_do_nothing())


async def rotate_signing_key(
    session: AsyncSession, secret: bytes, actor: Actor, now: datetime, *, at_once: bool = False, distrust: bool = False
) -> SigningKey:
    """A new key, published at once, that takes over from the current one after `PUBLISHED_BEFORE_SIGNING`.

    For a key that somebody else may know, `at_once` lets the new one sign from now on, and `distrust` also forgets
    all others, so that no token of theirs holds any more. Conflict while an earlier rotation is still to take effect,
    unless `at_once`. Rotations wait for each other, so that there is one next key whoever else rotates.
    """
    await session.execute(sa.text("LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE"))
    ours, retired_at = col(SigningKey.algorithm) == ALGORITHM, col(SigningKey.retired_at)
    last = await session.scalar(sa.select(SigningKey).where(ours, retired_at.is_(None)))
    if last is not None and last.active_at > now and not (at_once or distrust):
        raise Conflict(f"the key {last.kid} was made already and signs from {last.active_at.isoformat()} on")
    begins = now if at_once or distrust else now + PUBLISHED_BEFORE_SIGNING
    if distrust:
        await session.execute(sa.delete(SigningKey).where(ours))
    else:
        still_signing = sa.or_(retired_at.is_(None), retired_at > begins)
        await session.execute(sa.update(SigningKey).where(ours, still_signing).values(retired_at=begins))
    key = new_signing_key(Seal(secret), now, active_at=begins)
    session.add(key)
    await session.flush()
    notes = [code for code, holds in (("AT_ONCE", at_once), ("OTHERS_DISTRUSTED", distrust)) if holds]
    await audit.record(session, "signing_key.rotated", audit.Subject(), actor, now, notes=notes)
    return key


class KeyRing:
    """One process's copy of the keys: the current one to sign with, and all that still verify.

    A key id that it does not know makes it read the table again, at most once per `RELOAD_FLOOR`, so that a key made
    by another process works at once and a flood of invented ids costs the database next to nothing.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession], secret: bytes) -> None:
        self._sessions = sessions
        self._seal = Seal(secret)
        self._reading = asyncio.Lock()
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._verifying: dict[str, ECKey] = {}
        self._signing: list[tuple[datetime, datetime, ECKey]] = []
        self._jwks: Mapping[str, Any] = {"keys": []}
        self.dropped = 0
        """Rises when a key stops verifying: what was verified before has to be verified again."""

    @property
    def jwks(self) -> Mapping[str, Any]:
        """The public keys as a JWK Set (RFC 7517 section 5), to be cached for `JWKS_MAX_AGE_SECONDS`."""
        return self._jwks

    def signing_key(self, now: datetime) -> ECKey:
        """The private key that signs at this time, with its `kid`; Unavailable before one was made and loaded.

        A clock that is behind the one that made the first key, or one that took over at once, signs with it all the
        same.
        """
        unretired = [(begins, key) for begins, ends, key in self._signing if now < ends]
        begun = [(begins, key) for begins, key in unretired if begins <= now]
        if not unretired:
            raise Unavailable("there is no signing key yet")
        return (begun[-1] if begun else unretired[0])[1]

    async def load(self, now: datetime) -> None:
        """Read the keys: at start after `ensure_signing_key`, and from time to time."""
        async with self._reading:
            await self._load(now)

    async def _load(self, now: datetime) -> None:
        retired_at = col(SigningKey.retired_at)
        verifying = sa.select(SigningKey).where(
            sa.or_(retired_at.is_(None), retired_at > now - RETIRED_KEYS_VERIFY_FOR)
        )
        async with self._sessions() as session:
            self.hold((await session.scalars(verifying)).all(), now)

    def hold(self, rows: Sequence[SigningKey], now: datetime) -> None:
        """Replace what the ring holds by these rows, read at `now`."""
        keys = {row.kid: ECKey.import_key(row.public_jwk) for row in rows}
        signing = [
            (row.active_at, row.retired_at or NEVER, self._seal.open(row.kid, row.private_key))
            for row in sorted(rows, key=lambda row: row.active_at)
            if row.retired_at is None or now < row.retired_at
        ]
        self.dropped += not self._verifying.keys() <= keys.keys()
        self._verifying, self._signing, self._read_at = keys, signing, now
        self._jwks = {"keys": [row.public_jwk for row in rows]}

    async def find(self, kid: str, now: datetime) -> ECKey | None:
        """The public key of that id, or None; Unavailable when the table is to be read and can't be."""
        if kid not in self._verifying:
            async with self._reading:
                if kid not in self._verifying and now - self._read_at >= RELOAD_FLOOR:
                    await self._read_again(now)
        return self._verifying.get(kid)

    async def _read_again(self, now: datetime) -> None:
        self._read_at = now
        try:
            await self._load(now)
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable("the signing keys can't be read") from error
