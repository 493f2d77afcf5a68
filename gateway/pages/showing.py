"""How a page becomes an answer: templates that escape everything, and headers that let nothing else in."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

FOLDER = Path(__file__).parent
STYLES = (FOLDER / "perks.css").read_bytes()
STYLES_PATH = f"/assets/{sha256(STYLES).hexdigest()[:16]}.css"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SCHEME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+.-")

Renderer = Callable[[str, Mapping[str, Any]], str]


def renderer(club: str, time_zone: str) -> Renderer:
    """Renders a template of ours; a name that is not given to it is an error."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    zone = ZoneInfo(time_zone)
    templates.globals.update(club=club, styles=STYLES_PATH)
    templates.filters.update(day=lambda at: shown(at, zone, ""), moment=lambda at: shown(at, zone, ", %H:%M"))
    return lambda name, values: templates.get_template(name).render(values)


def shown(at: datetime, zone: ZoneInfo, more: str) -> Markup:
    """A date for people, in the club's time zone, and the exact time for machines."""
    local = at.astimezone(zone)
    text = f"{local.day} {local.strftime('%B %Y' + more)}"
    return Markup('<time datetime="{}">{}</time>').format(local.isoformat(timespec="seconds"), text)


def page(html: str, status: int = 200, *, form_targets: Iterable[str] = ()) -> Response:
    """The page. `form_targets` are addresses that its forms lead to in the end: browsers hold every redirect that
    follows a form to `form-action`."""
    sources = " ".join(["'self'", *sorted({source for target in form_targets if (source := source_of(target))})])
    policy = (
        f"default-src 'none'; style-src 'self'; img-src data:; form-action {sources}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(html, status, headers=HEADERS | {"Content-Security-Policy": policy})


def source_of(address: str) -> str | None:
    """The scheme of an address as a source of a policy (CSP 3 section 2.3.1), or None.

    The host would not do: apps lead on from their callback to hosts of their own choice, which browsers hold to the
    policy as well, and a policy can't name an IPv6 address.
    """
    scheme = urlsplit(address).scheme.lower()
    return f"{scheme}:" if scheme and _SCHEME.issuperset(scheme) else None


def leading_to(address: str) -> Response:
    """303: whatever was posted here is not posted again there (RFC 9700 section 4.12)."""
    return RedirectResponse(address, 303, headers=HEADERS)


def stylesheet() -> Response:
    """The one file beside the pages; its name changes with its content."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(STYLES, media_type="text/css", headers=headers)
