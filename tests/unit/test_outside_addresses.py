"""Which addresses that a partner chose can be a webhook's, as far as their text tells, and what is public."""

from ipaddress import ip_address

import pytest

from gateway.settings import SettingsInvalid, read_settings
from partners.outside_addresses import PrivateTargets, UrlRefused, is_public, read_private_targets, read_url
from tests.outside_vectors import INNER, PUBLIC, REFUSED


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED.keys())
def test_an_address_that_is_not_plainly_public_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        read_url(url)
    assert refused.value.message


def test_there_are_as_many_vectors_as_were_promised() -> None:
    assert len(REFUSED) >= 60


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://hooks.brand.com", "https://hooks.brand.com/"),
        ("https://Hooks.Brand.COM:443/a?b=c", "https://hooks.brand.com/a?b=c"),
        ("HTTPS://hooks.brand.com/%2e%2e/x", "https://hooks.brand.com/%2e%2e/x"),
        ("https://büro.example/x", "https://xn--bro-hoa.example/x"),
        # Cyrillic а: another name than brand.com, and told as such.
        ("https://hooks.brаnd.com/", "https://hooks.xn--brnd-63d.com/"),
        ("https://hooks.brand.com/?a=b", "https://hooks.brand.com/?a=b"),
    ],
)
def test_a_public_name_is_kept_in_one_spelling(url: str, plain: str) -> None:
    assert read_url(url).url == plain


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_its_neighbours_are(address: str) -> None:
    assert is_public(ip_address(address))


def test_what_is_named_may_have_any_port_and_no_tls() -> None:
    private = read_private_targets("localhost:9000, 10.2.0.0/16, [fd00::/8]:8443, receiver")
    good = ["http://localhost:9000/", "http://10.2.3.4:81/x", "https://[fd00::1]:8443/", "http://receiver/"]
    assert [read_url(url, private).url for url in good] == good


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9001/",
        "http://10.3.0.1/",
        "http://[fd00::1]:8444/",
        "http://receiver.local/",
        "http://u@localhost:9000/",
        "file://localhost:9000/",
        "http://localhost:9000/#x",
        "http://169.254.169.254/",
        "http://hooks.brand.com/",
    ],
)
def test_what_is_beside_it_may_not(url: str) -> None:
    private = read_private_targets("localhost:9000,10.2.0.0/16,[fd00::/8]:8443,receiver")
    with pytest.raises(UrlRefused):
        read_url(url, private)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "a b", "host:0", "host:70000", "[::1", "host/24", "http://host", "::1"])
def test_a_setting_that_can_not_be_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_private_targets(text)


def test_nothing_is_named_by_default() -> None:
    assert read_private_targets(" , ") == PrivateTargets()


def test_a_setting_that_can_not_be_stops_the_service_before_it_starts() -> None:
    with pytest.raises(SettingsInvalid, match=r"PERKS_WEBHOOK_PRIVATE_TARGETS.*10\.0\.0\.1/8"):
        read_settings(webhook_private_targets="localhost,10.0.0.1/8")
    assert read_settings(webhook_private_targets="localhost").webhook_private_targets == "localhost"
