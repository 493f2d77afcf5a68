"""Points of sale, which have no browser: they wait for the answer of somebody who signed in elsewhere (RFC 8628)."""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.approvals import LIFETIMES
from auth.caller import CallerKind
from auth.scopes import MEMBER_BOUND, SCOPES
from auth.tables import Approval, BrowserSession, Client, ClientState, DeviceAuthorization, DeviceState
from partners import audit
from partners.actors import Actor, ActorKind
from partners.errors import BadInput
from partners.tables import Partner, PartnerState
from partners.tables.columns import new_id

DEVICE_CODES_LIVE = timedelta(minutes=10)
DEVICE_CODE_BYTES = 32
USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""Consonants only, so that no code spells a word (RFC 8628 section 6.1); eight make 34 bits, for ten minutes."""
USER_CODE_LETTERS = 8
POLL_SECONDS = 5
PLACE_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class DeviceCodes:
    """What a point of sale is told, once: the code it asks with, and the code it shows to a person."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceQuestion:
    """What a person is asked to approve, in the words for the page; `scopes` are names with a sentence each."""

    client: str
    partner: str
    scopes: list[tuple[str, str]]
    place: str | None
    expires_at: datetime


def check_place(place: str) -> str:
    """The place without blanks around it; BadInput unless it is 1 to 100 printable characters."""
    place = place.strip()
    if not 1 <= len(place) <= PLACE_CHARACTERS_MAX or not place.isprintable():
        raise BadInput(f"place: 1 to {PLACE_CHARACTERS_MAX} printable characters")
    return place


def user_code_hash(key: bytes, typed: str) -> bytes:
    """HMAC-SHA-256 of a user code as it was meant: case, spaces and hyphens do not matter.

    Keyed, because 34 bits are few enough to be tried out by whoever reads the table.
    """
    return hmac.digest(key, typed.upper().translate({ord("-"): None, ord(" "): None}).encode(), "sha256")


async def ask_for_device(
    session: AsyncSession,
    key: bytes,
    client: Client,
    scopes: Iterable[str],
    *,
    place: str | None,
    dpop_jkt: str | None,
    now: datetime,
) -> DeviceCodes:
    """A new point of sale that waits to be approved (RFC 8628 section 3.2); the scopes are the client's already.

    BadInput for a place that can't be. Only hashes of the codes are kept.
    """
    letters = "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(USER_CODE_LETTERS))
    codes = DeviceCodes(secrets.token_urlsafe(DEVICE_CODE_BYTES), f"{letters[:4]}-{letters[4:]}")
    session.add(
        DeviceAuthorization(
            client_id=client.id,
            scopes=sorted(scopes),
            place=None if place is None else check_place(place),
            dpop_jkt=dpop_jkt,
            device_hash=sha256(codes.device_code.encode()).digest(),
            user_code_hash=user_code_hash(key, codes.user_code),
            created_at=now,
            expires_at=now + DEVICE_CODES_LIVE,
            interval_s=POLL_SECONDS,
        )
    )
    await session.flush()
    return codes


async def find_pending(
    session: AsyncSession, key: bytes, user_code: str, person: BrowserSession, now: datetime
) -> DeviceQuestion | None:
    """The question behind a user code, for who may answer it; None for all others and for every wrong code.

    A partner's administrator (`devices:enrol`) answers for that partner, staff (`partners:admin`) for any. The scopes
    are those that this person's yes would give.
    """
    found = await _pending(session, key, user_code, person, now)
    if found is None:
        return None
    device, client, partner = found
    words = SCOPES[CallerKind.PARTNER]
    return DeviceQuestion(
        client=client.name,
        partner=partner.name,
        scopes=[(scope, words[scope]) for scope in _given(device, person)],
        place=device.place,
        expires_at=device.expires_at,
    )


async def approve_device(
    session: AsyncSession, key: bytes, user_code: str, person: BrowserSession, place: str, now: datetime
) -> bool:
    """The person's yes, once: the point of sale gets its token at its next question. False like None above.

    `place` is what the person calls it, and is not optional: BadInput unless 1 to 100 printable characters.
    """
    place = check_place(place)
    found = await _pending(session, key, user_code, person, now, lock=True)
    if found is None:
        return False
    device, client, partner = found
    approval = Approval(
        id=new_id(),
        client_id=client.id,
        kind=CallerKind.PARTNER,
        subject=person.subject,
        partner_id=partner.id,
        scopes=_given(device, person),
        place=place,
        dpop_jkt=device.dpop_jkt,
        created_at=now,
        expires_at=now + LIFETIMES[CallerKind.PARTNER],
    )
    session.add(approval)
    await session.flush()
    device.state, device.approval_id, device.place = DeviceState.APPROVED, approval.id, place
    await _record(session, "device.approved", partner.id, approval.id, person, now)
    return True


async def deny_device(session: AsyncSession, key: bytes, user_code: str, person: BrowserSession, now: datetime) -> bool:
    """The person's no, once; False like None above."""
    found = await _pending(session, key, user_code, person, now, lock=True)
    if found is None:
        return False
    device, _, partner = found
    device.state = DeviceState.DENIED
    await _record(session, "device.denied", partner.id, device.id, person, now)
    return True


async def _record(
    session: AsyncSession, action: str, partner_id: UUID, subject_id: UUID, person: BrowserSession, now: datetime
) -> None:
    actor = Actor(ActorKind(person.kind), person.subject, partner_id=person.partner_id)
    await audit.record(session, action, audit.Subject(partner_id=partner_id, subject_id=subject_id), actor, now)


async def _pending(
    session: AsyncSession, key: bytes, user_code: str, person: BrowserSession, now: datetime, *, lock: bool = False
) -> tuple[DeviceAuthorization, Client, Partner] | None:
    """One statement, which who may not answer costs as well. `lock` lets one answer win: who waited finds none."""
    query = (
        sa.select(DeviceAuthorization, Client, Partner)
        .join(Client, col(Client.id) == col(DeviceAuthorization.client_id))
        .join(Partner, col(Partner.id) == col(Client.partner_id))
        .where(
            col(DeviceAuthorization.user_code_hash) == user_code_hash(key, user_code),
            col(DeviceAuthorization.state) == DeviceState.PENDING,
            col(DeviceAuthorization.expires_at) > now,
            col(Client.state) == ClientState.ACTIVE,
            col(Partner.state) == PartnerState.ACTIVE,
        )
    )
    if lock:
        query = query.with_for_update(of=DeviceAuthorization).execution_options(populate_existing=True)
    row = (await session.execute(query)).one_or_none()
    if row is None or not _may_answer(person, row[2].id) or not _given(row[0], person):
        return None
    return row[0], row[1], row[2]


def _given(device: DeviceAuthorization, person: BrowserSession) -> list[str]:
    """What the person's yes gives: what reaches members, which is what enrolling is for, and of all else no more than
    the person has, who could take the place of the point of sale. Staff who answer may make any client."""
    own = device.scopes if person.kind == CallerKind.STAFF else person.scopes
    return [scope for scope in device.scopes if scope in MEMBER_BOUND or scope in own]


def _may_answer(person: BrowserSession, partner_id: UUID) -> bool:
    if person.kind == CallerKind.STAFF:
        return "partners:admin" in person.scopes
    own = person.kind == CallerKind.PARTNER and person.partner_id == partner_id
    return own and "devices:enrol" in person.scopes
