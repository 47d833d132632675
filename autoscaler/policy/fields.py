"""How is a field of a document that people write read, and how is a refused one told in one line?

Policies and replica profiles are pydantic models built on `Section`: camelCase in YAML, the same words in snake_case
here. Nothing is guessed: an unknown field, a text where a number belongs, a NaN, a fraction of a replica are refused.

pydantic finds what is wrong; the sentence is ours: the value, and what would be allowed. The allowed range is read from
the model's own JSON schema, so it is written once, at its field, and the message cannot drift from the check.

What only shows when two fields are held against each other (max below min) is found by a validator on the later of the
two, which calls `refuse` with the path of the field to change. A validator on a field still runs when its neighbours are
wrong, one on the whole model does not: that is how a bad document gives all its problems at once.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

Path = tuple[str | int, ...]
K = TypeVar("K", bound=StrEnum)
V = TypeVar("V")

ALLOWED = "x-allowed"  # in a field's JSON schema: what is allowed, in words, where a range cannot say it
CLASH = "clash"  # the error type of what `refuse` raises
KEY = "[key]"  # pydantic's mark for an error about a mapping's key
TEXT_SHOWN = 60
_PLAIN = re.compile(rf"[\w-]{{1,{TEXT_SHOWN}}}", re.ASCII)


class Section(BaseModel):
    """A mapping with known fields; immutable. An attribute's docstring is the field's description in the schema."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,  # a default can clash with a field that was written
        use_attribute_docstrings=True,
    )

    def for_core(self, *names: str) -> dict[str, Any]:
        """The values of the named fields (all, if none is named) that are not null, by the core's names: there durations
        end in `_s` (maxAgeSeconds, max_age_seconds, max_age_s).
        """
        chosen = names or tuple(type(self).model_fields)
        values = {name: getattr(self, name) for name in chosen}
        return {re.sub("_seconds?$", "_s", name): value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Objection:
    """What is wrong with one field: its path, and the sentence."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}" if self.path else self.text


def default_of(core: type, name: str) -> Any:
    """The default of a core dataclass' field: defaults live there, once. AttributeError if it has none."""
    for field in fields(core):
        if field.name == name and field.default is not MISSING:
            return field.default
    raise AttributeError(f"{core.__name__}.{name} has no default")


def refuse(found: Iterable[Objection]) -> None:
    """Refuse the field under validation if there are objections; their paths are relative to it. Raises for pydantic."""
    objections = tuple(found)
    if objections:
        raise PydanticCustomError(CLASH, "{text}", {"text": "; ".join(map(str, objections)), "objections": objections})


def complete(kinds: type[K], entries: dict[K, V]) -> dict[K, V]:
    """A mapping with an entry for each of `kinds`, in their own order. Refuses one that lacks some."""
    refuse(Objection((kind,), "missing") for kind in kinds if kind not in entries)
    return {kind: entries[kind] for kind in kinds}


def at_least(value: float, least: float, reason: str, most: float, *path: str) -> None:
    """Refuse a value below what another field asks of it; `reason` names that number and where it comes from."""
    if value < least:
        refuse([Objection(path, f"{shown(value)} is below {reason} (allowed: {shown(least)}..{shown(most)})")])


def at_most(value: float, most: float, reason: str, least: float, *path: str) -> None:
    """Refuse a value above what another field leaves it; `reason` names that number and where it comes from."""
    if value > most:
        refuse([Objection(path, f"{shown(value)} is above {reason} (allowed: {shown(least)}..{shown(most)})")])


def objections(error: ValidationError, model: type[BaseModel]) -> list[Objection]:
    """Everything a validation of `model` found wrong, in our words, in the order of the fields."""
    schema = _schema(model)
    return [objection for details in error.errors(include_url=False) for objection in _objections(details, schema)]


def nearest(name: str, names: Iterable[str]) -> str:
    """The half-sentence that suggests the name that was probably meant; empty if none is near."""
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def shown(value: object) -> str:
    """A value as it may stand in a one-line message: short, printable, as YAML would spell it."""
    if isinstance(value, str):
        text = json.dumps(value)
        return text if len(text) <= TEXT_SHOWN else f'{text[: TEXT_SHOWN - 4]}..."'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, int):  # YAML's 0xfff... may be longer than Python is willing to print
        return str(value) if abs(value) < 10**15 else "a huge number"
    kinds: Mapping[type, str] = {dict: "a mapping", list: "a list"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def dotted(path: Path) -> str:
    """A path as it is written in messages: spec.pools.prefill.max, spec.profile.prefillSeconds[2]."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part if _PLAIN.fullmatch(part) else shown(part)}" for part in path)
    return "".join(parts).removeprefix(".")


_NUMBER = "{value} is not a number{allowed}"
_RANGE = "{value} is out of range{allowed}"
_UNKNOWN = "{value} is unknown{near}{allowed}"
_MAPPING = "{value} is not a mapping{allowed}"
_NOT_ALLOWED = "{value} is not allowed{allowed}"
_WORDS: Mapping[str, str] = {
    "missing": "missing{allowed}",
    "extra_forbidden": "unknown field{near}",
    "greater_than_equal": _RANGE,
    "less_than_equal": _RANGE,
    "int_type": "{value} is not a whole number{allowed}",
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "{value} is not true or false",
    "string_type": "{value} is not text; quotes make it text",
    "string_too_short": _NOT_ALLOWED,
    "string_too_long": _NOT_ALLOWED,
    "string_pattern_mismatch": _NOT_ALLOWED,
    "enum": _UNKNOWN,
    "literal_error": _UNKNOWN,
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": "{value} is not a list{allowed}",
    "list_type": "{value} is not a list{allowed}",
    "too_long": "has the wrong length{allowed}",
}


@cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


def _objections(details: ErrorDetails, schema: Mapping[str, Any]) -> Iterator[Objection]:
    path, kind = details["loc"], details["type"]
    if kind == CLASH:
        path = _as_written(path[:-1] if path[-1:] == (KEY,) else path, schema)
        for objection in details["ctx"]["objections"]:
            yield Objection((*path, *objection.path), objection.text)
        return
    if path[-1:] == (KEY,):  # a name that is none of an enum's is an unknown field
        path, kind = path[:-1], "extra_forbidden"
    template = _WORDS.get(kind)
    if template is None:
        yield Objection(path, f"{shown(details['input'])} is refused: {details['msg']}")
        return
    unknown_field = kind == "extra_forbidden"
    path = path if unknown_field else _as_written(path, schema)
    node = _schema_at(schema, path[:-1] if unknown_field else path)
    said = path[-1] if unknown_field else details["input"]
    near = nearest(said, _choices(node, schema)) if isinstance(said, str) else ""
    near = near or (_allowed(node, schema) if unknown_field else "")
    yield Objection(path, template.format(value=shown(details["input"]), allowed=_allowed(node, schema), near=near))


def _allowed(node: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """The parenthesis that tells what a field may be, as far as its schema knows."""
    if ALLOWED in node:
        return f" (allowed: {node[ALLOWED]})"
    if "minimum" in node:
        return f" (allowed: {shown(node['minimum'])}..{shown(node['maximum'])})"
    if "prefixItems" in node:
        return f" (allowed: {len(node['prefixItems'])} numbers)"
    label = "fields" if node.get("type") == "object" else "allowed"
    names = ", ".join(_choices(node, root))
    return f" ({label}: {names})" if names else ""


def _choices(node: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    """The names a field knows: its own fields, its keys, or the values it may have."""
    if "propertyNames" in node:
        return _choices(_resolved(node["propertyNames"], root), root)
    return [str(name) for name in node.get("properties") or node.get("enum") or [node[key] for key in ("const",) if key in node]]


def _schema_at(root: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The part of a JSON schema that describes the field at `path`; empty where the schema knows none."""
    node = _resolved(root, root)
    for part in path:
        if isinstance(part, int):
            child = dict(enumerate(node.get("prefixItems", ()))).get(part) or node.get("items", {})
        else:
            others = node.get("additionalProperties")
            child = node.get("properties", {}).get(part) or (others if isinstance(others, dict) else {})
        node = _resolved(child, root)
    return node


def _as_written(path: Path, root: Mapping[str, Any]) -> Path:
    """The path in the document's words: of a default, which nobody wrote, pydantic tells the attribute's name."""
    written: Path = ()
    for part in path:
        known = _schema_at(root, written).get("properties", {})
        camel = to_camel(str(part))
        written = (*written, camel if part not in known and camel in known else part)
    return written


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema node with its reference followed and the choice "or null" taken away; what stands beside them stays."""
    beside = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
    if "$ref" in node:
        return _resolved({**root["$defs"][node["$ref"].rpartition("/")[2]], **beside}, root)
    for choice in node.get("anyOf", ()):
        if choice.get("type") != "null":
            return _resolved({**choice, **beside}, root)
    return node
