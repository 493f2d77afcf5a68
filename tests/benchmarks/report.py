"""The figures for people: one table, and a sentence for what does not fit in."""

from typing import Any

from rich.table import Table

Figures = dict[str, Any]
COLUMNS = (
    "",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "alone ms",
    "server ms",
    "core",
    "PostgreSQL ms",
    "statements",
    "of 32",
    "× POST",
)


def as_table(results: Figures) -> Table:
    """A line per scenario; `× POST` is how many bare Starlette POSTs the CPU time of one request would serve."""
    table = Table(title="per request, one gateway process on one core")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left")
    for how, figures in results["bare"].items():
        table.add_row(*row(f"bare Starlette {how.upper()}", figures, results))
    for name, figures in results["scenarios"].items():
        table.add_row(*row(f"{name}: {figures['asks']}", figures, results))
    return table


def row(name: str, figures: Figures, results: Figures) -> list[str]:
    """One line of the table."""
    return [
        name,
        f"{figures['per_second']:,.0f}",
        f"{figures['p50_ms']:.2f}",
        f"{figures['p99_ms']:.2f}",
        f"{figures['alone_p50_ms']:.2f}",
        f"{figures['server_ms']:.3f}",
        f"{figures['server_core']:.0%}",
        f"{figures['postgres_ms']:.3f}",
        str(figures.get("statements", "")),
        str(figures.get("statements_of_32_at_once", "")),
        f"{figures['server_ms'] / results['bare']['post']['server_ms']:.1f}",
    ]


def in_words(results: Figures) -> str:
    """The drop, the memory and the machine."""
    lines = []
    if drop := results.get("drop"):
        lines.append(
            f"Drop: sold out after {drop['sold_out_s']} s, all answered after {drop['answered_s']} s, p99"
            f" {drop['p99_ms']} ms; answers {drop['outcomes']}; the client used {drop['client_share']:.0%} of its core."
        )
    machine = results["machine"]
    lines.append(f"The gateway holds {results['gateway_megabytes']} MB at the end.")
    lines.append(
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, a flush"
        f" {machine['flush_ms']} ms, commit {machine['commit']}; bare GET before and after:"
        f" {results['bare']['get']['both_per_second']} requests/s."
    )
    return "\n".join(lines)
