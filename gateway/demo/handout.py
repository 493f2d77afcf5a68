"""What the demo hands to people and scripts: addresses, clients with their secrets, tokens, members and perks."""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from authlib.oauth2.rfc6749 import InvalidClientError  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from auth.authentication import authenticate_by_secret
from auth.caller import Caller, CallerKind
from auth.clients import add_secret, register_client
from auth.scopes import scopes_of
from auth.server import TOKEN_PATH
from auth.tables import Client
from auth.tokens import mint_access_token
from gateway.app import GRAPHQL_PATH, Service
from gateway.demo.club import NEWCOMER, PARTNER, PARTNERS, STRANGER, TIERS, USUAL_PERK
from gateway.demo.people import keep_apps, keep_people
from partners import tables
from partners.eligibility import Question, decide, learn
from partners.errors import NotFound
from partners.members import view_members
from partners.references import Asker, MemberRef, PerkRef
from schema.ids import MEMBER, PERK, read_id, show_id

FILE = Path("build/demo.json")
CLIENTS_FILE = "demo-clients.json"
CLIENT_NAME = "Demo"
TOKENS_LAST = timedelta(hours=12)
USES_OF_A_WALK = 2


class Entry(BaseModel):
    """A part of the file: snake_case here, camelCase there."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class ClientEntry(Entry):
    """One partner's OAuth client."""

    partner: str
    id: str
    secret: str
    scopes: list[str]


CLIENTS = TypeAdapter(list[ClientEntry])


class Tokens(Entry):
    """Access tokens for the two users who have no client of their own here, and one that is over."""

    member: str
    staff: str
    expired: str
    expires_at: datetime


class MemberEntry(Entry):
    """A member with the tier in force, and the alias by which each partner that may know it does."""

    external_id: str
    id: str
    tier: str | None
    aliases: dict[str, str]


class PerkEntry(Entry):
    """A perk's names, whose it is and what."""

    handle: str
    id: str
    partner: str
    kind: str
    state: str


class Handout(Entry):
    """The whole of it. `member` is the external id of whom `tokens.member` speaks for; `apps` are client ids."""

    base_url: str
    graphql_url: str
    token_url: str
    clients: list[ClientEntry]
    tokens: Tokens
    member: str
    members: list[MemberEntry]
    perks: list[PerkEntry]
    apps: dict[str, str] = {}

    def client(self, partner: str) -> ClientEntry:
        """The client of a partner."""
        return next(client for client in self.clients if client.partner == partner)

    @property
    def newcomer(self) -> MemberEntry:
        """A member of the first tier whom the partner knows: the club's own, unless it was tried out on."""
        fitting = [one for one in self.members if one.tier == TIERS[0] and PARTNER in one.aliases]
        return next((one for one in fitting if one.external_id == NEWCOMER), fitting[0])

    def member_named(self, external_id: str) -> MemberEntry:
        """One member."""
        return next(member for member in self.members if member.external_id == external_id)


async def hand_out(service: Service) -> Handout:
    """Fresh tokens, and everything else as it is in the database now."""
    now = service.clock()
    async with service.database.sessions.begin() as session:
        clients = await keep_clients(session, service.settings.data_folder / CLIENTS_FILE, now)
        members, perks = await list_members(session, now), await list_perks(session)
        await keep_people(session)
        apps = await keep_apps(session, now) if service.settings.built_in_sign_in else {}
    leading = await leading_member(service, members)
    issuer = service.authority.issuer
    return Handout(
        base_url=issuer,
        graphql_url=issuer + GRAPHQL_PATH,
        token_url=issuer + TOKEN_PATH,
        clients=clients,
        tokens=mint_tokens(service, leading),
        member=leading.external_id,
        members=members,
        perks=perks,
        apps=apps,
    )


async def keep_clients(session: AsyncSession, file: Path, now: datetime) -> list[ClientEntry]:
    """A client for each partner, with all scopes. The database has hashes only, so the secrets are kept in a file
    beside the operator's own, which may be of several databases; where it is lost a client gets one more secret."""
    kept = await asyncio.to_thread(read_clients, file)
    clients = [
        await keep_client(session, entry.handle, [one for one in kept if one.partner == entry.handle], now)
        for entry in PARTNERS
    ]
    if new := [client for client in clients if client not in kept]:
        await asyncio.to_thread(write_private, file, CLIENTS.dump_json(kept + new, by_alias=True, indent=1))
    return clients


def read_clients(file: Path) -> list[ClientEntry]:
    """What an earlier run kept, if anything."""
    try:
        return CLIENTS.validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return []


async def keep_client(session: AsyncSession, handle: str, known: Sequence[ClientEntry], now: datetime) -> ClientEntry:
    """The known client whose secret holds, else the partner's demo client with one more, else a new client."""
    for client in known:
        try:
            await authenticate_by_secret(session, client.id, client.secret, now)
        except InvalidClientError:
            continue
        return client
    partner = (await session.scalars(select(tables.Partner).where(tables.Partner.handle == handle))).one()
    owned = select(Client).where(Client.partner_id == partner.id, Client.name == CLIENT_NAME).order_by(col(Client.id))
    found = await session.scalar(owned.limit(1))
    if found is None:
        scopes = scopes_of(CallerKind.PARTNER)
        found, secret = await register_client(session, partner, CLIENT_NAME, scopes, now)
    else:
        secret = await add_secret(session, found, now)
    return ClientEntry(partner=handle, id=found.id, secret=secret, scopes=found.scopes)


async def list_members(session: AsyncSession, now: datetime) -> list[MemberEntry]:
    """The thousand, as the platform and as each partner may know them now."""
    rows = await session.execute(select(tables.Partner.handle, tables.Partner.id))
    ids = (await session.scalars(select(tables.Member.id).where(col(tables.Member.external_id).like("member-%")))).all()
    askers = {handle: Asker(partner, "member.tier:read") for handle, partner in rows}
    known = {handle: await view_members(session, ids, asker=asker, now=now) for handle, asker in askers.items()}
    everybody = await view_members(session, ids, asker=None, now=now)
    return [
        MemberEntry(
            external_id=one.external_id,
            id=show_id(MEMBER, one.id),
            tier=one.tier,
            aliases={handle: seen[one.id].alias or "" for handle, seen in known.items() if one.id in seen},
        )
        for one in sorted(everybody.values(), key=lambda one: one.external_id)
    ]


async def list_perks(session: AsyncSession) -> list[PerkEntry]:
    """The three partners' perks."""
    perk, partner = tables.Perk, tables.Partner
    rows = await session.execute(
        select(perk, partner.handle)
        .join(partner, col(partner.id) == perk.partner_id)
        .where(col(partner.handle).in_([entry.handle for entry in PARTNERS]))
        .order_by(col(perk.id))
    )
    return [
        PerkEntry(handle=one.handle, id=show_id(PERK, one.id), partner=owner, kind=one.kind, state=one.state)
        for one, owner in rows
    ]


async def leading_member(service: Service, members: list[MemberEntry]) -> MemberEntry:
    """The first gold member whom the one partner knows and the other does not, and who can still use the usual perk:
    so that what is printed works, however often it has been tried."""
    fitting = [one for one in members if one.tier == "gold" and PARTNER in one.aliases and STRANGER not in one.aliases]
    now = service.clock()
    questions = [Question(MemberRef(id=read_id(MEMBER, one.id)), PerkRef(handle=USUAL_PERK), now) for one in fitting]
    async with service.database.connection() as connection:
        answers = await learn(connection, questions)
    for one, known in zip(fitting, answers, strict=True):
        decision = None if known is None else decide(known, service.programme.ranks, now)
        if decision and decision.eligible and decision.allowance and decision.allowance.remaining >= USES_OF_A_WALK:
            return one
    raise NotFound("everybody in the demo has used everything up: start anew with another PERKS_DATA_FOLDER")


def mint_tokens(service: Service, member: MemberEntry) -> Tokens:
    """Tokens that last as long as somebody may try things out: far longer than those of a real sign-in."""
    now = service.clock()
    member_id = read_id(MEMBER, member.id)
    of_member = Caller(
        CallerKind.MEMBER,
        str(member_id),
        scopes_of(CallerKind.MEMBER),
        client_id="demo-app",
        member_id=member_id,
    )
    of_staff = Caller(CallerKind.STAFF, "demo-staff", scopes_of(CallerKind.STAFF), client_id="demo-desk")

    def mint(caller: Caller, at: datetime) -> str:
        return mint_access_token(service.ring, service.authority, caller, at, TOKENS_LAST)

    return Tokens(
        member=mint(of_member, now),
        staff=mint(of_staff, now),
        expired=mint(of_member, now - 2 * TOKENS_LAST),
        expires_at=now + TOKENS_LAST,
    )


def write_private(file: Path, content: bytes) -> None:
    """A file that its owner alone can read, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content + b"\n")
        Path(draft).replace(file)
    except BaseException:
        Path(draft).unlink()
        raise
