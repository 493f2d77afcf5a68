"""How long things took, in so few numbers that millions of them need no memory to speak of."""

from collections import Counter
from dataclasses import dataclass, field

SIGNIFICANT = 1_000  # three digits: what is told is within half a per cent of what was


@dataclass(slots=True)
class Waits:
    """Times in milliseconds, each kept to three significant digits."""

    times: Counter[int] = field(default_factory=Counter)

    def add(self, milliseconds: int) -> None:
        """One more; what seems to have ended before it began took no time."""
        unit = 1
        while milliseconds >= SIGNIFICANT * unit:
            unit *= 10
        self.times[max(0, (milliseconds + unit // 2) // unit * unit)] += 1

    @property
    def count(self) -> int:
        """How many."""
        return self.times.total()

    def within(self, per_cent: int) -> int | None:
        """The time that so many per cent took at most (nearest rank); None without any."""
        rank, seen = -(-self.count * per_cent // 100), 0
        for time in sorted(self.times):
            seen += self.times[time]
            if seen >= rank:
                return time
        return None
