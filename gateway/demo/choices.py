"""What the demo's perks let one choose from: sessions of an evening with places kept for tiers, colours of a sample."""

from datetime import date, timedelta
from typing import Any


def nothing(today: date) -> dict[str, Any]:
    """No settings of a kind's own."""
    return {}


def evenings(today: date) -> dict[str, Any]:
    """Two sessions; of each, four places of ten are for black members until 72 hours before, for gold ones until 48."""
    kept = {"units": 4, "tiers": [{"tier": "black", "hours_before": 72}, {"tier": "gold", "hours_before": 48}]}
    return {
        "sessions": [
            {
                "handle": handle,
                "title": title,
                "starts_at": f"{today + timedelta(days=days)}T19:00",
                "ends_at": f"{today + timedelta(days=days)}T23:00",
                "cut_off_minutes": 120,
                "places": 10,
                "location": "The old town hall",
                "pools": [kept],
            }
            for handle, title, days in (("first-night", "The first night", 20), ("last-night", "The last night", 27))
        ]
    }


def colours(_: date) -> dict[str, Any]:
    """Three variants, picked up in one of two shops or sent."""
    return {
        "variants": [
            {"handle": "rose", "title": "Rose", "units": 300},
            {"handle": "coral", "title": "Coral", "units": 200},
            {"handle": "plum", "title": "Plum, sold out", "units": 0},
        ],
        "pickup_locations": [
            {"handle": "paris", "name": "The atelier", "address": "12 Rue Imaginaire, Paris"},
            {"handle": "lyon", "name": "The shop", "address": "3 Place Inventée, Lyon"},
        ],
        "shipping": True,
    }
