"""A million redemptions in each format: all of them, once each, by a worker whose memory stays as it is."""

import csv
import hashlib
from datetime import datetime
from pathlib import Path
from uuid import UUID

import orjson
import pyarrow.parquet
import pytest

from gateway.database import Database
from partners import tables
from partners.keys import Keys
from partners.programme import Programme
from partners.tables import ExportFormat, ExportKind
from tests.benchmarks.exports import measure_one, redeem_many
from tests.factories import Club

pytestmark = pytest.mark.long

ROWS = 1_000_000
GROWTH_MEGABYTES_MAX = 200


@pytest.fixture
async def partner(empty_database: Database, programme: Programme, keys: Keys, now: datetime) -> tables.Partner:
    club = Club(empty_database, programme, keys, now)
    perk = await club.perk()
    found = club.partners[perk.partner_id]
    members = [(await club.member(found)).id for _ in range(50)]
    await redeem_many(empty_database, found.id, [perk.id], members, ROWS)
    return found


async def written(database: Database, file: Path) -> Path:
    """The newest export, as a file: its parts stay until a worker removes them."""
    async with database.connection() as connection:
        [export_id] = await connection.fetchrow("SELECT id FROM export ORDER BY id DESC LIMIT 1")
        [parts] = await connection.fetchrow("SELECT count(*) FROM export_part WHERE export_id = $1", export_id)
        with file.open("wb") as out:
            for number in range(parts):
                [body] = await connection.fetchrow(
                    "SELECT body FROM export_part WHERE export_id = $1 AND number = $2", export_id, number
                )
                out.write(body)
    return file


async def test_a_million_rows_take_less_than_200_megabytes_and_are_the_same_in_every_format(
    empty_database: Database, partner: tables.Partner, folder: Path
) -> None:
    digests = {}
    for format in ExportFormat:
        spent = await measure_one(empty_database, partner.id, ExportKind.REDEMPTIONS, format)
        assert spent["rows"] == ROWS
        assert spent["peak_megabytes"] - spent["before_megabytes"] < GROWTH_MEGABYTES_MAX, (format, spent)
        digest = hashlib.sha256()
        ids: set[UUID] = set()
        for id, amount in read(await written(empty_database, folder / f"all.{format}"), format):
            ids.add(UUID(hex=id.removeprefix("redemption_")))
            digest.update(f"{id} {amount}".encode())
        assert len(ids) == ROWS
        digests[format] = digest.hexdigest()
    assert len(set(digests.values())) == 1


def read(file: Path, format: ExportFormat) -> list[tuple[str, int]]:
    """Id and amount of each row, in order."""
    if format is ExportFormat.PARQUET:
        table = pyarrow.parquet.read_table(file, columns=["id", "amount_minor"])
        return list(zip(table.column("id").to_pylist(), table.column("amount_minor").to_pylist(), strict=True))
    with file.open(encoding="utf-8", newline="") as text:
        rows = csv.DictReader(text) if format is ExportFormat.CSV else map(orjson.loads, text)
        return [(row["id"], int(row["amount_minor"])) for row in rows]
