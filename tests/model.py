"""A club in plain Python, without a database: what a claim may take and what is left, by the laws alone."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

RANKS = {"member": 1, "silver": 2, "gold": 3, "black": 4}
EXTENSIONS_MAX = 2


@dataclass
class ModelHold:
    """One hold and what became of it; `pools` says how many of its units are still drawn from each pool."""

    member: int
    units: int
    amount: int
    at: datetime
    expires: datetime
    pools: list[tuple[int, int]]
    state: str = "HELD"
    counted: int = 0
    counted_amount: int = 0
    extensions: int = 0
    left: int = 0  # of what was confirmed: units and amount that are not reversed
    amount_left: int = 0

    @property
    def live(self) -> bool:
        """Whether it takes units."""
        return self.state in ("HELD", "CONFIRMED")


@dataclass
class ModelPerk:
    """One perk: `pools` are (lowest tier or None, units), in the order to draw from; `limits` are (tier's number or
    "otherwise", by tier) of a calendar period or of so many hours, by amount or by units."""

    pools: list[tuple[str | None, int]]
    zone: str
    period: str
    limit: dict[str, int]
    by_amount: bool = False
    hours: int = 0
    hold_seconds: int = 900
    shrink_to: int | None = None
    holds: list[ModelHold] = field(default_factory=list)

    def settle(self, now: datetime) -> None:
        """What is overdue comes back."""
        for hold in self.holds:
            if hold.state == "HELD" and hold.expires <= now:
                self.end(hold, "EXPIRED")

    def end(self, hold: ModelHold, state: str) -> None:
        """A hold ends without a use."""
        hold.state, hold.counted, hold.counted_amount = state, 0, 0
        self.give_back(hold, sum(units for _, units in hold.pools))

    def give_back(self, hold: ModelHold, units: int) -> None:
        """To the pool that it came from last first; a perk that is to shrink keeps none."""
        left, pools = units, []
        for number, drawn in reversed(hold.pools):
            back = min(drawn, left)
            left -= back
            pools.append((number, drawn - back))
        hold.pools = pools[::-1]
        if self.shrink_to is not None:
            [(tier, whole)] = self.pools
            self.pools = [(tier, whole - min(units, max(0, whole - self.shrink_to)))]

    def free(self, number: int) -> int:
        """Units of a pool that nobody has."""
        return self.pools[number][1] - sum(
            n for hold in self.holds if hold.live for pool, n in hold.pools if pool == number
        )

    def open_to(self, tier: str) -> list[int]:
        """The pools that a tier may draw from."""
        return [n for n, (lowest, _) in enumerate(self.pools) if lowest is None or RANKS[tier] >= RANKS[lowest]]

    def used(self, member: int, now: datetime) -> int:
        """What counts of the member's in the period of `now`."""
        mine = [one for one in self.holds if one.member == member and self.same_period(one.at, now)]
        return sum(one.counted_amount if self.by_amount else one.counted for one in mine)

    def same_period(self, at: datetime, now: datetime) -> bool:
        """Whether both count together."""
        if self.hours:
            return at > now - timedelta(hours=self.hours)
        then, today = at.astimezone(ZoneInfo(self.zone)).date(), now.astimezone(ZoneInfo(self.zone)).date()
        return {"DAY": then == today, "MONTH": (then.year, then.month) == (today.year, today.month), "EVER": True}[
            self.period
        ]

    def refusals(self, member: int, tier: str, units: int, amount: int, now: datetime) -> set[str]:
        """Why a claim gets a no."""
        self.settle(now)
        code = "VALUE_LIMIT_REACHED" if self.by_amount else "ALLOWANCE_EXHAUSTED"
        wanted = amount if self.by_amount else units
        over = self.used(member, now) + wanted > self.limit.get(tier, self.limit["otherwise"])
        short = sum(self.free(pool) for pool in self.open_to(tier)) < units
        return ({code} if over else set()) | ({"CAPACITY_EXHAUSTED"} if short else set())

    def claim(self, member: int, tier: str, units: int, amount: int, now: datetime) -> ModelHold:
        """A claim that nothing refuses."""
        left, pools = units, []
        for number in self.open_to(tier):
            drawn = min(left, self.free(number))
            left -= drawn
            pools.append((number, drawn))
        hold = ModelHold(member, units, amount, now, now + timedelta(seconds=self.hold_seconds), pools)
        hold.counted, hold.counted_amount = units, amount
        self.holds.append(hold)
        return hold

    def own(self, member: int, units: int, amount: int) -> bool:
        """Whether the member holds just this."""
        mine = [one for one in self.holds if one.member == member and one.state == "HELD"]
        return any((one.units, one.amount) == (units, amount) for one in mine)

    def confirm(self, hold: ModelHold, units: int, amount: int) -> None:
        """A part of what is held, or all of it."""
        self.give_back(hold, hold.units - units)
        hold.state, hold.left, hold.amount_left = "CONFIRMED", units, amount
        hold.counted, hold.counted_amount = units, amount

    def extend(self, hold: ModelHold, now: datetime) -> None:
        """As long again, from now."""
        hold.extensions += 1
        hold.expires = max(hold.expires, now + timedelta(seconds=self.hold_seconds))

    def reverse(self, hold: ModelHold, units: int, amount: int, *, burn: bool, returns: bool) -> None:
        """A part of what was confirmed; with the last units goes all of the amount."""
        amount = hold.amount_left if units == hold.left else amount
        hold.left, hold.amount_left = hold.left - units, hold.amount_left - amount
        if not burn:
            self.give_back(hold, units)
        if returns:
            hold.counted, hold.counted_amount = max(0, hold.counted - units), max(0, hold.counted_amount - amount)

    def resize(self, units: int, now: datetime, *, stop: bool) -> bool:
        """Another capacity of a perk with one pool; False when it can't be without stopping claims."""
        self.settle(now)
        [(tier, whole)] = self.pools
        taken = whole - self.free(0)
        if units == (whole if self.shrink_to is None else self.shrink_to):
            return True
        if units < taken and not stop:
            return False
        self.pools, self.shrink_to = ([(tier, taken)], units) if units < taken else ([(tier, units)], None)
        return True
