"""The tables of docs/webhooks.md as the code has them."""

from datetime import timedelta

from partners.webhooks.events import EVENTS, UNTOLD, When
from partners.webhooks.schedule import tried_at

TOLD = {
    When.AT_ONCE: "at once",
    When.OWN: "at once if you did it, else staggered",
    When.BY_HAND: "at once if you or the member did it, else staggered",
    When.STAGGERED: "staggered",
}


def catalogue() -> str:
    """One line for each event."""
    return "".join(
        f"| `{event.type}` | {f'`{event.about}`' if event.about else ''} |"
        f" {TOLD[event.when]}{''.join(f'; at once if {reason}' for reason in event.exactly)} | {event.sentence} |\n"
        for event in EVENTS.values()
    )


def untold() -> str:
    """One line for each action of which nobody is told."""
    lines = "".join(f"| `{action}` | {why} |\n" for action, why in UNTOLD.items())
    return f"| action | why not |\n|---|---|\n{lines}"


def attempts() -> str:
    """When each attempt is made after the first, without jitter."""
    moments = tried_at()
    numbers = "|".join(f" {place} " for place in range(1, len(moments) + 1))
    waits = "|".join(f" {spoken(one)} " for one in moments)
    return f"| attempt |{numbers}|\n|---|{'---|' * len(moments)}\n| after |{waits}|\n"


def spoken(moment: timedelta) -> str:
    """In the largest unit that fits."""
    seconds = int(moment.total_seconds())
    for size, unit in ((3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0"
