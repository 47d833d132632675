"""Which autoscalers write the counts of these policies' pools, and does the cluster let them?

`autoscaler hpa` prints one for each pool with actuation hpa: a HorizontalPodAutoscaler, or a ScaledObject where KEDA answers for
external metrics on the cluster that is asked. `preflight` looks with `handed` at what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from autoscaler.adapters.prometheus.sightings import Sight
from autoscaler.commands.findings import Row
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.policy.actuation import Actuation
from autoscaler.policy.autoscalers import Manifest, horizontal, scaled_object
from autoscaler.policy_file import load_policies
from autoscaler.refusal import Refusal

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes.metrics_api import AutoscalersApi

KUBERNETES = "kubernetes"
KEDA_URL = "http://pd-autoscaler-companion.pd-autoscaler:8080"  # of manifests/, where KEDA is let in
HELD = "the pool keeps the count that it has"
INEXACT = "counts are missed by up to a tenth, from 10 replicas on"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a cluster is like for autoscalers: whether KEDA has the metrics API, whether tolerances are dropped."""

    keda: bool = False
    tolerant: bool = False


def hpa(*, policies: Sequence[Path], cluster: str | None, keda_url: str, as_json: bool) -> None:
    """Print them as YAML for `kubectl apply -f -`, or as JSON. Raises Refusal on bad input, and where no pool is handed over."""
    documents = [loaded.document for loaded in load_policies(policies)]
    if not any(handed_roles(document) for document in documents):
        raise Refusal(
            "--policy: no pool has actuation hpa, so this controller writes every count itself; set spec.pools.ROLE.actuation"
        )
    api = None if cluster is None else asked(cluster)
    if cluster is not None and api is None:
        raise Refusal(f"--cluster {cluster!r}: must be kubernetes or kubernetes:CONTEXT")
    found = [one for document in documents for one in manifests(document, _ground(document, api), keda_url)]
    click.echo(json.dumps(found, indent=2) if as_json else as_yaml(found), nl=as_json)


def handed_roles(document: Document) -> list[Role]:
    """The roles whose counts others write."""
    return [role for role, pool in document.spec.pools.items() if pool.actuation is Actuation.HPA]


def manifests(document: Document, ground: Ground, keda_url: str = KEDA_URL) -> list[Manifest]:
    """The autoscalers of a policy's pools that are handed over."""
    if ground.keda:
        return [scaled_object(document, role, keda_url, tolerant=ground.tolerant) for role in handed_roles(document)]
    return [horizontal(document, role, tolerant=ground.tolerant) for role in handed_roles(document)]


def as_yaml(found: Sequence[Manifest]) -> str:
    """Several objects as one stream."""
    copies = json.loads(json.dumps(found))  # what is one object in memory would be an anchor
    return "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in copies)


def asked(cluster: str | None) -> AutoscalersApi | None:
    """The cluster that is to be asked; None where none is named, or one that is no Kubernetes. Raises Refusal."""
    kind, _, context = (cluster or "").partition(":")
    if kind != KUBERNETES:
        return None
    from autoscaler.adapters.kubernetes import connect  # 0.5 s that others do not pay

    return connect(context or None)


def _ground(document: Document, api: AutoscalersApi | None) -> Ground:
    """As far as the cluster tells. What it does not tell is taken for the usual."""
    from autoscaler.adapters.kubernetes.metrics_api import Owner, Registration, keeps_tolerance, registration

    roles = handed_roles(document)
    if api is None or not roles:
        return Ground()
    answers = registration(api)
    keeps = keeps_tolerance(api, horizontal(document, roles[0]))
    return Ground(isinstance(answers, Registration) and answers.owner is Owner.KEDA, keeps is False)


def handed(document: Document, api: AutoscalersApi | None) -> Iterable[Row]:
    """One row for who answers for external metrics, one for tolerances, one for each pool that is handed over."""
    roles = handed_roles(document)
    if api is None or not roles:
        return
    yield _answering(api)
    yield _exact(api, document, roles[0])
    for role in roles:
        yield _followed(api, document, role)


def needed(document: Document, api: AutoscalersApi | None) -> str:
    """The YAML of the autoscalers that a policy needs on this cluster; empty where it needs none, or nobody is asked."""
    return as_yaml(manifests(document, _ground(document, api))) if api is not None and handed_roles(document) else ""


def _answering(api: AutoscalersApi) -> Row:
    from autoscaler.adapters.kubernetes.metrics_api import Owner, Registration, registration

    found = registration(api)
    if not isinstance(found, Registration):
        return Row("external-metrics", Sight.FAILED, False, False, str(found), HELD)
    ready = {Owner.OURS: "a HorizontalPodAutoscaler can read our metric", Owner.KEDA: "a ScaledObject can read our page for KEDA"}
    if found.owner is Owner.NOBODY:
        text = "no APIService v1beta1.external.metrics.k8s.io: install the companion's, or KEDA"
        return Row("external-metrics", Sight.MISSING, False, False, text, HELD)
    if found.owner not in ready:
        text = (
            f"{found.owner} ({found.service}) has the one APIService of the cluster: it must be told to pass our metric on, or go"
        )
        return Row("external-metrics", "taken", False, False, text, HELD)
    if found.silent:
        return Row("external-metrics", Sight.FAILED, False, False, f"{found.owner} ({found.service}): {found.silent}", HELD)
    return Row("external-metrics", Sight.THERE, True, False, f"{found.owner} ({found.service}) answers: {ready[found.owner]}")


def _exact(api: AutoscalersApi, document: Document, role: Role) -> Row:
    from autoscaler.adapters.kubernetes.metrics_api import keeps_tolerance

    keeps = keeps_tolerance(api, horizontal(document, role))
    if not isinstance(keeps, bool):
        return Row("tolerance", Sight.FAILED, False, False, f"not known: {keeps}", INEXACT)
    if not keeps:
        text = "the cluster drops behavior.scaleUp.tolerance and scaleDown.tolerance (Kubernetes before 1.35, or the gate is off)"
        return Row("tolerance", Sight.MISSING, False, False, text, INEXACT)
    return Row("tolerance", Sight.THERE, True, False, "the cluster keeps tolerance 0 of both directions")


def _followed(api: AutoscalersApi, document: Document, role: Role) -> Row:
    from autoscaler.adapters.kubernetes.metrics_api import following
    from autoscaler.adapters.kubernetes.objections import Handing

    target, metadata, name = document.spec.pools[role].target, document.metadata, f"{role}.autoscaler"
    found = following(api, metadata.namespace, target, Handing(metadata.name, role.value, handed=True))
    if not isinstance(found, tuple):
        return Row(name, Sight.FAILED, False, False, str(found), HELD)
    reader, against = found
    if against:
        return Row(name, "rival", False, False, against, HELD)
    if not reader:
        return Row(
            name, Sight.MISSING, False, False, "nothing reads its published count; `autoscaler hpa` prints what would", HELD
        )
    return Row(name, Sight.THERE, True, False, f"{reader} writes what is published")
