"""The list of scopes is part of the API: it changes only on purpose."""

import re
from itertools import chain

import pytest

from auth.caller import CallerKind
from auth.scopes import SCOPES, join_scopes, require_scopes_of, scopes_of, split_scopes
from partners.errors import BadInput


def test_the_scopes_of_each_kind_of_caller_are_these() -> None:
    assert {kind.value: join_scopes(scopes_of(kind)) for kind in CallerKind} == {
        "anonymous": "",
        "partner": "clients:manage consents:read devices:enrol eligibility:read holds:write links:write"
        " member.address:read member.tier.history:read member.tier:read perks:read perks:write redemptions:read"
        " redemptions:reverse"
        " redemptions:write webhooks:manage",
        "member": "me:claim me:consents me:read",
        "staff": "audit:read consents:admin members:admin partners:admin programme:admin",
    }


def test_no_scope_belongs_to_two_kinds_of_caller() -> None:
    names = list(chain.from_iterable(SCOPES.values()))
    assert len(names) == len(set(names))


def test_every_scope_is_a_resource_an_action_and_a_sentence() -> None:
    for name, description in chain.from_iterable(scopes.items() for scopes in SCOPES.values()):
        assert re.fullmatch(r"[a-z]+(\.[a-z]+)*:[a-z]+", name)
        assert re.fullmatch(r"[A-Z].+\.", description)


def test_a_scope_text_reads_the_same_in_any_order_and_spacing() -> None:
    assert split_scopes(" perks:read  holds:write perks:read ") == {"perks:read", "holds:write"}
    assert join_scopes({"perks:read", "holds:write"}) == "holds:write perks:read"


def test_every_scope_that_the_caller_can_not_have_is_named() -> None:
    with pytest.raises(BadInput, match="unknown scopes for a partner: audit:read, nonsense") as refused:
        require_scopes_of(CallerKind.PARTNER, ["perks:read", "nonsense", "audit:read"])
    assert refused.value.details == {"unknownScopes": ["audit:read", "nonsense"]}
