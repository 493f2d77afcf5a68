"""What is tried through the API, and what came of it: every use in the data, and beside them what must be refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import groupby
from zoneinfo import ZoneInfo

from examples.complete_journey.club import Club, Voice, abreast
from examples.complete_journey.files import TIME_ZONE, external_id
from examples.complete_journey.journey import Campaign, Journey

ASK = """query ($perk: String!, $member: MemberBy) {
  eligibility(perk: {handle: $perk}, member: $member) { eligible }
}"""
CLAIM = """mutation ($perk: String!, $member: MemberBy, $key: String!) {
  claimPerk(input: {perk: {handle: $perk}, member: $member, idempotencyKey: $key}) {
    hold { code } replayed userErrors { code }
  }
}"""
CONFIRM = """mutation ($code: String!, $key: String!) {
  confirmHold(input: {hold: {code: $code}, idempotencyKey: $key}) { redemption { id } replayed userErrors { code } }
}"""
MOVE = """mutation ($perk: String!, $opensOn: Date!, $closesOn: Date!) {
  updatePerk(input: {perk: {handle: $perk}, opensOn: $opensOn, closesOn: $closesOn}) { perk { opensOn } }
}"""


class Purpose(StrEnum):
    """Why it is tried: because it happened, or to see it refused."""

    USE = "use"
    EARLY = "on the day before it opens"
    LATE = "on the day after it closes"
    STRANGER = "by a household without consent"


EXPECTED = {Purpose.EARLY: "NOT_STARTED", Purpose.LATE: "ENDED", Purpose.STRANGER: "CONSENT_MISSING"}


@dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """A household wants a perk on a day of the data; `coupon` is 0 for what never happened."""

    day: date
    household: int
    campaign: int
    coupon: int
    purpose: Purpose

    @property
    def key(self) -> str:
        """What idempotency keys are made of: the row alone, so that it is used once however often this runs."""
        return f"{self.purpose.name}-{self.campaign}-{self.household}-{self.coupon}-{self.day}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: a redemption, new or replayed, or every code that refused; `asked` is what a question
    just before had answered, None where nobody asked."""

    attempt: Attempt
    redemption: str | None
    replayed: bool
    refusals: tuple[str, ...]
    asked: bool | None

    @property
    def surprising(self) -> bool:
        """Eligible and then refused, or the reverse."""
        return self.asked is not None and not self.replayed and self.asked != (self.redemption is not None)

    @property
    def as_expected(self) -> bool:
        """An attempt that had to be refused was refused for just its reason."""
        return self.attempt.purpose is Purpose.USE or self.refusals == (EXPECTED[self.attempt.purpose],)


def attempts_of(journey: Journey) -> list[Attempt]:
    """Every use, and for each campaign one attempt too early, one too late and one by a stranger, in order of days."""
    attempts = [Attempt(use.day, use.household, use.campaign, use.coupon, Purpose.USE) for use in journey.uses]
    for campaign in journey.campaigns.values():
        day = timedelta(days=1)
        strangers = [one for one in journey.households if campaign.partner not in journey.consents(one)]
        attempts += [
            Attempt(when, min(households), campaign.id, 0, purpose)
            for purpose, when, households in (
                (Purpose.EARLY, campaign.opens_on - day, campaign.addressed),
                (Purpose.LATE, campaign.closes_on + day, campaign.addressed),
                (Purpose.STRANGER, campaign.opens_on, strangers),
            )
            if households
        ]
    return sorted(attempts)


async def replay(club: Club, journey: Journey, attempts: Iterable[Attempt]) -> list[Outcome]:
    """Day by day, each household's one after the other and the households of a day side by side.

    The service's clock is the real one, so it is the calendar that moves: before each day, the window of every
    campaign that is wanted is set around today just as it lay around that day.
    """
    outcomes: list[Outcome] = []
    for day, wanted in groupby(attempts, key=lambda one: one.day):
        todays = list(wanted)
        await move_windows(club, {journey.campaigns[one.campaign] for one in todays}, day)
        outcomes += await try_all(club, journey, todays, asking=True)
    return outcomes


async def replay_again(club: Club, journey: Journey, attempts: Iterable[Attempt]) -> list[Outcome]:
    """The same requests with the same keys, wherever the windows are by now."""
    return await try_all(club, journey, sorted(attempts, key=lambda one: one.household), asking=False)


async def move_windows(club: Club, campaigns: Iterable[Campaign], day: date) -> None:
    """Sets the windows as if `day` were today; their lengths stay."""

    async def move(campaign: Campaign) -> None:
        shift = club.service.clock().astimezone(ZoneInfo(TIME_ZONE)).date() - day
        opens_on, closes_on = campaign.opens_on + shift, campaign.closes_on + shift
        partner = club.partners[campaign.partner]
        await partner(MOVE, perk=campaign.perk, opensOn=opens_on.isoformat(), closesOn=closes_on.isoformat())

    await abreast(move, campaigns)


async def try_all(club: Club, journey: Journey, attempts: list[Attempt], *, asking: bool) -> list[Outcome]:
    """Attempts that are sorted by household, each household's in turn."""

    async def try_own(own: list[Attempt]) -> list[Outcome]:
        return [await try_one(club, journey.campaigns[one.campaign], one, asking=asking) for one in own]

    households = [list(own) for _, own in groupby(attempts, key=lambda one: one.household)]
    return [outcome for own in await abreast(try_own, households) for outcome in own]


async def try_one(club: Club, campaign: Campaign, attempt: Attempt, *, asking: bool) -> Outcome:
    """Ask, claim, and let the partner confirm by the code of the hold."""
    voice, member = claimant(club, campaign, attempt)
    asked = (await voice(ASK, perk=campaign.perk, member=member))["eligibility"]["eligible"] if asking else None
    claimed = (await voice(CLAIM, perk=campaign.perk, member=member, key=f"claim-{attempt.key}"))["claimPerk"]
    if claimed["hold"] is None:
        return Outcome(attempt, None, False, codes(claimed["userErrors"]), asked)
    partner = club.partners[campaign.partner]
    confirmed = (await partner(CONFIRM, code=claimed["hold"]["code"], key=f"confirm-{attempt.key}"))["confirmHold"]
    redemption = confirmed["redemption"] and confirmed["redemption"]["id"]
    return Outcome(attempt, redemption, confirmed["replayed"], codes(confirmed["userErrors"]), asked)


def claimant(club: Club, campaign: Campaign, attempt: Attempt) -> tuple[Voice, dict[str, str] | None]:
    """Who claims. A household claims its own coupons itself; those that everybody got are claimed by the partner at the
    till, for the alias that it knows. It has none for a stranger, who can only claim for itself."""
    alias = club.aliases.get((campaign.partner, external_id(attempt.household)))
    if campaign.personal or alias is None:
        return club.member(attempt.household), None
    return club.partners[campaign.partner], {"alias": alias}


def codes(errors: list[dict[str, str]]) -> tuple[str, ...]:
    """The codes of the user errors."""
    return tuple(error["code"] for error in errors)
