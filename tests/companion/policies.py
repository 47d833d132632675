"""What do the PDAutoscalers of a made-up cluster look like to those who watch them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoscaler.adapters.kubernetes.story import timestamp

NOW = 1_767_603_600.0  # 2026-01-05T09:00:00Z


def pool(count: int, name: str = "target", **told: Any) -> dict[str, Any]:
    """One pool's status as the controller writes it where an HPA writes the count; `name` of the count: target in mode Auto,
    recommended in Recommend.
    """
    numbers: dict[str, Any] = {"actuation": "hpa"}
    numbers |= {"headroomTokensPerSecond": -120, "pressure": 1.25, "sloHeadroom": 0.4}
    forecast = {"model": "last-value", "tokensPerSecond": 1300.0, "upperTokensPerSecond": 1400.0}
    return {"desired": 3, "serving": 3, "ready": "3/3", name: count, "forecast": forecast} | numbers | told


def policy(
    name: str = "chat",
    namespace: str = "default",
    mode: str = "Auto",
    pools: Mapping[str, Mapping[str, Any]] | None = None,
    age_s: float = 10.0,
    **over: Any,
) -> dict[str, Any]:
    """One PDAutoscaler that was told `age_s` before NOW. `over` replaces parts of its spec or status: spec_mode,
    status_mode, tick_s.
    """
    counted = {"prefill": pool(5), "decode": pool(7)} if pools is None else pools
    spec = {
        "mode": over.get("spec_mode", mode),
        "behaviour": {"tickSeconds": over.get("tick_s", 15)},
        "pools": {role: {"min": 1, "max": 64} for role in counted},
    }
    status = {"mode": over.get("status_mode", mode), "lastTick": timestamp(NOW - age_s), "pools": dict(counted)}
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "generation": 4}
    return {
        "apiVersion": "pdautoscaler.io/v1alpha1",
        "kind": "PDAutoscaler",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }


def recommending(name: str = "draft") -> dict[str, Any]:
    """One that only recommends."""
    return policy(name, mode="Recommend", pools={"prefill": pool(5, "recommended"), "decode": pool(7, "recommended")})
