"""Does a real API server take every manifest, and does what is installed come up under the strictest pod security?

The kinds of others are their own: CRDs from the Go modules of the Prometheus operator, of Karpenter and of gateways, held to
their checksums. What no API server can tell stays unproven: that engines start with these options on these machines, that a
network plugin enforces the policy, that a Prometheus operator, a Karpenter and a gateway act on their objects. (Two gateways
do in tests/sidecar.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

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
COMPONENTS = {**dict.fromkeys(PATCHES, 0), "pod-monitor": 1, "prometheus-rule": 1, "early-rejection": 5}  # and their objects
GATEWAYS = ("beside-the-gateway", "envoy-gateway", "istio", "traefik")
ISTIO = ("istio.io/api@v1.28.0", "h1:0fYY9G03CAdFwE/fCkpr0v7kKsy+Hz9OCCjLNBNLbnU=")
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
    (
        "sigs.k8s.io/gateway-api@v1.4.0",
        "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
        ["config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"],
    ),
    (
        "github.com/envoyproxy/gateway@v1.6.0",
        "h1:AWKXQpvnNs6vqSeDgSwOyqMKlPircGXvw97mkfcDh/w=",
        [
            f"charts/gateway-helm/crds/generated/gateway.envoyproxy.io_{kind}.yaml"
            for kind in ("securitypolicies", "clienttrafficpolicies")
        ],
    ),
    (
        "github.com/traefik/traefik/v3@v3.6.0",
        "h1:axM42ACSLlB/NWCAx/DTYCrSfmhMukVjXPJDkbZAk1c=",
        ["docs/content/reference/dynamic-configuration/traefik.io_middlewares.yaml"],
    ),
    (*ISTIO, ["kubernetes/customresourcedefinitions.gen.yaml"]),
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


def comes_up_twice(plane: Plane, name: str) -> None:
    """Both pods of a Deployment run, on two nodes, and one of them may be evicted. kwok plays that they run and are ready."""
    plane.kubectl("rollout", "status", f"deployment/{name}", "-n", NAMESPACE, "--timeout=60s")
    pods = json.loads(plane.kubectl("get", "pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/name={name}", "-o", "json"))
    alive = [pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]]
    assert len({pod["spec"]["nodeName"] for pod in alive}) == len(alive) == 2

    def may_lose() -> int:
        budget = json.loads(plane.kubectl("get", f"poddisruptionbudget/{name}", "-n", NAMESPACE, "-o", "json"))
        return int(budget["status"].get("disruptionsAllowed", 0))

    wait_until(lambda: may_lose() == 1, "one pod may be evicted, and not both")


def restrict(plane: Plane) -> None:
    """From here on admission refuses a pod that asks for more than the strictest standard allows."""
    plane.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")


def test_the_controller_comes_up_twice_where_pods_are_restricted(installed: Plane) -> None:
    restrict(installed)
    installed.kubectl("rollout", "restart", "deployment/pd-autoscaler", "-n", NAMESPACE)
    comes_up_twice(installed, "pd-autoscaler")


def test_sidecars_come_up_twice_beside_a_controller_that_has_their_secret(installed: Plane) -> None:
    restrict(installed)
    example = str(FOLDER / "examples" / "early-rejection")
    installed.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", example)
    for name in ("pd-early-rejection", "pd-autoscaler"):
        comes_up_twice(installed, name)
        made = json.loads(installed.kubectl("get", f"deployment/{name}", "-n", NAMESPACE, "-o", "json"))
        (mounted,) = made["spec"]["template"]["spec"]["volumes"]
        assert mounted["secret"]["secretName"] == "pd-autoscaler-state"
    assert len(dry_run(installed, "-k", f"{example}/second-fleet")) == 4
    installed.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(build.INSTALL))
    for name in ("deployment/pd-early-rejection", "service/pd-early-rejection", "networkpolicy/pd-early-rejection"):
        installed.kubectl("delete", name, "-n", NAMESPACE)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_accepted(installed: Plane, file: Path) -> None:
    objects = file.read_text(encoding="utf-8").count("\nkind: ")
    assert len(dry_run(installed, "-n", "chat", "-f", str(file))) == objects >= 1


@pytest.mark.parametrize("name", GATEWAYS)
def test_what_a_gateway_is_told_is_accepted(installed: Plane, name: str) -> None:
    file = FOLDER / "examples" / "gateways" / f"{name}.yaml"
    objects = file.read_text(encoding="utf-8").count("\nkind: ")
    assert len(dry_run(installed, "-f", str(file))) == objects >= 1


def test_what_a_mesh_is_told_are_fields_that_istio_knows(tmp_path: Path) -> None:
    """No API server holds the mesh's own configuration to anything, so it is held to the names in Istio's Go structure."""
    source = (module(*ISTIO, tmp_path) / "mesh/v1alpha1/config.pb.go").read_text(encoding="utf-8")
    structure = source.partition("EnvoyExternalAuthorizationHttpProvider struct {")[2].partition("\n}\n")[0]
    known = set(re.findall(r"json=(\w+),|name=(\w+),proto3\"", structure))
    names = {name for pair in known for name in pair if name}
    told = yaml.safe_load((FOLDER / "examples/gateways/istio-mesh.yaml").read_text(encoding="utf-8"))
    (provider,) = told["meshConfig"]["extensionProviders"]
    assert set(provider["envoyExtAuthzHttp"]) <= names
    assert len(names) > 10


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
    assert len(dry_run(installed, "-k", str(here))) == bare + COMPONENTS[component]
