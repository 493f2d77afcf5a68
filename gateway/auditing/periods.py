"""Days put together so that a chart and its table stay readable: days, weeks or months, with the empty ones between."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from gateway.auditing.figures import Tally

DAYS_MAX, WEEKS_MAX = 62, 370
MONTHS_MAX = 240


@dataclass(frozen=True, slots=True)
class Periods:
    """What is counted of each day, week (named by its Monday) or month, in order."""

    unit: str
    labels: list[str]
    tallies: list[Tally]

    def counts(self, name: str) -> list[int]:
        """One count of each."""
        return [tally[name] for tally in self.tallies]


def periods_of(days: Mapping[str, Tally]) -> Periods:
    """Days to about two months, weeks to about a year, months beyond."""
    if not days:
        return Periods("day", [], [])
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    length = (last - first).days + 1
    unit = "day" if length <= DAYS_MAX else "week" if length <= WEEKS_MAX else "month"
    found: dict[str, Tally] = {}
    if length <= MONTHS_MAX * 31:  # else a clock was wrong, and nothing is between
        for place in range(length):
            found.setdefault(label_of(first + timedelta(days=place), unit), Tally())
    for day in sorted(days):
        tally = found.setdefault(label_of(date.fromisoformat(day), unit), Tally())
        tally.counts.update(days[day].counts)
    return Periods(unit, list(found), list(found.values()))


def label_of(day: date, unit: str) -> str:
    """What the period of a day is called."""
    if unit == "month":
        return day.isoformat()[:7]
    return (day if unit == "day" else day - timedelta(days=day.weekday())).isoformat()
