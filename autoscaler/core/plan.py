"""Which actions follow from the targets and the flip that was chosen, and what do the laws forbid?

Targets may be wild; one guard makes them lawful and says what it cut:

    sight       no shrink without full sight (law 2), not even down to a max that was lowered.
    bounds      min <= replicas <= max. Raising to min needs no signal; lowering to max waits for no window, since it is
                the operator's word and not the data's.
    last one    a pool never loses its last serving replica while the other lives (law 6); only a fleet that may sleep
                (core/idle.py) goes to zero, and then every pool does. Who goes first is the cluster's choice, so a
                scale-down may hit every serving replica before one that still starts: 3 of which 2 start stay 3.
    refusal     a pool whose new replicas the cluster refuses (no quota, no nodes to come) is not grown for a while after
                it said so, not even to min: what is refused comes no sooner for being asked more, and each replica asked
                for holds its GPUs in the budget, where the other role could use them. Nothing shrinks for it. Pods that
                only find no room now do not count: they are what makes a node come.
    GPU budget  GPUs held by every pool, draining replicas included, plus what is asked for, never exceed the budget.
                When both roles want more than is left, single replicas go in turn to the role below its min, then to
                the one that is shortest, measured as demand / granted replicas, so neither starves the other.

A flip comes before everything else and counts as done for all that follows: its donor is not grown back in the same breath,
its receiver not shrunk. It must leave both pools within their bounds, a serving replica to the donor, and pay for the GPUs
that it needs meanwhile.

Shrinks come next in the plan: they free GPUs that a later tick may grant. A replica that drains still holds its
GPUs, so growth on freed GPUs waits until the drain is over: the budget holds at every instant, not on average.

Only mode Auto acts. Recommend makes the same plan and stops there; Off plans nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from autoscaler.core.action import Action, Flip, Mode, Plan
from autoscaler.core.fleet import Fleet, Lack, Phase, Pool, Role
from autoscaler.core.hysteresis import Target
from autoscaler.core.policy import PoolLimits
from autoscaler.core.reason import Finding, Reason, Stage

# How long nothing more is asked for after the cluster refused. A quota may be raised by hand at any moment; the Cluster
# Autoscaler itself leaves a node group that failed alone for 5 minutes at first.
BACKOFF_S: Mapping[Lack, float] = {Lack.NOT_CREATED: 60.0, Lack.NODES_REFUSED: 300.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """One pool's target with the demand behind it; `target` is None where the demand is not known. `sighted`: the
    demand was seen in full, so a shrink is allowed.
    """

    target: Target | None
    demand_replicas: float
    sighted: bool


def plan(
    now: float,
    mode: Mode,
    fleet: Fleet,
    wishes: Mapping[Role, Wish],
    limits: Mapping[Role, PoolLimits],
    gpu_budget: int | None,
    *,
    flip: Flip | None = None,
) -> Plan:
    """The lawful plan for these wishes and this flip. A role without a wish keeps its count."""
    findings: list[Finding] = []
    flips = (flip,) if flip is not None and mode is not Mode.OFF and _lawful(flip, fleet, limits, gpu_budget, findings) else ()
    for one in flips:
        fleet, wishes = _flipped(one, fleet), _beside(one, fleet, wishes)
    bounded = {role: _bound(role, fleet, wish, limits[role], findings) for role, wish in wishes.items()}
    asked = {role: _patient(fleet.pools[role], count, now, findings) for role, count in bounded.items()}
    granted = _grant(fleet, asked, wishes, limits, gpu_budget, findings)
    actions = tuple(sorted(_actions(fleet, granted, wishes), key=lambda action: action.to_replicas - action.from_replicas))
    if mode is Mode.OFF:
        actions = ()
    findings.extend(_verdicts(fleet, granted, actions, mode))
    return Plan(now, mode, actions, granted, tuple(findings), flips)


def sleep(now: float, mode: Mode, fleet: Fleet) -> Plan:
    """The plan for a fleet that may sleep (core/idle.py): every pool at zero."""
    actions = tuple(Action(role, pool.desired, 0, Reason.IDLE) for role, pool in fleet.pools.items() if pool.desired)
    actions = () if mode is Mode.OFF else actions
    finding = Finding(Stage.PLAN, Reason.IDLE, "nobody has asked for anything for long: every pool at zero until somebody does")
    findings = (finding, *_verdicts(fleet, fleet.pools, actions, mode))
    return Plan(now, mode, actions, dict.fromkeys(fleet.pools, 0), findings)


def _lawful(flip: Flip, fleet: Fleet, limits: Mapping[Role, PoolLimits], gpu_budget: int | None, findings: list[Finding]) -> bool:
    """Whether the guard lets a flip pass; if not, why."""
    source, sink = fleet.pools[flip.from_role], fleet.pools[flip.to_role]
    left, grown = source.desired - flip.from_replicas, sink.desired + flip.to_replicas
    more_gpus = flip.to_replicas * sink.gpus_per_replica
    if not fleet.flip_ways[flip.from_role, flip.to_role].grows_first:
        more_gpus = max(0, more_gpus - flip.from_replicas * source.gpus_per_replica)
    if left < limits[flip.from_role].min_replicas:
        findings.append(_cut(flip.from_role, Reason.TOO_FEW_REPLICAS, left, limits[flip.from_role].min_replicas, "min"))
    elif grown > limits[flip.to_role].max_replicas:
        findings.append(_cut(flip.to_role, Reason.TOO_MANY_REPLICAS, grown, limits[flip.to_role].max_replicas, "max"))
    elif source.serving - source.leaving <= flip.from_replicas:
        findings.append(_cut(flip.from_role, Reason.LAST_SERVING, left, 1, "the fewest that keep one serving"))
    elif gpu_budget is not None and more_gpus > gpu_budget - fleet.gpus_held:
        free_gpus = max(0, gpu_budget - fleet.gpus_held)
        text = f"a flip needs {more_gpus} GPUs beside those it frees, {free_gpus} of {gpu_budget} are free"
        findings.append(Finding(Stage.PLAN, Reason.GPU_BUDGET, text, flip.to_role, {"gpus": more_gpus, "gpu_budget": gpu_budget}))
    else:
        return True
    return False


def _flipped(flip: Flip, fleet: Fleet) -> Fleet:
    """The fleet with the counts that the flip leaves."""
    source, sink = fleet.pools[flip.from_role], fleet.pools[flip.to_role]
    moved = {
        flip.from_role: replace(source, desired=source.desired - flip.from_replicas),
        flip.to_role: replace(sink, desired=sink.desired + flip.to_replicas),
    }
    return replace(fleet, pools={**fleet.pools, **moved})


def _beside(flip: Flip, fleet: Fleet, wishes: Mapping[Role, Wish]) -> dict[Role, Wish]:
    """The wishes of a fleet that flips: its donor stays at what is left, its receiver may grow further."""
    given, taken = wishes[flip.from_role], wishes[flip.to_role]
    grown = fleet.pools[flip.to_role].desired
    target = taken.target if taken.target is not None and taken.target.replicas > grown else None
    return {**wishes, flip.from_role: replace(given, target=None), flip.to_role: replace(taken, target=target)}


def _bound(role: Role, fleet: Fleet, wish: Wish, limits: PoolLimits, findings: list[Finding]) -> int:
    pool = fleet.pools[role]
    wanted = wish.target.replicas if wish.target else pool.desired
    least = _least(pool) if wish.sighted else pool.desired
    lawful = max(min(wanted, limits.max_replicas), limits.min_replicas, least)
    if lawful == wanted:
        return wanted
    if lawful < wanted:
        findings.append(_cut(role, Reason.TOO_MANY_REPLICAS, wanted, limits.max_replicas, "max"))
    elif lawful == limits.min_replicas:
        findings.append(_cut(role, Reason.TOO_FEW_REPLICAS, wanted, lawful, "min"))
    else:
        findings.append(_cut(role, Reason.LAST_SERVING, wanted, lawful, "the fewest that keep one serving"))
    return lawful


def _least(pool: Pool) -> int:
    """The fewest replicas that keep one serving, whoever goes first."""
    standing = len(pool.replicas) - len(pool.in_phase(Phase.DRAINING)) - pool.leaving
    return min(pool.desired, standing - (pool.serving - pool.leaving) + 1)


def _cut(role: Role, reason: Reason, wanted: int, limit: int, knob: str) -> Finding:
    text = f"wanted {wanted} replicas, {knob} is {limit}"
    return Finding(Stage.PLAN, reason, text, role, {"wanted": wanted, knob: limit})


def _patient(pool: Pool, wanted: int, now: float, findings: list[Finding]) -> int:
    """No growth while a refusal is young. One told in the future, by another clock, counts as told now."""
    if wanted <= pool.desired:
        return wanted
    waits = {one: BACKOFF_S[one.lack] - max(0.0, now - one.told_s) for one in pool.shortages if one.lack in BACKOFF_S}
    longest = max(waits, key=waits.__getitem__, default=None)
    if longest is None or waits[longest] <= 0:
        return wanted
    text = f"wanted {wanted} replicas, asked again in {waits[longest]:.0f} s: {longest.text}"
    inputs = {"wanted": wanted, "missing": longest.replicas, "wait_s": waits[longest]}
    findings.append(Finding(Stage.PLAN, Reason[longest.lack.name], text, pool.role, inputs))
    return pool.desired


def _grant(
    fleet: Fleet,
    wanted: Mapping[Role, int],
    wishes: Mapping[Role, Wish],
    limits: Mapping[Role, PoolLimits],
    gpu_budget: int | None,
    findings: list[Finding],
) -> dict[Role, int]:
    """Shrinks as wished; growth one replica at a time to the shortest role while the budget lasts. What others were told to add
    is paid for already, and stays so until they know better.
    """
    granted = {role: min(count, fleet.pools[role].promised) for role, count in wanted.items()}
    if gpu_budget is None:
        return dict(wanted)
    gpus = {role: pool.gpus_per_replica for role, pool in fleet.pools.items()}
    free_gpus = gpu_budget - fleet.gpus_held
    while short := [role for role, count in wanted.items() if granted[role] < count]:
        below = [role for role in short if granted[role] < limits[role].min_replicas]
        fitting = [role for role in below or short if gpus[role] <= free_gpus]
        if not fitting:
            findings.extend(_over_budget(role, wanted[role], granted[role], gpu_budget, free_gpus) for role in short)
            break
        role = max(fitting, key=lambda r: wishes[r].demand_replicas / max(1, granted[r]))
        granted[role] += 1
        free_gpus -= gpus[role]
    return granted


def _over_budget(role: Role, wanted: int, given: int, gpu_budget: int, free_gpus: int) -> Finding:
    text = f"wanted {wanted} replicas, {given} granted: the GPU budget of {gpu_budget} leaves {max(0, free_gpus)} free"
    return Finding(Stage.PLAN, Reason.GPU_BUDGET, text, role, {"wanted": wanted, "granted": given, "gpu_budget": gpu_budget})


def _actions(fleet: Fleet, granted: Mapping[Role, int], wishes: Mapping[Role, Wish]) -> Iterable[Action]:
    for role, count in granted.items():
        desired, target = fleet.pools[role].desired, wishes[role].target
        if count != desired:
            damped = target.reason if target is not None and target.replicas == count else None
            yield Action(role, desired, count, damped or (Reason.SCALE_UP if count > desired else Reason.SCALE_DOWN))


def _verdicts(fleet: Fleet, granted: Iterable[Role], actions: tuple[Action, ...], mode: Mode) -> Iterable[Finding]:
    moving = {action.role: action for action in actions}
    for role in granted:
        action, desired = moving.get(role), fleet.pools[role].desired
        if action is None:
            reason = Reason.MODE if mode is Mode.OFF else Reason.HOLD
            yield Finding(Stage.PLAN, reason, f"{role} stays at {desired}", role, {"desired": desired})
            continue
        verb = "scale" if mode is Mode.AUTO else "would scale"
        text = f"{verb} {role} {action.from_replicas} -> {action.to_replicas} ({action.reason})"
        reason = Reason.SCALE_UP if action.to_replicas > action.from_replicas else Reason.SCALE_DOWN
        yield Finding(Stage.PLAN, reason, text, role, {"from": action.from_replicas, "to": action.to_replicas})
        handed = fleet.pools[role].handed
        if handed is not None and mode is Mode.AUTO:
            who = handed.reader or "a HorizontalPodAutoscaler, once there is one,"
            text = f"the count of {role} is published, and {who} writes it"
            yield Finding(Stage.PLAN, Reason.HANDED, text, role)
