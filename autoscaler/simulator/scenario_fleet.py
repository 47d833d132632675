"""What may a scenario say of its fleet: of its pools, how replicas change their role, and who is turned away?

A pool's profile is the name of a built-in one, or a path: a YAML file as `autoscaler profile fit` writes them, or a folder of
npz grids, found from the folder of the scenario file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import SloKind
from autoscaler.core.profile import ReplicaProfile
from autoscaler.policy.fields import Objection, Section, at_least, at_most, refuse
from autoscaler.refusal import Refusal
from autoscaler.simulator.early_rejection import EarlyRejection, Rejects
from autoscaler.simulator.flips import SWITCH_S, DriverKind, FlipSpec
from autoscaler.simulator.profile_files import find_profile, is_path

FOLDER = "folder"  # in the context of a validation: from where the paths in a file are found


class PoolLimits(Section):
    """One role: the profile its time is taken from, the GPUs of one replica, and how many replicas there may be."""

    profile: str
    gpus: int = Field(ge=1, le=64)
    min: int = Field(ge=0, le=1_000)
    max: int = Field(ge=1, le=1_000)
    start: int = Field(ge=0, le=1_000)

    _replica: ReplicaProfile = PrivateAttr()

    @property
    def replica(self) -> ReplicaProfile:
        """The profile itself, as it was when the file was read."""
        return self._replica

    @model_validator(mode="after")
    def _there(self, info: ValidationInfo) -> Self:
        folder = (info.context or {}).get(FOLDER, Path())
        word = str(folder / self.profile) if is_path(self.profile, folder) else self.profile
        try:
            self._replica = find_profile(word)
        except Refusal as refusal:
            refuse(Objection(("profile",), line) for line in str(refusal).splitlines())
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
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


class RejectionSpec(Section):
    """Who is turned away when the fleet is full (early_rejection.py); without it nobody is. Limits that are not written are
    the promises.
    """

    rule: Annotated[Rejects, Field(strict=False)]
    """When decode's load is looked at."""
    ttft_seconds: float | None = Field(None, ge=1e-3, le=3600.0)
    """The longest expected TTFT that is let in."""
    tpot_seconds: float | None = Field(None, ge=1e-4, le=60.0)
    """The longest step of decode that is let in."""
    decode_seconds: float | None = Field(None, ge=0.0, le=3600.0)
    """Of rule `predicted`: how long a request is taken to decode."""

    @model_validator(mode="after")
    def _of_its_rule(self) -> Self:
        predicts = self.rule is Rejects.PREDICTED
        if predicts != (self.decode_seconds is not None):
            text = "missing: how long a request is taken to decode" if predicts else f"is no word for rule {self.rule}"
            refuse([Objection(("decodeSeconds",), text)])
        return self

    def core(self, slos: Mapping[SloKind, Slo]) -> EarlyRejection:
        """The same for a run under these promises."""
        ttft_s, tpot_s = (slos[kind].threshold_s for kind in (SloKind.TTFT, SloKind.TPOT))
        return EarlyRejection(self.rule, self.ttft_seconds or ttft_s, self.tpot_seconds or tpot_s, self.decode_seconds or 0.0)
