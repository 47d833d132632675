"""With deaths, flips, deadlines, rejections, retries and scarce nodes: is still nothing lost, invented or overfilled?

conservation   every request offered ended once, is in flight in exactly one place, or its client waits to try again
memory         a prefill replica holds just what was not fetched, a decode replica what it promised
size           what stays, or is on its way from another role, is what was asked for
places         GPUs in use on nodes are those of the replicas that have a place
repeatability  the same seed gives the same run, to the last digit
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Phase, Role, SloKind
from autoscaler.simulator.batch_server import BatchServer
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.engine import Engine, FleetSpec, Handover
from autoscaler.simulator.events import Server
from autoscaler.simulator.flips import DRAINED_LABEL, ENGINE_SWITCH, LABEL, PairedResize
from autoscaler.simulator.losses import NodeLoss, ReplicaLoss
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.provisioning import Nodes, NodeSpec
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.scenario_conditions import SidecarsSpec
from autoscaler.simulator.workload import Request
from tests.examples import examples
from tests.simulator.small_fleet import Answers, changed, even

TIGHT = changed(kv_tokens=3_000, max_seqs=3, decode_s=(0.02, 0.002, 1e-5), kv_bytes_per_token=1_000, link_bytes_per_s=1e7)
DRIVERS = [LABEL, DRAINED_LABEL, ENGINE_SWITCH, PairedResize(), PairedResize(2, 1), PairedResize(1, 2, grows_first=True)]
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.9), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.9)}
LOSSES = st.lists(
    st.one_of(st.builds(NodeLoss, st.floats(1.0, 80.0)), st.builds(ReplicaLoss, st.floats(1.0, 80.0), st.sampled_from(Role))),
    max_size=4,
)
SPECS = st.builds(
    even,
    profile=st.sampled_from([TIGHT, changed(TIGHT, decode_beyond=(2.0, (0.03, 0.003, 1e-5)))]),
    seed=st.integers(0, 50),
    start_up=st.just(StartUp(5.0, 0.5)),
    routing=st.sampled_from(Routing),
    handover=st.sampled_from(Handover),
    network_bytes_per_s=st.sampled_from([None, 2e6]),
    cache_tokens=st.sampled_from([0, 4_096]),
    drain_deadline_s=st.sampled_from([0.0, 0.5, 8.0, 1e9]),
    retries=st.sampled_from([Retries(0), Retries()]),
    nodes=st.sampled_from([None, NodeSpec(2, 3, 2, StartUp(4.0)), NodeSpec(1, 2, 4, StartUp(4.0), quota_gpus=5)]),
    losses=LOSSES.map(tuple),
    gateway_holds_above=st.sampled_from([None, 1, 3]),
    profiles=st.sampled_from([{}, {Role.PREFILL: changed(TIGHT, kv_tokens=2_000)}]),
    sidecars=st.sampled_from([None, None, SidecarsSpec().core(SLOS)]),
)
MOVES = st.lists(
    st.tuples(st.floats(0.1, 12.0), st.sampled_from(Role), st.one_of(st.integers(0, 4), st.sampled_from(DRIVERS))), max_size=10
)


def traffic(seed: int) -> Iterator[Request]:
    """60 s, 4 requests a second, prompts that share their first blocks."""
    rng, now = Random(seed), 0.0
    for number in range(240):
        now += rng.expovariate(4.0)
        prompt = rng.randint(1, 1_500)
        chat = rng.randrange(4)
        yield Request(number, now, prompt, 0, rng.randint(1, 60), tuple(10 * chat + block for block in range(prompt // 512)))


def servers(fleet: Engine) -> list[Server]:
    replicas = [replica for pool in fleet.pools.values() for replica in pool.replicas]
    return [server for replica in replicas for server in dict.fromkeys((replica.server, *replica.busy))]


def check(fleet: Engine, answers: Answers) -> None:
    ended = len(answers.ttft_s) + len(answers.refusals) + len(answers.given_up_for)
    assert fleet.offered == ended + len(fleet.in_flight) + len(fleet.front.waiting_clients)
    queues = [server for server in servers(fleet) if isinstance(server, QueueServer)]
    batches = [server for server in servers(fleet) if isinstance(server, BatchServer)]
    places = len(fleet.pools[Role.DECODE].unrouted) + sum(server.requests for server in batches)
    if fleet.spec.handover is Handover.PULL:
        places += len(fleet.pools[Role.PREFILL].unrouted) + sum(server.requests for server in queues)
    assert places == len(fleet.in_flight) == fleet.gateway.running
    for queue in queues:
        held = [job for job in fleet.in_flight.values() if job.holder is queue and (job.computed or job is queue.current)]
        assert sum(job.request.prompt_tokens for job in held) == queue.kv_held <= queue.profile.kv_tokens
        assert sum(job.uncached_tokens for job in (*queue.queue, *filter(None, [queue.current]))) == queue.load
    for batch in batches:
        mine = [job for job in fleet.in_flight.values() if job.target is batch]
        promised = sum(job.request.prompt_tokens + job.request.output_tokens for job in mine if job not in batch.waiting)
        assert batch.resident_tokens <= batch.reserved + 1e-6
        assert promised == batch.reserved <= TIGHT.kv_tokens
        on_their_way = [job for job in mine if job not in batch.waiting and job.first_token_s == inf]
        assert sum(job.request.prompt_tokens for job in on_their_way) == batch.incoming_tokens
        assert (len(mine), len(batch.batch)) == (batch.requests, batch.residents)
        assert batch.admitted <= TIGHT.max_seqs
    entry = fleet.pools[fleet._entry]
    assert not (entry.unrouted and entry._open()), "the gateway holds what a replica might take"
    check_sizes(fleet)


def check_sizes(fleet: Engine) -> None:
    names = [replica.name for pool in fleet.pools.values() for replica in pool.replicas]
    assert len(names) == len(set(names))
    for pool in fleet.pools.values():
        there = [one for one in pool.replicas if one.phase in (Phase.STARTING, Phase.SWITCHING, Phase.SERVING)]
        staying = [one for one in there if one not in pool.lent]
        assert len(staying) <= pool.desired <= len(staying) + pool.incoming
    nodes = fleet._nodes
    if isinstance(nodes, Nodes):
        used = nodes.standing * nodes.spec.gpus - sum(node.free_gpus for node in nodes._nodes)
        assert used == sum(replica.paid_s is not None for pool in fleet.pools.values() for replica in pool.replicas)
        assert nodes.standing <= nodes.spec.most


def lived(spec: FleetSpec, moves: list[tuple[float, Role, object]]) -> tuple[Engine, Answers]:
    """A run through all of it, checked at each step, then left alone until everything has ended."""
    answers = Answers()
    admit = None if spec.sidecars else lambda request, _: request.id % 17 > 0
    fleet = Engine(spec, traffic(spec.seed), answers, admit=admit, proceed=lambda r, _: r.id % 13 > 0)
    for wait_s, role, move in moves:
        fleet.advance(fleet.now + wait_s)
        check(fleet, answers)
        if isinstance(move, int):
            fleet.scale(role, move)
        elif len(fleet.pools[role].serving()) >= 2 + len(fleet.pools[role].lent):
            other = next(one for one in Role if one is not role)
            fleet.flip(role, other, 1, move)  # type: ignore[arg-type]
        check(fleet, answers)
    for role in Role:
        fleet.scale(role, 2)
    fleet.advance(fleet.now + 5_000.0)
    check(fleet, answers)
    return fleet, answers


@examples(40)
@given(spec=SPECS, moves=MOVES)
def test_no_hardship_loses_or_overfills_anything(spec: FleetSpec, moves: list[tuple[float, Role, object]]) -> None:
    fleet, answers = lived(spec, moves)
    if all(len(pool.serving()) == pool.desired for pool in fleet.pools.values()):
        assert fleet.exhausted
        assert all(server.load == server.requests == 0 for server in servers(fleet))
    assert min(answers.ttft_s.values(), default=1.0) > 0
    assert min(answers.tpot_s.values(), default=0.0) >= 0


@examples(10)
@given(spec=SPECS, moves=MOVES)
def test_the_same_seed_gives_the_same_run_to_the_last_digit(spec: FleetSpec, moves: list[tuple[float, Role, object]]) -> None:
    one, other = lived(spec, moves)[1], lived(replace(spec), moves)[1]
    assert (one.ttft_s, one.tpot_s, one.given_up_for, one.flips) == (other.ttft_s, other.tpot_s, other.given_up_for, other.flips)
