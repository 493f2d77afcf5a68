"""What every rule is: settings that are checked, an answer about facts, and words for people."""

from abc import abstractmethod
from datetime import datetime, timedelta
from inspect import cleandoc
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from partners.facts import Facts, Refusal, start_of_day


class RuleModel(BaseModel):
    """A rule's settings, as a partner writes them; the class's docstring is its description in the rule catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def description(cls) -> str:
        """The kind in a sentence or two."""
        return " ".join(cleandoc(cls.__doc__ or "").split("\n\n")[0].split())

    @property
    def of_claim(self) -> bool:
        """Whether it asks what a claim says (a place, a device) rather than who claims: dry runs leave it out."""
        return False

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What this rule asks for, for people."""

    @abstractmethod
    def refusal(self, facts: Facts) -> Refusal | None:
        """Why this rule refuses, or None. `eligible_again_at` is the first instant at which this rule alone would
        agree if nothing but time passed; None when it never would."""

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """The next instants at which the answer of this rule may change with no event but time."""
        return ()

    def tiers(self) -> tuple[str, ...]:
        """The tiers it names, which the programme must have."""
        return ()

    def needs(self) -> tuple[str, ...]:
        """The facts that are read only for rules that need them: `claims`, `exclusions`."""
        return ()


def days_full(since: datetime, days: int, zone: str) -> datetime:
    """The start of the day in a zone on which so many calendar days have passed since an instant."""
    first = since.astimezone(ZoneInfo(zone)).date()
    return start_of_day(first + timedelta(days=days), zone)
