"""Who a witness is: a name and an Ed25519 key, made at its first start and kept in its folder for its user alone."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.witness.files import make_folder, sync_folder, write_file
from partners.errors import BadInput
from partners.merkle import HASH_BYTES
from partners.notes import COSIGNATURE, Verifier, cosignature_line, decoded, encoded, is_name, verifier_of

KEY_FILE = "witness.key"


@dataclass(frozen=True, slots=True)
class Identity:
    """The name under which a witness signs, and its seed of 32 bytes."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier(self) -> Verifier:
        """What others need to trust it."""
        return verifier_of(self.name, self.seed, COSIGNATURE)

    def cosign(self, text: str, time: int) -> str:
        """The signature line that a note's text gets at a time in Unix seconds."""
        return cosignature_line(text, self.name, self.seed, time)


def open_identity(folder: Path, name: str | None) -> Identity:
    """The witness of a folder, made there the first time; BadInput without a name then, or with another one later."""
    file = folder / KEY_FILE
    if not file.exists():
        if name is None or not is_name(name):
            raise BadInput("--name: a new witness needs one, as witness.example/w1, without space or +")
        make_identity(file, name)
    kept, _, seed = file.read_text(encoding="utf-8").strip().partition(" ")
    if not is_name(kept) or len(decoded(seed)) != HASH_BYTES:
        raise BadInput(f"{file} is not the key of a witness: a name, a space, and 32 bytes in base64")
    if name not in (None, kept):
        raise BadInput(f"--name: the witness in {folder} is {kept}; another one needs its own folder")
    return Identity(kept, decoded(seed))


def make_identity(file: Path, name: str) -> None:
    """Writes a new key that only its user may read, unless another process was faster."""
    make_folder(file.parent)
    draft = file.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    write_file(draft, f"{name} {encoded(secrets.token_bytes(HASH_BYTES))}\n".encode())
    try:
        with suppress(FileExistsError):
            os.link(draft, file)  # unlike a renaming, which would replace the key of the faster one
    finally:
        draft.unlink()
    sync_folder(file.parent)
