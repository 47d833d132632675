"""Fleets, classes and loads for the tests of early rejection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import strategies as st

from autoscaler.core.arrivals import Arrival, Burden, Own
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.judge import judge, look
from autoscaler.core.outlook import Crowd, Standing, Strategy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import Rules, Verdict

# A prompt of 1,000 tokens takes 0.1 s; a step 10 ms, and 20 us more for each thousand tokens held.
PROFILE = ReplicaProfile("test", (0.0, 1e-4, 0.0), (0.010, 0.0, 2e-8), kv_tokens=10_000_000, max_seqs=10_000)
SHAPE = Shape(1000.0, 1000.0, 200.0)
NOW = 1000.0
REPLICAS = 4
MEAN = Arrival(1000.0, 1000.0, 200.0)
PROMISES = {SloKind.TTFT: Promise(2.0, 1.0, 4.0), SloKind.TPOT: Promise(0.02, 0.02, 0.02)}
FREE = QosClass("free", PROMISES)
PREMIUM = QosClass("premium", PROMISES, priority=1, reserved=dict.fromkeys(Role, 0.4))


def line(waiting: float = 0.0, running: float = REPLICAS, idle: int = 0, **more: float) -> Crowd:
    """Prefill, with this many mean prompts waiting."""
    told = {"waiting_tokens": 1000 * waiting, "resident_tokens": 1000 * running} | more
    return Crowd(REPLICAS, idle, waiting, running, NOW - 1, told["waiting_tokens"], told["resident_tokens"])


def batch(running: float = 8.0, idle: int = 0, tokens: float = 1100.0, waiting: float = 0.0) -> Crowd:
    """Decode, with this many residents of so many tokens each."""
    return Crowd(REPLICAS, idle, waiting, running, NOW - 1, 0.0, running * tokens)


def standing(prefill: Crowd | None = None, decode: Crowd | None = None, share: float = 1.0) -> Standing:
    """A fleet that is busy and far from full, seen a second ago."""
    crowds = {Role.PREFILL: prefill or line(), Role.DECODE: decode or batch()}
    return Standing(crowds, PROFILE, SHAPE, stay_s=4.0, share=share)


# Beyond every promise: prefill has a backlog of ten minutes, decode steps take 30 ms.
FULL = standing(line(24_000), batch(3_700))


def rules(*classes: QosClass, strategy: Strategy = Strategy.PREDICTIVE, margin: float = 0.0, sureness: float = 0.9) -> Rules:
    """For these classes, the first being the default; one class alone if none is named."""
    known: Mapping[str, QosClass] = {one.name: one for one in classes or (FREE,)}
    return Rules(known, next(iter(known)), strategy=strategy, margin=margin, sureness=sureness)


def judged(arrival: Arrival, seen: Standing | None, own: Own, by: Rules, now: float) -> Verdict:
    """The verdict on one arrival by a look of its own."""
    return judge(arrival, look(seen, own, by, now))


def own_of(asks: Mapping[str, float]) -> Own:
    """A sidecar that let in so much prefill work (seconds, and KV tokens in proportion) of each class, none of it since the
    picture; all of them have just asked.
    """
    own = Own()
    for name, work_s in asks.items():
        own = own.admitted(Burden(work_s, 10_000 * work_s, NOW - 2), name, NOW - 2) if work_s else own.asked(name, NOW - 2)
    return own.since(NOW - 1)


counts = st.floats(0.0, 4000.0)
arrivals = st.builds(Arrival, st.floats(1.0, 30_000.0), st.none() | st.floats(1.0, 30_000.0), st.none() | st.floats(1.0, 4000.0))
prefills = st.builds(line, counts, st.floats(0.0, 8.0), st.integers(0, REPLICAS))
decodes = st.builds(batch, counts, st.integers(0, REPLICAS), st.floats(1.0, 20_000.0), counts)
standings = st.builds(standing, prefills, decodes, st.floats(0.05, 1.0))
burdens = st.builds(Burden, st.floats(0.0, 5.0), st.floats(0.0, 20_000.0), st.floats(NOW - 1, NOW + 60), st.floats(0.0, 50.0))
strategies = st.sampled_from(Strategy)


def _grown(found: list[Burden]) -> Own:
    """What let in these, one after the other, since the picture."""
    own = Own()
    for place, burden in enumerate(found):
        own = own.admitted(burden, "free", NOW - 0.9 + 0.2 * place)
    return own


owns = st.lists(burdens, max_size=3).map(_grown)


def busier(crowd: Crowd, more: float) -> Crowd:
    """The same crowd with more of everything, and nobody idle who was not."""
    return replace(
        crowd,
        idle=0 if more else crowd.idle,
        waiting=crowd.waiting + more,
        running=crowd.running + more,
        waiting_tokens=crowd.waiting_tokens + 1000 * more,
        resident_tokens=crowd.resident_tokens + 1000 * more,
    )
