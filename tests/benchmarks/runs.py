"""One run of the benchmark: what is started in which order."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydantic import SecretStr

from gateway import embedded
from gateway.app import Service, open_service
from gateway.running import bring_up_to_date
from gateway.settings import Settings
from tests.benchmarks.auditing import measure_auditing
from tests.benchmarks.club import MEMBERS, PARTNERS, PERKS_PER_PARTNER, Brand, found_club
from tests.benchmarks.counting import count_statements
from tests.benchmarks.drop import CLAIMANTS, UNITS, check_drop, prepare_drop, run_drop
from tests.benchmarks.exports import measure_exports
from tests.benchmarks.following import measure_following, prepare_following
from tests.benchmarks.log_growth import measure_growth
from tests.benchmarks.log_pages import measure_log
from tests.benchmarks.machine import choose_cores, describe, find_wrk
from tests.benchmarks.measuring import CONNECTIONS, Figures, Plan, access_token, averaged, measure, measure_bare
from tests.benchmarks.processes import Server, Spending, environment, gateway_command, serving
from tests.benchmarks.revocation import measure_revocations
from tests.benchmarks.scarce import measure_scarce
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.tokens import measure_admission, measure_endpoint, new_refresh
from tests.benchmarks.webhooks import measure_webhooks

BASE_URL = "https://perks.example"  # the issuer of the tokens: the same for the process under load and the counting
NAMES = (
    *(scenario.name for scenario in SCENARIOS),
    "drop",
    "tokens",
    "revocation",
    "following",
    "scarce",
    "log growth",
    "webhooks",
    "exports",
    "auditing",
    "log pages",
)
LOG_SIZES = (10_000, 1_000_000)
Answer = TypeVar("Answer")


def run_all(
    build: Path,
    names: Sequence[str],
    *,
    quick: bool,
    tell: Callable[[str], None],
    log_sizes: Sequence[int] | None = None,
) -> Figures:
    """All figures, as they are written to the file: the gateway on one core, everything else on another."""
    find_wrk()
    core, load_core = choose_cores()
    os.sched_setaffinity(0, {load_core})  # inherited by wrk and the databases
    build.mkdir(exist_ok=True)
    with ExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory(prefix="bench-", dir=build)))
        plan = Plan(3 if quick else 10, 1 if quick else 3, core, folder)
        results = {"machine": describe(folder), "setting": setting(plan)}
        tell("A bare Starlette endpoint")
        before = measure_bare(plan)
        tell(f"A club of {MEMBERS:,} members")
        servers = closing.enter_context(embedded.start(folder / "data"))
        settings = Settings(
            database_url=servers.database_url,
            redis_url=servers.redis_url,
            secret=SecretStr(token_urlsafe(48)),
            base_url=BASE_URL,
            data_folder=folder,
        )
        results |= run_gateway(settings, plan, names, tell)
        if "log pages" in names:  # last, since it puts another log in the place of what there is
            sizes = log_sizes or (LOG_SIZES[:1] if quick else LOG_SIZES)
            pages = partial(measure_log, sizes=sizes, tell=tell)
            results["log pages"] = asyncio.run(with_service(settings, lambda service: pages(service.database)))
        tell("The bare endpoint again")
        results["bare"] = averaged(before, measure_bare(plan))
    return results


def setting(plan: Plan) -> Figures:
    """What was asked of the machine."""
    return {
        "members": MEMBERS,
        "perks": PARTNERS * PERKS_PER_PARTNER,
        "connections": CONNECTIONS,
        "seconds": plan.seconds,
        "cores": "the gateway on one; wrk, PostgreSQL and Valkey on another",
    }


def run_gateway(settings: Settings, plan: Plan, names: Sequence[str], tell: Callable[[str], None]) -> Figures:
    """Every scenario against one process, and then the statements of each in another."""
    asyncio.run(bring_up_to_date(settings))
    brands = asyncio.run(with_service(settings, found_club))
    results: Figures = {"scenarios": {}}
    with serving(gateway_command(), plan.core, "/readyz", environment(settings)) as server:
        for scenario in SCENARIOS:
            if scenario.name in names:
                tell(scenario.sentence.capitalize())
                results["scenarios"][scenario.name] = measure(scenario, plan, server, brands)
        if "drop" in names:
            tell(f"{UNITS:,} units for {CLAIMANTS:,} claimants")
            results["drop"] = measure_drop(settings, plan, server, brands[0])
        if "tokens" in names:
            tell("Tokens from the token endpoint")
            refresh_token = asyncio.run(with_service(settings, partial(new_refresh, brand=brands[0])))
            results["scenarios"] |= measure_endpoint(plan, server, brands[0], refresh_token)
            results["admission"] = asyncio.run(with_service(settings, partial(measure_admission, brand=brands[0])))
        if "revocation" in names:
            tell("Tokens that one process revokes and another refuses")
            with serving(gateway_command(), plan.core, "/readyz", environment(settings)) as other:
                results["revocation"] = measure_revocations(plan, server, other, brands)
        if "following" in names:
            tell("Claims in one process that those who follow the perk in another are told of")
            handle = asyncio.run(with_service(settings, partial(prepare_following, brand=brands[0])))
            with serving(gateway_command(), plan.core, "/readyz", environment(settings)) as other:
                token = access_token(server, brands[0])
                results["following"] = measure_following(server, other, brands[0], handle, token)
        results["gateway_megabytes"] = round(server.megabytes)
        token = access_token(server, brands[0])
    if "scarce" in names:
        tell("Claims without HTTP, hot and cold, batched and plain")
        scarce = partial(measure_scarce, brand=brands[0], plan=plan)
        results["scarce"] = asyncio.run(with_service(settings, scarce))
    if "log growth" in names:
        tell("Entries that the log takes up")
        results["log growth"] = asyncio.run(with_service(settings, partial(measure_growth, plan=plan)))
    if "webhooks" in names:
        tell("Events that endpoints are told of, while one of them hangs")
        results["webhooks"] = asyncio.run(with_service(settings, partial(measure_webhooks, plan=plan)))
    if "auditing" in names:
        tell("An export that is derived again from its files")
        results["auditing"] = measure_auditing(plan)
    if "exports" in names:  # the last: it writes its entries past the sequencer
        tell("Redemptions and entries as files")
        exporting = partial(measure_exports, brand=brands[0], plan=plan)
        results["exports"] = asyncio.run(with_service(settings, exporting))
    for scenario in SCENARIOS:
        if scenario.name in names:
            counting = partial(count_statements, token=token, scenario=scenario, brand=brands[0])
            results["scenarios"][scenario.name] |= asyncio.run(with_service(settings, counting))
    return results


def measure_drop(settings: Settings, plan: Plan, server: Server, brand: Brand) -> Figures:
    """The drop's figures, once the database is known to hold what the answers said."""
    aliases, handle = asyncio.run(with_service(settings, partial(prepare_drop, brand=brand)))
    spending = Spending(server, plan.core, plan.folder / "data")
    drop = run_drop(aliases, handle, access_token(server, brand), server.port)
    spent = spending.figures(CLAIMANTS, drop.answered_s)
    asyncio.run(with_service(settings, partial(check_drop, handle=handle, drop=drop)))
    # One process on one core can't have sold out earlier than it answers so many claims.
    return asdict(drop) | spent | {"bound_s": round(UNITS * spent["server_ms"] / 1000, 3)}


async def with_service(settings: Settings, do: Callable[[Service], Awaitable[Answer]]) -> Answer:
    """What `do` answers about a service that is opened for it alone."""
    async with open_service(settings) as service:
        return await do(service)
