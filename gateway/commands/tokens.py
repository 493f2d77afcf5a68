"""`perks tokens`: tokens of members and staff for development and scripts, and the end of any token."""

import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from auth.caller import Caller, CallerKind
from auth.errors import Unauthenticated
from auth.revocations import deny
from auth.scopes import require_scopes_of, scopes_of, split_scopes
from auth.tables import Denied
from auth.tokens import TokenVerifier, mint_access_token
from gateway.commands import on_service, operator
from partners import audit
from partners.errors import BadInput, NotFound
from partners.members import find_member
from partners.references import MemberRef

if TYPE_CHECKING:
    from gateway.app import Service

CLIENT_ID = "command-line"
LIFETIME = re.compile(r"(\d{1,6})(s|m|h)?")
SECONDS = {"s": 1, "m": 60, "h": 3_600}
LIFETIME_MAX = timedelta(hours=24)
STAFF_NAME = re.compile(r"[\w.@+-]{1,100}")

app = typer.Typer(help="Mint access tokens for development and scripts, and revoke any.", no_args_is_help=True)


def lifetime_of(text: str) -> timedelta:
    """A time as 90s, 5m or 24h; a bare number is seconds."""
    parts = LIFETIME.fullmatch(text)
    lifetime = timedelta(seconds=int(parts[1]) * SECONDS[parts[2] or "s"]) if parts else timedelta(0)
    if not timedelta(0) < lifetime <= LIFETIME_MAX:
        raise typer.BadParameter("a time as 90s, 5m or 24h, and at most 24h")
    return lifetime


@app.command("mint")
def mint_token(
    member: Annotated[str | None, typer.Option(metavar="EXTERNAL_ID", help="For this member.")] = None,
    staff: Annotated[str | None, typer.Option(metavar="NAME", help="For staff of this name.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do; give it several times. Default: all of its kind.", show_default=False),
    ] = None,
    lifetime: Annotated[
        timedelta, typer.Option(parser=lifetime_of, metavar="TIME", help="How long it holds, as 90s, 5m or 24h.")
    ] = "5m",  # type: ignore[assignment]
) -> None:
    """Print an access token and nothing else: TOKEN=$(perks tokens mint --staff me)."""
    if (member is None) == (staff is None):
        raise BadInput("for whom? Give one of --member and --staff")
    kind = CallerKind.STAFF if member is None else CallerKind.MEMBER
    scopes = require_scopes_of(kind, split_scopes(" ".join(scope or []))) or scopes_of(kind)

    async def work(service: "Service") -> str:
        caller = staff_caller(staff or "", scopes) if member is None else await member_caller(service, member, scopes)
        return mint_access_token(service.ring, service.authority, caller, service.clock(), lifetime)

    typer.echo(on_service(work))


@app.command("revoke")
def revoke_token(
    given: Annotated[
        str, typer.Argument(metavar="TOKEN_OR_JTI", help="An access token or its jti; - reads it from standard input.")
    ],
) -> None:
    """End one access token before its time, in every process."""
    wanted = sys.stdin.read().strip() if given == "-" else given

    async def work(service: "Service") -> UUID:
        jti, now = await token_id_of(service, wanted), service.clock()
        async with service.database.sessions.begin() as session:
            await deny(session, Denied.TOKEN, str(jti), now)
            await audit.record(session, "token.revoked", audit.Subject(subject_id=jti), operator(), now)
        return jti

    typer.echo(f"the token {on_service(work)} is revoked")


async def token_id_of(service: "Service", given: str) -> UUID:
    """The `jti` that was given, or that of a token that holds; BadInput."""
    try:
        return UUID(given)
    except ValueError:
        pass
    try:
        caller = await TokenVerifier(service.ring, service.authority, service.denied).verify(
            given.encode(), service.clock()
        )
    except Unauthenticated as fault:
        raise BadInput(f"nothing to revoke: {fault.message}") from None
    assert caller.token_id is not None
    return UUID(caller.token_id)


def staff_caller(name: str, scopes: frozenset[str]) -> Caller:
    """Staff of a name, which the audit entries will show; BadInput."""
    if not STAFF_NAME.fullmatch(name):
        raise BadInput("--staff: 1 to 100 letters, digits, and . _ - + @")
    return Caller(CallerKind.STAFF, name, scopes, client_id=CLIENT_ID)


async def member_caller(service: "Service", external_id: str, scopes: frozenset[str]) -> Caller:
    """The member of that external id; NotFound."""
    async with service.database.sessions() as session:
        found = await find_member(session, MemberRef(external_id=external_id))
    if found is None:
        raise NotFound(f"no such member: {external_id}")
    return Caller(CallerKind.MEMBER, str(found.id), scopes, client_id=CLIENT_ID, member_id=found.id)
