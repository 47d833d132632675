"""What does the API server learn of us before anybody asks for a metric?

    /apis                                    APIGroupList, or all at once (APIGroupDiscoveryList) to those who ask for it
    /apis/external.metrics.k8s.io            APIGroup
    /apis/external.metrics.k8s.io/v1beta1    APIResourceList: the aggregator's health probe, too

While these fail, kube-apiserver answers 503 for the whole group and no namespace of the cluster can be deleted. So they are
constants, and told to everybody: the discovery manager asks as system:kube-aggregator without any group, and what stands here
stands in this file. No metric has the verbs list or delete, or namespace deletion would try them.

Who asks for everything at once says so in the media type (g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList; v2beta1 before
Kubernetes 1.30) and must find it in the answer's: an answer of any other type counts as the old form. Its ETag spares the
document the next time.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from autoscaler.companion.external import GROUP_VERSION, LIST_KIND, VERSION
from autoscaler.companion.failures import GROUP
from autoscaler.companion.metrics import METRICS

DISCOVERY_GROUP = "apidiscovery.k8s.io"
DISCOVERY_VERSIONS = ("v2", "v2beta1")

Document = dict[str, Any]


def group_list() -> Document:
    """/apis for those who know only the old form."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def group() -> Document:
    """The group alone."""
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group()


def resource_list() -> Document:
    """The metrics, each as a resource."""
    resources = [{"name": name, "singularName": "", "namespaced": True, "kind": LIST_KIND, "verbs": ["get"]} for name in METRICS]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": resources}


def group_discovery(version: str) -> Document:
    """Groups, versions and resources at once, in a version of DISCOVERY_VERSIONS."""
    kind = {"group": GROUP, "version": VERSION, "kind": LIST_KIND}
    resources = [
        {"resource": name, "responseKind": kind, "scope": "Namespaced", "singularResource": "", "verbs": ["get"]}
        for name in METRICS
    ]
    versions = [{"version": VERSION, "resources": resources, "freshness": "Current"}]
    items = [{"metadata": {"name": GROUP, "creationTimestamp": None}, "versions": versions}]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{DISCOVERY_GROUP}/{version}",
        "metadata": {},
        "items": items,
    }


def discovery_version(accept: str) -> str | None:
    """In which version everything at once is wanted, by the Accept header: the first that we have. None: in none."""
    for wanted in accept.split(","):
        kind, *parameters = (part.strip() for part in wanted.split(";"))
        told = dict(part.partition("=")[::2] for part in parameters)
        asked = told.get("g") == DISCOVERY_GROUP and told.get("as") == "APIGroupDiscoveryList"
        if kind == "application/json" and asked and told.get("v") in DISCOVERY_VERSIONS:
            return told["v"]
    return None


def media_type(version: str) -> str:
    """Of an answer in that version."""
    return f"application/json;g={DISCOVERY_GROUP};v={version};as=APIGroupDiscoveryList"


def etag(document: Document) -> str:
    """Tells two documents apart."""
    return f'"{hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest().upper()}"'


def _group() -> Document:
    version = {"groupVersion": GROUP_VERSION, "version": VERSION}
    return {"name": GROUP, "versions": [version], "preferredVersion": version}
