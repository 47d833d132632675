"""Is this PDAutoscaler one that can be worked by?

The API server has checked what a schema and CEL can see; the rest is refused here instead of in a condition later:

    what the document itself forbids            as for a policy in a file, with the path of each field (policy/document.py)
    clashing owners                             two policies that want one target, or one model's metrics (policy/claims.py)
    an SLO that no number of replicas meets     the mean request of spec.requestShape alone takes longer than the SLO on the
                                                named profile; without a shape the profile's floor counts, in the document
    an annotation of ours with an unknown word  strictness.py

What is valid and may still surprise its owner is a warning (policy/surprises.py), and so is an SLO that only some requests can
see met, and an impossible one where spec.speed says that the profile is worth nothing.

An update is refused only for what it makes wrong. What was wrong before is a warning: else nobody could switch a broken policy
off, nor could its finalizer be taken away, which would keep its namespace from being deleted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from autoscaler.companion.admission.fleets import Fleets
from autoscaler.companion.admission.review import ALLOWED, Review, Ruling, annotated, mapping
from autoscaler.companion.admission.strictness import misspelt
from autoscaler.core.calibration import Trust
from autoscaler.core.capacity import Bound, capacity
from autoscaler.core.fleet import ROLE_FACTS, Role
from autoscaler.core.policy import Policy
from autoscaler.policy import Document, warnings
from autoscaler.policy.claims import claims
from autoscaler.policy.fields import Objection, objections
from autoscaler.policy.surprises import impossible

KIND = "PDAutoscaler"
INVALID = 422
CAUSES = 8


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with an object, and what is doubtful about it."""

    wrong: tuple[Objection, ...] = ()
    doubts: tuple[str, ...] = ()


def judge(review: Review, fleets: Fleets) -> Ruling:
    """The ruling on a PDAutoscaler that is made or changed."""
    if review.kind.kind != KIND or review.sub_resource or review.operation not in ("CREATE", "UPDATE"):
        return ALLOWED
    if review.operation == "UPDATE" and mapping(review.new).get("spec") == mapping(review.old).get("spec"):
        before = Findings(tuple(_annotated(review.old)))
        now = Findings(tuple(_annotated(review.new)))
    else:
        before = findings(review.old, review, fleets) if review.operation == "UPDATE" else Findings()
        now = findings(review.new, review, fleets)
    new = tuple(one for one in now.wrong if one not in before.wrong)
    if new:
        return _denied(new)
    old = tuple(f"was wrong before: {one}" for one in now.wrong)
    told = (*old, *now.doubts)
    return Ruling(warnings=told, audit={"decision": "warned" if told else "allowed"})


def findings(body: object, review: Review, fleets: Fleets) -> Findings:
    """What is to be said of an object that stands, or would stand, at the name of this review."""
    annotated = tuple(_annotated(body))
    try:
        document = Document.model_validate(_raw(body, review))
    except ValidationError as error:
        return Findings((*objections(error, Document), *annotated))
    policy = document.core()
    missed = impossible(policy)
    sure = policy.calibration.trust is not Trust.NOTHING
    wrong = (*_clashes(document, fleets), *(missed.values() if sure else ()), *annotated)
    said = {str(one) for one in wrong}
    doubts = (*_strained(policy, missed), *warnings(document))
    return Findings(wrong, tuple(dict.fromkeys(one for one in doubts if one not in said)))


def _raw(body: object, review: Review) -> Mapping[str, Any]:
    """The document of an object. What the server adds to the metadata is its own, and the model would refuse it."""
    metadata = mapping(mapping(body).get("metadata"))
    name = metadata.get("name") or review.name or f"{metadata.get('generateName', '')}x"  # the server has yet to finish it
    return {
        "apiVersion": mapping(body).get("apiVersion"),
        "kind": mapping(body).get("kind"),
        "metadata": {"name": name, "namespace": review.namespace or "default"},
        "spec": mapping(body).get("spec"),
    }


def _annotated(body: object) -> Iterator[Objection]:
    return misspelt(annotated(body))


def _clashes(document: Document, fleets: Fleets) -> Iterator[Objection]:
    """What another policy has already."""
    for claim in claims(document):
        owner = next((one for one in fleets.by_claim.get(claim.what, ()) if one.key != document.key), None)
        if owner is not None:
            yield Objection(claim.path, f"{claim.words} ({owner.key})")


def _strained(policy: Policy, missed: Container[Role]) -> Iterator[str]:
    """Promises to a share of the requests that is larger than the share whom anything helps."""
    if policy.shape is None:
        return
    for role, facts in ROLE_FACTS.items():
        if role in missed:
            continue
        slo = policy.slos[facts.binding_slo]
        carried = capacity(facts.sizing, policy.profile, slo, policy.shape)
        if not carried.feasible and carried.bound is not Bound.KV and carried.best_percentile < slo.quantile:
            share = f"{100 * carried.best_percentile:.3g} % of the requests of spec.requestShape"
            text = f"at best {share} are within {slo.threshold_s:g} s, however many {role} replicas there are"
            yield str(Objection(("spec", "slo", slo.kind, "percentile"), text))


def _denied(wrong: Iterable[Objection]) -> Ruling:
    causes = tuple(wrong)
    more = f"; and {len(causes) - CAUSES} more" if len(causes) > CAUSES else ""
    message = "; ".join(map(str, causes[:CAUSES])) + more
    return Ruling(False, INVALID, "Invalid", message, causes[:CAUSES], audit={"decision": "denied", "wrong": str(len(causes))})
