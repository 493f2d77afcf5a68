"""The report of a log as one page: what it says by partner, perk, tier and day, and how far that is proven."""

import csv
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.auditing.figures import BEARERS, Figures, Tally, Window
from gateway.auditing.files import Export, Unsound
from gateway.auditing.periods import periods_of
from gateway.auditing.tree import Tree
from gateway.paper.showing import as_uuid, moment, rendered
from partners.currencies import CURRENCIES
from partners.errors import BadInput
from partners.merkle import LEAF
from partners.notes import COSIGNATURE, Checkpoint, Signature, Verifier, note_text, open_checkpoint, read_signatures

NAMES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Proof:
    """The checkpoint that the entries were found to be of, and whose signatures of it were checked."""

    checkpoint: Checkpoint
    signatures: Sequence[Signature] = ()

    @property
    def keys(self) -> list[str]:
        """Labels of the log's own keys that signed it."""
        return [one.verifier.label for one in self.signatures if one.verifier.kind != COSIGNATURE]

    @property
    def witnesses(self) -> list[tuple[str, str]]:
        """Labels of witnesses, and when each saw it."""
        return [
            (one.verifier.label, moment(datetime.fromtimestamp(one.time, UTC)))
            for one in self.signatures
            if one.time is not None
        ]


@dataclass(frozen=True, slots=True)
class Named:
    """What an id stands for: a name, and of a perk the currency it counts in."""

    name: str
    currency: str | None = None


def count_export(export: Export, verifiers: Sequence[Verifier], window: Window) -> tuple[Figures, Proof]:
    """Counts every entry and derives the root from them on the way, in one reading and flat memory.

    Unsound when the entries are not those of the checkpoint; NoteInvalid when that is none, or not signed by the keys
    there are; OSError when a file can't be read.
    """
    note = export.read_note()
    checkpoint = open_checkpoint(note, *verifiers) if verifiers else Checkpoint.parse(note_text(note))
    figures, tree = Figures(window), Tree()
    for block in export.blocks(checkpoint.size):
        for index, leaf in enumerate(block, tree.size):
            figures.take(index, leaf)
        tree.append([sha256(LEAF + leaf).digest() for leaf in block])
    if tree.size != checkpoint.size or tree.root() != checkpoint.root:
        raise Unsound(
            f"{export.name} holds {tree.size} entries that are not the {checkpoint.size} of its checkpoint: run"
            " `perks audit fsck`, which names the first that is wrong"
        )
    return figures, Proof(checkpoint, read_signatures(note, *verifiers))


def read_names(file: Path) -> dict[str, Named]:
    """The names in a CSV file of id, name and perhaps currency; BadInput names the first line that can't be."""
    found: dict[str, Named] = {}
    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            for number, row in enumerate(csv.reader(lines, strict=True), 1):
                if not row or (number == 1 and row[0].strip().lower() == "id"):
                    continue
                if len(found) >= NAMES_MAX:
                    raise BadInput(f"{file.name}: more than {NAMES_MAX:,} names")
                id, named = name_of(row, f"{file.name}, line {number}")
                found[id] = named
        except (csv.Error, UnicodeDecodeError) as fault:
            raise BadInput(f"{file.name}: not CSV in UTF-8 with commas: {fault}") from None
    return found


def name_of(row: Sequence[str], place: str) -> tuple[str, Named]:
    """One line; BadInput."""
    if len(row) not in (2, 3):
        raise BadInput(f"{place}: {len(row)} columns; expected id,name or id,name,currency with commas between")
    try:
        id = as_uuid(row[0].strip())
    except ValueError:
        raise BadInput(f"{place}: {row[0][:60]!r} is not an id") from None
    currency = row[2].strip().upper() if len(row) == 3 else ""
    if currency and currency not in CURRENCIES:
        raise BadInput(f"{place}: {currency[:10]!r} is not a currency (ISO 4217)")
    return id, Named(row[1].strip() or id, currency or None)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what it is about, and what was counted of it."""

    id: str
    name: str
    tally: Tally
    currency: str | None = None


def render_report(figures: Figures, proof: Proof, names: Mapping[str, Named]) -> str:
    """The page; the same files and options make the same bytes."""

    def row(id: str, tally: Tally) -> Row:
        named = names.get(id, Named(id))
        return Row(id, named.name, tally, named.currency)

    def rows(found: Mapping[tuple[str, str], Tally], partner: str) -> list[Row]:
        return in_order(row(key, tally) for (owner, key), tally in found.items() if owner == partner)

    def days(partner: str) -> dict[str, Tally]:
        return {day: tally for (owner, day), tally in figures.days.items() if owner == partner}

    partners = in_order(row(id, tally) for id, tally in figures.partners.items())
    sections: list[dict[str, Any]] = [
        {
            "partner": one,
            "anchor": f"partner-{one.id}",
            "perks": rows(figures.perks, one.id),
            "tiers": rows(figures.tiers, one.id),
            "periods": periods_of(days(one.id)),
            "refusals": refusals_of(one.tally),
        }
        for one in partners
    ]
    window = figures.window
    return rendered(
        "report.html",
        {
            "figures": figures,
            "total": figures.total,
            "proof": proof,
            "root": b64encode(proof.checkpoint.root).decode(),
            "partners": partners,
            "sections": sections,
            "periods": periods_of(together(figures.days)),
            "refusals": refusals_of(figures.total),
            "actions": sorted(figures.total.starting("action.").items()),
            "since": None if window.since is None else moment(window.since.astimezone(window.zone)),
            "until": None if window.until is None else moment(window.until.astimezone(window.zone)),
            "zone": window.zone.key,
            "one_partner": None if window.partner is None else names.get(window.partner, Named(window.partner)).name,
            "bearers": BEARERS,
        },
    )


def in_order(rows: Any) -> list[Row]:
    """The busiest first."""
    return sorted(rows, key=lambda one: (-one.tally["redemptions"], -one.tally["claims"], one.name, one.id))


def together(days: Mapping[tuple[str, str], Tally]) -> dict[str, Tally]:
    """The days of all partners as one."""
    found: dict[str, Tally] = {}
    for (_, day), tally in days.items():
        found.setdefault(day, Tally()).counts.update(tally.counts)
    return found


def refusals_of(tally: Tally) -> list[tuple[str, int, int, int]]:
    """Each reason, the most frequent first: how often in all, to claims, and to confirmations."""
    return [
        (reason, n, tally[f"reason-of.perk.claimed.{reason}"], tally[f"reason-of.hold.confirmed.{reason}"])
        for reason, n in tally.starting("reason.").items()
    ]
