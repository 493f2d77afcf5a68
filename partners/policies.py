"""A policy is a versioned list of rules; a version never changes, so it is read once per process."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from partners.errors import BadInput
from partners.rules import RULES, Allowance, Rule

CACHED_MAX = 10_000


@dataclass(frozen=True, eq=False)
class Policy:
    """The rules of one version, with its allowance at hand."""

    rules: tuple[Rule, ...]
    allowance: Allowance | None

    @cached_property
    def described(self) -> tuple[tuple[str, str, dict[str, Any]], ...]:
        """Each rule's kind, its sentence for people and its settings as they are stored."""
        stored = [rule.model_dump(mode="json") for rule in self.rules]
        return tuple(
            (one.pop("kind"), rule.sentence.format(**one), one) for rule, one in zip(self.rules, stored, strict=True)
        )


_cache: OrderedDict[tuple[UUID, int], Policy] = OrderedDict()


def parsed_policy(perk_id: UUID, version: int, rules: str | list[dict[str, Any]]) -> Policy:
    """The policy that a row's JSON declares, as text or already read, parsed once per version."""
    key = (perk_id, version)
    policy = _cache.get(key)
    if policy is None:
        policy = policy_of(RULES.validate_json(rules) if isinstance(rules, str) else RULES.validate_python(rules))
        _cache[key] = policy
        if len(_cache) > CACHED_MAX:
            _cache.popitem(last=False)
    return policy


def policy_of(rules: Iterable[Rule]) -> Policy:
    """Rules as a policy; the first allowance counts, and `validate_rules` lets in only one."""
    listed = tuple(rules)
    return Policy(listed, next((rule for rule in listed if isinstance(rule, Allowance)), None))


def validate_rules(rules: list[Mapping[str, Any]], tiers: Collection[str]) -> list[Rule]:
    """Rules that a partner wrote, checked against the programme's tiers; BadInput names every fault and its path."""
    try:
        parsed = RULES.validate_python(rules)
    except ValidationError as fault:
        raise faulty(
            f"rules.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in fault.errors(include_url=False)
        ) from None
    unknown = [
        f"rules.{place}: the programme has no tier {tier}; it has {', '.join(tiers)}"
        for place, rule in enumerate(parsed)
        for tier in rule.tiers()
        if tier not in tiers
    ]
    allowances = [place for place, rule in enumerate(parsed) if isinstance(rule, Allowance)]
    surplus = [f"rules.{place}: a policy has at most one allowance" for place in allowances[1:]]
    if unknown or surplus:
        raise faulty(unknown + surplus)
    return parsed


def faulty(faults: Iterable[str]) -> BadInput:
    """All faults in one line, and each by itself in the details."""
    listed = list(faults)
    return BadInput("; ".join(listed), faults=listed)
