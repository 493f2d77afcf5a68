"""Where something is sent to: checked when it is given, and sealed as long as it is kept."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from uuid import UUID

import orjson

from partners.errors import BadInput
from partners.sealing import open_sealed, seal
from partners.values import value

LENGTHS_MAX = {"name": 100, "postalCode": 20, "city": 100, "region": 100, "phone": 30}
LINES_MAX = 4
LINE_LENGTH_MAX = 100
COUNTRY = re.compile(r"[A-Z]{2}")
OPTIONAL = ("region", "phone")


@value
class Address:
    """A postal address, of 1 to 4 lines; `country_code` is ISO 3166-1 alpha-2."""

    name: str
    lines: tuple[str, ...]
    postal_code: str
    city: str
    country_code: str
    region: str | None = None
    phone: str | None = None


def checked_address(address: Address) -> Address:
    """The address without white space around its parts; BadInput names every fault by its path and repeats nothing of
    what was written."""
    if faults := list(faults_of(address)):
        raise BadInput("; ".join(faults), faults=faults)
    return Address(
        address.name.strip(),
        tuple(line.strip() for line in address.lines),
        address.postal_code.strip(),
        address.city.strip(),
        address.country_code,
        address.region and address.region.strip(),
        address.phone and address.phone.strip(),
    )


def faults_of(address: Address) -> Iterator[str]:
    """What can't be."""
    texts = {"name": address.name, "postalCode": address.postal_code, "city": address.city}
    for path, text in (texts | {"region": address.region, "phone": address.phone}).items():
        if not (text is None and path in OPTIONAL) and not fits(text, LENGTHS_MAX[path]):
            yield f"address.{path}: 1 to {LENGTHS_MAX[path]} printable characters"
    if not 1 <= len(address.lines) <= LINES_MAX:
        yield f"address.lines: 1 to {LINES_MAX}"
    for place, line in enumerate(address.lines[:LINES_MAX]):
        if not fits(line, LINE_LENGTH_MAX):
            yield f"address.lines.{place}: 1 to {LINE_LENGTH_MAX} printable characters"
    if not COUNTRY.fullmatch(address.country_code):
        yield "address.countryCode: an ISO 3166-1 code of two capital letters, as CH"


def fits(text: str | None, most: int) -> bool:
    """Whether it says something, in so many characters at most, all of them printable."""
    return text is not None and 1 <= len(text.strip()) <= most and text.strip().isprintable()


def seal_address(key: bytes, redemption_id: UUID, address: Address) -> bytes:
    """What the database keeps; it opens for this redemption alone."""
    return seal(key, orjson.dumps(asdict(address)), context_of(redemption_id))


def open_address(key: bytes, redemption_id: UUID, sealed: bytes) -> Address:
    """The address that was sealed for this redemption; Unsealable for any other."""
    parts = orjson.loads(open_sealed(key, sealed, context_of(redemption_id)))
    return Address(**parts | {"lines": tuple(parts["lines"])})


def context_of(redemption_id: UUID) -> bytes:
    """Where the sealed text belongs."""
    return b"fulfilment.address/" + redemption_id.bytes
