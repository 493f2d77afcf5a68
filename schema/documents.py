"""Everything that can be known about a query text before its variables arrive, worked out once and kept.

Parsing, limits, validation, the choice of operation and the permissions it needs depend on the text alone, and
validation is most of what a small request would cost. So prepared documents are kept by the SHA-256 of their
full text, and so are rejected texts with their errors. Trusted documents are prepared when the service starts.
"""

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    parse,
    specified_rules,
    validate,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values
from graphql.utilities import coerce_input_value
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from schema.completion import Plans
from schema.enforcement import Demands
from schema.errors import FormattedError, Rejected
from schema.limits import Limits, check, exceeded
from schema.shortcut import Shortcut

VALIDATION_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)
VALIDATION_ERRORS_MAX = 10
VARIABLE_ERRORS_MAX = 10
NO_VARIABLES = VariableValues({}, {})

Value = TypeVar("Value")


class BoundedCache(Generic[Value]):
    """Least recently used first out, bounded by count and by the bytes of the texts its values come from."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._entries: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self._count_max, self._bytes_max, self._bytes = count_max, bytes_max, 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Value | None:
        """The value, which becomes the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, value: Value, size: int) -> None:
        """Keep a value made from `size` bytes of text, at the cost of the least recently used ones."""
        self._entries[key] = (value, size)
        self._bytes += size
        while len(self._entries) > self._count_max or self._bytes > self._bytes_max:
            self._bytes -= self._entries.popitem(last=False)[1][1]


class Operation:
    """One operation of a prepared document with all it needs to run, and what it leaves for the next time."""

    def __init__(
        self,
        schema: GraphQLSchema,
        node: OperationDefinitionNode,
        fragment_definitions: dict[str, FragmentDefinitionNode],
    ) -> None:
        self.node = node
        self.kind = node.operation.value
        self.fragment_definitions = fragment_definitions
        self.fragments = {name: FragmentDetails(node) for name, node in fragment_definitions.items()}
        self.demands = Demands(schema, node, fragment_definitions)
        self.plans = Plans(node, fragment_definitions)
        self.shortcut = Shortcut.of(schema, node, fragment_definitions)
        # Only the schema can answer it and nothing in the request can change that, so one answer serves all.
        self.introspects = not node.variable_definitions and all(
            isinstance(selection, FieldNode) and selection.name.value.startswith("__")
            for selection in node.selection_set.selections
        )
        self.answer: bytes | None = None
        signatures = (get_variable_signature(schema, definition) for definition in node.variable_definitions or ())
        self._signatures = [s for s in signatures if isinstance(s, GraphQLVariableSignature)]  # all: it is valid

    def variable_values(self, schema: GraphQLSchema, inputs: Mapping[str, Any]) -> VariableValues:
        """The request's variables coerced to their types; raises `Rejected` (BAD_USER_INPUT)."""
        if not self._signatures:
            return NO_VARIABLES
        values: VariableValues | list[GraphQLError] | None = self._coerced(inputs)
        if values is None:
            definitions = self.node.variable_definitions or ()
            values = get_variable_values(schema, definitions, dict(inputs), VARIABLE_ERRORS_MAX)
        if isinstance(values, list):
            raise Rejected.of("BAD_USER_INPUT", values)
        return values

    def _coerced(self, inputs: Mapping[str, Any]) -> VariableValues | None:
        """What graphql-core's `get_variable_values` makes of good values, without working out the types again."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for signature in self._signatures:
            value = inputs.get(signature.name, Undefined)
            try:
                result = coerce_input_value(value, signature.type) if value is not Undefined else Undefined
            except (GraphQLError, RecursionError):
                result = Undefined
            if result is Undefined:
                return None  # a default, or a mistake for which graphql-core has the words
            sources[signature.name] = VariableValueSource(signature, value)
            coerced[signature.name] = result
        return VariableValues(sources, coerced)


class Document:
    """A valid document: its operations by name."""

    def __init__(self, schema: GraphQLSchema, node: DocumentNode) -> None:
        fragments = {d.name.value: d for d in node.definitions if isinstance(d, FragmentDefinitionNode)}
        self._operations = {
            d.name.value if d.name else None: Operation(schema, d, fragments)
            for d in node.definitions
            if isinstance(d, OperationDefinitionNode)
        }

    def operation(self, name: str | None) -> Operation:
        """The named operation, or the only one; raises `Rejected` (OPERATION_RESOLUTION_FAILURE)."""
        if name:
            operation = self._operations.get(name)
            if operation is None:
                raise Rejected.because("OPERATION_RESOLUTION_FAILURE", f"Unknown operation named '{name}'.")
            return operation
        if len(self._operations) != 1:
            message = "The document has several operations: say which by operationName."
            raise Rejected.because("OPERATION_RESOLUTION_FAILURE", message)
        return next(iter(self._operations.values()))


class Documents:
    """Prepared documents: trusted ones from a folder of *.graphql files, any others as they come, within limits.

    One byte of text makes about 150 bytes of prepared document, so `bytes_max` stands for some 40 MB.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        limits: Limits,
        folder: Path | None = None,
        *,
        count_max: int = 1_000,
        bytes_max: int = 250_000,
    ) -> None:
        self._schema = schema._schema
        self._limits = limits
        self._accepted: BoundedCache[Document] = BoundedCache(count_max, bytes_max)
        self._rejected: BoundedCache[tuple[FormattedError, ...]] = BoundedCache(count_max, bytes_max)
        self._trusted: dict[bytes, Document] = {}
        self.trusted_ids: dict[str, str] = {}
        for path in sorted(folder.glob("*.graphql")) if folder else ():
            self._trust(path)

    def by_text(self, text: str) -> Document:
        """The prepared document of a text; raises `Rejected` for what is too large, malformed or invalid."""
        encoded = text.encode()
        key = sha256(encoded).digest()
        document = self._accepted.get(key) or self._trusted.get(key)
        if document is not None:
            return document
        errors = self._rejected.get(key)
        if errors is not None:
            raise Rejected(*errors)
        if len(encoded) > self._limits.length:
            raise exceeded("length", self._limits.length, len(encoded))
        try:
            document = self._prepare(text, self._limits)
        except Rejected as rejected:
            self._rejected.put(key, rejected.errors, len(encoded))
            raise
        self._accepted.put(key, document, len(encoded))
        return document

    def by_id(self, document_id: str) -> Document:
        """The trusted document `sha256:<64 hex>`; raises `Rejected` (PERSISTED_QUERY_NOT_FOUND)."""
        algorithm, _, digest = document_id.partition(":")
        try:
            document = self._trusted.get(bytes.fromhex(digest)) if algorithm == "sha256" else None
        except ValueError:
            document = None
        if document is None:
            message = "No trusted document has this id; send the document's text instead."
            raise Rejected.because("PERSISTED_QUERY_NOT_FOUND", message)
        return document

    def _trust(self, path: Path) -> None:
        """A trusted document is its file's text without the white space around it, and knows no limits."""
        text = path.read_text(encoding="utf-8").strip()
        key = sha256(text.encode()).digest()
        try:
            self._trusted[key] = self._prepare(text, None)
        except Rejected as rejected:
            raise ValueError(f"{path.name} is not a valid document: {rejected.errors[0]['message']}") from None
        self.trusted_ids[path.stem] = f"sha256:{key.hex()}"

    def _prepare(self, text: str, limits: Limits | None) -> Document:
        try:
            node = parse(text, max_lexical_tokens=limits.tokens if limits else None)
        except GraphQLError as error:
            if limits and error.message.startswith("Syntax Error: Document contains more than"):
                raise exceeded("tokens", limits.tokens) from None
            raise Rejected.of("GRAPHQL_PARSE_FAILED", [error]) from None
        if limits:
            check(node, limits)
        errors = validate(self._schema, node, VALIDATION_RULES, max_errors=VALIDATION_ERRORS_MAX)
        if errors:
            raise Rejected.of("GRAPHQL_VALIDATION_FAILED", errors)
        return Document(self._schema, node)
