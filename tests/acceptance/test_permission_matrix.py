"""Who gets what: every field of the schema for every kind of caller and every scope alone, kept as docs/permissions.md.

The file is made by asking, not by reading declarations: root fields and the rows behind global ids are really queried,
with what belongs to one partner and one member, by each persona. A change shows in review; make it anew with
`PERKS_WRITE_MATRIX=1 pytest tests/acceptance/test_permission_matrix.py`.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import GraphQLObjectType, get_named_type, is_composite_type

from auth.caller import Caller, CallerKind
from auth.scopes import MEMBER_BOUND, SCOPES, scopes_of
from partners import tables
from schema.permissions import permission_of
from schema.root import SCHEMA
from tests.api import Answer, Api, Voice
from tests.factories import Club
from tests.followers import first_result
from tests.matrix_samples import Rows, node_ids, samples

ROOTS = (SCHEMA._schema.query_type, SCHEMA._schema.mutation_type, SCHEMA._schema.subscription_type)
FILE = Path(__file__).parents[2] / "docs" / "permissions.md"
ALLOWED, REFUSED, ABSENT = "yes", ".", "-"
DENIALS = {"FORBIDDEN", "INSUFFICIENT_SCOPE", "UNAUTHENTICATED"}
ABSENCES = {"NOT_FOUND", "NOT_AVAILABLE", "NOT_A_MEMBER"}
HEAD = """# Who gets what

Made by `tests/acceptance/test_permission_matrix.py`, which asks for every field as every caller with one scope alone;
a field that needs two scopes says so in the SDL. `yes`: answered. `.`: refused, by `FORBIDDEN`, `INSUFFICIENT_SCOPE`
or `UNAUTHENTICATED`. `-`: absent, the answer that is also given for what does not exist.

| column | the caller's token |
|---|---|
"""


@dataclass(frozen=True)
class Persona:
    """One column: a caller, named by few letters."""

    name: str
    what: str
    voice: Voice
    caller: Caller


async def personas(api: Api, rows: Rows) -> list[Persona]:
    """Anonymous, each scope alone of each kind of the rows' owners, and strangers with every scope."""

    def one(name: str, what: str, caller: Caller) -> Persona:
        return Persona(name, what, api.voice(caller), caller)

    def partner(owner: tables.Partner, scopes: frozenset[str], alias: str | None = None) -> Caller:
        client = f"client_of_{owner.handle}"
        return Caller(CallerKind.PARTNER, client, scopes, client_id=client, partner_id=owner.id, alias=alias)

    def member(who: tables.Member, scopes: frozenset[str]) -> Caller:
        return Caller(CallerKind.MEMBER, str(who.id), scopes, client_id="app", member_id=who.id)

    found = [Persona("nobody", "none", api.anonymous(), Caller(CallerKind.ANONYMOUS, "anonymous"))]
    for number, scope in enumerate(SCOPES[CallerKind.PARTNER], 1):
        found.append(one(f"P{number}", f"the partner's, `{scope}`", partner(rows.partner, frozenset({scope}))))
    found.append(one("PB", "the partner's, bound to the member", partner(rows.partner, MEMBER_BOUND, rows.alias)))
    stranger = partner(rows.partner, MEMBER_BOUND, rows.another_alias)
    found.append(one("PC", "the partner's, bound to another member", stranger))
    found.append(one("P*", "another partner's, every scope", partner(rows.another, scopes_of(CallerKind.PARTNER))))
    for number, scope in enumerate(SCOPES[CallerKind.MEMBER], 1):
        found.append(one(f"M{number}", f"the member's, `{scope}`", member(rows.member, frozenset({scope}))))
    found.append(one("M*", "another member's, every scope", member(rows.another_member, scopes_of(CallerKind.MEMBER))))
    for number, scope in enumerate(SCOPES[CallerKind.STAFF], 1):
        staff = Caller(CallerKind.STAFF, "desk", frozenset({scope}), client_id="console")
        found.append(one(f"S{number}", f"staff's, `{scope}`", staff))
    return found


def judged(answer: Answer, name: str) -> str:
    """What one answer amounts to for its one root field."""
    if "errors" in answer.body:
        if answer.code in DENIALS:
            return REFUSED
        return ABSENT if answer.code in ABSENCES else ALLOWED
    value = answer.body["data"][name]
    if isinstance(value, Mapping):
        codes = {error["code"] for error in value.get("userErrors") or ()}
        codes |= {refusal["code"] for refusal in value.get("refusals") or ()}
        empty = value.get("nodes") == []
        return ABSENT if codes & ABSENCES or empty else ALLOWED
    if isinstance(value, list) and value and isinstance(value[0], Mapping) and "error" in value[0]:
        value = [one for one in value if one["error"] is None and not refused(one)]
    return ABSENT if value in (None, []) else ALLOWED


def refused(result: Mapping[str, Any]) -> bool:
    """Whether a bulk check told nothing of the member."""
    return bool({refusal["code"] for refusal in result["decision"]["refusals"]} & ABSENCES)


Line = tuple[str, list[str]]


async def of_roots(found: list[Persona], club: Club, rows: Rows) -> list[Line]:
    """Every query, mutation and subscription, really asked; rows are made anew for each question that changes some."""
    lines = []
    known = samples()
    for root in filter(None, ROOTS):
        for name in root.fields:
            coordinate = f"{root.name}.{name}"
            sample: Callable[[Club, Rows, Caller], Awaitable[tuple[str, dict[str, Any]]]] = known[coordinate]
            cells = []
            for persona in found:
                query, variables = await sample(club, rows, persona.caller)
                if root is SCHEMA._schema.subscription_type:
                    answer = await first_result(persona.voice, query, variables)
                else:
                    answer = await persona.voice(query, **variables)
                cells.append(judged(answer, name))
            lines.append((coordinate, cells))
    return lines


async def of_rows(kind: GraphQLObjectType, id: str, found: list[Persona]) -> list[Line]:
    """Every field of what has a global id, through `node`."""
    lines = []
    for name, definition in kind.fields.items():
        below = " { __typename }" if is_composite_type(get_named_type(definition.type)) else ""
        query = f"query($id: ID!) {{ node(id: $id) {{ ... on {kind.name} {{ {name}{below} }} }} }}"
        cells = [judged(await persona.voice(query, id=id), "node") for persona in found]
        lines.append((f"{kind.name}.{name}", cells))
    return lines


def of_declarations(kind: GraphQLObjectType, found: list[Persona]) -> list[Line]:
    """Every field of what comes with something else: by its declaration, which enforcement reads."""
    lines = []
    for name, definition in kind.fields.items():
        permission = permission_of(kind, definition)
        cells = [ALLOWED if permission is None or permission.admits(one.caller) else REFUSED for one in found]
        lines.append((f"{kind.name}.{name}", cells))
    return lines


def printed(found: list[Persona], groups: Mapping[str, list[Line]]) -> str:
    """The whole file."""
    text = HEAD + "".join(f"| {one.name} | {one.what} |\n" for one in found)
    for title, lines in groups.items():
        width = max(len(coordinate) for coordinate, _ in lines)
        rows = ["".ljust(width) + " " + " ".join(one.name.rjust(3) for one in found)]
        for coordinate, cells in lines:
            aligned = (cell.rjust(max(3, len(one.name))) for cell, one in zip(cells, found, strict=True))
            rows.append(f"{coordinate.ljust(width)} {' '.join(aligned)}")
        text += f"\n## {title}\n```\n" + "\n".join(row.rstrip() for row in rows) + "\n```\n"
    return text


async def test_every_field_answers_each_caller_as_it_is_written_down(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    found = await personas(api, rows)
    ids = await node_ids(club, rows)
    groups: dict[str, list[Line]] = {"Queries, mutations and subscriptions": await of_roots(found, club, rows)}
    behind, beside = [], []
    for kind in SCHEMA._schema.type_map.values():
        if not isinstance(kind, GraphQLObjectType) or kind.name.startswith("__"):
            continue
        if kind in ROOTS:
            continue
        if kind.name in ids:
            behind += await of_rows(kind, ids[kind.name], found)
        else:
            beside += of_declarations(kind, found)
    groups["Rows, by `node`"] = sorted(behind)
    groups["What comes with them, by declaration"] = sorted(beside)
    text = printed(found, groups)
    if os.environ.get("PERKS_WRITE_MATRIX"):
        FILE.write_text(text, encoding="utf-8")
    assert text == FILE.read_text(encoding="utf-8")


async def test_a_stranger_with_every_scope_never_gets_what_is_anothers(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    for persona in await personas(api, rows):
        if persona.name not in ("P*", "M*", "PC"):
            continue
        for name, id in (await node_ids(club, rows)).items():
            if name in ("Partner", "Perk") and persona.name != "P*":
                continue  # what is published is for every member, and a partner's own clients see its perks
            answer = await persona.voice("query($id: ID!) { node(id: $id) { id } }", id=id)
            assert answer.data["node"] is None, (persona.what, name)
