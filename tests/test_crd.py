"""Is the CRD the policy model, field by field, in the form that an API server takes?

tests/e2e/plane/test_crd.py asks a real one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.policy.crd import definition
from autoscaler.policy.crd.status import STATE_BYTES
from autoscaler.policy.crd.structural import Additions, Rewriter
from autoscaler.policy.document import Spec
from autoscaler.policy.profiles import replica_profiles
from tests.policy_documents import policy

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "manifests" / "crd" / "pdautoscalers.yaml"
CONTRACTS = ROOT / "tests" / "contracts" / "crd"
NO_STRUCTURE = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "prefixItems", "propertyNames", "x-allowed"}


def schema() -> dict[str, Any]:
    found: dict[str, Any] = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def at(*path: str) -> dict[str, Any]:
    node = schema()
    for part in path:
        node = node["properties"][part]
    return node


def nodes(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}.{key}")


def autoscaler(*arguments: str) -> str:
    command = [sys.executable, "-m", "autoscaler", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def rewritten(node: Mapping[str, Any], **definitions: Mapping[str, Any]) -> dict[str, Any]:
    return Rewriter({name: dict(known) for name, known in definitions.items()}, Additions({}, {}, {})).rewritten(node)


@pytest.mark.slow  # a process
def test_the_manifest_is_what_the_command_prints() -> None:
    assert autoscaler("crd") == MANIFEST.read_text(), "autoscaler crd > manifests/crd/pdautoscalers.yaml"


@pytest.mark.slow  # a process
def test_yaml_and_json_say_the_same() -> None:
    assert yaml.safe_load(MANIFEST.read_text()) == json.loads(autoscaler("crd", "--json")) == definition()


def test_every_part_of_the_schema_is_structural() -> None:
    found = dict(nodes(schema()))
    assert ".spec.pools.decode.behaviour.scaleDown.step.replicas" in found
    for path, node in found.items():
        assert not NO_STRUCTURE & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert node.get("default", "") is not None, path


def test_every_field_of_the_policy_has_its_place_with_its_description() -> None:
    fields = at("spec")["properties"]
    assert list(fields) == [field.alias for field in Spec.model_fields.values()]
    described = {str(field.alias): field.description for field in Spec.model_fields.values() if field.description}
    assert len(described) > 5
    for name, description in described.items():
        assert fields[name]["description"].startswith(description)


def test_every_field_that_kubectl_explains_is_described() -> None:
    fields = [(path, node) for path, node in nodes(at("spec")) if not path.endswith((".items", ".additionalProperties"))]
    assert [path for path, node in fields if not node.get("description")] == []


def test_every_role_has_its_pool_and_its_column() -> None:
    pools = at("spec", "pools")
    assert list(pools["properties"]) == pools["required"] == [role.value for role in Role]
    columns = {column["name"]: column["jsonPath"] for column in definition()["spec"]["versions"][0]["additionalPrinterColumns"]}
    for role in Role:
        *path, last = columns[role.capitalize()].removeprefix(".").split(".")
        assert at(*path)["properties"][last]["type"] == "string"


def test_the_server_fills_in_the_defaults_that_a_file_has() -> None:
    spec = policy().model_dump(mode="json", by_alias=True)["spec"]
    for part in ("metrics", "freshness", "forecast", "sizing"):
        default = at("spec", part)["default"]
        assert default == {name: value for name, value in spec[part].items() if name != "queries"}
    assert at("spec", "behaviour")["default"] == {name: spec["behaviour"][name] for name in ("tickSeconds", "drain", "flip")}
    assert at("spec", "enginePort")["default"] == spec["enginePort"]
    assert at("spec", "mode")["default"] == Mode.RECOMMEND


def test_a_part_without_any_default_is_not_stored_when_nobody_wrote_it() -> None:
    assert "default" not in at("spec", "pools", "decode", "behaviour")
    assert "default" not in at("spec", "requestShape")


def test_a_profile_is_a_name_or_its_fields() -> None:
    profile = at("spec", "profile")
    assert "type" not in profile
    assert profile["required"] == ["prefillSeconds", "decodeSeconds", "kvTokens"]
    for name in replica_profiles():
        assert re.fullmatch(profile["pattern"], name)


def test_the_state_tells_how_large_it_may_become() -> None:
    assert f"{STATE_BYTES} bytes" in at("status", "state")["description"]


def test_an_object_that_an_earlier_release_stored_is_still_the_same_policy() -> None:
    """With the defaults of that day, which the API server has written into it; what came later is at its own default."""
    held = json.loads((CONTRACTS / "stored-v1alpha1-first.json").read_text())
    of_that_day = {"flip": {"maxInFlight": 1, "cooldownSeconds": 120}}
    same = policy(forecast={"errorsKept": 40}, sizing={"headroom": 0.1}, behaviour=of_that_day)
    assert Document.model_validate({key: held[key] for key in held if key != "status"}).core() == same.core()


@pytest.mark.parametrize("file", sorted(CONTRACTS.glob("*.json")), ids=lambda file: file.stem)
def test_every_field_of_a_stored_status_is_known(file: Path) -> None:
    def known(value: object, node: Mapping[str, Any]) -> bool:
        if isinstance(value, dict):
            return all(name in node["properties"] and known(part, node["properties"][name]) for name, part in value.items())
        return not isinstance(value, list) or all(known(part, node["items"]) for part in value)

    assert known(json.loads(file.read_text())["status"], at("status"))


@pytest.mark.slow  # a process
def test_printing_the_crd_loads_no_cluster_client() -> None:
    program = "import sys, autoscaler.commands.crd as c; c.crd(False); sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"type": "number", "minimum": 1.0, "default": 0.5, "title": "X"}, {"type": "number", "minimum": 1, "default": 0.5}),
        ({"type": "boolean", "default": False}, {"type": "boolean", "default": False}),
        ({"type": "string", "const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, {"type": "string", "nullable": True}),
        ({"$ref": "#/$defs/Part", "description": "own"}, {"type": "string", "description": "own"}),
        (
            {"type": "object", "propertyNames": {"$ref": "#/$defs/Name"}, "additionalProperties": {"type": "integer"}},
            {"type": "object", "required": ["b", "a"], "properties": {"b": {"type": "integer"}, "a": {"type": "integer"}}},
        ),
        (
            {
                "type": "object",
                "propertyNames": {"$ref": "#/$defs/Name"},
                "additionalProperties": {"type": "integer"},
                "default": {"b": 1, "a": 2},
            },
            {
                "type": "object",
                "required": ["b", "a"],
                "properties": {"b": {"type": "integer"}, "a": {"type": "integer"}},
                "default": {"b": 1, "a": 2},
            },
        ),
        (
            {"type": "array", "prefixItems": [{"type": "number", "minimum": n, "maximum": 3 - n} for n in (1, 0)]},
            {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 3}, "minItems": 2, "maxItems": 2},
        ),
    ],
)
def test_what_pydantic_says_otherwise_is_said_in_the_way_of_the_server(node: Any, expected: Any) -> None:
    part, name = {"type": "string", "description": "the part's"}, {"type": "string", "enum": ["b", "a"]}
    assert rewritten(node, Part=part, Name=name) == expected


def test_a_choice_of_types_is_refused_and_not_guessed() -> None:
    with pytest.raises(ValueError, match="no choice of types"):
        rewritten({"anyOf": [{"type": "string"}, {"type": "integer"}]})
