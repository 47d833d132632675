"""Does a fleet that turns requests away end as large as one that lets everybody in?

The load rises to eight times within four minutes and stays until every fleet is at rest. A door stands in for early rejection:
it lets nobody in while every prefill replica has a prompt in hand, or a computed one waits for every decode replica; or no long
prompts, as one does that looks at what each of them takes. What the engines see behind it never looks like overload, so a
controller that did not add what was turned away would call the fleet large enough, and turn away a quarter of all requests.

Clients give up, or try again as the SDK of OpenAI does. Of these many are let in at a later try: they are in what the gateway
counts, so what was turned away must not tell of them a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from random import Random

import pytest

from autoscaler.controller import Controller
from autoscaler.core.action import Mode
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.observation import Gap, Known, Signals, Unknown
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.policy.profiles import replica_profile
from autoscaler.ports import FleetScope, Managed, SignalSource
from autoscaler.roster import FixedRoster
from autoscaler.simulator.clients import NEVER, Retries
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.events import Server
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.shapes import Ramp, shaped
from autoscaler.simulator.workload import Kind, Lengths, Request

pytestmark = pytest.mark.slow  # sixteen runs of fifty minutes, 2 s of CPU each

KEY = "s/ramp"
PROFILE = replica_profile("llama-3-8b-h100-tp1")
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 5.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}
BEGIN, UNTIL_S, WINDOW_TICKS = 3, 3000.0, 4
CLIENTS: Mapping[str, Retries] = {"give up": NEVER, "try again": Retries()}
EVERY, LONG = 0, 8_000  # of how many tokens on a prompt may be turned away
LOADS: Mapping[str, tuple[Kind, float]] = {  # and how many requests per second in the end
    "long prompts": (Kind(Lengths(12_000, 0.5, 32_000), Lengths(100, 0.5, 400)), 16.0),
    "long prompts and answers": (Kind(Lengths(8_000, 0.5, 32_000), Lengths(800, 0.5, 3_000)), 20.0),
}


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: replicas asked for by role, and its score."""

    sizes: Mapping[Role, int]
    score: Score


class Told(StrEnum):
    """What the controller is told of those who were turned away."""

    ALL = "all"
    NOBODY = "nobody"
    FIRST = "first tries, those let in later among them"


class Retold:
    """Signals of a fleet behind a sidecar that tells less, or what it tells is read as less than it is."""

    def __init__(self, run: VirtualRun, told: Told) -> None:
        self._run, self._told = run, told
        self._counts: deque[tuple[float, int]] = deque(maxlen=WINDOW_TICKS + 1)

    def read(self, scopes: Sequence[FleetScope], now: float) -> Iterable[Mapping[str, Signals]]:
        reading = Known(self._first_rps(now)) if self._told is Told.FIRST else Unknown(Gap.MISSING, "no sidecar tells")
        for part in self._run.signals.read(scopes, now):
            yield {key: replace(one, traffic=replace(one.traffic, rejected_rps=reading)) for key, one in part.items()}

    def _first_rps(self, now: float) -> float:
        """Over as long as the profile's queries look back."""
        self._counts.append((now, self._run.engine.gateway.turned_away_first))
        (then_s, before), (_, count) = self._counts[0], self._counts[-1]
        return (count - before) / (now - then_s) if now > then_s else 0.0


def in_hand(server: Server) -> int:
    """Prompts not computed yet at a replica that prefills, computed ones that wait for room at one that decodes."""
    return server.requests if isinstance(server, QueueServer) else server.occupancy().waiting


@cache
def end_of(load: str, clients: str, door: int | None, told: Told = Told.ALL) -> End:
    """A run with the real controller. `door`: from how many tokens on a prompt may be turned away; None: nobody is."""
    kind, rps = LOADS[load]
    fleet = FleetSpec(KEY, PROFILE, dict.fromkeys(Role, PoolSpec(BEGIN)), StartUp(60.0), retries=CLIENTS[clients], seed=1)

    def has_room(role: Role) -> bool:
        return any(in_hand(replica.server) == 0 for replica in run.engine.pools[role].serving())

    def admit(request: Request, now: float) -> bool:
        return door is None or request.prompt_tokens < door or all(has_room(role) for role in Role)

    requests = shaped(Random(1), Ramp(rps / 8, rps, 120.0, 240.0), kind, UNTIL_S)
    run = VirtualRun(Scenario(fleet, SLOS), requests, admit=admit)
    signals: SignalSource = run.signals if told is Told.ALL else Retold(run, told)
    wanted = Policy(Mode.AUTO, SLOS, dict.fromkeys(Role, PoolLimits(1, 40)), PROFILE)
    roster = FixedRoster([Managed(KEY, "s", "ramp", wanted, gateway="llm-d")])
    run.tick = Controller(roster, run.clock, signals, run.cluster).tick
    run.advance(UNTIL_S)
    return End({role: pool.desired for role, pool in run.engine.fleet().pools.items()}, run.score())


def apart(one: End, other: End) -> int:
    """By how many replicas they differ, in the role in which they differ most."""
    return max(abs(one.sizes[role] - other.sizes[role]) for role in Role)


@pytest.mark.parametrize("door", [EVERY, LONG])
@pytest.mark.parametrize("clients", CLIENTS)
@pytest.mark.parametrize("load", LOADS)
def test_with_a_door_or_without_the_fleet_ends_at_the_same_size_within_one_replica(load: str, clients: str, door: int) -> None:
    everybody, chosen = end_of(load, clients, None), end_of(load, clients, door)
    assert max(everybody.sizes.values()) >= 2 * BEGIN
    assert everybody.score.rejected == 0 < chosen.score.rejected
    assert apart(everybody, chosen) <= 1


@pytest.mark.parametrize("load", LOADS)
def test_a_door_that_does_not_tell_whom_it_turned_away_keeps_the_fleet_too_small(load: str) -> None:
    """Or the test above would hold whatever is done with what is told."""
    everybody, untold = (end_of(load, "give up", door, told) for door, told in ((None, Told.ALL), (EVERY, Told.NOBODY)))
    assert apart(everybody, untold) > 1
    assert all(untold.sizes[role] <= everybody.sizes[role] for role in Role)
    assert untold.score.rejected > 1.5 * end_of(load, "give up", EVERY).score.rejected


@pytest.mark.parametrize("load", LOADS)
def test_who_counts_those_twice_that_are_let_in_later_pays_for_more_replicas(load: str) -> None:
    """The door would grow the fleet that it is to spare."""
    once, twice = (end_of(load, "try again", EVERY, told) for told in (Told.ALL, Told.FIRST))
    assert sum(twice.sizes.values()) > sum(once.sizes.values())
    assert all(twice.sizes[role] >= once.sizes[role] for role in Role)
