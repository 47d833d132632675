"""What is seen of the replicas that a transaction is about?

Only what its step needs is asked, since each question is a request to a router or an engine: whether a victim is routed to
when it leaves or joins, whether it has work before it is taken, which role its engine has when that switches. The rest is in
the cluster's live lists.

A victim that is not Ready and at whose address nobody listens has no work: it has not started yet, or has died, and what was
in it is lost already. Everything else that does not answer may be busy (adapters/engines/idle.py), also one that is not Ready
only because our own readiness gate has taken it out. Where the policy says no routing (any more), nobody can be taken out: who
stands is routed to. An engine that broke in its switch is not believed which role it has.

Which replicas a lower count takes, or a higher one has made, is told by their ordinals. Where they have none the cluster
chooses, and only how many are too many is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from autoscaler.adapters.engines import Engine, EngineFault, FaultKind, Load, Looks, look, roles
from autoscaler.adapters.kubernetes.pods import Pod
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.adapters.kubernetes.transactions.living import Living
from autoscaler.adapters.routing import Endpoint, Routing
from autoscaler.core.fleet import Phase, Role
from autoscaler.core.sight import Away, Seen, Sight
from autoscaler.core.transaction import Kind, Step, Transaction, Victim

LOOKS = 3  # quiet looks in a row, reference/engines.md B.3
ROUTED = frozenset({Step.LEAVE, Step.IDLE, Step.SWITCH, Step.JOIN, Step.SHRINK, Step.REMAKE, Step.REJOIN})
WORKING = frozenset({Step.IDLE, Step.SWITCH, Step.SHRINK, Step.REMAKE})
IN_A_ROLE = frozenset({Step.SWITCH, Step.JOIN, Step.REMAKE, Step.REJOIN})  # where the engine itself changes
NOBODY_IN = Load(0)


class Looking:
    """Looks at one transaction again and again; what counts looks in a row is of this process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._looks: dict[str, Looks] = {}  # by uid of the victim
        self.answers: dict[str, tuple[str, str]] = {}  # by uid: why it refused, why it is broken

    def look(self, one: Transaction, ground: Ground, routing: Routing | None) -> Sight:
        """One look, at the moment of `ground`."""
        standings = ground.standings
        return Sight(
            victims={victim.name: self._seen(one, victim, ground, routing) for victim in one.change.victims},
            counts={role: standing.desired for role, standing in standings.items()},
            ready={role: sum(_serves(of) for of in _made_by(role, ground)) for role in standings},
            standing={role: len({pod.leader for pod in standing.pods}) for role, standing in standings.items()},
            bystanders=_bystanders(one, ground),
            came=_came(one, ground),
            others=_others(one, ground),
        )

    def _seen(self, one: Transaction, victim: Victim, ground: Ground, routing: Routing | None) -> Seen:
        leader = leader_of(victim.name, ground)
        stands = any(pod.leader == victim.name for pod in _pods(ground))
        if leader is None:
            return Seen(same=False, stands=stands)
        engine = engine_of(leader, ground)
        looks = self._follow(leader, engine, one.change.from_role) if one.step in WORKING else Looks()
        told = roles(engine) if one.change.kind is Kind.SWITCH and one.step in IN_A_ROLE else None
        refused, broken = self.answers.get(leader.uid, ("", ""))
        return Seen(
            same=leader.uid == victim.uid,
            stands=stands,
            going=leader.leaving_s is not None,
            routed=_routed(one, leader, ground, routing) if one.step in ROUTED else None,
            role=None if told is None or isinstance(told, EngineFault) or broken else told.live,
            idle=looks.count >= LOOKS,
            requests=looks.requests,
            refused=refused,
            broken=broken,
        )

    def _follow(self, leader: Pod, engine: Engine, role: Role) -> Looks:
        found = look(engine, role)
        silent = isinstance(found, EngineFault) and found.kind is FaultKind.UNREACHABLE
        if silent and leader.ready_s is None and "False" not in leader.gates.values():
            found = NOBODY_IN
        looks = self._looks[leader.uid] = self._looks.get(leader.uid, Looks()).after(found, self._monotonic())
        return looks


def _routed(one: Transaction, leader: Pod, ground: Ground, routing: Routing | None) -> Role | Away | None:
    return one.change.from_role if routing is None else routing.routed(endpoint_of(leader, ground))


def _bystanders(one: Transaction, ground: Ground) -> int | None:
    """Who would go along with the victims."""
    role = one.change.from_role
    if role not in one.change.after:
        return None
    names, least = {victim.name for victim in one.change.victims}, one.change.after[role]
    staying = [of for of in _made_by(role, ground) if of.leader.leaving_s is None and of.leader.leader not in names]
    if all(of.number is None for of in staying):
        return max(0, len(staying) - least)
    return sum(of.number is not None and of.number >= least for of in staying)


def _came(one: Transaction, ground: Ground) -> int | None:
    """Who serves beyond the receiver's old count."""
    role = one.change.to_role
    if role not in one.change.before:
        return None
    serving, old = [of for of in _made_by(role, ground) if _serves(of)], one.change.before[role]
    if all(of.number is None for of in serving):
        return max(0, len(serving) - old)
    return sum(of.number is not None and of.number >= old for of in serving)


def _others(one: Transaction, ground: Ground) -> int:
    """Who else takes requests in the role that the victims leave, whoever leaves it by another transaction left out."""
    names = {victim.name for victim in one.change.victims}
    return sum(replica.name not in names for replica in ground.pools[one.change.from_role].in_phase(Phase.SERVING))


def _made_by(role: Role, ground: Ground) -> Iterator[Living]:
    return (of for of in ground.replicas if of.home is role)


def _serves(of: Living) -> bool:
    return of.replica.phase is Phase.SERVING


def leader_of(name: str, ground: Ground) -> Pod | None:
    """The pod of this name."""
    return next((pod for pod in _pods(ground) if pod.name == name), None)


def engine_of(leader: Pod, ground: Ground) -> Engine:
    """Where a replica's engine answers."""
    return Engine(ground.spec.engine, leader.ip, ground.spec.engine_port)


def endpoint_of(leader: Pod, ground: Ground) -> Endpoint:
    """A replica as routing knows it."""
    home = next(role for role, standing in ground.standings.items() if leader in standing.pods)
    return Endpoint(
        leader.name,
        ground.namespace,
        leader.uid,
        leader.ip,
        home,
        leader.labels,
        leader.gates,
        ground.standings[home].counted.selector,
    )


def _pods(ground: Ground) -> Iterator[Pod]:
    return (pod for standing in ground.standings.values() for pod in standing.pods)
