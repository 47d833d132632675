"""Which transactions are put through it, and which end must each come to?

Two prefill and three decode replicas of one GPU each. A course is what the brain wants, by which way the policy lets it, and
what a human finds at the end: the counts of the targets, and how many replicas of which target bear which role's label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind
from tests.e2e.plane.chaos.driver import Counts
from tests.engines.contract import Switching
from tests.engines.routing import LABEL

PREFILL, DECODE = Role
# With one victim: a record at the beginning, one for each step that comes true, and routes, counts and switches.
WRITES: Mapping[Kind, int] = {Kind.DRAIN: 7, Kind.RELABEL: 3, Kind.SWITCH: 8, Kind.DRAIN_FIRST: 10, Kind.SURGE_FIRST: 10}
# On the way back of the first try: one more step; and who broke is deleted.
MORE: Mapping[Switching, int] = {Switching.WORKS: 0, Switching.REFUSES: 1, Switching.BREAKS: 2}
START: Counts = {PREFILL: 2, DECODE: 3}
MODEL = "llama-3-8b"


@dataclass(frozen=True, slots=True)
class Course:
    """`goal`: replicas by the role that they do; `counts` of the targets at the end. `flip`: behaviour.flip of the policy.
    `gpus` of one replica; `spare` GPUs of the budget. `both`: each engine serves both kinds of request. `ready_s`: how long a
    replica takes to serve. `force_s`: after so long a drain goes on, and one decode replica's answers have no end.
    `switching`: what becomes of an engine's switch.
    """

    kind: Kind
    engine: str
    goal: Counts
    counts: Counts
    flip: Mapping[str, Any] = field(default_factory=dict)
    start: Counts = field(default_factory=lambda: START)
    gpus: Counts = field(default_factory=lambda: dict.fromkeys(Role, 1))
    spare: int = 0
    both: bool = False
    ready_s: float = 0.0
    switching: Switching = Switching.WORKS
    force_s: float = 0.0

    @property
    def budget(self) -> int:
        """GPUs that the fleet may have."""
        return sum(self.start[role] * self.gpus[role] for role in Role) + self.spare

    @property
    def is_undone(self) -> bool:
        """Whether it goes back, each time that it is tried."""
        return self.switching is not Switching.WORKS

    @property
    def writes(self) -> int:
        """How many there are undisturbed, Leases left out: each step once in the store, and what is done at it."""
        victims = sum(max(0, self.start[role] - self.counts[role]) for role in Role)
        return WRITES[self.kind] + max(0, victims - 1) + MORE[self.switching]

    @property
    def end(self) -> dict[tuple[Role, Role], int]:
        """(whose target made it, which role it bears): how many, at the end."""
        goal = self.start if self.is_undone else self.goal
        lent = {role: max(0, self.counts[role] - goal[role]) for role in Role}
        other = {PREFILL: DECODE, DECODE: PREFILL}
        at_home = {(role, role): self.counts[role] - lent[role] for role in Role}
        return {pair: n for pair, n in (at_home | {(role, other[role]): lent[role] for role in Role}).items() if n}

    @property
    def _drain(self) -> dict[str, Any]:
        return {"deadlineSeconds": self.force_s, "onDeadline": "force"} if self.force_s else {}

    def policy(self, namespace: str) -> dict[str, Any]:
        """The PDAutoscaler."""
        flips = {"enabled": True, "dwellSeconds": 0, "cooldownSeconds": 0, **self.flip} if self.flip else {}
        spec = {
            "mode": "Auto",
            "model": MODEL,
            "engine": self.engine,
            "profile": "llama-3-8b-a100-tp1",
            "slo": {"ttft": {"seconds": 2.0}, "tpot": {"seconds": 0.05}},
            "gpuBudget": self.budget,
            "pools": {
                str(role): {"target": {"name": str(role)}, "max": 8, "gpusPerReplica": self.gpus[role], "capacityPool": "a100"}
                for role in Role
            },
            "routing": {"kind": "label", "label": LABEL, "settleSeconds": 2},
            "behaviour": {"tickSeconds": 1, "flip": flips, "drain": self._drain},
        }
        metadata = {"name": "chat", "namespace": namespace}
        return {"apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler", "metadata": metadata, "spec": spec}


FLIPPED: Counts = {PREFILL: 3, DECODE: 2}
RESIZE = {"driver": "pairedResize"}
COURSES: Mapping[str, Course] = {
    "a drain": Course(Kind.DRAIN, "vllm", {PREFILL: 2, DECODE: 2}, {PREFILL: 2, DECODE: 2}),
    "a drain by force": Course(Kind.DRAIN, "vllm", {PREFILL: 2, DECODE: 2}, {PREFILL: 2, DECODE: 2}, force_s=3.0),
    "a relabel": Course(Kind.RELABEL, "vllm", FLIPPED, START, {"driver": "relabel"}, both=True),
    "a switch": Course(Kind.SWITCH, "sglang", FLIPPED, START, {"driver": "engineSwitch"}),
    "a switch that is refused": Course(
        Kind.SWITCH, "sglang", FLIPPED, START, {"driver": "engineSwitch"}, switching=Switching.REFUSES
    ),
    "a switch that breaks": Course(Kind.SWITCH, "sglang", FLIPPED, START, {"driver": "engineSwitch"}, switching=Switching.BREAKS),
    "drain first": Course(Kind.DRAIN_FIRST, "vllm", FLIPPED, FLIPPED, RESIZE | {"order": "drainFirst"}),
    "surge first": Course(Kind.SURGE_FIRST, "vllm", FLIPPED, FLIPPED, RESIZE | {"order": "surgeFirst"}, spare=1),
    "drain first 2:1": Course(
        Kind.DRAIN_FIRST,
        "vllm",
        {PREFILL: 3, DECODE: 2},
        {PREFILL: 3, DECODE: 2},
        RESIZE | {"order": "drainFirst"},
        start={PREFILL: 2, DECODE: 4},
        gpus={PREFILL: 2, DECODE: 1},
    ),
}
