"""Refresh tokens: a confidential client keeps its one, a public client's is replaced each time that it is used."""

import json
import os
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidGrantError  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant as _RefreshTokenGrant  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.util import await_only
from sqlmodel import col

from auth.approvals import revoke_approval
from auth.issuing import (
    approved_answer,
    bind_key,
    hash_of,
    idle_end,
    new_refresh_token,
    require_key,
)
from auth.rights import RIGHTS, Rights, rights_of
from auth.scopes import join_scopes, split_scopes
from auth.server import Answering
from auth.tables import Approval, Client, ClientAuthentication, RefreshToken
from partners.keys import derive
from partners.values import value

GRACE = timedelta(seconds=60)
"""A public client whose answer was lost may ask again for so long, unless it has used what it was given since."""
INVALID = "the refresh token is not valid"
_EXTENDED_AFTER = timedelta(days=1)
_NONCE_BYTES = 12
_PRESENTED = (
    RIGHTS.add_columns(RefreshToken)
    .join(RefreshToken, col(RefreshToken.approval_id) == col(Approval.id))
    .where(col(RefreshToken.hash) == sa.bindparam("hash", type_=sa.LargeBinary))
)
_PRESENTED_LOCKED = _PRESENTED.with_for_update(of=RefreshToken)


@value
class Presented:
    """A refresh token that was found, with what its approval still gives, in the shape that Authlib asks it."""

    row: RefreshToken
    rights: Rights

    def check_client(self, client: Client) -> bool:
        """Whether it was issued to this client."""
        return self.rights.approval.client_id == client.id

    def get_scope(self) -> str:
        """What was approved: who refreshes may ask for less, never for more (RFC 6749 section 6)."""
        return join_scopes(self.rights.approval.scopes)


class RefreshTokenGrant(Answering, _RefreshTokenGrant):  # type: ignore[misc]
    """A refresh token becomes an access token (RFC 6749 section 6, RFC 9700 section 4.14)."""

    def authenticate_refresh_token(self, refresh_token: str) -> Presented:
        """The token of this client with its live approval; all that is not valid is told alike."""
        presented = await_only(self._find(refresh_token))
        if presented is None or not presented.check_client(self.client):
            raise InvalidGrantError(INVALID)
        return presented

    async def _find(self, token: str) -> Presented | None:
        """One statement. A public client's token stays locked until its use has committed: it is used once."""
        found = await self.posted.session.execute(
            _PRESENTED_LOCKED if self._rotates else _PRESENTED, {"now": self.posted.now, "hash": hash_of(token)}
        )
        row = found.one_or_none()
        rights = None if row is None else rights_of(row)
        return None if row is None or rights is None else Presented(row[4], rights)

    @property
    def _rotates(self) -> bool:
        return bool(self.client.authentication == ClientAuthentication.NONE)

    async def answer(self) -> dict[str, Any]:
        """Confidential clients are told an access token; public ones a refresh token as well, in place of theirs."""
        presented: Presented = self.request.refresh_token
        require_key(presented.rights.approval.dpop_jkt, self.posted)
        if presented.row.used_at is not None:
            return await self._answer_again(presented.row, presented.row.used_at)
        if presented.row.expires_at <= self.posted.now:
            raise InvalidGrantError(INVALID)
        if self._rotates:
            return await self._rotate(presented)
        if presented.row.expires_at < idle_end(presented.rights.approval, self.posted.now) - _EXTENDED_AFTER:
            presented.row.expires_at = idle_end(presented.rights.approval, self.posted.now)
        return self._access(presented.rights)

    def _access(self, rights: Rights) -> dict[str, Any]:
        asked = split_scopes(self.request.payload.scope or "")
        scopes = rights.scopes & asked if asked else rights.scopes
        if not scopes:
            raise InvalidGrantError("none of these scopes is left")
        return approved_answer(self.posted, rights.approval, scopes, rights.alias)

    async def _rotate(self, presented: Presented) -> dict[str, Any]:
        row, approval = presented.row, presented.rights.approval
        bind_key(approval, self.posted)
        answer = self._access(presented.rights)
        successor, answer["refresh_token"] = new_refresh_token(approval, self.posted.now)
        row.used_at, row.successor_id = self.posted.now, successor.id
        row.answer = seal_answer(self._token, row, answer)
        self.posted.session.add(successor)
        await self.posted.session.flush()
        return answer

    async def _answer_again(self, row: RefreshToken, used_at: datetime) -> dict[str, Any]:
        """The very same answer while it may have been lost, else the end of the approval: one of two has stolen it."""
        session, now = self.posted.session, self.posted.now
        if now - used_at <= GRACE and row.answer is not None:
            successor_used = sa.select(col(RefreshToken.used_at)).where(col(RefreshToken.id) == row.successor_id)
            if await session.scalar(successor_used) is None:
                return open_answer(self._token, row)
        await revoke_approval(session, row.approval_id, "REFRESH_TOKEN_REUSED", now)
        raise InvalidGrantError(INVALID)

    @property
    def _token(self) -> str:
        return str(self.request.form["refresh_token"])


def seal_answer(token: str, row: RefreshToken, answer: dict[str, Any]) -> bytes:
    """The answer under a key that only the holder of the used token has: AES-256-GCM, the nonce before the text."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(token).encrypt(nonce, json.dumps(answer).encode(), row.id.bytes)


def open_answer(token: str, row: RefreshToken) -> dict[str, Any]:
    """The reverse of `seal_answer`, in the same order of members, so that it is sent byte for byte alike."""
    assert row.answer is not None
    sealed, nonce = row.answer[_NONCE_BYTES:], row.answer[:_NONCE_BYTES]
    answer: dict[str, Any] = json.loads(_cipher(token).decrypt(nonce, sealed, row.id.bytes))
    return answer


def _cipher(token: str) -> AESGCM:
    return AESGCM(derive(token.encode(), b"refresh-answer/1"))
