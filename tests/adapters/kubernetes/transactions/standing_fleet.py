"""How do tests say in one line what stands and what is under way, without a cluster?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.adapters.kubernetes.pods import Pod
from autoscaler.adapters.kubernetes.standing import Counted, Standing
from autoscaler.adapters.kubernetes.targets import Scalable
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.adapters.kubernetes.transactions.living import living
from autoscaler.adapters.kubernetes.writing import scale_of
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.transaction import IN_PLACE, UNDO, Change, Kind, Step, Transaction, Victim, begun
from tests.policy_documents import policy

NOW = 10_000.0
LABEL = "llm-d.ai/role"
LWS = "leaderworkerset.sigs.k8s.io"
P, D = Role.PREFILL, Role.DECODE
ROUTING: Mapping[str, Any] = {"kind": "label", "label": LABEL}


def pod(name: str, label: str, *, numbered: bool = True, **fields: Any) -> Pod:
    """A leader that serves since 1000 s; other fields as told."""
    number = {f"{LWS}/name": name.rpartition("-")[0], f"{LWS}/group-index": name.rpartition("-")[2]} if numbered else {}
    usual: dict[str, Any] = {"created_s": 500.0, "ready_s": 1000.0, "leaving_s": None, "size": 1, "leader": name, "trouble": None}
    usual |= {"uid": f"uid-{name}", "ip": "10.0.0.1"}
    return Pod(name, {**number, LABEL: label}, **(usual | fields))


def standing(count: int, *pods: Pod, updating: bool = False) -> Standing:
    """A target that wants so many, and what stands of it."""
    counted = Counted(Scalable("t", "uid-t", None, count, updating), scale_of("/t"), count, "app=t")
    return Standing(counted, pods, updating, frozenset())


def pods(role: Role, *numbers: int, **labels: str) -> list[Pod]:
    """Replicas of a role's target by their ordinals; `at_1="decode"` for the label of number 1 if it is another."""
    return [pod(f"{role}-{number}", labels.get(f"at_{number}", role.value)) for number in numbers]


def ground(
    prefill: Standing | int = 3, decode: Standing | int = 2, *under_way: Transaction, routed: bool = True, **spec: Any
) -> Ground:
    """A fleet; a number is a target all of whose replicas serve."""
    given = {P: prefill, D: decode}
    whole = {role: standing(one, *pods(role, *range(one))) if isinstance(one, int) else one for role, one in given.items()}
    document = policy(**({"routing": dict(ROUTING)} if routed else {}), **spec)
    return Ground(document, whole, living(whole, document.spec.routing, NOW), under_way)


def fleet(of: Ground) -> Fleet:
    """As the core sees it."""
    return Fleet("k", of.pools, flips=of.flips)


def victims(*names: str) -> tuple[Victim, ...]:
    return tuple(Victim(name, f"uid-{name}") for name in names)


def moving(kind: Kind, step: Step, names: Sequence[str], before: Mapping[Role, int] | None = None, take: int = 1) -> Transaction:
    """A transaction at a step of its path, out of prefill: one replica fewer there per name, `take` more of decode."""
    to = P if kind is Kind.DRAIN else D
    counts = {} if kind in IN_PLACE else before or {P: 3} | ({} if to is P else {D: 2})
    after = {role: count - len(names) if role is P else count + take for role, count in counts.items()}
    one = begun(f"{kind}-x", 1, Change(kind, P, to, victims(*names), counts, after), NOW - 50)
    while one.step is not step:
        one = one.onward(NOW - 10)
    return one


def undone(kind: Kind, at: Step, then: Step, names: Sequence[str]) -> Transaction:
    """The same on its way back from `at`, now at `then`."""
    one = moving(kind, at, names).returning("why", NOW - 5, UNDO[kind, at])
    while one.step is not then:
        one = one.onward(NOW - 4)
    return one
