"""Bespoke requests over the API: a perk with one member who may ask for it, and short ways to take steps."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from partners import tables
from partners.tables import PerkKind
from schema.scalars import show_moment
from tests.api import Api, Voice
from tests.factories import Club

FORM = {
    "type": "object",
    "properties": {
        "guests": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/guest"}},
        "day": {"type": "string", "format": "date"},
    },
    "required": ["guests", "day"],
    "additionalProperties": False,
    "$defs": {"guest": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}}},
}
GOOD = {"guests": [{"name": "Ada"}], "day": "2026-12-24"}
REQUEST = """id state revision form automatic owner amount { amountMinor currencyCode }
    quote { terms amount { amountMinor } } member { alias } perk { handle } scheduledFor
    clocks { answerDueAt answeredAt answerBreached solvedAt waitingForMember }
    redemption { id amountMinor fulfilment reversedUnits }
    messages { totalCount nodes { author text files { name } } }"""
STEP = "serviceRequest { " + REQUEST + " } userErrors { code message path }"
SUBMIT = (
    "mutation($input: SubmitServiceRequestInput!) { submitServiceRequest(input: $input) { replayed " + STEP + " } }"
)
READ = "query($id: ID!) { serviceRequest(id: $id) { " + REQUEST + " } }"
LIST = "query($filter: ServiceRequestFilter) { serviceRequests(filter: $filter) { totalCount nodes { id state } } }"


@dataclass
class Counter:
    """A perk with one member who may ask for it."""

    club: Club
    api: Api
    perk: tables.Perk
    partner: tables.Partner
    member: tables.Member
    alias: str

    @property
    def me(self) -> Voice:
        return self.api.member(self.member)

    @property
    def brand(self) -> Voice:
        return self.api.partner(self.partner)

    async def submit(self, form: Any = GOOD, amount: int = 0, by: Voice | None = None, **more: Any) -> dict[str, Any]:
        new = {"perk": {"id": f"perk_{self.perk.id.hex}"}, "form": form, "amountMinor": amount}
        new |= {"idempotencyKey": uuid4().hex} | more
        answer = await (by or self.me)(SUBMIT, input={"new": new})
        return dict(answer.data["submitServiceRequest"])


async def step(voice: Voice, name: str, kind: str, request: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One step at the revision that the request shows."""
    query = f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {STEP} }} }}"
    answer = await voice(query, input={"request": request["id"], "revision": request["revision"]} | more)
    return dict(answer.data[name])


async def opened(club: Club, api: Api, tier: str = "gold", **settings: Any) -> Counter:
    rules = settings.pop("rules", ())
    perk = await club.perk(kind=PerkKind.SERVICE, currency="CHF", settings={"form": FORM} | settings, rules=rules)
    partner = club.partners[perk.partner_id]
    member = await club.member(tier=tier)
    return Counter(club, api, perk, partner, member, await club.consent(member, partner))


async def quoted(counter: Counter, request: dict[str, Any], amount: int = 5_000) -> dict[str, Any]:
    answer = await step(
        counter.brand,
        "quoteServiceRequest",
        "QuoteServiceRequestInput",
        request,
        amountMinor=amount,
        terms="All in.",
        validUntil=show_moment(counter.club.now + timedelta(days=2)),
    )
    assert answer["userErrors"] == []
    return dict(answer["serviceRequest"])
