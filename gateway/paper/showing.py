"""How numbers, amounts and times are written on paper, and templates become pages that stand alone."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gateway.paper.charts import columns, share
from partners.currencies import minor_digits

FOLDER = Path(__file__).parent
NO_BREAK = "\N{NO-BREAK SPACE}"
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
UNITS = ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", SECOND, "s"))


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A whole page; a name that is not given to it is an error."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.filters.update(number=number, money=money, wait=wait, percent=percent)
    # Ours alone, and nothing in it ends the element it stands in.
    styles = Markup((FOLDER / "paper.css").read_text(encoding="utf-8"))  # noqa: S704
    templates.globals.update(styles=styles, columns=columns, share=share)
    return templates.get_template(template).render(values)


def number(count: int) -> str:
    """With commas between thousands, and a real minus."""
    return f"{count:,}".replace("-", "−")


def money(minor: int, currency: str | None) -> str:
    """An amount with its currency; in minor units where that is not known, nothing where none is counted."""
    if currency is None:
        return f"{number(minor)}{NO_BREAK}minor units" if minor else "–"
    digits = minor_digits(currency)
    whole, rest = divmod(abs(minor), 10**digits)
    return f"{'−' if minor < 0 else ''}{whole:,}{f'.{rest:0{digits}}' if digits else ''}{NO_BREAK}{currency}"


def wait(milliseconds: int | None) -> str:
    """A time that passed, in the two units that matter."""
    if milliseconds is None:
        return "–"
    if milliseconds < SECOND:
        return f"{milliseconds}{NO_BREAK}ms"
    if milliseconds < MINUTE:
        return f"{milliseconds / SECOND:.1f}{NO_BREAK}s"
    for unit, name, part, part_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", SECOND, "s"),
    ):
        if milliseconds >= unit:
            whole, rest = divmod(milliseconds, unit)
            told = f"{whole} {name} {rest // part} {part_name}" if rest >= part else f"{whole} {name}"
            return told.replace(" ", NO_BREAK)
    raise AssertionError


def percent(part: int, whole: int) -> str:
    """A share in per cent, never rounded to all or nothing when it is not."""
    if not whole:
        return "–"
    tenths = round(1000 * part / whole)
    if part not in (0, whole):
        tenths = min(max(tenths, 1), 999)
    return f"{tenths / 10:g}{NO_BREAK}%"


def moment(at: datetime) -> str:
    """A time with its offset from UTC, to the minute."""
    return f"{at:%Y-%m-%d %H:%M} ({at:%Z}, UTC{at:%z})"


def as_uuid(text: str) -> str:
    """An id as leaves write it, from that or from a global id as `partner_0198…`; ValueError."""
    return str(UUID(text.rpartition("_")[2]))
