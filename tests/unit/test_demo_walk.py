"""What the walk shows of a question and an answer."""

import pytest

from gateway.demo.calls import Reply
from gateway.demo.walk import answer_of, essence


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("viewer { kind partner { handle } }", "viewer"),
        ("member(by: {alias: $alias}) { tier { name } }", "member(by: {alias: $alias})"),
        ("perk(by: {id: $id}) { id } node(id: $id) { id }", "perk(by: {id: $id}) node(id: $id)"),
    ],
)
def test_the_essence_of_a_query_is_what_it_asks_for(text: str, short: str) -> None:
    assert essence(text) == short


def test_an_answer_is_shown_without_secrets_and_with_short_hashes() -> None:
    token = Reply(200, {"access_token": "secret", "expires_in": 600})
    leaf = Reply(200, {"data": {"hold": {"leafHash": "0123456789ab" + "c" * 52}}})
    error = {"message": "no", "extensions": {"code": "FORBIDDEN", "requestId": "x", "missingScopes": ["a"]}}
    assert answer_of(token) == '{access_token: "…", expires_in: 600}'
    assert answer_of(leaf) == '{leafHash: "0123456789ab…"}'
    assert answer_of(Reply(403, {"errors": [error]})) == 'FORBIDDEN: no {"missingScopes": ["a"]}'
