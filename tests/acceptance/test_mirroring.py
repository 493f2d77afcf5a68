"""A mirror of a running service: what it holds is what the service exports, and it grows as the log does."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from gateway import embedded
from gateway.auditing.consistency import compare
from gateway.auditing.files import open_export
from gateway.auditing.fsck import check_export
from gateway.cli import run
from gateway.log_export import export_log, export_tiles
from gateway.sequencer import sequencer_of
from gateway.settings import Settings
from partners.notes import Verifier
from tests.sequencing import write
from tests.serving import serving


async def test_a_mirror_of_a_running_service_is_what_the_service_exports(
    new_database: Callable[[], Awaitable[str]], servers: embedded.Servers, secret: bytes, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=await new_database(), redis_url=servers.redis_url, secret=SecretStr(secret.decode())
    )
    mirror, hashes, token = tmp_path / "mirror", tmp_path / "hashes", tmp_path / "token"

    async def perks(*arguments: str | Path) -> int:
        return await asyncio.to_thread(run, ["audit", *map(str, arguments), "--quiet"])

    async with serving(settings) as logged:
        address = f"{str(logged.client.base_url).rstrip('/')}/log/"
        token.write_text(f"{logged.staff('audit:read').token}\n")
        await write(logged.service.database, datetime.now(UTC), 300)
        await sequencer_of(logged.service).carry_over()
        key = (await logged.client.get("/log/keys")).text.strip()
        assert await perks("mirror", address, hashes, "--hashes-only", "--key", key) == 0
        assert await perks("mirror", address, mirror, "--key", key) == 3  # entries need a token
        assert await perks("mirror", address, mirror, "--key", key, "--token-file", token) == 0
        assert check_export(open_export(mirror), [Verifier.parse(key)]).sound
        first = (mirror / "checkpoint").read_text()

        await write(logged.service.database, datetime.now(UTC), 500)
        await sequencer_of(logged.service).carry_over()
        assert await perks("mirror", address, mirror, "--token-file", token) == 0
        exported = await export_tiles(logged.service.database, tmp_path / "tiles")
        lines = await export_log(logged.service.database, tmp_path)

    report = check_export(open_export(mirror), [Verifier.parse(key)])
    assert (report.fault, report.checkpoint and report.checkpoint.size) == (None, 800)
    assert exported.leaves == lines.leaves == 800
    assert await perks("fsck", tmp_path / "tiles", "--key", key) == await perks("fsck", lines.file, "--key", key) == 0
    assert await perks("fsck", hashes, "--key", key, "--hashes-only") == 0
    for file in (tmp_path / "tiles").rglob("tile/**/*"):
        if file.is_file():
            assert (mirror / file.relative_to(tmp_path / "tiles")).read_bytes() == file.read_bytes()
    tiles = {file.relative_to(mirror) for file in mirror.rglob("tile/**/*") if file.is_file()}
    assert tiles == {
        one.relative_to(tmp_path / "tiles") for one in (tmp_path / "tiles").rglob("tile/**/*") if one.is_file()
    }
    kept = sorted(file.name for file in (mirror / "checkpoints").iterdir())
    assert kept == [f"{300:020}", f"{800:020}"]
    assert (mirror / "checkpoints" / kept[0]).read_text() == first
    assert compare(mirror / "checkpoints" / kept[0], lines.file, [Verifier.parse(key)]).fault is None
