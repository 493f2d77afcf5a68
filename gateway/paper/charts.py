"""Charts as SVG inside a page, in the colours of its style sheet, always beside a table that says the same."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, LEFT, BELOW = 720, 210, 52, 24
LABELS, LABEL_WIDTH = 8, 64


def columns(labels: Sequence[str], up: Sequence[int], down: Sequence[int], title: str) -> Markup:
    """Two rows of columns, one upwards and one downwards from the same line, with few labels below."""
    top, depth = max(up, default=0), max(down, default=0)
    whole = max(1, top + depth)
    room = HEIGHT - BELOW - 16
    zero = 8 + room * top / whole
    step = (WIDTH - LEFT) / max(1, len(labels))
    gap = min(3.0, step / 4)
    parts = [axis(zero, top, depth, room / whole)]
    for place, (more, less) in enumerate(zip(up, down, strict=True)):
        x = LEFT + place * step + gap / 2
        for name, count, y in (("up", more, zero - more * room / whole), ("down", less, zero)):
            if count:
                parts.append(
                    Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                        name, x, y, max(1.0, min(step - gap, 48)), max(1.0, count * room / whole)
                    )
                )
    every = max(1, -(-len(labels) // LABELS))
    for place in range(0, len(labels), every):
        x = LEFT + place * step
        if place == 0 or x + LABEL_WIDTH <= WIDTH:
            parts.append(Markup('<text x="{:.1f}" y="{}">{}</text>').format(x, HEIGHT - 6, labels[place]))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


def axis(zero: float, top: int, depth: int, scale: float) -> Markup:
    """The line at nothing, and what the highest and the lowest column come to."""
    parts = [Markup('<line x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(LEFT, WIDTH, y=zero)]
    for count, y in ((top, zero - top * scale), (0, zero), (depth, zero + depth * scale)):
        if count or y == zero:
            parts.append(Markup('<text class="end" x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, y + 4, f"{count:,}"))
    return Markup("").join(parts)


def share(part: int, whole: int) -> Markup:
    """A bar beside a number that is part of a whole; the number says it, so nobody has to see the bar."""
    width = 100 * part / whole if whole else 0
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="rest" width="100" height="10"/><rect class="up" width="{:.1f}" height="10"/></svg>'
    ).format(width)
