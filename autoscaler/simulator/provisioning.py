"""Where does a new replica run, and how long until there is a place?

`Nodes` is the part of the cluster the fleet may use. A replica that is asked for goes through, in this order:

    quota   all its replicas together may not hold more than `quota_gpus`; beyond, no pod is made   -> NOT_CREATED
    room    the first node with enough free GPUs takes it; if none has, it is pending               -> UNSCHEDULABLE
    growth  a node is ordered for what is pending, up to `most` nodes; it comes after `delay`;
            beyond `most` none will ever come                                                       -> NODES_REFUSED

Whatever frees GPUs lets those that wait have their turn, the oldest first; a small one may pass a large one that does not
fit. A node that was ordered and has been empty for `idle_s` goes again (10 minutes is the Cluster Autoscaler's default),
so the next growth waits once more. Under the fleet as it stands when a run begins there are nodes enough, up to `most`: they
have come before. Until a replica has its place it holds no GPU and costs none; then it starts, cold.

Without `NodeSpec` there is always room. Left out: replicas over several nodes, and other tenants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from autoscaler.core.fleet import Lack, Shortage
from autoscaler.simulator.events import Agenda
from autoscaler.simulator.pool_setting import Placed, StartUp
from autoscaler.simulator.streams import stream

SAID = {
    Lack.NOT_CREATED: "exceeded quota of {quota} GPUs",
    Lack.UNSCHEDULABLE: "no node has {gpus} free GPUs",
    Lack.NODES_REFUSED: "no node has {gpus} free GPUs, max node count {most} reached",
}


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """`ready` nodes at the beginning that always stay, `most` at all, `gpus` on each; `delay` until an ordered one is there."""

    ready: int
    most: int
    gpus: int = 8
    delay: StartUp = StartUp(120.0, 0.25)
    idle_s: float = 600.0
    quota_gpus: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ready <= self.most:
            raise ValueError(f"ready nodes {self.ready} is not 0..{self.most}, the most there may be")
        if self.gpus < 1:
            raise ValueError(f"GPUs per node {self.gpus} is not >= 1")


@dataclass(slots=True)
class _Node:
    """One node: its free GPUs, and since when nothing runs on it."""

    number: int
    free_gpus: int
    empty_s: float


@dataclass(slots=True)
class _Claim:
    """One replica's wish for GPUs. `node` None: it waits; `created` False: the quota does not even let its pod exist."""

    gpus: int
    asked_s: float
    placed: Placed
    node: _Node | None = None
    created: bool = False


class Nodes:
    """The nodes and who runs on them. Claimants are whatever the caller knows a replica by."""

    def __init__(self, spec: NodeSpec, seed: int, agenda: Agenda) -> None:
        self.spec, self._seed, self._agenda = spec, seed, agenda
        self._nodes = [_Node(number, spec.gpus, 0.0) for number in range(spec.ready)]
        self._claims: dict[Hashable, _Claim] = {}
        self._ordered, self._coming = spec.ready, 0

    @property
    def standing(self) -> int:
        """Nodes that are there."""
        return len(self._nodes)

    def ask(self, claimant: Hashable, gpus: int, placed: Placed, now: float) -> None:
        """Have `placed(time)` called when this claimant has its GPUs, perhaps at once. ValueError if no node is that large."""
        if gpus > self.spec.gpus:
            raise ValueError(f"a replica of {gpus} GPUs fits on no node of {self.spec.gpus}")
        self._claims[claimant] = _Claim(gpus, now, placed)
        self._settle(now)

    def stand(self, gpus: int, now: float) -> None:
        """Have room for one replica of so many GPUs that was there before the run began, if a node more is allowed."""
        if self._room_for(gpus) is None and self.standing < self.spec.most:
            self._add(self._ordered, now)
            self._ordered += 1

    def give_back(self, claimant: Hashable, now: float) -> None:
        """The claimant is gone, or wants no longer."""
        self._free(self._claims.pop(claimant), now)
        self._settle(now)

    def lack_of(self, claimant: Hashable) -> tuple[Lack, float, str] | None:
        """Why this claimant has no place, since when, and in which words; None if it has one."""
        claim = self._claims[claimant]
        if claim.node is not None:
            return None
        lack = Lack.UNSCHEDULABLE
        if not claim.created:
            lack = Lack.NOT_CREATED
        elif self.standing >= self.spec.most:
            lack = Lack.NODES_REFUSED
        return lack, claim.asked_s, SAID[lack].format(quota=self.spec.quota_gpus, gpus=claim.gpus, most=self.spec.most)

    def occupied(self) -> list[int]:
        """The numbers of the nodes on which something runs."""
        return [node.number for node in self._nodes if node.free_gpus < self.spec.gpus]

    def lose(self, number: int, now: float) -> list[Hashable]:
        """A node dies: it is gone, and so are the places of those on it, who are returned. Each must still give back."""
        self._nodes = [node for node in self._nodes if node.number != number]
        return [who for who, claim in self._claims.items() if claim.node is not None and claim.node.number == number]

    def _free(self, claim: _Claim, now: float) -> None:
        node = claim.node
        if node is None or node not in self._nodes:
            return
        node.free_gpus += claim.gpus
        if node.free_gpus == self.spec.gpus:
            node.empty_s = now
            self._agenda.at(now + self.spec.idle_s, self._retire, (node, now))

    def _settle(self, now: float) -> None:
        """Give everybody who waits what there is, the oldest first, then order nodes for the rest."""
        created_gpus = sum(claim.gpus for claim in self._claims.values() if claim.created)
        waiting = [claim for claim in self._claims.values() if claim.node is None]
        placed = []
        for claim in waiting:
            if not claim.created and (self.spec.quota_gpus is None or created_gpus + claim.gpus <= self.spec.quota_gpus):
                claim.created = True
                created_gpus += claim.gpus
            claim.node = self._room_for(claim.gpus) if claim.created else None
            if claim.node is not None:
                claim.node.free_gpus -= claim.gpus
                placed.append(claim)
        self._order([claim.gpus for claim in waiting if claim.created and claim.node is None], now)
        for claim in placed:
            claim.placed(now)

    def _room_for(self, gpus: int) -> _Node | None:
        return next((node for node in self._nodes if node.free_gpus >= gpus), None)

    def _order(self, pending_gpus: list[int], now: float) -> None:
        per_node = self.spec.gpus
        needed = _nodes_for(pending_gpus, per_node)
        for _ in range(min(needed - self._coming, self.spec.most - self.standing - self._coming)):
            delay_s = self.spec.delay.draw(stream(self._seed, "node", self._ordered))
            self._agenda.at(now + delay_s, self._come, self._ordered)
            self._ordered += 1
            self._coming += 1

    def _come(self, number: int, now: float) -> None:
        self._coming -= 1
        self._add(number, now)
        self._settle(now)

    def _add(self, number: int, now: float) -> None:
        node = _Node(number, self.spec.gpus, now)
        self._nodes.append(node)
        self._agenda.at(now + self.spec.idle_s, self._retire, (node, now))

    def _retire(self, node_since: tuple[_Node, float], now: float) -> None:
        node, empty_s = node_since
        idle = node.free_gpus == self.spec.gpus and node.empty_s == empty_s
        if idle and node in self._nodes and self.standing > self.spec.ready:
            self._nodes.remove(node)


def shortages(lacking: Iterable[tuple[Lack, float, str]]) -> tuple[Shortage, ...]:
    """What `lack_of` told of several claimants as the controller sees it: one per reason, told when it was last met."""
    told = list(lacking)
    counts = Counter(lack for lack, _, _ in told)
    newest = {lack: (at_s, text) for lack, at_s, text in sorted(told)}
    return tuple(Shortage(lack, counts[lack], at_s, text) for lack, (at_s, text) in newest.items())


def _nodes_for(pending_gpus: list[int], per_node: int) -> int:
    """How many empty nodes these fill, first fit, the largest first."""
    free: list[int] = []
    for gpus in sorted(pending_gpus, reverse=True):
        place = next((index for index, left in enumerate(free) if left >= gpus), None)
        if place is None:
            free.append(per_node - gpus)
        else:
            free[place] -= gpus
    return len(free)
