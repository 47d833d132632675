"""A made-up cluster: its PDAutoscalers, the reviews that its API server sends, and the webhook that answers them."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from autoscaler.adapters.kubernetes.story import timestamp
from autoscaler.companion.admission.routes import add_admission
from autoscaler.companion.admission.strictness import AdmissionSettings
from autoscaler.companion.app import bare_app
from tests.policy_documents import MINIMAL

NOW = 1_767_603_600.0  # 2026-01-05T09:00:00Z
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
OWN = "system:serviceaccount:pd-autoscaler:pd-autoscaler"
HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
ALICE = "alice@example.com"
SETTINGS = AdmissionSettings(own_users=frozenset({OWN}), allowed=frozenset({"system:serviceaccounts:gitops"}))
JSON = (("content-type", "application/json"),)
LWS = ("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet")
SETS = ("disaggregatedset.x-k8s.io", "v1", "disaggregatedsets", "DisaggregatedSet")
PDA = ("pdautoscaler.io", "v1alpha1", "pdautoscalers", "PDAutoscaler")
JOB, POD = ("batch", "v1", "jobs", "Job"), ("", "v1", "pods", "Pod")
JOB_SET = ("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet")
RAY_JOB = ("ray.io", "v1", "rayjobs", "RayJob")
Kind = tuple[str, str, str, str]
Object = dict[str, Any]


def policy(
    name: str = "chat",
    namespace: str = "llm",
    mode: str = "Auto",
    *,
    annotations: Mapping[str, str] | None = None,
    headroom: Mapping[str, int] | None = None,
    age_s: float = 10.0,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> Object:
    """One PDAutoscaler that the controller looked at `age_s` before NOW."""
    room = {"prefill": 20_000, "decode": 3_000} if headroom is None else headroom
    body = copy.deepcopy(dict(MINIMAL))
    body["metadata"] = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "generation": 1}
    body["metadata"] |= {"creationTimestamp": created}
    body["metadata"] |= {"annotations": dict(annotations)} if annotations else {}
    targets = {role: {"target": {"name": f"{name}-{role}"}, "max": 8} for role in ("prefill", "decode")}
    body["spec"] |= {"mode": mode, "model": name, "pools": targets} | spec
    forecast = {"model": "ses", "upperTokensPerSecond": 900.0, "horizonSeconds": 12.4}
    pools = {role: {"desired": 4, "forecast": forecast, "headroomTokensPerSecond": room[role]} for role in room}
    body["status"] = {"mode": mode, "lastTick": timestamp(NOW - age_s), "pools": pools}
    return body


def mail() -> Object:
    """One whose pools are roles inside a DisaggregatedSet; decode's count is written by an HPA."""
    pools = {
        role: {"target": {"kind": SETS[3], "apiVersion": f"{SETS[0]}/v1", "name": "mail", "role": role}, "max": 8}
        for role in ("prefill", "decode")
    }
    pools["decode"]["actuation"] = "hpa"
    routing = {"kind": "label", "label": "llm-d.ai/role"}
    return policy("mail", annotations={"pdautoscaler.io/guard": "deny"}, pools=pools, routing=routing)


def cluster() -> list[Object]:
    """chat denies, draft is asked without a word on it, old is not heard of any more, sleepy is Off, wish only recommends."""
    strict = {"pdautoscaler.io/guard": "deny", "pdautoscaler.io/early-reject": "deny"}
    gate = {"kind": "readinessGate"}
    return [
        policy("chat", annotations=strict, routing=gate),
        policy("draft"),
        mail(),
        policy("old", annotations=strict, age_s=900.0, routing=gate),
        policy("sleepy", mode="Off", annotations=strict, routing=gate),
        policy("wish", mode="Recommend", annotations=strict, routing={"kind": "readinessGate"}),
        policy("lax", annotations={"pdautoscaler.io/guard": "off", "pdautoscaler.io/early-reject": "off"}),
        policy("alarm", annotations=strict | {"pdautoscaler.io/emergency": "decode nodes are on fire"}),
        policy("silent", annotations=strict, headroom={}),
    ]


def webhook(objects: Sequence[Mapping[str, Any]] | None = None, settings: AdmissionSettings = SETTINGS) -> FastAPI:
    """The webhook over these PDAutoscalers."""
    app, kept = bare_app(), tuple(cluster() if objects is None else objects)
    add_admission(app, lambda: kept, lambda: NOW, settings)
    return app


def review(kind: Kind, new: Any = None, old: Any = None, /, **request: Any) -> Object:
    """An AdmissionReview about an object of this kind; an update if there is an old one."""
    group, version, plural, word = kind
    metadata = (new or old or {}).get("metadata", {})
    asked = {
        "uid": UID,
        "kind": {"group": group, "version": version, "kind": word},
        "resource": {"group": group, "version": version, "resource": plural},
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace", "llm"),
        "operation": "CREATE" if old is None else "UPDATE",
        "userInfo": {"username": ALICE, "groups": ["system:authenticated"]},
        "object": new,
        "oldObject": old,
        "dryRun": False,
        "options": None,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked | request}


def scale(name: str, before: int, after: int, user: str = ALICE, groups: Sequence[str] = (), **more: Any) -> Object:
    """A write to the scale subresource of a LeaderWorkerSet, as kubectl and the HPA do it."""
    old, new = ({"metadata": {"name": name, "namespace": "llm"}, "spec": {"replicas": count}} for count in (before, after))
    kind = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    user_info = {"username": user, "groups": list(groups)}
    return review(LWS, new, old, **{"subResource": "scale", "kind": kind, "userInfo": user_info} | more)


def lws(name: str, replicas: int, **annotations: str) -> Object:
    """A LeaderWorkerSet; annotations by the last part of their names."""
    known = {f"pdautoscaler.io/{key}": value for key, value in annotations.items()}
    return {"metadata": {"name": name, "namespace": "llm", "annotations": known}, "spec": {"replicas": replicas}}


def disaggregated(**replicas: int) -> Object:
    """The DisaggregatedSet that `mail` has its pools in."""
    roles = [{"name": role, "spec": {"replicas": count}} for role, count in replicas.items()]
    return {"metadata": {"name": "mail", "namespace": "llm"}, "spec": {"roles": roles}}


def demands(fleet: str = "llm/chat", **tokens_per_s: str) -> dict[str, str]:
    """The annotations that declare a demand."""
    amounts = {f"pdautoscaler.io/demand-{role}-tokens-per-second": amount for role, amount in tokens_per_s.items()}
    return {"pdautoscaler.io/demand-fleet": fleet} | amounts


def job(annotations: Mapping[str, str], namespace: str = "llm", **spec: Any) -> Object:
    """A Job that declares something of itself."""
    return {"metadata": {"name": "nightly", "namespace": namespace, "annotations": dict(annotations)}, "spec": spec}


def pod(labels: Mapping[str, str], owner: tuple[str, str, str] | None = None, **spec: Any) -> Object:
    """A pod as it is being made, with (apiVersion, kind, name) of its owner."""
    names = ("apiVersion", "kind", "name")
    owners = [dict(zip(names, owner, strict=True)) | {"controller": True}] if owner else []
    asking = {"pdautoscaler.io/inject": "true", **labels}
    return {"metadata": {"namespace": "llm", "labels": asking, "ownerReferences": owners}, "spec": spec}


def leader(name: str, place: str = "0", **more: Any) -> Object:
    """A pod of a LeaderWorkerSet."""
    names = {"leaderworkerset.sigs.k8s.io/name": name, "leaderworkerset.sigs.k8s.io/worker-index": place}
    return pod(names, ("apps/v1", "StatefulSet", name), **more)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back over HTTP."""

    status: int
    body: Any

    @property
    def response(self) -> Any:
        """What the review is answered."""
        return self.body["response"]

    @property
    def decision(self) -> str:
        """The word in the audit log; empty without one."""
        return str(self.response.get("auditAnnotations", {}).get("decision", ""))

    @property
    def patch(self) -> list[dict[str, Any]]:
        """The patch, decoded; empty without one."""
        return list(json.loads(base64.b64decode(self.response["patch"]))) if "patch" in self.response else []


def post(app: FastAPI, door: str, body: bytes, headers: Sequence[tuple[str, str]] = JSON, pieces: int = 1) -> Reply:
    """POST a body in so many pieces."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": f"/admission/{door}",
        "raw_path": f"/admission/{door}".encode(),
        "query_string": b"timeout=2s",
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 443),
    }
    size = len(body) // pieces + 1
    waiting = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return Reply(sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:])))


def asked(door: str, question: Mapping[str, Any], app: FastAPI | None = None) -> Reply:
    """The answer to a review."""
    return post(app or webhook(), door, json.dumps(question).encode())
