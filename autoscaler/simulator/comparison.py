"""How does one policy do in one case?

`play` puts a contender (contenders.py) on its ground (ground.py) and gives its `Result` (result.py). A reference is told all
requests beforehand and looks at no signal, so its run is not scraped: the same fleet, a tenth sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoscaler.controller import Controller
from autoscaler.core.fleet import Role
from autoscaler.refusal import Refusal
from autoscaler.roster import FixedRoster
from autoscaler.simulator.contenders import BEST_STATIC, FLIPPER, LOWER_BOUND, ORACLE, OURS, REFERENCES, Job, hindrance, unhurried
from autoscaler.simulator.ground import INTERVAL_S, Ground, ground_of
from autoscaler.simulator.peers import Peer
from autoscaler.simulator.peers.catalogue import PEERS, Setting
from autoscaler.simulator.peers.clairvoyant_flipper import ClairvoyantFlipper
from autoscaler.simulator.peers.oracle import oracle
from autoscaler.simulator.peers.played import Played
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.peers.trial import foreseeing, gpu_hours
from autoscaler.simulator.result import Result, Timeline, elsewhere
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.shifts import recovery

Tick = Callable[[], object]
Seat = Callable[[VirtualRun], Tick]


def play(job: Job) -> Result:
    """How this contender does in this case. Raises Refusal for a case without requests, TraceError for a bad trace."""
    ground, contender = ground_of(job), job.contender
    if why := hindrance(contender.name, ground.gpus):
        return Result(job.case.name, contender, None, note=why)
    if contender.name in REFERENCES:
        result = _reference(ground)
    elif contender.name == OURS:
        result = _ours(ground)
    else:
        result = _peer(ground)
    return replace(result, infeasible=ground.reach.infeasible(job.case.scenario.slos), reachable=ground.reach.all)


def play_all(lot: Sequence[Job]) -> list[Result]:
    """A lot (contenders.py `dealt`), one after the other. Whoever never starts a replica plays once for all start-up times."""
    results: list[Result] = []
    for job in lot:
        same = (one for one in results if one.contender == job.contender and unhurried(job))
        played = next(same, None)
        results.append(play(job) if played is None else elsewhere(played, job))
    return results


def _reference(ground: Ground) -> Result:
    try:
        return _REFERENCES[ground.job.contender.name](ground)
    except Refusal:
        raise
    except ValueError as error:  # an SLO below what one step takes: no bound, and nothing to search for
        return Result(ground.job.case.name, ground.job.contender, None, note=f"cannot be found: {error}")


def _ours(ground: Ground) -> Result:
    point, managed = ground.job.contender.point, ground.managed
    if point is not None:
        policy = managed.policy
        managed = replace(managed, policy=replace(policy, demand=replace(policy.demand, headroom=point)))
    scenario = replace(ground.job.case.scenario, interval_s=managed.tick_s)

    def seat(run: VirtualRun) -> Tick:
        return Controller(FixedRoster([managed]), run.clock, run.signals, run.cluster).tick

    return _run(ground, seat, scenario, ground.counts)


def _peer(ground: Ground) -> Result:
    job = ground.job
    entry = PEERS[job.contender.name]
    point = entry.published if job.contender.point is None else job.contender.point
    setting = _setting(ground)
    peer = entry.make(setting, point)
    scenario, begin = entry.watched(peer, job.case.scenario), entry.begins(setting, point)
    return _run(ground, lambda run: PeerController(run, peer, ground.managed).tick, scenario, begin)


def _setting(ground: Ground) -> Setting:
    rps = len(ground.survey.requests) / ground.job.case.duration_s
    return Setting(ground.managed.policy, ground.survey.shape, ground.counts, rps, ground.gpus)


def _foresight(ground: Ground, peer: Peer[Any], begin: Mapping[Role, int], note: str) -> Result:
    scenario = foreseeing(ground.job.case.scenario, peer)
    return _run(ground, lambda run: PeerController(run, peer, ground.managed).tick, scenario, begin, note)


def _run(ground: Ground, seat: Seat, scenario: Scenario, begin: Mapping[Role, int], note: str = "") -> Result:
    fleet = scenario.fleet
    pools = {role: replace(pool, replicas=begin[role]) for role, pool in fleet.pools.items()}
    run = VirtualRun(replace(scenario, fleet=replace(fleet, pools=pools, seed=ground.job.seed)), ground.survey.requests)
    run.tick = seat(run)
    played = Played(run, ground.job.case.duration_s, ground.survey.step_s)
    played.advance(played.until_s)
    return _told(ground, played, note)


def _told(ground: Ground, played: Played, note: str) -> Result:
    """The result of a run that was played to its end."""
    job, run, score = ground.job, played.run, played.score()
    scenario = job.case.scenario
    timeline = Timeline(played.step_s, ground.survey.offered_rps, _frozen(played.serving), _frozen(played.moving))
    hasty_s = 2 * scenario.fleet.start_up.median_s, scenario.dwell_s
    return Result(
        job.case.name,
        job.contender,
        gpu_hours(score),
        score,
        recovery(run, job.case),
        timeline,
        tuple(run.keeper.moves),
        hasty_s,
        note,
    )


def _frozen(rows: Mapping[Role, list[int]]) -> Mapping[Role, tuple[int, ...]]:
    return {role: tuple(row) for role, row in rows.items()}


def _lower_bound(ground: Ground) -> Result:
    bound = ground.bound()
    return Result(ground.job.case.name, ground.job.contender, bound.gpu_hours, note="work alone, without delays or waiting")


def _best_static(ground: Ground) -> Result:
    found = ground.best_static()
    counts = ", ".join(f"{count} {role}" for role, count in found.replicas.items())
    reached = "" if found.feasible else f"; none tried reaches {ground.job.attainment:.1%}, this one comes nearest"
    return _told(ground, found.played, f"{counts}; {found.runs} runs{reached}")


def _oracle(ground: Ground) -> Result:
    fixed = ground.best_static()
    found = oracle(ground.trial(), fixed.replicas, ground.job.attainment, INTERVAL_S)
    reached = "" if found.feasible else f"; none tried reaches {ground.job.attainment:.1%}"
    note = f"{found.gap:.0%} above the lower bound; {found.runs} runs{reached}"
    return _told(ground, found.played, note)


def _flipper(ground: Ground) -> Result:
    flipper = ClairvoyantFlipper.of(ground.bound(), ground.managed.policy, ground.survey.shape)
    fleet = _setting(ground).carrying(1.0)
    return _foresight(ground, flipper, fleet, f"a fleet of {sum(fleet.values())}, always split the best way")


_REFERENCES: Mapping[str, Callable[[Ground], Result]] = {
    LOWER_BOUND: _lower_bound,
    BEST_STATIC: _best_static,
    ORACLE: _oracle,
    FLIPPER: _flipper,
}
