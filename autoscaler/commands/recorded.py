"""Is recorded traffic fit to be played, and what of it was left out?"""

from __future__ import annotations

from collections.abc import Iterable

import click

from autoscaler.simulator.scenarios import Case
from autoscaler.simulator.traces import Recording


def checked(recording: Recording) -> Recording:
    """The same, read once from end to end: a bad row is refused, or what was skipped is told on stderr. Raises TraceError."""
    _, skipped = recording.measured()
    if skipped.told:
        click.echo(skipped.told, err=True)
    return recording


def skipped_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """A line for each scenario with rows that cannot be read, where they are to be skipped. Its start-up times share a trace."""
    recordings = {one.name.partition("@")[0]: one.traffic for one in cases if isinstance(one.traffic, Recording)}
    told = {name: one.measured()[1].told for name, one in recordings.items() if one.lenient}
    return tuple(f"{name}: {line}" for name, line in told.items() if line)
