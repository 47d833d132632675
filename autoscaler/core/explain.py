"""How does each stage's value read as a sentence with its inputs?

The stages return values; this room turns them into `Finding`s, one per stage and role, so that every number that is
shown anywhere has its stage, its reason and its inputs (law 11), and no stage has to format text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoscaler.core.capacity import Capacity, Shape
from autoscaler.core.demand import Demand, Load
from autoscaler.core.fleet import Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Known, Unknown
from autoscaler.core.reason import Finding, Reason, Stage


@dataclass(frozen=True, slots=True)
class RoleView:
    """One role on its way through the stages: what each of them said. None: the stage was not reached."""

    load: Load | Unknown
    forecast: Forecast | None = None
    capacity: Capacity | None = None
    demand: Demand | None = None
    target: Target | None = None


def explain(role: Role, view: RoleView, shape: Shape | None) -> Iterator[Finding]:
    """The findings of one role, in the order of the stages."""
    yield _observed(role, view.load)
    if view.forecast is not None:
        yield _forecast(role, view.forecast)
    if view.capacity is not None:
        yield _capacity(role, view.capacity, shape)
    if view.demand is not None:
        yield _demand(role, view.demand)
    if view.target is not None:
        yield _target(role, view.target)


def reason_of(unknown: Unknown) -> Reason:
    """The reason that names a gap."""
    return Reason[f"SIGNALS_{unknown.gap.name}"]


def _observed(role: Role, load: Load | Unknown) -> Finding:
    if isinstance(load, Unknown):
        return Finding(Stage.OBSERVE, reason_of(load), f"not known: {load.detail or load.gap}", role)
    offered = load.offered_tokens_per_s
    inputs = {"waiting": load.waiting, "running": load.running}
    tokens_per_s = offered.value if isinstance(offered, Known) else 0.0
    if isinstance(offered, Known):
        inputs["offered_tokens_per_s"] = tokens_per_s
    if load.partial is not None:
        return Finding(Stage.OBSERVE, reason_of(load.partial), f"partly known: {load.partial.detail}", role, inputs)
    text = f"{tokens_per_s:.0f} tokens/s offered, {load.waiting:.0f} waiting, {load.running:.0f} running"
    return Finding(Stage.OBSERVE, Reason.SIGNALS_OK, text, role, inputs)


def _forecast(role: Role, ahead: Forecast) -> Finding:
    earned = "no error known yet" if ahead.error is None else f"its mean error is {ahead.error:.0f}"
    text = f"{ahead.mean:.0f}, at most {ahead.upper:.0f} tokens/s in {ahead.horizon_s:.0f} s says {ahead.model}; {earned}"
    inputs: dict[str, float | str] = {
        "mean": ahead.mean,
        "upper": ahead.upper,
        "horizon_s": ahead.horizon_s,
        "model": ahead.model,
    }
    return Finding(Stage.FORECAST, ahead.reason, text, role, inputs)


def _capacity(role: Role, replica: Capacity, shape: Shape | None) -> Finding:
    inputs: dict[str, float | str] = {"tokens_per_s": replica.tokens_per_s, "utilisation": replica.utilisation}
    if shape is not None:
        inputs |= {"prompt_tokens": shape.prompt_tokens, "uncached_tokens": shape.uncached_tokens}
        inputs["output_tokens"] = shape.output_tokens
    text = f"one replica carries {replica.tokens_per_s:.0f} tokens/s, bound by {replica.bound}"
    if not replica.feasible:
        text = f"no number of replicas meets the SLO for these requests; sized at {replica.utilisation:.0%} use instead"
        return Finding(Stage.CAPACITY, Reason.SLO_INFEASIBLE, text, role, inputs)
    return Finding(Stage.CAPACITY, Reason.CAPACITY_WITHIN_SLO, text, role, inputs)


def _demand(role: Role, demand: Demand) -> Finding:
    others = ", ".join(f"{name} {need:.2f}" for name, need in demand.needs.items())
    text = f"{demand.replicas:.2f} replicas, bound by {demand.bound} (before headroom: {others})"
    return Finding(Stage.DEMAND, Reason.DEMAND_BOUND, text, role, {"replicas": demand.replicas, **demand.needs})


def _target(role: Role, target: Target) -> Finding:
    text = f"target {target.replicas}; undamped it would be {target.recommended}"
    inputs = {"target": target.replicas, "recommended": target.recommended}
    return Finding(Stage.TARGET, target.reason, text, role, inputs)
