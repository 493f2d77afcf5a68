"""Attacks on what partners may say about their endpoints: addresses, descriptions and lists that mean harm."""

from typing import Any

import pytest

from tests.api import Api
from tests.factories import Club
from tests.posting import URL, create, do

ADDRESSES = {
    "a dot at the end": "https://hooks.brand.com./",
    "a zone": "https://[fe80::1%25eth0]/",
    "an old IPv4 in IPv6": "https://[::127.0.0.1]/",
    "any address": "https://[::]/",
    "nought": "https://0/",
    "dots of another script": "https://127\u30020\u30020\u30021/",
    "a letter that folds": "https://\u24dbocalhost/",
    "a port of another script": "https://hooks.brand.com:\uff1443/",
    "a port with a sign": "https://hooks.brand.com:+443/",
    "two ports": "https://hooks.brand.com:443:443/",
    "a name in brackets": "https://[hooks.brand.com]/",
    "a label too long": f"https://{'a' * 64}.com/",
    "a name too long": f"https://{'a.' * 130}com/",
    "a line end": "https://hooks.brand.com/\r\nX-Inner: 1",
    "a line of another script": "https://hooks.brand.com/\u2028x",
    "a local name in capitals": "https://foo.LOCAL/",
    "a name without width": "https://\u200bhooks.brand.com/",
}


@pytest.mark.parametrize("name", ADDRESSES)
async def test_an_address_in_disguise_is_refused(api: Api, club: Club, name: str) -> None:
    voice = api.partner(await club.partner())
    refused = await do(voice, "CreateWebhookEndpoint", url=ADDRESSES[name])
    assert [one["code"] for one in refused["userErrors"]] == ["URL_REFUSED"]
    assert refused["endpoint"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"description": "a\r\nX-Inner: 1"},
        {"description": "a\x7fb"},
        {"description": "x" * 201},
        {"events": ["perk.claimed\r\n"]},
        {"events": ["no.such"]},
    ],
)
async def test_what_would_end_a_line_is_bad_input(api: Api, club: Club, wrong: dict[str, Any]) -> None:
    voice = api.partner(await club.partner())
    create_endpoint = (
        "mutation($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) { secret } }"
    )
    answer = await voice(create_endpoint, input={"url": URL} | wrong)
    assert answer.code == "BAD_INPUT"


async def test_encoded_line_ends_stay_encoded(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    made = await create(voice, "https://HOOKS.brand.com:0443/%0d%0aX-Inner:1?a=%0d%0a")
    assert made["endpoint"]["url"] == "https://hooks.brand.com/%0d%0aX-Inner:1?a=%0d%0a"
