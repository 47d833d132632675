"""What is a PDAutoscaler document as a whole, and which policy does the core make of it?

One document per model; the same YAML is a file for `--policy` and, on a cluster, an object. Here its parts are held
against each other: what cannot work is refused with the numbers that clash. The order of the fields in `Spec` is the
order of those checks, since a check sees the fields before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from autoscaler.core.action import Mode
from autoscaler.core.calibration import CalibrationLimits, Trust
from autoscaler.core.capacity import Slo
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.foreseen import ForecastLimits
from autoscaler.core.hysteresis import Damping
from autoscaler.core.observation import Freshness
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.strain import StrainLimits
from autoscaler.policy.actuation import NEVER_WOKEN, Actuation
from autoscaler.policy.behaviour import Behaviour
from autoscaler.policy.drivers import Ground, obstacles
from autoscaler.policy.fields import ALLOWED, Objection, Section, at_least, at_most, complete, default_of, refuse, shown
from autoscaler.policy.profiles import ProfileSpec, known_engine, known_gateway, known_profile
from autoscaler.policy.rejection import ClassSlo, Rejection
from autoscaler.policy.routing import Routing
from autoscaler.policy.sections import (
    ForecastSpec,
    FreshnessSpec,
    Metadata,
    Metrics,
    Pool,
    RequestShape,
    Sizing,
    SloSpec,
    Word,
)

MAX_GPUS = 1_000_000
SCRAPES_PER_AGE = 2  # a sample may be one scrape old while its successor is late
TICKS_PER_GAP = 2  # a tick may come late without counting as blindness
# Gateways that know a model only while it has a worker: who asks for it afterwards is answered "no such model" and not counted.
FORGETFUL = ("dynamo",)
FORGETS = "forgets a model with its last worker, so nobody could wake the fleet"

# The least that anything takes on a profile, whatever the request: (what, seconds).
FLOORS: Mapping[SloKind, tuple[str, Callable[[ReplicaProfile], float]]] = {
    SloKind.TTFT: ("a prefill", lambda profile: profile.prefill_s[0]),
    SloKind.TPOT: ("a decode step", lambda profile: profile.decode_s[0]),
}


def _mode(written: object) -> object:
    """YAML 1.1 reads a bare Off as false; it is Off all the same."""
    return Mode.OFF if written is False else written


Slos = Annotated[dict[Annotated[SloKind, Field(strict=False)], SloSpec], AfterValidator(partial(complete, SloKind))]
Pools = Annotated[dict[Annotated[Role, Field(strict=False)], Pool], AfterValidator(partial(complete, Role))]


class Spec(Section):
    """What the operator wants."""

    mode: Annotated[Mode, Field(strict=False), BeforeValidator(_mode)] = Mode.RECOMMEND
    """How far the controller may go; only Auto acts."""
    model: Word
    """The served model's name, as the metrics have it."""
    engine: Annotated[str, AfterValidator(known_engine)]
    """Name of the engine's metric profile."""
    engine_port: int = Field(8000, ge=1, le=65_535)
    """Where an engine answers HTTP: how many requests it holds, and which role it has."""
    gateway: Annotated[str, AfterValidator(known_gateway)] | None = None
    """Name of the gateway's metric profile, if there is a gateway."""
    metrics: Metrics = Metrics()
    profile: Annotated[
        ProfileSpec,
        BeforeValidator(known_profile),
        Field(json_schema_extra={ALLOWED: "the name of a built-in replica profile, or its fields"}),
    ]
    """How fast one replica is: the name of a built-in replica profile, or a profile."""
    speed: Annotated[Trust, Field(strict=False)] = default_of(CalibrationLimits, "trust")
    """What that is worth: everything ("profile"), a start until the engines' own times are sure, or only a shape ("nothing")."""
    pools: Pools
    """What is scaled, by role: one pool for each."""
    routing: Routing | None = None
    slo: Slos
    """What users are promised, by latency: one promise for each."""
    gpu_budget: int | None = Field(None, ge=1, le=MAX_GPUS)
    """GPUs that all pools together may hold, draining replicas included."""
    request_shape: RequestShape | None = None
    freshness: FreshnessSpec = FreshnessSpec()
    forecast: ForecastSpec = ForecastSpec()
    sizing: Sizing = Sizing()
    behaviour: Behaviour = Behaviour()
    rejection: Rejection = Rejection()

    @field_validator("pools")
    @classmethod
    def _one_role_per_target(cls, pools: dict[Role, Pool]) -> dict[Role, Pool]:
        owners: dict[tuple[str, ...], Role] = {}
        for role, pool in pools.items():
            owners.setdefault(pool.target.identity, role)
        refuse(
            Objection((role, "target", "name"), f"{pool.target.called()} is the target of {owner} already")
            for role, pool in pools.items()
            if (owner := owners[pool.target.identity]) is not role
        )
        return pools

    @field_validator("slo")
    @classmethod
    def _within_reach(cls, slos: dict[SloKind, SloSpec], info: ValidationInfo) -> dict[SloKind, SloSpec]:
        if "profile" in info.data:
            refuse(_below_floor(slos, info.data["profile"].core()))
        return slos

    @field_validator("gpu_budget")
    @classmethod
    def _pays_for_the_smallest_fleet(cls, budget: int | None, info: ValidationInfo) -> int | None:
        pools: Mapping[Role, Pool] = info.data.get("pools", {})
        needed = sum(pool.most_on_purpose * pool.gpus_per_replica for pool in pools.values())
        terms = " + ".join(f"{role} {pool.most_on_purpose} x {pool.gpus_per_replica}" for role, pool in pools.items())
        if budget is not None:
            at_least(budget, needed, f"the {needed} GPUs of the smallest fleet: {terms}", MAX_GPUS)
        return budget

    @field_validator("freshness")
    @classmethod
    def _outlives_a_scrape(cls, freshness: FreshnessSpec, info: ValidationInfo) -> FreshnessSpec:
        if "metrics" in info.data:
            scrape_s = info.data["metrics"].scrape_interval_seconds
            reason = f"{SCRAPES_PER_AGE} x spec.metrics.scrapeIntervalSeconds {scrape_s:g}"
            at_least(freshness.max_age_seconds, SCRAPES_PER_AGE * scrape_s, reason, 600, "maxAgeSeconds")
        return freshness

    @field_validator("behaviour")
    @classmethod
    def _ticks_are_no_gaps(cls, behaviour: Behaviour, info: ValidationInfo) -> Behaviour:
        """With a gap at every tick nothing would ever shrink, and no forecast would ever be scored."""
        gaps = {"spec.behaviour.gapSeconds": behaviour.over(Damping()).gap_s}
        for role, pool in info.data.get("pools", {}).items():
            gaps[f"spec.pools.{role}.behaviour.gapSeconds"] = pool.behaviour.over(behaviour.over(Damping())).gap_s
        if "forecast" in info.data:
            gaps["spec.forecast.gapSeconds"] = info.data["forecast"].gap_seconds
        shortest = min(gaps, key=gaps.__getitem__)
        reason = f"1/{TICKS_PER_GAP} of {shortest} {gaps[shortest]:g}"
        at_most(behaviour.tick_seconds, gaps[shortest] / TICKS_PER_GAP, reason, 1, "tickSeconds")
        return behaviour

    @field_validator("behaviour")
    @classmethod
    def _somebody_wakes_it(cls, behaviour: Behaviour, info: ValidationInfo) -> Behaviour:
        """With no engine left only a gateway sees who comes, if it still knows what they ask for."""
        asleep_s, gateway = behaviour.zero_after_seconds, info.data.get("gateway")
        why = "needs a spec.gateway: without engines nothing else sees arrivals"
        if gateway in FORGETFUL:
            why = f"is not possible: spec.gateway {gateway} {FORGETS}"
        if asleep_s is not None and (gateway is None or gateway in FORGETFUL):
            refuse([Objection(("zeroAfterSeconds",), f"{shown(asleep_s)} {why} (allowed: null)")])
        return behaviour

    @field_validator("behaviour")
    @classmethod
    def _stays_awake_for_others(cls, behaviour: Behaviour, info: ValidationInfo) -> Behaviour:
        asleep_s, pools = behaviour.zero_after_seconds, info.data.get("pools", {})
        if asleep_s is not None and any(pool.actuation is Actuation.HPA for pool in pools.values()):
            refuse([Objection(("zeroAfterSeconds",), f"{shown(asleep_s)} {NEVER_WOKEN} (allowed: null)")])
        return behaviour

    @field_validator("behaviour")
    @classmethod
    def _drains_longer_than_it_settles(cls, behaviour: Behaviour, info: ValidationInfo) -> Behaviour:
        """Until requests under way have arrived no replica counts as idle: with less time every drain would fail."""
        routing: Routing | None = info.data.get("routing")
        if routing is not None:
            reason = f"spec.routing.settleSeconds {shown(routing.settle_seconds)}"
            at_least(behaviour.drain.deadline_seconds, routing.settle_seconds, reason, 86_400, "drain", "deadlineSeconds")
        return behaviour

    @field_validator("behaviour")
    @classmethod
    def _has_what_its_driver_needs(cls, behaviour: Behaviour, info: ValidationInfo) -> Behaviour:
        if info.data.keys() >= {"engine", "routing", "pools"}:
            ground = Ground(info.data["engine"], info.data["routing"], info.data["pools"])
            refuse(Objection(("flip", "driver"), text) for text in obstacles(behaviour.flip.driver, ground))
        return behaviour

    @field_validator("rejection")
    @classmethod
    def _promises_within_reach(cls, rejection: Rejection, info: ValidationInfo) -> Rejection:
        if "profile" in info.data:
            profile = info.data["profile"].core()
            for at, one in enumerate(rejection.classes):
                refuse(Objection(("classes", at, "slo", *low.path), low.text) for low in _below_floor(one.slo or {}, profile))
        return rejection

    @property
    def ground(self) -> Ground:
        """What decides which drivers can flip here."""
        return Ground(self.engine, self.routing, self.pools)

    @property
    def strain(self) -> StrainLimits:
        """A latency speaks of replicas that have served for all of its window, and been scraped since."""
        settle_s = self.metrics.window_seconds + SCRAPES_PER_AGE * self.metrics.scrape_interval_seconds
        return StrainLimits(settle_s=settle_s, min_samples=self.freshness.min_samples)

    def damping(self, role: Role) -> Damping:
        """One role's brakes: the core's, the policy's over them, the pool's over those."""
        return self.pools[role].behaviour.over(self.behaviour.over(Damping()))


class Document(Section):
    """A PDAutoscaler document."""

    api_version: Literal["pdautoscaler.io/v1alpha1"]
    kind: Literal["PDAutoscaler"]
    metadata: Metadata
    spec: Spec

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def core(self) -> Policy:
        """What the core decides by."""
        spec = self.spec
        return Policy(
            mode=spec.mode,
            slos={kind: Slo(kind, slo.seconds, round(slo.percentile / 100, 9)) for kind, slo in spec.slo.items()},
            pools={role: PoolLimits(pool.min, pool.max) for role, pool in spec.pools.items()},
            profile=spec.profile.core(),
            gpu_budget=spec.gpu_budget,
            shape=spec.request_shape.core() if spec.request_shape else None,
            freshness=Freshness(**spec.freshness.for_core()),
            forecast=ForecastLimits(**spec.forecast.for_core()),
            demand=DemandLimits(**spec.sizing.for_core(), strain=spec.strain),
            calibration=CalibrationLimits(spec.speed, spec.metrics.window_seconds),
            damping={role: spec.damping(role) for role in spec.pools},
            floors={
                role: tuple(floor for one in pool.floors for floor in one.core())
                for role, pool in spec.pools.items()
                if pool.floors
            },
            flip=spec.behaviour.flip.core(spec.behaviour.over(Damping()).down.stabilization_s),
            zero_after_s=spec.behaviour.zero_after_seconds,
        )


def _below_floor(slos: Mapping[SloKind, SloSpec] | Mapping[SloKind, ClassSlo], profile: ReplicaProfile) -> Iterator[Objection]:
    for kind, slo in slos.items():
        what, floor = FLOORS[kind]
        least_s = floor(profile)
        if slo.seconds < least_s:
            text = f"{shown(slo.seconds)} is below {shown(least_s)}, the least that {what} takes on {profile.name}"
            yield Objection((kind, "seconds"), f"{text} (allowed: {shown(least_s)}..3600)")
