"""`perks people`: who the built-in sign-in lets in."""

import pytest

from auth.caller import CallerKind
from auth.scopes import scopes_of
from tests.commands import Perks


def test_people_of_every_kind_are_added_listed_and_replaced(perks: Perks) -> None:
    assert perks("partners", "add", "velo", "--name", "Velo Club").code == 0
    perks.query(
        "INSERT INTO member (id, external_id, state, joined_at, created_at, audit_salt, version, labels, score,"
        " reviews) VALUES (gen_random_uuid(), 'm-1', 'ACTIVE', now(), now(), '\\x00', 1, '{}', 0, '{}')"
    )
    assert perks("people", "add", "ines", "--name", "Ines", "--member", "m-1").code == 0
    assert perks("people", "add", "marc", "--name", "Marc", "--partner", "velo", "--scope", "devices:enrol").code == 0
    assert perks("people", "add", "noor", "--name", "Noor", "--staff", "--scope", "audit:read").code == 0
    assert perks("people", "add", "noor", "--name", "Noor H.", "--staff").code == 0
    listed = {one["handle"]: one for one in perks("people", "list", "--json").json}
    assert {handle: (one["name"], one["kind"]) for handle, one in listed.items()} == {
        "ines": ("Ines", "member"),
        "marc": ("Marc", "partner"),
        "noor": ("Noor H.", "staff"),
    }
    assert listed["marc"]["scopes"] == ["devices:enrol"]
    assert set(listed["noor"]["scopes"]) == scopes_of(CallerKind.STAFF)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["x", "--name", "X"], 2, "who is it?"),
        (["x", "--name", "X", "--staff", "--member", "m"], 2, "who is it?"),
        (["x", "--name", "X", "--member", "nobody"], 1, "no such member"),
        (["x", "--name", "X", "--partner", "nobody"], 1, "no such partner"),
        (["x", "--name", "X", "--staff", "--scope", "me:read"], 2, "unknown scopes for a staff"),
        (["x", "--name", " ", "--staff"], 2, "name"),
    ],
)
def test_a_person_that_can_not_be_is_one_line(perks: Perks, arguments: list[str], code: int, said: str) -> None:
    ended = perks("people", "add", *arguments)
    assert (ended.code, len(ended.faults)) == (code, 1)
    assert said in ended.err
    assert perks("people", "list", "--json").json == []
