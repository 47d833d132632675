"""Does a real API server take every manifest, and does what is installed come up under the strictest pod security?

The kinds of others are their own: CRDs from the Go modules of the Prometheus operator and of Karpenter, held to their
checksums. What no API server can tell stays unproven: that engines start with these options on these machines, that a
network plugin enforces the policy, that a Prometheus operator and a Karpenter act on their objects.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests import build
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.accounts import PATCHES
from tests.e2e.plane.binaries import Binaries, cache_folder
from tests.e2e.plane.plane import Plane

pytestmark = [pytest.mark.plane, pytest.mark.slow]

FOLDER = build.FOLDER
NAMESPACE = "pd-autoscaler"
OTHERS = ("chat", "search")
EXAMPLES = sorted(FOLDER.glob("examples/*.yaml"))
COMPONENTS = (*PATCHES, "pod-monitor", "prometheus-rule")
# Module, its checksum as in the checksum database, and the CRDs in it.
MODULES = (
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        [f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml" for kind in ("podmonitors", "prometheusrules")],
    ),
    (
        "sigs.k8s.io/karpenter@v1.9.0",
        "h1:95p6+9AaZ/eYD3hLPyvBDBquC3v8m09T2u/pB/3Qrqs=",
        ["pkg/apis/crds/karpenter.sh_nodepools.yaml"],
    ),
)


def module(name: str, checksum: str, folder: Path) -> Path:
    """The folder of a Go module, fetched if need be. Without Go: a failure where CI promised it, a skip elsewhere."""
    own = next(cache_folder(os.environ).parent.glob("*.go/go/bin/go"), None)  # the one that built the plane, if it had to
    go = shutil.which("go") or own
    if go is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(f"no go on PATH to fetch the CRDs of {name}")
    command = [str(go), "mod", "download", "-json", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    told = json.loads(done.stdout or "{}")
    assert told.get("Sum") == checksum, f"{name}: {told.get('Error') or done.stderr or told.get('Sum')}"
    return Path(told["Dir"])


@pytest.fixture(scope="module")
def installed(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """The plane with every kind that the manifests speak of, and install.yaml applied."""
    paths = [str(module(name, checksum, tmp_path_factory.mktemp("go")) / crd) for name, checksum, crds in MODULES for crd in crds]
    for path in (*paths, str(build.INSTALL)):
        plane.kubectl("apply", "--server-side", "--validate=strict", "-f", path)
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    for name in OTHERS:
        plane.kubectl("create", "namespace", name)
    yield plane
    for name in (NAMESPACE, *OTHERS):
        plane.kubectl("delete", "namespace", name, "--wait=false")


def dry_run(plane: Plane, *arguments: str) -> list[str]:
    """What the API server would have done, one line per object. Raises Refused in its words."""
    told = plane.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", *arguments)
    return told.splitlines()


def test_the_one_file_install_is_what_kustomize_makes(binaries: Binaries) -> None:
    assert build.INSTALL.read_text(encoding="utf-8") == build.install(str(binaries.programs["kubectl"])), "make manifests"


def test_the_controller_comes_up_twice_where_pods_are_restricted(installed: Plane) -> None:
    """Admission judges the pods; kwok plays that they run and are ready."""
    installed.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    installed.kubectl("rollout", "restart", "deployment/pd-autoscaler", "-n", NAMESPACE)
    installed.kubectl("rollout", "status", "deployment/pd-autoscaler", "-n", NAMESPACE, "--timeout=60s")
    pods = json.loads(
        installed.kubectl("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=pd-autoscaler", "-o", "json")
    )
    alive = [pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]]
    assert len({pod["spec"]["nodeName"] for pod in alive}) == len(alive) == 2

    def may_lose() -> int:
        budget = json.loads(installed.kubectl("get", "poddisruptionbudget/pd-autoscaler", "-n", NAMESPACE, "-o", "json"))
        return int(budget["status"].get("disruptionsAllowed", 0))

    wait_until(lambda: may_lose() == 1, "one pod may be evicted, and not both")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_accepted(installed: Plane, file: Path) -> None:
    objects = file.read_text(encoding="utf-8").count("\nkind: ")
    assert len(dry_run(installed, "-n", "chat", "-f", str(file))) == objects >= 1


def test_one_controller_for_other_namespaces_is_accepted_and_may_act_there(installed: Plane) -> None:
    overlay = str(FOLDER / "examples" / "other-namespaces")
    assert any("deployment.apps/pd-autoscaler" in line for line in dry_run(installed, "-k", overlay))
    made = installed.kubectl("kustomize", overlay)
    installed.kubectl("apply", "--server-side", "-f", "-", input=made)
    account = f"--as=system:serviceaccount:{NAMESPACE}:pd-autoscaler"
    for name in OTHERS:
        scale = ("patch", "leaderworkersets.leaderworkerset.x-k8s.io", "--subresource=scale")
        assert installed.kubectl("auth", "can-i", *scale, "-n", name, account).strip() == "yes"


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_is_accepted(installed: Plane, tmp_path: Path, component: str) -> None:
    here = tmp_path.resolve()
    base, part = (os.path.relpath(FOLDER / path, here) for path in ("base", f"components/{component}"))
    (here / "kustomization.yaml").write_text(json.dumps({"namespace": NAMESPACE, "resources": [base], "components": [part]}))
    bare = len(dry_run(installed, "-k", str(FOLDER / "base")))
    assert len(dry_run(installed, "-k", str(here))) == bare + (component not in PATCHES)
