"""Where a mirror copies from: a folder, or the address of a log, read within bounds and asked again when it fails."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from gateway.auditing.files import beginning_of
from partners.errors import BadInput

if TYPE_CHECKING:
    import httpx

TRIES = 5
PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 30.0
SECONDS_MAX = 60.0
"""For one file, however slowly its bytes come."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Source(Protocol):
    """Files of a log by their names below it, as `checkpoint` and `tile/0/000`."""

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """All of a file; None when there is none. OSError, too, when it is longer than it may be."""

    def close(self) -> None:
        """Lets go of what it holds."""


class Unreachable(OSError):
    """A source does not give what it should; the message names the file and says how."""


class Folder:
    """A folder of tiles."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise FileNotFoundError(2, "No such folder", str(path))
        self._path = path

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """The bytes of a file."""
        try:
            raw = beginning_of(self._path / name, bytes_max + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(raw) > bytes_max:
            raise Unreachable(f"{self._path / name}: longer than {bytes_max} bytes")
        return raw

    def close(self) -> None:
        """Nothing is held."""


class Address:
    """A log that is served. No redirects are followed, so that the token goes to nobody else."""

    def __init__(self, address: str, token: str | None, *, sleep: Callable[[float], None] = time.sleep) -> None:
        import httpx

        try:
            parts = urlsplit(address)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # of a port
            known = False
        if not known:
            raise BadInput(f"{address}: an address is as https://perks.example/log/")
        if token and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise BadInput(f"{address}: a token goes over https alone")
        self._base, self._sleep = address.rstrip("/") + "/", sleep
        self._token = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=httpx.Timeout(10), limits=httpx.Limits(max_connections=1))

    def read(self, name: str, bytes_max: int) -> bytes | None:
        """The bytes of a file, asked for again after what may pass: 429, 5xx and broken connections."""
        import httpx

        fault = ""
        for number in range(TRIES):
            if number:
                self._sleep(min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2**number))
            try:
                with self._client.stream("GET", self._base + name, headers=self._token) as answer:
                    if answer.status_code == 200:
                        return self._taken(answer, name, bytes_max)
                    fault = f"it answers {answer.status_code}"
                    if answer.status_code in (404, 410):
                        return None
                    if answer.status_code not in (408, 429) and answer.status_code < 500:
                        break
            except httpx.RequestError as broken:
                fault = str(broken) or type(broken).__name__
        raise Unreachable(f"{self._base}{name}: {fault}{hint(name, fault)}")

    def close(self) -> None:
        """Ends its connection."""
        self._client.close()

    def _taken(self, answer: "httpx.Response", name: str, bytes_max: int) -> bytes:
        raw, until = bytearray(), time.monotonic() + SECONDS_MAX
        for some in answer.iter_bytes():
            raw += some
            if len(raw) > bytes_max:
                raise Unreachable(f"{self._base}{name}: longer than {bytes_max} bytes")
            if time.monotonic() > until:
                raise Unreachable(f"{self._base}{name}: not all there after {SECONDS_MAX:g} s")
        return bytes(raw)


def hint(name: str, fault: str) -> str:
    """What to do about a refusal."""
    if "entries" in name and fault.endswith(("401", "403")):
        return ": entries are for a token of staff with audit:read (--token-file); without one, use --hashes-only"
    return ""
