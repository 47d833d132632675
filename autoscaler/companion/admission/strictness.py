"""How hard does a rule bite, and who says so?

    pdautoscaler.io/guard         off | warn | deny   on the PDAutoscaler: writes by others to the counts of its targets
    pdautoscaler.io/early-reject  off | warn | deny   on the PDAutoscaler: batch load that it has no room for

Without the annotation the installation's own word counts, which is warn: a new rule first shows what it would do. A word
that is none of the three is refused when the PDAutoscaler is written (policies.py), and counts as not written after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from autoscaler.policy.fields import Objection, nearest, shown

PREFIX = "pdautoscaler.io/"
GUARD, EARLY_REJECT = f"{PREFIX}guard", f"{PREFIX}early-reject"
EMERGENCY = f"{PREFIX}emergency"
# The controller manager's loops are one user or the other, by --use-service-account-credentials.
HPA_USERS = frozenset({"system:serviceaccount:kube-system:horizontal-pod-autoscaler", "system:kube-controller-manager"})


class Strictness(StrEnum):
    """What becomes of a write that breaks a rule."""

    OFF = "off"
    WARN = "warn"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What the installation says. `own_users`: the controller's user names. `allowed`: users and groups that may write counts.
    `hpa_users`: who writes where a pool's actuation is hpa. `retry_most_s`: clients repeat a 429 by themselves, about ten times,
    and a controller's worker waits for all of them, so the wait that is told stays short.
    """

    own_users: frozenset[str]
    allowed: frozenset[str] = frozenset()
    hpa_users: frozenset[str] = HPA_USERS
    guard: Strictness = Strictness.WARN
    early_reject: Strictness = Strictness.WARN
    retry_most_s: int = 30


def strictness(annotations: Mapping[str, Any], name: str, default: Strictness) -> Strictness:
    """The word in this annotation; `default` where there is none of the three."""
    word = annotations.get(name)
    return Strictness(word) if isinstance(word, str) and word in set(Strictness) else default


def misspelt(annotations: Mapping[str, Any], names: Iterable[str] = (GUARD, EARLY_REJECT)) -> Iterator[Objection]:
    """Annotations of these names with another word."""
    for name in names:
        word = annotations.get(name)
        if name in annotations and not (isinstance(word, str) and word in set(Strictness)):
            near = nearest(word, Strictness) if isinstance(word, str) else ""
            allowed = f" (allowed: {', '.join(Strictness)})"
            yield Objection(("metadata", "annotations", name), f"{shown(word)} is unknown{near}{allowed}")
