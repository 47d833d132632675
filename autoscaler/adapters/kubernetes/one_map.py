"""What does one named ConfigMap hold, now?

Followed like a list of one: list and watch with a field selector on the name, which a Role with `resourceNames` allows, as the
Role `extension-apiserver-authentication-reader` of every cluster does.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Body
from autoscaler.adapters.kubernetes.snapshot import WATCH_S, Snapshot
from autoscaler.adapters.kubernetes.targets import listing


class OneMap:
    """One ConfigMap of one namespace."""

    def __init__(self, api: Api, namespace: str, name: str, *, watch_s: int = WATCH_S) -> None:
        self._name = name
        path, query = listing("/api/v1", "configmaps", namespace), {"fieldSelector": f"metadata.name={name}"}
        self._snapshot = Snapshot(api, path, _texts, query, watch_s=watch_s)

    def data(self) -> Mapping[str, str] | ApiFault | None:
        """Its data as last heard of, None if there is no such ConfigMap; an ApiFault while the server cannot tell."""
        picture = self._snapshot.picture()
        return picture.fault or picture.items.get(self._name)

    def stop(self) -> None:
        """Follow it no longer."""
        self._snapshot.stop()


def _texts(body: Body) -> Mapping[str, str]:
    data = body.get("data") or {}
    return {name: value for name, value in data.items() if isinstance(value, str)}
