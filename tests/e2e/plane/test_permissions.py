"""Is the Role that is shipped enough, and is every verb of it needed?

One account has all of it, and one more for each verb has all but that. What the controller does is done by its own
adapters over the real API server (deeds.py): `NEEDED_BY` tells, for each resource, in what the loss of a verb shows. Most
losses show in the server's own words; the exceptions are told in `SILENT`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from autoscaler.adapters.kubernetes import PolicyObjects, connect
from autoscaler.core.fleet import Role
from autoscaler.ports import Managed
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.accounts import FOLDER, Grant, account, grant_all, grants
from tests.e2e.plane.deeds import EVERYTHING, FLEETS, LEASE, NEEDED_BY, SCALER, SILENT, SINGLE, Symptom, World
from tests.e2e.plane.plane import Plane, Refused
from tests.e2e.plane.town import template
from tests.e2e.plane.workloads import DISAGGREGATED, Place
from tests.e2e.processes import Process
from tests.policy_documents import edited

pytestmark = [pytest.mark.plane, pytest.mark.slow]

SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[4] / "shared"))
ROLE_SCALERS = SHARED / "crds" / "disaggregatedset.x-k8s.io_disaggregatedsetrolescalers.yaml"
SETTLED_S = 0.5  # a watch that is refused is so some milliseconds after its list
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def kind(group: str, name: str, plural: str) -> dict[str, Any]:
    """A definition without a schema: KEDA and AIBrix are only listed."""
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": OPEN}}
    names = {"kind": name, "plural": plural, "singular": name.lower(), "listKind": f"{name}List"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    metadata = {"name": f"{plural}.{group}"}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec}


RIVALS = (kind("keda.sh", "ScaledObject", "scaledobjects"), kind("autoscaling.aibrix.ai", "PodAutoscaler", "podautoscalers"))


@pytest.fixture(scope="module")
def place(plane: Plane) -> Iterator[Place]:
    """A namespace with a fleet of every sort, its policies, and the accounts."""
    if not ROLE_SCALERS.exists():
        pytest.skip(f"needs {ROLE_SCALERS}: the manager built here has no role scalers yet")
    place = Place(plane)
    for path in (FOLDER / "crd" / "pdautoscalers.yaml", ROLE_SCALERS):
        plane.kubectl("apply", "--server-side", "-f", str(path))
    for definition in RIVALS:
        plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(definition))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    for role in Role:
        place.leader_worker_set(role, 1)
        place.deployment(role, 1)
        place.create(DISAGGREGATED, SCALER["kind"], f"ours-{role}", {"replicas": 1})
        selector = f"leaderworkerset.sigs.k8s.io/name={role},leaderworkerset.sigs.k8s.io/worker-index=0"
        status = json.dumps({"status": {"replicas": 1, "selector": selector}})
        place.kubectl("patch", f"disaggregatedsetrolescaler/ours-{role}", "--subresource=status", "--type=merge", "-p", status)
    place.disaggregated_set("both", 1, *Role)
    single = template(Role.PREFILL, gate=True)
    place.create("v1", "Pod", SINGLE, single["spec"], **single["metadata"])
    for name, targets in FLEETS.items():
        pools = {f"spec.pools.{role}.target": dict(target) for role, target in zip(Role, targets, strict=True)}
        changes = {"metadata.name": name, "metadata.namespace": place.namespace, "spec.model": name, **pools}
        place.kubectl("create", "-f", "-", input=json.dumps(edited(changes)))
    place.event("prefill-0", "FailedCreate", "exceeded quota: small", "statefulset-controller")
    grant_all(place)
    yield place
    plane.kubectl("delete", "namespace", place.namespace, "--wait=false")
    for definition in RIVALS:
        plane.kubectl("delete", "crd", definition["metadata"]["name"], "--wait=false")


@pytest.fixture(scope="module")
def terms() -> Iterator[int]:
    return count(1)


@pytest.fixture
def world(
    place: Place, terms: Iterator[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    monkeypatch.setenv("KUBECONFIG", str(place.plane.kubeconfig))
    policies = PolicyObjects(connect(), [place.namespace])
    assert policies.ready(20.0), policies.trouble()
    found = [one for one in policies.managed() if isinstance(one, Managed)]
    assert len(found) == len(FLEETS), policies.managed()
    caplog.set_level(logging.WARNING)
    yield World(place, policies, terms, caplog)
    policies.stop()


def begun(name: str, world: World, lost: Grant | None, monkeypatch: pytest.MonkeyPatch, closing: ExitStack) -> Symptom:
    """The deed of that name, begun by the account."""
    kubeconfig = world.place.plane.kubeconfig_for(world.place.namespace, account(lost))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    return EVERYTHING[name](world, connect(), closing)


def shows(symptom: Symptom, expected: str) -> None:
    """Wait for it: lists come before watches, and a group needs a moment to have its selector."""
    last: list[str] = []

    def seen() -> bool:
        last.append(symptom())
        return expected in last[-1] if expected else not last[-1]

    try:
        wait_until(seen, expected or "no symptom")
    except AssertionError as error:
        raise AssertionError(f"{error}; last told: {last[-1] or 'nothing'}") from None


@pytest.mark.parametrize("name", EVERYTHING)
def test_with_the_whole_role_everything_works(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with ExitStack() as closing:
        symptom = begun(name, world, None, monkeypatch, closing)
        shows(symptom, "")
        time.sleep(SETTLED_S)
        assert symptom() == ""


@pytest.mark.parametrize("lost", grants(), ids=account)
def test_without_a_verb_the_controller_tells_what_it_cannot_do(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: Grant
) -> None:
    group, resource, verb = lost
    name = NEEDED_BY.get(f"{resource} {verb}") or NEEDED_BY[resource]
    words = SILENT.get(name, f'cannot {verb} resource "{resource}" in API group "{group}"')
    with ExitStack() as closing:
        shows(begun(name, world, lost, monkeypatch, closing), words)


def test_the_command_itself_runs_on_this_role(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the manifest starts it, but for the addresses; there is no Prometheus, which is told and harms nobody."""
    namespace = world.place.namespace
    world.place.kubectl("delete", "lease", LEASE, "--ignore-not-found")
    monkeypatch.setenv("KUBECONFIG", str(world.place.plane.kubeconfig_for(namespace, account(None))))
    for name, value in {
        "CLUSTER": "kubernetes",
        "PROMETHEUS": "http://127.0.0.1:9",
        "LISTEN": "127.0.0.1:0",
        "PORT": "0",
        "NAMESPACES": namespace,
        "LEASE": f"{namespace}/{LEASE}",
    }.items():
        monkeypatch.setenv(f"PDA_RUN_{name}", value)
    controller = Process(["run"], tmp_path / "controller.log")
    try:
        probes = controller.address("metrics and probes")
        for path in ("healthz", "readyz", "metrics"):
            wait_until(partial(is_served, f"{probes}/{path}"), f"/{path} is there")
        reason = ("get", "pdautoscaler/groups", "-o", "jsonpath={.status.reason}")
        wait_until(lambda: world.place.kubectl(*reason) == "SignalsUnreachable", "its status tells what it lacks")
    finally:
        controller.end()
    assert "forbidden" not in controller.log.read_text()


def is_served(url: str) -> bool:
    """Whether there is such a page, on loopback."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=10).ok


def test_a_stranger_may_do_nothing(world: World) -> None:
    kubeconfig = world.place.plane.kubeconfig_for(world.place.namespace, "stranger")
    with pytest.raises(Refused, match="forbidden"):
        world.place.plane.kubectl("get", "pdautoscalers", "-n", world.place.namespace, kubeconfig=kubeconfig)
