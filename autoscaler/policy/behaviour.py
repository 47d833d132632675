"""How fast may a fleet follow its demand, by which ways, and where does a brake that is not written come from?

Every brake may be left out. Three layers, the later over the earlier, field by field: the core's `Damping()`, the
policy's `spec.behaviour`, the pool's own `behaviour`. `scaleDown: {cooldownSeconds: 120}` changes the cooldown of
shrinking and nothing else. So a field that is null here has no default of its own: it is what the layer below says.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from autoscaler.core.flip import FlipLimits
from autoscaler.core.hysteresis import Brakes, Damping, Step
from autoscaler.policy.fields import Objection, Section, default_of, refuse


class StepSpec(Section):
    """The largest change in a period: `replicas`, or `percent` of the pool, whichever is more."""

    replicas: int | None = Field(None, ge=1, le=1000)
    """So many replicas."""
    percent: float | None = Field(None, ge=0.0, le=1000.0)
    """Such a share of the pool."""
    period_seconds: float | None = Field(None, ge=1.0, le=3600.0)
    """In what time."""

    def over(self, base: Step) -> Step:
        """`base` with what is written here instead."""
        return replace(base, **self.for_core())


class BrakesSpec(Section):
    """The brakes of one direction; core/hysteresis.py tells what each does."""

    tolerance: float | None = Field(None, ge=0.0, le=0.9)
    """Share by which demand may differ from the pool without any move."""
    stabilization_seconds: float | None = Field(None, ge=0.0, le=3600.0)
    """How long a lower (going up: a higher) demand must have lasted."""
    cooldown_seconds: float | None = Field(None, ge=0.0, le=3600.0)
    """Least time since the pool's last move."""
    step: StepSpec = StepSpec()

    def over(self, base: Brakes) -> Brakes:
        """`base` with what is written here instead."""
        return replace(base, **{**self.for_core(), "step": self.step.over(base.step)})


class DampingSpec(Section):
    """The brakes of both directions."""

    scale_up: BrakesSpec = BrakesSpec()
    scale_down: BrakesSpec = BrakesSpec()
    gap_seconds: float | None = Field(None, ge=1.0, le=3600.0)
    """A time without sight longer than this makes the stabilization window start anew."""

    def over(self, base: Damping) -> Damping:
        """`base` with what is written here instead."""
        damping = replace(base, up=self.scale_up.over(base.up), down=self.scale_down.over(base.down))
        return replace(damping, **self.for_core("gap_seconds"))


class OnDeadline(StrEnum):
    """What becomes of a replica that still serves at the end of its drain."""

    ROLLBACK = "rollback"
    FORCE = "force"


class Drain(Section):
    """Waiting, before a replica is removed or flipped, until it serves nobody; `spec.routing` tells how it gets no more."""

    deadline_seconds: float = Field(600.0, ge=1.0, le=86_400.0)
    """How long it may take, counted from leaving the routing; more than the longest answer takes."""
    on_deadline: Annotated[OnDeadline, Field(strict=False)] = OnDeadline.ROLLBACK
    """And then: rollback takes the replica back into routing and it stays, force removes it and loses its requests."""


class FlipDriver(StrEnum):
    """By which way a replica gets another role; policy/drivers.py tells what each needs."""

    AUTO = "auto"
    RELABEL = "relabel"
    ENGINE_SWITCH = "engineSwitch"
    PAIRED_RESIZE = "pairedResize"


class FlipOrder(StrEnum):
    """Which half of a paired resize comes first."""

    AUTO = "auto"
    DRAIN_FIRST = "drainFirst"
    SURGE_FIRST = "surgeFirst"


ORDERED = (FlipDriver.AUTO, FlipDriver.PAIRED_RESIZE)  # drivers with two halves, or that may turn out to have


class Flip(Section):
    """Turning replicas of one role into replicas of another, where the target can; core/flip.py tells when it is worth it."""

    enabled: bool = False
    """Whether replicas may be flipped at all."""
    max_in_flight: int = Field(default_of(FlipLimits, "max_in_flight"), ge=1, le=100)
    """How many flips may be under way at once."""
    dwell_seconds: float = Field(default_of(FlipLimits, "dwell_s"), ge=0.0, le=86_400.0)
    """How long a replica keeps its role at least."""
    cooldown_seconds: float = Field(default_of(FlipLimits, "cooldown_s"), ge=0.0, le=3600.0)
    """Least time between two flips; doubled by each flip back."""
    driver: Annotated[FlipDriver, Field(strict=False)] = FlipDriver.AUTO
    """By which way: auto is engineSwitch where the engine can, else pairedResize; relabel has to be asked for."""
    order: Annotated[FlipOrder, Field(strict=False)] = FlipOrder.AUTO
    """Of a paired resize: auto is surgeFirst where the GPU budget has room for it, else drainFirst."""

    @field_validator("order")
    @classmethod
    def _only_where_there_are_halves(cls, order: FlipOrder, info: ValidationInfo) -> FlipOrder:
        driver = info.data.get("driver", FlipDriver.AUTO)
        if order is not FlipOrder.AUTO and driver not in ORDERED:
            refuse([Objection((), f"{order} is not allowed with driver {driver}, which changes roles in place (allowed: auto)")])
        return order

    def core(self, sighted_s: float) -> FlipLimits:
        """When a flip is worth it; how it is carried out is no question of the core's. `sighted_s`: see FlipLimits."""
        told = self.for_core("enabled", "max_in_flight", "dwell_seconds", "cooldown_seconds")
        return FlipLimits(**told, sighted_s=sighted_s)


class Behaviour(DampingSpec):
    """How fast the fleet follows its demand; the part that is the fleet's and not one pool's comes on top."""

    tick_seconds: float = Field(15.0, ge=1.0, le=600.0)
    """How often the controller looks."""
    zero_after_seconds: float | None = Field(None, ge=60.0, le=604_800.0)
    """When nobody has asked for anything for so long, all pools go to zero together; never if null. Needs a gateway."""
    drain: Drain = Drain()
    flip: Flip = Flip()
