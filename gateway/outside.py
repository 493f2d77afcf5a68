"""What the operator's identity file opens: whom people sign in with, and the issuers whose tokens are good here."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from auth.identity import Identity, read_identity
from auth.issuers import OutsideIssuers, Reading
from auth.key_sets import open_web
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Outside:
    """The file, and one client to reach what it names; without a file, nobody outside is known."""

    identity: Identity = field(default_factory=Identity)
    web: httpx.AsyncClient | None = None
    issuers: OutsideIssuers | None = None


@asynccontextmanager
async def open_outside(settings: Settings, reading: Reading) -> AsyncIterator[Outside]:
    """Reads the file and opens the client; nothing is fetched yet. IdentityInvalid in one line for an operator."""
    if settings.identity is None:
        yield Outside()
        return
    identity = read_identity(settings.identity, os.environ)
    async with open_web() as web:
        issuers = OutsideIssuers(identity.issuer, settings.address, web, reading) if identity.issuer else None
        yield Outside(identity, web, issuers)
