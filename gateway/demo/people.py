"""Who can sign in to the demo with a browser, and the apps that may ask them: all of it invented."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.people import keep_person
from auth.scopes import MEMBER_BOUND, scopes_of, scopes_of_people
from auth.tables import Client, ClientAuthentication, GrantType
from gateway.demo.club import PARTNER
from partners import tables
from partners.actors import SYSTEM

MEMBERS = {
    "member-0012": ("ines-black", "Ines Keller"),
    "member-0001": ("hugo-gold", "Hugo Blanc"),
    "member-0010": ("mei-silver", "Mei Tanaka"),
    "member-0040": ("jonas", "Jonas Frei"),
}
ADMINISTRATORS = {
    "silverline": ("marc-silverline", "Marc Vidal"),
    "atelier-rosee": ("rosa-atelier-rosee", "Rosa Lindt"),
    "wayfarer": ("owen-wayfarer", "Owen Hale"),
}
STAFF = {
    "noor-audit": ("Noor Haddad", frozenset({"audit:read"})),
    "lena-desk": ("Lena Ott", scopes_of(CallerKind.STAFF) - {"audit:read"}),
}
REDIRECT = "http://127.0.0.1:8765/callback"
APPS = {
    "Member app": CallerKind.MEMBER,
    "Staff console": CallerKind.STAFF,
    "Silverline app": CallerKind.PARTNER,
}


async def keep_people(session: AsyncSession) -> None:
    """A member of each tier, an administrator of each partner, and two of staff."""
    members, partner = tables.Member, tables.Partner
    found = await session.execute(select(members.external_id, members.id).where(col(members.external_id).in_(MEMBERS)))
    scopes = scopes_of(CallerKind.MEMBER)
    for external_id, id in found.all():
        await keep_person(session, *MEMBERS[external_id], CallerKind.MEMBER, member_id=id, scopes=scopes)
    own = scopes_of_people(CallerKind.PARTNER)
    brands = await session.execute(select(partner.handle, partner.id).where(col(partner.handle).in_(ADMINISTRATORS)))
    for handle, id in brands.all():
        await keep_person(session, *ADMINISTRATORS[handle], CallerKind.PARTNER, partner_id=id, scopes=own)
    for handle, (name, scopes) in STAFF.items():
        await keep_person(session, handle, name, CallerKind.STAFF, scopes=scopes)


async def keep_apps(session: AsyncSession, now: datetime) -> dict[str, str]:
    """The client ids of the apps by name: public ones, that wait for the code at `REDIRECT`."""
    owner = (await session.scalars(select(tables.Partner.id).where(tables.Partner.handle == PARTNER))).one()
    known = await session.execute(select(Client.name, Client.id).where(col(Client.name).in_(APPS)))
    ids = {row[0]: row[1] for row in known}
    for name, kind in APPS.items():
        if name not in ids:
            ids[name] = await new_app(session, name, kind, owner if kind is CallerKind.PARTNER else None, now)
    return ids


async def new_app(session: AsyncSession, name: str, kind: CallerKind, owner: UUID | None, now: datetime) -> str:
    """One app with all that its kind may ask a person for."""
    settings = ClientSettings(
        name=name,
        scopes=MEMBER_BOUND if kind is CallerKind.PARTNER else scopes_of(kind),
        grant_types=(GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN),
        authentication=ClientAuthentication.NONE,
        redirect_uris=(REDIRECT,),
        purpose="to treat you well at the track and on the road",
    )
    client, _ = await create_client(session, owner, settings, Administrator(SYSTEM), now, kind=kind)
    return client.id
