"""The guide for auditors is true: its commands run as they stand, on a running service and then on files alone."""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from gateway import embedded
from gateway.sequencer import sequencer_of
from gateway.settings import Settings
from partners import tables
from partners.facts import Circumstances
from partners.keys import Keys
from partners.programme import Programme
from tests.factories import Club
from tests.sequencing import write
from tests.serving import serving

GUIDE = Path(__file__).parents[2] / "docs" / "auditing.md"
PROOF = "query($id: ID!) { auditProof(redemptionId: $id) { leaf proof } }"


def blocks() -> list[tuple[str, str | None]]:
    """Each command of the guide, and what the guide says that it prints."""
    found = re.findall(r"```sh\n(.*?)```(?:\n```text\n(.*?)```)?", GUIDE.read_text("utf-8"), re.S)
    return [(command, told or None) for command, told in found]


async def follow(command: str, folder: Path, known: dict[str, str]) -> str:
    """What a command of the guide prints; it has to end well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", command, cwd=folder, env={"PATH": path} | known,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()


def as_in_the_guide(told: str, origin: str) -> str:
    """What differs from run to run: names, ids, and how many entries there are."""
    told = re.sub(r"redemption_[0-9a-f]{32}", "redemption_…", told.replace(origin, "perks.example/log"))
    return re.sub(r"\b\d+( entries| of them new| of perks)", r"N\1", re.sub(r"with \d+", "with N", told))


async def test_every_command_of_the_guide_runs_and_prints_what_the_guide_says(
    new_database: Callable[[], Awaitable[str]],
    servers: embedded.Servers,
    secret: bytes,
    programme: Programme,
    keys: Keys,
    tmp_path: Path,
) -> None:
    settings = Settings(
        database_url=await new_database(), redis_url=servers.redis_url, secret=SecretStr(secret.decode())
    )
    async with serving(settings) as live:
        club = Club(live.service.database, programme, keys, datetime.now(UTC))
        partner = await club.partner()
        perk = await club.perk(partner, currency="CHF")
        redeemed = [await redeem(club, perk, amount) for amount in (1250, 900)]
        await sequencer_of(live.service).carry_over()
        proof = (await live.staff()(PROOF, id=f"redemption_{redeemed[0].hex}")).data["auditProof"]
        lines = ["Receipt;Clerk;Qty;Amount", f"{redeemed[0]};Ana;1;12,50", f"{redeemed[1]};Ben;1;90,00"]
        for name, text in {
            "token": live.staff("audit:read").token,
            "redemption.tlog-proof": proof["proof"],
            "leaf.json": proof["leaf"] or "",
            "names.csv": f"id,name\n{partner.id},Maison Aurore\n",
            "list.csv": "\n".join([*lines, f"{UUID(int=7)};Ana;1;2,00", ""]),
        }.items():
            (tmp_path / name).write_text(str(text))
        known = {
            "LOG": f"{str(live.client.base_url).rstrip('/')}/log/",
            "KEY": (await live.client.get("/log/keys")).text.strip(),
            "PARTNER": f"partner_{partner.id.hex}",
        }
        origin = known["KEY"].split("+")[0]
        followed = 0
        for command, told in blocks():
            printed = await follow(command, tmp_path, known)
            if told is not None:
                assert as_in_the_guide(printed, origin) == as_in_the_guide(told, origin), command
            if "fsck" in command:
                await write(live.service.database, datetime.now(UTC))
                await sequencer_of(live.service).carry_over()
            followed += 1
    assert followed == 7
    assert "Maison Aurore" in (tmp_path / "november.html").read_text()


async def redeem(club: Club, perk: tables.Perk, amount: int) -> UUID:
    """A redemption of an amount, by a member of its own."""
    member = await club.member(club.partners[perk.partner_id])
    claimed = await club.claim(member, perk, said=Circumstances(amount=amount))
    assert claimed.hold is not None
    return await club.redeemed(claimed.hold)
