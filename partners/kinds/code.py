"""CODE: A code of the partner's own, one for each redemption."""

from collections.abc import Iterator
from enum import StrEnum
from string import ascii_letters, digits, punctuation
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from partners.kinds.shape import Kind

LENGTH_MAX = 200
PRINTABLE = frozenset(ascii_letters + digits + punctuation + " ")
Length = Annotated[int, Field(ge=1, le=LENGTH_MAX, strict=True)]


class WhenEmpty(StrEnum):
    """What happens once every code is given out: claims are refused, the perk pauses, or members can wait."""

    REFUSE = "REFUSE"
    PAUSE = "PAUSE"
    WAITLIST = "WAITLIST"


class CodeFormat(BaseModel):
    """What codes look like, so that a file of something else is noticed; `characters` null: any of printable ASCII."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    characters: Annotated[str, StringConstraints(min_length=1, max_length=LENGTH_MAX)] | None = None
    length_min: Length = 1
    length_max: Length = LENGTH_MAX

    @field_validator("characters")
    @classmethod
    def can_be_told_apart(cls, characters: str | None) -> str | None:
        """Spaces at the ends of a line are not part of a code, and what is not printed can't be read out."""
        if characters is not None and (not characters.isprintable() or not characters.strip()):
            raise ValueError("printable characters, and not the space alone")
        return characters

    @model_validator(mode="after")
    def is_not_empty(self) -> "CodeFormat":
        """Some length is allowed."""
        if self.length_min > self.length_max:
            raise ValueError("length_min: not above length_max")
        return self

    def fault(self, code: str) -> str | None:
        """Why this is no code of the partner's, or None."""
        if not self.length_min <= len(code) <= self.length_max:
            return f"{len(code)} characters: a code has {self.length_min} to {self.length_max}"
        allowed = PRINTABLE if self.characters is None else frozenset(self.characters)
        strange = next((sign for sign in code if sign not in allowed), None)
        return None if strange is None else f"U+{ord(strange):04X} is no character of a code"


class Code(Kind):
    """A code of the partner's own, one for each redemption."""

    self_service: ClassVar[bool] = True
    counted_by_hand: ClassVar[bool] = False
    format: CodeFormat = CodeFormat()
    when_empty: WhenEmpty = WhenEmpty.REFUSE

    def perk_faults(self, units_max: int, waits: bool) -> Iterator[str]:
        """More than one at once, and a waitlist without the setting or the setting without one."""
        if units_max != 1:
            yield "unitsMax: a redemption has one code"
        if waits != (self.when_empty is WhenEmpty.WAITLIST):
            yield "waitlist: say one where settings.when_empty is WAITLIST, and only there"
