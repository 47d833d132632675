"""Which replicas do which role now, and which will when all that is under way has ended?

A replica is of the target that made it, and does the role that the router is told: the value of its leader's label. A pod
that is made anew has its template's label again, so a flipped replica that was lost counts in its first role at once. Where
no label tells, a replica does its target's role.

The controller sees a fleet as it is going to be, so that no tick decides twice what is under way:

    desired     the target's count, or the one that a transaction leads it to; less the replicas it has lent to other roles,
                more those that it has borrowed
    draining    victims until they go or change, held on top of `desired`
    switching   victims on their way into their new role, in the pool that gets them
    starting    victims that go back into routing
    leaving     victims of a surge that still serve until others do

A count that a transaction has written already, and seen written, is the target's again: who scales it by hand is seen at once.
A victim whose pod is missing comes back under its name for as long as its target's count includes it, so its GPUs are held.

A replica that bears the label's word for "away" without any transaction was taken out by somebody: it is `STUCK`, serves
nobody, and is told. One whose label we have written keeps its role since then, not since its pod is Ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from autoscaler.adapters.kubernetes.pods import Pod, groups, replicas
from autoscaler.adapters.kubernetes.standing import Standing
from autoscaler.core.fleet import Flipping, Phase, Pool, Replica, Role
from autoscaler.core.transaction import IN_PLACE, PATHS, Heading, Kind, Step, Transaction, heading
from autoscaler.policy.routing import Routing

# How a victim that still stands is seen at each step; None: as its pods say.
ON_ITS_WAY: Mapping[Step, Phase] = {
    Step.LEAVE: Phase.DRAINING,
    Step.IDLE: Phase.DRAINING,
    Step.SHRINK: Phase.DRAINING,
    Step.GONE: Phase.DRAINING,
    Step.SWITCH: Phase.SWITCHING,
    Step.JOIN: Phase.SWITCHING,
    Step.REJOIN: Phase.STARTING,
    Step.REMAKE: Phase.STARTING,
}
FLIP_PHASES: Mapping[Step, Phase] = {**ON_ITS_WAY, Step.REJOIN: Phase.DRAINING, Step.REMAKE: Phase.SWITCHING}
OF_DONOR = frozenset({Step.SHRINK, Step.REGROW})  # steps that write the donor's count
OF_RECEIVER = frozenset({Step.GROW, Step.UNGROW})


@dataclass(frozen=True, slots=True)
class Living:
    """One replica: whose target made it, which role it does, its number if it has one, its leader pod, and how it is seen."""

    home: Role
    role: Role
    replica: Replica
    leader: Pod
    away: bool = False

    @property
    def number(self) -> int | None:
        """Its ordinal in a stateful set."""
        return self.leader.ordinal


def living(standings: Mapping[Role, Standing], routing: Routing | None, now: float) -> tuple[Living, ...]:
    """Every replica of a fleet as its pods and labels say."""
    return tuple(one for home, standing in standings.items() for one in _of(home, standing, routing, now))


def _of(home: Role, standing: Standing, routing: Routing | None, now: float) -> Iterator[Living]:
    members = groups(standing.pods, standing.desired, standing.updating)
    label = None if routing is None else routing.label
    roles = {} if routing is None or label is None else {value: role for role, value in routing.values.items()}
    for replica in replicas(standing.pods, standing.desired, standing.updating, now):
        leader = next((pod for pod in members[replica.name] if pod.name == replica.name), members[replica.name][0])
        value = "" if label is None else leader.labels.get(label, "")
        away = routing is not None and label is not None and value == routing.away
        yield Living(home, roles.get(value, home), replica if label is None else _since(replica, leader, now), leader, away)


def _since(replica: Replica, leader: Pod, now: float) -> Replica:
    """With the time since when it does its role."""
    if leader.written_s is None or replica.phase is not Phase.SERVING:
        return replica
    written_s = min(leader.written_s, now)
    return replace(replica, since_s=min(max(replica.since_s, written_s), now), moved_s=written_s)


def pools(
    standings: Mapping[Role, Standing],
    replicas: tuple[Living, ...],
    under_way: tuple[Transaction, ...],
    gpus: Mapping[Role, int],
) -> Mapping[Role, Pool]:
    """The pools as they are going to be. `gpus` of one replica, by role."""
    ahead = _ahead(under_way, standings)
    meant = {one.replica.name: found for one in replicas if (found := about(one, under_way)) is not None}
    seen = [_seen(one, meant.get(one.replica.name)) for one in replicas]
    made = {}
    for role, standing in standings.items():
        own = tuple(one.replica for one in seen if one.role is role)
        own += tuple(_missing(role, standing, replicas, under_way))
        leaving = sum(_lingers(meant.get(one.name)) and one.phase is Phase.SERVING for one in own)
        desired = ahead.counts[role] + _net(role, replicas, ahead, meant)
        made[role] = Pool(role, max(0, desired), own, gpus[role], leaving=leaving)
    return made


def about(one: Living, under_way: Sequence[Transaction]) -> Transaction | None:
    """The transaction of which this replica is a victim. One that was made anew under its name still is as long as that name is
    to go, and is a replica like any other where it was to change its role, or has gone.
    """
    for transaction in under_way:
        for victim in transaction.change.victims:
            if victim.name == one.replica.name and (victim.uid == one.leader.uid or _by_name(transaction)):
                return transaction
    return None


def _by_name(one: Transaction) -> bool:
    """Whether the donor's target still has its old count: a pod of a victim's name comes back, and goes all the same."""
    return one.change.kind not in IN_PLACE and not one.undoing and Step.SHRINK not in _past(one)


def _missing(
    role: Role, standing: Standing, replicas: tuple[Living, ...], under_way: tuple[Transaction, ...]
) -> Iterator[Replica]:
    """Victims that do not stand while their target has too few: they are being made anew."""
    names = {one.replica.name for one in replicas}
    short = standing.desired - sum(one.home is role and one.replica.phase is not Phase.DRAINING for one in replicas)
    for one in under_way:
        if one.change.from_role is role and _by_name(one):
            for victim in one.change.victims:
                if victim.name not in names and short > 0:
                    short -= 1
                    yield Replica(victim.name, ON_ITS_WAY.get(one.step, Phase.STARTING), one.since_s)


def _ahead(under_way: tuple[Transaction, ...], standings: Mapping[Role, Standing]) -> Heading:
    """Where it leads to, with the count of every target."""
    told = heading(under_way)
    open_ = {role for one in under_way for role in _to_write(one)}
    counts = {role: told.counts.get(role, one.desired) if role in open_ else one.desired for role, one in standings.items()}
    return Heading(counts, told.roles)


def _to_write(one: Transaction) -> Iterator[Role]:
    """The targets whose counts it has not written yet, or not seen written."""
    path = PATHS[one.change.kind]
    steps = {one.step, *one.back} if one.undoing else set(path) - set(_past(one))
    for role, of in ((one.change.from_role, OF_DONOR), (one.change.to_role, OF_RECEIVER)):
        if steps & of and role in one.change.before:
            yield role


def _seen(one: Living, transaction: Transaction | None) -> Living:
    """A replica as its transaction has it."""
    if transaction is None:
        return replace(one, replica=replace(one.replica, phase=Phase.STUCK)) if one.away else one
    phase = ON_ITS_WAY.get(transaction.step)
    if phase is None or one.replica.phase is Phase.DRAINING:
        return one
    change = transaction.change
    role = change.to_role if phase is Phase.SWITCHING else change.from_role
    shown = replace(one.replica, phase=phase, since_s=transaction.since_s)
    return replace(one, role=role, replica=shown)


def _lingers(transaction: Transaction | None) -> bool:
    """Whether a victim still serves until others do."""
    if transaction is None or transaction.undoing or transaction.change.kind is not Kind.SURGE_FIRST:
        return False
    return transaction.step in (Step.GROW, Step.READY)


def _net(role: Role, replicas: tuple[Living, ...], ahead: Heading, meant: Mapping[str, Transaction]) -> int:
    """Replicas borrowed less those lent, when all that is under way has ended."""
    net = 0
    for one in replicas:
        if one.number is not None and one.number >= ahead.counts[one.home]:
            continue  # on its way out
        name = one.replica.name
        future = ahead.roles.get(name, one.role) if name in meant else one.role
        net += (future is role) - (one.home is role) if future is not one.home else 0
    return net


def flippings(
    under_way: tuple[Transaction, ...],
    standings: Mapping[Role, Standing],
    replicas: tuple[Living, ...],
    found: Mapping[Role, Pool],
) -> tuple[Flipping, ...]:
    """The flips among what is under way, given the pools as they are going to be."""
    return tuple(
        _flipping(one, _shared(one, standings, replicas, found))
        for one in under_way
        if one.change.to_role is not one.change.from_role
    )


def _flipping(one: Transaction, shared_gpus: int) -> Flipping:
    change, phase = one.change, FLIP_PHASES.get(one.step, Phase.STARTING)
    roles = change.from_role, change.to_role
    return Flipping(one.key, *roles, len(change.victims), change.takes, phase, one.since_s, one.started_s, shared_gpus)


def _shared(
    one: Transaction, standings: Mapping[Role, Standing], replicas: tuple[Living, ...], found: Mapping[Role, Pool]
) -> int:
    """GPUs that both pools count: the donors hold them, and they are promised to the receiver; or, on the way back of a paired
    resize, new ones hold them that go, and they are promised to the donors again.
    """
    change, of, to = one.change, found[one.change.from_role], found[one.change.to_role]
    if not one.undoing and Step.GROW not in _past(one):
        names = {victim.name for victim in change.victims}
        left = sum(replica.name in names for replica in of.in_phase(Phase.DRAINING))
        return min(left * of.gpus_per_replica, change.takes * to.gpus_per_replica)
    if one.undoing and change.kind is Kind.DRAIN_FIRST and Step.REGROW in (one.step, *one.back):
        left = sum(other.home is to.role for other in replicas) - change.before[to.role]
        given = change.before[of.role] - standings[of.role].desired
        return max(0, min(left * to.gpus_per_replica, given * of.gpus_per_replica))
    return 0


def _past(one: Transaction) -> tuple[Step, ...]:
    """The steps of its path that have come true."""
    path = PATHS[one.change.kind]
    return path[: path.index(one.step)] if one.step in path else ()
