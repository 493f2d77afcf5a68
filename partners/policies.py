"""A policy is a versioned list of rules; a version never changes, so it is read once per process."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from partners.errors import BadInput
from partners.rules import RULES, RULES_MAX, Allowance, NotTogether, Rule

CACHED_MAX = 10_000
AT_MOST = {"recurring": 5, "allowance": 10}  # of what takes long to answer: no check may keep others waiting


@dataclass(frozen=True, eq=False)
class Policy:
    """The rules of one version, with its allowances at hand; `exclusion` is the group of perks nobody has two of."""

    rules: tuple[Rule, ...]
    allowances: tuple[Allowance, ...]
    exclusion: str | None = None

    @cached_property
    def allowance(self) -> Allowance | None:
        """The one that people mean by the word: uses of the member's own."""
        return next((one for one in self.allowances if one.per == "member" and not one.by_amount), None)

    @cached_property
    def described(self) -> tuple[tuple[str, str, dict[str, Any]], ...]:
        """Each rule's kind, its sentence for people and its settings as they are stored."""
        return tuple((rule.kind, rule.sentence, written(rule)) for rule in self.rules)


def written(rule: Rule) -> dict[str, Any]:
    """A rule's settings as its author wrote them."""
    settings: dict[str, Any] = rule.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in settings.items() if name != "kind"}


def stored(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules as they are kept: what is not said has its default, also a later one."""
    return [{"kind": rule.kind, **written(rule)} for rule in rules]


def reads_of(rules: Iterable[Rule]) -> dict[str, Any]:
    """What a question about these rules has to read: the columns of `tables.Policy` beside the rules."""
    listed = list(rules)
    allowances = [rule for rule in listed if isinstance(rule, Allowance)]
    # A member of no household is counted by itself.
    counted = {"member": ("member", "household"), "household": ("household",), "device": ("device",)}
    windows = {
        f"{subject}_window": max((one.look_back for one in allowances if one.per in pers), default=None)
        for subject, pers in counted.items()
    }
    return {**windows, "needs": sorted({need for rule in listed for need in rule.needs()})}


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
    """Rules as a policy."""
    listed = tuple(rules)
    exclusion = next((rule.group for rule in listed if isinstance(rule, NotTogether)), None)
    return Policy(listed, tuple(rule for rule in listed if isinstance(rule, Allowance)), exclusion)


def validate_rules(rules: list[Mapping[str, Any]], tiers: Collection[str]) -> list[Rule]:
    """Rules that a partner wrote, checked against the programme's tiers; BadInput names every fault and its path."""
    if surplus := list(too_many(rules)):  # said before any is worked out
        raise faulty(surplus)
    try:
        parsed = RULES.validate_python(rules)
    except ValidationError as fault:
        raise faulty(told(one) for one in fault.errors(include_url=False)) from None
    unknown = [
        f"rules.{place}: the programme has no tier {tier}; it has {', '.join(tiers)}"
        for place, rule in enumerate(parsed)
        for tier in rule.tiers()
        if tier not in tiers
    ]
    groups = [place for place, rule in enumerate(parsed) if isinstance(rule, NotTogether)]
    if faults := unknown + [f"rules.{place}: at most one not_together" for place in groups[1:]]:
        raise faulty(faults)
    return parsed


def too_many(rules: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A fault for each rule of a kind of which there are enough."""
    seen: Counter[str] = Counter()
    for place, rule in enumerate(rules):
        kind = str(rule.get("kind"))
        seen[kind] += 1
        if seen[kind] > AT_MOST.get(kind, RULES_MAX):
            yield f"rules.{place}: at most {AT_MOST.get(kind, RULES_MAX)} {kind}"


def told(fault: Any) -> str:
    """One fault that pydantic found: where and what. The path of a rule's field goes on after the rule's kind."""
    place, *path = fault["loc"] or ("",)
    where = ".".join(str(part) for part in ("rules", place, *path[1:]))
    return f"{where.removesuffix('.')}: {fault['msg'].removeprefix('Value error, ')}"


def faulty(faults: Iterable[str]) -> BadInput:
    """All faults in one line, and each by itself in the details."""
    listed = list(faults)
    return BadInput("; ".join(listed), faults=listed)
