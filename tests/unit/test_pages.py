"""The pages' own rules: what may stand in a policy, and templates that leave nothing open."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from jinja2 import UndefinedError

from gateway.pages.consents import SENTENCES
from gateway.pages.showing import FOLDER, page, renderer, shown, source_of
from gateway.pages.visits import DESTINATION, destination
from partners.tables import DisclosureKind


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("https://app.example/back?x=1", "https:"),
        ("HTTPS://App.Example:8443/back", "https:"),
        ("http://127.0.0.1:8765/callback", "http:"),
        ("http://[::1]:8765/callback", "http:"),
        ("com.example.app:/done", "com.example.app:"),
        ("a;b:/x", None),
        ("https://app.example;script-src *", "https:"),
        ("no-scheme", None),
        ("", None),
    ],
)
def test_a_policy_names_a_scheme_and_nothing_that_means_more(address: str, source: str | None) -> None:
    assert source_of(address) == source


def test_a_page_names_each_place_that_its_forms_lead_to_once() -> None:
    targets = ["https://b.example/1", "com.a.app:/", "https://a.example/2", "x;y:/"]
    policy = page("", form_targets=targets).headers["content-security-policy"]
    assert "; form-action 'self' com.a.app: https:;" in policy


def test_a_day_is_one_of_the_clubs_time_zone() -> None:
    late = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    zone = ZoneInfo("Europe/Zurich")
    assert shown(late, zone, "") == '<time datetime="2027-01-01T00:30:00+01:00">1 January 2027</time>'
    assert ">1 January 2027, 00:30<" in shown(late, zone, ", %H:%M")


def test_a_name_that_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        renderer("Club", "UTC")("message.html", {"title": "x"})


def test_templates_hold_no_script_no_style_and_nothing_that_is_not_escaped() -> None:
    templates = sorted((FOLDER / "templates").glob("*.html"))
    assert len(templates) > 8
    for template in templates:
        text = template.read_text(encoding="utf-8")
        for forbidden in ("<script", "<style", "style=", "|safe", "autoescape", "onclick", "http://", "https://"):
            assert forbidden not in text.replace("http://www.w3.org/2000/svg", ""), template.name


@pytest.mark.parametrize(
    "asked", ["/account", "/consents", "/consents/a-brand/withdraw", "/device?user_code=BCDF-GHJK"]
)
def test_a_sign_in_goes_on_at_a_page_of_ours(asked: str) -> None:
    assert destination(asked) == asked


@pytest.mark.parametrize("asked", [None, "", "/account\n", "/consents/a/../b", "//x", "/device?user_code=<", "/x"])
def test_a_sign_in_goes_nowhere_else(asked: str | None) -> None:
    assert destination(asked) == "/account"
    assert DESTINATION.fullmatch("/authorize/" + "a" * 201) is None


def test_every_kind_of_disclosure_has_its_sentence() -> None:
    assert set(SENTENCES) == set(DisclosureKind)
