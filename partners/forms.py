"""Forms of bespoke requests: which JSON Schemas a partner may write, and every fault of a form by its path.

The dialect is draft 2020-12 without what lets a schema cost more than its size: no address is ever fetched (`$ref`
names `#/$defs/…` and nothing else, and never itself), and no regular expression is run, since one line of it can stop
a process for hours. What a document says about itself (`title`, `default`, `x-…`) is for who draws the form, and no
validator ever sees it.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker, ValidationError  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]

from partners.values import value

SCHEMA_BYTES_MAX = 32_768
SCHEMA_PARTS_MAX = 1_000  # subschemas, with those that references stand for
FORM_BYTES_MAX = 16_384
DEPTH_MAX = 12
PART_BYTES = 64  # of values to compare with: as much work as a subschema
WORK_MAX = 20_000  # parts times values: two tenths of a second at the very most
FAULTS_MAX = 50
MESSAGE_LENGTH_MAX = 200
INTEGER_MAX = 2**53 - 1  # RFC 8785: what every reader of JSON keeps

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMATS = FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))
REFERENCE = "#/$defs/"
ONE = frozenset({"additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"})
SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
NAMED = frozenset({"properties", "dependentSchemas", "$defs"})
ABOUT_ITSELF = frozenset(
    {"$schema", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
PLAIN_KEYWORDS = """
$ref type enum const format required dependentRequired minProperties maxProperties minItems maxItems uniqueItems
minContains maxContains minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum multipleOf
"""
PLAIN = ABOUT_ITSELF | frozenset(PLAIN_KEYWORDS.split())


@value
class FormFault:
    """What does not fit, and where: the names and places from the form's root."""

    path: tuple[str, ...]
    message: str


def document_faults(document: Any, bytes_max: int) -> list[FormFault]:
    """Why a JSON document can't be kept at all: its size, its depth, numbers and characters that don't survive."""
    faults = [FormFault(path, found) for path, found in islice(unstorable(document, ()), FAULTS_MAX)]
    if not faults and (size := len(orjson.dumps(document))) > bytes_max:
        faults.append(FormFault((), f"{size} bytes are more than {bytes_max}"))
    return faults


def unstorable(part: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The places of what can't be stored, each with why."""
    if len(path) > DEPTH_MAX:
        yield path, f"deeper than {DEPTH_MAX}"
    elif isinstance(part, dict):
        for name, inner in part.items():
            yield from unstorable(inner, (*path, shortened(str(name))))
            if not storable(str(name)):
                yield path, "a name has characters that can't be stored"
    elif isinstance(part, list):
        for place, inner in enumerate(part):
            yield from unstorable(inner, (*path, str(place)))
    elif isinstance(part, str) and not storable(part):
        yield path, "has characters that can't be stored"
    elif isinstance(part, int | float) and not abs(part) <= INTEGER_MAX:
        yield path, f"a number beyond {INTEGER_MAX}"


def storable(text: str) -> bool:
    """Whether PostgreSQL can keep it: no NUL and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def shortened(text: str) -> str:
    """At most so many characters of it."""
    return text if len(text) <= MESSAGE_LENGTH_MAX else text[: MESSAGE_LENGTH_MAX - 1] + "…"


def schema_faults(schema: Any) -> list[str]:
    """Why this is no schema of a form, each with its path; empty for one that is."""
    faults = [dotted(one) for one in document_faults(schema, SCHEMA_BYTES_MAX)]
    if faults or not isinstance(schema, dict):
        return faults or ["a JSON Schema is an object"]
    faults = [f"{path or '(root)'}: {found}" for path, found in islice(wrong_keywords(schema, ""), FAULTS_MAX)]
    if not faults and subschemas_of(schema) > SCHEMA_PARTS_MAX:
        faults = [f"more than {SCHEMA_PARTS_MAX} parts"]
    if not faults:
        meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
        faults = [dotted(one) for one in islice(faults_of(meta, schema), FAULTS_MAX)]
    if faults:
        return faults
    if schema.get("type") != "object":
        faults.append('type: a form is an object: "object"')
    faults += [f"{name}: the reference leads nowhere" for name in sorted(references(schema) - names(schema))]
    if not faults and parts_of(schema, schema, ()) > SCHEMA_PARTS_MAX:
        faults.append(f"more than {SCHEMA_PARTS_MAX} parts, or references in circles or {DEPTH_MAX} deep")
    return faults


def dotted(fault: FormFault) -> str:
    """A fault in one line."""
    return f"{'.'.join(fault.path) or '(root)'}: {fault.message}"


def wrong_keywords(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    """Keywords that are not of our dialect, by place; what no schema can be is for the meta-schema to say."""
    if not isinstance(schema, dict):
        return
    for keyword, inner in schema.items():
        here = f"{path}.{keyword}" if path else keyword
        if keyword in ONE | SEVERAL | NAMED:
            if keyword == "$defs" and path:
                yield here, "only at the root"
            for name, below in below_of(keyword, inner):
                yield from wrong_keywords(below, f"{here}.{name}" if name else here)
        elif keyword not in PLAIN and not keyword.startswith("x-"):
            yield shortened(here), "not a keyword of forms"
        elif keyword == "$schema" and inner != DIALECT:
            yield here, f"only {DIALECT}"
        elif keyword == "$ref" and not (isinstance(inner, str) and inner.startswith(REFERENCE) and is_name(inner)):
            yield here, f"only {REFERENCE}<name>: nothing is fetched"
        elif any(not isinstance(name, str) for name in names_in(keyword, inner)):
            yield here, "a list of names has names only"


def names_in(keyword: str, inner: Any) -> list[Any]:
    """What stands in the lists of names under a keyword, which the standard compares pair by pair unless it is text."""
    lists = inner.values() if keyword == "dependentRequired" and isinstance(inner, dict) else [inner]
    named = keyword in ("dependentRequired", "required", "type")
    return [name for names in lists if named and isinstance(names, list) for name in names]


def is_name(reference: str) -> bool:
    """Whether what follows in a reference is one plain name, which needs no decoding."""
    name = reference.removeprefix(REFERENCE)
    return bool(name) and name.isascii() and name.replace("_", "").replace("-", "").replace(".", "").isalnum()


def below_of(keyword: str, inner: Any) -> list[tuple[str, Any]]:
    """The subschemas under a keyword, each with its name or place there."""
    if keyword in ONE:
        return [("", inner)]
    if keyword in SEVERAL and isinstance(inner, list):
        return [(str(place), below) for place, below in enumerate(inner)]
    return list(inner.items()) if keyword in NAMED and isinstance(inner, dict) else []


def subschemas_of(schema: Any) -> int:
    """How many subschemas are written down, used or not."""
    if not isinstance(schema, dict):
        return 1
    return 1 + sum(subschemas_of(below) for keyword, inner in schema.items() for _, below in below_of(keyword, inner))


def references(schema: Any) -> set[str]:
    """Every `$ref` in it."""
    if not isinstance(schema, dict):
        return set()
    found = {str(schema["$ref"])} if "$ref" in schema else set()
    return found.union(
        *(references(below) for keyword, inner in schema.items() for _, below in below_of(keyword, inner))
    )


def names(schema: Mapping[str, Any]) -> set[str]:
    """What its references may name."""
    return {REFERENCE + name for name in schema.get("$defs", {})}


def parts_of(schema: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> int:
    """How many parts it is: subschemas, with what references stand for, and long lists by their length; beyond any
    limit where references go in circles, or so deep that judging by them would not end."""
    if not isinstance(schema, dict):
        return 1
    compared = [inner for keyword, inner in schema.items() if keyword in PLAIN - ABOUT_ITSELF]
    total = 1 + len(orjson.dumps(compared)) // PART_BYTES
    for keyword, inner in schema.items():
        for _, below in () if keyword == "$defs" else below_of(keyword, inner):
            total += parts_of(below, root, within)
            if total > SCHEMA_PARTS_MAX:
                return total
    if (reference := schema.get("$ref")) is not None:
        if reference in within or len(within) == DEPTH_MAX:
            return SCHEMA_PARTS_MAX + 1
        total += parts_of(root["$defs"][reference.removeprefix(REFERENCE)], root, (*within, reference))
    return total


def working(schema: Any) -> Any:
    """A schema without what it says about itself, which else would be quoted again and again."""
    if not isinstance(schema, dict):
        return schema
    kept = {keyword: inner for keyword, inner in schema.items() if keyword in PLAIN - ABOUT_ITSELF}
    for keyword, inner in schema.items():
        if keyword in ONE:
            kept[keyword] = working(inner)
        elif keyword in SEVERAL:
            kept[keyword] = [working(below) for below in inner]
        elif keyword in NAMED:
            kept[keyword] = {name: working(below) for name, below in inner.items()}
    return kept


def missing(_: Any, required: list[str], instance: Any, __: Any) -> Iterator[ValidationError]:
    """One fault for all that is missing: the standard's own makes as many as there are names."""
    if isinstance(instance, dict) and any(name not in instance for name in required):
        yield ValidationError("is required")


def dependent(_: Any, required: Mapping[str, list[str]], instance: Any, __: Any) -> Iterator[ValidationError]:
    """One fault for each property that asks for others."""
    for name in [name for name in required if name in instance] if isinstance(instance, dict) else ():
        if absent := [repr(other) for other in required[name] if other not in instance]:
            yield ValidationError(f"{name!r} goes with {', '.join(absent)}")


def unique(_: Any, wanted: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Whether no item is there twice, in time that grows with the list and not with its square."""
    if wanted and isinstance(instance, list):
        seen = {orjson.dumps(evened(one), option=orjson.OPT_SORT_KEYS) for one in instance}
        if len(seen) < len(instance):
            yield ValidationError("has the same item twice")


def evened(part: Any) -> Any:
    """A value in which 1.0 is 1, as JSON Schema sees numbers."""
    if isinstance(part, dict):
        return {name: evened(inner) for name, inner in part.items()}
    if isinstance(part, list):
        return [evened(inner) for inner in part]
    return int(part) if isinstance(part, float) and part.is_integer() else part


JUDGE = extend(Draft202012Validator, {"required": missing, "dependentRequired": dependent, "uniqueItems": unique})


@lru_cache(maxsize=1024)
def prepared(schema: bytes) -> tuple[Any, int]:
    """A validator of a stored schema, made once, and how many parts it has."""
    parsed = working(orjson.loads(schema))
    return JUDGE(parsed, format_checker=FORMATS), parts_of(parsed, parsed, ())


def form_faults(schema: Mapping[str, Any], form: Any) -> list[FormFault]:
    """Everything in which a form does not fit a schema that was checked, at most 50; empty: it fits."""
    faults = document_faults(form, FORM_BYTES_MAX)
    if faults:
        return faults
    validator, parts = prepared(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
    if parts * values_of(form) > WORK_MAX:
        return [FormFault((), "too many values for this form")]
    return list(islice(faults_of(validator, form), FAULTS_MAX))


def values_of(document: Any) -> int:
    """How many values a document has, at any depth."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return 1 + sum(values_of(one) for one in inner)


def faults_of(validator: Any, instance: Any) -> Iterator[FormFault]:
    """What the validator finds, in the order of the schema: a property that is missing or too many at its own place."""
    seen = set()
    for error in validator.iter_errors(instance):
        path = tuple(str(part) for part in error.absolute_path)
        places = [path]
        if error.validator == "required":
            places = [(*path, name) for name in error.validator_value if name not in error.instance]
        elif error.validator == "additionalProperties" and error.validator_value is False:
            places = [(*path, name) for name in error.instance.keys() - error.schema.get("properties", {}).keys()]
        for place in sorted(places):
            fault = FormFault(place, sentence_of(error))
            if fault not in seen:
                seen.add(fault)
                yield fault


def sentence_of(error: Any) -> str:
    """What is wrong, in few words."""
    if error.validator == "required":
        return "is required"
    if error.validator == "additionalProperties" and error.validator_value is False:
        return "is not asked for"
    return shortened(str(error.message))
