"""How does pydantic's JSON schema become one that an API server accepts?

A CustomResourceDefinition takes *structural* schemas: each node has one type, nothing is referenced, no choice of types.
So every reference is written out, "or null" becomes `nullable`, a constant an enum of one, a tuple an array whose items
have the widest of its ranges, and a mapping with the names of an enum as keys an object with those properties. What the
server would call unknown (title, our own notes) is left out.

Defaults are the server's business too: it writes them into the object where the part that holds them exists. A part is
therefore defaulted to the defaults of its fields (not to {}: rules are tried on the default as it stands); a part without
any stays absent, or every object would be stored with a dozen empty mappings. A null that means "as the layer below has
it" is no default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

KEPT = ("description", "type", "nullable", "format", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern")
OF_MAPS = ("maxProperties", "x-kubernetes-validations")
OF_LISTS = ("minItems", "maxItems")
NULL = {"type": "null"}


@dataclass(frozen=True, slots=True)
class Additions:
    """What the JSON schema does not say. Keys are class names of the model, and (class, field).

    `rules`: CEL over the fields of a class. `fields`: more about a field. `names`: a class that may also be written as
    one of these names.
    """

    rules: Mapping[str, Sequence[Mapping[str, str]]]
    fields: Mapping[tuple[str, str], Schema]
    names: Mapping[str, Iterable[str]]


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Rewrites nodes of one JSON schema; `definitions` is its $defs."""

    definitions: Mapping[str, Schema]
    additions: Additions

    def rewritten(self, node: Mapping[str, Any]) -> Schema:
        """The structural schema of a node, without its default where null or empty. ValueError for a choice of types."""
        beside = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
        if "$ref" in node:
            return self._class(node["$ref"].rpartition("/")[2], beside)
        if "anyOf" in node:
            choices = [choice for choice in node["anyOf"] if choice != NULL]
            if len(choices) != 1:
                raise ValueError(f"a structural schema has no choice of types: {node['anyOf']}")
            return {**self.rewritten({**choices[0], **beside}), "nullable": True}
        schema = {key: _plain(node[key]) for key in KEPT if key in node}
        if "const" in node:
            schema["enum"] = [node["const"]]
        if "prefixItems" in node:
            schema |= _tuple([self.rewritten(item) for item in node["prefixItems"]])
        if "items" in node:
            schema |= {"items": self.rewritten(node["items"]), **{key: node[key] for key in OF_LISTS if key in node}}
        if node.get("type") == "object":
            schema |= self._object(node)
        return schema | _default(node, schema)

    def _class(self, name: str, beside: Schema) -> Schema:
        """A class of the model, with what the field that has it says besides."""
        known = self.definitions[name]
        properties = {
            field: {**of_field, **self.additions.fields.get((name, field), {})}
            for field, of_field in known.get("properties", {}).items()
        }
        schema = self.rewritten({**known, **({"properties": properties} if properties else {}), **beside})
        if name in self.additions.rules:
            schema["x-kubernetes-validations"] = [dict(rule) for rule in self.additions.rules[name]]
        return _or_a_name(schema, self.additions.names[name]) if name in self.additions.names else schema

    def _object(self, node: Mapping[str, Any]) -> Schema:
        if "propertyNames" in node:
            return self._by_name(node)
        if isinstance(others := node.get("additionalProperties"), dict):
            return {"additionalProperties": self.rewritten(others), **{key: node[key] for key in OF_MAPS if key in node}}
        properties = {name: self.rewritten(field) for name, field in node.get("properties", {}).items()}
        required = [name for name in node.get("required", ()) if name in properties]
        return {**({"required": required} if required else {}), "properties": properties}

    def _by_name(self, node: Mapping[str, Any]) -> Schema:
        """A mapping whose keys are an enum's names. The model wants an entry for each (document.py)."""
        names = self.rewritten(node["propertyNames"])["enum"]
        return {"required": list(names), "properties": {name: self.rewritten(node["additionalProperties"]) for name in names}}


def _plain(value: Any) -> Any:
    """15.0 as 15: JSON has one kind of number, and people read this."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tuple(items: list[Schema]) -> Schema:
    """Arrays have one schema for all items: the widest range of any. Each item's own stays the model's to check."""
    widest = {**items[0], "minimum": min(item["minimum"] for item in items), "maximum": max(item["maximum"] for item in items)}
    return {"items": widest, "minItems": len(items), "maxItems": len(items)}


def _default(node: Mapping[str, Any], schema: Schema) -> Schema:
    if node.get("default") is None:
        return {}
    if schema.get("type") != "object" or "propertyNames" in node:
        return {"default": _plain(node["default"])}
    of_fields = {name: field["default"] for name, field in schema.get("properties", {}).items() if "default" in field}
    return {"default": of_fields} if of_fields else {}


def one_of(names: Iterable[str]) -> str:
    """The pattern of text that is one of `names`: an enum refuses null where it is allowed, and mappings beside text."""
    return f"^({'|'.join(name.replace('.', '[.]') for name in names)})$"


def _or_a_name(schema: Schema, names: Iterable[str]) -> Schema:
    """The same object, or text that is one of `names`.

    No structural node has two types, but one without any may have checks that each concern one type only: `pattern`
    asks something of text, `properties` and `required` of mappings. What would be checked by neither is shut out: a
    number between 1 and 0, a list of at least 1 and at most 0 items, and the two truths. Fields that a mapping must
    not have pass here: a node without a type keeps what it does not know.
    """
    checks = {key: value for key, value in schema.items() if key not in {"type", "default"}}
    return {
        **checks,
        "x-kubernetes-preserve-unknown-fields": True,
        "pattern": one_of(names),
        "minimum": 1,
        "maximum": 0,
        "minItems": 1,
        "maxItems": 0,
        "not": {"enum": [True, False]},
    }
