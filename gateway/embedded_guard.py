"""The parent of the embedded servers: a process that outlives the gateway by as long as it takes to stop them.

Run as a script with its plan as JSON. The gateway holds the other end of its standard input: one byte says that the
servers answer, and the end of that input says stop, which it does in a clean stop and in any crash alike.
Only the standard library is imported, so that it starts in a few milliseconds.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

STOP_SECONDS_MAX = 10.0
READY, STOP = b"r", b"s"


def guard(plan: dict[str, Any]) -> int:
    """Run the servers of `plan` until told to stop; 1 when one of them ended before all of them answered."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the servers would inherit
    running: list[tuple[subprocess.Popen[bytes], int]] = []
    try:
        for server in plan["servers"]:
            process = subprocess.Popen(  # noqa: S603
                server["command"],
                cwd=server["cwd"],
                stdin=subprocess.DEVNULL,
                pass_fds=server["handles"],
                **server["user"],
            )
            running.append((process, server["stop"]))
        return _watch([process for process, _ in running], told)
    finally:
        _stop(running)
        if plan["alias"]:
            shutil.rmtree(plan["alias"], ignore_errors=True)


def _watch(processes: list[subprocess.Popen[bytes]], told: list[int]) -> int:
    ready = False
    while not told:
        heard, _, _ = select.select([0], [], [], 1.0 if ready else 0.02)
        if heard:
            if os.read(0, 1) != READY:
                break
            ready = True
        ended = [process for process in processes if process.poll() is not None]  # polled so that none stays a zombie
        if ended and not ready:
            return 1
    return 0


def _stop(running: list[tuple[subprocess.Popen[bytes], int]]) -> None:
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for process, number in running:
        process.send_signal(number)
    for process, _ in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(guard(json.loads(sys.argv[1])))
