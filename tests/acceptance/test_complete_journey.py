"""The example on real input, a part of it: imported, replayed over HTTP with OAuth tokens, and proved."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from examples.complete_journey.attempts import Purpose
from examples.complete_journey.club import Club, create_partners, sign_in_partners
from examples.complete_journey.files import write_files
from examples.complete_journey.journey import Journey, read_journey
from examples.complete_journey.replay import free_port, replay_over_http, serving
from examples.complete_journey.report import Result, told
from gateway.embedded import Servers
from gateway.running import served
from gateway.settings import Settings

CAMPAIGNS = {13, 14, 17}  # one of each type
VIEWER = "{ viewer { id kind partner { handle } } }"


@pytest.fixture(scope="module")
def journey() -> Journey:
    return read_journey()


@pytest.fixture(scope="module")
def part(journey: Journey) -> Journey:
    return journey.part(50, CAMPAIGNS)


@pytest.fixture(scope="module")
async def running(
    servers: Servers, new_database: Callable[[], Awaitable[str]], secret: bytes
) -> AsyncIterator[Settings]:
    """The service in a process of its own, on the tests' servers."""
    settings = Settings(
        database_url=await new_database(),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        port=free_port(),
        log_level="WARNING",
    )
    with serving(settings):
        yield settings


@pytest.fixture(scope="module")
async def result(running: Settings, part: Journey, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The part, replayed once for all tests."""
    return await replay_over_http(running, part, tmp_path_factory.mktemp("journey"), None)


def test_the_data_is_the_year_that_the_readme_tells_of(journey: Journey) -> None:
    assert (len(journey.households), len(journey.campaigns), len(journey.uses)) == (2469, 27, 2102)
    assert sum(len(campaign.addressed) for campaign in journey.campaigns.values()) == 6589
    assert Counter(one.tier for one in journey.households.values()) == {
        "black": 37,
        "gold": 416,
        "silver": 619,
        "member": 1397,
    }


def test_every_use_was_of_a_campaign_that_addressed_the_household_and_was_open(journey: Journey) -> None:
    for use in journey.uses:
        campaign = journey.campaigns[use.campaign]
        assert use.household in campaign.addressed
        assert campaign.opens_on <= use.day <= campaign.closes_on


def test_shifted_by_whole_days_the_year_ends_within_the_last_one(journey: Journey) -> None:
    now = datetime.now(UTC)
    shift = journey.shift(now)
    assert shift == timedelta(days=shift.days)
    assert timedelta() <= now - (journey.ends + shift) < timedelta(days=1)


def test_the_files_hold_every_row_and_nothing_of_the_future(part: Journey, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    files = write_files(part, part.shift(now), tmp_path)
    members, activity = (file.read_text().splitlines() for file in (files.members, files.activity))
    assert (len(members), len(activity)) == (1 + len(part.households), 1 + len(part.baskets))
    assert all(datetime.fromisoformat(line.split(",")[3]) <= now for line in activity[1:])
    assert len(files.perks.read_text().splitlines()) == len(CAMPAIGNS)


def test_nothing_is_at_fault(result: Result) -> None:
    assert result.faults == []


def test_all_uses_are_accepted_but_the_one_beyond_its_allowance(result: Result) -> None:
    [refused] = [one for one in result.uses if one.redemption is None]
    assert (refused.attempt.household, refused.attempt.campaign) == (2489, 13)
    assert refused.refusals == ("ALLOWANCE_EXHAUSTED",)
    used = [one for one in result.uses if (one.attempt.household, one.attempt.campaign) == (2489, 13)]
    assert len(used) - 1 == result.journey.campaigns[13].allowance == 16


def test_what_never_happened_is_refused_for_its_reason(result: Result) -> None:
    tried = [one for one in result.outcomes if one.attempt.purpose is not Purpose.USE]
    assert Counter(one.refusals for one in tried) == {
        ("NOT_STARTED",): 3,
        ("ENDED",): 3,
        ("CONSENT_MISSING",): 3,
    }


def test_the_same_keys_give_the_same_redemptions_whatever_the_windows_are(result: Result) -> None:
    first = {one.attempt.key: one.redemption for one in result.uses}
    assert {one.attempt.key: one.redemption for one in result.again} == first
    assert all(one.replayed == (one.redemption is not None) for one in result.again)
    assert not any(one.replayed for one in result.outcomes)


def test_the_partners_list_each_redemption_with_its_perk_and_tier(result: Result) -> None:
    journey = result.journey
    assert result.books.listed == {
        one.redemption: (
            journey.campaigns[one.attempt.campaign].perk,
            journey.households[one.attempt.household].tier,
        )
        for one in result.uses
        if one.redemption is not None
    }


def test_the_report_tells_the_figures(result: Result) -> None:
    lines = "\n".join(told(result))
    accepted = sum(one.redemption is not None for one in result.uses)
    assert f"accepted  {accepted:,}," in lines
    assert "refused   1, ALLOWANCE_EXHAUSTED 1" in lines
    assert "laws        0 broken" in lines
    assert "FAULT" not in lines


async def test_the_credentials_are_kept_so_that_a_later_run_speaks_with_the_same_clients(
    running: Settings, result: Result, tmp_path: Path
) -> None:
    file, partners, viewers = tmp_path / "credentials.json", result.journey.partners, []
    async with served(running) as operator, aiohttp.ClientSession(running.address) as http:
        for _ in range(2):
            club = Club(operator, http)
            await create_partners(club, partners)
            await sign_in_partners(club, partners, file)
            viewers.append([(await voice(VIEWER))["viewer"] for voice in club.partners.values()])
    assert viewers[0] == viewers[1]
    assert [viewer["partner"]["handle"] for viewer in viewers[0]] == ["type-a", "type-b", "type-c"]
    assert file.stat().st_mode & 0o777 == 0o600
