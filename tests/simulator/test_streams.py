"""Does what one policy draws leave what another sees unchanged?"""

from __future__ import annotations

from autoscaler.core.fleet import Role
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.streams import stream
from tests.simulator.small_fleet import engine, even


def test_each_key_has_a_stream_of_its_own_and_always_the_same() -> None:
    made = [stream(1, "node", 2), stream(1, "node", 3), stream(1, "loss", 2), stream(2, "node", 2), stream(1, "node", 2, 3)]
    drawn = [rng.random() for rng in made]
    assert len(set(drawn)) == len(drawn)
    assert stream(1, "node", 2).random() == drawn[0] == 0.8244228845761167, "on every machine"


def test_a_replica_has_the_same_cold_start_whenever_and_after_whomever_it_is_asked_for() -> None:
    def serves_after_s(hasty: bool) -> float:
        fleet = engine([], even(start_up=StartUp(90.0, 0.5)))
        if hasty:
            fleet.scale(Role.PREFILL, 7)
            fleet.scale(Role.DECODE, 4)
        fleet.advance(1_000.0)
        asked_s = fleet.now if not hasty else 0.0
        fleet.scale(Role.DECODE, 4)
        fleet.advance(5_000.0)
        return next(one.since_s - asked_s for one in fleet.pools[Role.DECODE].replicas if one.name == "decode-3")

    assert round(serves_after_s(True), 9) == round(serves_after_s(False), 9)
