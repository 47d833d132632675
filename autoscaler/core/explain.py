"""How does each stage's value read as a sentence with its inputs?

The stages return values; this room turns them into `Finding`s, one per stage and role, so that every number that is
shown anywhere has its stage, its reason and its inputs (law 11), and no stage has to format text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoscaler.core.attribution import Attribution
from autoscaler.core.calibration import Calibration, Trust, story
from autoscaler.core.capacity import Capacity, Shape
from autoscaler.core.demand import Demand, Load
from autoscaler.core.fleet import Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Gap, Known, Unknown
from autoscaler.core.reason import Finding, Reason, Stage


@dataclass(frozen=True, slots=True)
class RoleView:
    """One role on its way through the stages: what each of them said. None: the stage was not reached."""

    load: Load | Unknown
    forecast: Forecast | None = None
    capacity: Capacity | None = None
    demand: Demand | None = None
    target: Target | None = None
    speed: Calibration | None = None


def explain(role: Role, view: RoleView, shape: Shape | None, trust: Trust = Trust.MEASURED) -> Iterator[Finding]:
    """The findings of one role, in the order of the stages."""
    yield _observed(role, view.load)
    if view.forecast is not None:
        yield _forecast(role, view.forecast)
    if view.speed is not None:
        yield _speed(role, view.speed, trust)
    if view.capacity is not None:
        yield _capacity(role, view.capacity, shape)
    if view.demand is not None:
        yield _demand(role, view.demand)
    if view.target is not None:
        yield _target(role, view.target)


def explain_late(whose: Attribution) -> Iterator[Finding]:
    """Whose queue a broken TTFT promise is laid to, and what waits for no role at all. Silent while there is neither."""
    if whose.late is not None and not whose.late:
        text = "the TTFT promise is broken and no role has a queue of its own: no pool is raised for it"
        yield Finding(Stage.OBSERVE, Reason.LATE_UNEXPLAINED, text)
    if whose.link >= 1:
        text = f"{whose.link:.0f} requests wait for the transfer between the roles, which more replicas of neither speed up"
        yield Finding(Stage.OBSERVE, Reason.LINK_BOUND, text, None, {"waiting": whose.link})


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
    if load.lent >= 1:
        inputs["lent"] = load.lent
        text += f"; {load.lent:.0f} more wait here for another role or the transfer"
    rejected = load.rejected_rps
    if isinstance(rejected, Known) and rejected.value > 0:
        inputs["rejected_rps"] = rejected.value
        text += f"; {rejected.value:.3g} requests/s of it were turned away"
    elif isinstance(rejected, Unknown) and rejected.gap is not Gap.MISSING:
        text += f"; what was turned away is not known and not counted: {rejected.detail or rejected.gap}"
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


def _speed(role: Role, speed: Calibration, trust: Trust) -> Finding:
    inputs: dict[str, float | str] = {"applied": 1.0 if trust is Trust.PROFILE else speed.applied, "confidence": speed.confidence}
    if speed.measured is not None:
        inputs["measured"] = speed.measured
    reason = Reason.SPEED_MEASURED
    if speed.trusted is None or trust is Trust.PROFILE:
        reason = Reason.UNCALIBRATED if trust is Trust.NOTHING else Reason.SPEED_BY_PROFILE
    return Finding(Stage.CAPACITY, reason, story(speed, trust), role, inputs)


def _capacity(role: Role, replica: Capacity, shape: Shape | None) -> Finding:
    inputs: dict[str, float | str] = {"tokens_per_s": replica.tokens_per_s, "utilisation": replica.utilisation}
    if shape is not None:
        inputs |= {"prompt_tokens": shape.prompt_tokens, "uncached_tokens": shape.uncached_tokens}
        inputs["output_tokens"] = shape.output_tokens
    text = f"one replica carries {replica.tokens_per_s:.0f} tokens/s, bound by {replica.bound}"
    if not replica.feasible:
        text = (
            f"no number of replicas meets the SLO for these requests, at best for {replica.best_percentile:.1%} of them; "
            f"one replica is sized at {replica.utilisation:.0%} use instead"
        )
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
