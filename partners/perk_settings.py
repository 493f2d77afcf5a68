"""What an offer says, whole, and what of it can't be: every fault at once, each with its path."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from partners.currencies import CURRENCIES
from partners.errors import BadInput
from partners.kinds import KINDS, OptionPlan, PoolPlan
from partners.kinds.local import CONTROL, UNITS_MAX
from partners.kinds.shape import Kind, read_model
from partners.policies import faulty, stored, validate_rules
from partners.programme import Programme, zones
from partners.tables import PerkKind

TITLE_LENGTH_MAX = 200
DESCRIPTION_LENGTH_MAX = 5_000
HOLD_SECONDS = (60, 86_400)
REVERSAL_DAYS_MAX = 3_650
UNITS_AT_ONCE_MAX = 100
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
OFFER_SECONDS = (300, 604_800)
OFFERS_MAX = 10


class Waitlist(BaseModel):
    """How those who wait are treated: an offer is theirs for so long, so often before they drop out; `skip`: whoever
    comes after a party that is too large for what is free may go before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    offer_seconds: Annotated[int, Field(ge=OFFER_SECONDS[0], le=OFFER_SECONDS[1], strict=True)] = 172_800
    offers: Annotated[int, Field(ge=1, le=OFFERS_MAX, strict=True)] = 1
    skip: bool = False


@dataclass(frozen=True, slots=True)
class PerkSettings:
    """What an offer says: `rules` and `settings` as their author wrote them.

    `units` None is no limit; where there are options, or what there is is counted, it is not said. `units_max` is how
    many one claim may take (the largest party), `currency` that of amounts, `self_service` None as its kind has it,
    `low_at` rings the alarm when no more than so many are left, and without a `waitlist` nobody can begin to wait.
    """

    title: str
    time_zone: str
    description: str = ""
    opens_on: date | None = None
    closes_on: date | None = None
    units: int | None = None
    hold_seconds: int = 900
    reversal_days: int = 90
    rules: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    waitlist: Mapping[str, Any] | None = None
    currency: str | None = None
    units_max: int = 1
    self_service: bool | None = None
    returns_allowance: bool = True
    low_at: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Settings that can be: what is stored of the rules, of the kind's settings and of the waitlist, and the units."""

    kind: Kind
    rules: list[dict[str, Any]]
    waitlist: dict[str, Any] | None
    options: tuple[OptionPlan, ...]
    pools: tuple[PoolPlan, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """As they are stored."""
        return self.kind.model_dump(mode="json")


def check_settings(settings: PerkSettings, kind: PerkKind, programme: Programme) -> Terms:
    """The terms that follow; BadInput names everything that can't be, with its path."""
    faults = list(plain_faults(settings))
    rules: list[dict[str, Any]] = []
    try:
        rules = stored(validate_rules([dict(one) for one in settings.rules], programme.ranks))
    except BadInput as fault:
        faults += fault.details.get("faults", [fault.message])
    if settings.currency is None and any(rule.get("measure") == "amount" for rule in rules):
        faults.append("currency: the rules count amounts; say in which")
    waitlist, wrong = read_waitlist(settings.waitlist)
    own, unread = read_model(KINDS[kind], settings.settings)
    faults += [f"waitlist.{one}" for one in wrong] + [f"settings.{one}" for one in unread]
    if own is not None:
        faults += own.perk_faults(settings.units_max, settings.waitlist is not None)
    options: tuple[OptionPlan, ...] = ()
    pools: tuple[PoolPlan, ...] = ()
    if own is not None and settings.time_zone in zones():
        unfit = [f"settings.{one}" for one in own.faults(settings.time_zone, programme.ranks)]
        if not unfit:
            options, pools = own.options(settings.time_zone), own.own_pools(settings.time_zone, settings.units)
            unfit = list(unit_faults(own, settings.units, options, pools))
        faults += unfit
    if faults or own is None:
        raise faulty(faults)
    return Terms(own, rules, waitlist, options, pools)


def has_options(kind: PerkKind, settings: PerkSettings) -> bool:
    """Whether claims have something to choose; no for settings that can't be."""
    own, _ = read_model(KINDS[kind], settings.settings)
    return own is not None and own.has_options


def plain_faults(settings: PerkSettings) -> Iterator[str]:
    """What can't be by itself."""
    checks = [
        (not 1 <= len(settings.title.strip()) <= TITLE_LENGTH_MAX, f"title: 1 to {TITLE_LENGTH_MAX} characters"),
        (
            len(settings.description) > DESCRIPTION_LENGTH_MAX,
            f"description: at most {DESCRIPTION_LENGTH_MAX} characters",
        ),
        (CONTROL.search(settings.title) is not None, "title: one line of text"),
        (UNSTORABLE.search(settings.description) is not None, "description: characters that can't be stored"),
        (unstorable(settings.settings), "settings: characters that can't be stored"),
        (settings.time_zone not in zones(), f"timeZone: unknown time zone {settings.time_zone!r}"),
        (
            bool(settings.opens_on and settings.closes_on and settings.closes_on < settings.opens_on),
            "closesOn: not before opensOn",
        ),
        (settings.opens_on == date.min, "opensOn: after 0001-01-01"),
        (settings.closes_on == date.max, "closesOn: before 9999-12-31"),
        (settings.units is not None and not 0 <= settings.units <= UNITS_MAX, f"capacity: 0 to {UNITS_MAX}"),
        (
            not HOLD_SECONDS[0] <= settings.hold_seconds <= HOLD_SECONDS[1],
            f"holdSeconds: {HOLD_SECONDS[0]} to {HOLD_SECONDS[1]}",
        ),
        (not 0 <= settings.reversal_days <= REVERSAL_DAYS_MAX, f"reversalDays: 0 to {REVERSAL_DAYS_MAX}"),
        (not 1 <= settings.units_max <= UNITS_AT_ONCE_MAX, f"unitsMax: 1 to {UNITS_AT_ONCE_MAX}"),
        (settings.low_at is not None and not 0 <= settings.low_at <= UNITS_MAX, f"lowAt: 0 to {UNITS_MAX}"),
        (
            settings.currency is not None and settings.currency not in CURRENCIES,
            f"currency: no currency of ISO 4217 is {settings.currency!r}",
        ),
    ]
    return (message for wrong, message in checks if wrong)


def unstorable(value: Any) -> bool:
    """Whether there is a text in it, at any depth, that JSON of the database can't hold."""
    if isinstance(value, str):
        return UNSTORABLE.search(value) is not None
    if isinstance(value, Mapping):
        return any(unstorable(one) for pair in value.items() for one in pair)
    return isinstance(value, list | tuple) and any(unstorable(one) for one in value)


def read_waitlist(waitlist: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, list[str]]:
    """How the waitlist is stored, and every fault of it."""
    if waitlist is None:
        return None, []
    found, faults = read_model(Waitlist, waitlist)
    return (None if found is None else found.model_dump()), [one.replace("_seconds", "Seconds") for one in faults]


def unit_faults(
    own: Kind, units: int | None, options: Sequence[OptionPlan], pools: Sequence[PoolPlan]
) -> Iterator[str]:
    """What can't be about how many there are: more than one says so, or pools that are larger than the whole."""
    if not own.counted_by_hand and units is not None:
        yield "capacity: what there is is counted; leave it out"
    if options and units is not None:
        yield "capacity: it is the sum of what the options have; leave it out"
    total = sum(pool.units or 0 for option in options for pool in option.pools)
    if total > UNITS_MAX:
        yield f"settings: at most {UNITS_MAX} in all"
    if pools and units is None:
        yield "settings.pools: where there is no limit nothing can be kept; say the capacity"
    elif units is not None and (
        short := sum(-pool.units for pool in pools if pool.units is not None and pool.units < 0)
    ):
        yield f"settings.pools: they keep {units + short} of {units} units"
