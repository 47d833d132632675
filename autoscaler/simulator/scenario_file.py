"""What may stand in a file of scenarios?

A scenario is a load, the fleet that meets it, and the promises it is judged by. Everything is named with its unit; what is
not known, out of range or at odds with another field is refused with the field's path, as in a policy.

The load (scenario_load.py) says when requests come and what they are; `rateScale` multiplies their number. `conditions`
(scenario_conditions.py) say how hard life is in the fleet, scenario_fleet.py has its pools, flips and rejection. scenarios.yaml
begins with all of it, for people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from functools import partial
from random import Random
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.profile import ReplicaProfile
from autoscaler.policy.fields import Objection, Section, at_least, at_most, refuse
from autoscaler.simulator.flips import DriverKind
from autoscaler.simulator.scenario_conditions import ConditionsSpec
from autoscaler.simulator.scenario_fleet import FlipsSpec, PoolLimits, RejectionSpec
from autoscaler.simulator.scenario_load import LoadSpec, RequestSpec
from autoscaler.simulator.shapes import shaped, topology_walk, walk
from autoscaler.simulator.workload import Request

Traffic = Callable[[Random], Iterator[Request]]


class Mark(StrEnum):
    """What a forecast can do about a load: nothing is to be foreseen, something is, or nothing can be."""

    STATIONARY = "stationary"
    FORECASTABLE = "forecastable"
    UNFORECASTABLE = "unforecastable"


class SloSpec(Section):
    """The promises: `percentile` percent of requests see at most these."""

    ttft_seconds: float = Field(ge=1e-3, le=600.0)
    tpot_seconds: float = Field(ge=1e-4, le=60.0)
    percentile: float = Field(ge=50.0, le=99.9)

    def core(self) -> Mapping[SloKind, Slo]:
        """The same by kind."""
        seconds = {SloKind.TTFT: self.ttft_seconds, SloKind.TPOT: self.tpot_seconds}
        return {kind: Slo(kind, threshold_s, self.percentile / 100) for kind, threshold_s in seconds.items()}


class ScenarioSpec(Section):
    """One scenario; it is run once for each start-up time."""

    mark: Annotated[Mark, Field(strict=False)]
    kept: bool = False
    """Kept for the final report: nobody tunes on it."""
    load: LoadSpec
    requests: RequestSpec | None = None
    """Of a shape; traces and the walk have their own."""
    rate_scale: float = Field(1.0, gt=0.0, le=1_000.0)
    duration_seconds: float = Field(ge=60.0, le=1.3e6)
    slo: SloSpec
    budget_gpus: int = Field(ge=1, le=100_000)
    start_up_seconds: tuple[float, ...] = Field(strict=False)
    pools: Mapping[Annotated[Role, Field(strict=False)], PoolLimits]
    flips: FlipsSpec | None = None
    conditions: ConditionsSpec = ConditionsSpec()
    rejection: RejectionSpec | None = None

    @field_validator("conditions")
    @classmethod
    def _carried(cls, conditions: ConditionsSpec, info: ValidationInfo) -> ConditionsSpec:
        pools: Mapping[Role, PoolLimits] = info.data.get("pools", {})
        if pools:
            gpus, start = ({role: getattr(pool, name) for role, pool in pools.items()} for name in ("gpus", "start"))
            conditions.refuse_unfit(gpus, start)
        return conditions

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._refuse_odd_start_ups()
        missing = [role.value for role in Role if role not in self.pools]
        if missing:
            refuse([Objection(("pools",), f"{', '.join(missing)} is missing")])
        if self.rejection is not None and self.conditions.sidecars is not None:
            refuse([Objection(("rejection",), "conditions.sidecars turn requests away already (allowed: one of them)")])
        if (self.load.shape is None) != (self.requests is None):
            lacking = "missing: a shape says when requests come, not what they are"
            text = lacking if self.requests is None else "a trace and the walk have requests of their own"
            refuse([Objection(("requests",), text)])
        least = sum(pool.start * pool.gpus for pool in self.pools.values())
        at_least(self.budget_gpus, least, f"the {least} GPUs that the pools start with", 100_000, "budgetGpus")
        self._refuse_small_memory()
        self._refuse_unequal_gpus()
        return self

    def _refuse_odd_start_ups(self) -> None:
        if not 1 <= len(self.start_up_seconds) <= 5:
            refuse([Objection(("startUpSeconds",), f"{len(self.start_up_seconds)} times are given (allowed: 1..5)")])
        for start_up_s in self.start_up_seconds:
            at_least(start_up_s, 0, "0", 3_600, "startUpSeconds")
            at_most(start_up_s, 3_600, "3600", 0, "startUpSeconds")

    def _refuse_small_memory(self) -> None:
        """Of made-up requests; what a trace holds is known when it is read (ground.py)."""
        kind = self.requests
        if kind is None:
            return
        prompt, answer = kind.longest_prompt_tokens, kind.longest_output_tokens
        longest = {Sizing.QUEUE: prompt, Sizing.BATCH: prompt + answer}
        held = {role: (longest[ROLE_FACTS[role].sizing], pool.replica.kv_tokens) for role, pool in self.pools.items()}
        refuse(
            Objection(("requests",), f"the longest has {tokens} tokens and one {role} replica holds {room} (kvTokens)")
            for role, (tokens, room) in held.items()
            if tokens > room
        )

    def _refuse_unequal_gpus(self) -> None:
        gpus = {pool.gpus for pool in self.pools.values()}
        if self.flips is not None and self.flips.driver is not DriverKind.PAIRED_RESIZE and len(gpus) > 1:
            text = f"{self.flips.driver} needs replicas of equal GPUs, and they have {' and '.join(map(str, sorted(gpus)))}"
            refuse([Objection(("flips", "driver"), f"{text} (allowed: {DriverKind.PAIRED_RESIZE})")])

    @property
    def hardships(self) -> Mapping[str, object]:
        """What is written of conditions and rejection, by the names it is written with; empty where life is easy."""
        written = self.conditions.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if self.rejection is not None:
            written["rejection"] = self.rejection.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return written

    def profile(self) -> ReplicaProfile:
        """What the fleet is sized by, in one: prefill times of the one role's profile, all else of the other's."""
        by_law = {ROLE_FACTS[role].sizing: pool.replica for role, pool in self.pools.items()}
        prefill, decode = by_law[Sizing.QUEUE], by_law[Sizing.BATCH]
        name = prefill.name if prefill.name == decode.name else f"{prefill.name}+{decode.name}"
        return replace(decode, name=name, prefill_s=prefill.prefill_s)

    def profiles(self) -> Mapping[Role, ReplicaProfile]:
        """Each role's own, where they differ: prefill replicas of more GPUs have more room for KV that nobody fetches yet."""
        own = {role: pool.replica for role, pool in self.pools.items()}
        return own if len(set(own.values())) > 1 else {}

    def made_up(self) -> Traffic | None:
        """The requests of a shape or of the walk, for a random number generator; None for a trace."""
        shape, duration_s, scale = self.load.shape, self.duration_seconds, self.rate_scale
        if self.load.walk is not None:
            return partial(walk, phases=topology_walk(self.load.walk.phase_seconds), duration_s=duration_s, scale=scale)
        if shape is None or self.requests is None:
            return None
        return partial(shaped, shape=shape, kind=self.requests.core(), duration_s=duration_s, scale=scale)


class ScenarioFile(Section):
    """A file of scenarios by name."""

    scenarios: Mapping[str, ScenarioSpec]

    @model_validator(mode="after")
    def _named_plainly(self) -> Self:
        odd = [name for name in self.scenarios if not re.fullmatch(r"[a-z0-9-]{1,60}", name)]
        refuse(Objection(("scenarios", name), "not a name (allowed: 1 to 60 of a-z, 0-9 and -)") for name in odd)
        return self
