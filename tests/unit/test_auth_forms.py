"""Reading a posted form where no client over HTTP can be made to show it."""

import pytest
from authlib.oauth2.rfc6749 import InvalidRequestError  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.types import Message

from auth.authentication import Credentials, Method
from auth.forms import printable, read_form

SCOPE = {
    "type": "http",
    "method": "POST",
    "query_string": b"",
    "headers": [(b"content-type", b"application/x-www-form-urlencoded; charset=UTF-8")],
}


def posted(*messages: Message) -> Request:
    waiting = iter(messages)

    async def receive() -> Message:
        return next(waiting)

    return Request(SCOPE, receive)


async def test_a_body_in_pieces_is_one_form() -> None:
    request = posted(
        {"type": "http.request", "body": b"grant_type=client_cred", "more_body": True},
        {"type": "http.request", "body": b"entials&scope=a+b&empty=", "more_body": False},
    )
    assert await read_form(request) == {"grant_type": "client_credentials", "scope": "a b"}


async def test_a_client_that_leaves_in_the_middle_is_refused() -> None:
    request = posted({"type": "http.request", "body": b"grant_type=", "more_body": True}, {"type": "http.disconnect"})
    with pytest.raises(InvalidRequestError, match="ended early"):
        await read_form(request)


async def test_no_more_than_the_limit_is_read_of_a_body_without_end() -> None:
    piece = {"type": "http.request", "body": b"A" * 1000, "more_body": True}
    with pytest.raises(InvalidRequestError, match="longer than 16384 bytes"):
        await read_form(posted(*[piece] * 17))


def test_credentials_do_not_show_their_secret() -> None:
    shown = repr(Credentials(Method.POST, "client_a", "hush"))
    assert "client_a" in shown
    assert "hush" not in shown


def test_a_description_keeps_to_the_characters_and_length_of_the_rfc() -> None:
    assert printable('say "hi"\\ to\nñ') == "say ?hi?? to??"
    assert len(printable("x" * 1000)) == 300
