"""What must a cluster be told before it takes PDAutoscalers?

One CustomResourceDefinition: names, the schema of `spec` from the policy model, that of `status`, and the columns of
`kubectl get pda`. It depends on this release alone, so printing it twice gives the same text.
"""

from __future__ import annotations

from typing import Any

from autoscaler.core.fleet import Role
from autoscaler.policy.crd.rules import additions
from autoscaler.policy.crd.status import status_schema
from autoscaler.policy.crd.structural import Rewriter, Schema
from autoscaler.policy.document import Document
from autoscaler.policy.fields import ALLOWED

GROUP, VERSION, KIND, PLURAL = "pdautoscaler.io", "v1alpha1", "PDAutoscaler", "pdautoscalers"


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition, JSON-ready and in the order in which it reads well."""
    names = {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": KIND.lower(), "shortNames": ["pda"]}
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(),
        "schema": {"openAPIV3Schema": _schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _columns() -> list[dict[str, str]]:
    paths = {"Mode": ".status.mode"}
    paths |= {role.capitalize(): f".status.pools.{role}.ready" for role in Role}
    paths |= {"SLO": ".status.slo", "Reason": ".status.reason"}
    columns = [{"name": name, "type": "string", "jsonPath": path} for name, path in paths.items()]
    return [*columns, {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]


def _schema() -> Schema:
    model = Document.model_json_schema()
    rewriter = Rewriter(model["$defs"], additions())
    return {
        "description": "How large the pools of one model, served with prefill and decode apart, shall be.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": rewriter.rewritten(model["properties"]["spec"]),
            "status": status_schema(),
        },
        "x-kubernetes-validations": [_name(model["$defs"]["Metadata"]["properties"]["name"])],
    }


def _name(field: Schema) -> dict[str, str]:
    """Kubernetes allows 253 characters and dots in the name of an object, the model does not."""
    rule = f"self.metadata.name.size() <= {field['maxLength']} && self.metadata.name.matches('{field['pattern']}')"
    return {"rule": rule, "message": f"not allowed (allowed: {field[ALLOWED]})", "fieldPath": ".metadata.name"}
