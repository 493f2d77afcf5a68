"""programme.toml: what can't be is said in one line that names the file and every fault."""

from pathlib import Path

import pytest

from partners.programme import ProgrammeInvalid, read_programme

GOOD = """
name = "Meridian Club"
time_zone = "Europe/Zurich"
[[tier]]
handle = "gold"
name = "Gold"
rank = 3
[[tier]]
handle = "member"
name = "Member"
rank = 1
"""
INDICATOR = """
[[indicator]]
handle = "visit"
weight = 10
"""


def test_indicators_weights_caps_and_the_window_are_read(tmp_path: Path) -> None:
    file = tmp_path / "programme.toml"
    file.write_text(GOOD)
    plain = read_programme(file)
    assert (plain.indicator, plain.score.window_days) == ((), 365)
    file.write_text(GOOD + INDICATOR + "cap = 500\n[score]\nwindow_days = 90")
    programme = read_programme(file)
    assert [(one.handle, one.weight, one.cap) for one in programme.indicator] == [("visit", 10, 500)]
    assert programme.score.window_days == 90


def test_a_good_file_is_a_ladder_from_the_lowest_tier_to_the_highest(tmp_path: Path) -> None:
    file = tmp_path / "programme.toml"
    file.write_text(GOOD)
    programme = read_programme(file)
    assert [tier.handle for tier in programme.tiers] == ["member", "gold"]
    assert programme.ranks == {"gold": 3, "member": 1}
    assert programme.zone.key == "Europe/Zurich"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["name: Field required", "tier: Field required"]),
        ("name = ", ["not TOML"]),
        (b"name = '\xff'", ["not TOML"]),
        ('name = "x"\nname = "y"', ["not TOML"]),
        ('name = "x"', ["tier: Field required"]),
        ('name = "x"\ntier = []', ["tier: "]),
        ('name = "x"\ntier = 3', ["tier: "]),
        (GOOD.replace("rank = 1", "rank = 3"), ["two tiers have the rank 3"]),
        (GOOD.replace('"member"', '"gold"'), ["two tiers have the handle gold"]),
        (GOOD.replace('"member"', '"gold"').replace("rank = 1", "rank = 3"), ["the handle gold", "the rank 3"]),
        (GOOD.replace("Zurich", "Zürich"), ["time_zone: unknown time zone 'Europe/Zürich'"]),
        (GOOD.replace("Europe/Zurich", "../../etc/passwd"), ["time_zone: unknown time zone"]),
        (GOOD.replace("time_zone", "timezone"), ["timezone: Extra inputs"]),
        (GOOD + 'colour = "gold"', ["tier.1.colour: Extra inputs"]),
        (GOOD.replace('"gold"', '"Gold"'), ["tier.0.handle"]),
        (GOOD.replace('"gold"', '"-"'), ["tier.0.handle"]),
        (GOOD.replace('"gold"', '"gold\\n"'), ["tier.0.handle"]),
        (GOOD.replace("rank = 1", "rank = 0"), ["tier.1.rank"]),
        (GOOD.replace("rank = 1", "rank = 99999999999999999999"), ["tier.1.rank"]),
        (GOOD.replace("rank = 1", 'rank = "high"'), ["tier.1.rank"]),
        (GOOD + INDICATOR + INDICATOR, ["two indicators have the handle visit"]),
        (GOOD + INDICATOR.replace("10", "1.5"), ["indicator.0.weight"]),
        (GOOD + INDICATOR.replace("10", "1000001"), ["indicator.0.weight"]),
        (GOOD + INDICATOR.replace('"visit"', '""'), ["indicator.0.handle"]),
        (GOOD + INDICATOR + "cap = -1", ["indicator.0.cap"]),
        (GOOD + INDICATOR + "points = 1", ["indicator.0.points: Extra inputs"]),
        (GOOD + "[score]\nwindow_days = 0", ["score.window_days"]),
        (GOOD.replace('name = "Gold"\nrank = 3', ""), ["tier.0.name: Field required", "tier.0.rank: Field required"]),
        (GOOD.replace('"Meridian Club"', '""').replace("rank = 1", "rank = -1"), ["name: ", "tier.1.rank"]),
    ],
)
def test_an_impossible_file_is_refused_in_one_line_with_every_fault(
    tmp_path: Path, content: str | bytes, said: list[str]
) -> None:
    file = tmp_path / "programme.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProgrammeInvalid) as fault:
        read_programme(file)
    message = fault.value.message
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    assert "Value error" not in message
    for part in said:
        assert part in message


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ProgrammeInvalid) as fault:
            read_programme(path)
        assert fault.value.message.startswith(f"{path}: {why}")
