"""Plain values: frozen for the type checker, and not at run time, where freezing costs six times as much to make one.

A check makes a dozen of them and a page of the catalogue six hundred (docs/performance.md).
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots that is compared and hashed by its fields; `mypy` refuses to change one."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
