"""`perks keys`: the keys that sign access tokens and the log, and their replacement."""

from typing import TYPE_CHECKING, Annotated

import typer
from sqlmodel import col, select

from auth.keys import RETIRED_KEYS_VERIFY_FOR, rotate_signing_key
from auth.tables import SigningKey
from gateway.commands import AsJson, on_service, operator, show, show_rows
from partners import log_keys
from partners.errors import BadInput
from partners.tables import LogKey

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.app import Service

app = typer.Typer(help="List and replace the keys that sign access tokens and the log.", no_args_is_help=True)
log_app = typer.Typer(help="List and replace the keys that sign the log's checkpoints.", no_args_is_help=True)
app.add_typer(log_app, name="log")


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, oldest first: which one signs, which is next, and until when the retired ones verify."""

    async def work(service: "Service") -> list[dict[str, str]]:
        async with service.database.sessions() as session:
            keys = await session.scalars(select(SigningKey).order_by(col(SigningKey.active_at)))
            return [described(key, service.clock()) for key in keys]

    show_rows(on_service(work), as_json=as_json)


@app.command("rotate")
def rotate_key(
    now: Annotated[bool, typer.Option("--now", help="Sign with the new key at once: the old one is known.")] = False,
    distrust_old: Annotated[
        bool, typer.Option("--distrust-old", help="Refuse every token that an old key signed. Needs --now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a new key, which signs from six minutes later on; what the old one signed stays valid."""
    if distrust_old and not now:
        raise BadInput("--distrust-old leaves nothing to sign with until then: give --now, too")

    async def work(service: "Service") -> tuple[dict[str, str], bool]:
        secret = service.settings.secret
        assert secret is not None
        async with service.database.sessions.begin() as session:
            key = await rotate_signing_key(
                session,
                secret.get_secret_value().encode(),
                operator(),
                service.clock(),
                at_once=now,
                distrust=distrust_old,
            )
            made = described(key, service.clock())
        return made, await service.announcer.publish_keys()

    made, announced = on_service(work)
    if as_json:
        show(made)
    else:
        typer.echo(f"{made['kid']} signs from {made['signs_from']} on")
    if not announced:
        typer.echo("Valkey is away: processes that run will know within a minute", err=True)


def described(key: SigningKey, now: "datetime") -> dict[str, str]:
    """A key as a row, without what is secret."""
    verifies_until = key.retired_at and key.retired_at + RETIRED_KEYS_VERIFY_FOR
    if verifies_until and key.retired_at and now >= key.retired_at:
        state = "verifies" if now < verifies_until else "retired"
    else:
        state = "next" if now < key.active_at else "signs"
    return {
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": state,
        "signs_from": shown(key.active_at),
        "signs_until": shown(key.retired_at),
        "verifies_until": shown(verifies_until),
    }


@log_app.command("list")
def list_log_keys(as_json: AsJson = False) -> None:
    """List the log's keys, oldest first, as auditors need them."""

    async def work(service: "Service") -> list[dict[str, str]]:
        async with service.database.sessions() as session:
            return [described_log_key(key) for key in await log_keys.list_keys(session)]

    show_rows(on_service(work), as_json=as_json)


@log_app.command("rotate")
def rotate_log_key(as_json: AsJson = False) -> None:
    """Make a new key that signs beside the old one: tell auditors and witnesses, then retire the old one."""

    async def work(service: "Service") -> dict[str, str]:
        async with service.database.sessions.begin() as session:
            return described_log_key(await log_keys.rotate_key(session, service.keys, operator(), service.clock()))

    tell_log_key(on_service(work), as_json=as_json)


@log_app.command("retire")
def retire_log_key(
    label: Annotated[str, typer.Argument(help="As `perks keys log list` shows it.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """End a key's signing: from the next checkpoint on only the others sign."""

    async def work(service: "Service") -> dict[str, str]:
        async with service.database.sessions.begin() as session:
            return described_log_key(await log_keys.retire_key(session, label, operator(), service.clock()))

    tell_log_key(on_service(work), as_json=as_json)


def tell_log_key(key: dict[str, str], *, as_json: bool) -> None:
    """A key that was made or retired."""
    if as_json:
        show(key)
    else:
        typer.echo(f"{key['label']} {key['state']}: {key['verifier']}")


def described_log_key(key: LogKey) -> dict[str, str]:
    """A key as a row, without what is secret."""
    return {
        "label": key.label,
        "state": "signs" if key.retired_at is None else "retired",
        "signs_from": shown(key.created_at),
        "signs_until": shown(key.retired_at),
        "verifier": key.verifier,
    }


def shown(moment: "datetime | None") -> str:
    """A time to the second, as RFC 3339; a dash for none."""
    return "-" if moment is None else moment.isoformat(timespec="seconds")
