"""What would the controller have done with a fleet's own past, and would the fleet really have behaved like that?

The rebuilt requests (rebuilt.py) are played twice, piece by piece, on the same luck:

    as it was   as many replicas as were seen, whoever sized them. Each is asked for one start-up before it is first seen, so
                that its start is paid for as everybody's is
    policy      this product's controller, whole, under the given policy and as if its mode were Auto

The fleet of the first piece begins as it stood. At a hole the controller is blind and would hold, so its next piece begins
with the counts that its last one ended with; what it learnt is forgotten. A count nobody saw is the one before.

How far all this may be believed shows in the first of the two: its latencies ought to be those that were recorded. Both are
read from the same histograms, the replay's through the same scrapes and windows as the controller's own signals.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from autoscaler.controller import Controller
from autoscaler.core.action import Mode
from autoscaler.core.fleet import ROLE_FACTS, Role, SloKind
from autoscaler.core.observation import Histogram
from autoscaler.core.policy import PoolLimits
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import FixedRoster
from autoscaler.simulator.fleet_spec import FleetSpec, PoolSpec
from autoscaler.simulator.past import Past
from autoscaler.simulator.peers.schedule import Schedule
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.rebuilt import Arrivals, Piece, Survey
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Request

LOOK_S = 600.0  # how long a window the simulated scrapes are kept for, with room to spare
# Which promise each latency is about, in the order in which a request meets them.
LATENCIES: Mapping[str, SloKind] = {
    "traffic.ttft": SloKind.TTFT,
    **{f"{role}.latency": facts.binding_slo for role, facts in ROLE_FACTS.items()},
}

Tally = dict[float, float]
Counts = Mapping[Role, Sequence[int]]
Seat = Callable[[VirtualRun], Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Stage:
    """What both runs have in common: the policy, the fleet it is for, and what is assumed of the rest.

    `gpus` of one replica by role; `start_up_s` is the median of a cold start; `scrape_s` as in Prometheus' configuration.
    """

    managed: Managed
    gpus: Mapping[Role, int]
    start_up_s: float = 60.0
    scrape_s: float = 15.0
    arrivals: Arrivals = Arrivals.POISSON
    seed: int = 1

    def scenario(self, begin: Mapping[Role, int], start_up: StartUp, interval_s: float) -> Scenario:
        """The fleet with these replicas at the beginning, and somebody who looks at it so often."""
        pools = {role: PoolSpec(begin[role], gpus) for role, gpus in self.gpus.items()}
        fleet = FleetSpec(self.managed.key, self.managed.policy.profile, pools, start_up, seed=self.seed)
        return Scenario(fleet, self.managed.policy.slos, self.scrape_s, interval_s)

    def requests(self, piece: Piece) -> Iterator[Request]:
        """A piece's requests, none longer than a replica can hold."""
        fleet = self.scenario(dict.fromkeys(self.gpus, 0), StartUp(self.start_up_s), 1.0).fleet
        return piece.requests(self.seed, self.arrivals, min(fleet.max_model_len, fleet.profile.kv_tokens))


@dataclass(slots=True)
class Side:
    """One way the past could have gone: who came, a score for each piece, how many replicas served at the end of each step (by
    its number), and the latencies of all pieces by signal, as observations by the upper edge of their bucket.
    """

    name: str
    survey: Survey = field(default_factory=Survey)
    scores: list[Score] = field(default_factory=list)
    serving: dict[Role, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    latencies: dict[str, Tally] = field(default_factory=lambda: defaultdict(_tally))

    def total(self, figure: str) -> float:
        """A figure of Score that can be added up over the pieces."""
        return float(sum(getattr(score, figure) for score in self.scores))

    @property
    def attainment(self) -> float | None:
        """Met requests of those that are decided; None if none is."""
        decided = self.total("offered") - self.total("open")
        return self.total("met") / decided if decided else None

    @property
    def gpu_hours(self) -> Mapping[Role, float]:
        """By role, starting and draining replicas included."""
        return {role: sum(score.gpu_hours[role] for score in self.scores) for role in self.scores[0].gpu_hours}

    def latency(self, signal: str) -> Histogram | None:
        """All of one latency together."""
        return _cumulated(self.latencies.get(signal, {}))


def stood(past: Past, told: Mapping[Role, int]) -> Counts:
    """Replicas of each role by step; a count nobody saw is the one before. `told` are constant, in place of what was seen.

    Raises Refusal for a role of which nothing was ever seen and nothing is told.
    """
    counts: dict[Role, list[int]] = {}
    for role in Role:
        before = told.get(role) or next(filter(None, past.replicas.get(role, ())), 0)
        if not before:
            ways = f"(--pods {role}=PATTERN, --replicas {role}=N)"
            raise Refusal(f"no replica of {role} was ever seen; say which pods are its own, or how many there were {ways}")
        counts[role] = [before := number or before for number in _seen(past, role, told)]
    return counts


def unseen(past: Past, pieces: Sequence[Piece], told: Mapping[Role, int]) -> Mapping[Role, float]:
    """In which share of the played steps nobody saw a replica of the role."""
    played = [at for piece in pieces for at in range(piece.first, piece.first + len(piece.steps))]
    seen = {role: _seen(past, role, told) for role in Role}
    return {role: sum(not path[at] for at in played) / len(played) for role, path in seen.items()}


def _seen(past: Past, role: Role, told: Mapping[Role, int]) -> Sequence[int | None]:
    silence = [None] * len(past.offered_rps)
    return silence if role in told else past.replicas.get(role, silence)


def replay_past(stage: Stage, pieces: Sequence[Piece], counts: Counts, played: Callable[[], object] = bool) -> Side:
    """The pieces under the counts that stood there. `played` is called after every step."""
    side = Side("as it was")
    start_up = StartUp(stage.start_up_s, 0.0)  # no luck: they were there when they were seen
    bounds = {role: PoolLimits(0, max(path)) for role, path in counts.items()}
    free = replace(stage.managed, policy=replace(stage.managed.policy, pools=bounds, gpu_budget=None))
    for piece in pieces:
        schedule = _schedule(stage, piece, counts)
        begin = {role: path[piece.first] for role, path in counts.items()}
        scenario = stage.scenario(begin, start_up, schedule.interval_s)
        _play(stage, piece, scenario, _peer_seat(schedule, free), side, played)
    return side


def replay_policy(stage: Stage, pieces: Sequence[Piece], counts: Counts, played: Callable[[], object] = bool) -> Side:
    """The pieces under the policy, from the counts that stood at the beginning."""
    side = Side("pd-autoscaler")
    managed = replace(stage.managed, policy=replace(stage.managed.policy, mode=Mode.AUTO))
    begin: Mapping[Role, int] = {role: path[pieces[0].first] for role, path in counts.items()}
    for piece in pieces:
        scenario = stage.scenario(begin, StartUp(stage.start_up_s), managed.tick_s)
        run = _play(stage, piece, scenario, _our_seat(managed), side, played)
        begin = {role: pool.desired for role, pool in run.engine.fleet().pools.items()}
    return side


def recorded(past: Past, pieces: Sequence[Piece], signal: str) -> Histogram | None:
    """What was recorded of a latency in the steps that are played; None if nothing was."""
    told, tally = past.latencies.get(signal, ()), _tally()
    for piece in pieces:
        for one in told[piece.first : piece.first + len(piece.steps)]:
            if one is not None:
                _add(tally, one)
    return _cumulated(tally)


def _add(tally: Tally, one: Histogram) -> None:
    """Each bucket's observations at its upper edge, which may be an edge that others do not have."""
    below = 0.0
    for edge, count in zip(one.edges, one.counts, strict=True):
        tally[edge] += count - below
        below = count


def _tally() -> Tally:
    return defaultdict(float)


def _cumulated(tally: Mapping[float, float]) -> Histogram | None:
    edges = tuple(sorted(tally))
    return Histogram(edges, tuple(accumulate(tally[edge] for edge in edges))) if edges else None


def _schedule(stage: Stage, piece: Piece, counts: Counts) -> Schedule:
    """Asked for ahead by the start-up, looked up every scrape, or every step if that is shorter."""
    interval_s = min(stage.scrape_s, float(piece.step_s))
    looks = math.ceil(piece.duration_s / interval_s)
    last = piece.first + len(piece.steps) - 1

    def at(path: Sequence[int], look: int) -> int:
        here = piece.first + int(look * interval_s / piece.step_s)
        ahead = piece.first + int((look * interval_s + stage.start_up_s) / piece.step_s)
        return max(path[min(here, last) : min(ahead, last) + 1])

    return Schedule(interval_s, {role: tuple(at(path, look) for look in range(looks)) for role, path in counts.items()})


def _peer_seat(schedule: Schedule, managed: Managed) -> Seat:
    return lambda run: PeerController(run, schedule, managed).tick


def _our_seat(managed: Managed) -> Seat:
    return lambda run: Controller(FixedRoster([managed]), run.clock, run.signals, run.cluster).tick


def _play(stage: Stage, piece: Piece, scenario: Scenario, seat: Seat, side: Side, played: Callable[[], object]) -> VirtualRun:
    """One piece, looked at after every step, and more often where a step is longer than scrapes are kept."""
    run = VirtualRun(scenario, side.survey.of(stage.requests(piece)))
    run.tick = seat(run)
    looks = math.ceil(piece.step_s / LOOK_S)
    look_s = piece.step_s / looks
    for look in range(1, len(piece.steps) * looks + 1):
        run.advance(look * look_s)
        for signal, histogram in _latencies(run, stage.managed, look_s + stage.scrape_s):
            _add(side.latencies[signal], histogram)
        if look % looks == 0:
            for role, pool in run.engine.fleet().pools.items():
                side.serving[role][piece.first + look // looks - 1] = pool.serving
            played()
    side.scores.append(run.score())
    return run


def _latencies(run: VirtualRun, managed: Managed, window_s: float) -> Iterator[tuple[str, Histogram]]:
    """The latencies of the last moments, as a Prometheus would have them, the users' own always among them."""
    scope = replace(managed.scope(run.engine.fleet(), 0.0), gateway=managed.gateway or "simulated", window_s=window_s)
    (told,) = run.signals.read([scope], run.clock.now())
    signals = told[scope.key]
    latencies = {"traffic.ttft": signals.traffic.ttft, **{f"{role}.latency": one.latency for role, one in signals.roles.items()}}
    return ((name, one) for name, one in latencies.items() if isinstance(one, Histogram))
