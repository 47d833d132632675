"""What happens in the fleet, in which order?

A discrete-event run on a virtual clock. Requests arrive at the gateway (front.py), which sends each to a serving replica
of the first role; done there, it goes to one of the next role, until the last one has given its last token:

    pull   arrive -> [wait for prefill] -> prefill -> [wait for room in decode] -> fetch KV -> decode -> finish
    push   arrive -> [wait for room in decode] -> [wait for prefill] -> prefill -> fetch KV -> decode -> finish

With pull (vLLM) a prompt's KV stays in prefill until decode has room, and a full decode pool stalls prefill; with push
(SGLang) decode preallocates, and a slow prefill holds rooms empty in decode.

The user's TTFT runs from the arrival at the gateway to the first token out of decode, waiting, prefill, waiting and
fetching included: in a disaggregated engine nothing reaches the user before. TPOT is (finish - first token) /
(output - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from autoscaler.core.fleet import ROLE_FACTS, Fleet, Role, Sizing
from autoscaler.simulator.batch_server import BatchServer
from autoscaler.simulator.clients import NO, TurnedAway
from autoscaler.simulator.events import Agenda, Cause, Hooks, Job, Server, Site
from autoscaler.simulator.fleet_spec import FleetSpec, Handover, PoolSpec
from autoscaler.simulator.flights import Flights
from autoscaler.simulator.flips import Driver
from autoscaler.simulator.front import Admit, Front, Ledger, no_of
from autoscaler.simulator.link import SharedLink
from autoscaler.simulator.losses import Deaths
from autoscaler.simulator.metrics import ReplicaMetrics
from autoscaler.simulator.pools import PoolSetting, SimPool
from autoscaler.simulator.provisioning import Nodes
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.routing import router
from autoscaler.simulator.sidecars import Sidecars
from autoscaler.simulator.streams import stream
from autoscaler.simulator.workload import Request

__all__ = ["Engine", "FleetSpec", "Handover", "PoolSpec"]

_SERVERS: Mapping[Sizing, type[Server]] = {Sizing.QUEUE: QueueServer, Sizing.BATCH: BatchServer}


class Engine:
    """The fleet and its virtual clock. Requests must come sorted by arrival.

    `admit(request, now)` is asked at every try's arrival, instead of the fleet's own sidecars, `proceed` once its prompt is
    computed; without them nothing is rejected. A no may tell the client when to come again (clients.py).
    """

    def __init__(
        self,
        spec: FleetSpec,
        requests: Iterable[Request],
        ledger: Ledger | None = None,
        *,
        admit: Admit | None = None,
        proceed: Admit | None = None,
    ) -> None:
        self.spec, self.ledger = spec, ledger
        self.now = 0.0
        self._requests = iter(requests)
        self._next = next(self._requests, None)
        self._agenda = Agenda()
        self._sidecars = None
        if spec.sidecars is not None and admit is None:
            self._sidecars = Sidecars(spec.sidecars, spec.profile, spec.seed, self._agenda)
            admit = self._sidecars.admit
        self.front = Front(spec.longest, spec.retries, spec.seed, self._agenda, ledger, admit)
        self.gateway, self.in_flight = self.front.metrics, self.front.in_flight
        self._proceed = proceed
        self._entry = list(spec.pools)[-1 if spec.handover is Handover.PUSH else 0]
        self._nodes = Nodes(spec.nodes, spec.seed, self._agenda) if spec.nodes is not None else None
        self._flights, self._flip_ways = Flights(), spec.flip_ways()
        self.pools = self._build()
        if self._sidecars is not None:
            self._sidecars.pools = self.pools
        Deaths(spec.losses, spec.seed, self.pools, self._nodes, self._agenda)

    def advance(self, until_s: float) -> None:
        """Let everything happen up to and including `until_s`. An arrival comes before another event of its instant.

        Raises ValueError if `until_s` lies in the past, and what the requests' source raises.
        """
        if until_s < self.now:
            raise ValueError(f"until_s {until_s:g} is not >= now {self.now:g}")
        agenda = self._agenda
        while True:
            event_s = agenda.next_s
            arriving = self._next
            if arriving is not None and arriving.arrival_s <= event_s:
                if arriving.arrival_s > until_s:
                    break
                self._next = None
                self._arrive(arriving)
                self._next = next(self._requests, None)
            elif event_s <= until_s:
                self.now = event_s
                agenda.run_next()
            else:
                break
        self.now = until_s

    def close(self) -> None:
        """Nobody new arrives from now on."""
        self._next, self._requests = None, iter(())

    def scale(self, role: Role, replicas: int) -> None:
        """Ask for this many replicas of a role from now on. Raises ValueError below 0."""
        self.pools[role].scale(replicas, self.now)

    def flip(self, from_role: Role, to_role: Role, count: int, driver: Driver) -> None:
        """Change the role of `count` serving replicas, or do it `count` times (flips.py). ValueError if that cannot be done."""
        self._flights.add(driver.flip(self.pools[from_role], self.pools[to_role], count, self.now))
        if self.ledger is not None:
            self.ledger.flipped(from_role, to_role, count, self.now)

    def fleet(self) -> Fleet:
        """The fleet as the controller sees it."""
        pools = {role: pool.snapshot() for role, pool in self.pools.items()}
        return Fleet(self.spec.key, pools, self._flip_ways, self._flights.seen())

    def refresh(self) -> None:
        """Bring every replica's counters up to now, for somebody who is about to read them."""
        for pool in self.pools.values():
            for replica in pool.replicas:
                replica.refresh(self.now)

    @property
    def offered(self) -> int:
        """Requests that have arrived, each counted once however often it was sent."""
        return self.front.offered

    @property
    def exhausted(self) -> bool:
        """No request will arrive any more, none is in flight, and no client waits to try again."""
        return self._next is None and not self.in_flight and not self.front.waiting_clients

    def _build(self) -> dict[Role, SimPool]:
        """The pools, last role first, since each must know where its finished work goes."""
        spec, front = self.spec, self.front
        roles = list(spec.pools)
        pushes = spec.handover is Handover.PUSH
        network = None
        if spec.network_bytes_per_s is not None:
            fetching = spec.profile_of(roles[-1])
            network = SharedLink(spec.network_bytes_per_s, fetching, self._agenda)
        pools: dict[Role, SimPool] = {}
        done: Callable[[Job, float], None] = front.finish
        if self._sidecars is not None:
            done = self._sidecars.watching(done)

        def to_first(job: Job, now: float) -> None:
            pools[roles[0]].route(job, now)

        for role in reversed(roles):
            hooks = Hooks(front.first_token, self._letting_in(done) if role is self._entry else done, to_first)
            site = Site(self._agenda, hooks, network, pushes, spec.cache_tokens)
            pool = pools[role] = SimPool(role, self._setting(role, site))
            done = self._checked(_deliver if pushes else pool.route)
        front.enter = pools[self._entry].route
        for role, pool_spec in spec.pools.items():
            pools[role].seed(pool_spec.replicas, self.now)
        return {role: pools[role] for role in spec.pools}

    def _setting(self, role: Role, site: Site) -> PoolSetting:
        spec, kind, profile = self.spec, _SERVERS[ROLE_FACTS[role].sizing], self.spec.profile_of(role)

        def new_server(metrics: ReplicaMetrics | None) -> Server:
            return kind(profile, metrics or ReplicaMetrics(spec.max_model_len), site)

        def cold_start_s(ordinal: int) -> float:
            return spec.start_up.draw(stream(spec.seed, "cold start", role, ordinal))

        return PoolSetting(
            gpus_per_replica=spec.pools[role].gpus_per_replica,
            agenda=self._agenda,
            new_server=new_server,
            cold_start=cold_start_s,
            choose=router(spec.routing),
            fail=self._fail_all,
            drain_deadline_s=spec.drain_deadline_s,
            places=self._nodes,
            most_per_replica=spec.gateway_holds_above if role is self._entry else None,
        )

    def _letting_in(self, go_on: Callable[[Job, float], None]) -> Callable[[Job, float], None]:
        """`go_on`, and then the gateway may let the next one in."""
        if self.spec.gateway_holds_above is None:
            return go_on

        def letting_in(job: Job, now: float) -> None:
            go_on(job, now)
            self.pools[self._entry].dispatch(now)

        return letting_in

    def _checked(self, go_on: Callable[[Job, float], None]) -> Callable[[Job, float], None]:
        """`go_on`, for those that may proceed."""
        proceed = self._proceed
        if proceed is None:
            return go_on

        def checked(job: Job, now: float) -> None:
            answer = proceed(job.request, now)
            if answer:
                go_on(job, now)
            else:
                self._fail(job, Cause.REJECTED, now, no_of(answer))

        return checked

    def _arrive(self, request: Request) -> None:
        if request.arrival_s < self.now:
            raise ValueError(f"request {request.id} arrives at {request.arrival_s:g} s, after one at {self.now:g} s")
        self.now = request.arrival_s
        self.front.arrive(request, self.now)

    def _fail(self, job: Job, cause: Cause, now: float, no: TurnedAway = NO) -> None:
        """Take a request out of wherever it stands, and tell the gateway."""
        for server in (job.holder, job.target):
            if server is not None:
                server.forget(job, now)
        for pool in self.pools.values():
            if job in pool.unrouted:
                pool.unrouted.remove(job)
        self.front.fail(job, cause, now, no)
        self.pools[self._entry].dispatch(now)

    def _fail_all(self, server: Server, cause: Cause, now: float) -> None:
        """A replica's work is lost: what it computes, what it holds for others, and what it has promised room to."""
        lost = [job for job in self.in_flight.values() if job.holder is server or job.target is server]
        server.drain(now, _nobody)
        for job in lost:
            self._fail(job, cause, now)


def _deliver(job: Job, now: float) -> None:
    """The room was promised before: the prompt's KV goes there."""
    if job.target is None:
        raise RuntimeError(f"request {job.request.id} was computed without a promise of room, at {now:g} s")
    job.target.deliver(job, now)


def _nobody(now: float) -> None:
    """Nobody waits for this server to be empty."""
