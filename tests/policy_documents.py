"""Policy documents for tests: the shortest valid one, and ways to change it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from autoscaler.policy import Document

Path = tuple[str | int, ...]

MINIMAL: Mapping[str, Any] = {
    "apiVersion": "pdautoscaler.io/v1alpha1",
    "kind": "PDAutoscaler",
    "metadata": {"name": "chat"},
    "spec": {
        "model": "llama",
        "engine": "vllm",
        "profile": "llama-3-8b-h100-tp1",
        "pools": {
            "prefill": {"target": {"name": "chat-prefill"}, "max": 4},
            "decode": {"target": {"name": "chat-decode"}, "max": 4},
        },
        "slo": {"ttft": {"seconds": 2.0}, "tpot": {"seconds": 0.05}},
    },
}


def edited(changes: Mapping[str, Any], *, without: str | None = None) -> dict[str, Any]:
    """MINIMAL with other values at dotted paths, which may be new, and without one field."""
    data = copy.deepcopy(dict(MINIMAL))
    for path, value in changes.items():
        _parent(data, path)[path.rpartition(".")[2]] = value
    if without is not None:
        del _parent(data, without)[without.rpartition(".")[2]]
    return data


def policy(**spec: Any) -> Document:
    """MINIMAL with other values in `spec`."""
    return Document.model_validate(edited({f"spec.{name}": value for name, value in spec.items()}))


def text(data: Any) -> str:
    """A document as YAML."""
    return yaml.safe_dump(data, sort_keys=False)


def _parent(data: Any, path: str) -> Any:
    for part in path.split(".")[:-1]:
        data = data.setdefault(part, {})
    return data
