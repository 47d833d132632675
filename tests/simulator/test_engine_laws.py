"""Whatever is asked of the fleet and whenever, is nothing lost, invented or overfilled?

conservation   every request offered is finished, refused, or in flight in exactly one place
KV             what a replica holds never exceeds its cache, and prefill holds just what was not fetched yet
sequences      residents never exceed max_seqs
life           names are unique; what leaves the fleet has nothing left in it; the last request ends
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.batch_server import BatchServer
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.workload import Kind, Lengths, constant
from tests.examples import examples
from tests.simulator.small_fleet import Answers, changed, engine, spec

TIGHT = changed(kv_tokens=2_000, max_seqs=3, decode_s=(0.02, 0.002, 1e-5), kv_bytes_per_token=1_000, link_bytes_per_s=1e7)
# Longer than kv_tokens now and then: those are refused.
KIND = Kind(Lengths(400, 1.0), Lengths(30, 1.0), cached_share=0.3)
MOVES = st.lists(st.tuples(st.floats(0.1, 15.0), st.sampled_from(list(Role)), st.integers(0, 4)), max_size=12)


def queues(fleet: Engine) -> list[QueueServer]:
    return [r.server for r in fleet.pools[Role.PREFILL].replicas if isinstance(r.server, QueueServer)]


def batches(fleet: Engine) -> list[BatchServer]:
    return [r.server for r in fleet.pools[Role.DECODE].replicas if isinstance(r.server, BatchServer)]


def check(fleet: Engine, answers: Answers) -> None:
    assert fleet.offered == len(answers.ttft_s) + len(answers.refusals) + len(fleet.in_flight)
    before = [job for server in queues(fleet) for job in (*server.queue, *filter(None, [server.current]))]
    handed = [*fleet.pools[Role.DECODE].unrouted, *(job for server in batches(fleet) for job in server.waiting)]
    places = (
        len(fleet.pools[Role.PREFILL].unrouted) + len(before) + len(handed) + sum(server.admitted for server in batches(fleet))
    )
    assert places == len(fleet.in_flight)
    for server in queues(fleet):
        holding = sum(job.request.prompt_tokens for job in handed if job.holder is server)
        begun = [server.current] if server.current else []
        assert holding + sum(job.request.prompt_tokens for job in begun) <= server.kv_held <= TIGHT.kv_tokens
        assert server.load == sum(job.request.prompt_tokens - job.request.cached_tokens for job in (*server.queue, *begun))
    for batch in batches(fleet):
        assert batch.resident_tokens <= batch.reserved + 1e-6 <= TIGHT.kv_tokens + 1e-6
        assert batch.residents == len(batch.batch) <= batch.admitted <= TIGHT.max_seqs
        assert batch.load == batch.reserved + sum(job.request.prompt_tokens + job.request.output_tokens for job in batch.waiting)
    names = [replica.name for pool in fleet.pools.values() for replica in pool.replicas]
    assert len(names) == len(set(names))
    for role, pool in fleet.fleet().pools.items():
        staying = pool.in_phase(Phase.STARTING, Phase.SERVING)
        assert len(staying) == pool.desired, f"{role} has {len(staying)} that stay, {pool.desired} were asked for"


@examples(60)
@given(seed=st.integers(0, 1_000), rate_rps=st.floats(0.5, 8.0), moves=MOVES)
def test_no_schedule_of_scaling_loses_or_overfills_anything(
    seed: int, rate_rps: float, moves: list[tuple[float, Role, int]]
) -> None:
    answers = Answers()
    requests = constant(Random(seed), KIND, rate_rps, duration_s=60.0)
    fleet = engine(requests, spec(1, 1, TIGHT, StartUp(5.0, 0.5)), answers)
    for wait_s, role, replicas in moves:
        fleet.advance(fleet.now + wait_s)
        check(fleet, answers)
        fleet.scale(role, replicas)
        check(fleet, answers)
    for role in Role:
        fleet.scale(role, 2)
    fleet.advance(fleet.now + 5_000.0)
    check(fleet, answers)
    assert fleet.exhausted
    assert all(server.kv_held == server.load == 0 for server in queues(fleet))
    assert all(server.reserved == server.load == 0 for server in batches(fleet))
    assert all(server.resident_tokens == server.steps == server.owed == 0.0 for server in batches(fleet)), "rounding is left"
    assert min(answers.ttft_s.values(), default=1.0) > 0
    assert min(answers.tpot_s.values(), default=0.0) >= 0


@examples(30)
@given(seed=st.integers(0, 1_000), cuts=st.lists(st.floats(0.01, 5.0), max_size=20))
def test_counters_never_go_down(seed: int, cuts: list[float]) -> None:
    fleet = engine(constant(Random(seed), KIND, 4.0, duration_s=40.0), spec(1, 2, TIGHT))
    last = [0.0] * 1_000
    for cut in cuts:
        fleet.advance(fleet.now + cut)
        fleet.refresh()
        metrics = [replica.server.metrics for pool in fleet.pools.values() for replica in pool.replicas]
        totals = [value for m in metrics for value in (m.generated_tokens, m.fetched_tokens, m.computed_tokens)]
        now = totals + [count for m in metrics for buckets in (m.itl_s, m.tpot_s, m.ttft_s) for count in buckets.counts]
        assert all(new >= old for new, old in zip(now, last, strict=False))
        last = now
