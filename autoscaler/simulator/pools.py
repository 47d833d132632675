"""Which replicas does a role have, and what happens when that number changes?

    more    new replicas STARTING; each serves after its own cold start, lognormal around the median (models.md B6),
            counted from when there is a place for it (provisioning.py)
    fewer   those still STARTING go first, newest first, at once; then the highest ordinals are DRAINED: no new work,
            what has not begun moves to the others, the rest is finished, then the replica goes
            (a LeaderWorkerSet also removes its highest ordinals; engines.md 0.2). What is not finished by the drain's
            deadline fails
    lost    a replica that dies takes its work with it, and another starts in its place

Ordinals are never used again, so one name is one life and its counters never start over. A replica holds its GPUs
from the moment it has its place until it is gone. Work for which nobody serves waits in the pool, in order; so does work
beyond `most_per_replica` unfinished requests on each, which is how a gateway holds back what would only queue elsewhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter

from autoscaler.core.fleet import Lack, Phase, Pool, Replica, Role
from autoscaler.simulator.events import Cause, Job, Server
from autoscaler.simulator.pool_setting import Placed, Places, PoolSetting, StartUp
from autoscaler.simulator.provisioning import shortages
from autoscaler.simulator.replicas import SimReplica

__all__ = ["Placed", "Places", "PoolSetting", "SimPool", "SimReplica", "StartUp"]

STAYING = frozenset({Phase.STARTING, Phase.SWITCHING, Phase.SERVING})


class SimPool:
    """The replicas of one role. `desired` shall stay; `incoming` of them have not left another role yet. Those that are `lent`
    serve beside them until others have taken their place.
    """

    def __init__(self, role: Role, setting: PoolSetting) -> None:
        self.role, self.setting, self.gpus_per_replica = role, setting, setting.gpus_per_replica
        self.desired = self.incoming = 0
        self.replicas: list[SimReplica] = []
        self.lent: list[SimReplica] = []
        self.unrouted: deque[Job] = deque()
        self._serving: list[Server] = []
        self._choose, self._most = setting.choose, setting.most_per_replica
        self._ordinal = 0
        self._gpu_s_of_the_gone = 0.0

    def route(self, job: Job, now: float) -> None:
        """Give a request to a replica that serves."""
        serving = self._serving if self._most is None else self._open()
        if not serving:
            self.unrouted.append(job)
        elif len(serving) == 1:
            serving[0].take(job, now)
        else:
            self._choose(serving, job.request).take(job, now)

    def dispatch(self, now: float) -> None:
        """Give out what waits here, as far as anybody may take it."""
        while self.unrouted and self._open():
            self.route(self.unrouted.popleft(), now)

    def scale(self, replicas: int, now: float) -> None:
        """Ask for this many; what is too many is first given up on its way from another role. Raises ValueError below 0."""
        if replicas < 0:
            raise ValueError(f"{self.role} replicas {replicas} is not >= 0")
        self.desired = replicas
        self.fill(now)
        staying = sorted(self._staying(), key=_first_to_go)
        self._shrink(staying[: max(0, len(staying) - replicas)], now)

    @property
    def missing(self) -> int:
        """How many more replicas must start or come; below 0 if there are too many."""
        return self.desired - len(self._staying()) - self.incoming

    @property
    def promised(self) -> int:
        """How many are still wanted of those that have not left another role yet."""
        return min(self.incoming, max(0, self.desired - len(self._staying())))

    def fill(self, now: float) -> list[SimReplica]:
        """Start what is missing."""
        return [self._start(now) for _ in range(self.missing)]

    def seed(self, replicas: int, now: float) -> None:
        """Have this many more, serving at once: the fleet as it stands when a run begins. Those for which there is no room wait
        for some, and start cold when it comes.
        """
        self.desired += replicas
        for _ in range(replicas):
            if self.setting.places is not None:
                self.setting.places.stand(self.gpus_per_replica, now)
            replica = self._add(now)
            self._find_place(replica, partial(self._begin_or_stand, replica, now), now)

    def serving(self) -> list[SimReplica]:
        """The replicas that take work, the one with the least load first, the lowest ordinal among equals."""
        found = [replica for replica in self.replicas if replica.phase is Phase.SERVING]
        return sorted(found, key=attrgetter("server.load", "ordinal"))

    def replaced(self, replicas: Sequence[SimReplica], now: float) -> None:
        """Those that were lent have been replaced: they drain and go."""
        here = [replica for replica in replicas if replica in self.lent]
        self.lent = [replica for replica in self.lent if replica not in here]
        self.retire(here, self.remove, now)

    def retire(self, replicas: Sequence[SimReplica], then: Callable[[SimReplica, float], None], now: float) -> None:
        """Drain them; `then` is called for each that is empty, or whose deadline has come, or that died meanwhile."""
        for replica in replicas:
            replica.enter(Phase.DRAINING, now)
            replica.leaving = then
        self.list_serving()
        for replica in replicas:
            if self.setting.drain_deadline_s < math.inf:
                self.setting.agenda.at(now + self.setting.drain_deadline_s, self._cut_short, (replica, now))
            for job in replica.let_finish(now):
                self.route(job, now)

    def adopt(self, replica: SimReplica, switch_s: float, now: float) -> None:
        """Take over a replica of another role; it serves after `switch_s`, with nothing of its former work in memory."""
        replica.server, replica.moved_s = self.setting.new_server(replica.server.metrics), now
        self.replicas.append(replica)
        self._pay(replica, now)
        if switch_s > 0:
            replica.enter(Phase.SWITCHING, now)
            self.setting.agenda.at(now + switch_s, self._serve, replica)
        else:
            self._serve(replica, now)

    def release(self, replica: SimReplica, now: float) -> None:
        """It belongs to this pool no longer; its place is still its own."""
        self.replicas.remove(replica)
        if replica in self.lent:
            self.lent.remove(replica)
        if replica.paid_s is not None:
            self._gpu_s_of_the_gone += (now - replica.paid_s) * self.gpus_per_replica
        self.list_serving()
        replica.tell_that_it_came(now)

    def remove(self, replica: SimReplica, now: float) -> None:
        """It is gone for good."""
        self.release(replica, now)
        if self.setting.places is not None:
            self.setting.places.give_back(replica, now)

    def lose(self, replica: SimReplica, cause: Cause, now: float) -> None:
        """It dies with all its work. One that was to stay is replaced."""
        replica.dead = True
        replica.enter(Phase.STUCK, now)
        self.list_serving()
        for server in {replica.server: None, **dict.fromkeys(replica.busy)}:
            self.setting.fail(server, cause, now)
        if replica.leaving is not None:
            replica.go(now)
        else:
            self.remove(replica, now)
            self.fill(now)

    def snapshot(self) -> Pool:
        """The pool as the controller sees it: a replica that a quota refuses has no pod to be seen."""
        lacking = self._lacking()
        seen = (one for one in self.replicas if one not in lacking or lacking[one][0] is not Lack.NOT_CREATED)
        replicas = tuple(Replica(one.name, one.phase, one.since_s, one.asked_s, moved_s=one.moved_s) for one in seen)
        gpus, told = self.gpus_per_replica, shortages(lacking.values())
        return Pool(self.role, self.desired, replicas, gpus, shortages=told, leaving=len(self.lent))

    def exposed(self) -> Iterable[SimReplica]:
        """The replicas whose metrics can be scraped: one that starts or restarts does not answer."""
        return (replica for replica in self.replicas if replica.phase in (Phase.SERVING, Phase.DRAINING))

    def gpu_s(self, now: float) -> float:
        """GPU-seconds held so far, starting and draining replicas included."""
        alive_s = sum(now - replica.paid_s for replica in self.replicas if replica.paid_s is not None)
        return self._gpu_s_of_the_gone + alive_s * self.gpus_per_replica

    def list_serving(self) -> None:
        """Look again who takes work."""
        self._serving = [replica.server for replica in self.replicas if replica.phase is Phase.SERVING]

    def _open(self) -> list[Server]:
        most = math.inf if self._most is None else self._most
        return [server for server in self._serving if server.requests < most]

    def _staying(self) -> list[SimReplica]:
        return [replica for replica in self.replicas if replica.phase in STAYING and replica not in self.lent]

    def _lacking(self) -> dict[SimReplica, tuple[Lack, float, str]]:
        places = self.setting.places
        if places is None:
            return {}
        waiting = (replica for replica in self.replicas if replica.paid_s is None)
        return {replica: lack for replica in waiting if (lack := places.lack_of(replica)) is not None}

    def _add(self, now: float) -> SimReplica:
        replica = SimReplica(self.role, self._ordinal, now, self.setting.new_server(None))
        self._ordinal += 1
        self.replicas.append(replica)
        return replica

    def _start(self, now: float) -> SimReplica:
        replica = self._add(now)
        self._find_place(replica, partial(self._begin, replica), now)
        return replica

    def _find_place(self, replica: SimReplica, placed: Placed, now: float) -> None:
        if self.setting.places is None:
            placed(now)
        else:
            self.setting.places.ask(replica, self.gpus_per_replica, placed, now)

    def _begin(self, replica: SimReplica, now: float) -> None:
        self._pay(replica, now)
        self.setting.agenda.at(now + self.setting.cold_start(replica.ordinal), self._serve, replica)

    def _begin_or_stand(self, replica: SimReplica, asked_s: float, now: float) -> None:
        if now > asked_s:
            self._begin(replica, now)
        else:
            self._pay(replica, now)
            self._serve(replica, now)

    def _pay(self, replica: SimReplica, now: float) -> None:
        replica.paid_s = now

    def _serve(self, replica: SimReplica, now: float) -> None:
        if replica not in self.replicas:  # given up while it started
            return
        replica.enter(Phase.SERVING, now)
        self.list_serving()
        self.dispatch(now)
        replica.tell_that_it_came(now)

    def _shrink(self, victims: list[SimReplica], now: float) -> None:
        for replica in victims:
            if replica.phase is not Phase.SERVING:
                self.remove(replica, now)
        self.retire([replica for replica in victims if replica.phase is Phase.SERVING], self.remove, now)

    def _cut_short(self, drain: tuple[SimReplica, float], now: float) -> None:
        replica, began_s = drain
        if replica.leaving is None or replica.since_s != began_s:
            return
        for server in list(replica.busy):
            self.setting.fail(server, Cause.DRAIN_DEADLINE, now)
        replica.go(now)


def _first_to_go(replica: SimReplica) -> tuple[bool, int]:
    """Starting before serving, then the highest ordinal: `prefill-7` before `prefill-2`."""
    return replica.phase is Phase.SERVING, -replica.ordinal
