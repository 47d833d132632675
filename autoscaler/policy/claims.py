"""What must a policy have to itself?

Its name, the metrics of its model, and the objects it scales: two policies that want one of them would undo each other's
work at every tick. What follows is for the source to say: files that clash are refused together, of the objects on a
cluster the oldest goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoscaler.policy.document import Document
from autoscaler.policy.fields import Path


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed, by which field of the policy, and the words for a policy that comes second."""

    what: tuple[str, ...]
    path: Path
    words: str


def claims(document: Document) -> Iterator[Claim]:
    """Metrics are summed by namespace and model, so two fleets that share both share their numbers, whatever the gateway."""
    namespace, spec = document.metadata.namespace, document.spec
    yield Claim(("name", document.key), ("metadata", "name"), f"{document.key} is the name of another policy too")
    words = f"{spec.model} in namespace {namespace} is another policy's model too, and metrics cannot tell the two apart"
    yield Claim(("series", namespace, spec.model), ("spec", "model"), words)
    for role, pool in spec.pools.items():
        target = pool.target
        inside = f"{target.kind} {target.name}" if target.role is None else f"role {target.role} of {target.kind} {target.name}"
        words = f"{inside} in namespace {namespace} is another policy's target too"
        yield Claim(("target", namespace, *target.identity), ("spec", "pools", role, "target", "name"), words)
