"""Under which setting was a comparison made? What somebody needs to make it again, and what a report tells of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """`attainment`: the required share of offered requests; `command`: what was typed; `left_out`: a line for each scenario
    that could not be played; `trial_section`: HTML about the simulator's own trial, empty without one; `skipped`: a line for each
    scenario of whose trace rows were left out.
    """

    attainment: float
    seed: int
    command: str
    left_out: tuple[str, ...] = ()
    trial_section: str = ""
    skipped: tuple[str, ...] = ()
