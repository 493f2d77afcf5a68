"""A log in memory, with the proof of anything in it: what a server reads from its tables, from plain lists."""

from dataclasses import dataclass, field

from partners.merkle import Range, consistency_ranges, inclusion_ranges, leaf_hash, node_hash, root_of, split
from partners.notes import Checkpoint, Verifier, sign_checkpoint, verifier_of


@dataclass
class Log:
    """Entries 0, 1, 2, … and a key."""

    origin: str = "perks.example/log"
    key: bytes = bytes(range(32))
    entries: list[bytes] = field(default_factory=list)
    _roots: dict[Range, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, size: int, origin: str = "perks.example/log", word: str = "entry") -> "Log":
        return cls(origin, entries=[f'{{"{word}":{number}}}'.encode() for number in range(size)])

    @property
    def verifier(self) -> Verifier:
        return verifier_of(self.origin, self.key)

    def root_of_range(self, leaves: Range) -> bytes:
        first, end = leaves
        if end == first:
            return root_of([])
        if end - first == 1:
            return leaf_hash(self.entries[first])
        if leaves not in self._roots:
            middle = first + split(end - first)
            self._roots[leaves] = node_hash(self.root_of_range((first, middle)), self.root_of_range((middle, end)))
        return self._roots[leaves]

    def root(self, size: int) -> bytes:
        return self.root_of_range((0, size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return [self.root_of_range(one) for one in inclusion_ranges(index, size)]

    def consistency(self, older: int, size: int) -> list[bytes]:
        return [self.root_of_range(one) for one in consistency_ranges(older, size)]

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, self.root(size))

    def note(self, size: int, *keys: bytes) -> str:
        return sign_checkpoint(self.checkpoint(size), *(keys or (self.key,)))
