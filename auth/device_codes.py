"""What a point of sale asks for and comes back for: its codes, and the token that a person's yes gives (RFC 8628)."""

from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    AccessDeniedError,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Error,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc8628 import (  # type: ignore[import-untyped]
    AuthorizationPendingError,
    ExpiredTokenError,
    SlowDownError,
)
from sqlmodel import col
from starlette.responses import JSONResponse, Response

from auth.approvals import revoke_approval
from auth.devices import DEVICE_CODES_LIVE, POLL_SECONDS, ask_for_device
from auth.grants import APPROVAL_ENDED, granted_scopes
from auth.issuing import bind_key, issue
from auth.requests import read_thumbprint
from auth.rights import find_rights
from auth.server import NO_STORE, Grant, Posted
from auth.tables import DeviceAuthorization, DeviceState, GrantType

VERIFICATION_PATH = "/device"
POLLED_EARLY_MAX = timedelta(seconds=1)
"""A timer may ring early, and two processes' clocks differ: that much too soon is not too soon."""


async def authorize_device(posted: Posted) -> Response:
    """POST /oauth/device_authorization (section 3.1). `place`, which is ours, is where the point of sale stands."""
    if not posted.client.check_grant_type(GrantType.DEVICE_CODE):
        raise UnauthorizedClientError("the client may not use device codes")
    codes = await ask_for_device(
        posted.session,
        posted.foundation.keys.devices,
        posted.client,
        granted_scopes(posted.client, posted.form.get("scope")),
        place=posted.form.get("place"),
        dpop_jkt=_key_of(posted),
        now=posted.now,
    )
    address = posted.foundation.authority.issuer + VERIFICATION_PATH
    body = {
        "device_code": codes.device_code,
        "user_code": codes.user_code,
        "verification_uri": address,
        "verification_uri_complete": f"{address}?{urlencode({'user_code': codes.user_code})}",
        "expires_in": int(DEVICE_CODES_LIVE.total_seconds()),
        "interval": POLL_SECONDS,
    }
    return JSONResponse(body, headers=NO_STORE)


def _key_of(posted: Posted) -> str | None:
    named, proven = read_thumbprint(posted.form), posted.key_thumbprint
    if named is not None and proven is not None and named != proven:
        raise InvalidRequestError("dpop_jkt is not the key of the DPoP proof")
    return named or proven


class DeviceCodeGrant(Grant):
    """A device code becomes tokens, once somebody has approved it (section 3.4)."""

    GRANT_TYPE = GrantType.DEVICE_CODE

    async def answer(self) -> dict[str, Any]:
        """Tokens of the point of sale itself."""
        posted = self.posted
        if "device_code" not in posted.form:
            raise InvalidRequestError("device_code is missing")
        approval_id = await use_device_code(posted, posted.form["device_code"])
        rights = await find_rights(posted.session, approval_id, posted.now)
        if rights is None:
            raise InvalidGrantError(APPROVAL_ENDED)
        bind_key(rights.approval, posted)
        return await issue(posted, rights.approval, rights.scopes, with_refresh=True)


async def use_device_code(posted: Posted, device_code: str) -> UUID:
    """Uses an approved device code up: the id of the approval that its tokens hang from.

    Else an OAuth2Error (section 3.5): authorization_pending, slow_down, access_denied, expired_token, or
    invalid_grant, which a second use also ends the approval with.
    """
    device, session = DeviceAuthorization, posted.session
    presented = (
        col(device.device_hash) == sha256(device_code.encode()).digest(),
        col(device.client_id) == posted.client.id,
    )
    approval_id: UUID | None = await session.scalar(
        sa.update(device)
        .where(*presented, col(device.state) == DeviceState.APPROVED, col(device.expires_at) > posted.now)
        .where(col(device.dpop_jkt).is_(None) | (col(device.dpop_jkt) == posted.key_thumbprint))
        .values(state=DeviceState.USED)
        .returning(col(device.approval_id))
        .execution_options(synchronize_session=False)
    )
    if approval_id is None:
        raise await _not_yet(posted, await session.scalar(sa.select(device).where(*presented).with_for_update()))
    return approval_id


async def _not_yet(posted: Posted, device: DeviceAuthorization | None) -> OAuth2Error:
    """Why there is no token, and what follows from having asked."""
    now = posted.now
    if device is None:
        return InvalidGrantError("unknown device_code")
    if device.dpop_jkt not in (None, posted.key_thumbprint):
        return InvalidGrantError("the device_code is bound to another key")
    if device.state == DeviceState.USED:
        assert device.approval_id is not None
        await revoke_approval(posted.session, device.approval_id, "DEVICE_CODE_REUSED", now)
        return InvalidGrantError("the device_code was used before; what came from it has been revoked")
    if device.expires_at <= now:
        return ExpiredTokenError("the device_code has expired; ask for a new one")
    if device.state == DeviceState.DENIED:
        return AccessDeniedError("a person said no")
    due = None if device.polled_at is None else device.polled_at + timedelta(seconds=device.interval_s)
    device.polled_at = now
    if due is not None and now < due - POLLED_EARLY_MAX:
        device.interval_s += POLL_SECONDS
        return SlowDownError(f"wait {device.interval_s} seconds between two questions")
    return AuthorizationPendingError("nobody has approved it yet")
