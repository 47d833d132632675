"""How does one policy do on a scenario, or on a trace of one's own?

Our controller under a policy file (or as it comes), or a peer by name. On a scenario everything but the tuning is the
scenario's; on a trace the policy file says all: promises, bounds, budget, profile, and that the fleet begins at its minimum.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from rich.console import Console

from autoscaler.commands.comparison_json import runs
from autoscaler.commands.recorded import skipped_of
from autoscaler.commands.simulated import simulated
from autoscaler.commands.standings import table
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Role
from autoscaler.policy_file import load_policies
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from autoscaler.simulator.comparison import play
from autoscaler.simulator.contenders import OURS, Contender, Job
from autoscaler.simulator.ground import cut
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.scenario_file import Mark
from autoscaler.simulator.scenarios import BUILT_IN, Bounds, Case, Cases, load_cases
from autoscaler.simulator.traces import Recording


def simulate(
    *,
    scenario: str | None,
    trace: Path | None,
    policy: Path | None,
    peer: str | None,
    headroom: float | None,
    rate: float,
    start_up_s: float,
    length_s: float | None,
    attainment: float,
    seed: int,
    scenarios_file: Path | None,
    traces: Path | None,
    skip_bad_rows: bool,
    as_json: bool,
) -> None:
    """Play and tell. Raises Refusal on bad input."""
    if (scenario is None) == (trace is None):
        raise Refusal("simulate: give either --scenario or --trace")
    tuning = tuning_of(policy)
    if trace is not None:
        recording = Recording(trace, Slice(duration_s=length_s or float("inf"), scale=rate), skip_bad_rows)
        cases: tuple[Case, ...] = (_recorded(recording, _needed(policy), start_up_s, length_s),)
    else:
        found = load_cases(folder_of(traces), scenarios_file or BUILT_IN, lenient=skip_bad_rows)
        cases = tuple(cut(case, length_s) for case in _named(scenario or "", found))
    for line in skipped_of(cases):
        click.echo(line, err=True)
    contender = _contender(peer, headroom, tuning)
    results = [play(Job(case, contender, seed, attainment)) for case in cases]
    if as_json:
        click.echo(json.dumps(runs(results, attainment), indent=2))
        return
    console = Console(width=None if Console().is_terminal else 150)
    for result in results:
        console.print(table(result.scenario, [result], attainment))


def tuning_of(policy: Path | None) -> Managed | None:
    """What a policy file says, its first document; None without one."""
    return None if policy is None else managed(load_policies([policy])[0].document)


def folder_of(traces: Path | None) -> Path | None:
    """Where the traces are: as told, or as PDA_SHARED tells; None if nobody does."""
    shared = os.environ.get("PDA_SHARED")
    return traces or (Path(shared) / "traces" if shared else None)


def known_peers(names: tuple[str, ...]) -> tuple[str, ...]:
    """These, or all of them if none is named. Refusal for a name that is none."""
    for name in names:
        if name not in PEERS:
            raise Refusal(f'--peer "{name}" is no peer (allowed: {", ".join(PEERS)})')
    return names or tuple(PEERS)


def _contender(peer: str | None, headroom: float | None, tuning: Managed | None) -> Contender:
    if headroom is not None and not (0 <= headroom <= 100):
        raise Refusal(f"--headroom {headroom:g} is out of range (allowed: 0..100)")
    if peer is not None:
        (name,) = known_peers((peer,))
        if headroom == 0:
            raise Refusal(f"--headroom 0 is no point of {name} (its own: {', '.join(f'{p:g}' for p in PEERS[name].points)})")
        point = PEERS[name].published if headroom is None else headroom
        return Contender(name, point, point == PEERS[name].published)
    own = tuning.policy.demand.headroom if tuning else DemandLimits().headroom
    point = own if headroom is None else headroom
    return Contender(OURS, point, point == own, tuning)


def _named(name: str, cases: Cases) -> tuple[Case, ...]:
    for line in cases.left_out:
        if line.partition(":")[0] == name.partition("@")[0]:
            raise Refusal(line)
    return cases.named(name)


def _needed(policy: Path | None) -> Path:
    if policy is None:
        raise Refusal("simulate: --trace needs --policy, which says what the fleet is and what is promised")
    return policy


def _recorded(recording: Recording, policy: Path, start_up_s: float, length_s: float | None) -> Case:
    """The trace as a case. Its rows are all read once, so that a bad one is refused at once."""
    written = load_policies([policy])[0].document
    fleet = managed(written)
    (found, _), pools = recording.measured(), written.spec.pools
    spec = simulated(written, StartUp(start_up_s))
    bounds: dict[Role, Bounds] = {role: Bounds(pool.min, pool.max) for role, pool in pools.items()}
    budget = fleet.policy.gpu_budget or sum(pool.max * pool.gpus_per_replica for pool in pools.values())
    scenario = Scenario(spec, fleet.policy.slos)
    ends_s = length_s or max(60.0, found.duration_s + 1.0)
    return Case(recording.path.name, Mark.UNFORECASTABLE, False, ends_s, scenario, bounds, budget, recording)
