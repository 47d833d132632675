"""Which accounts show that every verb of the shipped Roles is needed?

One has all of them, and for each verb one has all but that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.plane.workloads import Place

FOLDER = Path(__file__).parents[3] / "manifests"
PATCHES = ("deployments", "engine-switch")  # components that are nothing but more rules

Grant = tuple[str, str, str]  # API group, resource, verb


def rules() -> list[dict[str, Any]]:
    """Every rule of the shipped Roles, those that the components add included."""
    files = (FOLDER / "fleets" / "role.yaml", FOLDER / "base" / "leader-role.yaml")
    roles = [document for file in files for document in yaml.safe_load_all(file.read_text()) if document["kind"] == "Role"]
    components = [yaml.safe_load((FOLDER / "components" / name / "kustomization.yaml").read_text()) for name in PATCHES]
    patches = [patch for component in components for patch in component["patches"]]
    added = [one["value"] for patch in patches for one in yaml.safe_load(patch["patch"])]
    return [rule for role in roles for rule in role["rules"]] + added


def grants() -> list[Grant]:
    return [
        (group, resource, verb)
        for rule in rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def without(lost: Grant | None) -> list[dict[str, Any]]:
    """The rules, one resource each, less one verb."""
    kept = []
    for rule in rules():
        for resource in rule["resources"]:
            verbs = [verb for verb in rule["verbs"] if (rule["apiGroups"][0], resource, verb) != lost]
            if verbs:
                kept.append({**rule, "resources": [resource], "verbs": verbs})
    return kept


def account(lost: Grant | None) -> str:
    return "whole" if lost is None else "-".join(("no", lost[2], *lost[1].split("/"), lost[0].partition(".")[0] or "core"))


def grant_all(place: Place) -> None:
    """An account, a Role and a binding for the whole and for each loss, in one request to kubectl."""
    items: list[dict[str, Any]] = []
    for lost in (None, *grants()):
        metadata = {"name": account(lost), "namespace": place.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account(lost)}
        rbac = "rbac.authorization.k8s.io/v1"
        items.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        items.append({"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": without(lost)})
        subject = {"kind": "ServiceAccount", **metadata}
        items.append(
            {"apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [subject]}
        )
    place.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
