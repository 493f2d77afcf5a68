"""The built-in sign-in: persons whom anybody may be, for development and the demo on one machine."""

from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from auth.caller import CallerKind
from auth.identity import LOOPBACK
from auth.scopes import require_scopes_of
from auth.sessions import SignedIn
from auth.tables import Person
from partners.errors import BadInput
from partners.tables import Member, MemberState, Partner, PartnerState

NAME_CHARACTERS_MAX = 100
PEOPLE_SHOWN_MAX = 50


def is_this_machine(address: str) -> bool:
    """Whether a service at that address is reached from its own machine only."""
    return urlsplit(address).hostname in LOOPBACK


def require_this_machine(address: str) -> None:
    """BadInput unless the address is of this machine: elsewhere everybody would be everybody."""
    if not is_this_machine(address):
        raise BadInput(f"PERKS_BUILT_IN_SIGN_IN lets anybody be anybody, so {address} has to be on this machine")


async def keep_person(
    session: AsyncSession,
    handle: str,
    name: str,
    kind: CallerKind,
    *,
    member_id: UUID | None = None,
    partner_id: UUID | None = None,
    scopes: frozenset[str] = frozenset(),
) -> Person:
    """Adds or replaces the person of that handle. BadInput when the kind does not fit what it is bound to."""
    bound = {CallerKind.MEMBER: member_id, CallerKind.PARTNER: partner_id}
    if any((kind is one) != (id is not None) for one, id in bound.items()):
        raise BadInput("a member's person has a member, a partner's a partner, and staff neither")
    if not handle.isprintable() or not 1 <= len(handle) <= NAME_CHARACTERS_MAX:
        raise BadInput(f"handle: 1 to {NAME_CHARACTERS_MAX} printable characters")
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX:
        raise BadInput(f"name: 1 to {NAME_CHARACTERS_MAX} characters")
    granted = require_scopes_of(kind, scopes)
    return await session.merge(
        Person(handle=handle, name=name, kind=kind, member_id=member_id, partner_id=partner_id, scopes=sorted(granted))
    )


def _signing_in() -> SelectOfScalar[Person]:
    """Everybody who can: a suspended member or partner can't."""
    return (
        select(Person)
        .outerjoin(Member, col(Member.id) == col(Person.member_id))
        .outerjoin(Partner, col(Partner.id) == col(Person.partner_id))
        .where(col(Person.member_id).is_(None) | (col(Member.state) == MemberState.ACTIVE))
        .where(col(Person.partner_id).is_(None) | (col(Partner.state) == PartnerState.ACTIVE))
    )


async def list_people(session: AsyncSession) -> list[Person]:
    """Those who can sign in, members first, by name."""
    listed = _signing_in().order_by(col(Person.kind), col(Person.name), col(Person.handle)).limit(PEOPLE_SHOWN_MAX)
    return list(await session.scalars(listed))


async def find_person(session: AsyncSession, handle: str) -> SignedIn | None:
    """Who signs in under that handle, or None."""
    person = await session.scalar(_signing_in().where(col(Person.handle) == handle))
    return None if person is None else identity_of(person)


def identity_of(person: Person) -> SignedIn:
    """The person as a session keeps it; `subject` tells the built-in sign-in's people from a provider's."""
    subject = str(person.member_id) if person.member_id else f"built-in:{person.handle}"
    return SignedIn(
        CallerKind(person.kind),
        subject,
        person.name,
        person.member_id,
        person.partner_id,
        frozenset(person.scopes),
    )
