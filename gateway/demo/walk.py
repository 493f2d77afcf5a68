"""The walk: who asks what over HTTP, what is answered, and whether that is right, for people to read."""

import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from string import Template
from typing import Any

from gateway.demo.calls import Api, Reply
from gateway.demo.handout import Handout

WIDTH = 118
ANSWER_LENGTH_MAX = 600
SHORTENED = (
    (re.compile(r'"(\w+)": '), r"\1: "),
    (re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b"), r"\1…"),  # a hash
    (re.compile(r'((?:access|refresh)_token: )"[^"]*"'), r'\1"…"'),
)


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody who asks, and the token they do it with."""

    name: str
    token: str | None


NOBODY = Voice("nobody", None)


@dataclass
class Walk:
    """One walk through a service: `say` prints a line, `found` is what later steps need of earlier ones."""

    handout: Handout
    api: Api
    say: Callable[[str], None]
    voices: dict[str, Voice] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    right: int = 0
    wrong: int = 0

    def take(self, step: "Step") -> None:
        """One step under its heading, which is the first line of its docstring; one that breaks off is wrong."""
        self.steps += 1
        self.say(f"\n{self.steps:2}  {(step.__doc__ or '').splitlines()[0]}")
        try:
            step(self)
        except (KeyError, TypeError, IndexError) as fault:
            self.expect(f"the answer has all that the next question needs ({type(fault).__name__}: {fault})", False)

    def expect(self, sentence: str, holds: bool) -> None:
        """Says whether it is as it should be."""
        self.right, self.wrong = self.right + holds, self.wrong + (not holds)
        self.say(f"    {'✓' if holds else '✗'} {sentence}")

    def ask(self, who: str, fields: str, **values: object) -> Reply:
        """A query, with `$name` for values, and its answer."""
        return self._send(who, "query", fields, values)

    def do(self, who: str, field: str, **values: object) -> Reply:
        """A mutation and its answer."""
        return self._send(who, "mutation", field, values)

    def voice(self, partner: str, *scopes: str) -> Reply:
        """A token for a partner's client, which then speaks as the partner, or with fewer rights as `a weak client`."""
        client = self.handout.client(partner)
        reply = self.api.token(client.id, client.secret, " ".join(scopes) or None)
        name = "a weak client" if scopes else partner
        self.voices[name] = Voice(name, reply.body.get("access_token"))
        self.show(f"{name}: POST /oauth/token grant_type=client_credentials {' '.join(scopes)}".rstrip(), reply)
        return reply

    def show(self, question: str, reply: Reply) -> None:
        """Question and answer, compact; what is a secret to others is a secret here."""
        self.say(wrapped(question, "    ", "        "))
        status = "" if reply.status == 200 else f"{reply.status} "
        self.say(wrapped(status + answer_of(reply), "    → ", "      "))

    def _send(self, who: str, kind: str, fields: str, values: dict[str, object]) -> Reply:
        text = Template(fields).substitute({name: json.dumps(value) for name, value in values.items()})
        reply = self.api.graphql(f"{kind} {{ {text} }}", self.voices[who].token)
        self.show(f"{who}: {essence(text)}", reply)
        return reply


Step = Callable[[Walk], None]


def answer_of(reply: Reply) -> str:
    """The errors, or the answer itself where one thing was asked: as JSON, but for the quotes of names."""
    if "errors" in reply.body:
        return " · ".join(error_of(error) for error in reply.body["errors"])
    data = reply.body.get("data", reply.body)
    text = json.dumps(reply.value if len(data) == 1 else data, ensure_ascii=False)
    for pattern, shown in SHORTENED:
        text = pattern.sub(shown, text)
    return text if len(text) <= ANSWER_LENGTH_MAX else f"{text[:ANSWER_LENGTH_MAX]}… ({len(text):,} characters)"


def error_of(error: dict[str, Any]) -> str:
    """An error's code, its message and the details that a caller can use."""
    details = {name: value for name, value in error["extensions"].items() if name not in ("code", "requestId")}
    return f"{error['extensions']['code']}: {error['message']} {json.dumps(details) if details else ''}".rstrip()


def essence(text: str) -> str:
    """Fields and arguments without what is selected of them, which the answer shows."""
    kept, parentheses, braces = "", 0, 0
    for sign in text:
        parentheses += (sign == "(") - (sign == ")")
        braces += (sign == "{") * (not parentheses)
        kept += "" if braces else sign
        braces -= (sign == "}") * (not parentheses)
    return " ".join(kept.split())


def wrapped(text: str, first: str, following: str) -> str:
    """Long lines in several, without breaking at hyphens."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=following, break_on_hyphens=False, drop_whitespace=True
    )
