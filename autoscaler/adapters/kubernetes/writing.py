"""How is a new count written, and what has become of it?

As one JSON patch whose `test` operations name the object (uid) and the count that was decided on. It fails exactly when
somebody else scaled or the object was made anew, and not when a controller touched its status in between, as a
resourceVersion would (reference/python.md 1.2).

The patch says `add` and not `replace`, because a Scale leaves a count of 0 out of its JSON: there the `test` is that spec
is empty, and `add` writes the field whether it is there or not. A count inside a set is always there; its `test` also names
the role, since a place in a list may have become another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault, Body, Operation
from autoscaler.core.action import Action, Flip, Outcome, Verdict

BUSY = 429


@dataclass(frozen=True, slots=True)
class Knob:
    """Where a count stands: the path of the resource, the JSON pointer inside it, what else must be true of it there."""

    path: str
    pointer: str = "/spec/replicas"
    tests: tuple[Operation, ...] = ()
    leaves_zero_out: bool = True

    def operations(self, uid: str, action: Action) -> Sequence[Operation]:
        """The JSON patch that writes the new count if the object and its count still are those that were decided on."""
        seen: Operation = {"op": "test", "path": self.pointer, "value": action.from_replicas}
        if action.from_replicas == 0 and self.leaves_zero_out:
            seen = {"op": "test", "path": self.pointer.rpartition("/")[0], "value": {}}
        return [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            *self.tests,
            seen,
            {"op": "add", "path": self.pointer, "value": action.to_replicas},
        ]

    def count(self, body: Body) -> int:
        """The count as an answer has it."""
        found: Any = body
        for step in self.pointer.strip("/").split("/"):
            found = found[int(step)] if isinstance(found, list) else found.get(step, {})
        return found if isinstance(found, int) else 0


def scale_of(path: str) -> Knob:
    """The count of an object that has /scale."""
    return Knob(f"{path}/scale")


def role_of(path: str, place: int, role: str) -> Knob:
    """The count of a role inside a set."""
    at = f"/spec/roles/{place}"
    return Knob(path, f"{at}/spec/replicas", ({"op": "test", "path": f"{at}/name", "value": role},), leaves_zero_out=False)


def outcome(action: Action, knob: Knob, answer: Body | ApiFault) -> Outcome:
    """What became of the write."""
    if isinstance(answer, ApiFault):
        return Outcome(action, *_verdict(answer))
    kept = knob.count(answer)
    if kept != action.to_replicas:
        return Outcome(action, Verdict.REFUSED, f"{action.to_replicas} was written and the cluster made it {kept}")
    return Outcome(action, Verdict.APPLIED, f"replicas {action.from_replicas} -> {kept}")


def unwritten(action: Action | Flip, fault: ApiFault) -> Outcome:
    """What comes of a write that was not begun because of this fault: on a clash (409, 422) it was decided on what is past."""
    clash = fault.status in (409, 422)
    return Outcome(action, Verdict.CONFLICT if clash else Verdict.FAILED, f"not written: {fault}")


def _verdict(fault: ApiFault) -> tuple[Verdict, str]:
    if fault.unanswered:
        return Verdict.FAILED, f"{fault}; whether it was written shows at the next look"
    if fault.status == BUSY:
        return Verdict.FAILED, f"not written: {fault}"
    # A failed `test` is 422 without a named field; a count that is not allowed names its field.
    if fault.status == 409 or (fault.status == 422 and not fault.causes):
        return Verdict.CONFLICT, "somebody else scaled or replaced it since it was read"
    return Verdict.REFUSED, str(fault)
