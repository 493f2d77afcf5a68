"""OAuth clients, as a partner's own administrators and staff look after them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.scalars import JSON

from auth import clients, tables
from auth.caller import ADMITTED, CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator
from auth.tables import ClientAuthentication, ClientState, GrantType
from partners import catalogue
from partners.errors import BadInput
from partners.tables import Partner as PartnerRow
from schema.approvals import MAY_MANAGE, Approval, find_approvals
from schema.catalogue import Partner
from schema.context import Context, Info
from schema.offers import owner_of
from schema.paging import Connection, connect, page_size, read_name_cursor
from schema.permissions import field, object_type
from schema.references import PartnerBy

strawberry.enum(ADMITTED, name="ClientKind", description="Whom a client speaks for; MEMBER and STAFF: ours.")
strawberry.enum(ClientState, description="A disabled client keeps its name and gets no token.")
strawberry.enum(ClientAuthentication, description="By a secret, by signing with a key of its own, or not: public.")
strawberry.enum(GrantType, description="The ways to a token (RFC 6749, 8628, 8693).")

OVERLAP_SECONDS = 86_400


@object_type(permission=MAY_MANAGE, description="One of a client's secrets, which nobody can see again.")
class ClientSecret:
    created_at: datetime = field(description="Since when it is good.")
    expires_at: datetime | None = field(description="Until when; null: until it is rotated.")


@object_type(permission=MAY_MANAGE, description="A machine or an application that asks for tokens.")
class Client:
    id: strawberry.ID = field(description="Its client_id.")
    kind: ADMITTED = field(description="Whom it speaks for.")
    partner: Partner | None = field(description="Whose it is; null: the operator's own.")
    name: str = field(description="What it is, for people.")
    state: ClientState = field(description="Whether it gets tokens.")
    authentication: ClientAuthentication = field(description="How it proves who it is.")
    scopes: list[str] = field(description="All that its tokens may carry.")
    grant_types: list[GrantType] = field(description="Its ways to a token.")
    redirect_uris: list[str] = field(description="Where its users may be sent back to.")
    public_keys: JSON | None = field(description="Its JWK Set, if it signs.")
    requires_pushed: bool = field(description="Whether it must push its requests (RFC 9126).")
    requires_dpop: bool = field(description="Whether its tokens are bound to a key (RFC 9449).")
    purpose: str = field(description="What members are told that it wants to know them for.")
    secrets: list[ClientSecret] = field(description="The secrets that are good now, the eldest first.")
    created_at: datetime = field(description="When it was registered.")

    @field(description="What persons approved it for, newest first.")
    async def approvals(self, info: Info, first: int | None = None, after: str | None = None) -> Connection[Approval]:
        return await find_approvals(info, self.id, first, after)

    @classmethod
    def of(cls, row: tables.Client, partner: PartnerRow | None, secrets: Sequence[tables.ClientSecret]) -> "Client":
        """A client as its administrators see it."""
        return cls(
            id=strawberry.ID(row.id),
            kind=ADMITTED(row.kind),
            partner=None if partner is None else Partner.of(partner),
            name=row.name,
            state=ClientState(row.state),
            authentication=ClientAuthentication(row.authentication),
            scopes=row.scopes,
            grant_types=[GrantType(one) for one in row.grant_types],
            redirect_uris=row.redirect_uris,
            public_keys=None if row.public_keys is None else JSON(row.public_keys),
            requires_pushed=row.requires_pushed,
            requires_dpop=row.requires_dpop,
            purpose=row.purpose,
            secrets=[
                ClientSecret(created_at=one.created_at, expires_at=one.expires_at)
                for one in secrets
                if one.client_id == row.id
            ],
            created_at=row.created_at,
        )


def administrator(context: Context) -> Administrator:
    """Who asks: a partner's token hands on no more than it carries itself."""
    caller = context.caller
    return Administrator(context.actor, caller.scopes if caller.kind is CallerKind.PARTNER else None)


async def load_clients(context: Context, session: AsyncSession, size: int, **which: Any) -> list[Client]:
    """Clients within sight with their partners and secrets: two statements."""
    found = await clients.list_clients(session, administrator(context), first=size, **which)
    secrets = await clients.secrets_of(session, [client.id for client, _ in found], context.now)
    return [Client.of(client, partner, secrets) for client, partner in found]


async def find_client(info: Info, id: strawberry.ID) -> Client | None:
    """One client within the caller's sight."""
    async with info.context.reading() as session:
        found = await load_clients(info.context, session, 1, id=id)
    return found[0] if found else None


async def find_clients(
    info: Info, partner: PartnerBy | None = None, first: int | None = None, after: str | None = None
) -> Connection[Client]:
    """A page of the clients within the caller's sight, in the order they were made."""
    context, size, found = info.context, page_size(first), list[Client]()
    id, handle = (None, None) if partner is None else partner.names()
    async with context.reading() as session:
        owners = await catalogue.list_partners(session, context.actor, id=id, handle=handle, first=1, after=None)
        if partner is None or owners:
            owner = None if partner is None else owners[0].id
            found = await load_clients(context, session, size + 1, partner_id=owner, after=read_name_cursor(after))
    page: Connection[Client] = connect(found, size, after, id_of=lambda one: str(one.id), node_of=lambda one: one)
    return page


@strawberry.input(description="A new client.")
class CreateClientInput:
    name: str = strawberry.field(description="What it is, as `web shop`: 1 to 200 characters.")
    scopes: list[str] = strawberry.field(description="All that its tokens may carry; yours must carry them too.")
    kind: ADMITTED = strawberry.field(
        default=ADMITTED.PARTNER, description="Staff: MEMBER or STAFF for the operator's own apps."
    )
    partner: PartnerBy | None = strawberry.field(default=None, description="Staff: whose. Partners leave it out.")
    grant_types: list[GrantType] = strawberry.field(
        default_factory=lambda: [GrantType.CLIENT_CREDENTIALS], description="Its ways to a token."
    )
    authentication: ClientAuthentication = strawberry.field(
        default=ClientAuthentication.SECRET, description="How it proves who it is; NONE for what runs at its users'."
    )
    public_keys: JSON | None = strawberry.field(default=None, description="A JWK Set, for KEY.")
    redirect_uris: list[str] = strawberry.field(
        default_factory=list, description="At most 10, compared to the letter, for AUTHORIZATION_CODE."
    )
    requires_pushed: bool = strawberry.field(default=False, description="Refuse requests that are not pushed.")
    requires_dpop: bool = strawberry.field(default=False, description="Refuse to make tokens without a key's proof.")
    purpose: str = strawberry.field(default="perks", description="What members are told, 1 to 200 characters.")


@strawberry.input(description="Changes to a client; what is left out stays.")
class UpdateClientInput:
    client: strawberry.ID = strawberry.field(description="Which.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="See createClient.")
    scopes: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="All of them; those that are missing end at once, in live tokens too."
    )
    public_keys: JSON | None = strawberry.field(default=strawberry.UNSET, description="See createClient.")
    redirect_uris: list[str] | None = strawberry.field(default=strawberry.UNSET, description="All of them.")
    requires_pushed: bool | None = strawberry.field(default=strawberry.UNSET, description="See createClient.")
    requires_dpop: bool | None = strawberry.field(default=strawberry.UNSET, description="See createClient.")
    purpose: str | None = strawberry.field(default=strawberry.UNSET, description="See createClient.")


@strawberry.input(description="A new secret for a client.")
class RotateClientSecretInput:
    client: strawberry.ID = strawberry.field(description="Which.")
    overlap_seconds: int = strawberry.field(
        default=OVERLAP_SECONDS, description="How long the last one stays good beside it: 0 to 604,800."
    )


@strawberry.input(description="Which client.")
class ClientInput:
    client: strawberry.ID = strawberry.field(description="Its client_id.")


@object_type(permission=MAY_MANAGE, description="What became of it.")
class ClientPayload:
    client: Client | None = field(description="The client as it is now.")


@object_type(permission=MAY_MANAGE, description="What became of it.")
class ClientSecretPayload:
    client: Client | None = field(description="The client as it is now.")
    secret: str | None = field(description="Its new secret: shown now and never again. Null: it has none.")


async def shown(context: Context, session: AsyncSession, id: str) -> Client:
    """A client as it is after its change."""
    return (await load_clients(context, session, 1, id=id))[0]


async def create_client(info: Info, input: CreateClientInput) -> ClientSecretPayload:
    """Registers a client of a partner, or one of the operator's own apps."""
    context, kind = info.context, CallerKind(input.kind)
    settings = ClientSettings(
        name=input.name,
        scopes=frozenset(input.scopes),
        grant_types=input.grant_types,
        authentication=input.authentication,
        public_keys=cast("Mapping[str, Any] | None", input.public_keys),
        redirect_uris=input.redirect_uris,
        requires_pushed=input.requires_pushed,
        requires_dpop=input.requires_dpop,
        purpose=input.purpose,
    )
    if kind is not CallerKind.PARTNER and (input.partner or context.caller.kind is not CallerKind.STAFF):
        raise BadInput("kind: MEMBER and STAFF are for the operator's own apps, which staff register")
    async with context.sessions.begin() as session:
        owner = await owner_of(context, session, input.partner) if kind is CallerKind.PARTNER else None
        client, secret = await clients.create_client(
            session, None if owner is None else owner.id, settings, administrator(context), context.now, kind=kind
        )
        return ClientSecretPayload(client=await shown(context, session, client.id), secret=secret)


CHANGEABLE = ("name", "scopes", "public_keys", "redirect_uris", "requires_pushed", "requires_dpop", "purpose")


def changes_of(input: UpdateClientInput) -> Mapping[str, Any]:
    """What the input says anew; BadInput for a null where there must be something."""
    given = {name: value for name in CHANGEABLE if (value := getattr(input, name)) is not strawberry.UNSET}
    if nothing := [name for name, value in given.items() if value is None]:
        raise BadInput(f"{', '.join(nothing)}: not null")
    return given | ({"scopes": frozenset(given["scopes"])} if "scopes" in given else {})


async def update_client(info: Info, input: UpdateClientInput) -> ClientPayload:
    """Changes a client; what it loses it loses at once."""
    context = info.context
    async with context.sessions.begin() as session:
        await clients.update_client(session, input.client, changes_of(input), administrator(context), context.now)
        return ClientPayload(client=await shown(context, session, input.client))


async def rotate_client_secret(info: Info, input: RotateClientSecretInput) -> ClientSecretPayload:
    """A new secret, with the last one beside it for a while."""
    context, overlap = info.context, timedelta(seconds=input.overlap_seconds)
    async with context.sessions.begin() as session:
        _, secret = await clients.rotate_secret(session, input.client, overlap, administrator(context), context.now)
        return ClientSecretPayload(client=await shown(context, session, input.client), secret=secret)


async def disable_client(info: Info, input: ClientInput) -> ClientPayload:
    """Stops a client and its live tokens."""
    return await set_state(info, input, ClientState.DISABLED)


async def enable_client(info: Info, input: ClientInput) -> ClientPayload:
    """Lets a disabled client have tokens again."""
    return await set_state(info, input, ClientState.ACTIVE)


async def set_state(info: Info, input: ClientInput, state: ClientState) -> ClientPayload:
    """One change of state."""
    context = info.context
    async with context.sessions.begin() as session:
        await clients.set_client_state(session, input.client, state, administrator(context), context.now)
        return ClientPayload(client=await shown(context, session, input.client))
