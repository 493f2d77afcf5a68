"""What the figures were taken on: without it they mean nothing."""

import os
import platform
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

FLUSHES = 300
PAGE_BYTES = 8192


class Unfit(Exception):
    """The benchmark can't run here; the message is one line and says what to do."""


def choose_cores() -> tuple[int, int]:
    """A core for the gateway and another for the load and the databases; Unfit where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        raise Unfit("the benchmark pins processes to cores and reads their CPU time, which needs Linux")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unfit("the benchmark needs two cores: one for the gateway, one for the load and the databases")
    return cores[0], cores[1]


def find_wrk() -> str:
    """The load generator; Unfit says how to get it."""
    found = shutil.which("wrk")
    if found is None:
        raise Unfit("the benchmark drives the gateway with wrk, which is not installed: apt-get install wrk")
    return found


def flush_ms(folder: Path) -> tuple[float, float]:
    """Median and 99th percentile of writing one page and flushing it to the disk under `folder`, in ms."""
    page, taken = os.urandom(PAGE_BYTES), []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FLUSHES):
            began = perf_counter()
            os.pwrite(file.fileno(), page, 0)
            os.fdatasync(file.fileno())
            taken.append(1000 * (perf_counter() - began))
    taken.sort()
    return median(taken), taken[int(0.99 * FLUSHES)]


def describe(folder: Path) -> dict[str, Any]:
    """Processor, cores, kernel, Python, flush time, commit and date."""
    typical, slow = flush_ms(folder)
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "flush_ms": round(typical, 3),
        "flush_ms_p99": round(slow, 3),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """The processor as Linux names it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def commit() -> str:
    """The commit of this checkout, with `+` when there are changes; `unknown` outside git."""
    asked = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"
