"""What does a PDAutoscaler say about its fleet, in the fields of its status?

A pure function of one tick's `Status` and of what the object said before: policy/crd/status.py has the fields. The word
in `reason` is the most telling one of the tick: what stopped it, else what was done, else why nothing was.

What is not known is left out, never zero. A count that the controller acts on is `target` and stands there in mode Auto
alone; in Recommend the same count is `recommended`, so that nothing built on targets can act on it (law 13). Where somebody
else writes the count, `target` is the one that is published for it: a shrink stands there once its replicas are drained.

A condition keeps its `lastTransitionTime` while its status stays, whatever its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from autoscaler.core.action import Flip, Mode, Outcome, Verdict
from autoscaler.core.conditions import Condition
from autoscaler.core.fleet import Flipping, Phase, SloKind
from autoscaler.core.pool_status import Attainment, PoolStatus
from autoscaler.core.reason import Reason
from autoscaler.core.status import Status
from autoscaler.policy.actuation import Actuation

MESSAGE_CHARS = 1024  # the API server takes 32,768; nobody reads them
FLIPS_SHOWN = 16  # the oldest; all are counted in the metrics
SHOWN: Mapping[str, str] = {Mode.AUTO: "target", Mode.RECOMMEND: "recommended"}

# The tick went no further than this.
STOPPED = (
    Reason.INTERNAL_ERROR,
    Reason.INVALID_POLICY,
    Reason.CLASHING_POLICY,
    Reason.STATE_UNREADABLE,
    Reason.FLEET_UNREADABLE,
)
WISHED = (Reason.SCALE_UP, Reason.SCALE_DOWN)  # in mode Recommend: what would be done
# Why nothing was done, or less than was wished: the first that was found is the word.
HELD = (
    Reason.IDLE,
    Reason.SIGNALS_UNREACHABLE,
    Reason.SIGNALS_TIMEOUT,
    Reason.SIGNALS_SERVER_ERROR,
    Reason.SIGNALS_MALFORMED,
    Reason.SIGNALS_AMBIGUOUS,
    Reason.SIGNALS_MISSING,
    Reason.SIGNALS_STALE,
    Reason.SIGNALS_NOT_A_NUMBER,
    Reason.SIGNALS_INCOMPLETE,
    Reason.SHAPE_UNKNOWN,
    Reason.NOT_CREATED,
    Reason.NODES_REFUSED,
    Reason.GPU_BUDGET,
    Reason.TOO_MANY_REPLICAS,
    Reason.TOO_FEW_REPLICAS,
    Reason.LAST_SERVING,
    Reason.SLO_INFEASIBLE,
    Reason.MODE,
    Reason.FLIP_IN_FLIGHT,
    Reason.FIRST_WINDOW,
    Reason.SCALE_DOWN_STABILIZED,
    Reason.SCALE_UP_STABILIZED,
    Reason.COOLDOWN,
    Reason.STEP_LIMITED,
    Reason.KNOWN_PART_ONLY,
    Reason.WITHIN_TOLERANCE,
)


def story(status: Status, stored: Mapping[str, Any], generation: int) -> dict[str, Any]:
    """The status of the object whose spec is at `generation` and whose status was `stored`, without its `state`."""
    before, when = conditions_of(stored), timestamp(status.now)
    told = {
        "observedGeneration": generation,
        "mode": str(status.mode),
        "reason": word(status),
        "slo": _slo(status),
        "lastTick": when,
        "pools": {role.value: _pool(pool, status.mode) for role, pool in status.pools.items()},
        "conditions": [_condition(one, before.get(one.type, {}), generation, when) for one in status.conditions],
    }
    flips = {"flips": [_flip(one) for one in status.flips[:FLIPS_SHOWN]]} if status.flips else {}
    return told | flips | ({"asleep": True} if status.asleep else {})


def word(status: Status) -> str:
    """What decided the tick, in one word."""
    found = {finding.reason for finding in status.plan.findings}
    deeds = sorted(status.outcomes, key=lambda outcome: outcome.verdict is Verdict.APPLIED)  # what went wrong first
    flips = (str(flip.reason) for flip in status.plan.flips)
    short = (str(one.reason) for one in status.conditions if one.type == "Degraded" and one.status)
    return next(
        chain(_among(STOPPED, found), map(deed, deeds), flips, _among(WISHED, found), short, _among(HELD, found)),
        str(Reason.HOLD),
    )


def deed(outcome: Outcome) -> str:
    """What became of an action, in one word."""
    if outcome.verdict is not Verdict.APPLIED:
        return f"Write{outcome.verdict}"
    if isinstance(outcome.action, Flip):
        return "Flipped"
    return "ScaledUp" if outcome.action.to_replicas > outcome.action.from_replicas else "ScaledDown"


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as Kubernetes writes a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions_of(stored: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions of a stored status by type."""
    return {str(one["type"]): one for one in stored.get("conditions") or ()}


def _among(order: Iterable[Reason], found: set[Reason]) -> Iterator[str]:
    return (str(reason) for reason in order if reason in found)


def _slo(status: Status) -> str:
    """As in "TTFT 97 %, TPOT 99 %". Of TTFT what users saw, where a gateway tells, else what the engines did. Rounded down:
    99.96 % are not all.
    """
    seen: dict[str, Attainment] = {pool.slo.kind: pool.slo for pool in status.pools.values()}
    if status.user_ttft is not None and status.user_ttft.share is not None:
        seen[status.user_ttft.kind] = status.user_ttft
    shares = {kind: seen[kind].share if kind in seen else None for kind in SloKind}
    if all(share is None for share in shares.values()):
        return "-"
    told = ("-" if share is None else f"{math.floor(share * 100)} %" for share in shares.values())
    return ", ".join(f"{kind.upper()} {share}" for kind, share in zip(shares, told, strict=True))


def _pool(pool: PoolStatus, mode: str) -> dict[str, Any]:
    serving = pool.phases.get(Phase.SERVING, 0)
    told: dict[str, Any] = {"desired": pool.desired, "serving": serving, "ready": f"{serving}/{pool.desired}"}
    if mode in SHOWN:
        told[SHOWN[mode]] = pool.target
    if pool.published is not None:
        told["actuation"] = str(Actuation.HPA)
        told |= {"target": pool.published} if mode == Mode.AUTO else {}
    if pool.shortages:
        told["missing"] = "; ".join(f"{one.replicas} {one.lack}: {one.text}" for one in pool.shortages)[:MESSAGE_CHARS]
    if pool.startup_s is not None:
        told["startupSeconds"] = round(pool.startup_s, 1)
    if pool.min_in_force > pool.min_replicas:
        told["floor"] = pool.min_in_force
    return told | _numbers(pool)


def _numbers(pool: PoolStatus) -> dict[str, Any]:
    """What the count goes by, for people: the need and what bound it, the forecast, the engines' speed."""
    told: dict[str, Any] = _amounts(needs=pool.demand, speed=pool.speed_applied) | _room(pool)
    if pool.bound is not None:
        told["boundBy"] = str(pool.bound)
    if pool.forecast_model is not None:
        ahead = _amounts(tokensPerSecond=pool.forecast_mean, upperTokensPerSecond=pool.forecast_upper)
        ahead |= _amounts(coverage=pool.forecast_coverage, horizonSeconds=pool.forecast_horizon_s)
        told["forecast"] = {"model": str(pool.forecast_model), **ahead}
    return told


def _amounts(**values: float | None) -> dict[str, float]:
    """Those that are known, to three figures: more would change at every look and tell nobody anything. The schema takes no
    negative number, and one that it refuses would cost the whole status.
    """
    return {name: float(f"{max(0.0, value):.3g}") for name, value in values.items() if value is not None and math.isfinite(value)}


def _room(pool: PoolStatus) -> dict[str, Any]:
    """What else the pool could take. Rounded down and its need up: who decides by them must not find more than there is."""
    told: dict[str, Any] = {}
    if pool.headroom_tokens_per_s is not None and math.isfinite(pool.headroom_tokens_per_s):
        told["headroomTokensPerSecond"] = math.floor(pool.headroom_tokens_per_s)
    if pool.pressure is not None and math.isfinite(pool.pressure):
        told["pressure"] = max(0.0, math.ceil(pool.pressure * 100 - 1e-9) / 100)
    if pool.slo_headroom is not None and math.isfinite(pool.slo_headroom):
        told["sloHeadroom"] = math.floor(pool.slo_headroom * 100 + 1e-9) / 100
    return told


def _flip(flip: Flipping) -> dict[str, Any]:
    return {
        "from": str(flip.from_role),
        "to": str(flip.to_role),
        "fromReplicas": flip.from_replicas,
        "toReplicas": flip.to_replicas,
        "phase": str(flip.phase),
        "since": timestamp(flip.started_s),
    }


def _condition(condition: Condition, before: Mapping[str, Any], generation: int, when: str) -> dict[str, Any]:
    now_is = str(condition.status)
    return {
        "type": condition.type,
        "status": now_is,
        "reason": str(condition.reason),
        "message": condition.message[:MESSAGE_CHARS],
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == now_is else when,
    }
