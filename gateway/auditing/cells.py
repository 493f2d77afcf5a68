"""What stands in a cell of somebody else's list: ids, whole numbers, money and times, or in words why it can't be."""

import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from uuid import UUID
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MICROSECONDS = 86_400_000_000
THOUSANDS = "'’ \u00a0\u202f"
NUMBER = re.compile(r"([+-]?)(\d[\d.,'’ \u00a0\u202f]*)")
DATE = re.compile(r"(\d{4})[-/](\d\d?)[-/](\d\d?)|(\d\d?)([./-])(\d\d?)\5(\d{4})")
TIME = re.compile(
    r"(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?([AaPp])\.?[Mm]\.?)? ?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
)
DIGITS_MAX = 18


class CellWrong(Exception):
    """What is wrong with a cell."""


def redemption_of(text: str) -> bytes:
    """A redemption's id, 16 bytes, as the API writes it (`redemption_…`) or as a UUID."""
    try:
        return UUID(text.strip().removeprefix("redemption_")).bytes
    except ValueError:
        raise CellWrong("not the id of a redemption, as redemption_ and 32 digits, or a UUID") from None


def perk_of(text: str) -> bytes:
    """A perk's id, 16 bytes."""
    try:
        return UUID(text.strip().removeprefix("perk_")).bytes
    except ValueError:
        raise CellWrong("not the id of a perk, as perk_ and 32 digits, or a UUID") from None


def leaf_hash_of(text: str) -> bytes:
    """A leaf hash, 32 bytes, in hexadecimal or base 64."""
    text = text.strip()
    try:
        raw = bytes.fromhex(text) if len(text) == 64 else b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise CellWrong("not a leaf hash: 32 bytes in hexadecimal or base 64")
    return raw


class CellUnclear(CellWrong):
    """What an option has to tell before the list can be read at all."""


@dataclass(slots=True)
class Numbers:
    """How numbers are written: `mark` is what parts decimals, "." or ",", learnt from the first number that tells."""

    mark: str | None = None

    def read(self, text: str, decimals: int) -> int:
        """A number as so many hundredths, thousandths, …: with 2 decimals 12.5 is 1250. CellWrong."""
        parts = NUMBER.fullmatch(text.strip())
        if parts is None:
            raise CellWrong("not a number")
        whole, fraction = self._parted(parts[2])
        fraction = fraction.rstrip("0")
        if len(fraction) > decimals:
            hint = "; where amounts are not in minor units, say --decimals 2" if not decimals else ""
            raise CellWrong(f"more than {decimals} decimals{hint}" if decimals else f"not a whole number{hint}")
        digits = whole + fraction.ljust(decimals, "0")
        if len(digits) > DIGITS_MAX:
            raise CellWrong(f"more than {DIGITS_MAX} digits")
        return int(parts[1] + digits)

    def _parted(self, text: str) -> tuple[str, str]:
        """Digits before and behind the decimal mark."""
        marks = [sign for sign in text if sign in ".,"]
        mark = self.mark
        if marks and mark is None:
            mark = self._told_by(text, marks)
        if marks and mark in marks and marks.count(mark) == 1 and marks[-1] == mark:
            self.mark = mark
            whole, _, fraction = text.partition(mark)
        elif mark in marks:
            raise CellWrong(f"{mark!r} parts decimals and stands at a wrong place")
        else:
            whole, fraction = text, ""
        groups = re.split(f"[.,{THOUSANDS}]", whole)
        if (len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(one) != 3 for one in groups[1:]))) or (
            not fraction.isdigit() and fraction
        ):
            raise CellWrong("its digits are not in threes" + (f", and {mark!r} parts decimals" if mark else ""))
        return "".join(groups), fraction

    @staticmethod
    def _told_by(text: str, marks: list[str]) -> str | None:
        """The decimal mark, as one number shows it; None when it has none."""
        if len(set(marks)) == 2:
            return marks[-1]
        if len(marks) > 1:
            return "," if marks[0] == "." else "."
        before, _, after = text.partition(marks[0])
        if len(after) == 3 and before.lstrip("0"):
            raise CellUnclear(f"{marks[0]!r} parts thousands here, or decimals: say --decimal-mark")
        return marks[0]


Spans = tuple[tuple[int, int], ...]
"""When a cell may mean, each from the first until before the second, in microseconds since 1970. Two when a clock was
set back."""


@dataclass(slots=True)
class Times:
    """How times are written: `order` of day and month where slashes part them, `zone` of those without an offset."""

    zone: ZoneInfo | None = None
    order: str | None = None
    _offsets: tuple[bool, int] | None = None

    def read(self, text: str, line: int) -> Spans:
        """The moment, as exactly as it is written: a day, a minute, a second or less. CellWrong."""
        day_text, *time_text = re.split("[Tt ]+", text.strip(), maxsplit=1)
        day = self._day(day_text)
        if not time_text:
            self._be_of_one_kind(False, line)
            return ((self._local(datetime.combine(day, time()))[0], self._next_day(day)),)
        parts = TIME.fullmatch(time_text[0])
        if parts is None:
            raise CellWrong("not a time, as 2026-05-31 18:00 or 2026-05-31T18:00:00Z; of zones it tells offsets only")
        moment, width = clock(day, parts)
        self._be_of_one_kind(parts[6] is not None, line)
        if parts[6] is not None:
            starts = [microseconds(moment.replace(tzinfo=offset_of(parts[6])))]
        else:
            starts = self._local(moment)
        return tuple((start, start + width) for start in starts)

    def _day(self, text: str) -> date:
        parts = DATE.fullmatch(text)
        if parts is None:
            raise CellWrong("not a date, as 2026-05-31 or 31.05.2026")
        year, month, day = parts[1], parts[2], parts[3]
        if parts[4]:
            order = "dmy" if parts[5] == "." else self.order
            if order is None:
                raise CellUnclear("which is the day, and which the month? Say --dates dmy or mdy")
            year, (day, month) = parts[7], (parts[4], parts[6]) if order == "dmy" else (parts[6], parts[4])
        try:
            return date(int(year), int(month), int(day))
        except ValueError:
            raise CellWrong("no day of the calendar") from None

    def _be_of_one_kind(self, offset: bool, line: int) -> None:
        """All times of a list tell their offset, or none does: else it was put together of two."""
        if self._offsets is None:
            self._offsets = (offset, line)
        elif self._offsets[0] != offset:
            has, had = ("an offset", "none") if offset else ("no offset", "one")
            raise CellWrong(f"it has {has}, and line {self._offsets[1]} has {had}: times of two kinds in one list")
        if not offset and self.zone is None:
            raise CellUnclear("a time of which zone? Say --zone, as Europe/Zurich")

    def _local(self, moment: datetime) -> list[int]:
        """The instants at which clocks of the zone show it; CellWrong when none does."""
        assert self.zone is not None
        both = {microseconds(moment.replace(tzinfo=self.zone, fold=fold)) for fold in (0, 1)}
        try:
            real = sorted(one for one in both if at(one).astimezone(self.zone).replace(tzinfo=None) == moment)
        except OverflowError:  # elsewhere it is the day before the first, or after the last
            raise CellWrong("no day of the calendar") from None
        if not real and moment.time() == time():
            return [max(both)]  # a day that begins at one o'clock
        if not real:
            raise CellWrong(f"clocks in {self.zone} never showed it: they were set forward")
        return real

    def _next_day(self, day: date) -> int:
        if day == date.max:
            raise CellWrong("no day of the calendar")
        return self._local(datetime.combine(day + timedelta(days=1), time()))[0]


def clock(day: date, parts: "re.Match[str]") -> tuple[datetime, int]:
    """A date with a time of day, and how many microseconds wide what is written is."""
    hour = int(parts[1])
    if parts[5]:
        if not 1 <= hour <= 12:
            raise CellWrong("no time of day")
        hour = hour % 12 + (12 if parts[5] in "Pp" else 0)
    fraction = parts[4] or ""
    try:
        moment = datetime.combine(day, time(hour, int(parts[2]), int(parts[3] or 0), int(fraction[:6].ljust(6, "0"))))
    except ValueError:
        raise CellWrong("no time of day") from None
    return moment, 10 ** max(0, 6 - len(fraction)) if parts[3] else 60_000_000


def offset_of(text: str) -> timezone:
    """A zone as `Z`, `+02:00`, `+0200` or `+02`."""
    if text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if minutes >= 24 * 60:
        raise CellWrong("no offset from UTC")
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def at(instant: int) -> datetime:
    """The instant of so many microseconds since 1970, in UTC."""
    return EPOCH + timedelta(microseconds=instant)
