"""What is applied to a fresh API server before a test sees it?

The CRDs and webhooks of the LeaderWorkerSet manager, as its own module ships them, with two changes. A CRD loses the
descriptions of its fields: the schema stays and shrinks from 1.4 to 0.13 MB, which is most of the API server's work at
start-up. A webhook is called at a loopback address, since there is no Service network.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

GPUS_PER_NODE = 8
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one reads the CRDs in 0.2 s, the other in 4 s


def custom_resources(manifests: Path) -> list[Document]:
    """The CRDs without their descriptions."""
    documents = [document for path in sorted(manifests.glob("*.x-k8s.io_*.yaml")) for document in _read(path)]
    for document in documents:
        for version in document["spec"]["versions"]:
            version["schema"] = _without_descriptions(version["schema"])
    return documents


def webhooks(manifests: Path, address: str, certificate: Path) -> list[Document]:
    """The webhook configurations, calling `address`, which proves itself by the certificate."""
    trusted = base64.b64encode(certificate.read_bytes()).decode()
    documents = [document for document in _read(manifests / "webhooks.yaml") if "webhooks" in document]
    for webhook in (webhook for document in documents for webhook in document["webhooks"]):
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"{address}{path}", "caBundle": trusted}
    return documents


def webhook_urls(configurations: list[Document]) -> list[str]:
    """Every address that the API server will call."""
    return [webhook["clientConfig"]["url"] for document in configurations for webhook in document["webhooks"]]


def node(name: str) -> Document:
    """A machine with eight GPUs, played by kwok."""
    size = {"cpu": "192", "memory": "2Ti", "pods": "250", "nvidia.com/gpu": str(GPUS_PER_NODE)}
    labels = {"kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": size, "allocatable": size},
    }


def _read(path: Path) -> Iterator[Document]:
    yield from yaml.load_all(path.read_text(encoding="utf-8"), LOADER)


def _without_descriptions(schema: Any) -> Any:
    """A description is text; a field that is called description has a schema of its own and stays."""
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key != "description" or not isinstance(value, str)}
        return {key: _without_descriptions(value) for key, value in kept.items()}
    if isinstance(schema, list):
        return [_without_descriptions(item) for item in schema]
    return schema
