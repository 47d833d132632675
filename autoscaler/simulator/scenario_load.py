"""How is a load written down?

As one of the shapes of shapes.py with its rates and times, as the topology walk, or as a part of a recorded trace; and,
for a shape, what a request looks like. Fields have the shapes' own names, durations end in Seconds.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from autoscaler.policy.fields import Objection, Section, at_least, refuse
from autoscaler.simulator.shapes import Diurnal, OnOff, Ramp, Shape, Spike, Steady, Wave
from autoscaler.simulator.workload import Kind, Lengths

Rate = Annotated[float, Field(ge=0.0, le=10_000.0)]
Seconds = Annotated[float, Field(ge=1.0, le=2e6)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Spread = Annotated[float, Field(ge=0.0, le=10.0)]


class SteadySpec(Section):
    """Shape `Steady`."""

    rps: Rate

    def core(self) -> Shape:
        """The shape."""
        return Steady(self.rps)


class WaveSpec(Section):
    """Shape `Wave`."""

    low_rps: Rate
    high_rps: Rate
    period_seconds: Seconds

    def core(self) -> Shape:
        """The shape."""
        return Wave(**self.for_core())

    @model_validator(mode="after")
    def _rises(self) -> Self:
        at_least(self.high_rps, self.low_rps, f"lowRps {self.low_rps:g}", 10_000.0, "highRps")
        return self


class DiurnalSpec(Section):
    """Shape `Diurnal`."""

    low_rps: Rate
    high_rps: Rate
    day_seconds: Seconds

    def core(self) -> Shape:
        """The shape."""
        return Diurnal(**self.for_core())

    @model_validator(mode="after")
    def _rises(self) -> Self:
        at_least(self.high_rps, self.low_rps, f"lowRps {self.low_rps:g}", 10_000.0, "highRps")
        return self


class SpikeSpec(Section):
    """Shape `Spike`."""

    base_rps: Rate
    peak_rps: Rate
    start_seconds: Seconds
    length_seconds: Seconds
    every_seconds: Seconds | None = None

    def core(self) -> Shape:
        """The shape."""
        return Spike(**self.for_core())


class OnOffSpec(Section):
    """Shape `OnOff`."""

    on_rps: Rate
    off_rps: Rate
    on_seconds: Seconds
    off_seconds: Seconds

    def core(self) -> Shape:
        """The shape."""
        return OnOff(**self.for_core())


class RampSpec(Section):
    """Shape `Ramp`."""

    from_rps: Rate
    to_rps: Rate
    start_seconds: Seconds
    length_seconds: Seconds

    def core(self) -> Shape:
        """The shape."""
        return Ramp(**self.for_core())


class WalkSpec(Section):
    """The topology walk, with requests of its own."""

    phase_seconds: Seconds


class TraceSpec(Section):
    """A part of a recorded trace, `file` in the folder of traces."""

    file: str = Field(pattern=r"^[\w.-]+$", max_length=200)
    start_seconds: float = Field(0.0, ge=0.0, le=2e6)


class LoadSpec(Section):
    """One of these."""

    steady: SteadySpec | None = None
    wave: WaveSpec | None = None
    diurnal: DiurnalSpec | None = None
    spike: SpikeSpec | None = None
    on_off: OnOffSpec | None = None
    ramp: RampSpec | None = None
    walk: WalkSpec | None = None
    trace: TraceSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(field.alias or name for name, field in type(self).model_fields.items())
            refuse([Objection((), f"{len(given)} loads are given (allowed: one of {names})")])
        return self

    @property
    def shape(self) -> Shape | None:
        """The shape, where the load is one and has requests of one kind."""
        specs = (self.steady, self.wave, self.diurnal, self.spike, self.on_off, self.ramp)
        return next((spec.core() for spec in specs if spec is not None), None)


class RequestSpec(Section):
    """What a request looks like: lognormal lengths, their means and coefficients of variation, cut at the longest."""

    prompt_tokens: Tokens
    prompt_cv: Spread
    longest_prompt_tokens: Tokens
    output_tokens: Tokens
    output_cv: Spread
    longest_output_tokens: Tokens
    cached_share: float = Field(0.0, ge=0.0, le=1.0)

    def core(self) -> Kind:
        """The kind of request."""
        prompt = Lengths(self.prompt_tokens, self.prompt_cv, self.longest_prompt_tokens)
        return Kind(prompt, Lengths(self.output_tokens, self.output_cv, self.longest_output_tokens), self.cached_share)
