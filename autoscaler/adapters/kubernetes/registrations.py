"""By which authority do API servers know us, and is it the one that signs what we serve?

It stands in each registration: `spec.caBundle` of an APIService, `clientConfig.caBundle` of each webhook of a configuration.
Registrations are read by name and written only where they carry our label: one of that name may be another product's, and a
cluster has one APIService for external metrics, which is KEDA's more often than not. Each is written under the
resourceVersion that was read. One that does not exist needs no authority.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import ApiFault, Body, Operation

APPLICATION = "app.kubernetes.io/name"
OURS = "pd-autoscaler"
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"


class RegistrationApi(Protocol):
    """What this needs of an API server."""

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object."""
        ...

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        """Apply a JSON patch."""
        ...


class Registrations:
    """Our registrations: APIServices, and validating and mutating webhook configurations, by name."""

    def __init__(
        self, api: RegistrationApi, api_services: Sequence[str], validating: Sequence[str], mutating: Sequence[str]
    ) -> None:
        self._api = api
        self._paths = [
            *(f"{API_SERVICES}/{quote(name)}" for name in api_services),
            *(f"{WEBHOOKS}/validatingwebhookconfigurations/{quote(name)}" for name in validating),
            *(f"{WEBHOOKS}/mutatingwebhookconfigurations/{quote(name)}" for name in mutating),
        ]

    def trust(self, bundle: bytes) -> list[str]:
        """Let each of them trust exactly this bundle (PEM); in one line each, which do not and why. Empty: all do."""
        encoded = base64.b64encode(bundle).decode()
        return [problem for path in self._paths if (problem := self._one(path, encoded))]

    def _one(self, path: str, encoded: str) -> str:
        body = self._api.get(path)
        if isinstance(body, ApiFault):
            return "" if body.status == 404 else f"{path}: {body}"
        if ((body["metadata"].get("labels") or {}).get(APPLICATION)) != OURS:
            return ""
        changes = [{"op": "add", "path": where, "value": encoded} for where in _outdated(body, encoded)]
        if not changes:
            return ""
        same = {"op": "test", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]}
        answer = self._api.patch(path, [same, *changes])
        return f"{path}: {answer}" if isinstance(answer, ApiFault) else ""


def _outdated(body: Body, encoded: str) -> list[str]:
    """Where another bundle stands than this one, as JSON pointers."""
    if "webhooks" in body:
        of_each = enumerate(body["webhooks"] or ())
        return [f"/webhooks/{n}/clientConfig/caBundle" for n, one in of_each if one["clientConfig"].get("caBundle") != encoded]
    return ["/spec/caBundle"] if (body.get("spec") or {}).get("caBundle") != encoded else []
