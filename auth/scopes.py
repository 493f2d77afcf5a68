"""The closed list of rights that a token can carry: `resource[.field]:action`, where write does not imply read."""

from collections.abc import Iterable, Mapping

from auth.caller import CallerKind
from partners import consents
from partners.errors import BadInput

SCOPES: Mapping[CallerKind, Mapping[str, str]] = {
    CallerKind.PARTNER: {
        "perks:read": "Read your own perks.",
        "perks:write": "Create, change, publish and pause your own perks.",
        "links:write": "Link a member who signs in to your account with your alias of them.",
        "consents:read": "Read which members consented, and to what.",
        "webhooks:manage": "Register, test and replay your own webhooks.",
        "devices:enrol": "Enrol points of sale.",
        "clients:manage": "Manage your own OAuth clients and what they were approved for.",
        "member.tier:read": "Read the tier of a member who consented.",
        "member.tier.history:read": "Read the past tiers of a member who consented.",
        "eligibility:read": "Ask whether a member who consented may have a perk of yours.",
        "holds:write": "Claim your perks for a member who consented, and release holds.",
        "redemptions:read": "Read redemptions of your own perks.",
        "redemptions:write": "Confirm holds of your own perks, which redeems them.",
        "redemptions:reverse": "Reverse redemptions of your own perks.",
        "member.address:read": "Read the address that a member who consented gave for a delivery of yours.",
    },
    CallerKind.MEMBER: {
        "me:read": "Read your own membership, perks and redemptions.",
        "me:claim": "Claim perks for yourself and release your holds.",
        "me:consents": "See, give and withdraw what partners may know of you.",
    },
    CallerKind.STAFF: {
        "audit:read": "Read the audit log, redemptions and disclosures of all partners.",
        "programme:admin": "Change tiers, indicators and terms, and assign tiers.",
        "partners:admin": "On-board, change and suspend partners, their clients and perks.",
        "members:admin": "Enrol, change and suspend members.",
        "consents:admin": "Record and withdraw consents on behalf of members.",
    },
}
"""Each kind of caller, the scopes it may hold, and the sentence that a consent page or a manual shows for each."""


MEMBER_BOUND = frozenset(consents.SCOPES)
"""Scopes of a partner that reach one member's data or act for one: they need that member's live consent."""


def scopes_of(kind: CallerKind) -> frozenset[str]:
    """Every scope that a caller of this kind may hold; none for an anonymous one."""
    return frozenset(SCOPES.get(kind, ()))


def scopes_of_people(kind: CallerKind) -> frozenset[str]:
    """Every scope that a person of this kind may have: at a partner, what needs no member's leave."""
    return scopes_of(kind) - MEMBER_BOUND


def split_scopes(text: str) -> frozenset[str]:
    """The names in a `scope` parameter or claim: space-separated, order and repetition without meaning
    (RFC 6749 section 3.3). They are not checked against the list."""
    return frozenset(text.split())


def join_scopes(names: Iterable[str]) -> str:
    """The reverse of `split_scopes`, sorted so that equal sets give equal texts."""
    return " ".join(sorted(names))


def require_scopes_of(kind: CallerKind, names: Iterable[str]) -> frozenset[str]:
    """The names as a set; BadInput names every one that is not on the list for this kind of caller."""
    asked = frozenset(names)
    if unknown := sorted(asked - scopes_of(kind)):
        raise BadInput(f"unknown scopes for a {kind}: {', '.join(unknown)}", unknownScopes=unknown)
    return asked
