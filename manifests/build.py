"""How are the manifests that are made of others made? `make manifests` runs this, kubectl being on PATH.

components/prometheus-rule/prometheusrule.yaml is dashboards/alerts.yaml in the envelope that the Prometheus operator
wants, comments and all. install.yaml is what `kubectl kustomize manifests/install` prints. Tests hold both to that.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent
ALERTS = FOLDER.parent / "dashboards" / "alerts.yaml"
RULE = FOLDER / "components" / "prometheus-rule" / "prometheusrule.yaml"
INSTALL = FOLDER / "install.yaml"

RULE_HEAD = """\
# Made of dashboards/alerts.yaml by `make manifests`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: pd-autoscaler
  labels: {app.kubernetes.io/name: pd-autoscaler} # add what your Prometheus selects by, for example release: prometheus
spec:
"""
INSTALL_HEAD = (
    "# The CRD and the controller, for `kubectl apply --server-side -f`. Made of manifests/install by `make manifests`.\n"
)


def prometheus_rule() -> str:
    """The alerts as an object. Two more spaces before every line change no YAML, block texts included."""
    groups = ALERTS.read_text(encoding="utf-8").partition("\ngroups:\n")[2]
    lines = [f"  {line}" if line else "" for line in ("groups:\n" + groups).splitlines()]
    return RULE_HEAD + "\n".join(lines) + "\n"


def install(kubectl: str) -> str:
    """The one-file install. Raises CalledProcessError where kustomize refuses."""
    command = [kubectl, "kustomize", str(FOLDER / "install")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603
    return INSTALL_HEAD + done.stdout


if __name__ == "__main__":
    RULE.write_text(prometheus_rule(), encoding="utf-8")
    INSTALL.write_text(install("kubectl"), encoding="utf-8")
