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
from autoscaler.core.forecast import Forecast, Series, forecast
from autoscaler.core.hits import Share, quarantined, share_of
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Gap, Known, Observation, Unknown
from autoscaler.core.policy import Policy
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


@dataclass(frozen=True, slots=True)
class TrafficView:
    """What concerns every role: requests per second as expected, the share of prompt tokens that a cache holds as sized by and
    as expected, and whether what is measured of that share is doubted just now.
    """

    requests: Forecast | None = None
    cached_share: Share | None = None
    cached_ahead: Forecast | None = None
    quarantined: bool = False


def traffic_view(
    observation: Observation, shape: Shape | None, requests: Series | None, hits: Series | None, policy: Policy
) -> TrafficView:
    """That view, of the shape that was sized by and the series of requests and of the cached share; None: not seen yet."""
    now = observation.now
    ahead, cached_ahead = (forecast(one, now, policy.forecast) if one else None for one in (requests, hits))
    doubted = quarantined(observation.fleet, now, policy.demand.strain.settle_s)
    return TrafficView(ahead, share_of(shape) if shape else None, cached_ahead, doubted)


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


def explain_traffic(seen: TrafficView) -> Iterator[Finding]:
    """What is expected of the whole traffic, and which cached share was sized by. Silent on what is not known."""
    ahead = seen.requests
    if ahead is not None:
        yield _forecast(None, ahead, "requests/s")
    if seen.cached_share is not None:
        yield _cached(seen, seen.cached_share)


def explain_floors(policy: Policy, now: float) -> Iterator[Finding]:
    """Where the calendar raises a pool's min at this hour."""
    for role, limits in policy.bounds(now).items():
        least, written = limits.min_replicas, policy.pools[role].min_replicas
        if least > written:
            text = f"the calendar asks for at least {least} replicas at this hour, min is {written}"
            yield Finding(Stage.PLAN, Reason.CALENDAR_FLOOR, text, role, {"floor": least, "min": written})


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


def _forecast(role: Role | None, ahead: Forecast, unit: str = "tokens/s") -> Finding:
    text = f"{_figures(ahead.mean)}, at most {_figures(ahead.upper)} {unit} in {ahead.horizon_s:.0f} s says {ahead.model}"
    earned = "no error known yet" if ahead.error is None else f"its mean error is {_figures(ahead.error)}"
    kept = "" if ahead.coverage is None else f", its upper bound held {ahead.coverage:.0%} of the time"
    return Finding(Stage.FORECAST, ahead.reason, f"{text}; {earned}{kept}", role, _of_forecast(ahead))


def _figures(value: float) -> str:
    """Whole above 100, three figures below: a load in tokens, and one in requests."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cached(seen: TrafficView, share: Share) -> Finding:
    """A share is only taken as expected where one is: doubted with nothing else to go by, it counts as measured."""
    inputs: dict[str, float | str] = {"cached_share": share}
    reason, whence = Reason.CACHE_MEASURED, "as last measured"
    if seen.cached_ahead is not None:
        inputs |= {"expected": seen.cached_ahead.mean, "model": seen.cached_ahead.model}
        if seen.quarantined:
            reason, whence = Reason.CACHE_QUARANTINED, "as expected before: a replica has come or goes, and new caches are empty"
    return Finding(Stage.CAPACITY, reason, f"sized with {share:.1%} of the prompt tokens cached, {whence}", None, inputs)


def _of_forecast(ahead: Forecast) -> dict[str, float | str]:
    told: dict[str, float | str] = {"mean": ahead.mean, "upper": ahead.upper, "horizon_s": ahead.horizon_s, "model": ahead.model}
    earned = {"error": ahead.error, "coverage": ahead.coverage}
    return told | {name: value for name, value in earned.items() if value is not None}


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
        inputs |= {"output_tokens": shape.output_tokens, "resident_tokens": shape.resident_tokens}
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
    inputs: dict[str, float | str] = {"replicas": demand.replicas, **demand.needs}
    for name, need, when in _at_other_times(demand):
        if need is not None:
            inputs[name] = need
            text += f"; {need:.2f} {when}" if round(need, 2) != round(demand.replicas, 2) else ""
    if demand.panic:
        text += "; several times what serves, so no patience"
    return Finding(Stage.DEMAND, Reason.DEMAND_BOUND, text, role, inputs)


def _at_other_times(demand: Demand) -> Iterator[tuple[str, float | None, str]]:
    yield "lasting", demand.lasting, "lasting"
    yield "soon", demand.soon, "soon"
    yield "back", demand.back, "until a flip could be undone"


def _target(role: Role, target: Target) -> Finding:
    text = f"target {target.replicas}; undamped it would be {target.recommended}"
    inputs = {"target": target.replicas, "recommended": target.recommended}
    return Finding(Stage.TARGET, target.reason, text, role, inputs)
