"""Windows that come again by a rule of RFC 5545, in a zone: worked out once for twenty years, then looked up."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr  # type: ignore[import-untyped]

DAYS = 7_305  # twenty years
CACHED_MAX = 2_048  # 29 kB at most each, of a day and twenty years
FREQUENCIES = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}
PARTS = {
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "WKST",
    "BYMONTH",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYDAY",
    "BYSETPOS",
}
UNTIL = re.compile(r"\d{8}(T\d{6}Z?)?")
STARTS_BEFORE = datetime(2080, 1, 1)  # so that no twenty years reach 2100, which is no leap year
LATE_YEARS = range(9978, 9950, -1)  # one of each kind: the calendar repeats itself after 28, within a century
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Occurrences:
    """The instants at which windows begin, in order: seconds since 1970."""

    seconds: "array[int]"

    def __len__(self) -> int:
        return len(self.seconds)

    def around(self, now: datetime, minutes: int) -> tuple[datetime | None, datetime | None]:
        """When the window that is open at `now` closes (None: none is), and when the next one begins (None: never)."""
        place = bisect_right(self.seconds, now.timestamp())
        closes = None if place == 0 else instant(self.seconds[place - 1]) + timedelta(minutes=minutes)
        ahead = instant(self.seconds[place]) if place < len(self.seconds) else None
        return (closes if closes is not None and now < closes else None), ahead


def instant(seconds: int) -> datetime:
    """Seconds since 1970 as an instant in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=CACHED_MAX)
def occurrences(starts: datetime, rrule: str, zone: str) -> Occurrences:
    """When windows begin, of a local start and a rule in a zone; ValueError names what is wrong with the rule.

    A local time that the clocks skip is read with the offset before, one that comes twice is the first (RFC 5545
    section 3.3.5). Where a zone skips a whole day, two windows may begin at once; they are one.
    """
    local = ZoneInfo(zone)
    begun = {int(one.replace(tzinfo=local).timestamp()) for one in local_starts(starts, rrule, local)}
    return Occurrences(array("I", sorted(begun)))


def local_starts(starts: datetime, rrule: str, zone: ZoneInfo) -> Iterator[datetime]:
    """The local times of twenty years.

    A rule that never comes is followed to the last year there is, so it is followed where the calendar is the same
    shortly before: a moment, where eight thousand years take seconds.
    """
    parts = parts_of(rrule)
    last = starts + timedelta(days=DAYS)
    if until := parts.pop("UNTIL", None):
        last = min(last, until_of(until, zone))
    late = starts.replace(year=next(year for year in LATE_YEARS if alike(year, starts.year)))
    try:
        followed = rrulestr(";".join(f"{name}={value}" for name, value in parts.items()), dtstart=late)
        shifted = (one - (late - starts) for one in followed)
        yield from takewhile(lambda one: one <= last, shifted)
    except ValueError as fault:
        raise ValueError(f"`rrule`: {fault}") from None
    except (IndexError, OverflowError):  # the library's answer to the ninth Monday of a month
        raise ValueError("`rrule`: there is no such day") from None


def alike(year: int, other: int) -> bool:
    """Whether two years have the same calendar and, within a century, so have those after."""
    return year % 4 == other % 4 and date(year, 1, 1).weekday() == date(other, 1, 1).weekday()


def parts_of(rrule: str) -> dict[str, str]:
    """The parts of a rule by name; ValueError for one that is unknown, twice, missing or finer than a day."""
    parts: dict[str, str] = {}
    for part in rrule.upper().removeprefix("RRULE:").split(";"):
        name, _, value = part.partition("=")
        if name not in PARTS or not value or name in parts:
            raise ValueError(f"`rrule`: {part[:40]!r} is not one of {', '.join(sorted(PARTS))}, once each")
        parts[name] = value
    if parts.get("FREQ") not in FREQUENCIES:
        raise ValueError(f"`rrule`: FREQ is one of {', '.join(FREQUENCIES)}")
    for name in ("INTERVAL", "COUNT"):
        if not re.fullmatch(r"0*[1-9]\d{0,4}", parts.get(name, "1"), re.ASCII):
            raise ValueError(f"`rrule`: {name} is a number from 1 to 99999")
    if "UNTIL" in parts and "COUNT" in parts:
        raise ValueError("`rrule`: UNTIL or COUNT, not both")
    if not UNTIL.fullmatch(parts.get("UNTIL", "20000101")):
        raise ValueError("`rrule`: UNTIL is a date as 20271231, or a time as 20271231T180000 or 20271231T170000Z")
    return parts


def until_of(text: str, zone: ZoneInfo) -> datetime:
    """The last local time that an UNTIL lets through: of a date, the whole day."""
    try:
        if len(text) == 8:
            return datetime.strptime(text, "%Y%m%d") + timedelta(seconds=DAY_SECONDS - 1)
        if text.endswith("Z"):
            utc = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return utc.astimezone(zone).replace(tzinfo=None)
        return datetime.strptime(text, "%Y%m%dT%H%M%S")
    except (ValueError, OverflowError):
        raise ValueError("`rrule`: UNTIL is no day") from None


def in_words(rrule: str) -> str:
    """A rule for people, as `every 2 weeks on MO, TH`; what is rare stands as it was written."""
    parts = parts_of(rrule)
    interval, unit = int(parts.pop("INTERVAL", "1")), FREQUENCIES[parts.pop("FREQ")]
    words = f"every {unit}" if interval == 1 else f"every {interval} {unit}s"
    for name, more in (("BYDAY", " on {}"), ("COUNT", ", {} times in all"), ("UNTIL", " until {}")):
        if value := parts.pop(name, None):
            words += more.format(value.replace(",", ", "))
    rest = ";".join(f"{name}={value}" for name, value in parts.items())
    return f"{words} ({rest})" if rest else words


def said(minutes: int) -> str:
    """A length for people, as `2 hours`, in the largest unit that is whole."""
    for unit, length in (("day", 1440), ("hour", 60), ("minute", 1)):
        if minutes % length == 0:
            count = minutes // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError(minutes)
