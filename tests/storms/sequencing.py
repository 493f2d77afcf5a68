"""One sequencer as a process that can be killed, with its settings in the environment. Run as
`python -m tests.storms.sequencing FOLDER NAME [POINT]`; at the point, if one is named, it kills itself."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway import high_water
from gateway.database import open_database
from gateway.high_water import HighWater
from gateway.sequencer import Sequencer, keep_sequencing
from gateway.settings import Settings
from tests.sequencing import ORIGIN

# Of what is done once a batch is committed; the points before are in the database (test_sequencer_crashes.py).
POINTS = {"committed": "locked", "mark locked": "make_folder", "mark about to be written": "replace_file"}
AFTER = {"mark written": "replace_file"}


def die(*_: Any, **__: Any) -> None:
    """`kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Puts death in the place of a step, or behind it."""
    if point in POINTS:
        setattr(high_water, POINTS[point], die)
    else:
        step: Callable[..., Any] = getattr(high_water, AFTER[point])

        def last(*arguments: Any) -> None:
            step(*arguments)
            die()

        setattr(high_water, AFTER[point], last)


async def run(folder: Path, name: str) -> None:
    """Sequences until it is killed."""
    settings = Settings()
    database = open_database(str(settings.database_url), connections=5)
    sequencer = Sequencer(database, settings.keys, ORIGIN, lambda: datetime.now(UTC), HighWater(folder, name))
    await keep_sequencing(sequencer, asyncio.Event(), pause_s=0.005)


if __name__ == "__main__":
    for armed in sys.argv[3:]:
        arm(armed)
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
