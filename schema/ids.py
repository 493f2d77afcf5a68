"""Global ids: the kind of thing and which one. Clients keep them as they are and never take them apart."""

from uuid import UUID

from partners.errors import BadInput

PERK, PARTNER, HOLD, REDEMPTION, REVERSAL, MEMBER, ALIAS, CONSENT, ENTRY, APPROVAL, TRANSFER, SERVICE, REVIEW, WAIT = (
    "perk",
    "partner",
    "hold",
    "redemption",
    "reversal",
    "member",
    "alias",
    "consent",
    "entry",
    "approval",
    "transfer",
    "service",
    "review",
    "wait",
)
ACCESS = "access"
EXPORT = "export"
ENDPOINT, SECRET, EVENT, DELIVERY = "endpoint", "secret", "evt", "delivery"


def show_id(kind: str, id: UUID) -> str:
    """The global id of a row, as `perk_0198…`."""
    return f"{kind}_{id.hex}"


def read_id(kind: str, text: str) -> UUID:
    """The row that a global id of this kind names; BadInput for anything else."""
    found = split_id(text)
    if found is None or found[0] != kind:
        raise BadInput(f"not the id of a {kind}")
    return found[1]


def split_id(text: str) -> tuple[str, UUID] | None:
    """Kind and row of a global id; None when it can't be one."""
    kind, _, name = text.partition("_")
    if len(name) != 32 or not name.isascii() or not name.isalnum() or name != name.lower():
        return None
    try:
        return kind, UUID(hex=name)
    except ValueError:
        return None


def optional_id(kind: str, text: str | None) -> UUID | None:
    """The row of an id that may be left out."""
    return None if text is None else read_id(kind, text)
