"""Which witnesses a log asks: the operator's list of keys and addresses."""

import re
from dataclasses import dataclass

from auth.identity import is_safe_address
from partners.notes import COSIGNATURE, NoteInvalid, Verifier


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """A witness's key, and the address below which it takes checkpoints."""

    verifier: Verifier
    url: str


def read_witnesses(text: str) -> list[WitnessAddress]:
    """`KEY ADDRESS`, with commas or line ends between several; ValueError says which is wrong.

    Addresses are https, since who can change answers on the way could stop the log; http on this machine.
    """
    witnesses = [read_witness(one.strip()) for one in re.split(r"[,\n]", text) if one.strip()]
    labels = [witness.verifier.label for witness in witnesses]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ValueError(f"{twice} is there twice")
    return witnesses


def read_witness(text: str) -> WitnessAddress:
    """One of them."""
    key, _, address = text.partition(" ")
    try:
        verifier = Verifier.parse(key)
    except NoteInvalid as fault:
        raise ValueError(f"{key[:100]!r}: {fault}") from None
    if verifier.kind != COSIGNATURE:
        raise ValueError(f"{verifier.label} is the key of a log; a witness tells its own by `perks witness key`")
    url = address.strip().rstrip("/")
    if not is_safe_address(url) or "?" in url or "#" in url:
        raise ValueError(f"{verifier.label}: its address is https, or http on this machine")
    return WitnessAddress(verifier, url)
