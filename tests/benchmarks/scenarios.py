"""What is asked of the gateway, by whom and what a right answer looks like."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from schema.ids import REDEMPTION
from schema.paging import show_cursor
from tests.benchmarks.club import Brand
from tests.benchmarks.load import KEY, WrongAnswer, http_request

Variables = Mapping[str, Any]
REQUESTS = 20_000
PAGE = 50

CHECK = """
query Check($member: MemberBy!, $perk: PerkBy!) {
  eligibility(member: $member, perk: $perk) {
    eligible validUntil eligibleAgainAt capacityRemaining policyVersion
    refusals { code message rule required current }
    allowance { limit remaining resetsAt }
  }
}
"""
LIST = """
query List($member: MemberBy!) {
  perks(member: $member, first: 50) {
    nodes {
      id handle kind state title opensAt closesOn capacityRemaining
      partner { id handle name }
      eligibility { eligible validUntil refusals { code message } allowance { remaining resetsAt } }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
CLAIM = """
mutation Claim($input: ClaimPerkInput!) {
  claimPerk(input: $input) { hold { id code state expiresAt leafHash } replayed userErrors { code message path } }
}
"""
PAGE_OF_REDEMPTIONS = """
query Page($after: String) {
  redemptions(first: 50, after: $after) {
    nodes {
      id confirmedAt fulfilment tier policyVersion leafHash
      perk { id handle title partner { handle } }
      member { id alias tier { handle name } }
      reversal { id }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A document, the variables of the n-th request, a text that is in every good answer, and a close look at one."""

    name: str
    sentence: str
    document: str
    variables: Callable[[Brand, Random], Variables]
    expect: str
    look: Callable[[Any], bool]

    def bodies(self, brand: Brand, count: int) -> list[bytes]:
        """So many request bodies, each with its own variables."""
        random = Random(f"{self.name} {brand.handle}")
        return [
            orjson.dumps({"query": self.document, "variables": self.variables(brand, random)}) for _ in range(count)
        ]

    def requests(self, brands: Sequence[Brand], tokens: Sequence[str], port: int) -> list[bytes]:
        """Whole HTTP requests of all partners in turn."""
        each = [self.bodies(brand, REQUESTS // len(brands)) for brand in brands]
        return [
            http_request("POST", "/graphql", port, body, token)
            for bodies in zip(*each, strict=True)
            for body, token in zip(bodies, tokens, strict=True)
        ]

    def check(self, answer: Any) -> None:
        """WrongAnswer unless it is what was asked for."""
        if "errors" in answer or not self.look(answer["data"]):
            raise WrongAnswer(f"{self.name}: {orjson.dumps(answer).decode()[:500]}")


def someone(brand: Brand, random: Random) -> Variables:
    """A member by the partner's alias."""
    return {"alias": random.choice(brand.aliases)}


def check_variables(brand: Brand, random: Random) -> Variables:
    """Any member and any perk."""
    perk = brand.perk_handle(random.randrange(len(brand.perks)))
    return {"member": someone(brand, random), "perk": {"handle": perk}}


def claim_variables(brand: Brand, random: Random) -> Variables:
    """Any member and a perk that is open to all, with a key that the load replaces."""
    perk = brand.perk_handle(random.choice(brand.claimable))
    return {"input": {"member": someone(brand, random), "perk": {"handle": perk}, "idempotencyKey": KEY}}


def page_variables(brand: Brand, random: Random) -> Variables:
    """A place among the partner's redemptions with a whole page behind it."""
    return {"after": show_cursor(random.choice(brand.redemptions[2 * PAGE :]))}


def whole_page(nodes: Sequence[Any], *parts: str) -> bool:
    """Fifty different rows, each with these parts."""
    return len({node["id"] for node in nodes}) == PAGE and all(node[part] for node in nodes for part in parts)


SCENARIOS = (
    Scenario(
        "check",
        "one eligibility check",
        CHECK,
        check_variables,
        '"eligible":',
        lambda data: data["eligibility"]["eligible"] is (data["eligibility"]["refusals"] == []),
    ),
    Scenario(
        "list",
        "50 perks with partner and eligibility",
        LIST,
        lambda brand, random: {"member": someone(brand, random)},
        '"eligible":true',
        lambda data: whole_page(data["perks"]["nodes"], "partner", "eligibility"),
    ),
    Scenario(
        "claim",
        "claim, each with its own key",
        CLAIM,
        claim_variables,
        '"hold":{',
        lambda data: data["claimPerk"]["hold"]["state"] == "HELD" and not data["claimPerk"]["replayed"],
    ),
    Scenario(
        "page",
        "50 redemptions with perk and member",
        PAGE_OF_REDEMPTIONS,
        page_variables,
        f'"id":"{REDEMPTION}_',
        lambda data: whole_page(data["redemptions"]["nodes"], "perk", "member"),
    ),
)
