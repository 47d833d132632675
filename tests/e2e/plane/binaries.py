"""Where are the programs of the control plane?

In $KUBEBUILDER_ASSETS, which somebody set on purpose; in the cache folder that `make controlplane` fills for the present
go.sum; on PATH. The cache comes before PATH because its versions belong together: a distribution's etcd 3.4 lacks
options that the plane uses. The CRDs and webhooks lie beside the manager that they describe.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# openssl makes the certificate; setpriv (util-linux) ties each program's life to that of the test run.
SYSTEM = ("openssl", "setpriv")
BUILT = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok", "lws-manager")
GO_SUM = Path(__file__).parents[1] / "controlplane" / "go.sum"


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs by name, and the folder of the manager's manifests."""

    programs: Mapping[str, Path]

    @property
    def manifests(self) -> Path:
        """CRDs, webhooks and the node stage, as the modules ship them."""
        return self.programs["lws-manager"].resolve().parent / "manifests"


def find_binaries(environment: Mapping[str, str] | None = None) -> Binaries | str:
    """Everything that a plane needs, or one line that tells what is missing and what helps."""
    environment = os.environ if environment is None else environment
    folders = [environment.get("KUBEBUILDER_ASSETS", ""), str(cache_folder(environment)), environment.get("PATH", "")]
    path = os.pathsep.join(filter(None, folders))
    found = {name: Path(where) for name in (*BUILT, *SYSTEM) if (where := shutil.which(name, path=path))}
    missing = [name for name in (*BUILT, *SYSTEM) if name not in found]
    if not missing and not (binaries := Binaries(found)).manifests.is_dir():
        missing = [f"{binaries.manifests} (CRDs and webhooks)"]
    if missing:
        return f"no control plane: {', '.join(missing)} not found; `make controlplane` builds it"
    return Binaries(found)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where build.sh puts the programs: a folder named by the digest of go.sum, so another version never serves."""
    root = environment.get("PDA_CACHE") or Path(environment.get("HOME", "~")).expanduser() / ".cache" / "pd-autoscaler"
    return Path(root) / "controlplane" / hashlib.sha256(GO_SUM.read_bytes()).hexdigest()[:12]
