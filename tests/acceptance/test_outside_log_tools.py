"""Go's sumdb packages, PyPI's aics-tlog and our own code read one log the same way, and refuse the same."""

import random
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway import embedded
from gateway.app import Gateway
from gateway.sequencer import sequencer_of
from gateway.settings import Settings
from partners.log import read_ranges
from partners.merkle import (
    CompactRange,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    is_included,
    leaf_hash,
    root_of,
)
from partners.notes import (
    COSIGNATURE,
    Checkpoint,
    NoteInvalid,
    Verifier,
    cosignature_line,
    encoded,
    open_checkpoint,
    read_signatures,
    verifier_of,
)
from partners.tiles import TILE_WIDTH, Tile, bundle, hashes_of, tiles_of
from tests.api import Api
from tests.sequencing import write
from tests.tlog_tools import Case, Tool, aics_tool, go_tool
from tests.trees import Log

LOG = Log.of(300)
LARGE = Log.of(100_000)
NEW_KEY, WITNESS_KEY = bytes([1]) * 32, bytes([2]) * 32
NEW = verifier_of(LOG.origin, NEW_KEY)
WITNESS = verifier_of("witness.example/w1", WITNESS_KEY, COSIGNATURE)


def own_answer(case: Case) -> bool:
    """What our own code says of a case."""
    proof = [b64decode(one) for one in case.get("proof", [])]
    if case["do"] == "included":
        leaf, root = leaf_hash(b64decode(case["entry"])), b64decode(case["root"])
        return is_included(case["index"], case["size"], leaf, proof, root)
    if case["do"] == "consistent":
        roots = b64decode(case["oldRoot"]), b64decode(case["root"])
        return is_consistent(case["older"], case["size"], *roots, proof)
    try:
        verifiers = [Verifier.parse(key) for key in case["keys"]]
        if case["do"] == "checkpoint":
            found = open_checkpoint(case["note"], *verifiers)
            return found == Checkpoint(case["origin"], case["size"], b64decode(case["root"]))
        return own_tiles(Path(case["folder"]), verifiers, case)
    except (NoteInvalid, OSError):
        return False


def own_tiles(folder: Path, verifiers: list[Verifier], case: Case) -> bool:
    """Every tile of hashes is of those below it, the lowest are of the entries, and roots are of the sizes."""
    signed = open_checkpoint((folder / "checkpoint").read_text(), *verifiers)
    levels: dict[int, list[bytes]] = {}
    for tile in tiles_of(signed.size):
        levels.setdefault(tile.level or 0, []).extend(hashes_of((folder / "tile" / tile.path).read_bytes()))
    for level, hashes in levels.items():
        full = len(hashes) // TILE_WIDTH * TILE_WIDTH
        above = [CompactRange().append(hashes[at : at + TILE_WIDTH]).root() for at in range(0, full, TILE_WIDTH)]
        if above != levels.get(level + 1, []):
            return False
    leaves = levels.get(0, [])
    entries = all(leaf_hash(b64decode(entry)) == leaves[int(at)] for at, entry in case["entries"].items())
    sizes = all(root_of(leaves[: int(size)]) == b64decode(root) for size, root in case["sizes"].items())
    return entries and sizes and root_of(leaves) == signed.root


def ours() -> Tool:
    return lambda cases: ["ok" if own_answer(case) else "no" for case in cases]


@pytest.fixture(params=[ours, go_tool, pytest.param(aics_tool, marks=pytest.mark.long)], ids=["ours", "go", "aics"])
def tool(request: pytest.FixtureRequest) -> Tool:
    made: Tool = request.param()
    return made


def included(log: Log, index: int, size: int) -> dict[str, Any]:
    proof = [encoded(one) for one in log.inclusion(index, size)]
    entry, root = encoded(log.entries[index]), encoded(log.root(size))
    return {"do": "included", "index": index, "size": size, "entry": entry, "root": root, "proof": proof}


def consistent(log: Log, older: int, size: int) -> dict[str, Any]:
    proof = [encoded(one) for one in log.consistency(older, size)]
    roots = {"oldRoot": encoded(log.root(older)), "root": encoded(log.root(size))}
    return {"do": "consistent", "older": older, "size": size, "proof": proof} | roots


def every_proof(log: Log, sizes: Iterable[int]) -> Iterator[dict[str, Any]]:
    for size in sizes:
        for index in range(size):
            yield included(log, index, size)
            yield consistent(log, index + 1, size)


def require_all(tool: Tool, cases: Iterable[Case]) -> int:
    """All are fine; how many there were."""
    asked = list(cases)
    answers = tool(asked)
    assert len(answers) == len(asked)
    assert [(case, answer) for case, answer in zip(asked, answers, strict=True) if answer != "ok"] == []
    return len(asked)


def require_none(tool: Tool, cases: Iterable[Case]) -> int:
    """None is fine; how many there were."""
    asked = list(cases)
    answers = tool(asked)
    assert len(answers) == len(asked)
    assert [case for case, answer in zip(asked, answers, strict=True) if answer == "ok"] == []
    return len(asked)


def test_every_proof_of_small_trees_is_accepted(tool: Tool) -> None:
    sizes = [*range(1, 41), 255, 256, 257]
    assert require_all(tool, every_proof(LOG, sizes)) == 2 * sum(sizes)


@pytest.mark.long
def test_every_proof_of_every_tree_up_to_300_is_accepted(tool: Tool) -> None:
    assert require_all(tool, every_proof(LOG, range(1, 301))) == 300 * 301


def test_random_proofs_of_trees_up_to_100_000_are_accepted(tool: Tool) -> None:
    dice, cases = random.Random(), []
    for _ in range(300):
        size = dice.randint(1, 100_000)
        index = dice.randrange(size)
        cases += [included(LARGE, index, size), consistent(LARGE, index + 1, size)]
    require_all(tool, cases)


def flipped(text: str, dice: random.Random) -> str:
    """Base64 of the bytes with one bit changed."""
    raw = bytearray(b64decode(text))
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return encoded(bytes(raw))


def spoilt(case: dict[str, Any], dice: random.Random) -> Iterator[dict[str, Any]]:
    """The case with one thing wrong."""
    proof: list[str] = case["proof"]
    for field in ("entry", "root", "oldRoot"):
        if field in case:
            yield case | {field: flipped(case[field], dice)}
    for at in range(len(proof)):
        yield case | {"proof": [*proof[:at], flipped(proof[at], dice), *proof[at + 1 :]]}
        yield case | {"proof": [*proof[:at], *proof[at + 1 :]]}
    yield case | {"proof": [*proof, encoded(bytes(32))]}
    place = "index" if case["do"] == "included" else "older"
    if case[place] > 1 and case["size"] > case[place]:
        yield case | {place: case[place] - 1}


def test_a_proof_with_one_bit_wrong_is_refused_by_all(tool: Tool) -> None:
    dice = random.Random()
    sizes = [1, 2, 3, 8, 100, 256, 300]
    cases = [one for size in sizes for at in {0, size // 2, size - 1} for one in spoilt(included(LOG, at, size), dice)]
    pairs = [(1, 2), (2, 3), (4, 8), (7, 8), (64, 100), (99, 100), (255, 256), (129, 300), (256, 300)]
    cases += [one for pair in pairs for one in spoilt(consistent(LOG, *pair), dice)]
    assert require_none(tool, cases) > 250


def opening(note: str, keys: list[Verifier], log: Log = LOG, size: int = 300) -> dict[str, Any]:
    found = log.checkpoint(size)
    wanted = {"origin": found.origin, "size": size, "root": encoded(found.root)}
    return {"do": "checkpoint", "keys": [str(key) for key in keys], "note": note} | wanted


def cosigned(note: str) -> str:
    return note + cosignature_line(str(LOG.checkpoint(300)), WITNESS.name, WITNESS_KEY, 1_679_315_147)


def test_a_checkpoint_opens_by_the_old_key_and_by_the_new_one_whoever_else_signed_it(tool: Tool) -> None:
    both = LOG.note(300, LOG.key, NEW_KEY)
    notes = [LOG.note(300), both, cosigned(LOG.note(300)), cosigned(both)]
    require_all(tool, [opening(note, [LOG.verifier]) for note in notes])
    require_all(tool, [opening(note, [NEW]) for note in (both, cosigned(both))])


def test_a_checkpoint_with_one_bit_wrong_is_refused_by_all(tool: Tool) -> None:
    dice, raw = random.Random(), LOG.note(300).encode()
    changed = []
    for bit in sorted(dice.sample(range(8 * len(raw)), 300)):
        one = bytearray(raw)
        one[bit // 8] ^= 1 << bit % 8
        try:
            changed.append(bytes(one).decode())
        except UnicodeDecodeError:
            continue
    assert require_none(tool, [opening(note, [LOG.verifier]) for note in changed]) > 100


def test_a_checkpoint_of_another_key_is_refused_by_all(tool: Tool) -> None:
    other = Log.of(300, "others.example/log")
    notes = [LOG.note(300, NEW_KEY), other.note(300), str(LOG.checkpoint(300)), ""]
    require_none(tool, [opening(note, [LOG.verifier]) for note in notes])


@pytest.mark.long
def test_aics_tlog_reads_the_signatures_of_witnesses() -> None:
    tool, note = aics_tool(), cosigned(LOG.note(300))
    [signature] = read_signatures(note, WITNESS)
    require_all(tool, [opening(note, [LOG.verifier, WITNESS])])
    late = cosignature_line(str(LOG.checkpoint(299)), WITNESS.name, WITNESS_KEY, signature.time or 0)
    require_none(tool, [opening(LOG.note(300), [LOG.verifier, WITNESS])])
    require_none(tool, [opening(LOG.note(300) + late, [LOG.verifier, WITNESS])])


def write_tiles(folder: Path, note: str, contents: dict[str, bytes]) -> Path:
    """A log as files, as it is served below `/log/`."""
    for path, content in contents.items():
        file = folder / "tile" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (folder / "checkpoint").write_text(note)
    return folder


def tiles_in(log: Log, size: int) -> dict[str, bytes]:
    """Every tile of hashes and of entries."""
    contents = {}
    for tile in tiles_of(size):
        width = TILE_WIDTH ** (tile.level or 0)
        first = tile.index * TILE_WIDTH
        held = range(first, first + tile.width)
        contents[tile.path] = b"".join(log.root_of_range((at * width, (at + 1) * width)) for at in held)
        if tile.level == 0:
            entries = Tile(None, tile.index, tile.width)
            contents[entries.path] = bundle(log.entries[first : first + tile.width])
    return contents


def reading(folder: Path, log: Log, size: int) -> dict[str, Any]:
    """Asks for an entry of each tile, and for proofs from a few sizes on."""
    indexes = {*range(0, size, TILE_WIDTH), size - 1}
    sizes = {1, size // 2 or 1, size}
    return {
        "do": "tiles",
        "folder": str(folder),
        "keys": [str(log.verifier)],
        "entries": {str(at): encoded(log.entries[at]) for at in indexes},
        "sizes": {str(at): encoded(log.root(at)) for at in sizes},
    }


@pytest.mark.parametrize("size", [1, 255, 256, 257, 513, 66_100])
def test_tiles_lead_to_every_entry_and_size(tool: Tool, folder: Path, size: int) -> None:
    write_tiles(folder, LARGE.note(size), tiles_in(LARGE, size))
    require_all(tool, [reading(folder, LARGE, size)])


def test_a_tile_with_one_bit_wrong_is_refused_by_all(tool: Tool, folder: Path) -> None:
    contents = tiles_in(LARGE, 66_100)
    write_tiles(folder, LARGE.note(66_100), contents)
    dice, case = random.Random(), reading(folder, LARGE, 66_100)
    for path in ["0/000", "0/257", "0/258.p/52", "1/000", "1/001.p/2", "2/000.p/1"]:
        file = folder / "tile" / path
        raw = bytearray(contents[path])
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        file.write_bytes(raw)
        require_none(tool, [case])
        file.unlink()
        require_none(tool, [case])
        file.write_bytes(contents[path])
    require_all(tool, [case])


@pytest.fixture(scope="module")
async def logged(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, secret: bytes
) -> AsyncIterator[Api]:
    """A service with a log of 600 entries."""
    settings = Settings(
        database_url=await new_database(),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        base_url="https://perks.example",
    )
    gateway = Gateway(settings, work=False)
    async with (
        gateway.living() as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=settings.address) as client,
    ):
        await write(service.database, service.clock(), 600)
        await sequencer_of(service).carry_over()
        yield Api(service, client)


async def test_all_read_what_the_service_serves_and_the_proofs_of_its_database(
    tool: Tool, folder: Path, logged: Api
) -> None:
    headers = {"authorization": f"Bearer {logged.staff('audit:read').token}"}
    contents = {}
    for tile in tiles_of(600):
        for path in [tile.path] if tile.level else [tile.path, Tile(None, tile.index, tile.width).path]:
            answer = await logged.client.get(f"/log/tile/{path}", headers=headers)
            assert answer.status_code == 200
            contents[path] = answer.content
    note, key = [(await logged.client.get(f"/log/{name}")).text for name in ("checkpoint", "keys")]
    async with logged.service.database.connection() as connection:
        entries = [
            row["leaf"].encode()
            for row in await connection.fetch(
                "SELECT leaf FROM log_leaf JOIN audit_entry ON id = entry_id ORDER BY index"
            )
        ]
        proofs = [await read_ranges(connection, inclusion_ranges(at, 600)) for at in range(0, 600, 7)]
        grown = [await read_ranges(connection, consistency_ranges(older, 600)) for older in range(1, 601, 7)]
    served = Log(LOG.origin, entries=entries)
    root = encoded(served.root(600))
    cases: list[Case] = [
        reading(write_tiles(folder, note, contents), served, 600) | {"keys": [key.strip()]},
        opening(note, [], served, 600) | {"keys": [key.strip()]},
    ]
    cases += [included(served, 7 * at, 600) | {"proof": list(map(encoded, one))} for at, one in enumerate(proofs)]
    cases += [consistent(served, 1 + 7 * at, 600) | {"proof": list(map(encoded, one))} for at, one in enumerate(grown)]
    assert require_all(tool, cases) == 2 + 86 + 86
    assert {case["root"] for case in cases if "root" in case} == {root}
