"""`perks demo --check`: serves a demo of its own, walks it over HTTP as the three users, and tells what is wrong."""

import asyncio
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Thread

import typer
import uvicorn
from pydantic import ValidationError

from gateway.app import Gateway
from gateway.demo.browsing import BROWSING
from gateway.demo.calls import Api
from gateway.demo.evidence import a_partner_takes_a_file
from gateway.demo.handout import FILE, Handout
from gateway.demo.limits import ABUSE, AFTERWARDS
from gateway.demo.proof import proof
from gateway.demo.showing import prepare, with_people
from gateway.demo.steps import GOOD_DAY, a_partner_gives_back, staff_audit
from gateway.demo.walk import Step, Walk
from gateway.running import addressed
from gateway.serving import config, listen
from gateway.settings import Settings, read_settings
from partners.errors import NotFound, Unavailable

STEPS: tuple[Step, ...] = (
    *GOOD_DAY,
    *BROWSING,
    *ABUSE,
    a_partner_gives_back,
    *AFTERWARDS,
    a_partner_takes_a_file,
    staff_audit,
)


def check(base_url: str | None) -> bool:
    """Whether all is as it should be, after printing every question and answer.

    Without `base_url` the demo is one of its own: beside any other, in a folder that is thrown away, or on the servers
    of DATABASE_URL and REDIS_URL. With it, it is the running one that wrote build/demo.json, and what needs the
    database is left out.
    """
    with ExitStack() as stack:
        if base_url is not None:
            handout = read_handout(base_url)
            return walked(handout, STEPS if handout.apps else tuple(step for step in STEPS if step not in BROWSING))
        settings = read_settings()
        if settings.database_url is None or settings.redis_url is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perks-check-")))
            settings = stack.enter_context(addressed(data_folder=folder))
        listener = stack.enter_context(closing(listen(settings.model_copy(update={"port": 0}))))
        chosen = with_people(settings.model_copy(update={"port": listener.getsockname()[1], "base_url": None}))
        handout = asyncio.run(prepare(chosen))
        stack.enter_context(serving(chosen, listener))
        return walked(handout, (*STEPS, proof(chosen)))


def walked(handout: Handout, steps: tuple[Step, ...]) -> bool:
    """One walk from end to end."""
    typer.echo(f"The three users' walk at {handout.base_url}, with {len(handout.members):,} members")
    began = time.monotonic()
    with closing(Api(handout.base_url)) as api:
        walk = Walk(handout, api, typer.echo)
        for step in steps:
            walk.take(step)
    typer.echo(
        f"\n{'✗' if walk.wrong else '✓'} {walk.right} of {walk.right + walk.wrong} expectations hold"
        f" in {walk.steps} steps and {time.monotonic() - began:.1f} s"
    )
    return not walk.wrong


def read_handout(base_url: str) -> Handout:
    """What the running demo has handed out; NotFound when it is not there, or of another service."""
    try:
        handout = Handout.model_validate_json(FILE.read_bytes())
    except (OSError, ValidationError):
        raise NotFound(f"{FILE} can't be read: start `perks demo` in this folder first") from None
    if handout.base_url != base_url.rstrip("/"):
        raise NotFound(f"{FILE} is of {handout.base_url}, not of {base_url}")
    return handout


@contextmanager
def serving(settings: Settings, listener: socket.socket) -> Iterator[None]:
    """The service in a thread of its own, as uvicorn runs it anywhere."""
    server = uvicorn.Server(config(Gateway(settings), settings))
    thread = Thread(target=server.run, args=([listener],), name="service")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise Unavailable("the service did not start")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()
