"""/metrics: figures of what is behind, in the format that monitoring systems read."""

import re

from tests.api import Api


async def test_what_is_behind_is_told_in_figures_and_without_names(api: Api) -> None:
    answer = await api.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"perks_[a-z_]+ [0-9]+", line) for line in lines)
    assert {line.split()[0] for line in lines} == {
        "perks_log_can_not_sign",
        "perks_log_waiting",
        "perks_webhook_log_behind",
        "perks_webhook_parked",
        "perks_webhook_pending",
        "perks_webhook_oldest_pending_seconds",
    }
    assert len(re.findall("^# (?:HELP|TYPE) ", answer.text, re.M)) == 2 * len(lines)
