"""What does a test need of fleets whose writes the webhook is asked about?

A namespace that has opted in, two PDAutoscalers and their sets in it, and a companion as it would run in a cluster, whose
certificate the shipped webhook configurations come to trust through the companion itself. `chat` refuses what breaks a rule
(its decode count is an HPA's to write), `draft` only warns. `write` is one request to the API server; with `dry_run`, its
default, nothing is stored.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.plane.plane import PATIENCE_S, Plane
from tests.e2e.plane.test_companion import HOME
from tests.e2e.plane.workloads import Place
from tests.policy_documents import edited

COMPONENTS = Path(__file__).parents[3] / "manifests" / "components"
PARTS = ("admission", "scale-guard", "load-guard", "pod-injection")
LWS = "leaderworkerset.x-k8s.io"
STRICT = {"pdautoscaler.io/guard": "deny", "pdautoscaler.io/early-reject": "deny"}
WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
COUNTED = re.compile(r'requests_total\{code="200",route="/admission/(\w+)"\} (\S+)')
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a writer sees."""

    status: int
    warnings: tuple[str, ...]
    retry_after: str | None
    body: Body
    took_s: float

    @property
    def plain(self) -> bool:
        """Written, without a word."""
        return self.status < 300 and not self.warnings


class Guarded:
    """The namespace, and the companion that watches it on `port`."""

    def __init__(self, plane: Plane, port: int) -> None:
        self.plane, self.port, self.place = plane, port, Place(plane)
        plane.kubectl("label", "namespace", self.place.namespace, "pdautoscaler.io/admission=enabled")
        self._policy("chat", {"spec.pools.decode.actuation": "hpa", "spec.routing": {"kind": "readinessGate"}}, STRICT)
        self._policy("draft", {}, {})
        self.tell()

    def _policy(self, name: str, changes: Mapping[str, Any], annotations: Mapping[str, str]) -> None:
        self.place.kubectl("create", "-f", "-", input=json.dumps(self.policy(name, changes, annotations)))

    def policy(self, name: str, changes: Mapping[str, Any], annotations: Mapping[str, str]) -> Body:
        """A PDAutoscaler of this namespace in mode Auto, with targets NAME-ROLE."""
        targets: dict[str, Any] = {f"spec.pools.{role}.target.name": f"{name}-{role}" for role in ("prefill", "decode")}
        metadata = {"name": name, "namespace": self.place.namespace, "annotations": dict(annotations)}
        return edited({"metadata": metadata, "spec.model": name, "spec.mode": "Auto"} | targets | dict(changes))

    def sets(self) -> None:
        """The targets. Pods of chat-decode ask for what their fleet counts on."""
        self.place.leader_worker_set("chat-prefill", 1)
        self.place.leader_worker_set("draft-prefill", 1)
        container = {"name": "engine", "image": "example.invalid/engine:1"}
        template = {"metadata": {"labels": {"pdautoscaler.io/inject": "true"}}, "spec": {"containers": [container]}}
        spec = {"replicas": 1, "leaderWorkerTemplate": {"size": 1, "workerTemplate": template}}
        self.place.create(f"{LWS}/v1", "LeaderWorkerSet", "chat-decode", spec)

    def tell(self, headroom: int = 3_000, age_s: float = 0.0) -> None:
        """What a controller would write into both statuses."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age_s))
        room = {"headroomTokensPerSecond": headroom, "forecast": {"model": "ses", "horizonSeconds": 12.4}}
        pools = {"prefill": room, "decode": {**room, "actuation": "hpa"}}
        patch = json.dumps({"status": {"mode": "Auto", "lastTick": at, "pools": pools}})
        self.place.kubectl("patch", "pdautoscaler", "chat", "draft", "--subresource=status", "--type=merge", "-p", patch)

    @contextmanager
    def told(self, headroom: int = 3_000, age_s: float = 0.0) -> Iterator[None]:
        """That, until the end of the block."""
        self.tell(headroom, age_s)
        try:
            yield
        finally:
            self.tell()

    def write(self, method: str, path: str, body: Body, user: str = "", *, dry_run: bool = True) -> Answer:
        """One write. `user`: in whose name, with all rights; else the administrator's."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind} | ({"Impersonate-User": user, "Impersonate-Group": "system:masters"} if user else {})
        began, session = time.monotonic(), self.plane._session
        url, query = f"{self.plane.server}{path}", {"dryRun": "All"} if dry_run else {}
        found = session.request(method, url, params=query, data=json.dumps(body), headers=headers, timeout=PATIENCE_S)
        warnings = tuple(WARNING.findall(found.headers.get("Warning", "")))
        took_s = time.monotonic() - began
        return Answer(found.status_code, warnings, found.headers.get("Retry-After"), found.json(), took_s)

    def path(self, group: str, resource: str, namespace: str = "") -> str:
        """Of a resource, in this namespace if no other is named; group as in batch/v1."""
        return f"/{'apis' if '/' in group else 'api'}/{group}/namespaces/{namespace or self.place.namespace}/{resource}"

    def scale(self, name: str, replicas: int, user: str = "", *, dry_run: bool = True) -> Answer:
        """Write the scale subresource of a set."""
        path = self.path(f"{LWS}/v1", f"leaderworkersets/{name}/scale")
        return self.write("PATCH", path, {"spec": {"replicas": replicas}}, user, dry_run=dry_run)

    def job(
        self, name: str, demand: str, fleet: str = "chat", namespace: str = "", *, suspend: bool = False, dry_run: bool = True
    ) -> Answer:
        """Make a Job whose whole load is `demand` tokens per second of decode; empty: it declares nothing."""
        declared = {"pdautoscaler.io/demand-fleet": fleet, "pdautoscaler.io/demand-decode-tokens-per-second": demand}
        container = {"name": "batch", "image": "example.invalid/batch:1"}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata = {"name": name, "annotations": declared if demand else {}}
        return self.write(
            "POST",
            self.path("batch/v1", "jobs", namespace),
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"suspend": suspend, "template": template}},
            dry_run=dry_run,
        )

    def asked(self) -> Counter[str]:
        """How many reviews each door has answered."""
        nobody = ssl.create_default_context()
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://127.0.0.1:{self.port}/metrics", context=nobody, timeout=PATIENCE_S) as page:
            return Counter({door: int(float(count)) for door, count in COUNTED.findall(page.read().decode())})


def configurations(port: int) -> Iterator[Body]:
    """The shipped webhook configurations, but for our namespace and the port of the Service."""
    for part in PARTS:
        text = (COMPONENTS / part / "webhook.yaml").read_text(encoding="utf-8")
        text = text.replace("namespace: pd-autoscaler", f"namespace: {HOME}")
        document = yaml.safe_load(text.replace("serviceaccount:pd-autoscaler:", f"serviceaccount:{HOME}:"))
        for webhook in document["webhooks"]:
            webhook["clientConfig"]["service"]["port"] = port
        yield document
