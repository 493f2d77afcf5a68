"""Checks a log by the library aics-tlog, which knows nothing of Perks Gateway; run by a Python that has it.

It reads cases from standard input, one JSON object a line, and answers each with a line: "ok", or what is wrong.
"""

import json
import sys
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aics_tlog as tlog

Case = Mapping[str, Any]


def read_checkpoint(note: str, keys: list[str]) -> Any:
    """The checkpoint of a note that the first key's log signed, and every witness whose key follows."""
    log, *witnesses = map(tlog.parse_vkey, keys)
    result = tlog.verify_checkpoint(tlog.parse_note(note), log, witnesses, quorum=len(witnesses))
    if not result.ok:
        raise ValueError(result.error)
    return result


def checkpoint(case: Case) -> None:
    """Opens `note` by `keys` and compares it with `origin`, `size` and `root`."""
    found = read_checkpoint(case["note"], case["keys"])
    require((found.origin, found.size, found.root) == (case["origin"], case["size"], b64decode(case["root"])), "other")


def included(case: Case) -> None:
    """Checks `proof` from `entry` at `index` to `root` of `size`."""
    entry, root = b64decode(case["entry"]), b64decode(case["root"])
    require(tlog.verify_leaf_inclusion(entry, case["index"], case["size"], proof_of(case), root), "not included")


def consistent(case: Case) -> None:
    """Checks `proof` from `oldRoot` of `older` to `root` of `size`."""
    roots = b64decode(case["oldRoot"]), b64decode(case["root"])
    require(tlog.verify_consistency(case["older"], case["size"], *roots, proof_of(case)), "not consistent")


def tiles(case: Case) -> None:
    """Reads `folder`: its checkpoint by `keys`, every tile, then proofs of `entries` and of the roots of `sizes`."""
    folder = Path(case["folder"])
    signed = read_checkpoint((folder / "checkpoint").read_text(encoding="utf-8"), case["keys"])
    reader = tlog.FileSystemTileReader(folder)
    tlog.audit_tiles(reader, signed.size, signed.root)
    for index, entry in ((int(at), b64decode(entry)) for at, entry in case["entries"].items()):
        require(tlog.read_entry(reader, index, signed.size) == entry, f"entry {index} is another")
        proof = tlog.inclusion_proof_from_tiles(reader, index, signed.size)
        require(tlog.verify_leaf_inclusion(entry, index, signed.size, proof, signed.root), f"entry {index}")
    for older, root in ((int(size), b64decode(root)) for size, root in case["sizes"].items()):
        proof = tlog.consistency_proof_from_tiles(reader, older, signed.size)
        require(tlog.verify_consistency(older, signed.size, root, signed.root, proof), f"size {older}")


def proof_of(case: Case) -> list[bytes]:
    """Its hashes."""
    return [b64decode(one) for one in case["proof"]]


def require(fine: bool, fault: str) -> None:
    """ValueError unless it is."""
    if not fine:
        raise ValueError(fault)


CHECKS: dict[str, Callable[[Case], None]] = {
    "checkpoint": checkpoint,
    "included": included,
    "consistent": consistent,
    "tiles": tiles,
}


def main() -> None:
    """Answers every case."""
    for line in sys.stdin:
        case = json.loads(line)
        try:
            CHECKS[case["do"]](case)
        except (ValueError, OSError) as fault:
            sys.stdout.write(f"{type(fault).__name__}: {' '.join(str(fault).split())}\n")
        else:
            sys.stdout.write("ok\n")


if __name__ == "__main__":
    main()
