"""How fast a million entries are derived again from files, in how much memory, and how soon the command begins."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

import orjson

from gateway.auditing.tree import Tree
from partners.merkle import leaf_hash
from partners.notes import Checkpoint, sign_checkpoint
from partners.tiles import TILE_WIDTH, Tile, bundle
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.measuring import Figures, Plan
from tests.exported import ORIGIN, SEED, entry

ENTRIES = 1_000_000  # a tenth in a quick run
SECONDS_OF_A_FULL_RUN = 10
SECONDS_A_MILLION_MAX = 10
STARTS = 5
COMMAND = (sys.executable, "-c", "from gateway.cli import main; main()", "audit", "fsck")
CHECK = """
import json, re, sys, time
from pathlib import Path
from gateway.auditing.files import open_export
from gateway.auditing.fsck import check_export
began, used = time.perf_counter(), time.process_time()
report = check_export(open_export(Path(sys.argv[1])), [])
spent, used = time.perf_counter() - began, time.process_time() - used
peak = int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])
print(json.dumps({
    "sound": report.sound, "seconds": round(spent, 2), "core_seconds": round(used, 2),
    "megabytes": round(peak / 1024)}))
"""


def measure_auditing(plan: Plan) -> Figures:
    """Seconds and memory for both layouts on the gateway's core, and how long `fsck --help` takes, the best of five.

    WrongAnswer when an export is not found sound, or a million entries take more than ten seconds of
    the core, whoever else is on it.
    """
    entries = ENTRIES if plan.seconds >= SECONDS_OF_A_FULL_RUN else ENTRIES // 10
    folder = plan.folder / "export"
    write_export(folder, entries)
    layouts = {
        name: orjson.loads(on_core(plan, (sys.executable, "-c", CHECK, str(folder / name))))
        for name in ("log.jsonl", "tiles")
    }
    for name, figures in layouts.items():
        if not figures["sound"] or figures["core_seconds"] > SECONDS_A_MILLION_MAX * entries / ENTRIES:
            raise WrongAnswer(f"fsck of {entries:,} entries in {name}: {figures}")
    return {"entries": entries, "layouts": layouts, "start_s": round(min(starts(plan)), 2)}


def on_core(plan: Plan, command: Sequence[str]) -> str:
    """What a process on the gateway's core prints."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pinned = ("taskset", "-c", str(plan.core), *command)
    return subprocess.run(pinned, capture_output=True, text=True, check=True, env=environment).stdout


def starts(plan: Plan) -> Iterator[float]:
    """Seconds until the command has told how it is used."""
    for _ in range(STARTS):
        began = time.perf_counter()
        on_core(plan, (*COMMAND, "--help"))
        yield time.perf_counter() - began


def write_export(folder: Path, size: int) -> None:
    """A log in both layouts, written as it grows."""
    tiles = folder / "tiles"
    tiles.mkdir(parents=True)
    tree = Tree(partial(write_tile, tiles))
    with (folder / "log.jsonl").open("wb") as lines:
        for first in range(0, size, TILE_WIDTH):
            leaves = [leaf(number) for number in range(first, min(first + TILE_WIDTH, size))]
            lines.writelines(one + b"\n" for one in leaves)
            write(tiles, Tile(None, first // TILE_WIDTH, len(leaves)), bundle(leaves))
            tree.append([leaf_hash(one) for one in leaves])
    for tile, hashes in tree.partial_tiles():
        write_tile(tiles, tile, hashes)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, tree.root()), SEED)
    for file in (folder / "log.jsonl.checkpoint", tiles / "checkpoint"):
        file.write_text(note)


def leaf(number: int) -> bytes:
    """An entry as long as those of the service, with ids of its own."""
    return entry(number, id=str(UUID(int=(0x01A2 << 112) + number)), subject=str(UUID(int=(0x01A3 << 112) + number)))


def write_tile(folder: Path, tile: Tile, hashes: Sequence[bytes]) -> None:
    """A tile of hashes."""
    write(folder, tile, b"".join(hashes))


def write(folder: Path, tile: Tile, raw: bytes) -> None:
    """A file of the folder."""
    file = folder / "tile" / tile.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(raw)
