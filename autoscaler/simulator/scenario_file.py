"""What may stand in a file of scenarios?

A scenario is a load, the fleet that meets it, and the promises it is judged by. Everything is named with its unit; what is
not known, out of range or at odds with another field is refused with the field's path, as in a policy.

The load (scenario_load.py) says when requests come and what they are; `rateScale` multiplies their number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from random import Random
from typing import Annotated, Self

from pydantic import Field, model_validator

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.profile import ReplicaProfile
from autoscaler.policy.fields import Objection, Section, at_least, at_most, refuse
from autoscaler.policy.profiles import replica_profiles
from autoscaler.simulator.flips import SWITCH_S, DriverKind, FlipSpec
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


class PoolLimits(Section):
    """One role: the profile its time is taken from, the GPUs of one replica, and how many replicas there may be."""

    profile: str
    gpus: int = Field(ge=1, le=64)
    min: int = Field(ge=0, le=1_000)
    max: int = Field(ge=1, le=1_000)
    start: int = Field(ge=0, le=1_000)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.profile not in replica_profiles():
            refuse([Objection(("profile",), f'"{self.profile}" is not a built-in replica profile')])
        at_least(self.max, self.min, f"min {self.min}", 1_000, "max")
        at_least(self.start, self.min, f"min {self.min}", self.max, "start")
        at_most(self.start, self.max, f"max {self.max}", self.min, "start")
        return self


class FlipsSpec(Section):
    """What the fleet's cluster can do about roles; without it nothing can be flipped.

    A label changes at once, `drains` or not; an engine switch drains and takes 20 s; a paired resize starts others, which
    takes what any start-up takes.
    """

    driver: Annotated[DriverKind, Field(strict=False)]
    seconds: float | None = Field(None, ge=0.0, le=3600.0)
    """How long a replica is away between its two roles."""
    drains: bool = False
    """Of a label: whether the old work is finished before the new begins."""
    grows_first: bool = False
    """Of a paired resize: whether the new ones serve before the old ones go, on GPUs to spare."""
    max_in_flight: int = Field(1, ge=1, le=100)
    """How many flips may be under way at once."""

    @model_validator(mode="after")
    def _of_its_driver(self) -> Self:
        resized = self.driver is DriverKind.PAIRED_RESIZE
        belonging = {
            "seconds": not resized or self.seconds is None,
            "drains": self.driver is DriverKind.LABEL or not self.drains,
            "growsFirst": resized or not self.grows_first,
        }
        refuse(Objection((name,), f"is no word for driver {self.driver}") for name, right in belonging.items() if not right)
        return self

    def core(self) -> FlipSpec:
        """The same for a fleet."""
        switched = self.driver is DriverKind.ENGINE_SWITCH
        usual_s = SWITCH_S if switched else 0.0
        seconds = usual_s if self.seconds is None else self.seconds
        return FlipSpec(self.driver, seconds, self.drains or switched, self.grows_first, self.max_in_flight)


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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._refuse_odd_start_ups()
        missing = [role.value for role in Role if role not in self.pools]
        if missing:
            refuse([Objection(("pools",), f"{', '.join(missing)} is missing")])
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
        kind, room = self.requests, self.profile().kv_tokens
        longest = kind.longest_prompt_tokens + kind.longest_output_tokens if kind else 1
        if longest > room:
            text = f"the longest has {longest} tokens and one decode replica holds {room} (kvTokens)"
            refuse([Objection(("requests",), text)])

    def _refuse_unequal_gpus(self) -> None:
        gpus = {pool.gpus for pool in self.pools.values()}
        if self.flips is not None and self.flips.driver is not DriverKind.PAIRED_RESIZE and len(gpus) > 1:
            text = f"{self.flips.driver} needs replicas of equal GPUs, and they have {' and '.join(map(str, sorted(gpus)))}"
            refuse([Objection(("flips", "driver"), f"{text} (allowed: {DriverKind.PAIRED_RESIZE})")])

    def profile(self) -> ReplicaProfile:
        """One profile for the fleet: prefill times from the one role's, decode times and the room for KV from the other's.

        Prefill is given decode's room for KV, which only matters while decode takes nothing in.
        """
        by_law = {ROLE_FACTS[role].sizing: replica_profiles()[pool.profile].core() for role, pool in self.pools.items()}
        prefill, decode = by_law[Sizing.QUEUE], by_law[Sizing.BATCH]
        name = prefill.name if prefill.name == decode.name else f"{prefill.name}+{decode.name}"
        return ReplicaProfile(
            name,
            prefill.prefill_s,
            decode.decode_s,
            decode.kv_tokens,
            decode.max_seqs,
            decode.kv_bytes_per_token,
            decode_beyond=decode.decode_beyond,
        )

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
