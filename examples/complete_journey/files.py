"""The journey as the files that `perks import` reads, with every date moved so that the year ends today."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from examples.complete_journey.journey import Campaign, Journey

TIME_ZONE = "America/New_York"


@dataclass(frozen=True, slots=True)
class Files:
    """What was written, in the order to import it."""

    members: Path
    activity: Path
    perks: Path


def write_files(journey: Journey, shift: timedelta, folder: Path) -> Files:
    """Members with tier and consents, baskets as activity, and campaigns as perks; older files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder / "members.csv", folder / "activity.csv", folder / "perks.jsonl")
    members = (
        (
            external_id(one.id),
            (one.first_seen + shift).isoformat(),
            "US",
            one.tier,
            " ".join(journey.consents(one.id)),
        )
        for one in journey.households.values()
    )
    write_csv(files.members, ("external_id", "joined_at", "market", "tier", "consents"), members)
    purchases = (
        (external_id(one.household), "purchase", f"basket-{one.id}", (one.at + shift).isoformat(), one.amount)
        for one in journey.baskets
    )
    write_csv(files.activity, ("external_id", "indicator", "source", "at", "amount"), purchases)
    perks = (json.dumps(perk_of(one, shift)) + "\n" for one in journey.campaigns.values())
    files.perks.write_text("".join(perks), encoding="utf-8")
    return files


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A header and its rows."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(rows)


def external_id(household: int) -> str:
    """The operator's own id of a household."""
    return f"household-{household}"


def perk_of(campaign: Campaign, shift: timedelta) -> dict[str, object]:
    """A campaign as a perk: its window, and one use for each coupon that a household was sent."""
    partner, _, handle = campaign.perk.partition("/")
    return {
        "partner": partner,
        "handle": handle,
        "kind": "SAMPLE",
        "title": f"Coupons of campaign {campaign.id}",
        "description": f"Type {campaign.type.upper()}: {campaign.coupons} coupons, {campaign.allowance} a household.",
        "time_zone": TIME_ZONE,
        "opens_on": (campaign.opens_on + shift).isoformat(),
        "closes_on": (campaign.closes_on + shift).isoformat(),
        "state": "PUBLISHED",
        "rules": [{"kind": "allowance", "period": "EVER", "otherwise": campaign.allowance}],
    }
