"""The worker that shows the log's newest checkpoint to witnesses, and keeps what they sign of it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import structlog

from gateway.database import Database
from gateway.high_water import HighWater, vouch
from gateway.housekeeping import keep_doing
from gateway.witness.addresses import WitnessAddress, read_witnesses
from gateway.witness.files import Turn
from gateway.witness.submissions import render
from partners.errors import TryAgain
from partners.log import read_ranges
from partners.log_forks import LogForked
from partners.log_keys import read_verifiers
from partners.merkle import consistency_ranges
from partners.notes import NoteInvalid, Verifier, note_text, read_signatures
from partners.witnessed import SignedHead, keep_cosignature, read_signed_head

if TYPE_CHECKING:
    from gateway.app import Service

log = structlog.get_logger()

ANSWER_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 64 * 1024
ATTEMPTS_MAX = 3
PAUSE_FACTOR_MAX = 32
CLOCKS_APART_MAX = timedelta(hours=1)
NEVER = datetime.min.replace(tzinfo=UTC)
SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\n")
SIZE_TYPE = "text/x.tlog.size"


class WitnessFault(Exception):
    """A witness did not sign, for a reason that says nothing about the log; in words for the operator."""


class Contradicted(Exception):
    """A witness has signed a log that is not the beginning of ours: ours has lost entries, or was rewritten."""


class Overtaken(Exception):
    """The log has grown meanwhile, and another host showed the witness."""


@dataclass(slots=True)
class Watcher:
    """A witness as this process knows it."""

    address: WitnessAddress
    origin: str = ""
    seen: int = 0
    """The size of the log `origin` that it signed last, as far as we know."""
    fault: str = ""
    pause_factor: int = 1
    again_at: datetime = NEVER


@asynccontextmanager
async def open_web() -> AsyncIterator[httpx.AsyncClient]:
    """The client for witnesses: it follows no redirect, and the connections to them stay open."""
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=10)
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS_MAX, follow_redirects=False, limits=limits) as web:
        yield web


class Witnesses:
    """The witnesses of one database's log. What one of them has signed that the log does not hold is remembered among
    the `doubts` of the high-water mark, so that nothing more is signed here until it is cleared up."""

    def __init__(
        self,
        addresses: Sequence[WitnessAddress],
        database: Database,
        mark: HighWater,
        clock: Callable[[], datetime],
        *,
        every_s: float,
    ) -> None:
        self.watchers = [Watcher(address) for address in addresses]
        self._database, self._mark, self._clock, self._every_s = database, mark, clock, every_s

    async def keep_asking(self, stop: asyncio.Event) -> None:
        """Asks every so many seconds until told to stop, of the processes on one data folder one at a time."""
        if not self.watchers:
            await self._mark.doubts.keep_of(())
            return
        turn = Turn(self._mark.file.with_suffix(".witnessing"))
        async with open_web() as web:

            async def ask() -> None:
                if await asyncio.to_thread(turn.take):
                    await self.ask_all(web)

            try:
                await keep_doing("witness", ask, self._every_s, stop)
            finally:
                turn.give_back()

    async def ask_all(self, web: httpx.AsyncClient) -> None:
        """Shows every witness the newest checkpoint, all at once.

        One that they have signed already they sign again: that tells from what time on nothing is newer.
        """
        await self._mark.doubts.keep_of([watcher.address.verifier.label for watcher in self.watchers])
        async with self._database.connection() as connection:
            head = await read_signed_head(connection)
        if head is not None:
            with suppress(LogForked, TryAgain):  # a log in doubt is shown all the same: what they say may clear it up
                await vouch(self._database.connection, self._mark, head.note)
            now = self._clock()
            due = [watcher for watcher in self.watchers if now >= watcher.again_at]
            async with asyncio.TaskGroup() as asking:
                for watcher in due:
                    asking.create_task(self._ask(web, watcher, head))

    async def _ask(self, web: httpx.AsyncClient, watcher: Watcher, head: SignedHead) -> None:
        name = watcher.address.verifier.label
        try:
            line = await self._cosigned(web, watcher, head)
            await self._mark.doubts.remove(name)
            async with self._database.connection() as connection:
                await keep_cosignature(connection, head, line, self._clock())
        except Contradicted as contradiction:
            await self._mark.doubts.add(name, head.origin, watcher.seen)
            await self._raise_mark(web, watcher, head)
            self._tell(watcher, str(contradiction), pause=False)
        except Overtaken:
            pass
        except (WitnessFault, NoteInvalid) as fault:
            self._tell(watcher, str(fault))
        except Exception as fault:  # the other witnesses are asked all the same
            self._tell(watcher, f"{type(fault).__name__}: {fault}")
        else:
            self._tell(watcher, "")

    async def _raise_mark(self, web: httpx.AsyncClient, watcher: Watcher, head: SignedHead) -> None:
        """To the checkpoint that the witness shows, as ours do, if this log signed it: then it is no longer the word of
        the witness alone, and a new log goes on from there."""
        try:
            status, _, note = await fetch(web, "GET", f"{watcher.address.url}/checkpoint/{quote(head.origin)}")
            if status == 200:
                async with self._database.connection() as connection:
                    verifiers = await read_verifiers(connection, head.origin)
                if await self._mark.raise_to(note, verifiers):
                    log.error("witness.shows_loss", witness=watcher.address.verifier.label, checkpoint=note)
        except (WitnessFault, NoteInvalid, LogForked):
            pass  # other witnesses show none, and the doubt stands all the same

    def _tell(self, watcher: Watcher, fault: str, *, pause: bool = True) -> None:
        """Tells each kind of fault once and when it is over, and puts the next attempt off for longer each time."""
        name = watcher.address.verifier.label
        if fault and fault != watcher.fault:
            log.warning("witness.fault", witness=name, fault=fault)
        elif watcher.fault and not fault:
            log.info("witness.signs_again", witness=name)
        watcher.fault = fault
        watcher.pause_factor = min(2 * watcher.pause_factor, PAUSE_FACTOR_MAX) if fault and pause else 1
        watcher.again_at = self._clock() + timedelta(seconds=self._every_s * (watcher.pause_factor - 1))
        if fault:
            watcher.seen = 0  # it says again what it has seen, which may have been put right by then

    async def _cosigned(self, web: httpx.AsyncClient, watcher: Watcher, head: SignedHead) -> str:
        """The witness's signature line; it says itself from which size on it wants a proof."""
        if watcher.origin != head.origin:
            watcher.origin, watcher.seen = head.origin, 0
        for _ in range(ATTEMPTS_MAX):
            if watcher.seen > head.size:
                raise await self._excess(watcher, head)
            async with self._database.connection() as connection:
                proof = await read_ranges(connection, consistency_ranges(watcher.seen, head.size))
            status, kind, body = await fetch(
                web, "POST", f"{watcher.address.url}/add-checkpoint", render(watcher.seen, proof, head.note)
            )
            if status == 200:
                watcher.seen = head.size
                return cosignature_in(body, head, watcher.address.verifier, self._clock())
            told = size_in(body) if status == 409 and kind == SIZE_TYPE else None
            # Some tell the size, too, when they signed another tree of just that one.
            if told is not None and not told == watcher.seen == head.size:
                watcher.seen = told
            elif status in (409, 422):
                raise Contradicted(f"the first {watcher.seen} entries of {head.origin} that it signed were others")
            else:
                raise WitnessFault(f"status {status}: {body[:200].strip()!r}")
        raise WitnessFault("it asks for proofs from ever other sizes on")

    async def _excess(self, watcher: Watcher, head: SignedHead) -> Exception:
        """Why a witness has signed more than the log had: it has lost entries, unless it has them by now."""
        async with self._database.connection() as connection:
            newest = await read_signed_head(connection)
        if newest is not None and newest.origin == head.origin and newest.size >= watcher.seen:
            return Overtaken()
        return Contradicted(f"it has signed {watcher.seen} entries of {head.origin}, which has {head.size}")


def witnesses_of(service: "Service") -> Witnesses:
    """Those of the service's settings."""
    settings = service.settings
    return Witnesses(
        read_witnesses(settings.witnesses),
        service.database,
        service.high_water,
        service.clock,
        every_s=settings.witness_seconds,
    )


async def fetch(web: httpx.AsyncClient, method: str, url: str, body: bytes | None = None) -> tuple[int, str, str]:
    """Status, media type and text of a witness's answer; WitnessFault."""
    answer = bytearray()
    headers = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"}
    try:
        asked = web.stream(method, url, content=body, headers=headers)
        async with asyncio.timeout(ANSWER_SECONDS_MAX), asked as response:
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > ANSWER_BYTES_MAX:
                    raise WitnessFault(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return response.status_code, kind, answer.decode()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as fault:
        raise WitnessFault(f"no answer: {type(fault).__name__}") from None
    except UnicodeDecodeError:
        raise WitnessFault("an answer that is not text in UTF-8") from None


def size_in(body: str) -> int:
    """The size that a witness signed last, from its answer 409; WitnessFault."""
    size = SIZE.fullmatch(body)
    if size is None:
        raise WitnessFault("status 409 without a size")
    return int(size[1])


def cosignature_in(body: str, head: SignedHead, witness: Verifier, now: datetime) -> str:
    """The witness's own line from its answer 200, checked; WitnessFault, NoteInvalid."""
    note = head.note + body
    if note_text(note) != note_text(head.note):
        raise WitnessFault("an answer that is not lines of signatures")
    signatures = read_signatures(note, witness)
    if not signatures:
        raise WitnessFault(f"an answer that {witness.label} did not sign")
    time = signatures[-1].time
    if time is None or abs(now.timestamp() - time) > CLOCKS_APART_MAX.total_seconds():
        raise WitnessFault("it signed for another time: are the clocks right?")
    return signatures[-1].line
