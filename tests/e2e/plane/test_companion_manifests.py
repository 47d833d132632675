"""Does a real API server take what installs the companion, decide about Jobs by itself, and forget us in the order we tell?

Nobody answers here: kwok plays the companion's pods. That is what an installation is like whose companion is gone, so what may
go on without it, and what may not, is seen for certain. What it answers is in test_companion.py.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.registrations import APPLICATION, OURS
from manifests import build
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane, Refused
from tests.e2e.plane.test_manifests import NAMESPACE, comes_up_twice, dry_run, module, restrict
from tests.e2e.plane.workloads import Place
from tests.policy_documents import edited

pytestmark = [pytest.mark.plane, pytest.mark.slow]

EXAMPLE = build.FOLDER / "examples" / "companion"
COMPONENTS = build.FOLDER / "components"
APPLY = ("apply", "--server-side", "--force-conflicts", "--validate=strict")
KEDA = ("github.com/kedacore/keda/v2@v2.18.0", "h1:ttR223fii/4QJ0YvtrhcWHaEoezByb/t5CeFopjl6EI=")
OPT_IN = "pdautoscaler.io/admission=enabled"
DEMAND = "pdautoscaler.io/demand-"
REGISTRATIONS = (
    "apiservice,validatingwebhookconfiguration,mutatingwebhookconfiguration,"
    "validatingadmissionpolicy,validatingadmissionpolicybinding,clusterrole,clusterrolebinding"
)


def components(folder: Path, *names: str) -> str:
    """A folder to apply that is the example with these components on top."""
    here = folder.resolve()
    parts = [os.path.relpath(COMPONENTS / name, here) for name in names]
    overlay = {"resources": [os.path.relpath(EXAMPLE, here)], "components": parts}
    (here / "kustomization.yaml").write_text(json.dumps(overlay))
    return str(here)


def uninstall() -> list[str]:
    """The commands that the head of the component tells, in its order."""
    head = (COMPONENTS / "companion" / "kustomization.yaml").read_text(encoding="utf-8")
    return re.findall(r"^#   kubectl (.*delete .*)$", head, re.MULTILINE)


class Home:
    """A namespace that has asked for admission, and a PDAutoscaler in it whose status the test writes."""

    def __init__(self, plane: Plane) -> None:
        self.place = Place(plane)
        plane.kubectl("label", "namespace", self.place.namespace, OPT_IN)
        raw = edited({"metadata.namespace": self.place.namespace, "spec.mode": "Auto"})
        self.place.kubectl("create", "-f", "-", input=json.dumps(raw))

    def tell(self, prefill: int, decode: int | None, mode: str = "Auto", age_s: float = 0.0) -> None:
        """What a controller would write: its headroom in tokens per second; None: not known."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age_s))
        pools = {"prefill": {"headroomTokensPerSecond": prefill}, "decode": {"headroomTokensPerSecond": decode}}
        patch = json.dumps({"status": {"mode": mode, "lastTick": at, "pools": pools}})
        self.place.kubectl("patch", "pdautoscaler", "chat", "--subresource=status", "--type=merge", "-p", patch)

    def refuses(self, word: str | None) -> None:
        """Whether the fleet refuses load without room, or warns (None)."""
        label = "pdautoscaler.io/early-reject"
        self.place.kubectl("label", "--overwrite", "pdautoscaler", "chat", f"{label}-" if word is None else f"{label}={word}")

    def make(self, job: Mapping[str, Any]) -> str:
        """What is said about a Job that would be made: a refusal, a warning, or nothing."""
        return self._said("create", "--dry-run=server", "-f", "-", input=json.dumps(job))

    def resume(self, name: str) -> str:
        """What is said about a suspended Job that would begin."""
        return self._said("patch", "job", name, "--dry-run=server", "--type=merge", "-p", '{"spec": {"suspend": false}}')

    def _said(self, verb: str, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        try:
            self.place.kubectl(verb, "--warnings-as-errors", *arguments, input=input)
        except Refused as refused:
            return str(refused)
        return ""


def job(own: Mapping[str, str], each: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Job that declares a load on itself, on each of its pods, or on both."""
    named = {f"{DEMAND}{name}": value for name, value in own.items()}
    of_pods = {f"{DEMAND}{name}": value for name, value in (each or {}).items()}
    pod = {"restartPolicy": "Never", "containers": [{"name": "batch", "image": "batch"}]}
    template = {"metadata": {"annotations": of_pods}, "spec": pod}
    metadata = {"generateName": "batch-", "annotations": named}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


def asks(decode: str, fleet: str = "chat") -> dict[str, Any]:
    return job({"fleet": fleet, "decode-tokens-per-second": decode})


@pytest.fixture(scope="module")
def home(plane: Plane) -> Iterator[Home]:
    """One with the policy that decides by itself, in force."""
    plane.install_crd()
    made = [str(COMPONENTS / "load-policy" / name) for name in ("policy.yaml", "bindings.yaml")]
    for path in made:
        plane.kubectl(*APPLY, "-f", path)
    home = Home(plane)
    home.tell(0, 0)
    wait_until(lambda: "Warning" in home.make(asks("1")), "the policy is in force")
    yield home
    for path in reversed(made):
        plane.kubectl("delete", "--ignore-not-found", "-f", path)
    plane.kubectl("delete", "namespace", home.place.namespace, "--wait=false")


@pytest.fixture(scope="module")
def installed(plane: Plane) -> Iterator[Plane]:
    """The plane with the whole example; whatever fails, nothing of it holds up the namespaces of other tests."""
    plane.kubectl(*APPLY, "-k", str(EXAMPLE))
    plane.kubectl("create", "namespace", "chat")
    yield plane
    for command in uninstall():
        plane.kubectl(*command.split(), "--ignore-not-found")
    plane.kubectl("delete", "namespace", NAMESPACE, "chat", "--timeout=100s")


def soon(home: Home, what: Mapping[str, Any], word: str) -> None:
    """The API server hears of a status a moment after it was written."""
    wait_until(lambda: word in (home.make(what) or "nothing"), word)


def test_a_job_that_fits_is_made_in_silence_and_one_that_does_not_with_a_warning(home: Home) -> None:
    home.tell(50_000, 4_000)
    soon(home, asks("4k"), "nothing")
    said = home.make(asks("4.001k"))
    assert "Warning" in said
    assert f"PDAutoscaler {home.place.namespace}/chat has no room now for this load" in said
    assert "decode 4.001k, of which 4000 fit" in said
    assert "decode 0.1M" in home.make(asks("0.1M", f"{home.place.namespace}/chat"))
    home.place.kubectl("create", "-f", "-", input=json.dumps(asks("5k")))  # in earnest: a warning holds up nothing


def test_a_fleet_that_refuses_refuses(home: Home) -> None:
    home.tell(50_000, -10)
    home.refuses("deny")
    soon(home, asks("1"), "denied request")
    said = home.make(asks("1"))
    assert "decode 1, of which 0 fit" in said
    assert "Forbidden" in said
    assert "Warning" not in said
    home.refuses("off")
    soon(home, asks("1"), "nothing")
    home.refuses(None)
    soon(home, asks("1"), "Warning")


def test_the_load_of_each_pod_counts_for_as_many_as_run_at_a_time(home: Home) -> None:
    home.tell(50_000, 4_000)
    each = {"fleet": "chat", "decode-tokens-per-second": "1k", "prefill-tokens-per-second": "1k"}
    soon(home, job({}, each, parallelism=4), "nothing")
    assert "decode 1k x 5, of which 4000 fit" in home.make(job({}, each, parallelism=5))
    assert home.make(job({}, each, parallelism=50, completions=3)) == ""
    own = {"fleet": "chat", "decode-tokens-per-second": "100"}
    assert home.make(job(own, each, parallelism=50)) == "", "what stands on the Job goes before what stands on its pods"


def test_nobody_is_held_against_what_is_not_known(home: Home) -> None:
    home.tell(0, 0)
    home.refuses("deny")
    soon(home, asks("1k"), "denied")
    assert home.make(asks("1k", "another")) == ""
    assert home.make(asks("lots")) == ""
    assert home.make(job({"decode-tokens-per-second": "1k"})) == "", "names no fleet"
    assert home.make(job({"fleet": "chat"})) == ""
    home.tell(0, None)
    soon(home, asks("1k"), "nothing")
    home.tell(0, 0)
    soon(home, asks("1k"), "denied")
    home.tell(0, 0, mode="Recommend")
    soon(home, asks("1k"), "nothing")
    for age_s in (3600.0, -3600.0):
        home.tell(0, 0)
        soon(home, asks("1k"), "denied")
        home.tell(0, 0, age_s=age_s)
        soon(home, asks("1k"), "nothing")
    home.tell(0, 0)
    home.place.kubectl("label", "--overwrite", "namespace", home.place.namespace, "pdautoscaler.io/admission=no")
    soon(home, asks("1k"), "nothing")
    home.place.kubectl("label", "--overwrite", "namespace", home.place.namespace, OPT_IN)
    home.refuses(None)


@pytest.mark.parametrize("tick_s", [2.5, 15, 30])
def test_a_status_counts_for_as_long_as_its_ticks_allow(home: Home, tick_s: float) -> None:
    patch = json.dumps({"spec": {"behaviour": {"tickSeconds": tick_s}}})
    home.place.kubectl("patch", "pdautoscaler", "chat", "--type=merge", "-p", patch)
    patience_s = 90.0 + 3.0 * tick_s
    home.tell(0, 0, age_s=patience_s + 5.0)
    soon(home, asks("1"), "nothing")
    home.tell(0, 0, age_s=patience_s - 20.0)
    soon(home, asks("1"), "Warning")


def test_what_is_suspended_is_asked_when_it_begins_and_an_old_status_says_nothing_then_either(home: Home) -> None:
    home.tell(0, 0)
    waiting = asks("1k") | {"metadata": asks("1k")["metadata"] | {"name": "waiting"}}
    waiting["spec"]["suspend"] = True
    assert home.make(waiting) == ""
    home.place.kubectl("create", "-f", "-", input=json.dumps(waiting))
    time.sleep(1.1)  # stamps are whole seconds
    assert "of which 0 fit" in home.resume("waiting")
    home.tell(0, 0, age_s=3600.0)
    wait_until(lambda: home.resume("waiting") == "", "nothing is said")


def test_everything_is_accepted_and_the_companion_comes_up_twice_where_pods_are_restricted(installed: Plane) -> None:
    restrict(installed)
    installed.kubectl("rollout", "restart", "deployment/pd-autoscaler-companion", "-n", NAMESPACE)
    comes_up_twice(installed, "pd-autoscaler-companion")


def test_every_other_component_is_accepted_on_top(installed: Plane, tmp_path: Path) -> None:
    bare = len(dry_run(installed, "-k", str(EXAMPLE)))
    everything = components(tmp_path, "direct-callers", "cert-manager", "load-policy")
    assert len(dry_run(installed, "-k", everything)) == bare + 2 + 3
    assert len(dry_run(installed, "-k", f"{EXAMPLE}-other-namespaces")) == bare + 2


def test_the_autoscalers_of_the_example_are_accepted(installed: Plane, tmp_path: Path) -> None:
    installed.kubectl(
        "apply", "--server-side", "-f", str(module(*KEDA, tmp_path) / "config/crd/bases/keda.sh_scaledobjects.yaml")
    )
    installed.kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=30s")
    try:
        for name in ("hpa", "keda"):
            assert len(dry_run(installed, "-f", str(EXAMPLE / f"{name}.yaml"))) == 2
    finally:
        installed.kubectl("delete", "crd", "scaledobjects.keda.sh", "--timeout=60s")


def test_what_nobody_answers_for_stops_nothing_but_the_end_of_namespaces_until_it_is_gone_in_our_order(installed: Plane) -> None:
    home = Home(installed)
    home.tell(0, 0)
    home.place.leader_worker_set("chat-decode", 1)
    home.place.kubectl("create", "-f", "-", input=json.dumps(asks("1k")))
    home.place.kubectl("scale", "leaderworkerset/chat-decode", "--replicas=2")
    assert home.place.wanted("leaderworkerset/chat-decode") == 2
    lost = home.place.namespace
    installed.kubectl("delete", "namespace", lost, "--wait=false")

    def held() -> bool:
        found = json.loads(installed.kubectl("get", "namespace", lost, "-o", "json"))
        conditions = {one["type"]: one["status"] for one in found["status"].get("conditions", ())}
        return conditions.get("NamespaceDeletionDiscoveryFailure") == "True"

    wait_until(held, "the APIService without anybody behind it holds the namespace")
    first, *others = uninstall()
    installed.kubectl(*first.split())
    installed.kubectl("wait", "--for=delete", f"namespace/{lost}", "--timeout=100s")
    for command in others:
        installed.kubectl(*command.split(), "--ignore-not-found")
    assert installed.kubectl("get", REGISTRATIONS, "-l", f"{APPLICATION}={OURS}", "-o", "name") == ""
    left = "deployment,service,secret,poddisruptionbudget,networkpolicy,role,rolebinding,serviceaccount"
    assert "companion" not in installed.kubectl("get", left, "-n", NAMESPACE, "-o", "name")
