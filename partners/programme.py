"""The programme's ladder as programme.toml declares it: read, checked at start, and kept in step with the database."""

import re
import tomllib
from collections import Counter
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import select

from partners import tables
from partners.errors import PerksError

HANDLE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
WEIGHT_MAX = 1_000_000
SCORE_MAX = 10**15
Handle = Annotated[str, StringConstraints(pattern=f"^{HANDLE.pattern}$")]


class ProgrammeInvalid(PerksError):
    """programme.toml can't be: the message names the file's every fault in one line."""

    code = "PROGRAMME_INVALID"


def known_zone(name: str) -> str:
    """A time zone of the IANA database, by name; ValueError otherwise."""
    if name not in zones():
        raise ValueError(f"unknown time zone {name!r}")
    return name


@cache
def zones() -> frozenset[str]:
    """Every IANA time zone name this process knows, read once."""
    return frozenset(available_timezones())


ZoneName = Annotated[str, AfterValidator(known_zone)]


class TierEntry(BaseModel):
    """One `[[tier]]` of the file; a higher rank is a better tier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handle: Handle
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    rank: Annotated[int, Field(ge=1, le=1000)]


class IndicatorEntry(BaseModel):
    """One `[[indicator]]` of the file: each of its amount brings so many points, down too, and at most `cap` in all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handle: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    weight: Annotated[int, Field(ge=-WEIGHT_MAX, le=WEIGHT_MAX)]
    cap: Annotated[int, Field(ge=0, le=SCORE_MAX)] | None = None


class ScoreEntry(BaseModel):
    """The `[score]` of the file: over how many days, up to now, activities count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_days: Annotated[int, Field(ge=1, le=36_500)] = 365


class Programme(BaseModel):
    """The club: its name, its zone, its tiers and what its scores are made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    time_zone: ZoneName = "UTC"
    tier: Annotated[tuple[TierEntry, ...], Field(min_length=1)]
    indicator: Annotated[tuple[IndicatorEntry, ...], Field(max_length=1000)] = ()
    score: ScoreEntry = ScoreEntry()

    @model_validator(mode="after")
    def tiers_differ(self) -> "Programme":
        """Two tiers of one handle or one rank leave the order open, two indicators of one handle the weight."""
        faults = [
            f"two tiers have the {attribute} {value}"
            for attribute in ("handle", "rank")
            for value, times in Counter(getattr(tier, attribute) for tier in self.tier).items()
            if times > 1
        ]
        twice = Counter(indicator.handle for indicator in self.indicator)
        faults += [f"two indicators have the handle {handle}" for handle, times in twice.items() if times > 1]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @cached_property
    def tiers(self) -> tuple[TierEntry, ...]:
        """From the lowest to the highest."""
        return tuple(sorted(self.tier, key=lambda tier: tier.rank))

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Rank by handle."""
        return {tier.handle: tier.rank for tier in self.tier}

    @cached_property
    def zone(self) -> ZoneInfo:
        """The programme's own time zone."""
        return ZoneInfo(self.time_zone)


def read_programme(path: Path) -> Programme:
    """The programme that a file declares; ProgrammeInvalid says which file and every fault in it."""
    try:
        declared: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return Programme.model_validate(declared)
    except OSError as fault:
        raise ProgrammeInvalid(f"{path}: {fault.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ProgrammeInvalid(f"{path}: not TOML: {fault}") from None
    except ValidationError as fault:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}".removeprefix(": ").replace(
                "Value error, ", ""
            )
            for one in fault.errors()
        )
        raise ProgrammeInvalid(f"{path}: {faults}") from None


async def require_programme(session: AsyncSession, programme: Programme) -> None:
    """ProgrammeInvalid unless the database has just these tiers: a command must not change them by the way.

    A database without any gets them.
    """
    stored = {(tier.handle, tier.name, tier.rank) for tier in await session.scalars(select(tables.Tier))}
    if not stored:
        await keep_programme(session, programme)
    elif stored != {(tier.handle, tier.name, tier.rank) for tier in programme.tiers}:
        raise ProgrammeInvalid("the database's tiers are not those of programme.toml: set PERKS_PROGRAMME to its file")


async def keep_programme(session: AsyncSession, programme: Programme) -> None:
    """Brings the tables in step with the file; a tier that members have or had can't vanish from it.

    Several processes may start at once: the advisory lock of this transaction makes them queue.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtext('perks.programme'))"))
    stored = {tier.handle: tier for tier in await session.scalars(select(tables.Tier))}
    declared = {tier.handle: tier for tier in programme.tiers}
    assigned = set(await session.scalars(select(tables.TierAssignment.tier).distinct()))
    if missing := sorted((assigned & stored.keys()) - declared.keys()):
        raise ProgrammeInvalid(f"members have or had the tier {missing[0]!r}, so programme.toml must keep it")
    if {handle: (tier.name, tier.rank) for handle, tier in stored.items()} != {
        handle: (tier.name, tier.rank) for handle, tier in declared.items()
    }:
        await replace_tiers(session, programme)
    await session.execute(
        insert(tables.Programme)
        .values(id=1, name=programme.name, time_zone=programme.time_zone)
        .on_conflict_do_update(index_elements=["id"], set_={"name": programme.name, "time_zone": programme.time_zone})
    )


async def replace_tiers(session: AsyncSession, programme: Programme) -> None:
    """Writes the declared ladder; ranks move out of the way first, since each may belong to one tier only."""
    await session.execute(text("UPDATE tier SET rank = -rank"))
    for tier in programme.tiers:
        row = {"handle": tier.handle, "name": tier.name, "rank": tier.rank}
        statement = insert(tables.Tier).values(row)
        await session.execute(statement.on_conflict_do_update(index_elements=["handle"], set_=row))
    await session.execute(text("DELETE FROM tier WHERE rank < 0"))
