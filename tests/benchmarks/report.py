"""The figures for people: one table, and a sentence for what does not fit in."""

from typing import Any

from rich.box import SIMPLE
from rich.table import Table

Figures = dict[str, Any]
COLUMNS = {
    "per_second": ("req/s", "{:,.0f}"),
    "p50_ms": ("p50 ms", "{:.1f}"),
    "p99_ms": ("p99 ms", "{:.1f}"),
    "alone_p50_ms": ("alone ms", "{:.2f}"),
    "server_ms": ("CPU ms", "{:.3f}"),
    "times_bare": ("× bare", "{:.1f}"),
    "server_core": ("core", "{:.0%}"),
    "others_core": ("others", "{:.0%}"),
    "postgres_ms": ("PG ms", "{:.3f}"),
    "statements": ("SQL", "{:g}"),
    "statements_of_32_at_once": ("of 32", "{:g}"),
}


def as_table(results: Figures) -> Table:
    """A line per scenario; docs/performance.md says what the columns are."""
    table = Table(title="One gateway process on one core", box=SIMPLE)
    table.add_column()
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    lines = {f"bare {how.upper()}": figures for how, figures in results["bare"].items()} | results["scenarios"]
    for name, figures in lines.items():
        times_bare = figures["server_ms"] / results["bare"]["post"]["server_ms"]
        shown = figures | {"times_bare": times_bare}
        table.add_row(name, *(form.format(shown[key]) if key in shown else "" for key, (_, form) in COLUMNS.items()))
    return table


def in_words(results: Figures) -> str:
    """The drop, admission, revocations, the memory and the machine."""
    lines = []
    if drop := results.get("drop"):
        lines.append(
            f"Drop: sold out after {drop['sold_out_s']} s (one process that does nothing but answer its first claims:"
            f" {drop['bound_s']} s), all answered after {drop['answered_s']} s, p99"
            f" {drop['p99_ms']} ms; CPU ms a claim {drop['server_ms']}, PostgreSQL's {drop['postgres_ms']}; the client"
            f" used {drop['client_share']:.0%} of its core."
        )
    if admission := results.get("admission"):
        lines.append(
            f"Knowing the caller, in process: {admission['seen_before_us']} µs by a token seen before,"
            f" {admission['new_us']} µs by a new one, {admission['with_a_proof_us']} µs by one with a DPoP proof."
        )
    for how, figures in results.get("revocation", {}).items():
        lines.append(
            f"Revocation, {how}: another process refuses the token after p50 {figures['p50_ms']} ms, p99"
            f" {figures['p99_ms']} ms, at most {figures['max_ms']} ms ({figures['revocations']} of them), from its"
            f" sending; from its answer, which takes p50 {figures['answered_p50_ms']} ms, p50"
            f" {figures['after_answer_p50_ms']} ms, p99 {figures['after_answer_p99_ms']} ms."
        )
    if following := results.get("following"):
        lines.append(
            f"Following: {following['followers']} who follow one perk in another process know of a claim after p50"
            f" {following['p50_ms']} ms, p99 {following['p99_ms']} ms, at most {following['max_ms']} ms"
            f" ({following['changes']} claims), from its sending; from its answer p50"
            f" {following['after_answer_p50_ms']} ms, p99 {following['after_answer_p99_ms']} ms."
        )
    for name, figures in results.get("scarce", {}).get("claims", {}).items():
        lines.append(
            f"Claims, {name} clients: {figures['per_second']:,}/s, p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']}"
            f" ms, {figures['round_trips']} round trips each."
        )
    for name, seconds in results.get("scarce", {}).get("stock", {}).items():
        lines.append(f"{name} in {seconds} s.")
    if growth := results.get("log growth"):
        lines.append(
            f"The log takes up {growth['leaves_per_second']:,} entries/s, its slowest batch in"
            f" {growth['slowest_batch_ms']} ms; with {growth['writers']} writers ({growth['written_per_second']:,}/s) a"
            f" signed checkpoint follows the commit after p50 {growth['lag_p50_ms']} ms, p99 {growth['lag_p99_ms']} ms,"
            f" at most {growth['lag_max_ms']} ms."
        )
    for count, told in results.get("webhooks", {}).items():
        lines.append(
            f"Webhooks to {count} endpoints{', of which one hangs' if count != '1' else ''}:"
            f" {told['delivered_per_second']:,} deliveries/s, {told['worker_ms']} ms of CPU each;"
            f" {told['made_per_second']:,} messages/s"
            " are made of the log."
        )
    for what, made in results.get("exports", {}).items():
        lines.append(
            f"Export of {made['rows']:,} {what}: {made['per_second']:,} rows/s, {made['cpu_ms_of_1000_rows']} ms of CPU"
            f" for 1,000, {made['megabytes']:,} MB; the worker grows from {made['before_megabytes']} to at most"
            f" {made['peak_megabytes']} MB."
        )
    if audit := results.get("auditing"):
        lines += [
            f"fsck of {audit['entries']:,} entries in {name}: {figures['seconds']} s, of the core"
            f" {figures['core_seconds']} s, {figures['megabytes']} MB; `perks audit fsck --help` takes"
            f" {audit['start_s']} s."
            for name, figures in audit["layouts"].items()
        ]
    for size, pages in results.get("log pages", {}).items():
        proof = pages["a proof"]
        full = [figures["least_ms"] for figures in pages.values() if figures.get("whole")]
        given_up = [figures["least_ms"] for figures in pages.values() if not figures.get("whole", True)]
        lines.append(
            f"A page of a log of {size} entries: at best {min(full)} to {max(full)} ms by filter,"
            f" {max(given_up, default=0)} ms where nothing fits; a proof p50 {proof['p50_ms']} ms, p99"
            f" {proof['p99_ms']} ms."
        )
    machine = results["machine"]
    lines.append(f"The gateway holds {results['gateway_megabytes']} MB at the end.")
    lines.append(
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, a flush"
        f" {machine['flush_ms']} ms, commit {machine['commit']}; bare GET before and after:"
        f" {results['bare']['get']['both_per_second']} requests/s."
    )
    return "\n".join(lines)
