"""`make bench`: starts everything, asks, measures, prints a table and writes build/bench.json."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console

from gateway.embedded import EmbeddedError
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.machine import Unfit
from tests.benchmarks.report import as_table, in_words
from tests.benchmarks.runs import NAMES, run_all

BUILD = Path(__file__).parent.parent.parent / "build"
WIDTH_MIN = 120  # the table's, also into a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the scenarios; 1 when the machine is unfit or an answer is wrong, with one line that says why."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds per scenario: rough figures")
    parser.add_argument("--only", action="append", choices=NAMES, help="just this scenario; may be repeated")
    parser.add_argument(
        "--log-entries", action="append", type=int, help="sizes of the log for `log pages`; may be repeated"
    )
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH_MIN)
    try:
        results = run_all(
            BUILD, options.only or NAMES, quick=options.quick, tell=console.print, log_sizes=options.log_entries
        )
    except (Unfit, WrongAnswer, EmbeddedError) as fault:
        console.print(f"bench: {fault}", style="red", markup=False)
        return 1
    target = BUILD / "bench.json"
    target.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    console.print(as_table(results))
    console.print(in_words(results), f"All of it is in {target}.", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
