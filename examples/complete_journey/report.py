"""The result of a replay: what should not be in it, and all of it told for people."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from examples.complete_journey.attempts import Outcome, Purpose
from examples.complete_journey.journey import TIERS, Journey
from examples.complete_journey.proofs import Books, Logged
from schema.ids import REDEMPTION, read_id

NAMED_MAX = 10


@dataclass(frozen=True)
class Result:
    """Everything that the replay came to; times in seconds."""

    journey: Journey
    outcomes: list[Outcome]
    again: list[Outcome]
    books: Books
    broken: list[str]
    log: Logged
    imported_in: float
    replayed_in: float

    @property
    def uses(self) -> list[Outcome]:
        """What came of the uses in the data."""
        return [one for one in self.outcomes if one.attempt.purpose is Purpose.USE]

    @property
    def faults(self) -> list[str]:
        """What should not be, in words; empty is the good answer."""
        answered = {one.attempt: one.redemption for one in self.uses}
        listed = {read_id(REDEMPTION, one) for one in self.books.listed}
        found = {
            "were answered otherwise than asked just before": sum(one.surprising for one in self.outcomes),
            "had to be refused and were not, or for another reason": sum(not one.as_expected for one in self.outcomes),
            "got another answer when tried again": sum(answered[one.attempt] != one.redemption for one in self.again),
            "redemptions are known to one side only": len(self.books.differ_from(self.outcomes)),
            "redemptions are not in the log": len(listed - self.log.redemptions),
        }
        told = [f"{count} {fault}" for fault, count in found.items() if count]
        return [*told, *self.broken, *([self.log.fault] if self.log.fault else [])]


def told(result: Result) -> Iterator[str]:
    """The result for people, a line at a time."""
    yield from told_of_import(result.journey, result.imported_in)
    yield from told_of_replay(result)
    again = Counter(one.replayed for one in result.again)
    yield f"again       {len(result.again):,} with the same keys: {again[True]:,} replayed, {again[False]:,} refused"
    made = sum(one.redemption is not None for one in result.outcomes)
    yield f"books       {made:,} made, {len(result.books.listed):,} listed over the API"
    yield f"laws        {len(result.broken)} broken"
    yield f"log         {result.log.leaves:,} entries, {'verified' if result.log.fault is None else 'not sound'}"
    yield f"            perks audit verify {result.log.file} --key {result.log.verifier_key}"
    yield from (f"FAULT       {fault}" for fault in result.faults)


def told_of_import(journey: Journey, seconds: float) -> Iterator[str]:
    """What there is."""
    tiers = tiers_of(one.tier for one in journey.households.values())
    spent = sum(one.amount for one in journey.baskets)
    addressed = sum(len(one.addressed) for one in journey.campaigns.values())
    yield f"imported    {len(journey.households):,} members, {tiers}"
    yield f"            {len(journey.baskets):,} purchases of {spent // 100:,} dollars"
    yield f"            {len(journey.campaigns)} perks of {len(journey.partners)} partners ({seconds:.0f} s)"
    yield f"addressed   {addressed:,} pairs of member and perk; consents let in {pairs_let_in(journey):,}"


def told_of_replay(result: Result) -> Iterator[str]:
    """What came of every use, and of what was tried besides."""
    uses, days = result.uses, {one.attempt.day for one in result.uses}
    accepted = [one for one in uses if one.redemption]
    refused = [one for one in uses if not one.redemption]
    themselves = sum(result.journey.campaigns[one.attempt.campaign].personal for one in uses)
    surprises = sum(one.surprising for one in result.outcomes)
    yield f"replayed    {len(uses):,} uses on {len(days)} days ({result.replayed_in:.0f} s)"
    yield f"  claimed   {themselves:,} by members themselves, {len(uses) - themselves:,} by partners at the till"
    yield f"  accepted  {len(accepted):,}, {tiers_of(tier for _, tier in result.books.listed.values())}"
    yield f"  refused   {len(refused):,}{reasons(refused)}"
    yield from (f"            {one.attempt.key}" for one in refused[:NAMED_MAX])
    for purpose in (Purpose.EARLY, Purpose.LATE, Purpose.STRANGER):
        tried = [one for one in result.outcomes if one.attempt.purpose is purpose]
        yield f"tried       {len(tried):,} {purpose}{reasons(tried)}"
    yield f"asked       {len(result.outcomes):,} times before: {surprises} answers were otherwise after"


def tiers_of(tiers: Iterable[str]) -> str:
    """How many of each tier, from the highest."""
    counted = Counter(tiers)
    return ", ".join(f"{tier} {counted[tier]:,}" for tier in TIERS)


def reasons(outcomes: list[Outcome]) -> str:
    """The codes that refused, each with its count."""
    counted = Counter(code for one in outcomes for code in one.refusals)
    return "".join(f", {code} {count:,}" for code, count in sorted(counted.items()))


def pairs_let_in(journey: Journey) -> int:
    """Pairs of member and perk that the consents allow: a consent is for all perks of a partner."""
    perks = Counter(one.partner for one in journey.campaigns.values())
    return sum(perks[partner] for household in journey.households for partner in journey.consents(household))
